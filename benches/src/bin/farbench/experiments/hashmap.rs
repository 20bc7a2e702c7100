//! A hash map larger than the local budget.

use super::Experiment;
use crate::Outcome;
use crate::bench::Bench;
use crate::figure::{Axis, Figure, Place, Role, Unit};
use crate::program::Program;
use crate::store::{Driver, FarMap, StdMap, Store, entry_bytes};
use crate::subject::Subject;
use crate::transport::Kind;
use farptr::Far;
use farptr_benches::random::zipf;

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "hashmap",
    about: "A hash map larger than the local budget (built after figures 9 and 10 of AIFM)",
    weight: 14,
    run,
};

const READING: &str = "Lookups of keys drawn by Zipf's law, one at a time, on one thread; keys and values are 8 and 512 bytes unless said otherwise, and all \
    of the map's own tables count. Nothing can beat std's `HashMap` with all of it local, and that needs all of the memory.";

/// Keys that are drawn beforehand, and then gone through again and again.
const DRAWS: usize = 1 << 20;

/// Operations between looks at the clock.
const BATCH: u64 = 256;

/// What is varied, in one place.
#[derive(Clone, Copy)]
struct Setting {
    percent: u32,
    skew: f64,
    reads: u32,
}

fn run(bench: &mut Bench<'_>) -> Outcome {
    let kinds = bench.kinds(&[Kind::Embedded, Kind::Shm, Kind::Tcp]);
    let full = bench.pace().of(5, 3, 1);
    let skews = &[0.0, 0.8, 0.99, 1.2, 1.35];
    let skews: Vec<f64> = if full == 5 { skews.to_vec() } else { vec![0.0, 0.99, 1.35] };
    let locals = bench.locals(&[5, 10, 25, 50, 100][5 - full.max(1)..]);
    let usual = Setting { percent: *locals.iter().find(|percent| **percent == 25).unwrap_or(&locals[0]), skew: 0.99, reads: 100 };
    bench.plan((skews.len() + locals.len() + 3 + 2) * (kinds.len() + 2));

    let title = format!("Reads by skew, {}% local", usual.percent);
    let mut figure = Figure::new("skew", title, Axis::Numbers("Zipf skew"), Unit::PER_SECOND, READING);
    for skew in skews {
        place::<64>(bench, &kinds, &mut figure, skew.into(), Setting { skew, ..usual })?;
    }
    bench.keep(figure);

    let mut figure =
        Figure::new("local", "Reads by local memory, Zipf 0.99", Axis::Numbers("% local"), Unit::PER_SECOND, READING)
            .headline(f64::from(usual.percent));
    for percent in locals {
        place::<64>(bench, &kinds, &mut figure, f64::from(percent).into(), Setting { percent, ..usual })?;
    }
    bench.keep(figure);

    let title = format!("Reads and updates, Zipf 0.99, {}% local", usual.percent);
    let mut figure = Figure::new("mix", title, Axis::Numbers("% reads"), Unit::PER_SECOND, READING);
    for reads in [100, 95, 50] {
        place::<64>(bench, &kinds, &mut figure, f64::from(reads).into(), Setting { reads, ..usual })?;
    }
    bench.keep(figure);

    // With small values slots and index are a third of an entry, and they stay local.
    let usual = Setting { percent: usual.percent.max(50), ..usual };
    let title = format!("Reads by size of values, Zipf 0.99, {}% local", usual.percent);
    let mut figure = Figure::new("sizes", title, Axis::Numbers("bytes"), Unit::PER_SECOND, READING);
    place::<8>(bench, &kinds, &mut figure, 64.0.into(), usual)?;
    place::<64>(bench, &kinds, &mut figure, 512.0.into(), usual)?;
    bench.keep(figure);
    Ok(())
}

/// Measures all stores at one place.
fn place<const N: usize>(bench: &mut Bench<'_>, kinds: &[Kind], figure: &mut Figure, place: Place, with: Setting) -> Outcome
where
    [u64; N]: Far,
{
    bench.doing(format_args!("setting up, {} {place}", figure.id));
    let count = bench.size() / entry_bytes(N);
    let keys = zipf(count, with.skew, DRAWS.min(4 * count), 1);
    let mut stores: Vec<(String, Role, Box<dyn Store>)> = Vec::new();
    for kind in kinds {
        let budget = bench.budget(bench.size(), with.percent);
        let mem = bench.memory(*kind, budget)?;
        match FarMap::<N>::fill(&mem, count) {
            Ok(map) => stores.push((format!("farptr, {kind}"), Role::Subject, Box::new(map))),
            // Index, slots and the like stay local, and may alone be too much.
            Err(error) => bench.missing(format!("farptr, {kind}, {N} words, {}% local", with.percent), error),
        }
    }
    stores.push(("std, all local".into(), Role::Limit, Box::new(StdMap::<N>::fill(count))));
    let mut subjects: Vec<_> = stores
        .into_iter()
        .map(|(series, role, mut store)| {
            let mut driver = Driver::new(keys.clone(), with.reads);
            Subject::per_second(series, role, move || driver.run(&mut *store, BATCH))
        })
        .collect();
    let program = Program::Map { words: N, count, skew: with.skew, reads: with.reads, draws: keys.len() };
    subjects.extend(bench.swapped(&program, bench.size(), with.percent));
    bench.measure(figure, place, &mut subjects)
}
