//! Loom's atomic, with every order of accesses tried.
//!
//! Loom 0.7 finds the orders worth trying from the last access to an atomic. A thread's own load hides what another thread did before it, so
//! that "load, then compare and swap", which is what all transitions of a word are, is not tried before the other thread's load
//! (tokio-rs/loom issues 166 and 392). So each access here begins with one to a condition variable that nobody waits for: loom takes those
//! for dependent on each other, whatever they are, and they order no memory.
#![forbid(unsafe_code)]

use loom::sync::Condvar;
use loom::sync::atomic::{AtomicU64 as Inner, Ordering};
use std::time::Duration;

/// As `std::thread::park_timeout`. Loom knows no time: here nobody is woken by it, so that a wake-up that is lost is found.
pub fn park_timeout(_at_most: Duration) {
    loom::thread::park();
}

/// As `std::sync::atomic::AtomicU64`, as far as it is used.
#[derive(Debug)]
pub struct AtomicU64 {
    turn: Condvar,
    value: Inner,
}

impl AtomicU64 {
    /// An atomic of `value`.
    pub fn new(value: u64) -> Self {
        AtomicU64 { turn: Condvar::new(), value: Inner::new(value) }
    }

    fn turn(&self) -> &Inner {
        self.turn.notify_one();
        &self.value
    }

    /// Loads.
    pub fn load(&self, ordering: Ordering) -> u64 {
        self.turn().load(ordering)
    }

    /// Stores.
    pub fn store(&self, value: u64, ordering: Ordering) {
        self.turn().store(value, ordering);
    }

    /// Exchanges.
    pub fn swap(&self, value: u64, ordering: Ordering) -> u64 {
        self.turn().swap(value, ordering)
    }

    /// Takes bits away.
    pub fn fetch_and(&self, value: u64, ordering: Ordering) -> u64 {
        self.turn().fetch_and(value, ordering)
    }

    /// Compares and exchanges.
    pub fn compare_exchange(&self, from: u64, to: u64, success: Ordering, failure: Ordering) -> Result<u64, u64> {
        self.turn().compare_exchange(from, to, success, failure)
    }
}
