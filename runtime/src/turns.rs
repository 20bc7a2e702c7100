//! Work that one thread at a time does for all, and those who wait for it.
//!
//! Who finds that somebody else has the turn may wait for its end, instead of taking one of his own. That end is not missed: who waits looks
//! once more whether the turn is still taken, behind the lock that whoever ends it takes to tell. If it is, the telling is yet to come.
#![forbid(unsafe_code)]

use crate::sync::{Condvar, Mutex, MutexGuard};
use std::ops::{Deref, DerefMut};
use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

/// Who waits for a turn looks so often whether one ended quietly.
const LOOK: Duration = Duration::from_millis(5);

/// What is worked on in turns.
#[derive(Debug, Default)]
pub struct Turns<T> {
    work: Mutex<T>,
    /// Order: after `work` was given up, or before it is tried; never while it is held.
    told: Mutex<()>,
    over: Condvar,
}

/// A turn. Its end is told to all who wait for it.
#[derive(Debug)]
pub struct Turn<'a, T> {
    turns: &'a Turns<T>,
    /// Until the turn ends.
    work: Option<MutexGuard<'a, T>>,
}

impl<T> Turns<T> {
    /// A turn, as soon as there is one.
    pub fn take(&self) -> Turn<'_, T> {
        // A panic in a turn is a broken invariant of the work; who takes the next finds it as it was left.
        Turn { turns: self, work: Some(self.work.lock().unwrap_or_else(PoisonError::into_inner)) }
    }

    /// A turn, if nobody has one.
    pub fn try_take(&self) -> Option<Turn<'_, T>> {
        let work = match self.work.try_lock() {
            Ok(work) => work,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Turn { turns: self, work: Some(work) })
    }

    /// A turn, as soon as there is one; `None` if there is none until `deadline`.
    pub fn take_until(&self, deadline: std::time::Instant) -> Option<Turn<'_, T>> {
        loop {
            if let Some(turn) = self.try_take() {
                return Some(turn);
            }
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return None;
            }
            // Ends that nobody tells of are seen by looking.
            self.wait(left.min(LOOK));
        }
    }

    /// Waits until the turn that somebody has is over and told, at most for `at_most`. Returns at once if nobody has one.
    pub fn wait(&self, at_most: Duration) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(self.work.try_lock(), Err(TryLockError::WouldBlock)) {
            drop(self.over.wait_timeout(told, at_most));
        }
    }
}

impl<T> Turn<'_, T> {
    /// Ends the turn and tells nobody: nothing came of it that others wait for. They wait on, for the end of another or of their patience.
    pub fn end_quietly(mut self) {
        self.work = None;
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        // Given up before it is told: who is told tries to take it.
        if self.work.take().is_some() {
            let _told = self.turns.told.lock().unwrap_or_else(PoisonError::into_inner);
            self.turns.over.notify_all();
        }
    }
}

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.work.as_ref().expect("the turn lasts")
    }
}

impl<T> DerefMut for Turn<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.work.as_mut().expect("the turn lasts")
    }
}
