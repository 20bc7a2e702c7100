//! What cleaning costs when far memory is nearly full.

use super::Experiment;
use super::scale::{Work, together_on};
use crate::Outcome;
use crate::bare::{BareReads, connect};
use crate::bench::Bench;
use crate::cli::Pace;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::greedy::Log;
use crate::stats::Summary;
use crate::subject::rate;
use crate::transport::Kind;
use farptr::{FarMemory, RemBox, Stats};
use farptr_benches::random::{Random, object};
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment =
    Experiment { name: "cleaning", about: "Objects overwritten at random while far memory is nearly full", weight: 5, run };

const MOVED: &str = "Boxes of 4 KiB, overwritten at random, a sixteenth of far memory local. For each byte written back, the bytes that the cleaner moves to make room for it. The limit is \
    what a log-structured store must move at least if it always empties the segment with the least alive (greedy), by simulation with segments, objects and dirty local objects as many, and one free \
    segment.";

const RATE: &str = "The same, in overwritten objects a second. The limit: the rate with 30% alive, where nothing has to be moved, and for each byte that the simulation moves \
    a bare read by the transport, and another for the write.";

/// Percentages of far memory that are alive.
const ALIVE: [u32; 5] = [70, 80, 90, 95, 98];

/// Where nothing is cleaned that costs anything.
const FREE_OF_COST: u32 = 30;

/// Threads.
const THREADS: [usize; 2] = [1, 4];

/// Words of an object.
const WORDS: usize = 512;

/// Bytes of an object's image: contents and header.
const IMAGE_BYTES: usize = WORDS * 8 + 16;

/// Bytes that a local object takes: contents and header.
const LOCAL_BYTES: usize = WORDS * 8 + 16;

/// Images in a far segment.
const PER_SEGMENT: usize = SEGMENT_BYTES / IMAGE_BYTES;

/// Bytes of a far segment.
const SEGMENT_BYTES: usize = 256 << 10;

/// Bytes of a bare read, which is one of the largest: the cleaner reads segments.
const BARE_BYTES: usize = 64 << 10;

/// Overwrites between looks at the clock.
const BATCH: u64 = 32;

/// This part of far memory is local.
const LOCAL_PART: usize = 16;

type Object = [u64; WORDS];

fn run(bench: &mut Bench<'_>) -> Outcome {
    let kinds = bench.kinds(&Kind::ALL);
    // Less would be so few segments that those which are kept and those which are being filled count for much.
    let far = (bench.size() / 4).max(64 << 20);
    let alive = bench.alive(if bench.pace() == Pace::Smoke { &ALIVE[4..] } else { &ALIVE });
    let floors: Vec<f64> = alive.iter().map(|percent| floor(far, *percent)).collect();
    let mut moved = Figure::new("moved", "Bytes moved for a byte written", Axis::Numbers("% alive"), Unit::MOVED, MOVED);
    bench.plan(kinds.len() * (alive.len() + 1));
    for kind in kinds {
        // Settles soon, and is not what is asked.
        let free = overwrite(bench, kind, far, FREE_OF_COST, bench.slice() / 8)?;
        let move_seconds = 2.0 * bare_seconds(bench, kind)?;
        let figure = |threads| {
            let title = format!("Overwritten objects, {kind}, threads: {threads}");
            Figure::new("rate", title, Axis::Numbers("% alive"), Unit::PER_SECOND, RATE)
        };
        let mut figures = THREADS.map(figure);
        for (percent, floor) in alive.iter().zip(&floors) {
            let place = || f64::from(*percent).into();
            let Overwritten { rates, ratio } = overwrite(bench, kind, far, *percent, bench.slice())?;
            moved.add(format!("farptr, {kind}"), Role::Subject, place(), Summary::exact(ratio));
            for (figure, (rates, free)) in figures.iter_mut().zip(rates.into_iter().zip(&free.rates)) {
                let free = Summary::of(free.clone()).ok_or("no samples")?.median;
                figure.add("farptr", Role::Subject, place(), Summary::of(rates).ok_or("no samples")?);
                figure.add("greedy", Role::Limit, place(), Summary::exact(1.0 / (1.0 / free + floor * move_seconds)));
            }
        }
        figures.into_iter().for_each(|figure| bench.keep(figure));
    }
    for (percent, floor) in alive.iter().zip(floors) {
        moved.add("greedy", Role::Limit, f64::from(*percent).into(), Summary::exact(floor));
    }
    bench.keep(moved);
    Ok(())
}

/// What came of overwriting for a while.
struct Overwritten {
    /// Objects a second, for each number of threads.
    rates: Vec<Vec<f64>>,
    /// Bytes that the cleaner moved for each byte written back.
    ratio: f64,
}

fn overwrite(bench: &mut Bench<'_>, kind: Kind, far: usize, percent: u32, time: Duration) -> Outcome<Overwritten> {
    bench.doing(format_args!("setting up, {percent}% alive, {kind}"));
    let mem = bench.builder(kind, far / LOCAL_PART)?.far_capacity(far as u64).build()?;
    let mut boxes =
        (0..objects(far, percent)).map(|i| RemBox::try_new_in(object(i as u64), &mem)).collect::<Result<Vec<_>, _>>()?;
    bench.doing(format_args!("{percent}% alive, {kind}"));
    // Until every segment has been cleaned some times: at first all are as full as they will be.
    let rounds = bench.pace().rounds();
    let each = time / (THREADS.len() * (rounds + 1)) as u32;
    let sample = each.clamp(Duration::from_millis(2), Duration::from_secs(2));
    let until = Instant::now() + time;
    sample_of(&mut boxes, 1, 0, sample * if bench.pace() == Pace::Smoke { 0 } else { 2 })?;
    let before = mem.stats();
    let mut rates = vec![Vec::new(); THREADS.len()];
    let mut round = 0;
    while round < rounds || Instant::now() < until {
        round += 1;
        for (threads, rates) in THREADS.iter().zip(&mut rates) {
            rates.push(sample_of(&mut boxes, *threads, round as u64, sample)?);
        }
    }
    let ratio = moved_for_written(&before, &mem.stats());
    bench.plan_less(1);
    check(&mem, &boxes)?;
    Ok(Overwritten { rates, ratio })
}

/// Objects that take so many percent of far memory.
fn objects(far: usize, percent: u32) -> usize {
    far / 100 * percent as usize / IMAGE_BYTES
}

fn moved_for_written(before: &Stats, after: &Stats) -> f64 {
    let written = after.written_back_bytes - before.written_back_bytes;
    (after.cleaned_bytes - before.cleaned_bytes) as f64 / written.max(1) as f64
}

/// Objects overwritten in a second by all threads together, each with a part of its own.
fn sample_of(boxes: &mut [RemBox<Object>], threads: usize, seed: u64, time: Duration) -> Outcome<f64> {
    let part = boxes.len().div_ceil(threads);
    let works = boxes.chunks_mut(part).enumerate().map(|(thread, part)| -> Work<'_> {
        let mut random = Random::seeded(seed * 100 + thread as u64);
        Box::new(move || {
            for _ in 0..BATCH {
                let i = random.below(part.len());
                part[i].try_with_mut(|value| value[0] += 1).map_err(|error| error.to_string())?;
            }
            Ok(BATCH)
        })
    });
    together_on(works.collect(), time)
}

/// Nothing was lost.
fn check(mem: &FarMemory, boxes: &[RemBox<Object>]) -> Outcome {
    for (i, value) in boxes.iter().enumerate() {
        let last = value.try_with(|value| value[WORDS - 1])?;
        assert_eq!(last, i as u64, "an object's last word is its number; {:?}", mem.stats());
    }
    Ok(())
}

/// Bytes that greedy cleaning moves for each byte written, by simulation.
fn floor(far: usize, percent: u32) -> f64 {
    let local = far / LOCAL_PART / LOCAL_BYTES;
    Log::new(far / SEGMENT_BYTES, PER_SEGMENT, objects(far, percent), local).moved_for_written()
}

/// Seconds for the bytes of an image, in bare reads by the transport.
fn bare_seconds(bench: &mut Bench<'_>, kind: Kind) -> Outcome<f64> {
    let address = bench.address(kind)?;
    let mut reads = BareReads::new(connect(kind, &address)?, 32 << 20, BARE_BYTES, 1)?;
    let a_second = rate(Duration::from_millis(bench.pace().of(200, 50, 2) as u64), &mut || {
        reads.read(8)?;
        Ok(8)
    })?;
    Ok(IMAGE_BYTES as f64 / BARE_BYTES as f64 / a_second)
}
