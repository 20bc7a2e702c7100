//! What a real network would do.

use super::Experiment;
use crate::Outcome;
use crate::bare::connect;
use crate::bench::Bench;
use crate::delay::after;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::stats::Summary;
use crate::subject::Subject;
use crate::transport::Kind;
use farptr::{Builder, FarMemory};
use farptr_benches::reads::FarReads;
use farptr_benches::scan::{fill, sum_far};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment =
    Experiment { name: "latency", about: "What a network's latency would do, and where overlap stops hiding it", weight: 8, run };

/// Added to each operation, in microseconds.
const DELAYS: [u64; 6] = [0, 2, 5, 10, 50, 100];

/// Tasks that wait for their misses together.
const TASKS: [usize; 3] = [1, 16, 64];

const MISSES: &str = "Reads of 4 KiB boxes at random, 4% local, on memory lent by mapping, with so much added to each operation; blocking, and by so many \
    tasks of one thread. The model: t_cpu + t_fetch / overlap, where t_cpu is what a blocking miss takes without a delay, t_fetch the delay, overlap the tasks. \
    The last column is what a read would take one at a time with nothing but the delay.";

const SCAN: &str = "The sum over a vector in order, 25% local, with so much added to each operation. The model: the time of a scan without a delay, and the delay for \
    each chunk that is fetched. farptr has no prefetch yet, so nothing hides it.";

fn run(bench: &mut Bench<'_>) -> Outcome {
    let delays = if bench.pace() == crate::cli::Pace::Smoke { &DELAYS[..2] } else { &DELAYS[..] };
    let data = bench.size() / 2;
    bench.plan(delays.len() * (2 + TASKS.len()));
    let mut misses = Figure::new("misses", "4 KiB misses by added latency", Axis::Numbers("us added"), Unit::PER_SECOND, MISSES);
    let mut scans =
        Figure::new("scan", "Sum over a vector by added latency", Axis::Numbers("us added"), Unit::MIB_PER_SECOND, SCAN);
    for delay in delays {
        let place = *delay as f64;
        let delay = Duration::from_micros(*delay);
        bench.doing(format_args!("setting up, {delay:?}"));
        let mem = memory(bench, delay, bench.budget(data, 4) + (2 << 20))?;
        let mut reads = FarReads::<512>::fill(&mem, data)?;
        blocking(bench, &mut misses, place, &mem, &mut reads)?;
        for tasks in TASKS {
            let mut round = 0;
            let mut subjects = [Subject::new(format!("{tasks} tasks"), Role::Subject, |time| {
                let (before, started) = (mem.stats().misses, Instant::now());
                while started.elapsed() < time {
                    round += 1;
                    super::miss::overlapped(&reads, tasks, 256_usize.div_ceil(tasks), round)?;
                }
                Ok((mem.stats().misses - before) as f64 / started.elapsed().as_secs_f64())
            })];
            bench.measure(&mut misses, place, &mut subjects)?;
        }
        if place > 0.0 {
            misses.add("nothing but the delay, one at a time", Role::Model, place.into(), Summary::exact(1e6 / place));
        }
        drop(reads);
        let mem = memory(bench, delay, bench.budget(data, 25))?;
        let (vec, expected) = fill(&mem, data)?;
        let before = mem.stats().misses;
        assert_eq!(sum_far(&vec)?, expected, "the sum of what was pushed");
        let fetched = mem.stats().misses - before;
        let mut subjects = [Subject::mib_per_second("farptr", Role::Subject, || {
            assert_eq!(sum_far(&vec)?, expected, "the sum of what was pushed");
            Ok(data as u64)
        })];
        bench.measure(&mut scans, place, &mut subjects)?;
        model_of_scan(&mut scans, place, data, fetched);
    }
    model_of_misses(&mut misses);
    bench.keep(misses);
    bench.keep(scans);
    Ok(())
}

/// A far memory behind a delay.
fn memory(bench: &mut Bench<'_>, delay: Duration, budget: usize) -> Outcome<FarMemory> {
    let kind = *bench.kinds(&[Kind::Shm]).first().ok_or("no transport to delay")?;
    let transport = connect(kind, &bench.address(kind)?)?;
    Ok(delayed(FarMemory::builder(), transport, delay).local_budget(budget).build()?)
}

fn delayed(builder: Builder, transport: Arc<dyn farptr_runtime::transport::Transport>, delay: Duration) -> Builder {
    builder.transports([Arc::new(after(transport, delay)) as Arc<_>])
}

fn blocking(bench: &mut Bench<'_>, figure: &mut Figure, place: f64, mem: &FarMemory, reads: &mut FarReads<512>) -> Outcome {
    let mut subjects = [Subject::new("blocking", Role::Subject, |time| {
        let (before, started) = (mem.stats().misses, Instant::now());
        while started.elapsed() < time {
            reads.read(32)?;
        }
        Ok((mem.stats().misses - before) as f64 / started.elapsed().as_secs_f64())
    })];
    bench.measure(figure, place, &mut subjects)
}

/// t_cpu + t_fetch / overlap, from the cell without a delay.
fn model_of_misses(figure: &mut Figure) {
    let Some(cpu) = figure.cell("blocking", &0.0.into()).map(|cell| 1e6 / cell.summary.median) else { return };
    for place in figure.places() {
        let crate::figure::Place::Number(delay) = place else { continue };
        for (series, overlap) in [("blocking".to_string(), 1), ("64 tasks".to_string(), 64)] {
            let rate = 1e6 / (cpu + delay / f64::from(overlap));
            figure.add(format!("model: {series}"), Role::Model, place.clone(), Summary::exact(rate));
        }
    }
}

fn model_of_scan(figure: &mut Figure, place: f64, data: usize, fetched: u64) {
    let Some(without) = figure.cell("farptr", &0.0.into()).map(|cell| cell.summary.median) else { return };
    let mib = data as f64 / f64::from(1 << 20);
    let seconds = mib / without + fetched as f64 * place / 1e6;
    figure.add("model: farptr", Role::Model, place.into(), Summary::exact(mib / seconds));
}
