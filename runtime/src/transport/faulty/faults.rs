//! The handle on faults that a test keeps.
#![forbid(unsafe_code)]

use super::fate::Dice;
use super::kind::{Kind, Rates};
use super::transport::FaultyTransport;
use crate::transport::Transport;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// By whose clock operations are held back and time out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// By a clock that polls advance. Nothing sleeps.
    Virtual,
    /// By the time that `poll` is told.
    Real,
}

/// What becomes of a transport's mapped access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Immediate {
    /// It is hidden, so that everything goes through sessions.
    Hidden,
    /// It is there, and goes wrong as well, as far as an access without a session can.
    Faulty,
}

/// What goes wrong, how often, and how it is timed.
#[derive(Debug, Clone, Copy)]
pub struct FaultPlan {
    /// Decides everything; see [the module](super).
    pub seed: u64,
    /// How often each kind happens.
    pub rates: Rates,
    /// When an operation that is lost ends.
    pub op_timeout: Duration,
    /// Most that an operation is held back; below the timeout.
    pub longest_delay: Duration,
    /// Most attempts in vain to reach a server that is gone.
    pub longest_outage: u32,
    /// When a late write that has not taken effect never will, by the machine's clock: nothing waits in a network for ever.
    pub latest: Duration,
    /// By whose clock.
    pub clock: Clock,
    /// What becomes of mapped access.
    pub immediate: Immediate,
}

impl FaultPlan {
    /// Nothing goes wrong yet: rates are to be set. Virtual time, sessions only.
    pub fn new(seed: u64) -> Self {
        FaultPlan {
            seed,
            rates: Rates::NONE,
            op_timeout: Duration::from_millis(5),
            longest_delay: Duration::from_millis(2),
            longest_outage: 20,
            latest: Duration::from_secs(1),
            clock: Clock::Virtual,
            immediate: Immediate::Hidden,
        }
    }
}

/// Damage to be done to a read, whatever the rates say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// None; the read counts as one that damage was ordered for.
    None,
    /// The bits of `mask` of byte `byte` are wrong. (Nothing if the read is shorter.)
    Flip {
        /// Offset in what is read.
        byte: usize,
        /// Bits to flip.
        mask: u8,
    },
    /// Every byte is zero.
    Zero,
    /// What the place held before it was last written.
    Stale,
    /// What another place of the slab holds.
    Misplaced,
    /// Only so many bytes are filled.
    Short {
        /// How many.
        bytes: usize,
    },
}

/// Faults of one or several servers. Clones are the same.
#[derive(Clone)]
pub struct Faults {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) plan: FaultPlan,
    on: AtomicBool,
    counts: [AtomicU64; Kind::ALL.len()],
    leaked_slabs: AtomicU64,
    servers: AtomicU64,
    ordered: Mutex<VecDeque<Damage>>,
}

impl Faults {
    /// Faults as planned. They are on.
    pub fn new(mut plan: FaultPlan) -> Self {
        // What is held back must come before its timeout, or it is something else than held back.
        plan.longest_delay = plan.longest_delay.min(plan.op_timeout / 2);
        plan.longest_outage = plan.longest_outage.max(1);
        Faults {
            shared: Arc::new(Shared {
                plan,
                on: AtomicBool::new(true),
                counts: Default::default(),
                leaked_slabs: AtomicU64::new(0),
                servers: AtomicU64::new(0),
                ordered: Mutex::default(),
            }),
        }
    }

    /// Puts faults in front of a server.
    pub fn wrap(&self, server: Arc<dyn Transport>) -> Arc<dyn Transport> {
        let number = self.shared.servers.fetch_add(1, Ordering::Relaxed);
        Arc::new(FaultyTransport::new(server, number, Arc::clone(&self.shared)))
    }

    /// From now on nothing new goes wrong. What is held back already still comes late; a server that is gone is back.
    pub fn stop(&self) {
        self.shared.on.store(false, Ordering::SeqCst);
    }

    /// Faults happen again.
    pub fn resume(&self) {
        self.shared.on.store(true, Ordering::SeqCst);
    }

    /// How often `kind` has happened. Damage that changed nothing (zeros where zeros were) is not counted.
    pub fn count(&self, kind: Kind) -> u64 {
        self.shared.counts[kind as usize].load(Ordering::Relaxed)
    }

    /// How often each kind has happened.
    pub fn counts(&self) -> impl Iterator<Item = (Kind, u64)> + '_ {
        Kind::ALL.into_iter().map(|kind| (kind, self.count(kind)))
    }

    /// Slabs that servers believe to be lent while the borrower knows nothing of it, because an answer or a return was lost.
    pub fn leaked_slabs(&self) -> u64 {
        self.shared.leaked_slabs.load(Ordering::Relaxed)
    }

    /// Orders damage for the next read that no other was ordered for, of any server, whether faults are on or not.
    pub fn damage_next_read(&self, damage: Damage) {
        self.shared.ordered().push_back(damage);
    }

    /// Takes back damage that was ordered and has not been done.
    pub fn cancel_damage(&self) {
        self.shared.ordered().clear();
    }

    /// Damage that was ordered and has not been done.
    pub fn ordered_damage(&self) -> usize {
        self.shared.ordered().len()
    }
}

impl Shared {
    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    /// The rates of now.
    pub(super) fn rates(&self) -> Rates {
        if self.is_on() { self.plan.rates } else { Rates::NONE }
    }

    pub(super) fn dice(&self, who: [u64; 3]) -> Dice {
        Dice::of(self.plan.seed, who)
    }

    pub(super) fn happened(&self, kind: Kind) {
        self.counts[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leaked(&self) {
        self.leaked_slabs.fetch_add(1, Ordering::Relaxed);
    }

    fn ordered(&self) -> std::sync::MutexGuard<'_, VecDeque<Damage>> {
        self.ordered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_ordered(&self) -> Option<Damage> {
        self.ordered().pop_front()
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.counts().filter(|(_, count)| *count > 0)).finish()
    }
}
