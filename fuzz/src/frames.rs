//! Frames: fixed parts to and from bytes, and streams of them cut anywhere.
//!
//! 1. Whatever decodes is exactly what would be encoded, so that no two frames mean the same and no byte goes unread. Nothing is allocated by
//!    decoding: `cargo xtask fuzz` runs this target with a limit on a single allocation.
//! 2. A session, whatever comes along with its slabs, that is given a stream in pieces says the same, to the byte, as one that is given it whole; so does who only asks.
#![forbid(unsafe_code)]

use farptr_runtime::TransportError;
use farptr_runtime::slab::{
    Backing, BorrowerId, Export, Lease, LentMemory, MemoryKey, STRIPE_BYTES, Sharing, SlabStore, SlabStoreConfig, Supply,
};
use farptr_runtime::transport::{Completion, IoBuf, Op, SlabId, SlabPos, Submit, Token, Verb};
use farptr_runtime::wire::frame::{
    HELLO_BYTES, Hello, Intent, KEY_BYTES, Passing, REPLY_BYTES, REQUEST_BYTES, Terms, WELCOME_BYTES, Welcome, decode_hello,
    decode_key, decode_reply, decode_request, decode_welcome, encode_ask, encode_hello, encode_key, encode_reply, encode_request,
    encode_welcome,
};
use farptr_runtime::wire::offers::{MAX_PATH_BYTES, OFFERS_BYTES, decode_offers, encode_offers};
use farptr_runtime::wire::{
    Asking, ClientSession, ControlDone, ControlVerb, Ending, Identity, Lender, Lent, MAGIC, Offers, ServerSession, VERSION, Ways,
};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Runs the target on one input: flags, the places of the cuts, and the stream.
pub fn run(data: &[u8]) {
    codecs(data);
    let Some((&[flags, cuts], rest)) = data.split_first_chunk::<2>() else { return };
    let (cuts, stream) = rest.split_at(usize::from(cuts % 16).min(rest.len()));
    let (greeted, passing) = (flags & 1 != 0, PASSING[usize::from(flags >> 3) % 4]);
    match flags & 6 {
        0 | 4 => assert_eq!(server(greeted, passing, stream, &[]), server(greeted, passing, stream, cuts)),
        2 => assert_eq!(client(greeted, passing, stream, &[]), client(greeted, passing, stream, cuts)),
        _ => assert_eq!(asking(greeted, stream, &[]), asking(greeted, stream, cuts)),
    }
}

/// What comes along with slabs.
const PASSING: [Passing; 4] = [Passing::Nothing, Passing::Keys, Passing::Files(Sharing::Each), Passing::Nothing];

fn codecs(data: &[u8]) {
    if let Some(bytes) = data.first_chunk::<HELLO_BYTES>() {
        match decode_hello(bytes) {
            Hello::Speaks(intent) => assert_eq!(&encode_hello(intent), bytes),
            Hello::Asks => assert_eq!(&encode_ask(), bytes),
            Hello::OtherVersion(_) | Hello::Foreign => {}
        }
    }
    if let Some(bytes) = data.first_chunk::<OFFERS_BYTES>()
        && let Some(offers) = decode_offers(bytes)
    {
        assert_eq!(&encode_offers(&offers), bytes);
        assert!(offers.ways.unix().is_none_or(|path| path.is_absolute() && path.as_os_str().len() <= MAX_PATH_BYTES));
    }
    if let Some(bytes) = data.first_chunk::<KEY_BYTES>() {
        assert_eq!(&encode_key(decode_key(bytes)), bytes);
    }
    if let Some(bytes) = data.first_chunk::<WELCOME_BYTES>() {
        match decode_welcome(bytes) {
            Welcome::Welcome(terms) => assert_eq!(&encode_welcome(&terms), bytes),
            // A refusal by another version has its own form; one by this version has nothing but its code.
            Welcome::Refused { theirs: VERSION, code } => {
                assert!(code != 0 && bytes[..8] == MAGIC && bytes[16..] == [0; WELCOME_BYTES - 16]);
            }
            Welcome::Refused { .. } | Welcome::Foreign => {}
        }
    }
    if let Some(bytes) = data.first_chunk::<REQUEST_BYTES>()
        && let Some((tag, request)) = decode_request(bytes)
    {
        assert_eq!(&encode_request(tag, request), bytes);
    }
    if let Some(bytes) = data.first_chunk::<REPLY_BYTES>()
        && let Some((tag, reply)) = decode_reply(bytes)
    {
        assert_eq!(&encode_reply(tag, reply), bytes);
    }
}

/// `stream` in pieces of as many bytes as `cuts` says, over and over; whole if it says nothing.
fn pieces<'a>(mut stream: &'a [u8], cuts: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut cuts = cuts.iter().cycle();
    std::iter::from_fn(move || {
        if stream.is_empty() {
            return None;
        }
        let len = cuts.next().map_or(stream.len(), |len| usize::from(*len).max(1)).min(stream.len());
        let (piece, rest) = stream.split_at(len);
        stream = rest;
        Some(piece)
    })
}

/// What a server says to `stream`, with which bytes it passes files, and how it ends it if it does.
type Said = (Vec<u8>, Vec<usize>, Option<Ending>);

/// Keys that say how many there were before. (Where memory lies differs from run to run.)
#[derive(Default)]
struct Counted(AtomicU64);

impl Export for Counted {
    fn export(&self, _to: BorrowerId, memory: &LentMemory<'_>) -> io::Result<(Lease, MemoryKey)> {
        let address = self.0.fetch_add(1, Ordering::Relaxed);
        Ok((Box::new(()), MemoryKey { address, key: memory.len() as u32 }))
    }
}

fn server(greeted: bool, passing: Passing, stream: &[u8], cuts: &[u8]) -> Said {
    let supply = if let Passing::Files(_) = passing { Supply::Shared(Backing::Memfd) } else { Supply::OnDemand };
    let config = SlabStoreConfig { capacity: 2 * STRIPE_BYTES as u64, slab_bytes: STRIPE_BYTES as u32, supply };
    let store = SlabStore::new(config).expect("a store of two slabs");
    let lender = Lender::offering(store, Ways::new(Some("/run/farmemd".as_ref()), None));
    let mut session = match passing {
        Passing::Nothing => ServerSession::new(lender, Instant::now()),
        Passing::Files(_) => ServerSession::passing_files(lender, Instant::now()),
        Passing::Keys => ServerSession::passing_keys(lender, Instant::now(), Arc::<Counted>::default()),
    };
    let (mut said, mut files) = (Vec::new(), Vec::new());
    let hello = encode_hello(Intent::New);
    let greeting: &[u8] = if greeted { &hello } else { &[] };
    for mut piece in [greeting].into_iter().chain(pieces(stream, cuts)) {
        while !piece.is_empty() {
            let went = session.handle_input(piece);
            let blocked = session.is_blocked();
            while !session.output().is_empty() {
                let len = match session.file() {
                    // As far as goes without the file; then one byte with it.
                    Some((0, _)) => {
                        files.push(said.len());
                        1
                    }
                    Some((before, _)) => before,
                    None => session.output().len(),
                };
                said.extend_from_slice(&session.output()[..len]);
                session.output_sent(len);
            }
            match went {
                Ok(consumed) => {
                    assert!(consumed > 0 && (consumed == piece.len() || blocked), "input is left for no reason");
                    piece = &piece[consumed..];
                }
                Err(ending) => return (without_token(said), files, Some(ending)),
            }
        }
    }
    (without_token(said), files, None)
}

/// The token is random, and so is an identity, and not what this is about.
fn without_token(mut said: Vec<u8>) -> Vec<u8> {
    if let Some(token) = said.get_mut(16..32) {
        token.fill(0);
    }
    said
}

/// What becomes of a client's operations when it hears `stream`: how each ended, and with which bytes.
fn client(greeted: bool, passing: Passing, stream: &[u8], cuts: &[u8]) -> Vec<String> {
    let mut session = ClientSession::new(Intent::New, 4, Duration::from_secs(1));
    let mut done = Vec::new();
    if let Passing::Files(_) = passing {
        session.receive_file(File::open("/dev/null").expect("a file"));
    }
    if greeted {
        let zero = decode_welcome(&encode_welcome_zero());
        let Welcome::Welcome(zero) = zero else { unreachable!("it was made as a welcome") };
        session.handle_input(
            &encode_welcome(&Terms { slab_bytes: STRIPE_BYTES as u32, capacity: 1 << 30, passing, ..zero }),
            &mut done,
        );
    }
    for (token, (verb, len)) in [(Verb::Read, 100), (Verb::Read, 1), (Verb::Write, 10)].into_iter().enumerate() {
        let at = SlabPos { slab: SlabId(0), offset: 0 };
        let op = Op { token: Token(token as u64), verb, at, buf: IoBuf::from(vec![0; len]) };
        assert!(matches!(session.submit(op), Submit::Accepted));
    }
    assert!(session.request(ControlVerb::Borrow));
    for piece in pieces(stream, cuts) {
        session.handle_input(piece, &mut done);
    }
    let mut heard: Vec<String> = done.iter().map(describe).collect();
    heard.extend(std::iter::from_fn(|| session.take_control()).map(|control| match control {
        // A file's number says nothing of the stream.
        ControlDone::Borrowed(Ok(Lent { slab, file, key })) => format!("{slab:?} {} {key:?}", file.is_some()),
        other => format!("{other:?}"),
    }));
    heard.push(format!("{:?} {:?} {} {}", session.terms(), session.failure(), session.in_flight(), session.output().len()));
    heard
}

/// What comes of a question whose answer is `stream`.
fn asking(greeted: bool, stream: &[u8], cuts: &[u8]) -> Option<Result<Offers, TransportError>> {
    let mut asking = Asking::default();
    let head = encode_offers(&Offers { identity: Identity([0; 16]), ways: Ways::default() });
    let head: &[u8] = if greeted { &head[..16] } else { &[] };
    [head].into_iter().chain(pieces(stream, cuts)).find_map(|piece| asking.handle_input(piece))
}

/// A welcome in which everything that may be zero is.
fn encode_welcome_zero() -> [u8; WELCOME_BYTES] {
    let mut bytes = [0; WELCOME_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes
}

fn describe(done: &Completion) -> String {
    format!("{:?} {:?} {:?} {:?}", done.token, done.verb, done.buf.as_slice(), done.result)
}
