//! One thread's clock, and the list of all of them.
#![forbid(unsafe_code)]

use super::{Grace, heavy_fence, light_fence};
use crate::forked;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};
use std::fmt;
use std::sync::atomic::AtomicI32;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Whoever threads in scopes take memory from that is to be made up for: a far memory, with its reserve.
pub trait Creditor: Send + Sync + fmt::Debug {
    /// So many threads may open a scope from now on. Never blocks.
    fn threads(&self, living: usize);

    /// The calling thread is about to begin a scope, and has no reference: makes up for what it has taken, or waits until others have, for a bounded time.
    fn collect(&self);
}

/// One thread's clock: odd while the thread is in a scope. On a cache line of its own: its thread writes it at every scope.
#[derive(Debug)]
#[repr(align(128))]
pub struct ThreadRecord {
    clock: AtomicU64,
    number: usize,
    /// The system's number of the thread.
    tid: AtomicI32,
    /// A clock that a grace period waited for in vain, and when one first did. Of the standard library, as what follows: nothing depends on their order, and models need not try it.
    seen: std::sync::Mutex<Option<(u64, Instant)>>,
    /// Whom the thread has to pay before its next scope. Only the owning thread uses it.
    debts: std::sync::Mutex<Vec<Weak<dyn Creditor>>>,
}

/// A scope that is open.
#[derive(Debug, Clone, Copy)]
pub struct OpenScope {
    /// The number of its thread.
    pub number: usize,
    /// The system's number of its thread.
    pub tid: i32,
    /// Its thread's clock.
    pub clock: u64,
    /// How long it has been open at least: since a grace period first had to wait for it.
    pub age: Duration,
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ThreadRecord {
    fn new(number: usize) -> Self {
        ThreadRecord {
            clock: AtomicU64::new(0),
            number,
            tid: AtomicI32::new(0),
            seen: std::sync::Mutex::new(None),
            debts: std::sync::Mutex::new(Vec::new()),
        }
    }

    /// A record that no grace period waits for: of a thread in the child of a fork, where there is none.
    pub fn unlisted() -> Self {
        Self::new(0)
    }

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

    /// The clock now, as its thread sees it.
    #[cfg(all(test, farptr_loom))]
    pub(crate) fn now(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// A grace period waits for the scope that this clock is of.
    #[cfg_attr(farptr_loom, expect(dead_code, reason = "in models every scope ends before a grace period loses its patience"))]
    pub(super) fn note_waited_for(&self, clock: u64) {
        let mut seen = lock(&self.seen);
        if seen.is_none_or(|(since, _)| since != clock) {
            *seen = Some((clock, Instant::now()));
        }
    }

    /// The scope that the thread has open, if any.
    fn open_scope(&self) -> Option<OpenScope> {
        let clock = self.read();
        if clock.is_multiple_of(2) {
            return None;
        }
        let since = (*lock(&self.seen)).filter(|(since, _)| *since == clock);
        let age = since.map_or(Duration::ZERO, |(_, at)| at.elapsed());
        Some(OpenScope { number: self.number, tid: self.tid.load(Ordering::Relaxed), clock, age })
    }

    /// The thread owes somebody. Called by the owning thread.
    pub fn owe(&self, creditor: Weak<dyn Creditor>) {
        let mut debts = lock(&self.debts);
        if !debts.iter().any(|known| known.ptr_eq(&creditor)) {
            debts.push(creditor);
        }
    }

    /// Pays what the thread owes. Called by the owning thread, outside any scope.
    pub fn pay(&self) {
        // In the child of a fork nobody could be paid.
        if forked::is_child() {
            return;
        }
        let debts = std::mem::take(&mut *lock(&self.debts));
        debts.iter().filter_map(Weak::upgrade).for_each(|creditor| creditor.collect());
    }

    /// A small number that no other living thread has; numbers of threads that ended are given again.
    #[inline]
    pub fn number(&self) -> usize {
        self.number
    }
}

#[derive(Debug, Default)]
struct Lists {
    all: Vec<Arc<ThreadRecord>>,
    free: Vec<Arc<ThreadRecord>>,
    creditors: Vec<Weak<dyn Creditor>>,
}

impl Lists {
    /// Threads that may open a scope.
    fn living(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// Tells the creditors how many threads there are. They are returned, to be dropped without the lock: the last owner of one may have gone meanwhile.
    #[must_use]
    fn tell(&mut self) -> Vec<Arc<dyn Creditor>> {
        let living = self.living();
        self.creditors.retain(|creditor| creditor.strong_count() > 0);
        let told: Vec<_> = self.creditors.iter().filter_map(Weak::upgrade).collect();
        told.iter().for_each(|creditor| creditor.threads(living));
        told
    }
}

/// All threads that ever entered a scope.
#[derive(Debug, Default)]
pub struct Registry {
    lists: Mutex<Lists>,
}

impl Registry {
    /// An empty list.
    #[cfg(not(farptr_loom))]
    pub const fn new() -> Self {
        Registry { lists: Mutex::new(Lists { all: Vec::new(), free: Vec::new(), creditors: Vec::new() }) }
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

    /// A record for the calling thread. It owes every creditor its part of their reserves.
    pub fn register(&self) -> Arc<ThreadRecord> {
        let mut lists = self.lock();
        let record = lists.free.pop().unwrap_or_else(|| {
            let record = Arc::new(ThreadRecord::new(lists.all.len()));
            lists.all.push(Arc::clone(&record));
            record
        });
        record.tid.store(crate::sys::thread_id(), Ordering::Relaxed);
        // Before the thread pays: what it then finds in a reserve is not taken by others afterwards.
        let told = lists.tell();
        lock(&record.debts).clone_from(&lists.creditors);
        drop(lists);
        drop(told);
        record
    }

    /// The thread of `record` has ended, outside any scope.
    pub fn release(&self, record: Arc<ThreadRecord>) {
        debug_assert!(record.read().is_multiple_of(2), "a thread ends outside its scopes");
        lock(&record.debts).clear();
        let mut lists = self.lock();
        lists.free.push(record);
        let told = lists.tell();
        drop(lists);
        drop(told);
    }

    /// Tells `creditor` from now on how many threads may open a scope. New threads pay it before their first.
    pub fn add_creditor(&self, creditor: Weak<dyn Creditor>) {
        let mut lists = self.lock();
        lists.creditors.push(creditor);
        let told = lists.tell();
        drop(lists);
        drop(told);
    }

    /// The scopes that are open.
    pub fn open_scopes(&self) -> Vec<OpenScope> {
        self.lock().all.iter().filter_map(|record| record.open_scope()).collect()
    }

    /// How many scopes are open.
    pub fn count_open(&self) -> usize {
        self.lock().all.iter().filter(|record| !record.read().is_multiple_of(2)).count()
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
