//! How a thread that sleeps learns that there is something to do.
//!
//! | step | who rings | who sleeps |
//! |---|---|---|
//! | 1 | makes work (a flag of its own, relaxed is enough) | says that it is not awake |
//! | 2 | light fence | heavy fence |
//! | 3 | looks whether the other is awake; if not, unparks it | looks for work |
//! | 4 | | sleeps, unless it has been rung meanwhile |
//!
//! This is store buffering, as in [`crate::scope`], and so are the fences: either who rings finds the sleeper not awake, or who sleeps finds the
//! work. To ring while the other is awake, which mutators do at every allocation as long as local memory is low, costs one load. An unpark
//! that comes before the park is kept by the park's token, and one that comes before the thread has attached itself is not needed: it has yet to look.
//!
//! Where the heavy fence can't be made (see [`crate::scope`]) a ring may be lost; a sleep has an end for that, too.
#![forbid(unsafe_code)]

use crate::scope::{heavy_fence, light_fence};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, Thread, current, park_timeout};
use std::sync::PoisonError;
use std::time::Duration;

/// One sleeper's alarm.
#[derive(Debug)]
pub struct Alarm {
    /// Not zero: rung since the sleeper last began to look.
    rung: AtomicU64,
    sleeper: Mutex<Option<Thread>>,
}

impl Default for Alarm {
    fn default() -> Self {
        Alarm { rung: AtomicU64::new(0), sleeper: Mutex::new(None) }
    }
}

impl Alarm {
    fn sleeper(&self) -> MutexGuard<'_, Option<Thread>> {
        self.sleeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The calling thread is the one that sleeps. Before its first [`look`](Self::look).
    pub fn attach(&self) {
        *self.sleeper() = Some(current());
    }

    /// There is work: the sleeper looks for it soon. Never waits for it.
    pub fn ring(&self) {
        light_fence();
        // Relaxed first: while the sleeper is awake this is all that a ring costs.
        if self.rung.load(Ordering::Relaxed) == 0 && self.rung.swap(1, Ordering::AcqRel) == 0 {
            let sleeper = self.sleeper().clone();
            if let Some(sleeper) = sleeper {
                sleeper.unpark();
            }
        }
    }

    /// The sleeper looks for work after this.
    pub fn look(&self) {
        self.rung.store(0, Ordering::Relaxed);
        // If the fence can't be made, the sleep's end has to do.
        let _ = heavy_fence();
    }

    /// The sleeper has found nothing more to do: sleeps until somebody rings, at most for `at_most`. Not at all if somebody has.
    pub fn sleep(&self, at_most: Duration) {
        if self.rung.load(Ordering::Acquire) == 0 {
            park_timeout(at_most);
        }
    }
}
