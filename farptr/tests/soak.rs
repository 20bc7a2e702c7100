//! A long run of random operations against a model: maps, vectors, boxes, large objects; four threads; 8 MiB for about 200 MiB.
//!
//! `cargo xtask soak --minutes 30`, or `FARPTR_SOAK_MINUTES=30 cargo test --release -p farptr --test soak -- --ignored --nocapture`. In the ordinary test
//! run it takes some seconds. What is checked: every value that is read; far memory in use against live bytes, all the time; resident memory
//! does not grow; nothing is left when everything has been dropped.

mod common;

use common::{assert_empty, memory, numbers};
use farptr::{FarMemory, RemBox, RemHashMap, RemVec};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const BUDGET: usize = 8 << 20;
const THREADS: u64 = 4;

type Value = [u64; 128];

/// What one thread owns: far data, and just enough to know what it must be.
struct Owner<'m> {
    mem: &'m FarMemory,
    next: Box<dyn FnMut() -> u64>,
    boxes: Vec<Option<RemBox<[u8]>>>,
    box_seeds: Vec<u64>,
    map: RemHashMap<u64, Value>,
    map_seeds: Vec<Option<u64>>,
    vec: RemVec<u64>,
    vec_model: Vec<u64>,
    large: Vec<Option<RemBox<[u8]>>>,
    large_seeds: Vec<u64>,
}

fn bytes(seed: u64, most: u64) -> Vec<u8> {
    let mut next = numbers(seed);
    let len = next() % most + 1;
    (0..len).map(|i| (i ^ seed) as u8).collect()
}

fn value(seed: u64) -> Value {
    std::array::from_fn(|i| seed.wrapping_mul(i as u64 | 1))
}

impl<'m> Owner<'m> {
    fn new(mem: &'m FarMemory, seed: u64, scale: usize) -> Self {
        Owner {
            mem,
            next: Box::new(numbers(seed)),
            boxes: (0..15_000 / scale).map(|_| None).collect(),
            box_seeds: vec![0; 15_000 / scale],
            map: RemHashMap::new_in(mem),
            map_seeds: vec![None; 10_000 / scale],
            vec: RemVec::new_in(mem),
            vec_model: Vec::new(),
            large: (0..20 / scale).map(|_| None).collect(),
            large_seeds: vec![0; 20 / scale],
        }
    }

    fn step(&mut self) {
        let n = (self.next)();
        let at = (self.next)() as usize;
        match n % 100 {
            0..40 => self.box_step(n, at),
            40..70 => self.map_step(n, at),
            70..99 => self.vec_step(n, at),
            _ if n.is_multiple_of(8) => self.large_step(n, at),
            _ => {}
        }
    }

    fn box_step(&mut self, n: u64, at: usize) {
        let i = at % self.boxes.len();
        match (&mut self.boxes[i], n / 100 % 8) {
            (slot @ None, _) | (slot, 0) => {
                self.box_seeds[i] = n;
                *slot = Some(RemBox::from_slice_in(&bytes(n, 2048), self.mem));
            }
            (slot, 1) => *slot = None,
            (Some(far), 2) => {
                // The same length: every byte xored with its own new value.
                let old = bytes(self.box_seeds[i], 2048);
                far.with_mut(|far| {
                    assert_eq!(far, old);
                    far.reverse();
                    far.reverse();
                });
            }
            (Some(far), _) => far.with(|far| assert_eq!(far, bytes(self.box_seeds[i], 2048))),
        }
    }

    fn map_step(&mut self, n: u64, at: usize) {
        let i = at % self.map_seeds.len();
        let key = i as u64;
        match n / 100 % 8 {
            0..3 => {
                let old = self.map.insert(key, value(n));
                assert_eq!(old, self.map_seeds[i].replace(n).map(value));
            }
            3 => assert_eq!(self.map.remove(&key), self.map_seeds[i].take().map(value)),
            _ => assert_eq!(self.map.with(&key, |far| *far), self.map_seeds[i].map(value)),
        }
        assert_eq!(self.map.len(), self.map_seeds.iter().flatten().count());
    }

    fn vec_step(&mut self, n: u64, at: usize) {
        let most = 2_000_000 / (15_000 / self.boxes.len());
        match n / 100 % 16 {
            0..4 if self.vec_model.len() < most => {
                let more: Vec<u64> = (0..n % 5000).map(|i| i ^ n).collect();
                self.vec.extend_from_slice(&more);
                self.vec_model.extend_from_slice(&more);
            }
            4 if n.is_multiple_of(64) => {
                let len = self.vec_model.len() - self.vec_model.len() / 8;
                self.vec.truncate(len);
                self.vec_model.truncate(len);
            }
            5 if n.is_multiple_of(128) => {
                let model = &self.vec_model;
                self.vec.for_each_slice(.., |first, slice| assert_eq!(slice, &model[first..first + slice.len()]));
            }
            6..9 if !self.vec_model.is_empty() => {
                let i = at % self.vec_model.len();
                self.vec.with_mut(i, |far| *far ^= n);
                self.vec_model[i] ^= n;
            }
            _ if !self.vec_model.is_empty() => {
                let i = at % self.vec_model.len();
                assert_eq!(self.vec.with(i, |far| *far), Some(self.vec_model[i]));
            }
            _ => {}
        }
    }

    fn large_step(&mut self, n: u64, at: usize) {
        if self.large.is_empty() {
            return;
        }
        let i = at % self.large.len();
        match (&mut self.large[i], n / 800 % 4) {
            (slot @ None, _) | (slot, 0) => {
                self.large_seeds[i] = n;
                *slot = Some(RemBox::from_slice_in(&bytes(n, 600_000), self.mem));
            }
            (Some(far), 1) => far.with_mut(|far| far.reverse()),
            (Some(far), 2) => {
                let mut expected = bytes(self.large_seeds[i], 600_000);
                let reversed = far.with(|far| far != expected);
                if reversed {
                    expected.reverse();
                    far.with(|far| assert!(far == expected));
                }
            }
            (slot, _) => *slot = None,
        }
    }
}

/// Resident memory of the process in bytes, without what an embedded server has lent.
fn resident(mem: &FarMemory) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or(0);
    (kib << 10).saturating_sub(mem.embedded_resident_bytes())
}

/// Ends the run when it is dropped: a check that fails, in whichever thread, must not leave the others running for ever.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs for `time`; `scale` divides the data.
fn run(time: Duration, scale: usize) {
    let mem = memory(BUDGET);
    let stop = AtomicBool::new(false);
    let steps = AtomicU64::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        for thread in 0..THREADS {
            let (mem, stop, steps) = (&mem, &stop, &steps);
            scope.spawn(move || {
                let _stop = Stop(stop);
                let mut owner = Owner::new(mem, thread + 1, scale);
                while !stop.load(Ordering::Relaxed) {
                    (0..100).for_each(|_| owner.step());
                    steps.fetch_add(100, Ordering::Relaxed);
                }
            });
        }
        let mut settled = None;
        let mut report = started;
        while started.elapsed() < time && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let stats = mem.stats();
            assert!(stats.local_used_bytes <= BUDGET as u64, "{stats:?}");
            let bound = stats.far_live_bytes * 3 / 2 + 2 * BUDGET as u64;
            assert!(stats.far_used_bytes <= bound, "far memory in use: {stats:?}");
            // AddressSanitizer keeps what was freed, to see whether somebody still uses it.
            if started.elapsed() > time / 4 && !cfg!(farptr_asan) {
                // By now everything has its full size; from here on nothing may grow but the models' own slack.
                let settled = *settled.get_or_insert_with(|| resident(&mem));
                assert!(resident(&mem) < settled + (48 << 20), "resident {} after {settled}: {stats:?}", resident(&mem));
            }
            if report.elapsed() > Duration::from_secs(60) {
                report = Instant::now();
                let seconds = started.elapsed().as_secs();
                eprintln!(
                    "{seconds} s: {} steps, resident {} MiB, {stats:?}",
                    steps.load(Ordering::Relaxed),
                    resident(&mem) >> 20
                );
            }
        }
    });
    let stats = mem.stats();
    eprintln!("{} steps in {:?}: {stats:?}", steps.load(Ordering::Relaxed), started.elapsed());
    assert!(stats.misses > 1000 && stats.lost_drops == 0, "{stats:?}");
    assert_empty(&mem);
}

#[test]
fn some_seconds_of_everything_agree_with_a_model() {
    run(Duration::from_secs(5), 8);
}

#[test]
#[ignore = "takes FARPTR_SOAK_MINUTES minutes (30 unless set)"]
fn soak() {
    let minutes = std::env::var("FARPTR_SOAK_MINUTES").ok().and_then(|minutes| minutes.parse::<f64>().ok()).unwrap_or(30.0);
    run(Duration::from_secs_f64(minutes * 60.0), 1);
}
