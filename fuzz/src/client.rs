//! A client session between a program that asks and a server that answers: rightly, wrongly, late, or not at all.
//!
//! The model knows what was asked and not answered, and by when it must have an end. Each operation completes exactly once, with its own
//! buffer: done, if its answer came in time, with the bytes that the server sent; timed out otherwise, or failed with the session. What came back is not
//! written to any more. A wrong answer fails the session, and a right one doesn't; neither does time before [`GIVE_UP`] timeouts. Every slab
//! that the server lends is handed to the program or given back. A session that lives has all its tags again when all is
//! answered; one that failed holds nothing and says nothing. Before the first breach of the protocol by the server this is checked to the letter, after it
//! only what must hold whatever a server sends. Where keys or files come along with slabs, each slab that the program gets has its own.
#![forbid(unsafe_code)]

mod server;

use crate::input::{self, Length};
use arbitrary::{Arbitrary, Unstructured};
use farptr_runtime::TransportError;
use farptr_runtime::transport::{Completion, IoBuf, MAX_OP_BYTES, Op as Transfer, SlabId, SlabPos, Submit, Token, Verb};
use farptr_runtime::wire::client::{GIVE_UP, OUTPUT_LIMIT};
use farptr_runtime::wire::frame::Intent;
use farptr_runtime::wire::{ClientSession, ControlDone, ControlVerb, Lent};
use server::{Along, Kind, Lie, Server};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// Operations in flight: few, so that tags are used again.
const TAGS: u16 = 4;
const TIMEOUT: Duration = Duration::from_secs(1);
const MOST_OPS: usize = 256;

#[derive(Debug, Arbitrary)]
enum Op {
    Submit {
        write: bool,
        len: Length,
    },
    Borrow,
    Return,
    Abandon,
    TakeControl,
    /// Time passes, and the session hears of it.
    Pass {
        tenths: u8,
    },
    /// The socket takes some of the output.
    Send {
        most: Length,
    },
    Welcome,
    /// The server answers a request, but for the last `held` bytes, which follow with the next.
    Answer {
        which: u8,
        held: u8,
    },
    Lie {
        which: u8,
        lie: Lie,
    },
    Raw([u8; 5]),
    Trim,
    Fail,
}

/// An operation that has not completed.
struct Pending {
    verb: Verb,
    len: usize,
    buffer: *const u8,
    /// Refused by the session itself, for its length.
    refused: bool,
}

/// A request that the server has not answered yet; by its number, which is in its frame.
struct Asked {
    kind: Kind,
    /// The program waits for it: no timeout yet, and not abandoned.
    awaited: bool,
    /// When the session first heard of the time after it was made.
    dated: Option<Instant>,
    timed_out: Option<Instant>,
}

struct World {
    session: ClientSession,
    server: Server,
    /// By number.
    pending: HashMap<u64, Pending>,
    asked: HashMap<u64, Asked>,
    next: u64,
    /// What came back, with what it held then.
    returned: Vec<(IoBuf, Vec<u8>)>,
    /// Control requests whose end the program waits for.
    borrows: usize,
    returns: usize,
    /// Slabs lent to the program.
    slabs: Vec<SlabId>,
    failed: bool,
    now: Instant,
}

/// Runs the target on one input. Its last byte says what comes along with slabs, so that the operations before it are the same whatever that is.
pub fn run(data: &[u8]) {
    let (last, operations) = data.split_last().unwrap_or((&0, &[]));
    let along = match last % 4 {
        0 | 1 => Along::Nothing,
        2 => Along::Keys,
        _ => Along::Files,
    };
    let mut input = Unstructured::new(operations);
    let mut world = World {
        session: ClientSession::new(Intent::New, TAGS, TIMEOUT),
        server: Server::new(along),
        pending: HashMap::new(),
        asked: HashMap::new(),
        next: 0,
        returned: Vec::new(),
        borrows: 0,
        returns: 0,
        slabs: Vec::new(),
        failed: false,
        now: Instant::now(),
    };
    input::each(&mut input, MOST_OPS, |op| {
        world.carry_out(op);
        world.compare();
    });
    world.end();
    for (buf, held) in &world.returned {
        assert!(buf.as_slice() == held, "a buffer that had been given back was written to");
    }
}

impl World {
    fn carry_out(&mut self, op: Op) {
        match op {
            Op::Submit { write, len } => {
                let len = (len.get() as usize).min(MAX_OP_BYTES + 1);
                let _ = self.submit(if write { Verb::Write } else { Verb::Read }, len);
            }
            Op::Borrow => self.control(ControlVerb::Borrow),
            // Under the request's number, by which the server's end knows it; which slab it is makes no difference to a session.
            Op::Return => self.control(ControlVerb::Return(SlabId(self.next as u32))),
            Op::Abandon => {
                self.session.abandon_control();
                let controls = self.asked.values_mut().filter(|asked| matches!(asked.kind, Kind::Borrow | Kind::Return));
                controls.for_each(|asked| asked.awaited = false);
                // What had ended before has been taken; nobody hears of the others.
                (self.borrows, self.returns) = (0, 0);
            }
            Op::TakeControl => self.take_control(),
            Op::Pass { tenths } => self.pass(Duration::from_millis(u64::from(tenths) * 100)),
            Op::Send { most } => self.send(most.get() as usize),
            Op::Welcome => self.feed(|server| server.welcome(), 0),
            Op::Answer { which, held } => self.feed(|server| server.answer(which), held.saturating_sub(128).into()),
            Op::Lie { which, lie } => self.feed(|server| server.lie(which, lie), 0),
            Op::Raw(bytes) => self.feed(|server| server.babble(&bytes), 0),
            Op::Trim => self.session.trim(),
            Op::Fail => {
                let mut done = Vec::new();
                self.session.fail(TransportError::Lost("the fuzzer says so".into()), &mut done);
                self.failed = true;
                self.complete(done);
            }
        }
    }

    /// Submits an operation whose number is in its place, so that the server's end knows it.
    fn submit(&mut self, verb: Verb, len: usize) -> bool {
        let number = self.next;
        self.next += 1;
        let content = match verb {
            Verb::Write => input::bytes(number as u32, len),
            Verb::Read => vec![0; len],
        };
        let buffer = content.as_ptr();
        let at = SlabPos { slab: SlabId(3), offset: number as u32 };
        let refused = len == 0 || len > MAX_OP_BYTES;
        let room = self.session.output().len();
        match self.session.submit(Transfer { token: Token(number), verb, at, buf: IoBuf::from(content) }) {
            Submit::Accepted => {
                assert!(!self.failed);
                self.pending.insert(number, Pending { verb, len, buffer, refused });
                if !refused {
                    let kind = if verb == Verb::Read { Kind::Read } else { Kind::Write };
                    self.ask(number, kind, true);
                }
                true
            }
            Submit::Busy(op) => {
                assert!(!self.failed && op.buf.as_slice().as_ptr() == buffer && op.token == Token(number));
                let waiting = self.pending.values().filter(|pending| pending.refused).count();
                let full = if refused { waiting == TAGS.into() } else { self.asked.len() == TAGS.into() || room >= OUTPUT_LIMIT };
                assert!(full || !self.server.is_honest(), "busy with nothing to do");
                false
            }
            Submit::Failed(op, _) => {
                assert!(self.failed && op.buf.as_slice().as_ptr() == buffer);
                false
            }
        }
    }

    fn ask(&mut self, number: u64, kind: Kind, awaited: bool) {
        self.asked.insert(number, Asked { kind, awaited, dated: None, timed_out: None });
    }

    fn control(&mut self, verb: ControlVerb) {
        let number = self.next;
        self.next += 1;
        let busy = self.asked.len() == TAGS.into();
        let accepted = self.session.request(verb);
        assert!(accepted != (self.failed || busy) || !self.server.is_honest() && !self.failed);
        if accepted {
            let kind = match verb {
                ControlVerb::Borrow => Kind::Borrow,
                ControlVerb::Return(_) => Kind::Return,
            };
            self.ask(number, kind, true);
            match kind {
                Kind::Borrow => {
                    self.server.expect_borrow(number);
                    self.borrows += 1;
                }
                _ => self.returns += 1,
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let mut done = Vec::new();
        self.session.advance(self.now, &mut done);
        if self.server.is_honest() && !self.failed {
            self.judge_timeouts(&done);
        }
        self.failed = self.session.failure().is_some();
        self.complete(done);
        assert!(self.pending.values().all(|pending| !pending.refused), "what was refused has its end when time passes");
    }

    /// What ends is what is overdue, and all that is.
    fn judge_timeouts(&mut self, done: &[Completion]) {
        let (now, mut give_up) = (self.now, false);
        for (number, asked) in &mut self.asked {
            let dated = *asked.dated.get_or_insert(now);
            if let Some(timed_out) = asked.timed_out {
                give_up |= now >= timed_out + TIMEOUT * (GIVE_UP - 1);
            } else if now >= dated + TIMEOUT {
                asked.timed_out = Some(now);
                asked.awaited = false;
                if let Kind::Read | Kind::Write = asked.kind {
                    let overdue = done.iter().any(|done| done.token == Token(*number));
                    assert!(overdue, "an operation outlived its timeout");
                }
            } else {
                let early = done
                    .iter()
                    .any(|done| done.token == Token(*number) && matches!(done.result, Err(TransportError::Timeout { .. })));
                assert!(!early || self.session.failure().is_some(), "an operation timed out before its time");
            }
        }
        assert_eq!(
            self.session.failure().is_some(),
            give_up,
            "a session is given up after {GIVE_UP} timeouts: {:?}",
            self.session.failure()
        );
    }

    /// The server sees some of the output.
    fn send(&mut self, most: usize) {
        let len = most.min(self.session.output().len());
        self.server.hear(&self.session.output()[..len]);
        self.session.output_sent(len);
    }

    /// The server says something, and the session hears it but for the last `held` bytes.
    fn feed(&mut self, say: impl FnOnce(&mut Server), held: usize) {
        say(&mut self.server);
        let heard = self.server.said(held);
        let mut done = Vec::new();
        heard.files.into_iter().for_each(|file| self.session.receive_file(file));
        self.session.handle_input(&heard.bytes, &mut done);
        for (number, slab) in heard.answered {
            let asked = self.asked.remove(&number);
            // A slab that came too late for the program is given back by the session, under the slab's own number.
            if let (Some(Asked { awaited: false, .. }), Some(slab)) = (asked, slab) {
                self.ask(slab.0.into(), Kind::Return, false);
            }
        }
        if !self.failed {
            self.failed = self.session.failure().is_some();
            if self.server.is_honest() {
                assert!(!self.failed, "a right answer failed the session: {:?}", self.session.failure());
            } else if heard.lied {
                assert!(self.failed, "a wrong answer was taken");
            }
        }
        self.complete(done);
    }

    fn complete(&mut self, done: Vec<Completion>) {
        for Completion { token, verb, buf, result } in done {
            let pending = self.pending.remove(&token.0).expect("an operation completes once");
            assert_eq!(
                (verb, buf.len(), buf.as_slice().as_ptr()),
                (pending.verb, pending.len, pending.buffer),
                "its own buffer comes back"
            );
            if result.is_ok() {
                let answered = self.server.answered(token.0);
                assert!(answered || !self.server.is_honest(), "done without an answer");
                if answered && verb == Verb::Read && self.server.is_honest() {
                    assert!(buf.as_slice() == input::bytes(!(token.0 as u32), pending.len), "other bytes than the server sent");
                }
            }
            let held = buf.as_slice().to_vec();
            self.returned.push((buf, held));
        }
        if self.failed {
            self.asked.clear();
        }
    }

    fn take_control(&mut self) {
        while let Some(done) = self.session.take_control() {
            match done {
                ControlDone::Borrowed(result) => {
                    assert!(self.borrows > 0, "a request has one end");
                    self.borrows -= 1;
                    let Ok(Lent { slab, file, key }) = result else { continue };
                    if self.server.is_honest() {
                        assert_eq!(key, self.server.key(slab), "another slab's key");
                        let device = file.map(|file| file.metadata().expect("an open file").rdev());
                        assert_eq!(device, self.server.device(slab), "another slab's file");
                    }
                    self.slabs.push(slab);
                }
                ControlDone::Returned(_) => {
                    assert!(self.returns > 0, "a request has one end");
                    self.returns -= 1;
                }
            }
        }
    }

    fn compare(&mut self) {
        self.take_control();
        assert_eq!(self.session.failure().is_some(), self.failed);
        assert_eq!(self.session.in_flight(), self.pending.len());
        assert!(self.session.output().len() <= OUTPUT_LIMIT + MAX_OP_BYTES + 20 * (usize::from(TAGS) + 1) + 32);
        if self.failed {
            assert!(self.pending.is_empty() && self.session.output().is_empty());
            assert_eq!((self.borrows, self.returns), (0, 0), "what was asked has an end when the session has");
        }
    }

    /// All that is asked is answered, and then nothing is missing.
    fn end(&mut self) {
        if self.failed || !self.server.is_honest() {
            return;
        }
        self.feed(|server| server.welcome(), 0);
        // What is answered may make the session ask again: for a slab that came too late.
        for _ in 0..2 * TAGS {
            self.send(usize::MAX);
            while self.server.owes() {
                self.feed(|server| server.answer(0), 0);
            }
        }
        self.pass(Duration::ZERO);
        self.compare();
        assert!(self.pending.is_empty() && self.asked.is_empty() && !self.failed);
        assert_eq!((self.borrows, self.returns), (0, 0), "a request was answered, and the program doesn't know");
        assert_eq!(self.server.lent(), self.slabs, "a slab is lost");
        assert!((0..TAGS).all(|_| self.submit(Verb::Read, 1)), "a tag is lost");
        assert!(!self.submit(Verb::Read, 1));
    }
}
