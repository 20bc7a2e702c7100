//! A thread that looks after slow fetches and wakes waiting futures at intervals, while there are any.
//!
//! Futures of this crate know no executor and so no timer. What can't be waited for by being polled again at once (local memory that
//! is short, a server that takes long) waits here: each tick drives all lanes and wakes all who have registered. The thread is started by the
//! first who registers, and ends when there has been nothing to do for a while.
#![forbid(unsafe_code)]

use super::Memory;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::thread::Thread;
use std::time::Duration;

/// Time between two ticks: small beside the waits that end up here (300 us and more), large beside the cost of a tick.
const TICK: Duration = Duration::from_micros(100);

/// Time between two ticks while nobody waits for them: as long as a driver may leave its lane alone.
const WATCH: Duration = Duration::from_millis(1);

/// Ticks without anything to do before the thread ends.
const IDLE_TICKS: u32 = 200;

/// Who waits for the next tick.
#[derive(Debug, Default)]
pub(crate) struct Ticker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// While it runs.
    thread: Option<Thread>,
    wakers: Vec<Waker>,
}

impl Ticker {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Wakes `waker` at the next tick; without one, keeps ticking as long as fetches are in flight. False if the system gives no thread for it.
    pub(super) fn tick(&self, waker: Option<&Waker>) -> bool {
        let mut state = self.ticker.lock();
        let first = state.wakers.is_empty();
        state.wakers.extend(waker.cloned());
        if let Some(thread) = &state.thread {
            if first && waker.is_some() {
                thread.unpark();
            }
            return true;
        }
        let weak = self.weak.clone();
        match std::thread::Builder::new().name("farptr-tick".into()).spawn(move || run(&weak)) {
            Ok(handle) => {
                state.thread = Some(handle.thread().clone());
                true
            }
            Err(error) => {
                // Without the thread those who wait poll: slow, but they go on.
                tracing::warn!(%error, "no thread for slow fetches; waiting tasks will spin");
                let wakers = std::mem::take(&mut state.wakers);
                drop(state);
                wakers.into_iter().for_each(Waker::wake);
                false
            }
        }
    }
}

fn run(memory: &Weak<Memory>) {
    let mut idle = 0;
    loop {
        let Some(awaited) = memory.upgrade().map(|memory| !memory.ticker.lock().wakers.is_empty()) else { return };
        if !awaited {
            std::thread::park_timeout(WATCH - TICK);
        }
        std::thread::sleep(TICK);
        let Some(memory) = memory.upgrade() else { return };
        let busy = tick(&memory);
        idle = if busy { 0 } else { idle + 1 };
        if idle >= IDLE_TICKS {
            let mut state = memory.ticker.lock();
            if state.wakers.is_empty() {
                state.thread = None;
                return;
            }
        }
    }
}

fn tick(memory: &Arc<Memory>) -> bool {
    let in_flight = memory.help_fetches();
    let wakers = std::mem::take(&mut memory.ticker.lock().wakers);
    let waiting = !wakers.is_empty();
    wakers.into_iter().for_each(Waker::wake);
    in_flight || waiting
}
