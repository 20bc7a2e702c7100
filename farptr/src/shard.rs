//! Shards: glommio executors, one thread each, that a far memory runs for its program.
//!
//! A program may as well use executors of its own, glommio's or others: the async forms need none of these. Only this file knows glommio.
//!
//! # Nothing of the user's ends an executor
//! What panics on it would end it, and with it every task of the shard. So all code of the user's runs contained: futures, their drop ([`Contained`]), the drop of an output that nobody takes, of a
//! panic's payload, and wakers ([`contained`]). If an executor ends nevertheless, its inbox closes with it ([`Serving`]): what is in it is dropped, which tells those who wait, and nothing more is
//! taken.
//!
//! # How an executor ends
//! The last handle of the memory closes the inboxes. An executor then cancels the tasks that it still has: a task that waits for a miss is known to that miss by its waker, and would be kept by it,
//! with all that it owns. Dropping a task breaks its promise, so that who waits for it is told.
#![forbid(unsafe_code)]

use farptr_runtime::{Error, Result, forked, sys};
use glommio::task::JoinHandle;
use glommio::{LocalExecutorBuilder, Placement};
use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Memory glommio registers for its own I/O, per executor. The far memory does no I/O through it; glommio's default is 10 MiB.
const IO_MEMORY: usize = 64 << 10;

/// How long an idle executor spins before it sleeps: longer than the gap between two misses, shorter than anyone would notice.
const SPIN: Duration = Duration::from_micros(50);

/// Called by a task at its end.
type Ended = Box<dyn FnOnce()>;

/// Starts a task, which can be cancelled.
type Job = Box<dyn FnOnce(Ended) -> JoinHandle<()> + Send>;

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

/// Closes an inbox when its executor ends, for whatever reason.
struct Serving(Arc<Inbox>);

impl Drop for Serving {
    fn drop(&mut self) {
        let mut left = VecDeque::new();
        self.0.change(|state| {
            state.closed = true;
            left = std::mem::take(&mut state.jobs);
        });
        left.into_iter().for_each(|job| contained(|| drop(job)));
    }
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
        let job: Job = Box::new(move |ended: Ended| {
            let task = async move {
                let result = match catch_unwind(AssertUnwindSafe(make)) {
                    Ok(future) => Contained::new(future).await,
                    Err(panic) => Err(panic),
                };
                promise.keep(result);
                ended();
            };
            glommio::spawn_local(task).detach()
        });
        let mut refused = Some(job);
        inbox.change(|state| {
            if !state.closed {
                state.jobs.extend(refused.take());
            }
        });
        match refused {
            None => Ok(ShardTask { slot }),
            Some(_) => Err(Error::Unsupported {
                what: "spawning on a shard",
                missing: format!("the executor of shard {shard} has ended"),
            }),
        }
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
            .spawn(move || serve(Serving(inbox)))
    };
    let started = build(Placement::Fixed(shard)).or_else(|_| build(Placement::Unbound));
    // The thread is not joined: the memory may be dropped by one of its own tasks.
    started.map(drop).map_err(|error| missing(format!("glommio could not start an executor: {error}")))
}

/// Starts the tasks that come, until there will be no more. Then ends those that still run.
async fn serve(inbox: Serving) {
    let tasks = Rc::<RefCell<BTreeMap<u64, JoinHandle<()>>>>::default();
    let mut number = 0;
    while let Some(job) = inbox.0.next().await {
        number += 1;
        let (own, of_all) = (number, Rc::clone(&tasks));
        // It runs when this one waits, so it ends after it has been noted.
        let task = job(Box::new(move || drop(of_all.borrow_mut().remove(&own))));
        tasks.borrow_mut().insert(number, task);
    }
    let left = tasks.take();
    left.values().for_each(JoinHandle::cancel);
    for (_, task) in left {
        let _ended = task.await;
    }
}

/// Runs code of the user's. A panic ends there, and so does one of dropping its payload.
fn contained(run: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
        std::mem::forget(dropped);
    }
}

/// A future whose panics, also that of its drop, are values or nothing.
struct Contained<Fut>(Option<Pin<Box<Fut>>>);

impl<Fut: Future> Contained<Fut> {
    fn new(future: Fut) -> Self {
        Contained(Some(Box::pin(future)))
    }
}

impl<Fut: Future> Future for Contained<Fut> {
    type Output = std::thread::Result<Fut::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.0.as_mut().expect("it is not polled after it has ended");
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        let result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(value)) => Ok(value),
            Err(panic) => Err(panic),
        };
        let ended = self.0.take();
        contained(|| drop(ended));
        Poll::Ready(result)
    }
}

impl<Fut> Drop for Contained<Fut> {
    fn drop(&mut self) {
        let future = self.0.take();
        contained(|| drop(future));
    }
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
            contained(|| waker.wake());
        }
    }
}

/// Keeps its word even if the task is dropped with its executor.
struct Promise<T>(Arc<ResultSlot<T>>);

impl<T> Promise<T> {
    fn keep(self, result: std::thread::Result<T>) {
        self.0.set(result);
        // Nobody waits for it: what it owns is dropped here.
        contained(|| drop(self));
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

/// In the child of a fork no task of its parent's ends: an error, in place of a panic's payload.
fn not_forked() -> std::thread::Result<()> {
    forked::check().map_err(|error| Box::new(error.to_string()) as Box<dyn Any + Send>)
}

impl<T> ShardTask<T> {
    /// Blocks the thread until the task has ended. As with [`std::thread::JoinHandle::join`], `Err` is the task's panic. Not to be called on a
    /// shard: it would wait for itself.
    ///
    /// # Errors
    /// If the task panicked, or the memory was dropped before it ended.
    pub fn join(self) -> std::thread::Result<T> {
        not_forked()?;
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
        not_forked()?;
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
