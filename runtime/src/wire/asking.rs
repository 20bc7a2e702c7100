//! The end of a connection that is made only to ask what a server offers.
//!
//! The owner sends what [`Asking::output`] holds and feeds what it receives to [`Asking::handle_input`], until that has the answer. It closes the connection
//! then; so does the server.
#![forbid(unsafe_code)]

use super::client::ending_error;
use super::frame::{HELLO_BYTES, WELCOME_BYTES, Welcome, decode_welcome, encode_ask};
use super::offers::{OFFERS_BYTES, Offers, decode_offers};
use super::{Ending, MAGIC, VERSION};
use crate::error::TransportError;

/// Bytes that say what kind of answer it is.
const HEAD_BYTES: usize = 16;

/// A question, and what has come of its answer.
#[derive(Debug)]
pub struct Asking {
    hello: [u8; HELLO_BYTES],
    sent: usize,
    came: [u8; OFFERS_BYTES],
    came_len: usize,
}

impl Default for Asking {
    fn default() -> Self {
        Self { hello: encode_ask(), sent: 0, came: [0; OFFERS_BYTES], came_len: 0 }
    }
}

impl Asking {
    /// Bytes to send.
    pub fn output(&self) -> &[u8] {
        &self.hello[self.sent..]
    }

    /// `len` bytes of the output have been sent.
    pub fn output_sent(&mut self, len: usize) {
        self.sent = (self.sent + len).min(HELLO_BYTES);
    }

    /// Takes in bytes from the server. The answer, once it has come; nobody asks for what follows it.
    pub fn handle_input(&mut self, input: &[u8]) -> Option<Result<Offers, TransportError>> {
        let part = input.len().min(OFFERS_BYTES - self.came_len);
        self.came[self.came_len..self.came_len + part].copy_from_slice(&input[..part]);
        self.came_len += part;
        self.answer()
    }

    fn answer(&self) -> Option<Result<Offers, TransportError>> {
        let came = &self.came[..self.came_len];
        let foreign = || Some(Err(TransportError::Protocol("what answers there is not farmemd".into())));
        // What isn't farmemd may say less than farmemd would, and then wait.
        if came.iter().zip(MAGIC).any(|(byte, magic)| *byte != magic) {
            return foreign();
        }
        let head = came.first_chunk::<HEAD_BYTES>()?;
        let [version, ending] = [8, 12].map(|at| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        if version != VERSION {
            return Some(Err(Ending::Version.to_error(version)));
        }
        if ending == u32::from(Ending::Told.code()) {
            let broken = || TransportError::Protocol("it offers ways that can't be".into());
            return came.first_chunk::<OFFERS_BYTES>().map(|bytes| decode_offers(bytes).ok_or_else(broken));
        }
        match decode_welcome(came.first_chunk::<WELCOME_BYTES>()?) {
            Welcome::Welcome(_) => Some(Err(TransportError::Protocol("it let in who only asked".into()))),
            Welcome::Refused { theirs, code } => Some(Err(ending_error(code, theirs))),
            Welcome::Foreign => foreign(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{BorrowerToken, Intent, Passing, Terms, encode_hello, encode_welcome};
    use super::super::offers::encode_offers;
    use super::super::{Lender, ServerSession, Ways};
    use super::*;
    use crate::slab::{BorrowerId, Export, Lease, LentMemory, MemoryKey, SlabStore, SlabStoreConfig, Supply};
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::time::Instant;

    const SLAB: u32 = 1 << 18;

    fn lender(ways: Ways) -> Arc<Lender> {
        let config = SlabStoreConfig { capacity: SLAB.into(), slab_bytes: SLAB, supply: Supply::OnDemand };
        Lender::offering(SlabStore::new(config).expect("store"), ways)
    }

    /// What comes of a question when the server says `answer`, in pieces.
    fn answered(answer: &[u8], piece: usize) -> Option<Result<Offers, TransportError>> {
        let mut asking = Asking::default();
        answer.chunks(piece).find_map(|part| asking.handle_input(part))
    }

    #[test]
    fn who_only_asks_is_told_and_is_no_borrower() {
        let ways = Ways::new(Some("/run/farmemd".as_ref()), Some(([192, 0, 2, 1], 7471).into()));
        let lender = lender(ways.clone());
        let told = |mut server: ServerSession| {
            assert_eq!(server.handle_input(Asking::default().output()), Err(Ending::Told));
            assert_eq!((server.borrower(), lender.borrowers()), (None, 0));
            let said = server.output().to_vec();
            assert_eq!(server.handle_input(&encode_hello(Intent::New)), Err(Ending::Told), "it has ended");
            assert_eq!((server.end(Ending::Told), server.output()), (Ending::Told, &said[..]));
            said
        };
        let said = told(ServerSession::new(lender.clone(), Instant::now()));
        assert_eq!(said, told(ServerSession::passing_files(lender.clone(), Instant::now())), "the same by every way");
        let offers = lender.offers().expect("an identity");
        assert_eq!(offers.ways, ways);
        for piece in 1..=said.len() {
            assert_eq!(answered(&said, piece), Some(Ok(offers.clone())));
        }
        assert_eq!(answered(&said[..said.len() - 1], 7), None, "not all of it has come");
        assert_eq!(answered(&[&said[..], &[0xff; 99]].concat(), 300), Some(Ok(offers.clone())), "nobody asks for what follows");

        let other = self::lender(ways);
        assert_ne!(other.offers().expect("an identity").identity, offers.identity, "who a server is no other says");
    }

    #[test]
    fn who_asks_where_there_is_no_room_for_the_answer_is_refused() {
        struct Nobody;
        impl Export for Nobody {
            fn export(&self, _: BorrowerId, _: &LentMemory<'_>) -> std::io::Result<(Lease, MemoryKey)> {
                Err(std::io::ErrorKind::Unsupported.into())
            }
        }
        let mut server = ServerSession::passing_keys(lender(Ways::default()), Instant::now(), Arc::new(Nobody));
        assert_eq!(server.handle_input(Asking::default().output()), Err(Ending::BadHello));
        assert_eq!(server.output(), ServerSession::refusal(Ending::BadHello));
    }

    #[test]
    fn an_answer_that_is_none_is_an_error_as_soon_as_that_is_known() {
        let good = encode_offers(lender(Ways::default()).offers().expect("an identity"));
        let with = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            bytes.to_vec()
        };
        let terms = Terms { token: BorrowerToken([1; 16]), slab_bytes: SLAB, capacity: 1 << 30, passing: Passing::Nothing };
        let broken = |why: &str| TransportError::Protocol(why.into());
        let foreign = broken("what answers there is not farmemd");
        for (what, answer, expected) in [
            ("another protocol", b"SSH-2.0".to_vec(), foreign.clone()),
            ("another version", with(8, 9)[..16].to_vec(), TransportError::Version { theirs: 9, ours: VERSION }),
            ("no room for the path", with(50, 108), broken("it offers ways that can't be")),
            ("bytes behind the path", with(159, 1), broken("it offers ways that can't be")),
            ("an older server", ServerSession::refusal(Ending::BadHello).to_vec(), Ending::BadHello.to_error(VERSION)),
            (
                "a full server",
                ServerSession::refusal(Ending::TooManyConnections).to_vec(),
                Ending::TooManyConnections.to_error(VERSION),
            ),
            ("a welcome", encode_welcome(&terms).to_vec(), broken("it let in who only asked")),
            ("a refusal and more", [&ServerSession::refusal(Ending::Taken)[..47], &[1]].concat(), foreign),
        ] {
            for piece in [1, 5, 1000] {
                assert_eq!(answered(&answer, piece), Some(Err(expected.clone())), "{what}");
            }
        }
    }

    proptest! {
        #[test]
        fn who_asks_survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400), head in 0usize..64, cut in 1usize..200) {
            let mut answer = encode_offers(lender(Ways::default()).offers().expect("an identity"))[..head].to_vec();
            answer.extend(bytes);
            prop_assert_eq!(answered(&answer, cut), answered(&answer, usize::MAX));
        }
    }
}
