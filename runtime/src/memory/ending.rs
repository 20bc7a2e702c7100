//! How a fetch ended, and who waits for that.
#![forbid(unsafe_code)]

use super::wakers::wake_all;
use crate::error::Result;
use crate::sync::{Mutex, MutexGuard};
use std::sync::PoisonError;
use std::task::Waker;

/// How a fetch ended, once it has. Those who wait leave a waker each.
#[derive(Debug, Default)]
pub(crate) struct Ending(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    result: Option<Result<()>>,
    /// By number of future: each has one, however often its task changes.
    waiting: Vec<(u64, Waker)>,
}

impl Ending {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The result, if there is one; otherwise future `who` is woken by `waker` when there is, or when it should look after its lane.
    pub(crate) fn poll(&self, who: u64, waker: &Waker) -> Option<Result<()>> {
        {
            let state = self.lock();
            let is_known = |(known, its): &(u64, Waker)| *known == who && its.will_wake(waker);
            if state.result.is_some() || state.waiting.iter().any(is_known) {
                return state.result.clone();
            }
        }
        // Wakers are cloned and dropped outside the lock: both is code of the executor.
        let waker = waker.clone();
        let mut state = self.lock();
        let result = state.result.clone();
        let mut before = None;
        if result.is_none() {
            match state.waiting.iter_mut().find(|(known, _)| *known == who) {
                Some((_, its)) => before = Some(std::mem::replace(its, waker)),
                None => state.waiting.push((who, waker)),
            }
        }
        drop(state);
        drop(before);
        result
    }

    /// Others are to be woken as well when there is a result, which is not set yet.
    pub(crate) fn adopt(&self, wakers: Vec<Waker>) {
        if !wakers.is_empty() {
            // Futures are numbered from 1.
            self.lock().waiting.extend(wakers.into_iter().map(|waker| (0, waker)));
        }
    }

    /// The result, if there is one.
    pub(crate) fn result(&self) -> Option<Result<()>> {
        self.lock().result.clone()
    }

    /// Future `who` does not wait any more.
    pub(crate) fn forget(&self, who: u64) {
        let mut state = self.lock();
        let at = state.waiting.iter().position(|(known, _)| *known == who);
        let waker = at.map(|at| state.waiting.swap_remove(at));
        drop(state);
        drop(waker);
    }

    /// Whether a future waits that has not been woken yet.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// The fetch has ended. Who is to be woken.
    pub(crate) fn set(&self, result: Result<()>) -> impl Iterator<Item = Waker> + use<> {
        let mut state = self.lock();
        state.result = Some(result);
        std::mem::take(&mut state.waiting).into_iter().map(|(_, waker)| waker)
    }

    /// Wakes those who wait, to look after their lane.
    pub(crate) fn wake(&self) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        wake_all(waiting.into_iter().map(|(_, waker)| waker));
    }
}
