//! A thread that looks after slow fetches and wakes waiting futures at intervals, while there are any.
//!
//! Futures of this crate know no executor and so no timer. What can't be waited for by being polled again at once (local memory that
//! is short, a server that takes long) waits here: each tick drives all lanes and wakes all who have registered. The thread is started by the
//! first who asks, and ends when there has been nothing to do for a while.
//!
//! # That nobody is forgotten
//! Who asks either leaves a waker, or has put a fetch in flight before and wants ticks as long as there is one. Asking, the start of the thread and
//! its decision to end are under one lock. The thread ends only if no waker is left and nobody has asked since its last tick began: what
//! was put in flight before somebody asked is seen by a tick that begins after. A waker that panics is caught ([`super::wakers`]); should a tick
//! panic in spite of that, the thread signs off and wakes all who have registered, and the next who asks starts another.
#![forbid(unsafe_code)]

use super::Memory;
use super::wakers::wake_all;
use crate::sync::{Mutex, MutexGuard};
use std::sync::{Arc, PoisonError, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

/// Time between two ticks: small beside the waits that end up here (300 us and more), large beside the cost of a tick.
const TICK: Duration = Duration::from_micros(100);

/// Time between two ticks while nobody waits for them: as long as a driver may leave its lane alone.
const WATCH: Duration = Duration::from_millis(1);

/// Ticks without anything to do before the thread ends.
const IDLE_TICKS: u32 = 200;

/// Who waits for the next tick. `H` is a handle of the thread.
#[derive(Debug)]
pub(crate) struct Ticker<H>(Mutex<State<H>>);

#[derive(Debug)]
struct State<H> {
    /// While it runs.
    thread: Option<H>,
    wakers: Vec<Waker>,
    /// Somebody has asked since the last tick began.
    is_asked: bool,
}

impl<H> Default for Ticker<H> {
    fn default() -> Self {
        Ticker(Mutex::new(State { thread: None, wakers: Vec::new(), is_asked: false }))
    }
}

/// What became of a request for ticks.
#[derive(Debug)]
#[must_use]
pub(crate) enum Asked<H> {
    /// The thread runs.
    Runs,
    /// The thread runs, and sleeps longer than he likes who asked.
    Sleeps(H),
    /// There is no thread. All who have registered are to be woken: without one those who wait poll, which is slow, but they go on.
    Refused(Vec<Waker>),
}

impl<H: Clone> Ticker<H> {
    fn lock(&self) -> MutexGuard<'_, State<H>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a tick that wakes `waker`, or for ticks as long as something is in flight. `start` starts the thread.
    pub(crate) fn ask(&self, waker: Option<Waker>, start: impl FnOnce() -> Option<H>) -> Asked<H> {
        let mut state = self.lock();
        let is_first = state.wakers.is_empty() && waker.is_some();
        state.wakers.extend(waker);
        state.is_asked = true;
        match &state.thread {
            Some(thread) if is_first => return Asked::Sleeps(thread.clone()),
            Some(_) => return Asked::Runs,
            None => state.thread = start(),
        }
        if state.thread.is_some() { Asked::Runs } else { Asked::Refused(std::mem::take(&mut state.wakers)) }
    }

    /// Whether somebody waits for the next tick.
    fn is_awaited(&self) -> bool {
        !self.lock().wakers.is_empty()
    }

    /// A tick: looks after the lanes by `look`, then wakes who has registered. Whether there was anything to do.
    pub(crate) fn tick(&self, look: impl FnOnce() -> bool) -> bool {
        self.lock().is_asked = false;
        let in_flight = look();
        let wakers = std::mem::take(&mut self.lock().wakers);
        let is_busy = in_flight || !wakers.is_empty();
        wake_all(wakers);
        is_busy
    }

    /// The thread, which had nothing to do for long enough, would like to end. Whether it may: it does not tick any more then.
    #[must_use]
    pub(crate) fn sign_off(&self) -> bool {
        let mut state = self.lock();
        let may = state.wakers.is_empty() && !state.is_asked;
        if may {
            state.thread = None;
        }
        may
    }

    /// The thread is dying of a panic.
    fn die(&self) {
        let mut state = self.lock();
        state.thread = None;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wake_all(wakers);
    }
}

impl Memory {
    /// Wakes `waker` at the next tick; without one, keeps ticking as long as fetches are in flight. False if the system gives no thread for it.
    pub(super) fn tick(&self, waker: Option<&Waker>) -> bool {
        let weak = self.weak.clone();
        let start = || match std::thread::Builder::new().name("farptr-tick".into()).spawn(move || run(&weak)) {
            Ok(handle) => Some(handle.thread().clone()),
            Err(error) => {
                tracing::warn!(%error, "no thread for slow fetches; waiting tasks will spin");
                None
            }
        };
        match self.ticker.ask(waker.cloned(), start) {
            Asked::Runs => true,
            Asked::Sleeps(thread) => {
                thread.unpark();
                true
            }
            Asked::Refused(wakers) => {
                wake_all(wakers);
                false
            }
        }
    }
}

/// Signs a thread off that panics.
struct Running<'a>(&'a Weak<Memory>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(memory) = self.0.upgrade()
        {
            memory.ticker.die();
        }
    }
}

fn run(memory: &Weak<Memory>) {
    let _running = Running(memory);
    let mut idle = 0;
    loop {
        let Some(is_awaited) = memory.upgrade().map(|memory| memory.ticker.is_awaited()) else { return };
        if !is_awaited {
            std::thread::park_timeout(WATCH - TICK);
        }
        std::thread::sleep(TICK);
        let Some(memory) = memory.upgrade() else { return };
        let is_busy = tick(&memory);
        idle = if is_busy { 0 } else { idle + 1 };
        if idle >= IDLE_TICKS && memory.ticker.sign_off() {
            return;
        }
    }
}

fn tick(memory: &Arc<Memory>) -> bool {
    memory.ticker.tick(|| memory.help_fetches() | memory.joined.wake_overdue(Instant::now))
}
