//! One memory, its evacuator in parts, and a lender that fails on command.
//!
//! The parts are those that the evacuator's thread would put together (`farptr_evacuator::evacuator`); here each step is a call.
#![forbid(unsafe_code)]

use crate::lender::{Lender, Order, Trouble};
use crate::meanwhile;
use crate::objects::{Action, Objects};
use farptr_evacuator::far_log::FarLog;
use farptr_evacuator::round::{self, Mercy, Outcome, RoundState};
use farptr_evacuator::{cleaner, round::reason};
use farptr_runtime::addr::FAR_SEGMENT_BYTES;
use farptr_runtime::far::Server;
use farptr_runtime::memory::{Memory, MemoryConfig, Relief, Stats, Waiting};
use farptr_runtime::{Error, Result};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Rounds without progress after which hot objects leave as well, and after which there is no hope: as in the evacuator.
const MERCIFUL_ROUNDS: u32 = 2;
const HOPELESS_ROUNDS: u32 = 40;

/// What may be used beside one and a half times what is alive: the two far segments that are being filled, and the four that may be dead without
/// being worth a pass.
const USED_SLACK: u64 = 6 * FAR_SEGMENT_BYTES as u64;

/// How a world is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) budget: usize,
    pub(crate) slab_segments: u32,
    pub(crate) far_capacity: u64,
    pub(crate) order: Order,
    pub(crate) is_immediate: bool,
}

/// A step of a test.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// A mutator's.
    Act(Action),
    /// A mutator's, after so many calls of the lender by a round or the cleaner.
    Between(u8, Action),
    /// Trouble, after so many calls that it could strike at.
    Trouble(u8, Trouble),
    Round(Mercy),
    Clean,
    Seal,
    Sweep,
    FreeLimbo,
    EvacuateAll,
    Trim,
}

#[derive(Debug, Default)]
struct State {
    log: FarLog,
    round: RoundState,
    barren: u32,
}

/// The evacuator, without a thread: a mutator that needs room runs a round.
#[derive(Debug, Default)]
struct Rounds(Mutex<State>);

impl Rounds {
    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.0.try_lock().expect("steps of a test are one after the other"))
    }
}

impl Relief for Rounds {
    fn kick(&self) {}

    fn assist(&self, _: &Memory) -> bool {
        false
    }

    fn relieve(&self, memory: &Memory, bytes: usize, _: &mut Waiting) -> Result<()> {
        let Ok(mut state) = self.0.try_lock() else { return Err(memory.out_of_local(bytes, "a round is under way")) };
        let outcome = state.round(memory);
        let patience = match outcome.error {
            None | Some(Error::FarMemoryFull { .. }) => HOPELESS_ROUNDS,
            Some(_) => 0,
        };
        if state.barren > patience { Err(reason(outcome, memory, bytes)) } else { Ok(()) }
    }
}

impl State {
    fn round(&mut self, memory: &Memory) -> Outcome {
        let mercy = if self.barren < MERCIFUL_ROUNDS { Mercy::Spare } else { Mercy::None };
        let cleaned = cleaner::clean(memory, &mut self.log);
        let mut outcome = round::run(memory, &mut self.round, &mut self.log, mercy, round::GRACE_LIMIT);
        if outcome.victims == 0 {
            memory.heap().seal_all();
        }
        outcome.freed_segments += self.round.free_limbo(memory);
        self.barren = if outcome.is_progress() { 0 } else { self.barren + 1 };
        match cleaned {
            Ok(gained) => outcome.gained_far = gained,
            Err(error) => drop(outcome.error.get_or_insert(error)),
        }
        if outcome.short_of_far && !outcome.is_hopeful() {
            outcome.error.get_or_insert_with(|| memory.far().full_error());
        }
        outcome
    }
}

pub(crate) struct World {
    memory: Arc<Memory>,
    rounds: Arc<Rounds>,
    lender: Arc<Lender>,
    objects: Rc<RefCell<Objects>>,
    _meanwhile: meanwhile::Guard,
}

impl World {
    pub(crate) fn new(setting: Setting) -> Self {
        let Setting { budget, slab_segments, far_capacity, order, is_immediate } = setting;
        let lender = Arc::new(Lender::new(far_capacity, slab_segments * FAR_SEGMENT_BYTES as u32, order, is_immediate));
        let transport = Arc::<Lender>::clone(&lender);
        let config = MemoryConfig { local_budget: budget, shards: 1, timeout: Duration::from_secs(20), far_capacity: u64::MAX };
        let memory = Memory::new(config, vec![Server::new(transport)]).unwrap();
        let rounds = Arc::new(Rounds::default());
        memory.set_relief(Arc::<Rounds>::clone(&rounds));
        let objects = Rc::new(RefCell::new(Objects::new(&memory, &lender)));
        World { _meanwhile: meanwhile::over(&objects), memory, rounds, lender, objects }
    }

    pub(crate) fn step(&self, step: &Step) {
        let struck = self.lender.struck();
        let outcome = match step {
            Step::Act(action) => {
                self.objects.borrow_mut().act(action, false);
                Ok(())
            }
            Step::Between(after, action) => {
                meanwhile::schedule(*after, action.clone());
                Ok(())
            }
            Step::Trouble(after, trouble) => {
                self.lender.arm(*trouble, (*after).into());
                Ok(())
            }
            Step::Round(mercy) => self.rounds.with(|state| {
                let outcome = round::run(&self.memory, &mut state.round, &mut state.log, *mercy, round::GRACE_LIMIT);
                assert!(!outcome.scopes_too_long, "nobody is in a scope for long");
                outcome.error.map_or(Ok(()), Err)
            }),
            Step::Clean => self.clean(),
            Step::Seal => {
                self.memory.heap().seal_all();
                Ok(())
            }
            Step::Sweep => {
                self.rounds.with(|state| round::sweep(&self.memory, &mut state.round));
                Ok(())
            }
            Step::FreeLimbo => {
                self.rounds.with(|state| state.round.free_limbo(&self.memory));
                Ok(())
            }
            Step::EvacuateAll => self.evacuate_all(),
            Step::Trim => self.trim(),
        };
        if let Err(error) = outcome {
            let is_struck = self.lender.struck() > struck;
            let is_fair = match error {
                Error::Transport { .. } => is_struck,
                Error::FarMemoryFull { .. } => self.lender.is_full(),
                // A round has no slots left for a large object's pieces.
                Error::OutOfLocalMemory { .. } => self.objects.borrow().may_run_short(),
                _ => false,
            };
            assert!(is_fair, "{step:?}: {error}; {:?}", self.memory.stats());
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.memory.stats()
    }

    /// How many troubles have struck.
    pub(crate) fn troubles(&self) -> u32 {
        self.lender.struck()
    }

    fn clean(&self) -> Result<()> {
        self.rounds.with(|state| cleaner::clean(&self.memory, &mut state.log))?;
        // What is damaged is not cleaned any more.
        if !self.lender.has_garbled() {
            let (used, live) = (self.memory.far().used_bytes(), self.memory.far().live_bytes());
            assert!(used <= live + live / 2 + USED_SLACK, "{used} bytes are used for {live}");
        }
        Ok(())
    }

    fn evacuate_all(&self) -> Result<()> {
        self.memory.heap().seal_all();
        let most = 2 * self.memory.heap().capacity() + self.memory.large_objects().len() + 2;
        for _ in 0..most {
            let outcome = self.rounds.with(|state| {
                state.barren = MERCIFUL_ROUNDS;
                state.round(&self.memory)
            });
            if let Some(error) = outcome.error {
                return Err(error);
            }
            if outcome.victims == 0 {
                break;
            }
        }
        Ok(())
    }

    fn trim(&self) -> Result<()> {
        self.rounds.with(|state| {
            round::sweep(&self.memory, &mut state.round);
            self.memory.heap().give_back_all(self.memory.budget());
            self.memory.slot_table().trim(self.memory.budget());
            state.log.return_free_slabs(&self.memory)
        })
    }

    /// What must hold after every step; with `bytes` every copy of every object is read as well.
    pub(crate) fn check(&self, bytes: bool) {
        self.objects.borrow().check(bytes);
    }

    /// With all trouble over, everything can be read, everything can leave, and nothing is left in the end. `last` sees the world before it goes.
    pub(crate) fn finish(self, last: impl FnOnce(&World)) {
        self.lender.disarm();
        meanwhile::cancel();
        self.check(true);
        let everything = Action::Read { at: 0, count: u16::MAX, hint: farptr_runtime::scope::AccessHint::Normal };
        self.step(&Step::Act(everything));
        let is_full = self.lender.is_full();
        self.step(&Step::EvacuateAll);
        if !is_full && !self.lender.is_full() {
            self.objects.borrow().assert_all_have_left();
        }
        self.check(true);
        self.objects.borrow_mut().give_all_up();
        self.check(false);
        self.trim().unwrap();
        let stats = self.memory.stats();
        let left = (stats.local_used_bytes, stats.far_live_bytes, stats.far_used_bytes, stats.far_borrowed_bytes);
        assert_eq!(left, (0, 0, 0, 0), "{stats:?}");
        assert_eq!((self.lender.lent_bytes(), self.memory.heap().committed_bytes()), (0, 0));
        assert!(self.memory.large_objects().is_empty() && self.memory.large_fars().is_empty());
        last(&self);
        let World { memory, objects, _meanwhile, .. } = self;
        drop((objects, _meanwhile));
        // A thread of another test that begins or ends holds one for a moment, to tell the memory.
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while Arc::strong_count(&memory) > 1 && std::time::Instant::now() < patience {
            std::thread::yield_now();
        }
        assert_eq!(Arc::strong_count(&memory), 1, "slots hold counts of their memory until they are freed");
    }
}
