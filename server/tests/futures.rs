//! Futures on executors of every kind: kept without being polled, forgotten, dropped from within a wake-up.
//!
//! A miss in flight is driven by one of the futures that wait in its lane. None of what a program may do to that future in safe code must leave the
//! others waiting.

mod common;

use common::{Farmemd, block_on};
use farptr::{Error, FarMemory, RemBox};
use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// Runs `body` on a thread of its own. What hangs is a failure, not a test that never ends.
fn within(limit: Duration, body: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        body();
        let _ = done.send(());
    });
    match ended.recv_timeout(limit) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("still not done after {limit:?}"),
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

const LIMIT: Duration = Duration::from_secs(10);

type Values = Vec<RemBox<[u64; 128]>>;

fn far_values(mem: &FarMemory, count: u64) -> Values {
    let boxes = (0..count).map(|n| RemBox::new_in([n; 128], mem)).collect();
    mem.evacuate_all().expect("evacuate");
    boxes
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_future_that_is_kept_but_not_polled_does_not_stall_the_others() {
    let server = Farmemd::start("16MiB");
    let mem = server.memory(1 << 20);
    within(LIMIT, move || {
        let boxes = far_values(&mem, 10);
        let mut kept: Vec<_> = boxes[..5].iter().map(|value| Box::pin(value.pin_async())).collect();
        for future in &mut kept {
            let _ = poll_once(future.as_mut());
        }
        for (n, value) in boxes.iter().enumerate().skip(3) {
            assert_eq!(*block_on(value.pin_async()).unwrap(), [n as u64; 128]);
        }
        for (n, future) in kept.into_iter().enumerate() {
            assert_eq!(*block_on(future).unwrap(), [n as u64; 128]);
        }
    });
}

#[test]
fn a_future_that_is_forgotten_does_not_stall_the_others() {
    let server = Farmemd::start("16MiB");
    let mem = server.memory(1 << 20);
    within(LIMIT, move || {
        let boxes = far_values(&mem, 10);
        for value in &boxes[..5] {
            let mut future = Box::pin(value.pin_async());
            let _ = poll_once(future.as_mut());
            std::mem::forget(future);
        }
        // Awaited, derefed by blocking, or dropped while the forgotten future's fetch is under way.
        assert_eq!(*block_on(boxes[9].pin_async()).unwrap(), [9; 128]);
        assert_eq!(*block_on(boxes[0].pin_async()).unwrap(), [0; 128]);
        boxes[1].with(|value| assert_eq!(*value, [1; 128]));
        drop(boxes);
    });
}

/// A task as the small executors of tutorials have it: woken, it puts itself into the executor's queue; when the executor has gone it is
/// dropped there and then, and its future with it.
struct Task {
    future: Mutex<Pin<Box<dyn Future<Output = ()> + Send>>>,
    queue: mpsc::Sender<Arc<Task>>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let _ = self.queue.clone().send(self);
    }
}

impl Task {
    fn poll(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        let mut future = self.future.lock().unwrap();
        let _ = future.as_mut().poll(&mut Context::from_waker(&waker));
    }
}

#[test]
fn a_task_that_is_dropped_by_its_own_wake_up_does_not_stall_the_others() {
    let server = Farmemd::start("16MiB");
    let mem = server.memory(1 << 20);
    within(LIMIT, move || {
        let boxes = far_values(&mem, 20);
        let (queue, woken) = mpsc::channel();
        let mut boxes = boxes.into_iter();
        for value in boxes.by_ref().take(10) {
            let future = async move {
                let _ = value.pin_async().await;
            };
            Arc::new(Task { future: Mutex::new(Box::pin(future)), queue: queue.clone() }).poll();
        }
        // The executor goes; what keeps the tasks is that their fetches are to wake them.
        drop((queue, woken));
        for (n, value) in boxes.enumerate() {
            assert_eq!(*block_on(value.pin_async()).unwrap(), [n as u64 + 10; 128]);
            value.with(|value| assert_eq!(value[0], n as u64 + 10));
        }
    });
}

/// A scope that holds all of local memory keeps a future of the same thread from getting room: it is told at once, as the blocking forms are. It waited for two timeouts, and blamed
/// evacuation.
#[test]
fn a_future_beside_a_scope_that_holds_all_is_refused_at_once() {
    let server = Farmemd::start("16MiB");
    let mem = server.memory(1 << 20);
    within(LIMIT, move || {
        let boxes = far_values(&mem, 4000);
        let scope = farptr::scope();
        let held = boxes.iter().take_while(|value| value.try_get(&scope).is_ok()).count();
        assert!(held > 100 && held < boxes.len(), "{held}");
        let started = Instant::now();
        let refused = block_on(boxes[held].pin_async()).map(drop);
        assert!(matches!(refused, Err(Error::ScopeExhausted { .. })), "{refused:?}");
        let refused = block_on(boxes[held].with_async(|_| ()));
        assert!(matches!(refused, Err(Error::ScopeExhausted { .. })), "{refused:?}");
        assert!(started.elapsed() < Duration::from_secs(1), "the timeout is two: {:?}", started.elapsed());
        drop(scope);
        block_on(boxes[held].pin_async()).unwrap();
    });
}
