//! A lender that fails where a script says so.
//!
//! Slabs are those of the embedded transport. On top of it sessions that keep what they are given until they are polled, complete one operation a
//! poll, the newest or the oldest first, and meet the troubles that the test has armed: each counts the calls that it could strike at, and
//! strikes once. No clock and no thread: the same operations meet the same troubles again, which is what shrinking needs.
//!
//! Every call that a round or the cleaner makes here is a moment at which a mutator may come between: see [`meanwhile`](crate::meanwhile).
#![forbid(unsafe_code)]

use crate::meanwhile;
use farptr_runtime::TransportError;
use farptr_runtime::transport::embedded::{EmbeddedConfig, EmbeddedTransport};
use farptr_runtime::transport::{Completion, ImmediateAccess, Op, Progress, Session, SlabId, SlabPos, Submit, Transport, Verb};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How much of a write that fails is done all the same.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Done {
    Nothing,
    Half,
    All,
}

/// What can go wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trouble {
    /// A submit is told to come again.
    Busy,
    /// A submit finds the session dead; what was in flight has yet to complete, with the same error.
    DeadOnSubmit(Done),
    /// An operation completes with an error. The session goes on.
    Fails(Done),
    /// The session dies while it is polled: everything in flight completes with an error.
    Dies(Done),
    /// A bit of what is read is another.
    Garbles,
    /// No session is opened.
    NoSession,
    /// No slab is lent.
    NoSlab,
    /// A slab is not taken back.
    NotTakenBack,
}

/// A call that trouble may strike at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Open,
    Borrow,
    Return,
    Submit,
    Complete(Verb),
}

impl Trouble {
    fn strikes_at(self, call: Call) -> bool {
        match self {
            Trouble::Busy | Trouble::DeadOnSubmit(_) => call == Call::Submit,
            Trouble::Fails(_) | Trouble::Dies(_) => matches!(call, Call::Complete(_)),
            Trouble::Garbles => call == Call::Complete(Verb::Read),
            Trouble::NoSession => call == Call::Open,
            Trouble::NoSlab => call == Call::Borrow,
            Trouble::NotTakenBack => call == Call::Return,
        }
    }
}

/// Which of the operations in flight completes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    OldestFirst,
    NewestFirst,
}

#[derive(Debug)]
struct Script {
    armed: Vec<(u32, Trouble)>,
    calm: bool,
    struck: u32,
    in_flight: Vec<(u64, Verb, SlabId, Range<usize>)>,
    next: u64,
    not_taken_back: u32,
    garbled: bool,
}

/// The lender.
#[derive(Debug)]
pub(crate) struct Lender {
    slabs: Arc<EmbeddedTransport>,
    script: Arc<Mutex<Script>>,
    order: Order,
    is_immediate: bool,
}

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn lost() -> TransportError {
    TransportError::Lost("by the script".into())
}

impl Script {
    /// The trouble that strikes at this call, if any.
    fn strike(&mut self, call: Call) -> Option<Trouble> {
        if self.calm {
            return None;
        }
        let at = self.armed.iter().position(|(_, trouble)| trouble.strikes_at(call))?;
        if self.armed[at].0 > 0 {
            self.armed[at].0 -= 1;
            return None;
        }
        self.struck += 1;
        let (_, trouble) = self.armed.remove(at);
        self.garbled |= matches!(trouble, Trouble::Garbles);
        Some(trouble)
    }

    /// Rule 5 of `farptr_runtime::transport`: nothing overlaps with a write in flight.
    fn begin(&mut self, op: &Op) -> u64 {
        let range = op.at.offset as usize..op.at.offset as usize + op.buf.len();
        for (_, verb, slab, other) in &self.in_flight {
            let apart = *slab != op.at.slab || range.end <= other.start || other.end <= range.start;
            let reads = *verb == Verb::Read && op.verb == Verb::Read;
            assert!(apart || reads, "{:?} of {slab:?} {range:?} overlaps with {verb:?} {other:?} in flight", op.verb);
        }
        self.next += 1;
        self.in_flight.push((self.next, op.verb, op.at.slab, range));
        self.next
    }

    fn end(&mut self, number: u64) {
        self.in_flight.retain(|(other, ..)| *other != number);
    }
}

impl Lender {
    pub(crate) fn new(capacity: u64, slab_bytes: u32, order: Order, is_immediate: bool) -> Self {
        let slabs = Arc::new(EmbeddedTransport::new(EmbeddedConfig { capacity, slab_bytes }).unwrap());
        let script = Script {
            armed: Vec::new(),
            calm: false,
            struck: 0,
            in_flight: Vec::new(),
            next: 0,
            not_taken_back: 0,
            garbled: false,
        };
        Lender { slabs, script: Arc::new(Mutex::new(script)), order, is_immediate }
    }

    /// Arms a trouble that strikes after `after` calls that it could have struck at.
    pub(crate) fn arm(&self, trouble: Trouble, after: u32) {
        lock(&self.script).armed.push((after, trouble));
    }

    /// Disarms all.
    pub(crate) fn disarm(&self) {
        lock(&self.script).armed.clear();
    }

    /// Nothing strikes, and nobody comes between, during `f`.
    pub(crate) fn calmly<R>(&self, f: impl FnOnce() -> R) -> R {
        let before = std::mem::replace(&mut lock(&self.script).calm, true);
        let result = f();
        lock(&self.script).calm = before;
        result
    }

    /// How many troubles have struck.
    pub(crate) fn struck(&self) -> u32 {
        lock(&self.script).struck
    }

    /// Whether a read was ever garbled.
    pub(crate) fn has_garbled(&self) -> bool {
        lock(&self.script).garbled
    }

    /// Bytes lent, without those slabs whose return has failed.
    pub(crate) fn lent_bytes(&self) -> u64 {
        self.slabs.lent_bytes() - u64::from(lock(&self.script).not_taken_back) * u64::from(self.slabs.slab_bytes())
    }

    /// Whether another slab could be lent.
    pub(crate) fn is_full(&self) -> bool {
        self.slabs.lent_bytes() + u64::from(self.slabs.slab_bytes()) > self.slabs.capacity()
    }

    fn come_between(&self) {
        if !lock(&self.script).calm {
            meanwhile::now();
        }
    }
}

/// Does what of an operation is to be done.
fn perform(slabs: &EmbeddedTransport, op: &mut Op, done: Done) -> Result<(), TransportError> {
    match (op.verb, done) {
        (Verb::Read, Done::All) => slabs.read_at(op.at, op.buf.as_mut_slice()),
        // The content of a buffer whose read failed is unspecified.
        (Verb::Read, _) => {
            op.buf.as_mut_slice().fill(0xee);
            Ok(())
        }
        (Verb::Write, Done::Nothing) => Ok(()),
        (Verb::Write, Done::Half) => slabs.write_at(op.at, &op.buf.as_slice()[..op.buf.len() / 2]),
        (Verb::Write, Done::All) => slabs.write_at(op.at, op.buf.as_slice()),
    }
}

fn garble(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 0x10;
    }
}

impl Transport for Lender {
    fn describe(&self) -> &str {
        "scripted"
    }

    fn slab_bytes(&self) -> u32 {
        self.slabs.slab_bytes()
    }

    fn borrow_slab(&self) -> Result<SlabId, TransportError> {
        match lock(&self.script).strike(Call::Borrow) {
            Some(_) => Err(lost()),
            None => self.slabs.borrow_slab(),
        }
    }

    fn return_slab(&self, slab: SlabId) -> Result<(), TransportError> {
        let mut script = lock(&self.script);
        if script.strike(Call::Return).is_some() {
            script.not_taken_back += 1;
            return Err(lost());
        }
        self.slabs.return_slab(slab)
    }

    fn open_session(&self) -> Result<Box<dyn Session>, TransportError> {
        if lock(&self.script).strike(Call::Open).is_some() {
            return Err(TransportError::Unreachable("by the script".into()));
        }
        Ok(Box::new(Scripted {
            slabs: Arc::clone(&self.slabs),
            script: Arc::clone(&self.script),
            order: self.order,
            queue: Vec::new(),
            failure: None,
            left_behind: Done::Nothing,
        }))
    }

    fn immediate(&self) -> Option<&dyn ImmediateAccess> {
        self.is_immediate.then_some(self)
    }
}

impl ImmediateAccess for Lender {
    fn read_at(&self, at: SlabPos, into: &mut [u8]) -> Result<(), TransportError> {
        self.come_between();
        let struck = lock(&self.script).strike(Call::Complete(Verb::Read));
        match struck {
            Some(Trouble::Garbles) | None => {
                self.slabs.read_at(at, into)?;
                if struck.is_some() {
                    garble(into);
                }
                Ok(())
            }
            Some(_) => Err(lost()),
        }
    }

    fn write_at(&self, at: SlabPos, bytes: &[u8]) -> Result<(), TransportError> {
        self.come_between();
        let struck = lock(&self.script).strike(Call::Complete(Verb::Write));
        match struck {
            None => self.slabs.write_at(at, bytes),
            Some(Trouble::Fails(Done::Half) | Trouble::Dies(Done::Half)) => {
                self.slabs.write_at(at, &bytes[..bytes.len() / 2])?;
                Err(lost())
            }
            Some(_) => Err(lost()),
        }
    }
}

struct Scripted {
    slabs: Arc<EmbeddedTransport>,
    script: Arc<Mutex<Script>>,
    order: Order,
    queue: Vec<(u64, Op)>,
    failure: Option<TransportError>,
    /// How much is done of what was in flight when the session died.
    left_behind: Done,
}

impl Scripted {
    fn come_between(&self) {
        if !lock(&self.script).calm {
            meanwhile::now();
        }
    }

    fn complete(&mut self, at: usize, how: Option<Trouble>) -> Completion {
        let (number, mut op) = self.queue.remove(at);
        lock(&self.script).end(number);
        let (extent, failed) = match how {
            Some(Trouble::Fails(extent) | Trouble::Dies(extent)) => (extent, true),
            _ => (Done::All, false),
        };
        let performed = perform(&self.slabs, &mut op, extent);
        if matches!(how, Some(Trouble::Garbles)) {
            garble(op.buf.as_mut_slice());
        }
        let result = if failed { Err(lost()) } else { performed };
        Completion { token: op.token, verb: op.verb, buf: op.buf, result }
    }
}

impl Session for Scripted {
    fn submit(&mut self, op: Op) -> Submit {
        self.come_between();
        if let Some(cause) = &self.failure {
            return Submit::Failed(op, cause.clone());
        }
        let struck = lock(&self.script).strike(Call::Submit);
        match struck {
            Some(Trouble::Busy) => return Submit::Busy(op),
            Some(Trouble::DeadOnSubmit(extent)) => {
                self.left_behind = extent;
                return Submit::Failed(op, self.failure.insert(lost()).clone());
            }
            _ => {}
        }
        let number = lock(&self.script).begin(&op);
        self.queue.push((number, op));
        Submit::Accepted
    }

    fn poll(&mut self, _now: Instant, done: &mut Vec<Completion>) -> Progress {
        self.come_between();
        if self.queue.is_empty() {
            return Progress::Idle;
        }
        let next = if self.order == Order::OldestFirst { 0 } else { self.queue.len() - 1 };
        let how = match self.failure {
            Some(_) => Some(Trouble::Dies(self.left_behind)),
            None => lock(&self.script).strike(Call::Complete(self.queue[next].1.verb)),
        };
        match how {
            Some(Trouble::Dies(_)) => {
                self.failure.get_or_insert(lost());
                while !self.queue.is_empty() {
                    done.push(self.complete(0, how));
                }
            }
            how => done.push(self.complete(next, how)),
        }
        Progress::Moved
    }

    fn park(&mut self, _at_most: Duration) {
        // A poll always completes something.
    }

    fn in_flight(&self) -> usize {
        self.queue.len()
    }

    fn failure(&self) -> Option<TransportError> {
        self.failure.clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        let mut script = lock(&self.script);
        for (number, _) in &self.queue {
            script.end(*number);
        }
    }
}
