//! Waiting for misses, with servers, executors and clocks that do what the test wants.
#![forbid(unsafe_code)]

use super::ending::Ending;
use super::lane::{Ended, Flight, Lane, Traffic};
use super::{Memory, MemoryConfig, Origin};
use crate::addr::{FarAddr, FarSegmentId, SlotId};
use crate::budget::Party;
use crate::error::{Error, Result, TransportError};
use crate::far::Server;
use crate::scope::AccessHint;
use crate::slot::UnitClass;
use crate::transport::stub::Stub;
use crate::transport::{Completion, Op, Progress, Session, Submit};
use crate::word::{FarPlace, Stamp, State, Word};
use std::alloc::Layout;
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a machine that still runs.
const LIMIT: Duration = Duration::from_secs(60);

fn memory(servers: Vec<Server>) -> Arc<Memory> {
    memory_with(servers, Duration::from_secs(30))
}

fn memory_with(servers: Vec<Server>, timeout: Duration) -> Arc<Memory> {
    let config = MemoryConfig { local_budget: 4 << 20, shards: 1, timeout, far_capacity: 1 << 30 };
    Memory::new(config, servers).unwrap()
}

/// Counts wake-ups, and panics if told to.
struct Counting {
    wakes: AtomicUsize,
    panics: bool,
    told: Mutex<mpsc::Sender<()>>,
}

impl Counting {
    fn new(panics: bool) -> (Arc<Self>, mpsc::Receiver<()>) {
        let (told, woken) = mpsc::channel();
        (Arc::new(Counting { wakes: AtomicUsize::new(0), panics, told: Mutex::new(told) }), woken)
    }

    fn wakes(&self) -> usize {
        self.wakes.load(Ordering::SeqCst)
    }
}

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        let _ = self.told.lock().unwrap().send(());
        assert!(!self.panics, "a waker panics, as the test wants");
    }
}

/// The ticker is one thread for all that wait. A waker that panicked used to end it for good: its handle stayed, so nobody started another,
/// and whoever waited for a tick waited for ever.
#[test]
fn ticker_outlives_a_waker_that_panics() {
    let memory = memory(Vec::new());
    let (bad, bad_woken) = Counting::new(true);
    let (good, good_woken) = Counting::new(false);
    for _ in 0..3 {
        assert!(memory.tick(Some(&Waker::from(Arc::clone(&bad)))));
        bad_woken.recv_timeout(LIMIT).expect("the bad waker is woken");
        assert!(memory.tick(Some(&Waker::from(Arc::clone(&good)))));
        good_woken.recv_timeout(LIMIT).expect("the good waker is woken after a bad one");
    }
    // Both in one tick or in two, the bad one first.
    assert!(memory.tick(Some(&Waker::from(bad))));
    assert!(memory.tick(Some(&Waker::from(good))));
    good_woken.recv_timeout(LIMIT).expect("the good waker is woken beside a bad one");
}

/// One fetch that ends when the test says so.
#[derive(Default)]
struct Wire {
    fetches: Vec<Arc<Ending>>,
    has_come: bool,
    looks: usize,
    ended: Vec<Ended>,
}

impl Traffic for Wire {
    type Ground = ();

    fn look(&mut self, (): &(), _now: Instant) -> Progress {
        self.looks += 1;
        if !self.has_come {
            return Progress::Idle;
        }
        self.ended.extend(self.fetches.drain(..).map(|ending| (ending, Ok(()))));
        Progress::Moved
    }

    fn interval(&self) -> Duration {
        Duration::ZERO
    }

    fn in_flight(&self) -> impl Iterator<Item = &Arc<Ending>> {
        self.fetches.iter()
    }

    fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }
}

fn lane() -> Arc<Lane<Wire>> {
    Arc::default()
}

fn begin(lane: &Lane<Wire>) -> Arc<Ending> {
    let ending = Arc::new(Ending::default());
    lane.begin(|wire| wire.fetches.push(Arc::clone(&ending)));
    ending
}

/// When the first waker panicked, the fetches behind it were taken out of the lane and never said to have ended: their futures waited for ever.
#[test]
fn waker_that_panics_keeps_nobody_from_being_woken() {
    let lane = lane();
    let mut waiting = Vec::new();
    for who in 0..6 {
        // Two to a fetch, the one that panics first.
        let ending = if who % 2 == 0 { begin(&lane) } else { lane.find(|wire| Arc::clone(wire.fetches.last().unwrap())) };
        let (waker, _) = Counting::new(who % 2 == 0);
        let mut flight = Flight::new(Arc::clone(&lane), ending, who);
        let now = Instant::now();
        // The first drives and asks to be polled again: that panic is its own task's.
        let poll = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            flight.poll(&(), || now, &Waker::from(Arc::clone(&waker)), |_| true)
        }));
        assert!(!matches!(poll, Ok(Poll::Ready(_))));
        waiting.push((waker, flight));
    }
    let before: Vec<_> = waiting.iter().map(|(waker, _)| waker.wakes()).collect();
    lane.begin(|wire| wire.has_come = true);
    let late = Instant::now() + Duration::from_secs(1);
    assert!(!lane.help(&(), late), "nothing is in flight any more");
    for ((waker, mut flight), before) in waiting.into_iter().zip(before) {
        assert_eq!(waker.wakes(), before + 1);
        let poll = flight.poll(&(), || late, Waker::noop(), |_| unreachable!("it has ended"));
        assert!(matches!(poll, Poll::Ready(Ok(()))));
    }
}

/// "A slow server costs no processor": once a driver has let go, a tick is worth one look. It used to spin for 300 us after each, three quarters of
/// a processor.
#[test]
fn slow_lane_is_looked_at_once_a_tick() {
    let lane = lane();
    let ending = begin(&lane);
    let mut flight = Flight::new(Arc::clone(&lane), ending, 1);
    let start = Instant::now();
    let (waker, _) = Counting::new(false);
    let ticks = Cell::new(0);
    let mut poll_at = |micros| {
        let now = start + Duration::from_micros(micros);
        let poll = flight.poll(
            &(),
            || now,
            &Waker::from(Arc::clone(&waker)),
            |waker| {
                ticks.set(ticks.get() + usize::from(waker.is_some()));
                true
            },
        );
        (poll.is_ready(), waker.wakes(), ticks.get(), lane.find(|wire| wire.looks))
    };
    // Driving: polled again at once.
    assert_eq!(poll_at(0), (false, 1, 0, 1));
    assert_eq!(poll_at(200), (false, 2, 0, 2));
    // From here on by ticks only.
    for n in 0..10 {
        assert_eq!(poll_at(400 + 100 * n), (false, 2, 1 + n as usize, 3 + n as usize));
    }
    // A tick that brings something for another: worth spinning again.
    lane.begin(|wire| wire.has_come = true);
    assert!(poll_at(2000).0);
}

/// A driver, and another who waits; `wakes` says how often he has been woken.
struct Two {
    lane: Arc<Lane<Wire>>,
    start: Instant,
    driver: Flight<Wire>,
    other: Flight<Wire>,
    waker: Arc<Counting>,
}

impl Two {
    fn new() -> Self {
        let (lane, start) = (lane(), Instant::now());
        let [first, second] = [(); 2].map(|()| begin(&lane));
        let (waker, _) = Counting::new(false);
        let flight = |ending, who| Flight::new(Arc::clone(&lane), ending, who);
        let mut two = Two { driver: flight(first, 1), other: flight(second, 2), lane, start, waker };
        assert!(two.poll_driver(0).is_pending());
        let waker = Waker::from(Arc::clone(&two.waker));
        assert!(two.other.poll(&(), || start, &waker, |_| true).is_pending());
        two
    }

    fn poll_driver(&mut self, micros: u64) -> Poll<Result<()>> {
        let now = self.start + Duration::from_micros(micros);
        self.driver.poll(&(), || now, Waker::noop(), |_| true)
    }

    fn wakes(&self) -> usize {
        self.waker.wakes()
    }
}

#[test]
fn who_waits_is_woken_when_the_driver_stays_away() {
    let two = Two::new();
    assert!(two.lane.help(&(), two.start + Duration::from_micros(900)), "in flight");
    assert_eq!((two.wakes(), two.lane.find(|wire| wire.looks)), (0, 1), "a driver who looks in time is left alone");
    assert!(two.lane.help(&(), two.start + Duration::from_micros(1100)), "in flight");
    assert_eq!((two.wakes(), two.lane.find(|wire| wire.looks)), (1, 2));
}

/// A driver had let go of a slow lane, and his fetch was ended by a thread that helped: he was nobody's driver any more when he left, and handed
/// on to nobody.
#[test]
fn who_leaves_a_lane_that_nobody_drives_hands_on() {
    let mut two = Two::new();
    assert!(two.poll_driver(400).is_pending());
    assert_eq!(two.wakes(), 0);
    let own = two.lane.begin(|wire| {
        wire.has_come = true;
        wire.fetches.pop().unwrap()
    });
    assert!(!two.lane.help(&(), two.start + Duration::from_micros(500)));
    two.lane.begin(|wire| {
        wire.has_come = false;
        wire.fetches.push(own);
    });
    assert!(two.poll_driver(600).is_ready());
    drop(two.driver);
    assert_eq!(two.waker.wakes(), 1);
}

/// A future that is polled by a task that changes all the time leaves one waker, not one for each poll.
#[test]
fn future_has_one_waker_at_a_time() {
    let ending = Ending::default();
    let wakers: Vec<_> = (0..10).map(|_| Counting::new(false).0).collect();
    for waker in &wakers {
        assert!(ending.poll(7, &Waker::from(Arc::clone(waker))).is_none());
    }
    assert!(wakers[..9].iter().all(|waker| Arc::strong_count(waker) == 1));
    ending.wake();
    assert_eq!(wakers.iter().map(|waker| waker.wakes()).collect::<Vec<_>>(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
}

/// A session of one tag with a server that is late for every read: the tag stays taken until a later poll finds the late reply.
#[derive(Debug, Default)]
struct LateSession {
    op: Option<Op>,
    is_abandoned: bool,
}

impl Session for LateSession {
    fn submit(&mut self, op: Op) -> Submit {
        if self.op.is_some() || self.is_abandoned {
            return Submit::Busy(op);
        }
        self.op = Some(op);
        Submit::Accepted
    }

    fn poll(&mut self, _now: Instant, done: &mut Vec<Completion>) -> Progress {
        match self.op.take() {
            Some(Op { token, verb, buf, .. }) => {
                let late = TransportError::Timeout { what: "a read", after: Duration::ZERO };
                done.push(Completion { token, verb, buf, result: Err(late) });
                self.is_abandoned = true;
            }
            None => self.is_abandoned = false,
        }
        Progress::Moved
    }

    fn park(&mut self, _at_most: Duration) {}

    fn in_flight(&self) -> usize {
        usize::from(self.op.is_some())
    }

    fn failure(&self) -> Option<TransportError> {
        None
    }
}

/// A lane polled its sessions only while something was in flight on them. When all tags of a session had timed out, what waited for a tag kept the lane
/// from ever looking again: a server that was silent for one timeout stopped the lane for good, though it answered later.
#[test]
fn lane_whose_reads_have_all_timed_out_goes_on() {
    const POLLS: usize = 10_000;
    let memory = memory(vec![Server::new(Arc::new(Stub(LateSession::default)))]);
    memory.far().borrow_slab().unwrap();
    let layout = Layout::new::<[u8; 64]>();
    let slots: Vec<_> = (0..4)
        .map(|n| {
            let slot = memory.slot(memory.alloc_slots(UnitClass::One).unwrap());
            slot.init(Word::absent(FarPlace::At(FarAddr::new(FarSegmentId::new(0, 0), 4096 * n)), Stamp(0)));
            slot
        })
        .collect();
    let mut futures: Vec<_> = slots.iter().map(|slot| memory.bring_in_async(slot, layout, AccessHint::Normal)).collect();
    let mut ended = vec![false; futures.len()];
    for _ in 0..POLLS {
        for (future, ended) in futures.iter_mut().zip(&mut ended).filter(|(_, ended)| !**ended) {
            match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => {}
                Poll::Ready(result) => {
                    assert!(matches!(result, Err(Error::Transport { .. })), "{result:?}");
                    *ended = true;
                }
            }
        }
    }
    assert_eq!(ended, [true; 4], "after {POLLS} polls each");
    assert!(slots.iter().all(|slot| matches!(slot.load().state(), State::Absent(_))), "claims are given back");
}

/// A server that answers when the test wants it, and never well.
#[derive(Debug, Default)]
struct Slow {
    answers: AtomicBool,
    /// The next look by the ticker panics.
    breaks_ticker: AtomicBool,
}

#[derive(Debug)]
struct SlowSession {
    server: Arc<Slow>,
    op: Option<Op>,
}

fn slow_server(slow: &Arc<Slow>) -> Server {
    let slow = Arc::clone(slow);
    Server::new(Arc::new(Stub(move || SlowSession { server: Arc::clone(&slow), op: None })))
}

impl Session for SlowSession {
    fn submit(&mut self, op: Op) -> Submit {
        match &self.op {
            Some(_) => Submit::Busy(op),
            None => {
                self.op = Some(op);
                Submit::Accepted
            }
        }
    }

    fn poll(&mut self, _now: Instant, done: &mut Vec<Completion>) -> Progress {
        let is_ticker = std::thread::current().name() == Some("farptr-tick");
        assert!(!(is_ticker && self.server.breaks_ticker.swap(false, Ordering::SeqCst)), "a session panics, as the test wants");
        if !self.server.answers.load(Ordering::SeqCst) {
            return Progress::Idle;
        }
        let Some(Op { token, verb, buf, .. }) = self.op.take() else { return Progress::Idle };
        done.push(Completion { token, verb, buf, result: Err(TransportError::Lost("as the test wants".into())) });
        Progress::Moved
    }

    fn park(&mut self, _at_most: Duration) {}

    fn in_flight(&self) -> usize {
        usize::from(self.op.is_some())
    }

    fn failure(&self) -> Option<TransportError> {
        None
    }
}

/// A memory with such a server, in which one fetch is in flight that nobody awaits any more.
fn slow_fetch() -> (Arc<Slow>, Arc<Memory>, SlotId) {
    let server = Arc::new(Slow::default());
    let memory = memory(vec![slow_server(&server)]);
    memory.far().borrow_slab().unwrap();
    let id = memory.alloc_slots(UnitClass::One).unwrap();
    let slot = memory.slot(id);
    slot.init(Word::absent(FarPlace::At(FarAddr::new(FarSegmentId::new(0, 0), 0)), Stamp(0)));
    let mut future = memory.bring_in_async(slot, Layout::new::<[u8; 64]>(), AccessHint::Normal);
    assert!(Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert!(matches!(slot.load().state(), State::Fetching(_)));
    drop(future);
    (server, memory, id)
}

/// Waits until the fetch has ended and given its claim back, without looking after it.
fn wait_for_claim(memory: &Memory, id: SlotId) {
    let started = Instant::now();
    while !matches!(memory.slot(id).load().state(), State::Absent(_)) {
        assert!(started.elapsed() < LIMIT, "nobody looks after the fetch");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn fetch_whose_future_is_dropped_goes_on() {
    let (server, memory, id) = slow_fetch();
    server.answers.store(true, Ordering::SeqCst);
    wait_for_claim(&memory, id);
}

/// No code of ours panics in a tick. Should some do so nevertheless, nobody waits for a thread that is gone.
#[test]
fn ticker_that_dies_wakes_all_and_is_replaced() {
    let (server, memory, id) = slow_fetch();
    for _ in 0..3 {
        server.breaks_ticker.store(true, Ordering::SeqCst);
        let started = Instant::now();
        while server.breaks_ticker.load(Ordering::SeqCst) {
            assert!(memory.tick(None));
            assert!(started.elapsed() < LIMIT, "there is no ticker any more");
            std::thread::sleep(Duration::from_millis(1));
        }
        // It is dying now, or has died.
        let (waker, woken) = Counting::new(false);
        assert!(memory.tick(Some(&Waker::from(waker))));
        woken.recv_timeout(LIMIT).expect("who has registered is woken");
    }
    server.answers.store(true, Ordering::SeqCst);
    // Who is woken by a ticker that was still dying asks again, as a future does when it is polled; that replaces it. A slow panic (symbols of a backtrace) leaves
    // time to register with the dying one.
    let started = Instant::now();
    while !matches!(memory.slot(id).load().state(), State::Absent(_)) {
        assert!(memory.tick(None));
        assert!(started.elapsed() < LIMIT, "nobody looks after the fetch");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Who has claimed a fetch may be a task that is never polled again.
#[test]
fn another_threads_fetch_is_not_waited_for_without_end() {
    let memory = memory_with(Vec::new(), Duration::from_millis(20));
    let id = memory.alloc_slots(UnitClass::One).unwrap();
    let absent = Word::absent(FarPlace::At(FarAddr::new(FarSegmentId::new(0, 0), 0)), Stamp(0));
    memory.slot(id).init(absent);
    let claimed = memory.slot(id).claim_fetch(absent).unwrap();
    let layout = Layout::new::<[u8; 64]>();
    let (sender, ended) = mpsc::channel();
    let waiting = Arc::clone(&memory);
    std::thread::spawn(move || {
        let slot = waiting.slot(id);
        let _ = sender.send(waiting.prepare(slot, layout, AccessHint::Normal));
        let mut future = waiting.bring_in_async(slot, layout, AccessHint::Normal);
        loop {
            match Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => std::thread::yield_now(),
                Poll::Ready(result) => break drop(sender.send(result)),
            }
        }
    });
    for way in ["blocking", "awaited"] {
        let result = ended.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("{way}: still waiting"));
        assert!(matches!(result, Err(Error::Transport { cause: TransportError::Timeout { .. }, .. })), "{way}: {result:?}");
    }
    assert!(memory.slot(id).abandon_fetch(claimed).is_ok());
}

/// They polled. Now they sleep, and whoever ends the claim tells them.
#[test]
fn who_waits_for_a_fetch_is_told_that_its_claim_was_given_back() {
    let memory = memory_with(Vec::new(), LIMIT * 2);
    let id = memory.alloc_slots(UnitClass::One).unwrap();
    let absent = Word::absent(FarPlace::At(FarAddr::new(FarSegmentId::new(0, 0), 0)), Stamp(0));
    memory.slot(id).init(absent);
    let claimed = memory.slot(id).claim_fetch(absent).unwrap();
    let (sender, ended) = mpsc::channel();
    for _ in 0..8 {
        let (waiting, sender) = (Arc::clone(&memory), sender.clone());
        std::thread::spawn(move || {
            let _ = sender.send(waiting.prepare(waiting.slot(id), Layout::new::<[u8; 64]>(), AccessHint::Normal));
        });
    }
    // They are asleep by then, most likely.
    std::thread::sleep(Duration::from_millis(50));
    memory.give_back(memory.slot(id), claimed);
    for _ in 0..8 {
        // Nobody has lent that segment.
        let result = ended.recv_timeout(LIMIT).expect("who waits is told");
        assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}");
    }
}

/// When far memory is full, what is dirty can't leave, and what exists must still come in: so what is new stops before, in whatever form it comes.
#[test]
fn what_is_new_leaves_room_for_what_comes_back() {
    type Make<'a> = &'a dyn Fn(&Arc<Memory>) -> Result<()>;
    let small = Layout::new::<[u64; 16]>();
    let large = Layout::new::<[u64; 16 << 10]>();
    let object = |memory: &Arc<Memory>, layout| {
        let id = memory.alloc_slots(UnitClass::One)?;
        memory.new_object(id, layout, Origin::New).map(|object| object.publish(memory.slot(id)))
    };
    let kinds: [(&str, Make<'_>); 5] = [
        ("small objects", &|memory| object(memory, small)),
        ("large objects", &|memory| object(memory, large)),
        ("tables", &|memory| memory.charge_table(10_000)),
        ("slots", &|memory| memory.alloc_slots(UnitClass::One).map(drop)),
        ("tables of a page", &|memory| memory.charge_table(4096)),
    ];
    for (kind, make) in kinds {
        let memory = memory(Vec::new());
        assert!(memory.is_large(large) && !memory.is_large(small));
        let mut made = 0;
        // Nothing makes room.
        while make(&memory).is_ok() {
            made += 1;
        }
        // Up to half is kept for scopes, and room for swap-ins, as many as other tests have threads.
        assert!(made >= 8 && memory.budget().used() > memory.budget().limit() / 4, "{made} {kind}");
        // What is kept for threads of other tests that came since was not kept then.
        memory.forget_group();
        assert!(memory.heap().has_room_for(Party::Mutator, memory.budget()), "{kind} take all");
    }
}
