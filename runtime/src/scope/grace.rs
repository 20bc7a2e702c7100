//! Waiting until every scope that was open has ended.
#![forbid(unsafe_code)]

use super::ThreadRecord;
#[cfg(not(farptr_loom))]
use crate::sync::spin_loop;
use crate::sync::yield_now;
use std::sync::Arc;
#[cfg(not(farptr_loom))]
use std::time::Duration;
use std::time::Instant;

/// A grace period that has begun.
#[derive(Debug)]
pub struct Grace {
    open: Vec<(Arc<ThreadRecord>, u64)>,
    /// Whether the clocks mean anything.
    is_fenced: bool,
}

/// Turns of spinning before the evacuator gives up its time slice: a scope on another core usually ends within a microsecond.
#[cfg(not(farptr_loom))]
const SPINS: u32 = 200;

/// Turns of yielding before it sleeps between looks, so that a mutator that sits in a long scope has the core for itself.
#[cfg(not(farptr_loom))]
const YIELDS: u32 = 50;

impl Grace {
    pub(super) fn new(open: impl Iterator<Item = (Arc<ThreadRecord>, u64)>) -> Self {
        Grace { open: open.collect(), is_fenced: true }
    }

    /// One that is never over, for want of a fence.
    pub(super) fn never() -> Self {
        Grace { open: Vec::new(), is_fenced: false }
    }

    /// Whether it is over. Does not block.
    pub fn is_over(&mut self) -> bool {
        self.open.retain(|(record, clock)| record.read() == *clock);
        self.open.is_empty() && self.is_fenced
    }

    /// Waits until it is over, at most until `deadline`. False if a scope outlasted it.
    #[must_use]
    #[cfg(not(farptr_loom))]
    pub fn wait_until(&mut self, deadline: Instant) -> bool {
        let mut turn = 0u32;
        while !self.is_over() {
            if !self.is_fenced {
                return false;
            }
            turn = turn.saturating_add(1);
            if turn == SPINS + YIELDS {
                self.open.iter().for_each(|(record, clock)| record.note_waited_for(*clock));
            }
            if turn < SPINS {
                spin_loop();
            } else if turn < SPINS + YIELDS {
                yield_now();
            } else if Instant::now() >= deadline {
                return false;
            } else {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        true
    }

    /// Waits until it is over. Loom knows no time: here every scope ends before the deadline. Models that need one that does not
    /// don't wait.
    #[must_use]
    #[cfg(farptr_loom)]
    pub fn wait_until(&mut self, _deadline: Instant) -> bool {
        while self.is_fenced && !self.is_over() {
            yield_now();
        }
        self.is_fenced
    }
}
