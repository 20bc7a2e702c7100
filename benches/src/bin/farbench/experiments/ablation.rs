//! What each mechanism brings: the same with one of them off.

use super::Experiment;
use crate::Outcome;
use crate::bare::connect;
use crate::bench::Bench;
use crate::delay::Delayed;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::subject::Subject;
use crate::transport::Kind;
use farptr::{FarMemory, RemBox, RemVec};
use farptr_benches::random::{Random, object, zipf};
use farptr_benches::reads::FarReads;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const EXPERIMENT: Experiment =
    Experiment { name: "ablation", about: "What each mechanism brings: the same with it turned off", weight: 5, run };

const READING: &str = "`as it is` is farptr; the other column has one mechanism off. hotness: all reads in a non-temporal scope, so that objects leave in the \
    order they came (Zipf 0.99, 25% local). mapped memory without sessions: the same memory by submit and poll (4 KiB misses). evacuation on a thread of its own: rounds \
    run by who needs memory only (4 KiB misses). overlap: tasks miss one at a time instead of 64 together (4 KiB, over TCP). long scopes: a scope for each deref (hits). chunks: \
    random elements of a vector with chunks of 16 KiB, and of 512 B.";

const NOT_YET: [(&str, &str); 5] = [
    ("joined misses off", "farptr has no setting for it"),
    ("far-log batching off", "farptr has no setting for it"),
    ("huge pages off", "farptr has no setting for it"),
    ("prefetch off", "farptr has no prefetch yet"),
    ("an AIFM-like mode", "farptr has no setting for CLOCK counters, nor for AIFM's watermarks"),
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
    bench.plan(12);
    hotness(bench, &mut figure, data)?;
    sessions(bench, &mut figure, data)?;
    thread(bench, &mut figure, data)?;
    overlap(bench, &mut figure, data)?;
    scopes(bench, &mut figure)?;
    chunks(bench, &mut figure, data)?;
    bench.keep(figure);
    Ok(())
}

fn hotness(bench: &mut Bench<'_>, figure: &mut Figure, data: usize) -> Outcome {
    let count = data / 512;
    let keys = zipf(count, 0.99, 4 * count, 3);
    let fill = |bench: &mut Bench<'_>| -> Outcome<Vec<_>> {
        let mem = bench.memory(Kind::Embedded, bench.budget(data, 25))?;
        Ok((0..count).map(|i| RemBox::try_new_in(object::<64>(i as u64), &mem)).collect::<Result<_, _>>()?)
    };
    let (with, without) = (fill(bench)?, fill(bench)?);
    let (mut at, mut other) = (0, 0);
    let next = |at: &mut usize| {
        *at = (*at + 1) % keys.len();
        keys[*at] as usize
    };
    let on = || {
        (0..64).try_for_each(|_| read(&with[next(&mut at)], farptr::scope))?;
        Ok(64)
    };
    let off = || {
        (0..64).try_for_each(|_| read(&without[next(&mut other)], farptr::scope_non_temporal))?;
        Ok(64)
    };
    pair(bench, figure, "hotness", on, off)
}

/// A read in a scope of its own. `RemBox::with` waits for memory by itself, but has no way to say that a read is non-temporal.
fn read(far: &RemBox<[u64; 64]>, scope: impl Fn() -> farptr::Scope) -> farptr::Result<()> {
    loop {
        match far.try_get(&scope()) {
            Ok(value) => return Ok(_ = black_box(value[0])),
            // The scope has gone, so that evacuation can go on.
            Err(farptr::Error::ScopeExhausted { .. }) => std::thread::yield_now(),
            Err(error) => return Err(error),
        }
    }
}

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
    let off = FarMemory::builder()
        .local_budget(budget)
        .transports([Arc::new(Delayed::new(transport, Duration::ZERO)) as Arc<_>])
        .build()?;
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
