//! One thread's clock, and the list of all of them.
#![forbid(unsafe_code)]

use super::{Grace, heavy_fence, light_fence};
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};
use std::sync::{Arc, PoisonError};

/// One thread's clock: odd while the thread is in a scope. On a cache line of its own: its thread writes it at every scope.
#[derive(Debug)]
#[repr(align(128))]
pub struct ThreadRecord {
    clock: AtomicU64,
    number: usize,
}

impl ThreadRecord {
    /// The outermost scope begins. Called by the owning thread, outside any scope. Release, like `leave`: a grace period that waits for the
    /// scope before may miss its end and see only this.
    #[inline(always)]
    pub fn enter(&self) {
        self.clock.store(self.clock.load(Ordering::Relaxed) + 1, Ordering::Release);
        light_fence();
    }

    /// The outermost scope ends. Called by the owning thread. Release: partner of the grace period's acquire.
    #[inline(always)]
    pub fn leave(&self) {
        self.clock.store(self.clock.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// One scope ends and another begins, at once. Called by the owning thread, inside its outermost scope.
    #[inline]
    pub fn refresh(&self) {
        self.clock.store(self.clock.load(Ordering::Relaxed) + 2, Ordering::Release);
        light_fence();
    }

    /// The clock now. Acquire: partner of `enter`, `leave` and `refresh`.
    pub(super) fn read(&self) -> u64 {
        self.clock.load(Ordering::Acquire)
    }

    /// A small number that no other living thread has; numbers of threads that ended are given again.
    #[inline]
    pub fn number(&self) -> usize {
        self.number
    }
}

/// All threads that ever entered a scope.
#[derive(Debug, Default)]
pub struct Registry {
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    all: Vec<Arc<ThreadRecord>>,
    free: Vec<Arc<ThreadRecord>>,
}

impl Registry {
    /// An empty list.
    #[cfg(not(farptr_loom))]
    pub const fn new() -> Self {
        Registry { lists: Mutex::new(Lists { all: Vec::new(), free: Vec::new() }) }
    }

    /// An empty list. Loom's lock can't be made in a constant.
    #[cfg(farptr_loom)]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        // Nothing panics while the lock is held; a poisoned list would be as good as any.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record for the calling thread.
    pub fn register(&self) -> Arc<ThreadRecord> {
        let mut lists = self.lock();
        if let Some(record) = lists.free.pop() {
            return record;
        }
        let record = Arc::new(ThreadRecord { clock: AtomicU64::new(0), number: lists.all.len() });
        lists.all.push(Arc::clone(&record));
        record
    }

    /// The thread of `record` has ended, outside any scope.
    pub fn release(&self, record: Arc<ThreadRecord>) {
        debug_assert!(record.read().is_multiple_of(2), "a thread ends outside its scopes");
        self.lock().free.push(record);
    }

    /// Begins a grace period: marks made before this call are seen by every scope that begins after it.
    #[must_use]
    pub fn begin_grace(&self) -> Grace {
        if !heavy_fence() {
            return Grace::never();
        }
        Grace::new(self.lock().all.iter().filter_map(|record| {
            let clock = record.read();
            (clock % 2 == 1).then(|| (Arc::clone(record), clock))
        }))
    }
}
