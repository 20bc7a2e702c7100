//! Both ends of the protocol against each other, and each against a broken or hostile peer.
#![forbid(unsafe_code)]

use super::client::GIVE_UP;
use super::frame::{self, Intent, Passing, REPLY_BYTES, Reply, Request, Tag, Terms};
use super::*;
use crate::error::TransportError;
use crate::slab::{MemoryKey, STRIPE_BYTES, SlabStore, SlabStoreConfig, Supply};
use crate::transport::{Completion, IoBuf, MAX_OP_BYTES, Op, SlabId, SlabPos, Submit, Token, Verb};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SLAB: u32 = 2 * STRIPE_BYTES as u32;
const TIMEOUT: Duration = Duration::from_secs(5);

fn some_terms() -> Terms {
    Terms { token: BorrowerToken([1; 16]), slab_bytes: SLAB, capacity: 1 << 30, passing: Passing::Nothing }
}

fn lender(slabs: u64) -> Arc<Lender> {
    let config = SlabStoreConfig { capacity: slabs * u64::from(SLAB), slab_bytes: SLAB, supply: Supply::OnDemand };
    Lender::new(SlabStore::new(config).expect("store"))
}

/// A client and a server whose wire is this struct.
struct Pair {
    client: ClientSession,
    server: ServerSession,
    now: Instant,
    done: Vec<Completion>,
}

impl Pair {
    fn new(lender: &Arc<Lender>, intent: Intent) -> Self {
        let now = Instant::now();
        let (client, server) = (ClientSession::new(intent, 64, TIMEOUT), ServerSession::new(lender.clone(), now));
        let mut pair = Self { client, server, now, done: Vec::new() };
        pair.settle(usize::MAX);
        pair
    }

    fn terms(&self) -> Terms {
        self.client.terms().expect("welcome")
    }

    /// Moves bytes both ways, `piece` at a time, until none move. Returns how the server ended, if it did.
    fn settle(&mut self, piece: usize) -> Option<Ending> {
        let mut ended = None;
        loop {
            self.client.advance(self.now, &mut self.done);
            let part = self.client.output().len().min(piece);
            let request = self.client.output()[..part].to_vec();
            let consumed = match self.server.handle_input(&request) {
                Ok(consumed) => consumed,
                Err(ending) => {
                    ended = Some(ending);
                    part
                }
            };
            self.client.output_sent(consumed);
            let part = self.server.output().len().min(piece);
            let reply = self.server.output()[..part].to_vec();
            self.client.handle_input(&reply, &mut self.done);
            self.server.output_sent(part);
            if consumed == 0 && part == 0 {
                return ended;
            }
        }
    }

    fn borrow(&mut self) -> Result<SlabId, TransportError> {
        assert!(self.client.request(ControlVerb::Borrow));
        self.settle(usize::MAX);
        match self.client.take_control() {
            Some(ControlDone::Borrowed(result)) => result.map(|lent| lent.slab),
            other => panic!("not an answer to a borrow: {other:?}"),
        }
    }

    fn submit(&mut self, token: u64, verb: Verb, at: SlabPos, bytes: Vec<u8>) {
        let op = Op { token: Token(token), verb, at, buf: IoBuf::from(bytes) };
        assert!(matches!(self.client.submit(op), Submit::Accepted));
    }
}

/// The client's end, past the welcome, with a server that this test plays.
fn welcomed(in_flight: u16) -> ClientSession {
    let mut client = ClientSession::new(Intent::New, in_flight, TIMEOUT);
    client.output_sent(usize::MAX);
    client.handle_input(&frame::encode_welcome(&some_terms()), &mut Vec::new());
    assert!(client.terms().is_some());
    client
}

fn tag_of(client: &ClientSession) -> Tag {
    let request = client.output().last_chunk::<{ frame::REQUEST_BYTES }>().expect("a request");
    frame::decode_request(request).expect("a request").0
}

fn read_op(token: u64, len: usize) -> Op {
    Op { token: Token(token), verb: Verb::Read, at: SlabPos { slab: SlabId(0), offset: 0 }, buf: IoBuf::from(vec![0; len]) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the sizes and however the stream is cut, every operation completes once and reads return what was written.
    #[test]
    fn what_is_written_is_read_however_the_stream_is_cut(
        lens in prop::collection::vec(1usize..9000, 1..50),
        piece in 1usize..5000,
    ) {
        let mut pair = Pair::new(&lender(1), Intent::New);
        let slab = pair.borrow().expect("a slab");
        let mut places = Vec::new();
        let mut offset = 0;
        for (i, len) in lens.iter().enumerate() {
            let bytes: Vec<u8> = (0..*len).map(|j| (i * 37 + j) as u8).collect();
            let at = SlabPos { slab, offset };
            pair.submit(i as u64, Verb::Write, at, bytes.clone());
            places.push((at, bytes));
            offset += *len as u32;
        }
        prop_assert_eq!(pair.settle(piece), None);
        prop_assert_eq!(pair.done.drain(..).filter(|done| done.result.is_ok()).count(), lens.len());
        for (i, (at, bytes)) in places.iter().enumerate() {
            pair.submit(i as u64, Verb::Read, *at, vec![0; bytes.len()]);
        }
        prop_assert_eq!(pair.settle(piece), None);
        prop_assert_eq!(pair.done.len(), lens.len());
        for done in &pair.done {
            prop_assert_eq!(&done.result, &Ok(()));
            prop_assert_eq!(done.buf.as_slice(), &places[done.token.0 as usize].1[..]);
        }
        prop_assert_eq!(pair.client.in_flight(), 0);
    }

    /// A server survives any bytes, before and after the handshake, and buffers no more than it says.
    #[test]
    fn a_server_survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..4000), greeted: bool, cut in 1usize..500) {
        let mut server = ServerSession::new(lender(1), Instant::now());
        if greeted {
            server.handle_input(&frame::encode_hello(Intent::New)).expect("hello");
        }
        for piece in bytes.chunks(cut) {
            if server.handle_input(piece).is_err() {
                break;
            }
        }
        prop_assert!(server.output().len() < server::OUTPUT_LIMIT + MAX_OP_BYTES + 100);
    }

    /// The same with frames that decode, which get further.
    #[test]
    fn a_server_survives_any_requests(
        requests in prop::collection::vec((1u8..=4, 0u32..3, any::<u32>(), prop_oneof![0u32..70, Just(300_000), any::<u32>()]), 0..60)
    ) {
        let mut pair = Pair::new(&lender(2), Intent::New);
        pair.borrow().expect("a slab");
        for (kind, slab, offset, len) in requests {
            let at = SlabPos { slab: SlabId(slab), offset: offset % (2 * SLAB) };
            let request = match kind {
                1 => Request::Read { at, len },
                2 => Request::Write { at, len },
                3 => Request::Borrow,
                _ => Request::Return(at.slab),
            };
            let mut bytes = frame::encode_request(Tag(1), request).to_vec();
            bytes.resize(bytes.len() + if kind == 2 { (len as usize).min(1000) } else { 0 }, 0);
            if pair.server.handle_input(&bytes).is_err() {
                break;
            }
            let sent = pair.server.output().len();
            pair.server.output_sent(sent);
        }
    }

    /// A client survives any bytes: what they break is the session, and then nothing stays in flight.
    #[test]
    fn a_client_survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..3000), greeted: bool, cut in 1usize..500) {
        let mut client = if greeted { welcomed(8) } else { ClientSession::new(Intent::New, 8, TIMEOUT) };
        for token in 0..8 {
            prop_assert!(matches!(client.submit(read_op(token, 100)), Submit::Accepted));
        }
        let mut done = Vec::new();
        for piece in bytes.chunks(cut) {
            client.handle_input(piece, &mut done);
        }
        if client.failure().is_some() {
            prop_assert_eq!((done.len(), client.in_flight()), (8, 0));
            prop_assert!(client.output().is_empty());
        }
    }
}

#[test]
fn connections_that_join_share_the_slabs_and_others_do_not() {
    let lender = lender(2);
    let mut first = Pair::new(&lender, Intent::New);
    let slab = first.borrow().expect("a slab");
    let at = SlabPos { slab, offset: 7 };
    first.submit(0, Verb::Write, at, b"shared".to_vec());
    first.settle(usize::MAX);

    let mut second = Pair::new(&lender, Intent::Join(first.terms().token));
    second.submit(0, Verb::Read, at, vec![0; 6]);
    assert_eq!(second.settle(usize::MAX), None);
    assert_eq!(second.done[0].buf.as_slice(), b"shared");

    let mut stranger = Pair::new(&lender, Intent::New);
    assert_ne!(stranger.terms().token, first.terms().token);
    stranger.submit(0, Verb::Read, at, vec![0; 6]);
    assert_eq!(stranger.settle(usize::MAX), Some(Ending::NotYours));
    assert!(matches!(&stranger.done[0].result, Err(TransportError::Refused(why)) if why.contains("not borrowed")));

    // The slab stays while one connection does, and no longer.
    drop(first);
    assert_eq!(lender.store().lent_bytes(), u64::from(SLAB));
    let token = second.terms().token;
    drop(second);
    drop(stranger);
    assert_eq!((lender.store().lent_bytes(), lender.borrowers()), (0, 0));
    let late = Pair::new(&lender, Intent::Join(token));
    assert!(matches!(late.client.failure(), Some(TransportError::Lost(why)) if why.contains("restarted")));
}

#[test]
fn a_full_lender_says_so_and_the_session_lives_on() {
    let mut pair = Pair::new(&lender(1), Intent::New);
    let slab = pair.borrow().expect("a slab");
    assert_eq!(pair.borrow(), Err(TransportError::Full { capacity: u64::from(SLAB) }));
    assert!(pair.client.request(ControlVerb::Return(slab)));
    pair.settle(3);
    assert!(matches!(pair.client.take_control(), Some(ControlDone::Returned(Ok(())))));
    assert_eq!(pair.borrow(), Ok(slab));
}

#[test]
fn each_breach_ends_the_connection_with_its_own_reason() {
    let at = |slab, offset| SlabPos { slab: SlabId(slab), offset };
    let raw = |bytes: [u8; frame::REQUEST_BYTES]| bytes;
    let request = |request| frame::encode_request(Tag(5), request);
    let mut unknown_kind = request(Request::Borrow);
    unknown_kind[0] = 0x77;
    let mut dirty_zero = request(Request::Read { at: at(0, 0), len: 8 });
    dirty_zero[2] = 1;
    for (bytes, expected) in [
        (raw(unknown_kind), Ending::BadFrame),
        (dirty_zero, Ending::BadFrame),
        (request(Request::Read { at: at(0, 0), len: 0 }), Ending::BadLength),
        (request(Request::Read { at: at(0, 0), len: MAX_OP_BYTES as u32 + 1 }), Ending::BadLength),
        (request(Request::Read { at: at(0, 0), len: u32::MAX }), Ending::BadLength),
        (request(Request::Write { at: at(0, 0), len: 0 }), Ending::BadLength),
        (request(Request::Write { at: at(0, 0), len: u32::MAX }), Ending::BadLength),
        (request(Request::Read { at: at(1, 0), len: 8 }), Ending::NotYours),
        (request(Request::Write { at: at(u32::MAX, 0), len: 8 }), Ending::NotYours),
        (request(Request::Return(SlabId(1))), Ending::NotYours),
        (request(Request::Read { at: at(0, SLAB - 7), len: 8 }), Ending::BadRange),
        (request(Request::Write { at: at(0, u32::MAX), len: 8 }), Ending::BadRange),
    ] {
        let lender = lender(2);
        let mut pair = Pair::new(&lender, Intent::New);
        assert_eq!(pair.borrow(), Ok(SlabId(0)));
        assert_eq!(pair.server.handle_input(&bytes), Err(expected));
        let end = pair.server.output().last_chunk::<REPLY_BYTES>().expect("an end frame");
        assert_eq!(frame::decode_reply(end), Some((Tag(0), Reply::End(expected.code()))));
        let said = pair.server.output().len();
        for later in [bytes, request(Request::Borrow), request(Request::Read { at: at(0, 0), len: 8 })] {
            assert_eq!(pair.server.handle_input(&later), Err(expected), "an ended session stays ended");
        }
        assert_eq!((pair.server.output().len(), lender.store().lent_bytes()), (said, u64::from(SLAB)));
    }
}

#[test]
fn no_slab_byte_leaves_with_a_denied_read() {
    let lender = lender(2);
    let mut mine = Pair::new(&lender, Intent::New);
    let slab = mine.borrow().expect("a slab");
    mine.submit(0, Verb::Write, SlabPos { slab, offset: 0 }, vec![0x5a; 4096]);
    mine.settle(usize::MAX);
    let mut other = Pair::new(&lender, Intent::New);
    other.submit(0, Verb::Read, SlabPos { slab, offset: 0 }, vec![0; 4096]);
    let request = other.client.output().to_vec();
    assert_eq!(other.server.handle_input(&request), Err(Ending::NotYours));
    assert_eq!(other.server.output().len(), REPLY_BYTES, "an end frame and nothing else");
}

#[test]
fn a_first_frame_that_is_no_hello_is_refused() {
    let mut foreign = ServerSession::new(lender(1), Instant::now());
    assert_eq!(foreign.handle_input(&[b'G'; 64]), Err(Ending::BadHello));
    let mut newer = frame::encode_hello(Intent::New);
    newer[8] = 99;
    let mut server = ServerSession::new(lender(1), Instant::now());
    assert_eq!(server.handle_input(&newer), Err(Ending::Version));
    assert_eq!(server.output(), ServerSession::refusal(Ending::Version));
}

#[test]
fn a_client_learns_the_servers_version() {
    let mut client = ClientSession::new(Intent::New, 1, TIMEOUT);
    let mut welcome = frame::encode_welcome(&some_terms());
    welcome[8] = 2;
    client.handle_input(&welcome, &mut Vec::new());
    assert_eq!(client.failure(), Some(&TransportError::Version { theirs: 2, ours: VERSION }));
}

#[test]
fn a_welcome_that_can_not_be_fails_the_session() {
    let other = BorrowerToken([2; 16]);
    for (intent, slab_bytes) in
        [(Intent::New, 0), (Intent::New, 4096), (Intent::New, SLAB + 4096), (Intent::New, u32::MAX), (Intent::Join(other), SLAB)]
    {
        let mut client = ClientSession::new(intent, 4, TIMEOUT);
        client.handle_input(&frame::encode_welcome(&Terms { slab_bytes, ..some_terms() }), &mut Vec::new());
        let failure = client.failure();
        assert!(matches!(failure, Some(TransportError::Protocol(_))), "{intent:?} {slab_bytes}: {failure:?}");
        assert_eq!(client.terms(), None);
    }
}

#[test]
fn a_client_that_reads_no_replies_is_not_buffered_for() {
    let mut pair = Pair::new(&lender(1), Intent::New);
    let slab = pair.borrow().expect("a slab");
    let read = frame::encode_request(Tag(1), Request::Read { at: SlabPos { slab, offset: 0 }, len: MAX_OP_BYTES as u32 });
    let flood: Vec<u8> = read.iter().copied().cycle().take(read.len() * 1000).collect();
    let consumed = pair.server.handle_input(&flood).expect("a flood is not a breach");
    assert!(consumed <= 3 * read.len(), "it must stop reading");
    assert!(pair.server.is_blocked());
    assert!(pair.server.output().len() < server::OUTPUT_LIMIT + MAX_OP_BYTES + REPLY_BYTES);
    assert_eq!(pair.server.handle_input(&flood[consumed..]), Ok(0));

    // It goes on as soon as the client reads, and ends when the client never does.
    let waiting = pair.server.output().len();
    pair.server.output_sent(waiting);
    assert!(pair.server.handle_input(&flood[consumed..]).expect("goes on") > 0);
    let start = Instant::now();
    assert_eq!(pair.server.check(start), Ok(()));
    assert_eq!(pair.server.check(start + server::STALL_TIMEOUT / 2), Ok(()));
    assert_eq!(pair.server.check(start + server::STALL_TIMEOUT), Err(Ending::Stalled));
}

#[test]
fn a_client_that_says_nothing_is_not_waited_for() {
    let now = Instant::now();
    let mut server = ServerSession::new(lender(1), now);
    server.handle_input(&frame::encode_hello(Intent::New)[..31]).expect("almost a hello");
    assert_eq!(server.check(now + server::HANDSHAKE_TIMEOUT / 2), Ok(()));
    assert_eq!(server.check(now + server::HANDSHAKE_TIMEOUT), Err(Ending::HandshakeTimeout));
}

#[test]
fn a_late_reply_is_thrown_away_and_its_tag_used_again() {
    let mut client = welcomed(1);
    let now = Instant::now();
    let mut done = Vec::new();
    assert!(matches!(client.submit(read_op(1, 100)), Submit::Accepted));
    let tag = tag_of(&client);
    client.advance(now, &mut done);

    // Half of it comes in time, so that the timeout falls within the payload.
    let mut reply = frame::encode_reply(tag, Reply::Read { len: 100 }).to_vec();
    reply.resize(reply.len() + 100, 0xee);
    client.handle_input(&reply[..60], &mut done);
    client.advance(now + TIMEOUT - Duration::from_millis(1), &mut done);
    assert!(done.is_empty());
    client.advance(now + TIMEOUT, &mut done);
    let late = done.pop().expect("a timeout");
    assert!(matches!(late.result, Err(TransportError::Timeout { .. })));
    assert_eq!(client.in_flight(), 0);
    assert!(matches!(client.submit(read_op(2, 100)), Submit::Busy(_)), "the tag waits for its reply");

    client.handle_input(&reply[60..], &mut done);
    assert!(done.is_empty() && client.failure().is_none(), "thrown away");
    assert!(matches!(client.submit(read_op(3, 100)), Submit::Accepted));
    assert_ne!(tag_of(&client), tag, "an old reply can't pass for a new one");
}

#[test]
fn a_late_reply_of_another_length_fails_the_session() {
    for len in [0, 99, 101, u32::MAX] {
        let mut client = welcomed(1);
        let (now, mut done) = (Instant::now(), Vec::new());
        assert!(matches!(client.submit(read_op(1, 100)), Submit::Accepted));
        client.advance(now, &mut done);
        client.advance(now + TIMEOUT, &mut done);
        assert_eq!((done.len(), client.failure()), (1, None));
        client.handle_input(&frame::encode_reply(tag_of(&client), Reply::Read { len }), &mut done);
        assert!(matches!(client.failure(), Some(TransportError::Protocol(_))), "{len}");
        assert_eq!((done.len(), client.in_flight()), (1, 0));
    }
}

#[test]
fn a_server_that_never_answers_fails_the_session() {
    let mut client = welcomed(4);
    let (now, mut done) = (Instant::now(), Vec::new());
    assert!(matches!(client.submit(read_op(1, 100)), Submit::Accepted));
    client.advance(now, &mut done);
    client.advance(now + TIMEOUT, &mut done);
    assert_eq!((done.len(), client.failure().is_some()), (1, false));
    assert!(matches!(client.submit(read_op(2, 100)), Submit::Accepted));
    client.advance(now + TIMEOUT * GIVE_UP, &mut done);
    assert!(matches!(client.failure(), Some(TransportError::Timeout { .. })));
    assert_eq!((done.len(), client.in_flight()), (2, 0));
    assert!(matches!(client.submit(read_op(3, 100)), Submit::Failed(..)));
}

/// The fuzz target `client` found that a control request which its owner had stopped waiting for, or the return of a slab that was lent too late, failed the
/// session after one timeout instead of [`GIVE_UP`], with an error that spoke of all of them.
#[test]
fn an_abandoned_request_is_waited_for_as_long_as_any_other() {
    let mut client = welcomed(4);
    let (now, mut done) = (Instant::now(), Vec::new());
    assert!(client.request(ControlVerb::Borrow));
    client.abandon_control();
    client.advance(now, &mut done);
    client.advance(now + TIMEOUT, &mut done);
    client.advance(now + TIMEOUT * GIVE_UP - Duration::from_millis(1), &mut done);
    assert_eq!(client.failure(), None);
    let late = frame::encode_reply(tag_of(&client), Reply::Lent(SlabId(1)));
    client.output_sent(usize::MAX);
    client.handle_input(&late, &mut done);

    // It gives the slab back, and waits for that as long.
    let now = now + TIMEOUT * GIVE_UP;
    assert_eq!(client.output().len(), frame::REQUEST_BYTES);
    client.advance(now, &mut done);
    client.advance(now + TIMEOUT, &mut done);
    client.advance(now + TIMEOUT * GIVE_UP - Duration::from_millis(1), &mut done);
    assert_eq!(client.failure(), None);
    client.advance(now + TIMEOUT * GIVE_UP, &mut done);
    assert!(matches!(client.failure(), Some(TransportError::Timeout { .. })));
}

#[test]
fn timeouts_start_when_the_operation_is_sent_not_when_the_session_was_last_used() {
    let mut client = welcomed(4);
    let (now, mut done) = (Instant::now(), Vec::new());
    client.advance(now, &mut done);
    assert!(matches!(client.submit(read_op(1, 100)), Submit::Accepted));
    client.advance(now + TIMEOUT * 10, &mut done);
    assert!(done.is_empty(), "submitted just now");
    client.advance(now + TIMEOUT * 11, &mut done);
    assert_eq!(done.len(), 1);
}

/// The fuzz target `client` found that, while a slot waited for the reply of an operation that had timed out, a new operation's timeout was overlooked until that
/// slot's longer time was over as well.
#[test]
fn an_operation_times_out_in_time_while_an_abandoned_one_is_waited_for() {
    let mut client = welcomed(4);
    let (now, mut done) = (Instant::now(), Vec::new());
    assert!(matches!(client.submit(read_op(1, 100)), Submit::Accepted));
    client.advance(now, &mut done);
    client.advance(now + TIMEOUT, &mut done);
    assert!(matches!(client.submit(read_op(2, 100)), Submit::Accepted));
    client.advance(now + TIMEOUT, &mut done);
    client.advance(now + TIMEOUT * 2, &mut done);
    assert_eq!(done.iter().map(|done| done.token.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((client.in_flight(), client.failure()), (0, None));
}

#[test]
fn a_server_that_answers_wrongly_fails_the_session() {
    let read = |tag: Tag| frame::encode_reply(tag, Reply::Read { len: 100 });
    let answers: [fn(Tag) -> [u8; REPLY_BYTES]; 5] = [
        |tag| frame::encode_reply(Tag(tag.0 ^ 1), Reply::Read { len: 100 }),
        |tag| frame::encode_reply(Tag(tag.0 ^ 0x1_0000), Reply::Read { len: 100 }),
        |tag| frame::encode_reply(tag, Reply::Read { len: 99 }),
        |tag| frame::encode_reply(tag, Reply::Read { len: u32::MAX }),
        |tag| frame::encode_reply(tag, Reply::Written),
    ];
    for (i, answer) in answers.into_iter().enumerate() {
        let (mut client, mut done) = (welcomed(4), Vec::new());
        assert!(matches!(client.submit(read_op(1, 100)), Submit::Accepted));
        client.handle_input(&answer(tag_of(&client)), &mut done);
        assert!(matches!(client.failure(), Some(TransportError::Protocol(_))), "answer {i}");
        assert_eq!((done.len(), client.in_flight()), (1, 0));
    }
    // The right one twice.
    let (mut client, mut done) = (welcomed(4), Vec::new());
    assert!(matches!(client.submit(read_op(1, 100)), Submit::Accepted));
    let tag = tag_of(&client);
    let answer = [&read(tag)[..], &[1; 100]].concat();
    client.handle_input(&answer, &mut done);
    assert_eq!(done.pop().map(|done| done.result), Some(Ok(())));
    client.handle_input(&answer, &mut done);
    assert!(matches!(client.failure(), Some(TransportError::Protocol(_))));
}

#[test]
fn a_slab_that_is_lent_late_is_given_back() {
    let lender = lender(1);
    let mut pair = Pair::new(&lender, Intent::New);
    assert!(pair.client.request(ControlVerb::Borrow));
    pair.client.abandon_control();
    assert_eq!(pair.settle(usize::MAX), None);
    assert!(pair.client.take_control().is_none());
    assert_eq!(lender.store().lent_bytes(), 0, "nobody knows of the slab, so it must be back");
    assert!(pair.borrow().is_ok());
}

/// Found by the fuzz target `client`: a key that came with a slab which nobody waited for any more could pass for that of the slab before, and a refusal that came right
/// after a slab took its file away.
#[test]
fn each_slab_has_what_came_with_it() {
    let mut client = ClientSession::new(Intent::New, 4, TIMEOUT);
    client.output_sent(usize::MAX);
    client.handle_input(&frame::encode_welcome(&Terms { passing: Passing::Keys, ..some_terms() }), &mut Vec::new());
    let key_of = |slab: u32| MemoryKey { address: u64::from(slab) << 20, key: slab };
    let lent =
        |tag, slab: u32| [&frame::encode_reply(tag, Reply::Lent(SlabId(slab)))[..], &frame::encode_key(key_of(slab))].concat();
    let ask = |client: &mut ClientSession| {
        assert!(client.request(ControlVerb::Borrow));
        tag_of(client)
    };
    let late = lent(ask(&mut client), 1);
    client.abandon_control();
    let wanted = [lent(ask(&mut client), 2), lent(ask(&mut client), 3)].concat();
    let refused = frame::encode_reply(ask(&mut client), Reply::Full);
    client.handle_input(&[&wanted[..], &late, &refused].concat(), &mut Vec::new());
    for slab in [2, 3] {
        let Some(ControlDone::Borrowed(Ok(lent))) = client.take_control() else { panic!("slab {slab} was lent") };
        assert_eq!((lent.slab, lent.key), (SlabId(slab), Some(key_of(slab))));
    }
    assert!(matches!(client.take_control(), Some(ControlDone::Borrowed(Err(TransportError::Full { .. })))));
    assert!(client.take_control().is_none() && client.failure().is_none());
}

#[test]
fn an_operation_of_an_impossible_size_never_reaches_the_server() {
    let mut client = welcomed(4);
    client.output_sent(usize::MAX);
    let mut done = Vec::new();
    for len in [0, MAX_OP_BYTES + 1] {
        assert!(matches!(client.submit(read_op(1, len)), Submit::Accepted));
    }
    assert_eq!((client.in_flight(), client.output().len()), (2, 0));
    client.advance(Instant::now(), &mut done);
    assert!(done.iter().all(|done| matches!(done.result, Err(TransportError::Refused(_)))));
    assert_eq!((done.len(), client.in_flight()), (2, 0));
}

#[test]
fn a_session_is_busy_rather_than_unbounded() {
    let mut client = welcomed(8);
    for token in 0..8 {
        assert!(matches!(client.submit(read_op(token, 1)), Submit::Accepted));
    }
    assert!(matches!(client.submit(read_op(8, 1)), Submit::Busy(op) if op.token == Token(8)));

    let mut client = welcomed(512);
    let write = |token| Op { verb: Verb::Write, ..read_op(token, MAX_OP_BYTES) };
    let accepted = (0..512).take_while(|token| matches!(client.submit(write(*token)), Submit::Accepted)).count();
    assert!(accepted < 8 && client.output().len() <= client::OUTPUT_LIMIT + MAX_OP_BYTES + 100);
}
