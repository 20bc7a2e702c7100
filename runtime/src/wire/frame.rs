//! The fixed parts of frames, to and from bytes. The table is in the module's page.
//!
//! Decoding takes exactly as many bytes as the frame has and never fails for their number; a value that the table doesn't
//! have makes it `None`.
#![forbid(unsafe_code)]

use super::{Ending, MAGIC, VERSION};
use crate::slab::{MemoryKey, Sharing};
use crate::transport::{SlabId, SlabPos};
use std::fmt;

/// Bytes of a hello.
pub const HELLO_BYTES: usize = 32;
/// Bytes of a welcome.
pub const WELCOME_BYTES: usize = 48;
/// Bytes of a request without its payload.
pub const REQUEST_BYTES: usize = 20;
/// Bytes of a reply without its payload.
pub const REPLY_BYTES: usize = 12;
/// Bytes of the key that follows a *lent* where keys are passed.
pub const KEY_BYTES: usize = 12;

/// The secret by which a borrower's connections know each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BorrowerToken(pub(super) [u8; 16]);

impl fmt::Debug for BorrowerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BorrowerToken(secret)")
    }
}

/// The client's name for a request in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag(pub u32);

/// Who a new connection belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// A new borrower.
    New,
    /// The borrower with this token.
    Join(BorrowerToken),
}

/// What the first bytes of a connection say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hello {
    /// A client of this version.
    Speaks(Intent),
    /// A client of this version that only asks what there is.
    Asks,
    /// A client of another version.
    OtherVersion(u32),
    /// Something else.
    Foreign,
}

/// What comes along with a slab that is lent, so that its borrower can reach it without the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// Nothing: the server reads and writes for its borrower.
    Nothing,
    /// A file to map, beside the bytes.
    Files(Sharing),
    /// Where it lies and the key to it, for RDMA, behind the frame.
    Keys,
}

/// What a server says when it lets a connection in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The borrower's secret, for further connections.
    pub token: BorrowerToken,
    /// Size of every slab in bytes.
    pub slab_bytes: u32,
    /// What the server lends at most, in bytes.
    pub capacity: u64,
    /// What comes along with every slab that is lent on this connection.
    pub passing: Passing,
}

impl Terms {
    /// How many slabs it lends at most.
    pub(crate) fn slabs(&self) -> u64 {
        self.capacity / u64::from(self.slab_bytes.max(1))
    }
}

/// The server's answer to a hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Welcome {
    /// Come in.
    Welcome(Terms),
    /// No. `theirs` is the server's version, `code` an [`Ending`]'s if this version knows it.
    Refused {
        /// The server's version.
        theirs: u32,
        /// The reason's code.
        code: u32,
    },
    /// Something else than a farptr server.
    Foreign,
}

/// One request, without a write's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Send `len` bytes from `at`.
    Read {
        /// Where.
        at: SlabPos,
        /// How many bytes.
        len: u32,
    },
    /// Store the `len` bytes that follow at `at`.
    Write {
        /// Where.
        at: SlabPos,
        /// How many bytes.
        len: u32,
    },
    /// Lend a slab.
    Borrow,
    /// Take a slab back.
    Return(SlabId),
}

/// One reply, without a read's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// `len` bytes follow.
    Read {
        /// How many.
        len: u32,
    },
    /// A write is done.
    Written,
    /// A slab is lent.
    Lent(SlabId),
    /// No slab is lent: all are.
    Full,
    /// No slab is lent: the server's system gave no memory.
    NoMemory,
    /// A slab has been taken back.
    Returned,
    /// The server ends the connection. The code is an [`Ending`]'s if this version knows it.
    End(u8),
}

/// Writes a hello.
pub fn encode_hello(intent: Intent) -> [u8; HELLO_BYTES] {
    let mut bytes = [0; HELLO_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    put(&mut bytes, 8, VERSION);
    if let Intent::Join(token) = intent {
        put(&mut bytes, 12, 1);
        bytes[16..32].copy_from_slice(&token.0);
    }
    bytes
}

/// Writes the hello of who only asks.
pub fn encode_ask() -> [u8; HELLO_BYTES] {
    let mut bytes = encode_hello(Intent::New);
    put(&mut bytes, 12, 2);
    bytes
}

/// Reads a hello.
pub fn decode_hello(bytes: &[u8; HELLO_BYTES]) -> Hello {
    if bytes[..8] != MAGIC {
        return Hello::Foreign;
    }
    let version = get(bytes, 8);
    if version != VERSION {
        return Hello::OtherVersion(version);
    }
    let token = token_at(bytes, 16);
    match get(bytes, 12) {
        0 if token.0 == [0; 16] => Hello::Speaks(Intent::New),
        1 => Hello::Speaks(Intent::Join(token)),
        2 if token.0 == [0; 16] => Hello::Asks,
        _ => Hello::Foreign,
    }
}

/// Writes a welcome.
pub fn encode_welcome(terms: &Terms) -> [u8; WELCOME_BYTES] {
    let mut bytes = [0; WELCOME_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    put(&mut bytes, 8, VERSION);
    bytes[16..32].copy_from_slice(&terms.token.0);
    put(&mut bytes, 32, terms.slab_bytes);
    let passing = match terms.passing {
        Passing::Nothing => 0,
        Passing::Files(Sharing::Each) => 1,
        Passing::Files(Sharing::Whole) => 2,
        Passing::Keys => 3,
    };
    put(&mut bytes, 36, passing);
    bytes[40..48].copy_from_slice(&terms.capacity.to_le_bytes());
    bytes
}

/// Writes a refusal.
pub fn encode_refusal(why: Ending) -> [u8; WELCOME_BYTES] {
    let mut bytes = [0; WELCOME_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    put(&mut bytes, 8, VERSION);
    put(&mut bytes, 12, u32::from(why.code()));
    bytes
}

/// Reads a welcome or refusal.
pub fn decode_welcome(bytes: &[u8; WELCOME_BYTES]) -> Welcome {
    if bytes[..8] != MAGIC {
        return Welcome::Foreign;
    }
    let (theirs, code) = (get(bytes, 8), get(bytes, 12));
    if theirs != VERSION {
        return Welcome::Refused { theirs, code: u32::from(Ending::Version.code()) };
    }
    if code != 0 {
        let empty = bytes[16..].iter().all(|byte| *byte == 0);
        return if empty { Welcome::Refused { theirs, code } } else { Welcome::Foreign };
    }
    let passing = match get(bytes, 36) {
        0 => Passing::Nothing,
        1 => Passing::Files(Sharing::Each),
        2 => Passing::Files(Sharing::Whole),
        3 => Passing::Keys,
        _ => return Welcome::Foreign,
    };
    let capacity = u64::from(get(bytes, 40)) | u64::from(get(bytes, 44)) << 32;
    Welcome::Welcome(Terms { token: token_at(bytes, 16), slab_bytes: get(bytes, 32), capacity, passing })
}

/// Writes a request.
#[inline]
pub fn encode_request(tag: Tag, request: Request) -> [u8; REQUEST_BYTES] {
    let (kind, slab, offset, len) = match request {
        Request::Read { at, len } => (0x01, at.slab.0, at.offset, len),
        Request::Write { at, len } => (0x02, at.slab.0, at.offset, len),
        Request::Borrow => (0x03, 0, 0, 0),
        Request::Return(slab) => (0x04, slab.0, 0, 0),
    };
    let mut bytes = [0; REQUEST_BYTES];
    bytes[0] = kind;
    put(&mut bytes, 4, tag.0);
    put(&mut bytes, 8, slab);
    put(&mut bytes, 12, offset);
    put(&mut bytes, 16, len);
    bytes
}

/// Reads a request.
#[inline]
pub fn decode_request(bytes: &[u8; REQUEST_BYTES]) -> Option<(Tag, Request)> {
    let at = SlabPos { slab: SlabId(get(bytes, 8)), offset: get(bytes, 12) };
    let len = get(bytes, 16);
    let request = match (get(bytes, 0), at.slab.0, at.offset, len) {
        (0x01, ..) => Request::Read { at, len },
        (0x02, ..) => Request::Write { at, len },
        (0x03, 0, 0, 0) => Request::Borrow,
        (0x04, _, 0, 0) => Request::Return(at.slab),
        _ => return None,
    };
    Some((Tag(get(bytes, 4)), request))
}

/// Writes a reply.
#[inline]
pub fn encode_reply(tag: Tag, reply: Reply) -> [u8; REPLY_BYTES] {
    let (kind, code, value) = match reply {
        Reply::Read { len } => (0x81, 0, len),
        Reply::Written => (0x82, 0, 0),
        Reply::Lent(slab) => (0x83, 0, slab.0),
        Reply::Full => (0x83, 1, 0),
        Reply::NoMemory => (0x83, 2, 0),
        Reply::Returned => (0x84, 0, 0),
        Reply::End(code) => (0xff, code, 0),
    };
    let mut bytes = [0; REPLY_BYTES];
    bytes[0] = kind;
    bytes[1] = code;
    put(&mut bytes, 4, tag.0);
    put(&mut bytes, 8, value);
    bytes
}

/// Reads a reply.
#[inline]
pub fn decode_reply(bytes: &[u8; REPLY_BYTES]) -> Option<(Tag, Reply)> {
    let (tag, value) = (get(bytes, 4), get(bytes, 8));
    if bytes[2] != 0 || bytes[3] != 0 {
        return None;
    }
    let reply = match (bytes[0], bytes[1], value) {
        (0x81, 0, len) => Reply::Read { len },
        (0x82, 0, 0) => Reply::Written,
        (0x83, 0, slab) => Reply::Lent(SlabId(slab)),
        (0x83, 1, 0) => Reply::Full,
        (0x83, 2, 0) => Reply::NoMemory,
        (0x84, 0, 0) => Reply::Returned,
        (0xff, code, 0) if tag == 0 => Reply::End(code),
        _ => return None,
    };
    Some((Tag(tag), reply))
}

/// Writes the key to a slab.
pub fn encode_key(key: MemoryKey) -> [u8; KEY_BYTES] {
    let mut bytes = [0; KEY_BYTES];
    bytes[..8].copy_from_slice(&key.address.to_le_bytes());
    put(&mut bytes, 8, key.key);
    bytes
}

/// Reads the key to a slab.
pub fn decode_key(bytes: &[u8; KEY_BYTES]) -> MemoryKey {
    let address = u64::from(get(bytes, 0)) | u64::from(get(bytes, 4)) << 32;
    MemoryKey { address, key: get(bytes, 8) }
}

#[inline]
pub(super) fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[inline]
pub(super) fn get(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn token_at(bytes: &[u8], at: usize) -> BorrowerToken {
    let mut token = [0; 16];
    token.copy_from_slice(&bytes[at..at + 16]);
    BorrowerToken(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn requests() -> impl Strategy<Value = Request> {
        let at = (any::<u32>(), any::<u32>()).prop_map(|(slab, offset)| SlabPos { slab: SlabId(slab), offset });
        prop_oneof![
            (at.clone(), any::<u32>()).prop_map(|(at, len)| Request::Read { at, len }),
            (at, any::<u32>()).prop_map(|(at, len)| Request::Write { at, len }),
            Just(Request::Borrow),
            any::<u32>().prop_map(|slab| Request::Return(SlabId(slab))),
        ]
    }

    fn replies() -> impl Strategy<Value = Reply> {
        prop_oneof![
            any::<u32>().prop_map(|len| Reply::Read { len }),
            Just(Reply::Written),
            any::<u32>().prop_map(|slab| Reply::Lent(SlabId(slab))),
            Just(Reply::Full),
            Just(Reply::NoMemory),
            Just(Reply::Returned),
        ]
    }

    proptest! {
        #[test]
        fn a_request_survives_the_wire(tag: u32, request in requests()) {
            prop_assert_eq!(decode_request(&encode_request(Tag(tag), request)), Some((Tag(tag), request)));
        }

        #[test]
        fn a_reply_survives_the_wire(tag: u32, reply in replies()) {
            prop_assert_eq!(decode_reply(&encode_reply(Tag(tag), reply)), Some((Tag(tag), reply)));
        }

        #[test]
        fn a_key_survives_the_wire(address: u64, key: u32) {
            prop_assert_eq!(decode_key(&encode_key(MemoryKey { address, key })), MemoryKey { address, key });
        }

        #[test]
        fn what_decodes_is_what_was_encoded(request: [u8; REQUEST_BYTES], reply: [u8; REPLY_BYTES]) {
            if let Some((tag, decoded)) = decode_request(&request) {
                prop_assert_eq!(encode_request(tag, decoded), request);
            }
            if let Some((tag, decoded)) = decode_reply(&reply) {
                prop_assert_eq!(encode_reply(tag, decoded), reply);
            }
        }

        /// The fuzz target `frames` found that a welcome and a refusal could hold anything in the fields that must be zero.
        #[test]
        fn a_welcome_says_nothing_in_what_must_be_zero(at in 16usize..WELCOME_BYTES, bit in 0u32..8, why in 1u32..=14) {
            let mut refusal = encode_refusal(Ending::from_code(why).expect("a known reason"));
            let decoded = Welcome::Refused { theirs: VERSION, code: why };
            prop_assert_eq!(decode_welcome(&refusal), decoded);
            refusal[at] = 1 << bit;
            prop_assert_eq!(decode_welcome(&refusal), Welcome::Foreign);
            let terms = Terms { token: BorrowerToken([1; 16]), slab_bytes: 1 << 18, capacity: 1 << 30, passing: Passing::Nothing };
            let mut welcome = encode_welcome(&terms);
            welcome[36] = 4 + bit as u8;
            prop_assert_eq!(decode_welcome(&welcome), Welcome::Foreign);
            welcome[36] = 0;
            welcome[37 + at % 3] = 1 << bit;
            prop_assert_eq!(decode_welcome(&welcome), Welcome::Foreign);
        }

        #[test]
        fn a_handshake_survives_the_wire(token: [u8; 16], slab_bytes: u32, capacity: u64, passing in 0usize..4) {
            let token = BorrowerToken(token);
            for intent in [Intent::New, Intent::Join(token)] {
                prop_assert_eq!(decode_hello(&encode_hello(intent)), Hello::Speaks(intent));
            }
            prop_assert_eq!(decode_hello(&encode_ask()), Hello::Asks);
            let files = [Sharing::Each, Sharing::Whole].map(Passing::Files);
            let passing = [Passing::Nothing, files[0], files[1], Passing::Keys][passing];
            let terms = Terms { token, slab_bytes, capacity, passing };
            prop_assert_eq!(decode_welcome(&encode_welcome(&terms)), Welcome::Welcome(terms));
        }
    }

    /// The bytes with each of their bits flipped in turn.
    fn flipped<const N: usize>(bytes: [u8; N]) -> impl Iterator<Item = [u8; N]> {
        (0..N * 8).map(move |bit| {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        })
    }

    /// Every field is read, and what must be zero is: no two frames say the same.
    #[test]
    fn every_bit_of_a_frame_counts() {
        let at = SlabPos { slab: SlabId(3), offset: 5 };
        for request in [Request::Read { at, len: 7 }, Request::Write { at, len: 7 }, Request::Borrow, Request::Return(at.slab)] {
            for bytes in flipped(encode_request(Tag(9), request)) {
                let decoded = decode_request(&bytes);
                assert!(decoded.is_none_or(|(tag, request)| encode_request(tag, request) == bytes), "{bytes:?}: {decoded:?}");
            }
        }
        let replies = [Reply::Lent(at.slab), Reply::Full, Reply::NoMemory, Reply::Returned, Reply::Written];
        for reply in replies.into_iter().chain([Reply::Read { len: 7 }]) {
            for bytes in flipped(encode_reply(Tag(9), reply)) {
                let decoded = decode_reply(&bytes);
                assert!(decoded.is_none_or(|(tag, reply)| encode_reply(tag, reply) == bytes), "{bytes:?}: {decoded:?}");
            }
        }
        for bytes in flipped(encode_reply(Tag(0), Reply::End(4))) {
            let decoded = decode_reply(&bytes);
            // It answers no request.
            let is_right = |(tag, reply)| tag == Tag(0) && encode_reply(tag, reply) == bytes;
            assert!(decoded.is_none_or(is_right), "{bytes:?}: {decoded:?}");
        }
        let hellos = [Intent::New, Intent::Join(BorrowerToken([1; 16]))].map(encode_hello);
        for hello in hellos.into_iter().chain([encode_ask()]) {
            for bytes in flipped(hello) {
                match decode_hello(&bytes) {
                    Hello::Speaks(intent) => assert_eq!(encode_hello(intent), bytes),
                    Hello::Asks => assert_eq!(encode_ask(), bytes),
                    Hello::OtherVersion(version) => assert_eq!(bytes[8..12], version.to_le_bytes()),
                    Hello::Foreign => {}
                }
            }
        }
    }

    #[test]
    fn another_version_is_seen_whatever_else_it_changed() {
        let mut hello = encode_hello(Intent::New);
        hello[8] = 9;
        hello[12..].fill(0xff);
        assert_eq!(decode_hello(&hello), Hello::OtherVersion(9));
        let mut welcome = encode_refusal(Ending::BadHello);
        welcome[8] = 9;
        welcome[16..].fill(0xff);
        assert_eq!(decode_welcome(&welcome), Welcome::Refused { theirs: 9, code: 1 });
    }

    #[test]
    fn other_protocols_are_foreign() {
        assert_eq!(
            decode_hello(b"GET / HTTP/1.1\r\nHost: farmemd\r\n\r\n"[..HELLO_BYTES].try_into().expect("32")),
            Hello::Foreign
        );
        assert_eq!(decode_welcome(&[b'H'; WELCOME_BYTES]), Welcome::Foreign);
    }

    #[test]
    fn a_token_is_not_printed() {
        assert!(!format!("{:?}", BorrowerToken([7; 16])).contains('7'));
    }
}
