//! Both ends of the protocol with a byte stream between them that goes wrong at every place it can: cut off, split, a byte or a stretch of bytes twice,
//! a byte missing, a bit wrong. Whatever happens, each operation ends once and in time, nothing panics, and a stream that has lost its step ends
//! that connection with an error.
//!
//! The ends are the sessions that `TcpTransport` and `farmemd` drive, without their sockets: every position of both streams takes milliseconds.
//! What a wrong bit in a payload or in an address does is not the wire's business: images are checked when they are read (`farptr/tests/corruption.rs`).
#![forbid(unsafe_code)]

use farptr_runtime::TransportError;
use farptr_runtime::slab::{STRIPE_BYTES, SlabStore, SlabStoreConfig, Supply};
use farptr_runtime::transport::{Completion, IoBuf, Op, SlabPos, Submit, Token, Verb};
use farptr_runtime::wire::frame::Intent;
use farptr_runtime::wire::{ClientSession, ControlDone, ControlVerb, Lender, Lent, ServerSession};
use std::sync::Arc;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Requests,
    Replies,
}

/// What happens to a stream at one position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// What comes after arrives later.
    Split,
    /// Nothing comes any more, and the connection is closed.
    Cut,
    /// So many bytes come twice.
    Twice(usize),
    /// The byte is missing.
    Missing,
    /// The bit is wrong.
    Flip(u8),
}

/// One direction of the connection.
struct Stream {
    fault: Fault,
    at: usize,
    /// Bytes taken in so far.
    taken: usize,
    /// Bytes on their way.
    under_way: Vec<u8>,
    cut: bool,
}

impl Stream {
    fn new(fault: Fault, at: usize) -> Self {
        Stream { fault, at, taken: 0, under_way: Vec::new(), cut: false }
    }

    fn take_in(&mut self, bytes: &[u8]) {
        let first = self.taken;
        self.taken += bytes.len();
        for (i, byte) in bytes.iter().enumerate() {
            if self.cut {
                return;
            }
            let hit = first + i == self.at;
            match self.fault {
                Fault::Cut if hit => self.cut = true,
                Fault::Missing if hit => {}
                Fault::Flip(bit) if hit => self.under_way.push(byte ^ 1 << bit),
                Fault::Twice(len) if hit => {
                    // The stretch that ends here, as a sender does that repeats what it believes was lost.
                    let start = self.under_way.len().saturating_sub(len - 1);
                    self.under_way.push(*byte);
                    self.under_way.extend_from_within(start..);
                }
                _ => self.under_way.push(*byte),
            }
        }
    }

    /// What arrives now: up to the place where it is split.
    fn arriving(&mut self) -> Vec<u8> {
        let mut part = self.under_way.len();
        if self.fault == Fault::Split {
            let passed = self.taken - part;
            part = part.min(if passed < self.at { self.at - passed } else { part });
        }
        self.under_way.drain(..part).collect()
    }
}

/// A connection over which a fixed exchange is played.
struct Play {
    client: ClientSession,
    server: ServerSession,
    requests: Stream,
    replies: Stream,
    now: Instant,
    done: Vec<Completion>,
    submitted: usize,
    server_ended: bool,
}

/// What the exchange writes, and then reads: place and bytes.
fn places() -> [(u32, Vec<u8>); 3] {
    [(0, (1..60).collect()), (4096, vec![0; 33]), (300_000, (100..=180).rev().collect())]
}

impl Play {
    fn new(way: Way, fault: Fault, at: usize) -> Self {
        let config =
            SlabStoreConfig { capacity: 8 * STRIPE_BYTES as u64, slab_bytes: 2 * STRIPE_BYTES as u32, supply: Supply::OnDemand };
        let lender: Arc<Lender> = Lender::new(SlabStore::new(config).expect("store"));
        let now = Instant::now();
        let (mut requests, mut replies) = (Stream::new(Fault::None, 0), Stream::new(Fault::None, 0));
        match way {
            Way::Requests => requests = Stream::new(fault, at),
            Way::Replies => replies = Stream::new(fault, at),
        }
        Play {
            client: ClientSession::new(Intent::New, 16, TIMEOUT),
            server: ServerSession::new(lender, now),
            requests,
            replies,
            now,
            done: Vec::new(),
            submitted: 0,
            server_ended: false,
        }
    }

    /// Moves bytes both ways until none move.
    fn settle(&mut self) {
        loop {
            self.client.advance(self.now, &mut self.done);
            let out = self.client.output().to_vec();
            self.requests.take_in(&out);
            self.client.output_sent(out.len());
            let arriving = self.requests.arriving();
            if !self.server_ended && self.server.handle_input(&arriving).is_err() {
                self.server_ended = true;
            }
            let out = self.server.output().to_vec();
            self.replies.take_in(&out);
            self.server.output_sent(out.len());
            let reply = self.replies.arriving();
            self.client.handle_input(&reply, &mut self.done);
            // A connection of which one direction is gone is gone.
            if self.requests.cut || self.replies.cut || self.server_ended {
                self.client.fail(TransportError::Lost("closed".into()), &mut self.done);
            }
            if arriving.is_empty() && reply.is_empty() {
                return;
            }
        }
    }

    fn submit(&mut self, verb: Verb, at: SlabPos, bytes: Vec<u8>) {
        let op = Op { token: Token(self.submitted as u64), verb, at, buf: IoBuf::from(bytes) };
        if matches!(self.client.submit(op), Submit::Accepted) {
            self.submitted += 1;
        }
    }

    /// Borrows a slab and begins to write and read in it; returns whether it got that far.
    fn begin(&mut self) -> Option<farptr_runtime::transport::SlabId> {
        self.settle();
        if !self.client.request(ControlVerb::Borrow) {
            return None;
        }
        self.settle();
        let Some(ControlDone::Borrowed(Ok(Lent { slab, .. }))) = self.client.take_control() else { return None };
        for verb in [Verb::Write, Verb::Read] {
            for (offset, bytes) in places() {
                let bytes = if verb == Verb::Write { bytes } else { vec![0xee; bytes.len()] };
                self.submit(verb, SlabPos { slab, offset }, bytes);
            }
            self.settle();
        }
        Some(slab)
    }

    /// More of the same, which a stream out of step can't survive, and then all the patience there is.
    fn end(&mut self, slab: Option<farptr_runtime::transport::SlabId>) {
        if let Some(slab) = slab {
            for _ in 0..3 {
                for (offset, bytes) in places() {
                    self.submit(Verb::Read, SlabPos { slab, offset }, vec![0xee; bytes.len()]);
                }
                self.settle();
            }
        }
        for _ in 0..10 {
            self.now += TIMEOUT;
            self.settle();
        }
    }

    /// Each operation has ended once, and if the bytes were left alone, those that succeeded read what was written.
    fn check(&self, bytes_are_whole: bool) {
        let mut tokens: Vec<u64> = self.done.iter().map(|done| done.token.0).collect();
        tokens.sort_unstable();
        assert!(tokens.iter().copied().eq(0..self.submitted as u64), "each of {} ends once: {tokens:?}", self.submitted);
        assert_eq!(self.client.in_flight(), 0);
        for done in self.done.iter().filter(|done| bytes_are_whole && done.verb == Verb::Read && done.result.is_ok()) {
            let (_, expected) = &places()[done.token.0 as usize % places().len()];
            assert_eq!(done.buf.as_slice(), expected);
        }
    }
}

/// Plays the exchange with a fault at each position of a stream.
fn everywhere(faults: &[Fault], judge: impl Fn(&Play, Fault)) {
    for way in [Way::Requests, Way::Replies] {
        let mut whole = Play::new(way, Fault::None, 0);
        assert!(whole.begin().is_some());
        let length = if way == Way::Requests { whole.requests.taken } else { whole.replies.taken };
        assert!(length > 300, "{length} bytes of {way:?}");
        for at in 0..length {
            for fault in faults {
                let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    let mut play = Play::new(way, *fault, at);
                    let slab = play.begin();
                    play.end(slab);
                    judge(&play, *fault);
                }));
                assert!(told.is_ok(), "{fault:?} at byte {at} of {length} of the {way:?}");
            }
        }
    }
}

#[test]
fn a_stream_split_anywhere_is_the_same_stream() {
    everywhere(&[Fault::Split], |play, _| {
        play.check(true);
        assert!(play.client.failure().is_none() && play.done.len() == 15, "{:?}", play.client.failure());
        assert!(play.done.iter().all(|done| done.result.is_ok()));
    });
}

#[test]
fn a_stream_cut_off_anywhere_ends_the_connection_and_what_was_answered_is_right() {
    everywhere(&[Fault::Cut], |play, _| {
        play.check(true);
        assert!(matches!(play.client.failure(), Some(TransportError::Lost(_))), "{:?}", play.client.failure());
    });
}

#[test]
fn a_stream_out_of_step_ends_the_connection() {
    everywhere(&[Fault::Twice(1), Fault::Twice(7), Fault::Twice(40), Fault::Missing], |play, _| {
        play.check(false);
        assert!(play.client.failure().is_some(), "nobody noticed");
    });
}

#[test]
fn a_wrong_bit_anywhere_is_survived() {
    let flips: Vec<Fault> = (0..8).map(Fault::Flip).collect();
    everywhere(&flips, |play, _| play.check(false));
}
