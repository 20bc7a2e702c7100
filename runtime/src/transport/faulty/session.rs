//! A session with faults.
//!
//! # Where an operation is
//! *Held back* before it is done; *sent* to the session behind; *silent*, when no answer will come and its timeout is waited for; *ripe* when it has ended and is
//! reported at one of the next polls. Each accepted operation is in exactly one of these until it is reported.
#![forbid(unsafe_code)]

use super::fate::{Dice, Fate};
use super::faults::{Clock, Damage};
use super::kind::Kind;
use super::server::FaultyServer;
use crate::addr::FAR_UNIT;
use crate::error::TransportError;
use crate::transport::{Completion, IoBuf, Op, Progress, Session, SlabPos, Submit, Token, Verb};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Operations in flight at most.
const MAX_IN_FLIGHT: usize = 1024;

/// What one poll in vain is worth in virtual time: a timeout of some milliseconds is some tens of polls, so that other threads and tasks get their turn meanwhile.
const POLL: Duration = Duration::from_micros(200);

/// Most polls for which a session is busy.
const LONGEST_BUSY: usize = 4;

/// Most operations after which a write that was reported as timed out takes effect.
const LATEST: usize = 40;

/// Sets `kind` apart from operations when dice are asked for.
const DELIVERIES: u64 = 1 << 63;

/// An accepted operation, without its buffer.
struct Accepted {
    token: Token,
    verb: Verb,
    at: SlabPos,
    deadline: Duration,
    /// How long its report is held back once it is done.
    after: Duration,
    /// What happens to it when it is done.
    ending: Ending,
}

enum Ending {
    /// Nothing.
    Well,
    /// No answer comes.
    Silence,
    /// A read is damaged.
    Damaged(Damage, Kind),
    /// A read fills only a part; the rest is what it was.
    Short { tail: Vec<u8> },
}

/// What the session behind has in hand.
enum Sent {
    /// An operation of the caller. With `instead`, another buffer was sent in place of the caller's.
    Callers { accepted: Accepted, instead: Option<IoBuf> },
    /// A fault's own: nobody asks what becomes of it.
    Faults,
}

/// A session that goes wrong.
pub(super) struct FaultySession {
    server: Arc<FaultyServer>,
    inner: Box<dyn Session>,
    number: u64,
    /// Fates asked for so far.
    asked: u64,
    delivered: u64,
    /// How often the server had gone away when this was opened.
    deaths: u64,
    origin: Option<Instant>,
    now: Duration,
    busy: usize,
    in_flight: usize,
    next_token: u64,
    /// Of what is sent: operations of faults.
    own: usize,
    held: Vec<(Duration, Accepted, IoBuf)>,
    sent: HashMap<u64, Sent>,
    silent: Vec<(Accepted, IoBuf)>,
    ripe: Vec<(Duration, Completion)>,
    arrived: Vec<Completion>,
    failure: Option<TransportError>,
}

impl FaultySession {
    pub(super) fn new(server: Arc<FaultyServer>, inner: Box<dyn Session>) -> Self {
        let number = server.sessions.fetch_add(1, Ordering::Relaxed);
        let deaths = server.deaths();
        FaultySession {
            server,
            inner,
            number,
            asked: 0,
            delivered: 0,
            deaths,
            origin: None,
            now: Duration::ZERO,
            busy: 0,
            in_flight: 0,
            next_token: 0,
            own: 0,
            held: Vec::new(),
            sent: HashMap::new(),
            silent: Vec::new(),
            ripe: Vec::new(),
            arrived: Vec::new(),
            failure: None,
        }
    }

    fn happened(&self, kind: Kind) {
        self.server.faults.happened(kind);
    }

    /// Ends the session. What the session behind has in hand ends when that one lets go of the buffers.
    fn fail(&mut self, error: TransportError) {
        if self.failure.is_some() {
            return;
        }
        let now = self.now;
        for (_, accepted, buf) in std::mem::take(&mut self.held) {
            self.ripe.push((now, accepted.completion(buf, Err(error.clone()))));
        }
        for (accepted, buf) in std::mem::take(&mut self.silent) {
            self.ripe.push((now, accepted.completion(buf, Err(error.clone()))));
        }
        for (due, completion) in &mut self.ripe {
            *due = now;
            // Done, perhaps, but nobody will hear of it.
            completion.result = Err(error.clone());
        }
        self.failure = Some(error);
    }

    fn notice_death(&mut self) {
        if self.server.deaths() > self.deaths {
            self.fail(TransportError::Lost("an injected outage".into()));
        }
    }

    /// Hands an operation to the session behind, for the caller.
    fn send(&mut self, accepted: Accepted, at: SlabPos, buf: IoBuf, instead: Option<IoBuf>) -> Result<(), Box<Refused>> {
        self.next_token += 1;
        let number = self.next_token;
        if accepted.verb == Verb::Write {
            self.server.note_write(at, buf.as_slice());
        }
        let Some(_lent) = self.server.while_lent(at.slab) else {
            let error = TransportError::Refused(format!("slab {} has been returned", at.slab.0));
            self.ripe.push((self.now, accepted.completion(instead.unwrap_or(buf), Err(error))));
            return Ok(());
        };
        match self.inner.submit(Op { token: Token(number), verb: accepted.verb, at, buf }) {
            Submit::Accepted => {
                self.sent.insert(number, Sent::Callers { accepted, instead });
                Ok(())
            }
            Submit::Busy(op) => Err(Box::new(Refused { accepted, buf: instead.unwrap_or(op.buf), error: None })),
            Submit::Failed(op, error) => Err(Box::new(Refused { accepted, buf: instead.unwrap_or(op.buf), error: Some(error) })),
        }
    }

    /// Hands an operation to the session behind that no caller asked for. False if it takes none now.
    fn send_own(&mut self, verb: Verb, at: SlabPos, bytes: Vec<u8>) -> bool {
        self.next_token += 1;
        let number = self.next_token;
        if verb == Verb::Write {
            self.server.note_write(at, &bytes);
        }
        let Some(_lent) = self.server.while_lent(at.slab) else { return true };
        let sent = matches!(self.inner.submit(Op { token: Token(number), verb, at, buf: IoBuf::from(bytes) }), Submit::Accepted);
        if sent {
            self.sent.insert(number, Sent::Faults);
            self.own += 1;
        }
        sent
    }

    /// Another place for as many bytes, if the slab has one.
    fn another_place(&self, at: SlabPos, len: usize, dice: &mut Dice) -> Option<SlabPos> {
        let places = self.server.slab_bytes.checked_sub(len)? / FAR_UNIT + 1;
        let offset = (dice.below(places) * FAR_UNIT) as u32;
        (offset != at.offset).then_some(SlabPos { slab: at.slab, offset })
    }

    /// Does with an accepted operation what its fate says. `Err`: the session behind takes nothing now.
    fn carry_out(
        &mut self,
        mut accepted: Accepted,
        mut buf: IoBuf,
        kind: Option<Kind>,
        mut dice: Dice,
    ) -> Result<(), Box<Refused>> {
        let (at, len) = (accepted.at, buf.len());
        let mut counted = kind;
        match kind {
            Some(Kind::LostRequest) => {
                self.silent.push((accepted, buf));
                self.happened(Kind::LostRequest);
                return Ok(());
            }
            Some(Kind::LateWrite) => {
                self.server.put_off(at, buf.as_slice().to_vec(), 1 + dice.below(LATEST));
                self.silent.push((accepted, buf));
                self.happened(Kind::LateWrite);
                return Ok(());
            }
            Some(Kind::LostReply) => accepted.ending = Ending::Silence,
            Some(Kind::LostWrite) => {
                let due = self.now + accepted.after;
                self.ripe.push((due, accepted.completion(buf, Ok(()))));
                self.happened(Kind::LostWrite);
                return Ok(());
            }
            Some(Kind::FlippedWrite) => {
                let mut bytes = buf.as_slice().to_vec();
                bytes[dice.below(len)] ^= 1 << dice.below(8);
                self.send(accepted, at, IoBuf::from(bytes), Some(buf))?;
                self.happened(Kind::FlippedWrite);
                return Ok(());
            }
            Some(Kind::ShortWrite) if len > 1 => {
                let bytes = buf.as_slice()[..1 + dice.below(len - 1)].to_vec();
                self.send(accepted, at, IoBuf::from(bytes), Some(buf))?;
                self.happened(Kind::ShortWrite);
                return Ok(());
            }
            Some(Kind::TornWrite) => {
                let part = dice.below(len);
                if part > 0 && !self.send_own(Verb::Write, at, buf.as_slice()[..part].to_vec()) {
                    return Err(Box::new(Refused { accepted, buf, error: None }));
                }
                self.happened(Kind::TornWrite);
                self.silent.push((accepted, buf));
                self.fail(TransportError::Lost("an injected reset in the middle of a write".into()));
                return Ok(());
            }
            Some(Kind::FlippedRead) => {
                let damage = Damage::Flip { byte: dice.below(len), mask: 1 << dice.below(8) };
                accepted.ending = Ending::Damaged(damage, Kind::FlippedRead);
                counted = None;
            }
            Some(Kind::ZeroedRead) => {
                accepted.ending = Ending::Damaged(Damage::Zero, Kind::ZeroedRead);
                counted = None;
            }
            Some(Kind::StaleRead) => {
                accepted.ending = Ending::Damaged(Damage::Stale, Kind::StaleRead);
                counted = None;
            }
            Some(Kind::ShortRead) => {
                accepted.ending = Ending::Short { tail: buf.as_slice()[dice.below(len)..].to_vec() };
                counted = None;
            }
            Some(Kind::MisplacedRead) => match self.another_place(at, len, &mut dice) {
                Some(other) => {
                    self.send(accepted, other, buf, None)?;
                    self.happened(Kind::MisplacedRead);
                    return Ok(());
                }
                None => counted = None,
            },
            Some(Kind::Duplicate | Kind::MisplacedWrite) | None => {}
            Some(other) => {
                debug_assert!(matches!(other, Kind::ShortWrite), "{other:?} is not carried out here");
                counted = None;
            }
        }
        // A copy for what is sent beside the operation itself, which goes first: only with it accepted has anything happened.
        let beside = match kind {
            Some(Kind::Duplicate) => Some((at, buf.as_mut_slice().to_vec())),
            Some(Kind::MisplacedWrite) => self.another_place(at, len, &mut dice).map(|other| (other, buf.as_slice().to_vec())),
            _ => None,
        };
        let verb = accepted.verb;
        self.send(accepted, at, buf, None)?;
        if matches!(kind, Some(Kind::Duplicate | Kind::MisplacedWrite)) {
            counted = beside.filter(|(at, bytes)| self.send_own(verb, *at, bytes.clone())).and(kind);
        }
        if let Some(kind) = counted {
            self.happened(kind);
        }
        Ok(())
    }

    /// Hands what was held back long enough to the session behind.
    fn send_held(&mut self) {
        let now = self.now;
        let mut i = 0;
        while i < self.held.len() {
            if self.held[i].0 > now {
                i += 1;
                continue;
            }
            let (due, accepted, buf) = self.held.remove(i);
            let at = accepted.at;
            if let Err(refused) = self.send(accepted, at, buf, None) {
                let Refused { accepted, buf, error } = *refused;
                match error {
                    Some(error) => self.ripe.push((now, accepted.completion(buf, Err(error)))),
                    None => {
                        self.held.insert(i, (due, accepted, buf));
                        return;
                    }
                }
            }
        }
    }

    /// The session behind has completed something.
    fn arrive(&mut self, completion: Completion) {
        let Completion { token, buf, mut result, .. } = completion;
        let (accepted, instead) = match self.sent.remove(&token.0) {
            Some(Sent::Callers { accepted, instead }) => (accepted, instead),
            Some(Sent::Faults) => {
                self.own -= 1;
                return;
            }
            None => return,
        };
        let mut buf = instead.unwrap_or(buf);
        if let Some(failure) = &self.failure {
            result = Err(failure.clone());
        }
        if result.is_ok() {
            match &accepted.ending {
                Ending::Well => {}
                Ending::Silence => {
                    self.silent.push((accepted, buf));
                    return;
                }
                Ending::Damaged(damage, kind) => {
                    if damage_bytes(&self.server, accepted.at, *damage, buf.as_mut_slice()) {
                        self.happened(*kind);
                    }
                }
                Ending::Short { tail } => {
                    let keep = buf.len() - tail.len();
                    if buf.as_slice()[keep..] != **tail {
                        buf.as_mut_slice()[keep..].copy_from_slice(tail);
                        self.happened(Kind::ShortRead);
                    }
                }
            }
        }
        let due = if self.failure.is_some() { self.now } else { (self.now + accepted.after).min(accepted.deadline) };
        self.ripe.push((due, accepted.completion(buf, result)));
    }

    /// Ends what nobody answers.
    fn expire(&mut self) {
        let (now, after) = (self.now, self.server.faults.plan.op_timeout);
        let (late, silent) = std::mem::take(&mut self.silent).into_iter().partition(|(accepted, _)| accepted.deadline <= now);
        self.silent = silent;
        let late: Vec<(Accepted, IoBuf)> = late;
        for (accepted, buf) in late {
            let what = match accepted.verb {
                Verb::Read => "a read",
                Verb::Write => "a write",
            };
            self.ripe.push((now, accepted.completion(buf, Err(TransportError::Timeout { what, after }))));
        }
    }

    fn deliver(&mut self, done: &mut Vec<Completion>) {
        // What a fault sent beside an operation is over before that one is: its slab may be returned the moment it is reported.
        if self.own > 0 {
            return;
        }
        let now = self.now;
        let (mut due, ripe): (Vec<_>, Vec<_>) = std::mem::take(&mut self.ripe).into_iter().partition(|(due, _)| *due <= now);
        self.ripe = ripe;
        if due.len() > 1 {
            let mut dice = self.server.faults.dice([self.server.number, self.number, DELIVERIES | self.delivered]);
            if dice.happens(self.server.faults.rates().of(Kind::Reorder)) {
                let by = 1 + dice.below(due.len() - 1);
                due.rotate_left(by);
                self.happened(Kind::Reorder);
            }
        }
        self.delivered += due.len() as u64;
        self.in_flight -= due.len();
        done.extend(due.into_iter().map(|(_, completion)| completion));
    }

    /// When the next thing happens that does not depend on the session behind.
    fn next_event(&self) -> Option<Duration> {
        let held = self.held.iter().map(|(due, ..)| *due);
        let silent = self.silent.iter().map(|(accepted, _)| accepted.deadline);
        let ripe = self.ripe.iter().map(|(due, _)| *due);
        held.chain(silent).chain(ripe).min()
    }
}

impl Session for FaultySession {
    fn submit(&mut self, op: Op) -> Submit {
        self.notice_death();
        if let Some(failure) = &self.failure {
            return Submit::Failed(op, failure.clone());
        }
        if self.busy > 0 || self.in_flight >= MAX_IN_FLIGHT {
            return Submit::Busy(op);
        }
        for (at, bytes) in self.server.take_late() {
            self.send_own(Verb::Write, at, bytes);
        }
        let faults = Arc::clone(&self.server.faults);
        let (plan, rates) = (faults.plan, faults.rates());
        let mut dice = faults.dice([self.server.number, self.number, self.asked]);
        self.asked += 1;
        if dice.happens(rates.of(Kind::Busy)) {
            self.busy = 1 + dice.below(LONGEST_BUSY);
            self.happened(Kind::Busy);
            return Submit::Busy(op);
        }
        let Op { token, verb, at, buf } = op;
        let possible = !buf.is_empty() && buf.len() <= crate::transport::MAX_OP_BYTES;
        let Fate { mut kind, before, after, mut dice } = Fate::of_operation(dice, verb, rates);
        let part = |thousandths: u32| plan.longest_delay * thousandths / 1000;
        let mut accepted =
            Accepted { token, verb, at, deadline: self.now + plan.op_timeout, after: part(after), ending: Ending::Well };
        if !possible {
            // For the session behind to refuse.
            kind = None;
        } else if verb == Verb::Read
            && let Some(damage) = faults.take_ordered()
        {
            kind = None;
            accepted.ending = match damage {
                Damage::None => Ending::Well,
                Damage::Misplaced => {
                    kind = Some(Kind::MisplacedRead);
                    Ending::Well
                }
                Damage::Short { bytes } => Ending::Short { tail: buf.as_slice()[bytes.min(buf.len())..].to_vec() },
                Damage::Flip { .. } => Ending::Damaged(damage, Kind::FlippedRead),
                Damage::Zero => Ending::Damaged(damage, Kind::ZeroedRead),
                Damage::Stale => Ending::Damaged(damage, Kind::StaleRead),
            };
        }
        if let Some(Kind::Reset | Kind::Outage) = kind {
            let kind = kind.expect("looked at just now");
            self.happened(kind);
            let error = TransportError::Lost(format!("an injected fault ({kind:?})"));
            if kind == Kind::Outage {
                self.server.go_away(1 + dice.below(plan.longest_outage as usize) as u32);
            }
            let taken = dice.below(2) == 0;
            if !taken {
                self.fail(error.clone());
                return Submit::Failed(Op { token, verb, at, buf }, error);
            }
            self.silent.push((accepted, buf));
            self.in_flight += 1;
            self.fail(error);
            return Submit::Accepted;
        }
        if after > 0 || before > 0 && kind.is_none() {
            self.happened(Kind::Delay);
        }
        if before > 0 && kind.is_none() {
            self.held.push((self.now + part(before), accepted, buf));
            self.in_flight += 1;
            return Submit::Accepted;
        }
        match self.carry_out(accepted, buf, kind, dice) {
            Ok(()) => {
                self.in_flight += 1;
                Submit::Accepted
            }
            Err(refused) => {
                let Refused { accepted, buf, error } = *refused;
                let op = Op { token: accepted.token, verb, at, buf };
                match error {
                    None => Submit::Busy(op),
                    Some(error) => {
                        self.fail(error.clone());
                        Submit::Failed(op, error)
                    }
                }
            }
        }
    }

    fn poll(&mut self, now: Instant, done: &mut Vec<Completion>) -> Progress {
        if self.server.faults.plan.clock == Clock::Real {
            let origin = *self.origin.get_or_insert(now);
            self.now = self.now.max(now.saturating_duration_since(origin));
        }
        self.notice_death();
        self.busy = self.busy.saturating_sub(1);
        if self.failure.is_none() {
            self.send_held();
        }
        let mut arrived = std::mem::take(&mut self.arrived);
        let mut progress = self.inner.poll(now, &mut arrived);
        arrived.drain(..).for_each(|completion| self.arrive(completion));
        self.arrived = arrived;
        if let Some(failure) = self.inner.failure() {
            self.fail(failure);
        }
        self.expire();
        let before = done.len();
        self.deliver(done);
        if done.len() > before {
            progress = Progress::Moved;
        }
        if progress == Progress::Idle && self.server.faults.plan.clock == Clock::Virtual {
            self.now += POLL;
        }
        progress
    }

    fn park(&mut self, at_most: Duration) {
        let next = self.next_event();
        let inner_works = self.inner.in_flight() > 0;
        match (self.server.faults.plan.clock, next) {
            (Clock::Virtual, Some(next)) if !inner_works => self.now = self.now.max(next),
            (Clock::Virtual, Some(_)) => self.inner.park(at_most.min(POLL)),
            (Clock::Real, Some(next)) => {
                let wait = at_most.min(next.saturating_sub(self.now));
                if inner_works {
                    self.inner.park(wait);
                } else {
                    std::thread::sleep(wait);
                }
            }
            (_, None) => self.inner.park(at_most),
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn failure(&self) -> Option<TransportError> {
        self.failure.clone()
    }
}

/// An operation that the session behind did not take.
struct Refused {
    accepted: Accepted,
    buf: IoBuf,
    /// `None` if it is busy.
    error: Option<TransportError>,
}

impl Accepted {
    fn completion(self, buf: IoBuf, result: Result<(), TransportError>) -> Completion {
        Completion { token: self.token, verb: self.verb, buf, result }
    }
}

/// Damages what was read from `at`. Whether anything is different now.
pub(super) fn damage_bytes(server: &FaultyServer, at: SlabPos, damage: Damage, bytes: &mut [u8]) -> bool {
    match damage {
        Damage::Flip { byte, mask } => match bytes.get_mut(byte) {
            Some(hit) => {
                *hit ^= mask;
                mask != 0
            }
            None => false,
        },
        Damage::Zero => {
            let differs = bytes.iter().any(|byte| *byte != 0);
            bytes.fill(0);
            differs
        }
        Damage::Stale => {
            let before = bytes.to_vec();
            server.recall(at, bytes);
            *bytes != *before
        }
        Damage::None | Damage::Misplaced | Damage::Short { .. } => false,
    }
}
