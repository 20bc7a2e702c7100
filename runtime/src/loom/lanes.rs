//! Who drives a lane, who is woken, and when the ticker may end.
//!
//! The lane, its endings, the futures' part in it ([`Flight`]) and the ticker's decisions are the code itself. What the lane carries is replaced by
//! fetches that end after so many looks, and time by what a model says it is: a driver is patient or not, as the model wants it. A wake-up that is
//! lost leaves a thread asleep for ever, which loom reports. Where a model says "no ticker", a future that asks for one is told that it has
//! it, and has not: what these models show does not rest on ticks.
#![forbid(unsafe_code)]

use super::{check, saw};
use crate::error::Result;
use crate::memory::ending::Ending;
use crate::memory::lane::{Ended, Flight, Lane, Traffic};
use crate::memory::ticker::{Asked, Ticker};
use crate::memory::wakers::wake_all;
use crate::sync::{AtomicU64, Condvar, Mutex, Ordering, yield_now};
use crate::transport::Progress;
use loom::thread;
use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// A thread that runs one future.
#[derive(Default)]
struct Executor {
    is_woken: Mutex<bool>,
    wake_up: Condvar,
}

impl Wake for Executor {
    fn wake(self: Arc<Self>) {
        *self.is_woken.lock().unwrap() = true;
        self.wake_up.notify_one();
    }
}

/// Runs a future to its end, polling it when it has been woken and at no other time.
fn block_on<R>(future: impl Future<Output = R>) -> R {
    let executor = Arc::new(Executor::default());
    let waker = Waker::from(Arc::clone(&executor));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return result;
        }
        // Who asks to be polled again gives way to others: what he waits for may be in the hands of a thread that is about to tell.
        yield_now();
        let mut is_woken = executor.is_woken.lock().unwrap();
        while !std::mem::take(&mut *is_woken) {
            is_woken = executor.wake_up.wait(is_woken).unwrap();
        }
    }
}

/// Fetches, and after how many looks they end.
#[derive(Default)]
struct Wire {
    fetches: Vec<(Arc<Ending>, u32)>,
    ended: Vec<Ended>,
}

impl Traffic for Wire {
    type Ground = ();

    fn look(&mut self, (): &(), _now: Instant) -> Progress {
        self.fetches.iter_mut().for_each(|(_, looks)| *looks -= 1);
        let came = self.fetches.extract_if(.., |(_, looks)| *looks == 0).map(|(ending, _)| (ending, Ok(())));
        let before = self.ended.len();
        self.ended.extend(came);
        if self.ended.len() > before { Progress::Moved } else { Progress::Idle }
    }

    fn interval(&self) -> Duration {
        Duration::ZERO
    }

    fn in_flight(&self) -> impl Iterator<Item = &Arc<Ending>> {
        self.fetches.iter().map(|(ending, _)| ending)
    }

    fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }
}

/// One lane and its ticker.
struct World {
    lane: Arc<Lane<Wire>>,
    /// None: a future that asks is told that it runs.
    ticker: Option<Ticker<()>>,
    start: Instant,
}

impl World {
    fn new(ticker: Option<Ticker<()>>) -> Arc<Self> {
        Arc::new(World { lane: Arc::default(), ticker, start: Instant::now() })
    }

    fn without_ticker() -> Arc<Self> {
        World::new(None)
    }

    fn with_ticker() -> Arc<Self> {
        World::new(Some(Ticker::default()))
    }

    /// A time at which every driver has been away for too long.
    fn late(&self) -> Instant {
        self.start + Duration::from_secs(1)
    }

    /// Puts a fetch in flight that ends at the `looks`th look.
    fn begin(&self, looks: u32) -> Arc<Ending> {
        let ending = Arc::new(Ending::default());
        self.lane.begin(|wire| wire.fetches.push((Arc::clone(&ending), looks)));
        ending
    }

    /// Follows `Memory::tick`.
    fn tick(self: &Arc<Self>, waker: Option<&Waker>) -> bool {
        saw(if waker.is_some() { "waited for a tick" } else { "waited" });
        let Some(ticker) = &self.ticker else { return true };
        let start = || {
            let world = Arc::clone(self);
            thread::spawn(move || world.run_ticker());
            Some(())
        };
        match ticker.ask(waker.cloned(), start) {
            Asked::Runs | Asked::Sleeps(()) => true,
            Asked::Refused(_) => panic!("there is always a thread"),
        }
    }

    /// Follows `ticker::run`, which ends after one idle tick here.
    fn run_ticker(&self) {
        let ticker = self.ticker.as_ref().expect("a world with a ticker");
        loop {
            let is_busy = ticker.tick(|| self.lane.help(&(), self.late()));
            if !is_busy && ticker.sign_off() {
                return saw("the ticker ended");
            }
            yield_now();
        }
    }

    /// A future that waits for `ending`. With each poll `step` passes.
    fn wait_for(self: &Arc<Self>, ending: &Arc<Ending>, who: u64, step: Duration) -> Waiting {
        let flight = Flight::new(Arc::clone(&self.lane), Arc::clone(ending), who);
        Waiting { world: Arc::clone(self), flight, now: self.start, step }
    }

    /// The same, to whose executor no time passes.
    fn wait(self: &Arc<Self>, ending: &Arc<Ending>, who: u64) -> Waiting {
        self.wait_for(ending, who, Duration::ZERO)
    }
}

/// Follows `BringIn`.
struct Waiting {
    world: Arc<World>,
    flight: Flight<Wire>,
    now: Instant,
    step: Duration,
}

impl Waiting {
    fn poll_with(&mut self, waker: &Waker) -> Poll<Result<()>> {
        Pin::new(self).poll(&mut Context::from_waker(waker))
    }
}

impl Future for Waiting {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Waiting { world, flight, now, step } = self.get_mut();
        *now += *step;
        flight.poll(&(), || *now, context.waker(), |waker| world.tick(waker))
    }
}

/// Waits to the end.
fn land(waiting: Waiting) {
    block_on(waiting).expect("the fetch ends well");
}

/// Who is cancelled may be the driver, or joined and waiting, before or after the other has come; no ticker.
#[test]
fn two_tasks_join_one_miss_and_one_is_cancelled() {
    check(3, &["cancelled", "cancelled too late", "waited"], || {
        let world = World::without_ticker();
        let ending = world.begin(3);
        let mut cancelled = world.wait(&ending, 1);
        let waiting = world.wait(&ending, 2);
        let canceller = thread::spawn(move || {
            let landed = cancelled.poll_with(Waker::noop()).is_ready();
            saw(if landed { "cancelled too late" } else { "cancelled" });
        });
        land(waiting);
        canceller.join().unwrap();
    });
}

/// The driver's fetch ends first; the other is registering meanwhile, or asleep, or drives itself. No ticker.
#[test]
fn driver_lands_while_another_registers() {
    check(3, &["waited"], || {
        let world = World::without_ticker();
        let (first, second) = (world.begin(1), world.begin(3));
        let (one, other) = (world.wait(&first, 1), world.wait(&second, 2));
        let driver = thread::spawn(move || land(one));
        land(other);
        driver.join().unwrap();
    });
}

/// Between the two fetches lies one whose future is gone: it can't take over. No ticker.
#[test]
fn the_role_passes_over_a_fetch_that_nobody_awaits() {
    check(3, &["waited"], || {
        let world = World::without_ticker();
        let [gone, first, last] = [6, 3, 6].map(|looks| world.begin(looks));
        let _ = world.wait(&gone, 3).poll_with(Waker::noop());
        let (one, other) = (world.wait(&first, 1), world.wait(&last, 2));
        let driver = thread::spawn(move || land(one));
        land(other);
        driver.join().unwrap();
    });
}

/// The driver is dropped while his own fetch has only himself waiting: he does not hand on to himself. No ticker.
#[test]
fn driver_is_dropped_while_another_waits() {
    check(3, &["waited", "dropped"], || {
        let world = World::without_ticker();
        let (first, second) = (world.begin(6), world.begin(6));
        let (mut driver, other) = (world.wait(&first, 1), world.wait(&second, 2));
        let dropping = thread::spawn(move || {
            let landed = driver.poll_with(Waker::noop()).is_ready();
            saw(if landed { "landed" } else { "dropped" });
        });
        land(other);
        dropping.join().unwrap();
    });
}

/// A thread that helps takes the role from a driver who is away, and ends fetches behind his back. No ticker.
#[test]
fn helper_against_driver() {
    check(2, &["waited", "helped", "nothing left to do"], || {
        let world = World::without_ticker();
        let (first, second) = (world.begin(2), world.begin(4));
        let (one, other) = (world.wait(&first, 1), world.wait(&second, 2));
        let driver = thread::spawn(move || land(one));
        let helper = thread::spawn(move || {
            let is_busy = world.lane.help(&(), world.late());
            saw(if is_busy { "helped" } else { "nothing left to do" });
        });
        land(other);
        driver.join().unwrap();
        helper.join().unwrap();
    });
}

/// A fetch ends, by another's look, between a future's first look at its ending and its going to sleep.
#[test]
fn fetch_ends_between_check_and_park() {
    check(3, &["waited"], || {
        let world = World::without_ticker();
        let ending = world.begin(2);
        // The driver's own fetch is longer, so that he does not hand on.
        let longer = world.begin(3);
        let (driving, waiting) = (world.wait(&longer, 1), world.wait(&ending, 2));
        let driver = thread::spawn(move || land(driving));
        land(waiting);
        driver.join().unwrap();
    });
}

/// An ending by itself: it comes before somebody looks, or between his look and his going to sleep, or later. He looks once, and again when woken.
#[test]
fn who_has_left_his_waker_is_woken_at_the_end() {
    check(4, &["ended before", "woken"], || {
        let ending = Arc::new(Ending::default());
        let setter = thread::spawn({
            let ending = Arc::clone(&ending);
            move || wake_all(ending.set(Ok(())))
        });
        let mut polls = 0;
        let result = block_on(poll_fn(|context| {
            polls += 1;
            ending.poll(1, context.waker()).map_or(Poll::Pending, Poll::Ready)
        }));
        assert!(result.is_ok());
        saw(if polls == 1 { "ended before" } else { "woken" });
        setter.join().unwrap();
    });
}

/// A driver is forgotten; the other has only the ticker.
#[test]
fn ticker_takes_the_role_from_a_forgotten_driver() {
    check(3, &["waited", "the ticker ended"], || {
        let world = World::with_ticker();
        let (first, second) = (world.begin(3), world.begin(3));
        let mut forgotten = world.wait(&first, 1);
        assert!(forgotten.poll_with(Waker::noop()).is_pending());
        std::mem::forget(forgotten);
        land(world.wait(&second, 2));
    });
}

/// A ticker that has nothing to do is about to end when a fetch begins, whose driver is forgotten, and a future asks for ticks.
#[test]
fn ticker_does_not_end_under_one_who_asked() {
    check(3, &["waited", "the ticker ended"], || {
        let world = World::with_ticker();
        assert!(world.tick(None));
        let (first, second) = (world.begin(3), world.begin(3));
        let mut forgotten = world.wait(&first, 1);
        if forgotten.poll_with(Waker::noop()).is_pending() {
            std::mem::forget(forgotten);
        }
        land(world.wait(&second, 2));
    });
}

/// A slow server: nothing comes, so the driver lets go and waits for ticks; another is joined with him.
#[test]
fn ticker_drives_for_a_slow_server() {
    check(2, &["waited for a tick", "waited", "the ticker ended"], || {
        let world = World::with_ticker();
        let ending = world.begin(4);
        let (one, other) = (world.wait_for(&ending, 1, Duration::from_micros(400)), world.wait(&ending, 2));
        let driver = thread::spawn(move || land(one));
        land(other);
        driver.join().unwrap();
    });
}

/// A waker that panics.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        saw("a waker panicked");
        // As a panic, without the message.
        resume_unwind(Box::new("a waker panicked"));
    }
}

/// One of the tasks that wait for ticks, and for the end of the fetch, has such a waker: the others are woken, and the ticker goes on.
#[test]
fn waker_that_panics_takes_nobody_with_it() {
    check(2, &["a waker panicked", "waited for a tick", "the ticker ended"], || {
        let world = World::with_ticker();
        let ending = world.begin(5);
        let waker = Waker::from(Arc::new(Panics));
        let mut panicking = world.wait_for(&ending, 1, Duration::from_micros(400));
        // The first looks; then he lets go, and is to be woken by a tick and at the end. A second poll would panic in his own task.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panicking.poll_with(&waker)));
        let _ = panicking.poll_with(&waker);
        land(world.wait_for(&ending, 2, Duration::from_micros(400)));
        drop(panicking);
    });
}

/// A task of an executor that has gone: a wake-up drops it. Not a lock of loom's, since nothing else happens under it.
#[derive(Default)]
struct Orphan(std::sync::Mutex<OrphanState>);

#[derive(Default)]
enum OrphanState {
    #[default]
    Polled,
    PolledAndWoken,
    Asleep(Waiting),
    Gone,
}

impl Orphan {
    fn change(&self, to: impl FnOnce(OrphanState) -> OrphanState) -> OrphanState {
        let mut state = self.0.lock().unwrap();
        let before = std::mem::take(&mut *state);
        let dropped = matches!(before, OrphanState::Asleep(_));
        if dropped {
            *state = OrphanState::Gone;
            return before;
        }
        *state = to(before);
        OrphanState::Gone
    }
}

impl Wake for Orphan {
    fn wake(self: Arc<Self>) {
        let gone = self.change(|state| match state {
            OrphanState::Polled => OrphanState::PolledAndWoken,
            state => state,
        });
        if let OrphanState::Asleep(waiting) = gone {
            saw("a waker dropped its task");
            drop(waiting);
        }
    }
}

/// The task of one is dropped by its own wake-up, which happens in the thread of whoever looks, while another registers. No ticker.
#[test]
fn waker_that_drops_its_task_finds_no_lock_taken() {
    check(3, &["a waker dropped its task", "waited"], || {
        let world = World::without_ticker();
        let (first, second) = (world.begin(2), world.begin(4));
        let task = Arc::new(Orphan::default());
        let waker = Waker::from(Arc::clone(&task));
        let (mut dropped, driving) = (world.wait(&first, 1), world.wait(&second, 2));
        let helper = thread::spawn({
            let world = Arc::clone(&world);
            move || saw(if world.lane.help(&(), world.late()) { "helped" } else { "nothing left to do" })
        });
        let orphan = thread::spawn(move || {
            if dropped.poll_with(&waker).is_pending() {
                let mut woken = None;
                let _ = task.change(|state| match state {
                    OrphanState::Polled => OrphanState::Asleep(dropped),
                    _ => {
                        woken = Some(dropped);
                        OrphanState::Gone
                    }
                });
                drop(woken);
            }
        });
        land(driving);
        helper.join().unwrap();
        orphan.join().unwrap();
    });
}

/// A future that waits for room, as `Memory::room_async`: what it waits for tells nobody, so it looks at every tick. The ticker is about to end.
#[test]
fn waiter_for_room_is_woken_by_a_tick() {
    check(3, &["waited for a tick", "there was room", "the ticker ended"], || {
        let world = World::with_ticker();
        let room = Arc::new(AtomicU64::new(0));
        let freeing = Arc::clone(&room);
        let evacuator = thread::spawn(move || freeing.store(1, Ordering::Release));
        assert!(world.tick(None));
        block_on(poll_fn(|context| {
            if room.load(Ordering::Acquire) == 1 {
                saw("there was room");
                return Poll::Ready(());
            }
            assert!(world.tick(Some(context.waker())));
            Poll::Pending
        }));
        evacuator.join().unwrap();
    });
}
