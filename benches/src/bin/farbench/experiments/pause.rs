//! How long single operations take while memory is short.

use super::Experiment;
use crate::Outcome;
use crate::bench::Bench;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::stats::Summary;
use crate::transport::Kind;
use farptr::RemBox;
use farptr_benches::random::{Random, object};
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "pause",
    about: "How long single reads take while evacuation runs (built after figure 14 of AIFM)",
    weight: 4,
    run,
};

const READING: &str = "One thread reads; another one misses all the time, so that evacuation never rests. `hits`: objects that are used all the time. `all`: objects \
    at random, of which a quarter is local. Clock and loop cost about as much as `std`, which reads boxes of its own beside another thread that reads boxes. On a \
    machine that is shared, the last columns show who else wanted a processor.";

/// Which latencies are shown.
const PERCENTILES: [(&str, f64); 5] = [("50%", 50.0), ("99%", 99.0), ("99.9%", 99.9), ("99.99%", 99.99), ("longest", 100.0)];

/// Objects that are used all the time.
const HOT: usize = 256;

fn run(bench: &mut Bench<'_>) -> Outcome {
    let data = bench.size() / 4;
    let count = data / 4096;
    let kinds = bench.kinds(&[Kind::Embedded, Kind::Tcp]);
    bench.plan(kinds.len() * 2 + 1);
    let mut hits = Figure::new("hits", "Reads of hot objects beside evacuation", Axis::Names(""), Unit::NS, READING);
    let mut all = Figure::new("all", "Reads at random beside evacuation, 25% local", Axis::Names(""), Unit::NS, READING);
    for kind in kinds {
        let mem = bench.memory(kind, bench.budget(data, 25))?;
        let hot = (0..HOT).map(|i| RemBox::try_new_in(object::<8>(i as u64), &mem)).collect::<Result<Vec<_>, _>>()?;
        let boxes = (0..count).map(|i| RemBox::try_new_in(object::<512>(i as u64), &mem)).collect::<Result<Vec<_>, _>>()?;
        let churn = |random: &mut Random| boxes[random.below(count)].try_with(|value| value[0]);
        let mut random = Random::seeded(1);
        bench.doing(format_args!("hits, {kind}"));
        let latencies = beside(bench, churn, || hot[random.below(HOT)].try_with(|value| value[0]))?;
        add(&mut hits, &format!("farptr, {kind}"), Role::Subject, &latencies);
        bench.doing(format_args!("all, {kind}"));
        let latencies = beside(bench, churn, || boxes[random.below(count)].try_with(|value| value[0]))?;
        add(&mut all, &format!("farptr, {kind}"), Role::Subject, &latencies);
    }
    let boxes: Vec<_> = (0..count).map(|i| Box::new(object::<512>(i as u64))).collect();
    let mut random = Random::seeded(1);
    let read = |random: &mut Random| Ok(boxes[random.below(count)][0]);
    let latencies = beside(bench, read, || read(&mut random))?;
    add(&mut hits, "std", Role::Limit, &latencies);
    add(&mut all, "std", Role::Limit, &latencies);
    bench.keep(hits);
    bench.keep(all);
    Ok(())
}

/// Latencies of one operation while another thread does another all the time.
fn beside(
    bench: &mut Bench<'_>,
    other: impl Fn(&mut Random) -> farptr::Result<u64> + Sync,
    mut one: impl FnMut() -> farptr::Result<u64>,
) -> Outcome<Histogram<u64>> {
    let (end, slice) = (AtomicBool::new(false), bench.slice());
    let latencies = std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let mut random = Random::seeded(2);
            while !end.load(Ordering::Relaxed) {
                other(&mut random)?;
            }
            Ok::<_, farptr::Error>(())
        });
        // Whatever happens here, the other thread must end.
        let timed = (|| -> Outcome<_> {
            let mut latencies = Histogram::<u64>::new(3)?;
            let started = Instant::now();
            let mut last = Instant::now();
            while last - started < slice {
                std::hint::black_box(one()?);
                let now = Instant::now();
                latencies.record((now - last).as_nanos() as u64)?;
                last = now;
            }
            Ok(latencies)
        })();
        end.store(true, Ordering::Relaxed);
        busy.join().map_err(|_| "the other thread panicked")??;
        timed
    })?;
    bench.plan_less(1);
    Ok(latencies)
}

fn add(figure: &mut Figure, series: &str, role: Role, latencies: &Histogram<u64>) {
    for (name, percentile) in PERCENTILES {
        figure.add(series, role, name.into(), Summary::exact(latencies.value_at_percentile(percentile) as f64));
    }
}
