//! Who runs rounds, and when.
//!
//! The evacuator's thread sleeps until the heap falls below its low watermark, then runs rounds until the high one is reached. It does not
//! sleep between rounds while the reserve is touched, and gives way to the mutators (one yield a round) while it is not: pressure
//! decides how much processor time it takes. A thread that needs memory and is in no scope runs rounds itself if nobody else does.
//!
//! The thread is woken by an [alarm](farptr_runtime::alarm). Rounds are [turns](farptr_runtime::turns): who holds one is the evacuator in the
//! sense of [`farptr_runtime::word`], and who waits for room waits for the end of one that freed something.
#![forbid(unsafe_code)]

use crate::cleaner;
use crate::far_log::FarLog;
use crate::round::{self, GRACE_LIMIT, Mercy, Outcome, RoundState};
use farptr_runtime::alarm::Alarm;
use farptr_runtime::memory::{Memory, Relief, Waiting};
use farptr_runtime::scope::in_scope;
use farptr_runtime::turns::{Turn, Turns};
use farptr_runtime::{Error, Result};
use std::sync::{Arc, Weak};
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
    /// Rounds that gave hope that the next might free something.
    fruitful: u64,
}

/// Evacuates one memory.
#[derive(Debug, Default)]
pub struct Evacuator {
    pub(crate) turns: Turns<State>,
    alarm: Alarm,
}

impl Evacuator {
    /// An evacuator of `memory` without a thread of its own: rounds run on the threads that wait for memory, and in [`Evacuator::catch_up`].
    /// What it does depends on what the program does only, not on when a thread gets its turn.
    pub fn without_thread(memory: &Memory) -> Arc<Self> {
        let evacuator = Arc::new(Evacuator::default());
        memory.set_relief(Arc::<Evacuator>::clone(&evacuator));
        evacuator
    }

    /// Starts evacuating `memory`. The thread ends when the memory is gone.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(memory: &Arc<Memory>) -> Result<Arc<Self>> {
        let evacuator = Evacuator::without_thread(memory);
        let (weak, own) = (Arc::downgrade(memory), Arc::clone(&evacuator));
        let spawned = std::thread::Builder::new().name("farptr-evacuate".into()).spawn(move || own.serve(&weak));
        spawned.map_err(|e| Error::Config(format!("can't start the evacuator's thread: {e}")))?;
        Ok(evacuator)
    }

    fn serve(&self, memory: &Weak<Memory>) {
        self.alarm.attach();
        loop {
            self.alarm.look();
            {
                let Some(memory) = memory.upgrade() else { return };
                self.catch_up(&memory);
            }
            // Wakes now and then to see whether the memory is gone.
            self.alarm.sleep(Duration::from_millis(100));
        }
    }

    /// If free memory is below the low watermark, runs rounds until the high one is reached, or nothing more can be freed. The caller is in no scope.
    pub fn catch_up(&self, memory: &Arc<Memory>) {
        let wanted = memory.take_wanted().div_ceil(memory.heap().segment_bytes());
        if wanted == 0 && !memory.heap().is_low() {
            return;
        }
        // Asked for again after each round: what is kept for scopes may have become less, and evacuating up to the old mark would cost what is hot its place.
        let watermarks = || memory.heap().watermarks();
        let is_enough =
            |available: usize| available >= watermarks().high.max(wanted + watermarks().low).min(memory.heap().capacity());
        let mut barren = 0;
        while !is_enough(memory.heap().available_segments(memory.budget())) && barren < HOPELESS_ROUNDS {
            // The last other owner has gone: nobody needs room any more.
            if Arc::strong_count(memory) == 1 {
                return;
            }
            let outcome = Self::round(memory, &mut self.turns.take());
            if let Some(error) = &outcome.error {
                tracing::warn!(%error, "evacuation can't write back; trying again");
            }
            barren = if outcome.is_progress() { 0 } else { barren + 1 };
            if barren > 0 {
                std::thread::park_timeout(PAUSE);
            } else if memory.heap().available_segments(memory.budget()) > watermarks().low {
                std::thread::yield_now();
            }
        }
        if wanted > 0 && barren >= HOPELESS_ROUNDS {
            memory.forget_group();
        }
        memory.heap().clear_low();
    }

    fn round(memory: &Memory, state: &mut State) -> Outcome {
        let mercy = if state.barren < MERCIFUL_ROUNDS { Mercy::Spare } else { Mercy::None };
        let cleaned = cleaner::clean(memory, &mut state.log);
        let mut outcome = round::run(memory, &mut state.round, &mut state.log, mercy, GRACE_LIMIT.min(memory.timeout()));
        if outcome.victims == 0 {
            // A small heap may have everything in open segments.
            memory.heap().seal_all();
        }
        let heap = memory.heap();
        if state.round.has_limbo() && heap.available_segments(memory.budget()) <= heap.watermarks().low {
            outcome.freed_segments += state.round.free_limbo(memory);
        }
        state.barren = if outcome.has_freed() { 0 } else { state.barren.saturating_add(1) };
        match cleaned {
            Ok(gained) => outcome.gained_far = gained,
            Err(error) => drop(outcome.error.get_or_insert(error)),
        }
        if outcome.is_hopeful() {
            state.fruitful += 1;
        } else if outcome.short_of_far {
            outcome.error.get_or_insert_with(|| memory.far().full_error());
        }
        outcome
    }

    /// Frees everything that is dead, and gives it back to the system and to the servers. Gives up if others, whom a scope holds back, are at it for longer than the memory's timeout.
    ///
    /// # Errors
    /// If a server can't be told that a slab is returned.
    pub fn trim(&self, memory: &Memory) -> Result<()> {
        let Some(mut state) = self.turn_unless_held_back(memory) else { return Ok(()) };
        round::sweep(memory, &mut state.round);
        memory.drop_spares();
        memory.heap().give_back_all(memory.budget());
        memory.slot_table().trim(memory.budget());
        state.log.return_free_slabs(memory)
    }

    /// A turn; none if others' turns have taken the memory's timeout because a scope holds them back.
    fn turn_unless_held_back(&self, memory: &Memory) -> Option<Turn<'_, State>> {
        loop {
            let turn = self.turns.take_until(Instant::now() + memory.timeout());
            if turn.is_some() || memory.overdue_scope().is_some() {
                return turn;
            }
        }
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
        let Some(mut state) = self.turn_unless_held_back(memory) else { return Ok(()) };
        memory.heap().seal_all();
        // Twice around: objects that were in use at the first look, and what has been put back.
        let rounds = 2 * memory.heap().capacity() + memory.large_objects().len() + 2;
        for round in 1..=rounds {
            state.barren = MERCIFUL_ROUNDS;
            let outcome = Self::round(memory, &mut state);
            if let Some(error) = outcome.error {
                return Err(error);
            }
            if outcome.short_of_far && round == rounds {
                return Err(memory.far().full_error());
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
        self.alarm.ring();
    }

    fn assist(&self, memory: &Memory) -> bool {
        let Some(mut state) = self.turns.try_take() else { return false };
        Self::round(memory, &mut state).is_progress()
    }

    #[cfg(farptr_zeal)]
    fn zeal(&self, memory: &Memory, pass: farptr_runtime::scope::zeal::Pass) -> farptr_runtime::scope::zeal::Ended {
        self.zealous_pass(memory, pass)
    }

    fn relieve(&self, memory: &Memory, bytes: usize, waiting: &mut Waiting) -> Result<()> {
        self.kick();
        let Some(mut state) = self.turns.try_take() else {
            self.turns.wait(PAUSE);
            return Ok(());
        };
        let outcome = Self::round(memory, &mut state);
        let barren = waiting.after_round(state.fruitful);
        if outcome.is_hopeful() {
            return Ok(());
        }
        // Who waits meanwhile pauses as long as after a barren round of its own.
        state.end_quietly();
        let patience = match outcome.error {
            // As soon as the scope ends something leaves. The caller has a deadline.
            None | Some(Error::FarMemoryFull { .. }) if outcome.scopes_too_long => u32::MAX,
            // What is dirty can't leave; what is clean may be anywhere in the queues.
            None | Some(Error::FarMemoryFull { .. }) => HOPELESS_ROUNDS,
            Some(_) => 0,
        };
        if barren > patience {
            return Err(round::reason(outcome, memory, bytes));
        }
        std::thread::sleep(PAUSE.min(BARREN_PAUSE * barren));
        Ok(())
    }
}
