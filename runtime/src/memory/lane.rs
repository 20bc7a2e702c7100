//! Many misses in flight at a time: what the async forms stand on.
//!
//! A **lane** belongs to one thread (by number) and has a session to each server. A miss that is to be awaited becomes a fetch in the lane: a
//! claimed slot, room in local memory, and one or more reads. When its last read has come in, whoever drives the lane checks
//! the bytes and publishes the slot, then wakes those who wait. The future that began a fetch may be gone by then; the fetch goes on.
//!
//! This file says who drives and who is woken, [`super::reads`] moves the bytes. Between them is [`Traffic`], so that the models run this file
//! as it is.
//!
//! # Who drives
//! One of the futures that wait for the lane is its **driver**: when polled it moves bytes, and asks to be polled again at once, so that the other
//! tasks of its executor run between two looks at the sockets and nobody pays for a wake-up by the kernel. If nothing has come for
//! [`SPIN`] it lets go, and the memory's [ticker](super::ticker) looks after the lane at intervals, until something comes: so
//! a slow server costs no processor. A thread that waits for a fetch that another lane has claimed drives that lane, too
//! ([`Memory::help_fetches`](super::Memory::help_fetches)): no fetch depends on the executor that began it.
//!
//! Nobody who waits is left alone:
//! - A future leaves its waker with its fetch before it looks who drives, and both are behind locks that the driver takes, too. So
//!   it takes the role itself, or whoever has it will find the waker.
//! - Who leaves, be it that his fetch has ended or that the future is dropped, hands on: unless somebody else drives, futures that wait for another
//!   fetch of the lane are woken to take over. Those only that have left a waker: a fetch whose future is gone can't take over.
//! - A future may be kept without being polled, or forgotten. So futures that wait for another to drive have the ticker watch over it: a driver
//!   that has not looked for [`DRIVER_PATIENCE`] loses the role, and all who wait are woken to take it.
//!
//! Nothing here knows an executor: a future that is polled when it asks to be is all that is needed.
#![forbid(unsafe_code)]

use super::ending::Ending;
use super::wakers::wake_all;
use crate::error::Result;
use crate::sync::{Mutex, MutexGuard};
use crate::transport::Progress;
use std::sync::{Arc, PoisonError, TryLockError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How long a lane is watched without a byte coming in before it is left to the ticker.
const SPIN: Duration = Duration::from_micros(300);

/// How long a driver may leave its lane alone before others step in: its executor is busy with something else.
pub(crate) const DRIVER_PATIENCE: Duration = Duration::from_millis(1);

/// A fetch that has ended, and how.
pub(crate) type Ended = (Arc<Ending>, Result<()>);

/// What a lane carries. Nothing in it wakes anybody.
pub(crate) trait Traffic {
    /// What is needed to move it.
    type Ground: ?Sized;

    /// Moves what can be moved now.
    fn look(&mut self, ground: &Self::Ground, now: Instant) -> Progress;

    /// Time to leave between two looks.
    fn interval(&self) -> Duration;

    /// The fetches in flight.
    fn in_flight(&self) -> impl Iterator<Item = &Arc<Ending>>;

    /// Those that have ended since this was asked last.
    fn take_ended(&mut self) -> Vec<Ended>;
}

#[derive(Default)]
struct Inner<T> {
    traffic: T,
    driver: Option<u64>,
    last_progress: Option<Instant>,
    last_look: Option<Instant>,
}

impl<T: Traffic> Inner<T> {
    /// Moves what can be moved, and notes when anything did.
    fn look(&mut self, ground: &T::Ground, now: Instant) -> Progress {
        let progress = self.traffic.look(ground, now);
        if progress == Progress::Moved {
            self.last_progress = Some(now);
        }
        progress
    }
}

/// One thread's misses in flight.
#[derive(Default)]
pub(crate) struct Lane<T>(Mutex<Inner<T>>);

impl<T> std::fmt::Debug for Lane<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}

/// What a future should do that has just driven the lane, or could not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Advice {
    /// It drives: ask to be polled again at once.
    Again,
    /// Somebody else drives, and the fetch's end will wake it; the ticker sees to it that somebody does.
    Wait,
    /// Nothing has come for a while: have the ticker look after the lane.
    Slow,
}

impl<T: Traffic> Lane<T> {
    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the lock back and tells those who wait for what has ended. In this order: a wake-up may drop a future of this lane, or a pointer whose
    /// fetch is in it.
    fn unlock(mut inner: MutexGuard<'_, Inner<T>>) {
        let ended = inner.traffic.take_ended();
        drop(inner);
        if !ended.is_empty() {
            let waiting: Vec<_> = ended.into_iter().flat_map(|(ending, result)| ending.set(result)).collect();
            wake_all(waiting);
        }
    }

    /// Puts a fetch in flight. The lane is watched anew for it.
    pub(crate) fn begin<R>(&self, begin: impl FnOnce(&mut T) -> R) -> R {
        let mut inner = self.lock();
        let result = begin(&mut inner.traffic);
        inner.last_progress = None;
        Self::unlock(inner);
        result
    }

    /// Looks something up.
    pub(crate) fn find<R>(&self, find: impl FnOnce(&T) -> R) -> R {
        find(&self.lock().traffic)
    }

    /// Drives the lane if nobody does, as future number `who`.
    fn drive_as(&self, ground: &T::Ground, who: u64, now: Instant) -> Advice {
        let mut inner = self.lock();
        if inner.driver.is_some_and(|driver| driver != who) {
            return Advice::Wait;
        }
        inner.driver = Some(who);
        if inner.last_look.is_some_and(|last| now.saturating_duration_since(last) < inner.traffic.interval()) {
            return Advice::Again;
        }
        inner.last_look = Some(now);
        let _ = inner.look(ground, now);
        // Kept when the driver lets go: until something comes, each tick is worth one look and no more.
        let since = *inner.last_progress.get_or_insert(now);
        let advice = if now.saturating_duration_since(since) < SPIN { Advice::Again } else { Advice::Slow };
        if advice == Advice::Slow {
            inner.driver = None;
        }
        Self::unlock(inner);
        advice
    }

    /// Drives the lane, whoever else does: for a thread that waits for a fetch of its own lane, whose futures can't be polled meanwhile.
    pub(crate) fn drive(&self, ground: &T::Ground, now: Instant) -> Progress {
        let mut inner = self.lock();
        inner.last_look = Some(now);
        let progress = inner.look(ground, now);
        Self::unlock(inner);
        progress
    }

    /// Future `who` needs the lane no more: unless somebody else drives it, others that wait are woken to do so.
    fn leave(&self, who: u64) {
        let next = {
            let mut inner = self.lock();
            if inner.driver.is_some_and(|driver| driver != who) {
                return;
            }
            inner.driver = None;
            inner.last_progress = None;
            inner.traffic.in_flight().find(|ending| ending.is_awaited()).cloned()
        };
        if let Some(ending) = next {
            ending.wake();
        }
    }

    /// Drives the lane on behalf of others, if nobody else does. Whether anything is in flight.
    ///
    /// A lane whose driver is at work is left to it: who completes a fetch wakes its tasks, and an executor that is busy learns of a wake from
    /// another thread much later than of one of its own (glommio: at its next look at the kernel, up to 100 ms).
    pub(crate) fn help(&self, ground: &T::Ground, now: Instant) -> bool {
        let mut inner = match self.0.try_lock() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return true,
        };
        let looked = inner.last_look.is_some_and(|last| now.saturating_duration_since(last) < DRIVER_PATIENCE);
        if inner.driver.is_some() && looked {
            return true;
        }
        // Its future may be kept without being polled, or forgotten: whoever is polled next may take over.
        let is_absent = inner.driver.take().is_some();
        if is_absent {
            inner.last_progress = None;
        }
        let _ = inner.look(ground, now);
        let waiting: Vec<_> = if is_absent { inner.traffic.in_flight().cloned().collect() } else { Vec::new() };
        let is_busy = inner.traffic.in_flight().next().is_some();
        Self::unlock(inner);
        waiting.iter().for_each(|ending| ending.wake());
        is_busy
    }
}

/// A future's place in a lane, for as long as it waits there. Dropped, it hands on what others need.
pub(crate) struct Flight<T: Traffic> {
    lane: Arc<Lane<T>>,
    ending: Arc<Ending>,
    who: u64,
    /// Whether the ticker watches over the lane.
    is_watched: bool,
}

impl<T: Traffic> std::fmt::Debug for Flight<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flight").field("who", &self.who).finish_non_exhaustive()
    }
}

impl<T: Traffic> Flight<T> {
    /// Future `who` waits in `lane` for the fetch that ends with `ending`.
    pub(crate) fn new(lane: Arc<Lane<T>>, ending: Arc<Ending>, who: u64) -> Self {
        Flight { lane, ending, who, is_watched: false }
    }

    /// Whether the fetch has ended; drives the lane if need be. `tick` is the [ticker](super::ticker)'s `tick`.
    pub(crate) fn poll(
        &mut self,
        ground: &T::Ground,
        now: impl FnOnce() -> Instant,
        waker: &Waker,
        tick: impl Fn(Option<&Waker>) -> bool,
    ) -> Poll<Result<()>> {
        // Before the look who drives: a driver that leaves after that look must find the waker.
        if let Some(result) = self.ending.poll(self.who, waker) {
            return Poll::Ready(result);
        }
        let advice = self.lane.drive_as(ground, self.who, now());
        if let Some(result) = self.ending.poll(self.who, waker) {
            return Poll::Ready(result);
        }
        match advice {
            Advice::Again => waker.wake_by_ref(),
            Advice::Wait if self.is_watched => {}
            Advice::Wait => {
                // Once: the ticker goes on as long as anything is in flight.
                self.is_watched = tick(None);
                if !self.is_watched {
                    waker.wake_by_ref();
                }
            }
            Advice::Slow => {
                tick(Some(waker));
            }
        }
        Poll::Pending
    }
}

impl<T: Traffic> Drop for Flight<T> {
    fn drop(&mut self) {
        // Before the role is handed on: not to this future.
        self.ending.forget(self.who);
        self.lane.leave(self.who);
    }
}
