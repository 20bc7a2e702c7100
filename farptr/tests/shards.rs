//! Executors outlive what their tasks do, and tasks do not outlive their memory.
//!
//! The story: a panic in code of the user's that did not run in a task's poll (the drop of an output that nobody took, of the future, of a panic's payload, a waker) ended the executor; tasks were taken
//! nevertheless, and `join` waited for ever. So it did for a task that waited for a miss when the last handle of the memory was dropped.

use farptr::faults::{Clock, FaultPlan, Faults, Kind, Rates};
use farptr::{FarMemory, RemBox, ShardTask};
use std::future::Future;
use std::io::Write;
use std::panic::panic_any;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// `None` where io_uring is missing.
fn with_a_shard(test: &str, faults: Option<&Faults>) -> Option<FarMemory> {
    let mut builder = FarMemory::builder().local_budget(2 << 20).server("embedded:").shards(1);
    if let Some(faults) = faults {
        builder = builder.faults(faults);
    }
    if let Err(missing) = farptr_runtime::sys::probe_io_uring() {
        writeln!(std::io::stderr(), "SKIPPED: {test}: {missing}").expect("standard error takes a line");
        return None;
    }
    Some(builder.build().unwrap())
}

fn join<T: Send + 'static>(task: ShardTask<T>) -> std::thread::Result<T> {
    let (tell, joined) = mpsc::channel();
    std::thread::spawn(move || tell.send(task.join()));
    joined.recv_timeout(PATIENCE).expect("join returns")
}

fn assert_answers(mem: &FarMemory) {
    let task = mem.spawn(0, || async { 7 }).expect("the shard takes tasks");
    assert_eq!(join(task).expect("the shard runs tasks"), 7);
}

/// Panics when it is dropped, or woken.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

struct BadWaker;

impl Wake for BadWaker {
    fn wake(self: Arc<Self>) {
        panic!("woken");
    }
}

/// Ends at once, and panics when it is dropped.
struct EndsBadly(#[allow(dead_code, reason = "for its drop")] Bomb);

impl Future for EndsBadly {
    type Output = u8;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u8> {
        Poll::Ready(3)
    }
}

#[test]
fn no_panic_of_a_task_ends_its_executor() {
    let Some(mem) = with_a_shard("no_panic_of_a_task_ends_its_executor", None) else { return };
    assert!(join(mem.spawn(0, || async { panic!("polled") }).unwrap()).is_err());
    assert_answers(&mem);
    // An output that nobody takes.
    drop(mem.spawn(0, || async { Bomb }).unwrap());
    assert_answers(&mem);
    // The payload of a panic that nobody takes.
    drop(mem.spawn(0, || async { panic_any(Bomb) }).unwrap());
    assert_answers(&mem);
    assert_eq!(join(mem.spawn(0, || EndsBadly(Bomb)).unwrap()).unwrap(), 3);
    assert_answers(&mem);
    let (go, started) = mpsc::channel::<()>();
    let mut task = mem.spawn(0, move || async move { started.recv().is_ok() }).unwrap();
    assert!(pin!(&mut task).poll(&mut Context::from_waker(&Waker::from(Arc::new(BadWaker)))).is_pending());
    go.send(()).unwrap();
    assert_answers(&mem);
    assert!(join(task).unwrap());
}

/// Says when it is dropped.
struct Tells(Arc<AtomicBool>);

impl Drop for Tells {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_task_that_waits_when_its_memory_goes_is_ended_and_joined() {
    let rates = Rates::NONE.with(Kind::Delay, Rates::ALWAYS);
    let (op_timeout, longest_delay) = (Duration::from_secs(1), Duration::from_millis(200));
    for seed in 0..5 {
        let faults = Faults::new(FaultPlan { rates, clock: Clock::Real, op_timeout, longest_delay, ..FaultPlan::new(seed) });
        let Some(mem) = with_a_shard("a_task_that_waits_when_its_memory_goes_is_ended_and_joined", Some(&faults)) else { return };
        let (far, waits) = mpsc::channel();
        let is_gone = Arc::new(AtomicBool::new(false));
        let (own, tells) = (mem.clone(), Tells(Arc::clone(&is_gone)));
        let task = mem.spawn(0, move || async move {
            let object = RemBox::new_in([3_u8; 5000], &own);
            own.evacuate_all().unwrap();
            drop(own);
            far.send(()).unwrap();
            let read = object.with_async(|object| object[7]).await;
            drop(tells);
            read
        });
        waits.recv_timeout(PATIENCE).expect("the task runs");
        drop(mem);
        // Or it was quick enough.
        if let Ok(read) = join(task.unwrap()) {
            assert_eq!(read.unwrap(), 3);
        }
        assert!(is_gone.load(Ordering::Acquire), "what the task owned has gone before it is joined");
    }
}
