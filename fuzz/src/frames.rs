//! Frames: fixed parts to and from bytes, and streams of them cut anywhere.
//!
//! 1. Whatever decodes is exactly what would be encoded, so that no two frames mean the same and no byte goes unread. Nothing is allocated by
//!    decoding: `cargo xtask fuzz` runs this target with a limit on a single allocation.
//! 2. A session that is given a stream in pieces says the same, to the byte, as one that is given it whole.
#![forbid(unsafe_code)]

use farptr_runtime::slab::{STRIPE_BYTES, SlabStore, SlabStoreConfig, Supply};
use farptr_runtime::transport::{Completion, IoBuf, Op, SlabId, SlabPos, Submit, Token, Verb};
use farptr_runtime::wire::frame::{
    HELLO_BYTES, Hello, Intent, REPLY_BYTES, REQUEST_BYTES, Terms, WELCOME_BYTES, Welcome, decode_hello, decode_reply,
    decode_request, decode_welcome, encode_hello, encode_reply, encode_request, encode_welcome,
};
use farptr_runtime::wire::{ClientSession, ControlVerb, Ending, Lender, MAGIC, ServerSession, VERSION};
use std::time::{Duration, Instant};

/// Runs the target on one input: flags, the places of the cuts, and the stream.
pub fn run(data: &[u8]) {
    codecs(data);
    let Some((&[flags, cuts], rest)) = data.split_first_chunk::<2>() else { return };
    let (cuts, stream) = rest.split_at(usize::from(cuts % 16).min(rest.len()));
    let greeted = flags & 1 != 0;
    if flags & 2 == 0 {
        assert_eq!(server(greeted, stream, &[]), server(greeted, stream, cuts));
    } else {
        assert_eq!(client(greeted, stream, &[]), client(greeted, stream, cuts));
    }
}

fn codecs(data: &[u8]) {
    if let Some(bytes) = data.first_chunk::<HELLO_BYTES>()
        && let Hello::Speaks(intent) = decode_hello(bytes)
    {
        assert_eq!(&encode_hello(intent), bytes);
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

/// What a server says to `stream`, and how it ends it if it does.
fn server(greeted: bool, stream: &[u8], cuts: &[u8]) -> (Vec<u8>, Option<Ending>) {
    let config = SlabStoreConfig { capacity: 2 * STRIPE_BYTES as u64, slab_bytes: STRIPE_BYTES as u32, supply: Supply::OnDemand };
    let lender = Lender::new(SlabStore::new(config).expect("a store of two slabs"));
    let mut session = ServerSession::new(lender, Instant::now());
    let mut said = Vec::new();
    let hello = encode_hello(Intent::New);
    let greeting: &[u8] = if greeted { &hello } else { &[] };
    for mut piece in [greeting].into_iter().chain(pieces(stream, cuts)) {
        while !piece.is_empty() {
            let went = session.handle_input(piece);
            let blocked = session.is_blocked();
            said.extend_from_slice(session.output());
            session.output_sent(session.output().len());
            match went {
                Ok(consumed) => {
                    assert!(consumed > 0 && (consumed == piece.len() || blocked), "input is left for no reason");
                    piece = &piece[consumed..];
                }
                Err(ending) => return (without_token(said), Some(ending)),
            }
        }
    }
    (without_token(said), None)
}

/// The token is random, and not what this is about.
fn without_token(mut said: Vec<u8>) -> Vec<u8> {
    if let Some(token) = said.get_mut(16..32) {
        token.fill(0);
    }
    said
}

/// What becomes of a client's operations when it hears `stream`: how each ended, and with which bytes.
fn client(greeted: bool, stream: &[u8], cuts: &[u8]) -> Vec<String> {
    let mut session = ClientSession::new(Intent::New, 4, Duration::from_secs(1));
    let mut done = Vec::new();
    if greeted {
        let zero = decode_welcome(&encode_welcome_zero());
        let Welcome::Welcome(zero) = zero else { unreachable!("it was made as a welcome") };
        session.handle_input(&encode_welcome(&Terms { slab_bytes: STRIPE_BYTES as u32, capacity: 1 << 30, ..zero }), &mut done);
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
    heard.extend(std::iter::from_fn(|| session.take_control()).map(|control| format!("{control:?}")));
    heard.push(format!("{:?} {:?} {} {}", session.terms(), session.failure(), session.in_flight(), session.output().len()));
    heard
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
