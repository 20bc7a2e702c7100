//! Mechanisms that are turned off for measurements are off, and by default are not.
#![forbid(unsafe_code)]

mod common;

use common::zeal_contradicts;
use farptr::ablations::{Ablations, FarLogWrites, FirstReads, Marks, Misses, Pages, Policy, Scans};
use farptr::{Builder, FarMemory, RemBox, RemVec};
use farptr_runtime::TransportError;
use farptr_runtime::transport::embedded::{EmbeddedConfig, EmbeddedTransport};
use farptr_runtime::transport::wrapped::Wrapped;
use farptr_runtime::transport::{Completion, Op, Progress, Session, Submit, Transport, Verb};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const BUDGET: usize = 1 << 20;

/// Objects of 512 bytes, four times what fits.
const OBJECTS: usize = 4 * BUDGET / 512;

fn builder(ablations: Ablations) -> Builder {
    FarMemory::builder()
        .local_budget(BUDGET)
        .shards(0)
        .timeout(Duration::from_secs(5))
        .without_evacuation_thread()
        .ablations(ablations)
}

fn memory(ablations: Ablations) -> FarMemory {
    builder(ablations).server("embedded:").build().unwrap()
}

fn fill(mem: &FarMemory) -> Vec<RemBox<[u64; 64]>> {
    (0..OBJECTS).map(|i| RemBox::new_in([i as u64; 64], mem)).collect()
}

fn look(objects: &[RemBox<[u64; 64]>], number: usize) {
    objects[number].with(|object| assert_eq!(object[63], number as u64));
}

/// Relocations in five rounds of reads over all objects, with some of them read thrice each time.
fn relocations(policy: Policy, hot: usize) -> u64 {
    let mem = memory(Ablations { policy, ..Ablations::default() });
    let objects = fill(&mem);
    let before = mem.stats().relocated_objects;
    for number in (0..5).flat_map(|_| 0..OBJECTS) {
        look(&objects, number);
        for _ in 0..3 {
            look(&objects, number % hot);
        }
    }
    mem.stats().relocated_objects - before
}

#[test]
fn in_arrival_order_nothing_is_spared_however_hot() {
    if zeal_contradicts("in_arrival_order_nothing_is_spared_however_hot", "it relocates everything") {
        return;
    }
    assert_eq!(relocations(Policy::ArrivalOrder, 100), 0);
    assert!(relocations(Policy::S3Fifo, 100) > 0, "used again and again, they are spared as it is");
}

#[test]
fn for_clock_a_miss_is_a_use() {
    if zeal_contradicts("for_clock_a_miss_is_a_use", "it relocates everything") {
        return;
    }
    let scan = |policy| {
        let mem = memory(Ablations { policy, ..Ablations::default() });
        let objects = fill(&mem);
        let before = mem.stats().relocated_objects;
        (0..OBJECTS).for_each(|number| look(&objects, number));
        mem.stats().relocated_objects - before
    };
    assert_eq!(scan(Policy::S3Fifo), 0, "read once each");
    assert!(scan(Policy::Clock) > OBJECTS as u64 / 4, "all that come are given another turn");
}

#[test]
fn all_far_memories_keep_what_they_are_given_whatever_is_off() {
    let small = Ablations { pages: Pages::Small, misses: Misses::Apart, ..Ablations::default() };
    for ablations in [Ablations::default(), Ablations::AIFM_LIKE, small] {
        let mem = memory(ablations);
        let mut objects = fill(&mem);
        for (number, object) in objects.iter_mut().enumerate() {
            object.with_mut(|object| object[0] = number as u64 + 1);
        }
        for (number, object) in objects.iter().enumerate() {
            object.with(|object| assert_eq!((object[0], object[63]), (number as u64 + 1, number as u64)));
        }
    }
}

#[derive(Default)]
struct Seen {
    writes: AtomicUsize,
    reads: AtomicUsize,
    /// Reads that end together.
    together: AtomicUsize,
    first_read: Mutex<Option<std::sync::mpsc::Sender<()>>>,
}

/// Counts writes, and holds reads back until there are so many of them.
struct WatchedSession {
    behind: Box<dyn Session>,
    seen: Arc<Seen>,
}

impl Session for WatchedSession {
    fn submit(&mut self, op: Op) -> Submit {
        let verb = op.verb;
        let submitted = self.behind.submit(op);
        if let Submit::Accepted = submitted {
            match verb {
                Verb::Write => _ = self.seen.writes.fetch_add(1, Ordering::Relaxed),
                Verb::Read => {
                    self.seen.reads.fetch_add(1, Ordering::Relaxed);
                    if let Some(first) = self.seen.first_read.lock().unwrap().take() {
                        first.send(()).unwrap();
                    }
                }
            }
        }
        submitted
    }

    fn poll(&mut self, now: Instant, done: &mut Vec<Completion>) -> Progress {
        let reads = self.seen.reads.load(Ordering::Relaxed);
        if reads > 0 && reads < self.seen.together.load(Ordering::Relaxed) {
            std::thread::yield_now();
            return Progress::Idle;
        }
        self.behind.poll(now, done)
    }

    fn park(&mut self, _at_most: Duration) {
        std::thread::yield_now();
    }

    fn in_flight(&self) -> usize {
        self.behind.in_flight()
    }

    fn failure(&self) -> Option<TransportError> {
        self.behind.failure()
    }
}

fn watched(ablations: Ablations) -> (FarMemory, Arc<Seen>) {
    let (behind, seen) = (EmbeddedTransport::new(EmbeddedConfig::with_capacity(64 << 20)).unwrap(), Arc::<Seen>::default());
    let watching = Arc::clone(&seen);
    let watch = move |behind| WatchedSession { behind, seen: Arc::clone(&watching) };
    let server: Arc<dyn Transport> = Arc::new(Wrapped::new(Arc::new(behind), watch));
    (builder(ablations).transports([server]).build().unwrap(), seen)
}

#[test]
fn each_object_is_a_write_of_its_own() {
    let writes = |far_log| {
        let (mem, seen) = watched(Ablations { far_log, ..Ablations::default() });
        let objects: Vec<_> = (0..500u64).map(|i| RemBox::new_in([i; 64], &mem)).collect();
        mem.evacuate_all().unwrap();
        let writes = (mem.stats().written_back_objects, seen.writes.load(Ordering::Relaxed) as u64);
        objects.iter().enumerate().for_each(|(i, object)| object.with(|object| assert_eq!(object[0], i as u64)));
        writes
    };
    let (objects, alone) = writes(FarLogWrites::EachObject);
    assert_eq!((objects, alone), (500, 500));
    let (objects, batched) = writes(FarLogWrites::Batched);
    assert!(objects == 500 && batched < 50, "{objects} objects in {batched} writes");
}

#[test]
fn two_threads_that_miss_one_object_both_fetch_it() {
    let (mem, seen) = watched(Ablations { misses: Misses::Apart, ..Ablations::default() });
    let object = RemBox::new_in([7u64; 64], &mem);
    mem.evacuate_all().unwrap();
    let (begun, first_read) = std::sync::mpsc::channel();
    *seen.first_read.lock().unwrap() = Some(begun);
    seen.together.store(2, Ordering::Relaxed);
    std::thread::scope(|threads| {
        let first = threads.spawn(|| object.try_with(|object| object[63]));
        first_read.recv().expect("a read");
        // It meets the claim of the first, whose read ends when there is another. If this one joined, neither would end.
        assert_eq!(object.try_with(|object| object[63]).unwrap(), 7);
        assert_eq!(first.join().unwrap().unwrap(), 7);
    });
    assert_eq!((seen.reads.load(Ordering::Relaxed), mem.stats().misses), (2, 1), "two fetches, of which one counts");
}

#[test]
fn watermarks_are_those_of_aifm() {
    let marks = |marks| {
        // By itself: of a memory's heap a part is kept for the threads that other tests have.
        let mut heap = farptr_runtime::heap::Heap::new(256 << 20, 1, 2).unwrap();
        heap.ablate(Ablations { marks, ..Ablations::default() });
        let budget = farptr_runtime::budget::Budget::new(256 << 20, 2 * heap.segment_bytes());
        let marks = heap.watermarks();
        assert_eq!(heap.capacity(), 256);
        // What mutators may take: until they are told that there is no room.
        let layout = std::alloc::Layout::from_size_align(farptr_runtime::heap::MAX_SMALL, 16).unwrap();
        let party = farptr_runtime::budget::Party::Mutator;
        let take = || heap.alloc(0, farptr_runtime::heap::QueueKind::Young, layout, &budget, party);
        while take().is_ok() {}
        (marks.low, marks.high, heap.available_segments(&budget))
    };
    // Above a reserve of two segments: 12% and 22% of 256; 3% that mutators leave. Ours: 4 MiB and 8.
    assert_eq!(marks(Marks::Aifm), (2 + 30, 2 + 56, 7));
    assert_eq!(marks(Marks::Own), (2 + 4, 2 + 8, 2));
}

/// Flags of the mapping that `address` lies in, by what the kernel says.
fn flags_at(address: usize) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/smaps").ok()?;
    let mut lines = maps.lines().skip_while(|line| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let range =
            range.and_then(|(from, to)| Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?)));
        !range.is_some_and(|(from, to)| (from..to).contains(&address))
    });
    Some(lines.find_map(|line| line.strip_prefix("VmFlags:"))?.to_owned())
}

#[test]
fn pages_are_small_where_they_are_to_be() {
    let flags = |pages| {
        let mem = memory(Ablations { pages, ..Ablations::default() });
        let object = RemBox::new_in([1u64; 64], &mem);
        object.with(|object| flags_at(std::ptr::from_ref(object) as usize)).unwrap_or_default()
    };
    let huge = flags(Pages::Huge);
    if !huge.contains(" hg") {
        return eprintln!("SKIPPED: the kernel does not say that a mapping is to have huge pages: {huge}");
    }
    let small = flags(Pages::Small);
    assert!(small.contains(" nh") && !small.contains(" hg"), "{small}");
}

#[test]
fn first_reads_bring_in_all_that_they_miss() {
    if zeal_contradicts("first_reads_bring_in_all_that_they_miss", "memory is never full") {
        return;
    }
    let past = |first_reads| {
        let mem = memory(Ablations { first_reads, ..Ablations::default() });
        let boxes: Vec<_> = (0..8 * BUDGET as u64 / 512).map(|number| RemBox::new_in([number; 64], &mem)).collect();
        // Each as far from its next turn as can be.
        for _ in 0..3 {
            boxes.iter().enumerate().for_each(|(number, object)| object.with(|object| assert_eq!(object[63], number as u64)));
        }
        mem.stats().bypassed_objects
    };
    assert_eq!(past(FirstReads::SwappedIn), 0);
    assert!(past(FirstReads::Past) > 1000);
}

#[test]
fn long_scans_bring_in_all_that_they_miss() {
    if zeal_contradicts("long_scans_bring_in_all_that_they_miss", "memory is never full") {
        return;
    }
    let past = |scans| {
        let mem = memory(Ablations { scans, ..Ablations::default() });
        let mut vec = RemVec::with_chunk_bytes_in(2048, &mem);
        vec.extend(0..(4 * BUDGET / 8) as u64);
        vec.for_each_slice(.., |first, slice| assert_eq!(slice[0], first as u64));
        mem.stats().bypassed_objects
    };
    assert_eq!(past(Scans::SwappedIn), 0);
    assert!(past(Scans::Past) > 1000);
}
