//! What one thread owns: far data, and a model of it. Every step does one operation, and compares.

use crate::scenario::{Numbers, Scenario, Sort, Tally, persist};
use crate::watch::Steps;
use farptr::{Error, Far, FarMemory, RemBox, RemHashMap, RemVec};
use std::future::Future;
use std::task::{Context, Poll, Wake, Waker};

const BOXES: usize = 700;
const NODES: usize = 40;
const LARGE: usize = 4;
const KEYS: usize = 400;
/// Elements of a vector at most: 640 KiB.
const ELEMENTS: usize = 80_000;

type Value = [u64; 16];

/// Contents that say what they are: the stamp at the front, and every byte made of it.
fn bytes(stamp: u64, len: usize) -> Vec<u8> {
    let mut next = Numbers::new(stamp);
    let mut bytes = vec![0; len];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&next.next().to_le_bytes()[..chunk.len()]);
    }
    let front = len.min(8);
    bytes[..front].copy_from_slice(&stamp.to_le_bytes()[..front]);
    bytes
}

fn value(stamp: u64) -> Value {
    std::array::from_fn(|i| stamp.wrapping_mul(i as u64 | 1))
}

/// An object that owns another.
#[derive(Far)]
struct Node {
    stamp: u64,
    child: RemBox<[u8]>,
}

/// A far slice and what it must hold.
struct Kept {
    far: RemBox<[u8]>,
    stamp: u64,
    len: usize,
}

impl Kept {
    #[track_caller]
    fn check(&self, far: &[u8]) {
        assert!(
            far == bytes(self.stamp, self.len),
            "WRONG DATA: {} bytes that are not of stamp {:#x}: {:?}",
            far.len(),
            self.stamp,
            &far[..far.len().min(32)]
        );
    }
}

pub(crate) struct Owner<'m> {
    scenario: Scenario,
    mem: &'m FarMemory,
    pub(crate) thread: usize,
    next: Numbers,
    boxes: Vec<Option<Kept>>,
    large: Vec<Option<Kept>>,
    nodes: Vec<Option<(RemBox<Node>, u64)>>,
    map: RemHashMap<u64, Value>,
    map_model: Vec<Option<u64>>,
    vec: RemVec<u64>,
    vec_model: Vec<u64>,
    pub(crate) tally: Tally,
}

impl<'m> Owner<'m> {
    pub(crate) fn new(scenario: &Scenario, mem: &'m FarMemory, thread: usize) -> Self {
        Owner {
            scenario: scenario.clone(),
            mem,
            thread,
            next: Numbers::new(scenario.seed ^ (thread as u64 + 1) << 40),
            boxes: (0..BOXES).map(|_| None).collect(),
            large: (0..LARGE).map(|_| None).collect(),
            nodes: (0..NODES).map(|_| None).collect(),
            map: RemHashMap::new_in(mem),
            map_model: vec![None; KEYS],
            vec: RemVec::new_in(mem),
            vec_model: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Takes down how an operation ended; the error must be one that is allowed.
    #[track_caller]
    fn judge<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => {
                self.tally.succeeded += 1;
                Some(value)
            }
            Err(error) => {
                assert!(self.scenario.allows(&error), "an error that nothing here explains: {error:?}");
                self.tally.failed += 1;
                self.tally.corrupt += u64::from(matches!(error, Error::Corrupt { .. }));
                None
            }
        }
    }

    pub(crate) fn run(&mut self, count: usize, steps: &Steps) {
        // Most of the data at first, so that evacuation is at work from then on.
        for i in 0..BOXES {
            steps.begin(self.thread, i, 255);
            self.make_box(i);
        }
        for step in 0..count {
            let (what, at) = (self.next.below(100) as u8, self.next.below(1 << 30));
            steps.begin(self.thread, step + BOXES, what);
            match what {
                0..45 => self.box_step(at % BOXES),
                45..55 => self.node_step(at % NODES),
                55..72 => self.map_step(at % KEYS),
                72..92 => self.vec_step(at),
                92..98 => self.large_step(at % LARGE),
                98 => {
                    let outcome = self.mem.evacuate_all();
                    self.judge(outcome);
                }
                _ => {
                    let outcome = self.mem.trim();
                    self.judge(outcome);
                }
            }
        }
    }

    fn make_box(&mut self, i: usize) {
        let (stamp, len) = (self.next.next(), 1 + self.next.below(3000));
        let made = RemBox::try_from_slice_in(&bytes(stamp, len), self.mem);
        if let Some(far) = self.judge(made) {
            self.boxes[i] = Some(Kept { far, stamp, len });
        }
    }

    fn box_step(&mut self, i: usize) {
        let Some(mut kept) = self.boxes[i].take() else { return self.make_box(i) };
        if self.next.below(12) == 0 {
            // Dropped, wherever it is.
            return;
        }
        self.use_kept(&mut kept);
        self.boxes[i] = Some(kept);
    }

    fn large_step(&mut self, i: usize) {
        match self.large[i].take() {
            Some(mut kept) if self.next.below(5) > 0 => {
                self.use_kept(&mut kept);
                self.large[i] = Some(kept);
            }
            _ => {
                let (stamp, len) = (self.next.next(), 9_000 + self.next.below(170_000));
                let made = RemBox::try_from_slice_in(&bytes(stamp, len), self.mem);
                if let Some(far) = self.judge(made) {
                    self.large[i] = Some(Kept { far, stamp, len });
                }
            }
        }
    }

    /// Reads or writes, in one of the forms there are.
    fn use_kept(&mut self, kept: &mut Kept) {
        let stamp = self.next.next();
        let new = bytes(stamp, kept.len);
        let way = self.next.below(10);
        let written = match way {
            0..3 => {
                let read = kept.far.try_with(|far| kept.check(far));
                self.judge(read);
                None
            }
            3 => {
                let pinned = kept.far.try_pin();
                if let Ok(pin) = &pinned {
                    kept.check(pin);
                }
                let outcome = pinned.map(drop);
                self.judge(outcome);
                None
            }
            4 => {
                let outcome = kept.far.try_pin_mut().map(|mut pin| pin.copy_from_slice(&new));
                self.judge(outcome)
            }
            5 if self.scenario.futures => {
                let outcome = block_on(kept.far.with_async(|far| kept.check(far)));
                self.judge(outcome);
                None
            }
            6 if self.scenario.futures => {
                let outcome = block_on(async { kept.far.with_mut_async(|far| far.copy_from_slice(&new)).await });
                self.judge(outcome)
            }
            7 if self.scenario.futures => {
                // Begun, and given up at some point.
                let outcome = poll_some(kept.far.pin_async(), 1 + self.next.below(4));
                if let Some(outcome) = outcome {
                    if let Ok(pin) = &outcome {
                        kept.check(pin);
                    }
                    let outcome = outcome.map(drop);
                    self.judge(outcome);
                }
                None
            }
            8 if self.scenario.futures => {
                self.many_at_once();
                None
            }
            _ => {
                let outcome = kept.far.try_with_mut(|far| far.copy_from_slice(&new));
                self.judge(outcome)
            }
        };
        if written.is_some() {
            kept.stamp = stamp;
        }
    }

    /// Several misses in flight in one lane, polled in turn; some are dropped before they are done.
    fn many_at_once(&mut self) {
        let first = self.next.below(BOXES - 24);
        let kept: Vec<&Kept> = self.boxes[first..first + 24].iter().flatten().collect();
        let mut futures: Vec<_> = kept.iter().map(|kept| Some(Box::pin(kept.far.with_async(|far| kept.check(far))))).collect();
        let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut outcomes = Vec::new();
        let mut turns = 0;
        while futures.iter().any(Option::is_some) {
            for (i, place) in futures.iter_mut().enumerate() {
                let Some(future) = place else { continue };
                if let Poll::Ready(outcome) = future.as_mut().poll(&mut context) {
                    outcomes.push(outcome);
                    *place = None;
                } else if i % 8 == 7 && turns == 2 {
                    *place = None;
                }
            }
            turns += 1;
            if turns > 50 {
                std::thread::park_timeout(std::time::Duration::from_millis(1));
            }
        }
        drop(futures);
        for outcome in outcomes {
            self.judge(outcome);
        }
    }

    fn node_step(&mut self, i: usize) {
        let Some((node, stamp)) = self.nodes[i].take() else {
            let stamp = self.next.next();
            let made = RemBox::try_from_slice_in(&bytes(stamp, 300), self.mem);
            let Some(child) = self.judge(made) else { return };
            let made = RemBox::try_new_in(Node { stamp, child }, self.mem);
            self.nodes[i] = self.judge(made).map(|node| (node, stamp));
            return;
        };
        if self.next.below(3) > 0 {
            let child_is_right = node.try_with(|far| {
                assert!(far.stamp == stamp, "WRONG DATA: node {:#x}, not {stamp:#x}", far.stamp);
                far.child.is_empty()
            });
            self.judge(child_is_right);
            self.nodes[i] = Some((node, stamp));
            return;
        }
        match node.try_into_inner() {
            Ok(inner) => {
                self.tally.succeeded += 1;
                assert!(inner.stamp == stamp, "WRONG DATA: node {:#x}, not {stamp:#x}", inner.stamp);
                let read = inner.child.try_with(|far| assert!(far == bytes(stamp, 300), "WRONG DATA in a child"));
                self.judge(read);
            }
            Err((node, error)) => {
                self.judge::<()>(Err(error));
                self.nodes[i] = Some((node, stamp));
            }
        }
    }

    fn map_step(&mut self, i: usize) {
        let (key, stamp) = (i as u64, self.next.next());
        let known = self.map_model[i].map(value);
        match self.next.below(9) {
            0..4 => {
                let outcome = self.map.try_insert(key, value(stamp));
                if let Some(old) = self.judge(outcome) {
                    assert!(old == known, "WRONG DATA in a map");
                    self.map_model[i] = Some(stamp);
                }
            }
            4 => {
                let outcome = self.map.try_remove(&key);
                if let Some(old) = self.judge(outcome) {
                    assert!(old == known, "WRONG DATA in a map");
                    self.map_model[i] = None;
                }
            }
            5 => {
                let outcome = self.map.try_with_mut(&key, |far| *far = value(stamp));
                if let Some(found) = self.judge(outcome) {
                    assert_eq!(found.is_some(), known.is_some());
                    self.map_model[i] = known.map(|_| stamp);
                }
            }
            6 if stamp.is_multiple_of(4) => {
                let (model, mut seen) = (&self.map_model, 0);
                let outcome = self.map.try_for_each(|key, far| {
                    seen += 1;
                    assert!(model[*key as usize].map(value) == Some(*far), "WRONG DATA in a map");
                });
                let all = model.iter().flatten().count();
                if self.judge(outcome).is_some() {
                    assert_eq!(seen, all);
                }
            }
            _ => {
                let outcome = self.map.try_with(&key, |far| *far);
                if let Some(found) = self.judge(outcome) {
                    assert!(found == known, "WRONG DATA in a map");
                }
            }
        }
        assert_eq!(self.map.len(), self.map_model.iter().flatten().count());
    }

    fn vec_step(&mut self, at: usize) {
        let n = self.next.next();
        match self.next.below(12) {
            0..3 if self.vec_model.len() < ELEMENTS => {
                let more: Vec<u64> = (0..n % 6000).map(|i| i ^ n).collect();
                let outcome = self.vec.try_extend_from_slice(&more);
                // What came before an error stays.
                let added = self.vec.len() - self.vec_model.len();
                let all = self.judge(outcome).is_some();
                assert!(added <= more.len() && (!all || added == more.len()));
                self.vec_model.extend_from_slice(&more[..added]);
            }
            3 => {
                let outcome = self.vec.try_push(n);
                if self.judge(outcome).is_some() {
                    self.vec_model.push(n);
                }
            }
            4 => {
                let outcome = self.vec.try_pop();
                if let Some(popped) = self.judge(outcome) {
                    assert!(popped == self.vec_model.pop(), "WRONG DATA in a vector");
                }
            }
            5 if n.is_multiple_of(4) => {
                let len = self.vec_model.len() - self.vec_model.len() / 4;
                self.vec.truncate(len);
                self.vec_model.truncate(len);
            }
            6 if n.is_multiple_of(4) => {
                let model = &self.vec_model;
                let outcome = self.vec.try_for_each_slice(.., |first, far| {
                    assert!(far == &model[first..first + far.len()], "WRONG DATA in a vector");
                });
                self.judge(outcome);
            }
            7..9 if !self.vec_model.is_empty() => {
                let i = at % self.vec_model.len();
                let outcome = self.vec.try_with_mut(i, |far| *far = n);
                if self.judge(outcome).is_some() {
                    self.vec_model[i] = n;
                }
            }
            _ if !self.vec_model.is_empty() => {
                let i = at % self.vec_model.len();
                let outcome = self.vec.try_with(i, |far| *far);
                if let Some(found) = self.judge(outcome) {
                    assert!(found == Some(self.vec_model[i]), "WRONG DATA in a vector");
                }
            }
            _ => {}
        }
        assert_eq!(self.vec.len(), self.vec_model.len());
    }

    /// The faults have stopped: everything is there, but for what a lying server has lost.
    pub(crate) fn check_all(&mut self) {
        let (mut lost, mut starved) = (0, 0);
        let (broken, scarce) = (self.scenario.sort == Sort::Broken, self.scenario.is_scarce());
        let mut read = |what: &str, attempt: &mut dyn FnMut() -> Result<(), Error>| {
            persist(what, || match attempt() {
                Err(Error::Corrupt { .. }) if broken => {
                    lost += 1;
                    Ok(())
                }
                // All that is local is dirty, and there is nowhere to write it until something is dropped: boxes are, one by one.
                Err(Error::FarMemoryFull { .. } | Error::OutOfLocalMemory { .. }) if scarce => {
                    starved += 1;
                    Ok(())
                }
                outcome => outcome,
            });
        };
        for kept in self.boxes.drain(..).chain(self.large.drain(..)).flatten() {
            read("a read of a box", &mut || kept.far.try_with(|far| kept.check(far)));
        }
        for (node, stamp) in self.nodes.iter().flatten() {
            read("a read of a node", &mut || node.try_with(|far| assert!(far.stamp == *stamp, "WRONG DATA in a node")));
        }
        for (key, stamp) in self.map_model.iter().enumerate() {
            read("a read of a map", &mut || {
                let found = self.map.try_with(&(key as u64), |far| *far)?;
                assert!(found == stamp.map(value), "WRONG DATA in a map");
                Ok(())
            });
        }
        for (i, expected) in self.vec_model.iter().enumerate().step_by(97) {
            read("a read of a vector", &mut || {
                let found = self.vec.try_with(i, |far| *far)?;
                assert!(found == Some(*expected), "WRONG DATA in a vector");
                Ok(())
            });
        }
        self.tally.lost += lost;
        self.tally.starved += starved;
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}

/// Polls a future at most `times` times, then drops it.
fn poll_some<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut context = Context::from_waker(Waker::noop());
    let mut future = std::pin::pin!(future);
    (0..times).find_map(|_| match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}
