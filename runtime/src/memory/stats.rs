//! Counters, and a snapshot of everything countable.
#![forbid(unsafe_code)]

use super::Memory;
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one far memory. Hits are not counted: a hit stores nothing.
#[derive(Debug, Default)]
pub struct Counters {
    /// Objects swapped in because a deref missed.
    pub misses: CachePadded<AtomicU64>,
    /// Of these, how many a long scan read past the local heap.
    pub bypassed: AtomicU64,
    /// Of these, how many were passed by a read of what nobody had asked for lately.
    pub passed: AtomicU64,
    /// Bytes of their contents.
    pub swapped_in_bytes: AtomicU64,
    /// Objects that left the local heap.
    pub evacuated: CachePadded<AtomicU64>,
    /// Of these, how many had to be written.
    pub written_back: AtomicU64,
    /// Bytes of images written, cleaning not included.
    pub written_back_bytes: AtomicU64,
    /// Objects moved within the local heap because they were hot.
    pub relocated: AtomicU64,
    /// Rounds of evacuation.
    pub rounds: AtomicU64,
    /// Marked objects that a mutator kept.
    pub rescued: CachePadded<AtomicU64>,
    /// Objects that threads in scopes took out of the reserve.
    pub reserved: AtomicU64,
    /// Bytes of images moved by the cleaner.
    pub cleaned_bytes: AtomicU64,
    /// Objects whose contents could not be dropped because their bytes could not be had.
    pub lost_drops: AtomicU64,
}

/// A snapshot. All sizes are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// The local budget.
    pub local_budget_bytes: u64,
    /// What of it is in use: segments (free ones that are kept included), large objects, slots, containers' tables.
    pub local_used_bytes: u64,
    /// Far memory that holds something: far segments in use.
    pub far_used_bytes: u64,
    /// Of which alive.
    pub far_live_bytes: u64,
    /// Slabs borrowed from servers.
    pub far_borrowed_bytes: u64,
    /// Objects swapped in because a deref missed.
    pub misses: u64,
    /// Of these, how many were read without a place in local memory, which was full: by long scans, and where hardly anything is read again soon.
    pub bypassed_objects: u64,
    /// Bytes of the contents of all that missed.
    pub swapped_in_bytes: u64,
    /// Objects that left the local heap.
    pub evacuated_objects: u64,
    /// Of these, how many had to be written.
    pub written_back_objects: u64,
    /// Bytes written for them.
    pub written_back_bytes: u64,
    /// Hot objects moved within the local heap.
    pub relocated_objects: u64,
    /// Marked objects that a mutator kept.
    pub rescued_objects: u64,
    /// Bytes the cleaner has moved in far memory.
    pub cleaned_bytes: u64,
    /// Rounds of evacuation.
    pub rounds: u64,
    /// Objects for which a thread in a scope took room out of the reserve, because local memory was full.
    pub reserved_objects: u64,
    /// Objects whose `Drop` could not run because their bytes could not be fetched. What they owned is leaked, as by `mem::forget`; far pointers among it keep
    /// their far memory, threads included, until the process ends.
    pub lost_drops: u64,
}

impl Memory {
    /// A snapshot of the counters. Not one moment: each is read on its own.
    pub fn stats(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        Stats {
            local_budget_bytes: self.budget.limit() as u64,
            local_used_bytes: self.budget.used() as u64,
            far_used_bytes: self.far.used_bytes(),
            far_live_bytes: self.far.live_bytes(),
            far_borrowed_bytes: self.far.borrowed_bytes(),
            misses: get(&counters.misses),
            bypassed_objects: get(&counters.bypassed) + get(&counters.passed),
            swapped_in_bytes: get(&counters.swapped_in_bytes),
            evacuated_objects: get(&counters.evacuated),
            written_back_objects: get(&counters.written_back),
            written_back_bytes: get(&counters.written_back_bytes),
            relocated_objects: get(&counters.relocated),
            rescued_objects: get(&counters.rescued),
            cleaned_bytes: get(&counters.cleaned_bytes),
            rounds: get(&counters.rounds),
            reserved_objects: get(&counters.reserved),
            lost_drops: get(&counters.lost_drops),
        }
    }
}
