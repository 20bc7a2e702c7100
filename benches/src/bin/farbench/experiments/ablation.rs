//! What each mechanism brings: the same with one of them off.

use super::{Experiment, scale};
use crate::Outcome;
use crate::bare::connect;
use crate::bench::Bench;
use crate::delay::after;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::singly::one_by_one;
use crate::subject::Subject;
use crate::transport::Kind;
use farptr::ablations::{Ablations, FarLogWrites, FirstReads, Marks, Misses, Pages, Policy, Scans};
use farptr::{FarMemory, RemBox, RemVec};
use farptr_benches::random::{Random, object, zipf};
use farptr_benches::reads::FarReads;
use farptr_benches::scan;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const EXPERIMENT: Experiment =
    Experiment { name: "ablation", about: "What each mechanism brings: the same with it turned off", weight: 9, run };

const READING: &str = "`as it is` is farptr; the other column has one mechanism off. arrival order, CLOCK: instead of S3-FIFO (reads of 512 B by Zipf 0.99, over TCP, 25% \
    local). watermarks: AIFM's, which keep more free (the same reads). joined misses: two threads go through the same objects, and both fetch what both miss (4 KiB, over TCP). far-log \
    batching: each object is written by itself (updates of 512 B at random, over TCP). huge pages: behind the log and the slots (hits at random). requests sent together: 64 tasks miss, and each \
    request is sent by itself (4 KiB, over TCP). mapped memory without sessions: the same memory by submit and poll (4 KiB misses). evacuation on a thread of its own: rounds \
    run by who needs memory only (4 KiB misses). overlap: tasks miss one at a time instead of 64 together (4 KiB, over TCP). long scopes: a scope for each deref (hits). chunks: \
    random elements of a vector with chunks of 16 KiB, and of 512 B. scans past local memory: sums over a vector, 10% local, in mapped memory; without, all that misses is swapped in. \
    reads past local memory: 4 KiB misses, 25% local, in mapped memory; without, all that misses is swapped in.";

const AIFM_LIKE: &str = "`AIFM-like` is farptr with what came after AIFM off: CLOCK, of one bit, instead of S3-FIFO; evacuation from 12% to 22% free, with 3% kept; each object written by \
    itself; each request sent by itself, one miss for each task. It is not AIFM, which was never measured here: slots, scopes, the log and the transports are farptr's, and there is no prefetch \
    in it, because farptr has none yet. Over TCP, 25% local, objects of 512 B (4 KiB where there are 64 tasks).";

const NOT_YET: [(&str, &str); 2] = [
    ("prefetch off", "farptr has no prefetch yet"),
    (
        "joined misses off, for tasks",
        "a task that meets a fetch waits for its lane, which has no second fetch of one slot; only threads fetch twice",
    ),
];

/// A mechanism on, and off.
fn pair(
    bench: &mut Bench<'_>,
    figure: &mut Figure,
    name: &str,
    on: impl FnMut() -> Outcome<u64>,
    off: impl FnMut() -> Outcome<u64>,
) -> Outcome {
    let mut subjects = [Subject::per_second("as it is", Role::Subject, on), Subject::per_second("without", Role::Ablation, off)];
    bench.measure(figure, name, &mut subjects)
}

fn run(bench: &mut Bench<'_>) -> Outcome {
    NOT_YET.into_iter().for_each(|(what, why)| bench.missing(what, why));
    let mut figure = Figure::new("off", "One mechanism off", Axis::Names(""), Unit::PER_SECOND, READING);
    let data = bench.size() / 2;
    bench.plan(33);
    let none = Ablations::default();
    skewed(bench, &mut figure, "S3-FIFO, not arrival order", data, Ablations { policy: Policy::ArrivalOrder, ..none })?;
    skewed(bench, &mut figure, "S3-FIFO, not CLOCK", data, Ablations { policy: Policy::Clock, ..none })?;
    skewed(bench, &mut figure, "watermarks, not AIFM's", data, Ablations { marks: Marks::Aifm, ..none })?;
    joined(bench, &mut figure, data)?;
    far_log(bench, &mut figure, data)?;
    huge_pages(bench, &mut figure, data)?;
    together(bench, &mut figure, data)?;
    sessions(bench, &mut figure, data)?;
    thread(bench, &mut figure, data)?;
    overlap(bench, &mut figure, data)?;
    scopes(bench, &mut figure)?;
    chunks(bench, &mut figure, data)?;
    scans(bench, &mut figure, data)?;
    first_reads(bench, &mut figure, data)?;
    bench.keep(figure);
    aifm_like(bench, data)
}

/// A far memory with mechanisms off.
fn ablated(bench: &mut Bench<'_>, kind: Kind, budget: usize, off: Ablations) -> Outcome<FarMemory> {
    Ok(bench.builder(kind, budget)?.ablations(off).build()?)
}

/// One over TCP whose requests are sent one by one.
fn singly(bench: &mut Bench<'_>, budget: usize, off: Ablations) -> Outcome<FarMemory> {
    let transport = Arc::new(one_by_one(connect(Kind::Tcp, &bench.address(Kind::Tcp)?)?));
    Ok(FarMemory::builder().local_budget(budget).shards(0).transports([transport as Arc<_>]).ablations(off).build()?)
}

/// Boxes of 512 bytes.
type Small = Vec<RemBox<[u64; 64]>>;

fn small(mem: &FarMemory, data: usize) -> Outcome<Small> {
    Ok((0..data / 512).map(|i| RemBox::try_new_in(object::<64>(i as u64), mem)).collect::<Result<_, _>>()?)
}

/// Reads of boxes in the order of keys, again and again.
fn in_order<'a>(boxes: &'a Small, keys: &'a [u32]) -> impl FnMut() -> Outcome<u64> + 'a {
    let mut keys = keys.iter().cycle();
    move || {
        for key in keys.by_ref().take(64) {
            boxes[*key as usize].try_with(|value| _ = black_box(value[63]))?;
        }
        Ok(64)
    }
}

/// Updates of boxes at random.
fn updates(mut boxes: Small) -> impl FnMut() -> Outcome<u64> {
    let mut random = Random::seeded(6);
    move || {
        for _ in 0..64 {
            let i = random.below(boxes.len());
            boxes[i].try_with_mut(|value| value[0] += 1)?;
        }
        Ok(64)
    }
}

fn skewed(bench: &mut Bench<'_>, figure: &mut Figure, name: &str, data: usize, off: Ablations) -> Outcome {
    let keys = zipf(data / 512, 0.99, 4 * data / 512, 3);
    let budget = bench.budget(data, 25);
    let on = small(&bench.memory(Kind::Tcp, budget)?, data)?;
    let off = small(&ablated(bench, Kind::Tcp, budget, off)?, data)?;
    pair(bench, figure, name, in_order(&on, &keys), in_order(&off, &keys))
}

fn joined(bench: &mut Bench<'_>, figure: &mut Figure, data: usize) -> Outcome {
    let budget = bench.budget(data, 5) + (2 << 20);
    let on = scale::fill(&bench.memory(Kind::Tcp, budget)?, data)?;
    let apart = Ablations { misses: Misses::Apart, ..Ablations::default() };
    let off = scale::fill(&ablated(bench, Kind::Tcp, budget, apart)?, data)?;
    // Two threads in the same order: whoever is behind finds all that it needs, until it is there where the other one waits.
    let both = |boxes: scale::Boxes| {
        let mut round = 0;
        move |time| {
            round += 1;
            scale::together(2, time, &|_| scale::reader(Arc::clone(&boxes), round))
        }
    };
    let mut subjects = [Subject::new("as it is", Role::Subject, both(on)), Subject::new("without", Role::Ablation, both(off))];
    bench.measure(figure, "joined misses", &mut subjects)
}

fn far_log(bench: &mut Bench<'_>, figure: &mut Figure, data: usize) -> Outcome {
    let budget = bench.budget(data, 25);
    let on = small(&bench.memory(Kind::Tcp, budget)?, data)?;
    let each = Ablations { far_log: FarLogWrites::EachObject, ..Ablations::default() };
    let off = small(&ablated(bench, Kind::Tcp, budget, each)?, data)?;
    pair(bench, figure, "far-log batching", updates(on), updates(off))
}

fn huge_pages(bench: &mut Bench<'_>, figure: &mut Figure, data: usize) -> Outcome {
    let budget = 2 * data + (4 << 20);
    let on = bench.memory(Kind::Embedded, budget)?;
    let pages = Ablations { pages: Pages::Small, ..Ablations::default() };
    let off = ablated(bench, Kind::Embedded, budget, pages)?;
    let keys = zipf(data / 512, 0.0, 4 * data / 512, 5);
    let (on, off) = (small(&on, data)?, small(&off, data)?);
    pair(bench, figure, "huge pages", in_order(&on, &keys), in_order(&off, &keys))
}

fn scans(bench: &mut Bench<'_>, figure: &mut Figure, data: usize) -> Outcome {
    let budget = bench.budget(data, 10);
    let on = bench.memory(Kind::Shm, budget)?;
    let off = ablated(bench, Kind::Shm, budget, Ablations { scans: Scans::SwappedIn, ..Ablations::default() })?;
    let (on, off) = (scan::fill(&on, data)?, scan::fill(&off, data)?);
    let summed = |(far, sum): (RemVec<u64>, u64)| {
        move || {
            assert_eq!(scan::sum_far(&far)?, sum, "the sum of what was pushed");
            Ok(far.len() as u64)
        }
    };
    pair(bench, figure, "scans past local memory", summed(on), summed(off))
}

fn first_reads(bench: &mut Bench<'_>, figure: &mut Figure, data: usize) -> Outcome {
    let budget = bench.budget(data, 25);
    let on = bench.memory(Kind::Shm, budget)?;
    let off = ablated(bench, Kind::Shm, budget, Ablations { first_reads: FirstReads::SwappedIn, ..Ablations::default() })?;
    let reads = |mut reads: FarReads<512>| move || Ok(reads.read(64).map(|()| 64)?);
    pair(bench, figure, "reads past local memory", reads(FarReads::fill(&on, data)?), reads(FarReads::fill(&off, data)?))
}

/// Misses of 64 tasks, over TCP.
fn tasks(reads: FarReads<512>) -> impl FnMut() -> Outcome<u64> {
    let mut round = 0;
    move || {
        round += 1;
        super::miss::overlapped(&reads, 64, 8, round)?;
        Ok(512)
    }
}

fn together(bench: &mut Bench<'_>, figure: &mut Figure, data: usize) -> Outcome {
    let budget = bench.budget(data, 5) + (2 << 20);
    let on = FarReads::<512>::fill(&bench.memory(Kind::Tcp, budget)?, data)?;
    let off = FarReads::<512>::fill(&singly(bench, budget, Ablations::default())?, data)?;
    pair(bench, figure, "requests sent together", tasks(on), tasks(off))
}

/// All that came after AIFM off at a time.
fn aifm_like(bench: &mut Bench<'_>, data: usize) -> Outcome {
    let mut figure = Figure::new("aifm-like", "As AIFM does it", Axis::Names(""), Unit::PER_SECOND, AIFM_LIKE);
    let budget = bench.budget(data, 25);
    let mut measure = |bench: &mut Bench<'_>, name: &str, on: Batches<'_>, off: Batches<'_>| {
        let mut subjects =
            [Subject::per_second("as it is", Role::Subject, on), Subject::per_second("AIFM-like", Role::Ablation, off)];
        bench.measure(&mut figure, name, &mut subjects)
    };
    let keys = zipf(data / 512, 0.99, 4 * data / 512, 3);
    let (on, off) = (bench.memory(Kind::Tcp, budget)?, singly(bench, budget, Ablations::AIFM_LIKE)?);
    let (on, off) = (small(&on, data)?, small(&off, data)?);
    measure(bench, "reads, Zipf 0.99", Box::new(in_order(&on, &keys)), Box::new(in_order(&off, &keys)))?;
    measure(bench, "updates at random", Box::new(updates(on)), Box::new(updates(off)))?;
    let (on, off) = (bench.memory(Kind::Tcp, budget)?, singly(bench, budget, Ablations::AIFM_LIKE)?);
    let (on, off) = (FarReads::<512>::fill(&on, data)?, FarReads::<512>::fill(&off, data)?);
    measure(bench, "reads at random, 64 tasks", Box::new(tasks(on)), Box::new(tasks(off)))?;
    bench.keep(figure);
    Ok(())
}

/// What a subject does, in batches.
type Batches<'a> = Box<dyn FnMut() -> Outcome<u64> + 'a>;

/// Two far memories of 4 KiB objects that hardly fit.
fn misses(bench: &mut Bench<'_>, figure: &mut Figure, name: &str, data: usize, memories: [FarMemory; 2]) -> Outcome {
    let [mut on, mut off] = [FarReads::<512>::fill(&memories[0], data)?, FarReads::<512>::fill(&memories[1], data)?];
    let on = || {
        on.read(64)?;
        Ok(64)
    };
    let off = || {
        off.read(64)?;
        Ok(64)
    };
    pair(bench, figure, name, on, off)
}

fn sessions(bench: &mut Bench<'_>, figure: &mut Figure, data: usize) -> Outcome {
    let budget = bench.budget(data, 5) + (2 << 20);
    let on = bench.memory(Kind::Shm, budget)?;
    let transport = connect(Kind::Shm, &bench.address(Kind::Shm)?)?;
    let off =
        FarMemory::builder().local_budget(budget).transports([Arc::new(after(transport, Duration::ZERO)) as Arc<_>]).build()?;
    misses(bench, figure, "mapped memory without sessions", data, [on, off])
}

fn thread(bench: &mut Bench<'_>, figure: &mut Figure, data: usize) -> Outcome {
    let budget = bench.budget(data, 5) + (2 << 20);
    let on = bench.memory(Kind::Embedded, budget)?;
    let off = bench.builder(Kind::Embedded, budget)?.without_evacuation_thread().build()?;
    misses(bench, figure, "evacuation on a thread of its own", data, [on, off])
}

fn overlap(bench: &mut Bench<'_>, figure: &mut Figure, data: usize) -> Outcome {
    let mem = bench.memory(Kind::Tcp, bench.budget(data, 5) + (2 << 20))?;
    let (together, mut round) = (FarReads::<512>::fill(&mem, data)?, 0);
    let mem = bench.memory(Kind::Tcp, bench.budget(data, 5) + (2 << 20))?;
    let mut alone = FarReads::<512>::fill(&mem, data)?;
    let on = || {
        round += 1;
        super::miss::overlapped(&together, 64, 8, round)?;
        Ok(512)
    };
    let off = || {
        alone.read(64)?;
        Ok(64)
    };
    pair(bench, figure, "overlap", on, off)
}

fn scopes(bench: &mut Bench<'_>, figure: &mut Figure) -> Outcome {
    let mem = bench.memory(Kind::Embedded, 16 << 20)?;
    let mut boxes = (0..256).map(|i| RemBox::try_new_in([i; 8], &mem)).collect::<Result<Vec<_>, _>>()?;
    let order: Vec<u32> = (0..256).collect();
    (0..2).for_each(|_| farptr_benches::deref::write_far(&mut boxes, &order));
    let on = || {
        black_box(farptr_benches::deref::sum_far(black_box(&boxes), &order));
        Ok(256)
    };
    let off = || {
        black_box(farptr_benches::deref::sum_scope_each(black_box(&boxes), &order));
        Ok(256)
    };
    pair(bench, figure, "long scopes", on, off)
}

fn chunks(bench: &mut Bench<'_>, figure: &mut Figure, data: usize) -> Outcome {
    let mut vecs = Vec::new();
    for bytes in [16 << 10, 512] {
        let mem = bench.memory(Kind::Embedded, bench.budget(data, 25))?;
        let mut vec = RemVec::with_chunk_bytes_in(bytes, &mem);
        vec.try_extend(0..data as u64 / 8)?;
        vecs.push((vec, Random::seeded(4)));
    }
    let mut reads = vecs.iter_mut().map(|(vec, random)| {
        move || {
            (0..64).try_for_each(|_| vec.try_with(random.below(data / 8), |value| _ = black_box(*value)).map(drop))?;
            Ok(64)
        }
    });
    if let (Some(large), Some(small)) = (reads.next(), reads.next()) {
        pair(bench, figure, "chunks of 16 KiB", large, small)?;
    }
    Ok(())
}
