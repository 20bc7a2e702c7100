//! The local memory budget: a hard limit in bytes over everything that far memory keeps in this process.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering};

/// Who charges the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// The program, making something new. Stops short of what swap-ins may use: when far memory is full, dirty objects can't leave, and
    /// what exists must still be readable, by clean copies that come and go.
    Creator,
    /// The program, going on with what exists, where it can wait. Can have neither the evacuator's headroom nor what is kept for threads in scopes.
    Mutator,
    /// A thread in a scope, within its share. Can't have the evacuator's headroom.
    Scope,
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
            Party::Creator | Party::Mutator | Party::Scope => self.limit - self.headroom,
            Party::Evacuator => self.limit,
        }
    }

    /// Bytes that `party` could still charge.
    pub fn free_for(&self, party: Party) -> usize {
        self.limit_for(party).saturating_sub(self.used())
    }
}
