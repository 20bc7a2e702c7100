//! The local memory budget: a hard limit in bytes over everything that far memory keeps in this process.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering};

/// Who charges the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// The program, making something new. Stops short of what swap-ins may use: when far memory is full, dirty objects can't leave, and
    /// what exists must still be readable, by clean copies that come and go.
    Creator,
    /// The program, going on with what exists. Can't have the evacuator's headroom.
    Mutator,
    /// The evacuator, which needs some memory in order to free more.
    Evacuator,
}

/// Bytes that may be used, and bytes that are.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    headroom: usize,
    used: AtomicUsize,
}

impl Budget {
    /// A budget of `limit` bytes, of which `headroom` are for the evacuator only.
    pub fn new(limit: usize, headroom: usize) -> Self {
        assert!(headroom < limit);
        Budget { limit, headroom, used: AtomicUsize::new(0) }
    }

    /// Takes `bytes`, or nothing.
    #[must_use]
    pub fn try_charge(&self, party: Party, bytes: usize) -> bool {
        let limit = self.limit_for(party);
        // Relaxed: the count orders nothing; memory is handed over under locks.
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| used.checked_add(bytes).filter(|sum| *sum <= limit))
            .is_ok()
    }

    /// Gives `bytes` back.
    pub fn release(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "released more than was charged");
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// What `party` may use in all.
    pub fn limit_for(&self, party: Party) -> usize {
        match party {
            Party::Creator | Party::Mutator => self.limit - self.headroom,
            Party::Evacuator => self.limit,
        }
    }

    /// Bytes that `party` could still charge.
    pub fn free_for(&self, party: Party) -> usize {
        self.limit_for(party).saturating_sub(self.used())
    }

    /// Bytes that others must give back before `party` can charge `bytes`. That is more than `bytes` where the evacuator has used its headroom.
    pub fn missing_for(&self, party: Party, bytes: usize) -> usize {
        self.used().saturating_add(bytes).saturating_sub(self.limit_for(party))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fuzz target `map` found a heap of which nearly all was free segments, kept for reuse, and in which nothing could be charged: the evacuator had
    /// gone into its headroom for some of them, and as many were given back as the charge had bytes.
    #[test]
    fn what_the_evacuator_took_from_its_headroom_is_missing_too() {
        let budget = Budget::new(100, 10);
        assert_eq!(budget.missing_for(Party::Creator, 90), 0);
        assert!(budget.try_charge(Party::Evacuator, 97));
        assert_eq!((budget.missing_for(Party::Creator, 0), budget.missing_for(Party::Mutator, 5)), (7, 12));
        budget.release(12);
        assert!(budget.try_charge(Party::Mutator, 5));
    }
}
