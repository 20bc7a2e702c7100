//! A hash map larger than the local budget.

use super::Experiment;
use crate::Outcome;
use crate::bench::Bench;
use crate::cli::Pace;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::program::{Load, Program};
use crate::remote::Remote;
use crate::store::{Driver, FarMap, StdMap, entry_bytes};
use crate::stores::{self, Named, Stores};
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
    of the map's own tables count. Nothing can beat std's `HashMap` with all of it local, and that needs all of the memory. foyer: a cache in \
    the same budget, its own overhead and its index of the device counted, in front of a device in memory. redis: a server on this machine that has all of the data, so \
    that what is local makes no difference to it; `64 at a time` is as fast as 64 clients would be together who each wait for an answer.";

/// Operations between looks at the clock.
const BATCH: u64 = 256;

/// What is looked up in: the same map, in each way.
struct Maps {
    count: usize,
    stores: Vec<Named>,
    swapped: Option<Remote>,
}

/// Operations unless said otherwise.
const SKEW: f64 = 0.99;

fn run(bench: &mut Bench<'_>) -> Outcome {
    let kinds = bench.kinds(&[Kind::Embedded, Kind::Shm, Kind::Tcp]);
    let skews = match bench.pace() {
        Pace::Full => vec![0.0, 0.8, SKEW, 1.2, 1.35],
        Pace::Quick | Pace::Smoke => vec![0.0, SKEW, 1.35],
    };
    let locals = match bench.pace() {
        Pace::Full => bench.locals(&[5, 10, 25, 50, 100]),
        Pace::Quick | Pace::Smoke => bench.locals(&[10, 25, 50]),
    };
    let usual = *locals.iter().find(|percent| **percent == 25).unwrap_or(&locals[0]);
    bench.plan((skews.len() + locals.len() + 3 + 2) * (kinds.len() + 2 + stores::MOST));
    let mut others = Stores::default();

    let mut maps = Maps::fill::<64>(bench, &mut others, &kinds, usual)?;
    let title = format!("Reads by skew, {usual}% local");
    let mut figure = Figure::new("skew", title, Axis::Numbers("Zipf skew"), Unit::PER_SECOND, READING);
    for skew in skews {
        maps.measure(bench, &mut figure, skew, skew, 100)?;
    }
    bench.keep(figure);

    let title = format!("Reads and updates, Zipf {SKEW}, {usual}% local");
    let mut figure = Figure::new("mix", title, Axis::Numbers("% reads"), Unit::PER_SECOND, READING);
    for reads in [100, 95, 50] {
        maps.measure(bench, &mut figure, f64::from(reads), SKEW, reads)?;
    }
    bench.keep(figure);
    drop(maps);

    let title = format!("Reads by local memory, Zipf {SKEW}");
    let mut figure = Figure::new("local", title, Axis::Numbers("% local"), Unit::PER_SECOND, READING).headline(f64::from(usual));
    for percent in locals {
        Maps::fill::<64>(bench, &mut others, &kinds, percent)?.measure(bench, &mut figure, f64::from(percent), SKEW, 100)?;
    }
    bench.keep(figure);

    // With small values slots and index are a third of an entry, and they stay local.
    let percent = usual.max(50);
    let title = format!("Reads by size of values, Zipf {SKEW}, {percent}% local");
    let mut figure = Figure::new("sizes", title, Axis::Numbers("bytes"), Unit::PER_SECOND, READING);
    Maps::fill::<8>(bench, &mut others, &kinds, percent)?.measure(bench, &mut figure, 64.0, SKEW, 100)?;
    Maps::fill::<64>(bench, &mut others, &kinds, percent)?.measure(bench, &mut figure, 512.0, SKEW, 100)?;
    bench.keep(figure);
    Ok(())
}

impl Maps {
    fn fill<const N: usize>(bench: &mut Bench<'_>, others: &mut Stores, kinds: &[Kind], percent: u32) -> Outcome<Self>
    where
        [u64; N]: Far,
    {
        let count = bench.size() / entry_bytes(N);
        let mut stores: Vec<Named> = Vec::new();
        for kind in kinds {
            bench.doing(format_args!("setting up, {percent}% local, {kind}"));
            let mem = bench.memory(*kind, bench.budget(bench.size(), percent))?;
            match FarMap::<N>::fill(&mem, count) {
                Ok(map) => stores.push((format!("farptr, {kind}"), Role::Subject, Box::new(map))),
                // Index, slots and the like stay local, and may alone be too much.
                Err(error) => bench.missing(format!("farptr, {kind}, {} bytes, {percent}% local", N * 8), error),
            }
        }
        stores.push(("std, all local".into(), Role::Limit, Box::new(StdMap::<N>::fill(count))));
        stores.extend(others.fill::<N>(bench, count, bench.budget(bench.size(), percent)));
        let program = Program::Map { words: N, count, load: Self::load(count, SKEW, 100) };
        let swapped = bench.swapped(&program, bench.size(), percent);
        Ok(Maps { count, stores, swapped })
    }

    fn load(count: usize, skew: f64, reads: u32) -> Load {
        Load { skew, reads, draws: (1 << 20).min(4 * count) }
    }

    fn measure(&mut self, bench: &mut Bench<'_>, figure: &mut Figure, place: f64, skew: f64, reads: u32) -> Outcome {
        let load = Self::load(self.count, skew, reads);
        let keys = zipf(self.count, skew, load.draws, 1);
        let mut subjects: Vec<_> = self
            .stores
            .iter_mut()
            .map(|(series, role, store)| {
                let mut driver = Driver::new(keys.clone(), reads);
                Subject::per_second(series.clone(), *role, move || driver.run(&mut **store, BATCH))
            })
            .collect();
        if let Some(remote) = &mut self.swapped {
            match remote.load(&load) {
                Ok(()) => subjects.push(remote.subject()),
                Err(why) => bench.missing("std under a memory limit, all that comes after", why),
            }
        }
        bench.measure(figure, place, &mut subjects)?;
        drop(subjects);
        stores::remarks(bench, &format!("{}, {place} {}", figure.id, figure.axis.label()), &mut self.stores);
        Ok(())
    }
}
