//! The cost of a miss.

use super::Experiment;
use crate::Outcome;
use crate::bare::{BareReads, connect};
use crate::bench::Bench;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::stats::Summary;
use crate::subject::Subject;
use crate::transport::Kind;
use farptr::{Far, FarMemory};
use farptr_benches::random::Random;
use farptr_benches::reads::FarReads;
use futures::executor::LocalPool;
use futures::future::join_all;
use std::time::Instant;

pub(crate) const EXPERIMENT: Experiment =
    Experiment { name: "miss", about: "What it costs to look at an object that is far", weight: 9, run };

/// Misses in flight.
const IN_FLIGHT: [usize; 5] = [1, 4, 16, 64, 256];

/// Part of the data that fits the local budget, in percent, unless said otherwise: little, so that nearly all reads miss.
const LOCAL: u32 = 4;

/// Bytes of metadata for each object that stay local.
const METADATA: usize = 24;

const SIZES: &str = "Uniform random reads of boxes, one at a time, of which 4% fit the local budget, on top of their metadata. Time for each miss: the \
    fetch, its checksum, and room made by evacuation, part of which happens on another thread. The limit is a bare read of as many bytes by \
    the same transport.";

const MANY: &str = "The same with 4 KiB objects and so many tasks of one thread, which wait for their misses together.";

fn run(bench: &mut Bench<'_>) -> Outcome {
    let kinds = bench.kinds(&Kind::ALL);
    bench.plan(kinds.len() * (4 * 2 + IN_FLIGHT.len() * 2));
    for kind in &kinds {
        let title = format!("A miss by its size, {kind}");
        let mut sizes = Figure::new("sizes", title, Axis::Numbers("bytes"), Unit::NS, SIZES).headline(4096.0);
        size::<8>(bench, *kind, &mut sizes)?;
        size::<64>(bench, *kind, &mut sizes)?;
        size::<512>(bench, *kind, &mut sizes)?;
        size::<8192>(bench, *kind, &mut sizes)?;
        minus_the_floor(&mut sizes);
        bench.keep(sizes);
    }
    for kind in kinds {
        in_flight(bench, kind)?;
    }
    Ok(())
}

/// A far memory in which few of the objects are local.
fn memory(bench: &mut Bench<'_>, kind: Kind, data: usize, bytes: usize) -> Outcome<FarMemory> {
    let percent = bench.locals(&[LOCAL])[0];
    let budget = bench.budget(data, percent) + data / bytes * METADATA + (1 << 20);
    bench.memory(kind, budget)
}

fn size<const N: usize>(bench: &mut Bench<'_>, kind: Kind, figure: &mut Figure) -> Outcome
where
    [u64; N]: Far,
{
    let (data, bytes) = (bench.size(), N * 8);
    bench.doing(format_args!("setting up, {bytes} bytes, {kind}"));
    let mem = memory(bench, kind, data, bytes)?;
    let mut reads = FarReads::<N>::fill(&mem, data)?;
    let mut bare = BareReads::new(connect(kind, &bench.address(kind)?)?, data.min(256 << 20), bytes, 1)?;
    let batch = if kind.waits() { 32 } else { 256 };
    let mut subjects = [
        Subject::new("farptr", Role::Subject, |time| {
            let (before, started) = (mem.stats().misses, Instant::now());
            while started.elapsed() < time {
                reads.read(batch)?;
            }
            Ok(started.elapsed().as_nanos() as f64 / (mem.stats().misses - before).max(1) as f64)
        }),
        Subject::ns(format!("bare {kind}"), Role::Limit, || {
            bare.read(batch)?;
            Ok(batch)
        }),
    ];
    bench.measure(figure, bytes as f64, &mut subjects)
}

/// What is farptr's own: the difference.
fn minus_the_floor(figure: &mut Figure) {
    for place in figure.places() {
        let of = |role| figure.best(role, &place).map(|cell| cell.summary.median);
        if let Some((farptr, floor)) = of(Role::Subject).zip(of(Role::Limit)) {
            figure.add("farptr's own part", Role::Model, place, Summary::exact((farptr - floor).max(0.0)));
        }
    }
}

fn in_flight(bench: &mut Bench<'_>, kind: Kind) -> Outcome {
    let data = bench.size();
    let title = format!("4 KiB misses, overlapped, {kind}");
    let mut figure = Figure::new("in-flight", title, Axis::Numbers("in flight"), Unit::PER_SECOND, MANY);
    if kind == Kind::Tcp {
        figure = figure.headline(64.0);
    }
    let mem = memory(bench, kind, data, 4096)?;
    let reads = FarReads::<512>::fill(&mem, data)?;
    let mut round = 0;
    for tasks in IN_FLIGHT {
        let mut bare = BareReads::new(connect(kind, &bench.address(kind)?)?, data.min(256 << 20), 4096, tasks)?;
        let mut subjects = [
            Subject::new("farptr", Role::Subject, |time| {
                let (before, started) = (mem.stats().misses, Instant::now());
                while started.elapsed() < time {
                    round += 1;
                    overlapped(&reads, tasks, 1024_usize.div_ceil(tasks), round)?;
                }
                Ok((mem.stats().misses - before) as f64 / started.elapsed().as_secs_f64())
            }),
            Subject::per_second(format!("bare {kind}"), Role::Limit, || {
                bare.read(1024)?;
                Ok(1024)
            }),
        ];
        bench.measure(&mut figure, tasks as f64, &mut subjects)?;
    }
    bench.keep(figure);
    Ok(())
}

/// So many tasks, each of which makes so many reads.
pub(crate) fn overlapped(reads: &FarReads<512>, tasks: usize, turns: usize, round: u64) -> farptr::Result<()> {
    let task = |number: usize| {
        let mut random = Random::seeded(round << 16 | number as u64);
        async move {
            for _ in 0..turns {
                let i = random.below(reads.boxes().len());
                let last = reads.boxes()[i].with_async(|value| value[511]).await?;
                assert_eq!(last, i as u64, "an object's last word is its number");
            }
            Ok(())
        }
    };
    LocalPool::new().run_until(join_all((0..tasks).map(task))).into_iter().collect()
}
