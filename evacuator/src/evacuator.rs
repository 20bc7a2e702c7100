//! Who runs rounds, and when.
//!
//! The evacuator's thread sleeps until the heap falls below its low watermark, then runs rounds until the high one is reached. It does not
//! sleep between rounds while the reserve is touched, and gives way to the mutators (one yield a round) while it is not: pressure
//! decides how much processor time it takes. A thread that needs memory and is in no scope runs rounds itself if the lock is free.
#![forbid(unsafe_code)]

use crate::cleaner;
use crate::far_log::FarLog;
use crate::round::{self, GRACE_LIMIT, Mercy, Outcome, RoundState};
use farptr_runtime::memory::{Memory, Relief};
use farptr_runtime::scope::in_scope;
use farptr_runtime::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Rounds without progress after which hot objects are not spared any more.
const MERCIFUL_ROUNDS: u32 = 2;

/// Rounds without progress after which a thread that waits for memory is told that there is none: enough to look at every segment twice. With
/// short pauses between them, some tens of milliseconds.
const HOPELESS_ROUNDS: u32 = 40;

/// Pause of a thread that waits for memory after a round that freed nothing, for each such round in a row.
const BARREN_PAUSE: Duration = Duration::from_micros(50);

/// Pause of the thread after a round that freed nothing, or failed.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) log: FarLog,
    pub(crate) round: RoundState,
    /// Rounds since something was freed.
    barren: u32,
}

/// Evacuates one memory.
#[derive(Debug)]
pub struct Evacuator {
    state: Mutex<State>,
    awake: AtomicBool,
    freed: (Mutex<()>, Condvar),
    thread: Mutex<Option<Thread>>,
}

impl Evacuator {
    /// Starts evacuating `memory`. The thread ends when the memory is gone.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(memory: &Arc<Memory>) -> Result<Arc<Self>> {
        let evacuator = Arc::new(Evacuator {
            state: Mutex::default(),
            awake: AtomicBool::new(false),
            freed: (Mutex::new(()), Condvar::new()),
            thread: Mutex::new(None),
        });
        memory.set_relief(Arc::<Evacuator>::clone(&evacuator));
        let (weak, own) = (Arc::downgrade(memory), Arc::clone(&evacuator));
        let spawned = std::thread::Builder::new().name("farptr-evacuate".into()).spawn(move || own.serve(&weak));
        let handle = spawned.map_err(|e| Error::Config(format!("can't start the evacuator's thread: {e}")))?;
        *evacuator.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle.thread().clone());
        Ok(evacuator)
    }

    fn serve(&self, memory: &Weak<Memory>) {
        loop {
            // A kick that comes after this is seen by the park; one that comes before, by the look at the heap.
            self.awake.store(false, Ordering::SeqCst);
            {
                let Some(memory) = memory.upgrade() else { return };
                self.catch_up(&memory);
            }
            // Wakes now and then to see whether the memory is gone.
            if !self.awake.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(100));
            }
        }
    }

    /// Runs rounds until the high watermark is reached, or nothing more can be freed.
    fn catch_up(&self, memory: &Arc<Memory>) {
        let watermarks = memory.heap().watermarks();
        let wanted = memory.take_wanted().div_ceil(memory.heap().segment_bytes());
        if wanted == 0 && !memory.heap().is_low() {
            return;
        }
        let enough = watermarks.high.max(wanted + watermarks.low).min(memory.heap().capacity());
        let mut barren = 0;
        while memory.heap().available_segments(memory.budget()) < enough && barren < HOPELESS_ROUNDS {
            // The last other owner has gone: nobody needs room any more.
            if Arc::strong_count(memory) == 1 {
                return;
            }
            let outcome = self.round(memory, &mut self.lock());
            self.tell();
            if let Some(error) = &outcome.error {
                tracing::warn!(%error, "evacuation can't write back; trying again");
            }
            barren = if outcome.is_progress() { 0 } else { barren + 1 };
            if barren > 0 {
                std::thread::park_timeout(PAUSE);
            } else if memory.heap().available_segments(memory.budget()) > watermarks.low {
                std::thread::yield_now();
            }
        }
        memory.heap().clear_low();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a round is a broken invariant; what was marked then stays marked, which mutators can live with.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn round(&self, memory: &Memory, state: &mut State) -> Outcome {
        let mercy = if state.barren < MERCIFUL_ROUNDS { Mercy::Spare } else { Mercy::None };
        let cleaned = cleaner::clean(memory, &mut state.log);
        let mut outcome = round::run(memory, &mut state.round, &mut state.log, mercy, GRACE_LIMIT);
        if outcome.victims == 0 {
            // A small heap may have everything in open segments.
            memory.heap().seal_all();
        }
        let heap = memory.heap();
        if state.round.has_limbo() && heap.available_segments(memory.budget()) <= heap.watermarks().low {
            outcome.freed_segments += state.round.free_limbo(memory);
        }
        state.barren = if outcome.is_progress() { 0 } else { state.barren.saturating_add(1) };
        outcome.error = outcome.error.or(cleaned.err());
        outcome
    }

    pub(crate) fn tell(&self) {
        let _guard = self.freed.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.freed.1.notify_all();
    }

    /// Frees everything that is dead, and gives it back to the system and to the servers.
    ///
    /// # Errors
    /// If a server can't be told that a slab is returned.
    pub fn trim(&self, memory: &Memory) -> Result<()> {
        let mut state = self.lock();
        round::sweep(memory, &mut state.round);
        memory.heap().give_back_all(memory.budget());
        memory.slot_table().trim(memory.budget());
        state.log.return_free_slabs(memory)
    }

    /// Runs rounds until every object that can leave has left. Gives up on what a scope holds back for longer than the memory's timeout; inside a
    /// scope of the calling thread, which would outlast any, it does nothing.
    ///
    /// # Errors
    /// If write-back fails.
    pub fn evacuate_all(&self, memory: &Memory) -> Result<()> {
        if in_scope() {
            return Ok(());
        }
        let deadline = Instant::now() + memory.timeout();
        let mut state = self.lock();
        memory.heap().seal_all();
        // Twice around: objects that were in use at the first look, and what has been put back.
        let rounds = 2 * memory.heap().capacity() + memory.large_objects().len() + 2;
        for _ in 0..rounds {
            state.barren = MERCIFUL_ROUNDS;
            let outcome = self.round(memory, &mut state);
            if let Some(error) = outcome.error {
                return Err(error);
            }
            if outcome.victims == 0 || outcome.scopes_too_long && Instant::now() >= deadline {
                break;
            }
        }
        state.round.free_limbo(memory);
        Ok(())
    }
}

impl Relief for Evacuator {
    fn kick(&self) {
        // Relaxed first: while the evacuator is at work this is all that a kick costs.
        if !self.awake.load(Ordering::Relaxed)
            && !self.awake.swap(true, Ordering::SeqCst)
            && let Some(thread) = &*self.thread.lock().unwrap_or_else(PoisonError::into_inner)
        {
            thread.unpark();
        }
    }

    fn assist(&self, memory: &Memory) -> bool {
        let Some(mut state) = self.try_lock() else { return false };
        let progress = self.round(memory, &mut state).is_progress();
        drop(state);
        self.tell();
        progress
    }

    #[cfg(farptr_zeal)]
    fn zeal(&self, memory: &Memory, pass: farptr_runtime::scope::zeal::Pass) -> farptr_runtime::scope::zeal::Ended {
        self.zealous_pass(memory, pass)
    }

    fn relieve(&self, memory: &Memory, bytes: usize) -> Result<()> {
        self.kick();
        let Some(mut state) = self.try_lock() else {
            let guard = self.freed.0.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = self.freed.1.wait_timeout(guard, PAUSE);
            return Ok(());
        };
        let outcome = self.round(memory, &mut state);
        // Of all who run rounds: as long as anyone frees something, the caller's turn may come.
        let barren = state.barren;
        drop(state);
        if outcome.is_progress() {
            self.tell();
            return Ok(());
        }
        let patience = match outcome.error {
            // What is dirty can't leave; what is clean may be anywhere in the queues.
            None | Some(Error::FarMemoryFull { .. }) => HOPELESS_ROUNDS,
            Some(_) => 0,
        };
        if barren > patience {
            return round::reason(outcome, memory, bytes);
        }
        std::thread::sleep(PAUSE.min(BARREN_PAUSE * barren));
        Ok(())
    }
}
