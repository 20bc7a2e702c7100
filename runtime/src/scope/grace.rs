//! Waiting until every scope that was open has ended.
#![forbid(unsafe_code)]

use super::ThreadRecord;
use crate::sync::{spin_loop, yield_now};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A grace period that has begun.
#[derive(Debug)]
pub struct Grace {
    open: Vec<(Arc<ThreadRecord>, u64)>,
}

/// Turns of spinning before the evacuator gives up its time slice: a scope on another core usually ends within a microsecond.
const SPINS: u32 = 200;

/// Turns of yielding before it sleeps between looks, so that a mutator that sits in a long scope has the core for itself.
const YIELDS: u32 = 50;

impl Grace {
    pub(super) fn new(open: impl Iterator<Item = (Arc<ThreadRecord>, u64)>) -> Self {
        Grace { open: open.collect() }
    }

    /// Whether it is over. Does not block.
    pub fn is_over(&mut self) -> bool {
        self.open.retain(|(record, clock)| record.read() == *clock);
        self.open.is_empty()
    }

    /// Waits until it is over, at most until `deadline`. False if a scope outlasted it.
    #[must_use]
    pub fn wait_until(&mut self, deadline: Instant) -> bool {
        let mut turn = 0u32;
        while !self.is_over() {
            turn = turn.saturating_add(1);
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
}
