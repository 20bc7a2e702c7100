//! What the faults of one server share between its sessions.
#![forbid(unsafe_code)]

use super::faults::Shared;
use crate::error::TransportError;
use crate::transport::{SlabId, SlabPos};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

/// One server, as its faults see it.
pub(super) struct FaultyServer {
    pub(super) number: u64,
    pub(super) slab_bytes: usize,
    pub(super) faults: Arc<Shared>,
    /// Sessions opened, control operations and mapped accesses made: the numbers by which fates are asked for.
    pub(super) sessions: AtomicU64,
    pub(super) controls: AtomicU64,
    pub(super) accesses: AtomicU64,
    /// How often the server went away; a session that was opened before the last time is dead.
    deaths: AtomicU64,
    state: Mutex<State>,
    /// Slabs that were returned. What is held back for them isn't passed on: the server behind would take it for a breach of the protocol.
    returned: RwLock<HashSet<SlabId>>,
}

#[derive(Default)]
struct State {
    /// Attempts to reach it that are still in vain.
    outage: u32,
    past: HashMap<SlabId, Past>,
    late: Vec<LateWrite>,
}

/// What a slab holds and what each byte of it held before, as far as has been written here. A slab that is lent again is not zeroed here: what was in it the
/// time before is what a server might still have.
struct Past {
    now: Vec<u8>,
    before: Vec<u8>,
}

/// A write that was reported as timed out.
struct LateWrite {
    at: SlabPos,
    bytes: Vec<u8>,
    /// Operations until it takes effect.
    countdown: usize,
    since: Instant,
}

impl FaultyServer {
    pub(super) fn new(number: u64, slab_bytes: usize, faults: Arc<Shared>) -> Self {
        FaultyServer {
            number,
            slab_bytes,
            faults,
            sessions: AtomicU64::new(0),
            controls: AtomicU64::new(0),
            accesses: AtomicU64::new(0),
            deaths: AtomicU64::new(0),
            state: Mutex::default(),
            returned: RwLock::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often it went away so far.
    pub(super) fn deaths(&self) -> u64 {
        self.deaths.load(Ordering::SeqCst)
    }

    /// It goes away, for `attempts` attempts to reach it.
    pub(super) fn go_away(&self, attempts: u32) {
        self.lock().outage = attempts;
        self.deaths.fetch_add(1, Ordering::SeqCst);
    }

    /// An attempt to reach it.
    pub(super) fn reach(&self) -> Result<(), TransportError> {
        let mut state = self.lock();
        if state.outage == 0 || !self.faults.is_on() {
            state.outage = 0;
            return Ok(());
        }
        state.outage -= 1;
        Err(TransportError::Unreachable("an injected outage".into()))
    }

    /// Remembers what a write overwrites.
    pub(super) fn note_write(&self, at: SlabPos, bytes: &[u8]) {
        let mut state = self.lock();
        let past = state.past.entry(at.slab).or_insert_with(|| Past::zero(self.slab_bytes));
        let range = at.offset as usize..at.offset as usize + bytes.len();
        // A range that a slab can't hold is for the server to refuse.
        if let (Some(now), Some(before)) = (past.now.get_mut(range.clone()), past.before.get_mut(range)) {
            before.copy_from_slice(now);
            now.copy_from_slice(bytes);
        }
    }

    /// Fills `into` with what was at `at` before it was last written.
    pub(super) fn recall(&self, at: SlabPos, into: &mut [u8]) {
        let state = self.lock();
        let range = at.offset as usize..at.offset as usize + into.len();
        match state.past.get(&at.slab).and_then(|past| past.before.get(range)) {
            Some(before) => into.copy_from_slice(before),
            None => into.fill(0),
        }
    }

    /// A write is to take effect after `countdown` further operations.
    pub(super) fn put_off(&self, at: SlabPos, bytes: Vec<u8>, countdown: usize) {
        self.lock().late.push(LateWrite { at, bytes, countdown, since: Instant::now() });
    }

    /// An operation is made: the writes that were put off until now.
    pub(super) fn take_late(&self) -> Vec<(SlabPos, Vec<u8>)> {
        let mut state = self.lock();
        if state.late.is_empty() {
            return Vec::new();
        }
        let latest = self.faults.plan.latest;
        state.late.retain(|late| late.since.elapsed() < latest);
        for late in &mut state.late {
            late.countdown = late.countdown.saturating_sub(1);
        }
        let (due, waiting) = std::mem::take(&mut state.late).into_iter().partition(|late| late.countdown == 0);
        state.late = waiting;
        let due: Vec<LateWrite> = due;
        due.into_iter().map(|late| (late.at, late.bytes)).collect()
    }

    /// A slab has been lent.
    pub(super) fn lent(&self, slab: SlabId) {
        self.returned.write().unwrap_or_else(PoisonError::into_inner).remove(&slab);
    }

    /// A slab goes back, by `tell`: what comes late for it is refused, and nothing for it is being passed on meanwhile.
    pub(super) fn give_back<T>(&self, slab: SlabId, tell: impl FnOnce() -> T) -> T {
        self.lock().late.retain(|late| late.at.slab != slab);
        let mut returned = self.returned.write().unwrap_or_else(PoisonError::into_inner);
        returned.insert(slab);
        tell()
    }

    /// Keeps a slab from being returned for as long as the guard lives; `None` if it has been.
    pub(super) fn while_lent(&self, slab: SlabId) -> Option<RwLockReadGuard<'_, HashSet<SlabId>>> {
        let returned = self.returned.read().unwrap_or_else(PoisonError::into_inner);
        (!returned.contains(&slab)).then_some(returned)
    }
}

impl Past {
    fn zero(bytes: usize) -> Self {
        Past { now: vec![0; bytes], before: vec![0; bytes] }
    }
}
