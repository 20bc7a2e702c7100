//! A server's sessions that wait for work, and the threads that wait for a session.
//!
//! A blocking miss takes a session for one operation. Each session is a connection, and to open one takes several round trips. So there are at most [`MOST`] for blocking misses,
//! which are kept; when all are lent, further threads queue.
//!
//! # The queue
//! A session that is given back goes to the thread that has waited longest, so nobody is overtaken for ever. *Permits* are counted, not sessions: a
//! session that has failed is not given back, but its permit is, and whoever gets that opens another. All of it is under one lock. A waiting thread sleeps until it has been
//! *granted* a permit, which the thread that gives one back notes before it unparks the other, or until its time is over. In the second case it looks once more, under
//! the lock: either it has been granted a permit meanwhile and takes it, or it leaves the queue. So a permit is never granted to a thread that has gone.
//!
//! # Why the queue moves
//! Threads queue while they hold claims of fetches, and threads in scopes may wait for these. That can't become a circle: whoever holds a permit waits for the server only, whose
//! operations end in bounded time, and for no scope, no room and no claim.
#![forbid(unsafe_code)]

use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, Thread, current, park_timeout};
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// Sessions for blocking misses, and sessions that are kept. Enough to keep a server and a network busy.
pub(super) const MOST: usize = if cfg!(farptr_loom) { 1 } else { 64 };

/// Sessions `S` of one server.
#[derive(Debug)]
pub(crate) struct Sessions<S>(Mutex<State<S>>);

#[derive(Debug)]
struct State<S> {
    idle: Vec<S>,
    permits: usize,
    /// Only while there are no permits.
    queue: VecDeque<Arc<Queued>>,
}

#[derive(Debug)]
struct Queued {
    thread: Thread,
    /// Not zero: it has a permit. Written under the lock.
    granted: AtomicU64,
}

/// The right to use one session, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit<'a, S>(&'a Sessions<S>);

impl<S> Default for Sessions<S> {
    fn default() -> Self {
        Sessions(Mutex::new(State { idle: Vec::new(), permits: MOST, queue: VecDeque::new() }))
    }
}

impl<S> Sessions<S> {
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session that nobody uses, whatever permits there are.
    pub(super) fn take_idle(&self) -> Option<S> {
        self.lock().idle.pop()
    }

    /// Keeps a session for the next, unless there are enough: then it comes back.
    pub(super) fn keep(&self, session: S) -> Option<S> {
        let mut state = self.lock();
        if state.idle.len() >= MOST {
            return Some(session);
        }
        state.idle.push(session);
        None
    }

    /// A permit, and a session if there is an idle one. Waits for the permit at most for `patience`: `None` after that.
    pub(crate) fn take(&self, patience: Duration) -> Option<(Permit<'_, S>, Option<S>)> {
        let mut state = self.lock();
        if state.permits > 0 {
            state.permits -= 1;
            return Some((Permit(self), state.idle.pop()));
        }
        let queued = Arc::new(Queued { thread: current(), granted: AtomicU64::new(0) });
        state.queue.push_back(Arc::clone(&queued));
        drop(state);
        self.wait(&queued, patience)
    }

    #[cold]
    fn wait(&self, queued: &Arc<Queued>, patience: Duration) -> Option<(Permit<'_, S>, Option<S>)> {
        let started = Instant::now();
        while queued.granted.load(Ordering::Acquire) == 0 {
            let Some(left) = patience.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) else { break };
            park_timeout(left);
        }
        let mut state = self.lock();
        if queued.granted.load(Ordering::Relaxed) == 0 {
            state.queue.retain(|other| !Arc::ptr_eq(other, queued));
            return None;
        }
        Some((Permit(self), state.idle.pop()))
    }
}

impl<S> Permit<'_, S> {
    /// Gives permit and session back together. A session too many comes back.
    pub(crate) fn give_back(self, session: S) -> Option<S> {
        self.0.keep(session)
    }
}

impl<S> Drop for Permit<'_, S> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let Some(next) = state.queue.pop_front() else {
            state.permits += 1;
            return;
        };
        // Under the lock: a thread whose time is over looks there.
        next.granted.store(1, Ordering::Release);
        drop(state);
        next.thread.unpark();
    }
}

#[cfg(all(test, not(farptr_loom)))]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn no_more_threads_than_sessions_have_one_and_none_is_left_out() {
        let sessions = Sessions::<usize>::default();
        let (using, most, begin) = (AtomicUsize::new(0), AtomicUsize::new(0), Barrier::new(3 * MOST));
        std::thread::scope(|scope| {
            for thread in 0..3 * MOST {
                let (sessions, using, most, begin) = (&sessions, &using, &most, &begin);
                scope.spawn(move || {
                    begin.wait();
                    for turn in 0..20 {
                        let (permit, session) = sessions.take(LONG).expect("a turn");
                        most.fetch_max(using.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        using.fetch_sub(1, Ordering::SeqCst);
                        // Some fail.
                        if (thread + turn) % 5 > 0 {
                            permit.give_back(session.unwrap_or(thread));
                        }
                    }
                });
            }
        });
        assert!(most.into_inner() <= MOST);
        assert_eq!(sessions.lock().permits, MOST, "all permits are back");
    }

    #[test]
    fn who_waits_in_vain_leaves_the_queue() {
        let sessions = Sessions::<()>::default();
        let mut permits: Vec<_> = (0..MOST).map(|_| sessions.take(LONG).expect("there is one").0).collect();
        assert!(sessions.take(Duration::from_millis(5)).is_none());
        assert!(sessions.lock().queue.is_empty());
        permits.pop();
        assert!(sessions.take(Duration::ZERO).is_some());
    }
}
