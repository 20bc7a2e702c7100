//! Shards: glommio executors, one thread each, that a far memory runs for its program.
//!
//! A program may as well use executors of its own, glommio's or others: the async forms need none of these. Only this file knows glommio.
#![forbid(unsafe_code)]

use farptr_runtime::{Error, Result, forked, sys};
use glommio::{LocalExecutorBuilder, Placement};
use std::any::Any;
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Memory glommio registers for its own I/O, per executor. The far memory does no I/O through it; glommio's default is 10 MiB.
const IO_MEMORY: usize = 64 << 10;

/// How long an idle executor spins before it sleeps: longer than the gap between two misses, shorter than anyone would notice.
const SPIN: Duration = Duration::from_micros(50);

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Inbox {
    state: Mutex<InboxState>,
}

#[derive(Default)]
struct InboxState {
    jobs: VecDeque<Job>,
    closed: bool,
    waker: Option<Waker>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut InboxState)) {
        let waker = {
            let mut state = self.lock();
            change(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next job; `None` when the memory is gone.
    async fn next(&self) -> Option<Job> {
        std::future::poll_fn(|context| {
            let mut state = self.lock();
            if let Some(job) = state.jobs.pop_front() {
                return Poll::Ready(Some(job));
            }
            if state.closed {
                return Poll::Ready(None);
            }
            state.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// The executors of one far memory. They end when it is dropped; tasks still running are dropped with them.
pub(crate) struct Shards {
    inboxes: Vec<Arc<Inbox>>,
}

impl Shards {
    /// Starts `count` executors.
    pub(crate) fn start(count: usize) -> Result<Self> {
        let mut shards = Shards { inboxes: Vec::new() };
        if count == 0 {
            return Ok(shards);
        }
        // glommio panics where io_uring is missing.
        sys::probe_io_uring().map_err(missing)?;
        for shard in 0..count {
            let inbox = Arc::new(Inbox::default());
            shards.inboxes.push(Arc::clone(&inbox));
            start_one(shard, inbox)?;
        }
        Ok(shards)
    }

    pub(crate) fn spawn<F, Fut>(&self, shard: usize, make: F) -> Result<ShardTask<Fut::Output>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Send + 'static,
    {
        let Some(inbox) = self.inboxes.get(shard) else {
            return Err(Error::Unsupported {
                what: "spawning on a shard",
                missing: format!(
                    "shard {shard} of {}; ask for more with Builder::shards, or await the async forms on an executor of your own",
                    self.inboxes.len()
                ),
            });
        };
        let slot = Arc::new(ResultSlot { state: Mutex::new(ResultState::Running(None)), done: Condvar::new() });
        let promise = Promise(Arc::clone(&slot));
        let job: Job = Box::new(move || {
            glommio::spawn_local(async move {
                let result = guarded(make).await;
                promise.keep(result);
            })
            .detach();
        });
        inbox.change(|state| state.jobs.push_back(job));
        Ok(ShardTask { slot })
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        // The executors are the parent's.
        if forked::is_child() {
            return;
        }
        for inbox in &self.inboxes {
            inbox.change(|state| state.closed = true);
        }
    }
}

fn missing(why: String) -> Error {
    Error::Unsupported {
        what: "shards (glommio executors)",
        missing: format!("{why}; use 0 shards: all blocking forms work without, and the async forms work on other executors"),
    }
}

fn start_one(shard: usize, inbox: Arc<Inbox>) -> Result<()> {
    // A bound executor spins before it parks, an unbound one does not; binding fails where the processor may not be used.
    let build = |placement| {
        let inbox = Arc::clone(&inbox);
        LocalExecutorBuilder::new(placement)
            .name(&format!("farptr-shard-{shard}"))
            .io_memory(IO_MEMORY)
            .spin_before_park(SPIN)
            .spawn(move || async move {
                while let Some(job) = inbox.next().await {
                    job();
                }
            })
    };
    let started = build(Placement::Fixed(shard)).or_else(|_| build(Placement::Unbound));
    // The thread is not joined: the memory may be dropped by one of its own tasks.
    started.map(drop).map_err(|error| missing(format!("glommio could not start an executor: {error}")))
}

/// Runs a future, turning a panic into a value: a panic in a task would end the executor.
async fn guarded<F, Fut>(make: F) -> std::thread::Result<Fut::Output>
where
    F: FnOnce() -> Fut,
    Fut: Future,
{
    let future = catch_unwind(AssertUnwindSafe(make))?;
    let mut future = pin!(future);
    std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

enum ResultState<T> {
    Running(Option<Waker>),
    Done(std::thread::Result<T>),
    Taken,
}

struct ResultSlot<T> {
    state: Mutex<ResultState<T>>,
    done: Condvar,
}

impl<T> ResultSlot<T> {
    fn lock(&self) -> MutexGuard<'_, ResultState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, result: std::thread::Result<T>) {
        let before = std::mem::replace(&mut *self.lock(), ResultState::Done(result));
        self.done.notify_all();
        if let ResultState::Running(Some(waker)) = before {
            waker.wake();
        }
    }
}

/// Keeps its word even if the task is dropped with its executor.
struct Promise<T>(Arc<ResultSlot<T>>);

impl<T> Promise<T> {
    fn keep(self, result: std::thread::Result<T>) {
        self.0.set(result);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if matches!(*self.0.lock(), ResultState::Running(_)) {
            self.0.set(Err(Box::new("the far memory was dropped before the task had ended")));
        }
    }
}

/// A future that runs on a shard. Dropping this lets it run on.
///
/// Wait with [`join`](ShardTask::join), or await it on any executor.
#[must_use = "the task runs on, but its result is lost"]
pub struct ShardTask<T> {
    slot: Arc<ResultSlot<T>>,
}

impl<T> ShardTask<T> {
    /// Blocks the thread until the task has ended. As with [`std::thread::JoinHandle::join`], `Err` is the task's panic. Not to be called on a
    /// shard: it would wait for itself.
    ///
    /// # Errors
    /// If the task panicked, or the memory was dropped before it ended.
    pub fn join(self) -> std::thread::Result<T> {
        forked::check().map_err(|error| Box::new(error.to_string()) as Box<dyn Any + Send>)?;
        let mut state = self.slot.lock();
        loop {
            match std::mem::replace(&mut *state, ResultState::Taken) {
                ResultState::Done(result) => return result,
                running => *state = running,
            }
            state = self.slot.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Future for ShardTask<T> {
    type Output = std::thread::Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        forked::check().map_err(|error| Box::new(error.to_string()) as Box<dyn Any + Send>)?;
        let mut state = self.slot.lock();
        match std::mem::replace(&mut *state, ResultState::Taken) {
            ResultState::Done(result) => Poll::Ready(result),
            ResultState::Running(_) => {
                *state = ResultState::Running(Some(context.waker().clone()));
                Poll::Pending
            }
            ResultState::Taken => panic!("a ShardTask was polled after it had ended"),
        }
    }
}

impl<T> std::fmt::Debug for ShardTask<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardTask").finish_non_exhaustive()
    }
}
