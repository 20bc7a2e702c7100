//! Waiting for a fetch that another thread or task has claimed.
//!
//! A thread that meets a word being fetched looks at it a few times, then leaves a waker here under the slot's number and sleeps. Whoever ends the fetch
//! (publishes the object, gives the claim back, passes the object by) tells the slot's waiters. Futures wait in the same way.
//!
//! | step | waiter | ender |
//! |---|---|---|
//! | 1 | leaves its waker, and raises the shard's count | changes the claimed word |
//! | 2 | confirms the claim: a compare-and-swap of the claimed word to itself | loads the shard's count |
//! | 3 | if the word has changed: does not sleep. Else sleeps | if the count is not zero: takes the slot's wakers out, and wakes them |
//!
//! # No wake-up is lost
//! Both steps on the word are read-modify-writes of one atomic, so one comes first.
//! - The ender's is first: the waiter's compare-and-swap fails, or finds a later claim of the same bits. That claim has an ender of its own.
//! - The waiter's is first: it is a release, and the ender's is an acquire that reads from it, or from a later read-modify-write of the same release sequence. So
//!   the ender's load of the count (relaxed is enough) finds the waiter.
//!
//! So no side needs a fence, and an ender whose fetch nobody waits for pays one load. A pair of fences, as in [`crate::alarm`], would cost each waiter a heavy one and could fail.
//!
//! An ender takes a waiter out of its shard before it wakes it, so a waiter that is still in the shard has not been told. [`Place`] takes itself out when it is dropped.
//!
//! The owner that vacates a word it has claimed tells nobody: it has the pointer exclusively, so nobody else can wait for the object.
//!
//! # Who helps
//! A fetch in a [lane](super::lane) needs somebody who drives it, and its executor may be busy or gone. One sleeping thread at a time has the *helper's role*: it drives the lanes at short
//! intervals, as long as anything is in flight there. The others leave that to it and to the [ticker](super::ticker), which goes on as long as anybody waits here. So the work of waiting
//! does not grow with the number of waiters. The ticker also wakes futures whose deadline has passed, since they have no timer.
//!
//! # Why waiting ends
//! Each wait has a deadline. A claimer waits for its server, each operation of which ends in bounded time, and for a session to it
//! ([`crate::far::Server::transfer`]). Whoever has a session waits for the server only: not for a scope, nor for room, nor for another's claim.
#![forbid(unsafe_code)]

use super::wakers::wake_all;
use crate::addr::SlotId;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, Thread};
use std::sync::{Arc, PoisonError, TryLockError};
use std::task::{Wake, Waker};
use std::time::Instant;

/// Shards, so that enders of other fetches seldom find a count that is not theirs, nor wait for a lock. A power of two.
const SHARDS: usize = if cfg!(farptr_loom) { 1 } else { 64 };

/// Those who wait for fetches of one memory.
#[derive(Debug)]
pub(crate) struct Joined {
    shards: [Shard; SHARDS],
    helper: Mutex<()>,
}

/// On a cache line of its own: enders load the count at each miss.
#[derive(Debug)]
#[repr(align(64))]
struct Shard {
    /// How many wait: the length of `inner.waiting`, written under its lock.
    count: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: Vec<Waiter>,
    next: u64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    slot: SlotId,
    waker: Waker,
    /// When the ticker is to wake it. `None`: it has a timer of its own.
    deadline: Option<Instant>,
}

impl Default for Joined {
    fn default() -> Self {
        let shard = |_| Shard { count: AtomicU64::new(0), inner: Mutex::new(Inner::default()) };
        Joined { shards: std::array::from_fn(shard), helper: Mutex::new(()) }
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes those out that are `wanted`. Their wakers are foreign code: used and dropped without the lock.
    fn take(&self, wanted: impl Fn(&Waiter) -> bool) -> Vec<Waker> {
        let mut inner = self.lock();
        let wakers = inner.waiting.extract_if(.., |waiter| wanted(waiter)).map(|waiter| waiter.waker).collect();
        self.count.store(inner.waiting.len() as u64, Ordering::Relaxed);
        wakers
    }

    #[cold]
    fn take_all_of(&self, slot: SlotId) -> Vec<Waker> {
        self.take(|waiter| waiter.slot == slot)
    }
}

impl Joined {
    fn shard(&self, slot: SlotId) -> &Shard {
        // Fibonacci hashing: neighbouring slots are often fetched together.
        let mixed = slot.0.wrapping_mul(0x9e37_79b1);
        &self.shards[(mixed >> 16) as usize % SHARDS]
    }

    /// Leaves a waker for the end of the fetch of `slot`. The caller confirms the claim next, and does not sleep if the word has changed.
    pub(crate) fn register(&self, slot: SlotId, waker: Waker, deadline: Option<Instant>) -> Place<'_> {
        let shard = self.shard(slot);
        let mut inner = shard.lock();
        inner.next += 1;
        let number = inner.next;
        inner.waiting.push(Waiter { number, slot, waker, deadline });
        shard.count.store(inner.waiting.len() as u64, Ordering::Relaxed);
        drop(inner);
        Place { shard, number }
    }

    /// The fetch of `slot` has ended: its word has been changed by the caller. The caller holds no lock.
    #[inline]
    pub(crate) fn tell(&self, slot: SlotId) {
        let wakers = self.take(slot);
        if !wakers.is_empty() {
            wake_all(wakers);
        }
    }

    /// As `tell`, for a caller that holds a lock: wakes nobody, but returns who is to be woken when it has given the lock back.
    #[inline]
    #[must_use]
    pub(crate) fn take(&self, slot: SlotId) -> Vec<Waker> {
        let shard = self.shard(slot);
        if shard.count.load(Ordering::Relaxed) == 0 { Vec::new() } else { shard.take_all_of(slot) }
    }

    /// Wakes those whose deadline has passed. Whether anybody still waits. For the ticker, which may miss who is registering now: that one asks for ticks afterwards.
    pub(crate) fn wake_overdue(&self, now: impl Fn() -> Instant) -> bool {
        let mut any = false;
        for shard in &self.shards {
            if shard.count.load(Ordering::Relaxed) != 0 {
                let now = now();
                wake_all(shard.take(|waiter| waiter.deadline.is_some_and(|deadline| deadline <= now)));
                any |= shard.count.load(Ordering::Relaxed) != 0;
            }
        }
        any
    }

    /// The helper's role, until what is returned is dropped. `None` if another thread has it.
    pub(crate) fn try_help(&self) -> Option<MutexGuard<'_, ()>> {
        match self.helper.try_lock() {
            Ok(role) => Some(role),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// A waiter's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    shard: &'a Shard,
    number: u64,
}

impl Place<'_> {
    /// Whether the waiter has been told, or woken because its time is over.
    pub(crate) fn is_told(&self) -> bool {
        !self.shard.lock().waiting.iter().any(|waiter| waiter.number == self.number)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        drop(self.shard.take(|waiter| waiter.number == self.number));
    }
}

/// Wakes a thread that has parked itself.
#[derive(Debug)]
pub(crate) struct Sleeper(pub(crate) Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
