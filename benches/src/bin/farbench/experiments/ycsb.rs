//! The workloads of the Yahoo Cloud Serving Benchmark.

use super::Experiment;
use crate::Outcome;
use crate::bench::Bench;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::store::{FarMap, StdMap, Store};
use crate::stores::{self, Named, Stores};
use crate::subject::Subject;
use crate::transport::Kind;
use farptr::{FarMemory, RemVec};
use farptr_benches::random::{Random, object, word, zipf};

pub(crate) const EXPERIMENT: Experiment =
    Experiment { name: "ycsb", about: "The workloads A to F of YCSB on a hash map", weight: 8, run };

const READING: &str = "Records of 1 KiB, 25% local, one thread, keys by Zipf 0.99. A: half reads, half updates. B: 95% reads. C: reads only. D: 95% reads of \
    recent records, 5% inserts. E: short scans of up to 100 records, on a vector in the order of keys, since a hash map has none; the count is of scans. F: half \
    reads, half read, change and write back. The limit is std with all of it local.";

/// Words of a record: a kibibyte.
const WORDS: usize = 128;

/// Records of a scan at most.
const LONGEST_SCAN: usize = 100;

/// Operations between looks at the clock.
const BATCH: u64 = 64;

/// What a workload does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Workload {
    Mix { reads_percent: usize },
    Latest,
    ReadModifyWrite,
}

fn run(bench: &mut Bench<'_>) -> Outcome {
    let kinds = bench.kinds(&[Kind::Embedded, Kind::Shm, Kind::Tcp]);
    let percent = bench.locals(&[25])[0];
    let data = bench.size();
    let count = data / (WORDS * 8);
    bench.plan(6 * (kinds.len() + 1) + 5 * stores::MOST);
    let mut others = Stores::default();
    let mut figure =
        Figure::new("ops", format!("YCSB, {percent}% local"), Axis::Names(""), Unit::PER_SECOND, READING).headline("B");
    let keys = zipf(count, 0.99, (1 << 20).min(4 * count), 7);
    for (name, workload) in [
        ("A", Workload::Mix { reads_percent: 50 }),
        ("B", Workload::Mix { reads_percent: 95 }),
        ("C", Workload::Mix { reads_percent: 100 }),
        ("D", Workload::Latest),
        ("F", Workload::ReadModifyWrite),
    ] {
        bench.doing(format_args!("setting up, {name}"));
        let mut stores: Vec<Named> = Vec::new();
        for kind in &kinds {
            let mem = bench.memory(*kind, bench.budget(data, percent))?;
            stores.push((format!("farptr, {kind}"), Role::Subject, Box::new(FarMap::<WORDS>::fill(&mem, count)?)));
        }
        stores.push(("std, all local".into(), Role::Limit, Box::new(StdMap::<WORDS>::fill(count))));
        stores.extend(others.fill::<WORDS>(bench, count, bench.budget(data, percent)));
        let mut subjects: Vec<_> = stores
            .iter_mut()
            .map(|(series, role, store)| {
                let mut client =
                    Client { keys: &keys, at: 0, count: count as u32, most: count as u32 * 2, random: Random::seeded(8) };
                Subject::per_second(series.clone(), *role, move || client.run(&mut **store, workload))
            })
            .collect();
        bench.measure(&mut figure, name, &mut subjects)?;
        drop(subjects);
        stores::remarks(bench, name, &mut stores);
    }
    scans(bench, &kinds, &keys, percent, &mut figure)?;
    bench.keep(figure);
    Ok(())
}

struct Client<'a> {
    keys: &'a [u32],
    at: usize,
    /// Records there are, and the most there may be: inserts begin again from there, so that a run may take as long as it likes.
    count: u32,
    most: u32,
    random: Random,
}

impl Client<'_> {
    fn next(&mut self) -> u32 {
        self.at = (self.at + 1) % self.keys.len();
        self.keys[self.at]
    }

    fn run(&mut self, store: &mut dyn Store, workload: Workload) -> Outcome<u64> {
        for _ in 0..BATCH {
            let (key, dice) = (self.next(), self.random.below(100));
            match workload {
                Workload::Mix { reads_percent } if dice < reads_percent => read(store, key)?,
                Workload::Mix { .. } => store.update(key, word(u64::from(key), 1))?,
                // The often drawn numbers are scattered; what is wanted here is a short distance from the latest, which a product of two draws is.
                Workload::Latest if dice < 95 => {
                    let back = self.random.below(1 << 16) * self.random.below(1 << 16) / (1 << 16);
                    read(store, self.count - 1 - (back as u32).min(self.count - 1))?;
                }
                Workload::Latest => {
                    store.insert(self.count)?;
                    self.count = if self.count + 1 == self.most { self.most / 2 } else { self.count + 1 };
                }
                Workload::ReadModifyWrite => {
                    read(store, key)?;
                    if dice < 50 {
                        store.update(key, word(u64::from(key), 2))?;
                    }
                }
            }
        }
        Ok(BATCH)
    }
}

fn read(store: &mut dyn Store, key: u32) -> Outcome {
    match store.read(key)? {
        Some(last) if last == u64::from(key) => Ok(()),
        other => Err(format!("key {key} has the value {other:?}").into()),
    }
}

/// Workload E.
fn scans(bench: &mut Bench<'_>, kinds: &[Kind], keys: &[u32], percent: u32, figure: &mut Figure) -> Outcome {
    bench.doing("setting up, E");
    let count = bench.size() / (WORDS * 8);
    let fill = |mem: &FarMemory| {
        let mut vec = RemVec::new_in(mem);
        vec.try_extend((0..count).map(|i| object::<WORDS>(i as u64)))?;
        Outcome::Ok(vec)
    };
    let ranges = |batch: usize, random: &mut Random| {
        let from = keys[batch % keys.len()] as usize;
        from..(from + 1 + random.below(LONGEST_SCAN)).min(count)
    };
    let mut subjects = Vec::new();
    for kind in kinds {
        let vec = fill(&bench.memory(*kind, bench.budget(bench.size(), percent))?)?;
        let (mut batch, mut random) = (0, Random::seeded(9));
        subjects.push(Subject::per_second(format!("farptr, {kind}"), Role::Subject, move || {
            for _ in 0..BATCH {
                batch += 1;
                let mut sum = 0u64;
                vec.try_for_each_slice(ranges(batch, &mut random), |_, slice| {
                    sum += slice.iter().map(|each| each[WORDS - 1]).sum::<u64>()
                })?;
                std::hint::black_box(sum);
            }
            Ok(BATCH)
        }));
    }
    let local: Vec<_> = (0..count).map(|i| object::<WORDS>(i as u64)).collect();
    let (mut batch, mut random) = (0, Random::seeded(9));
    subjects.push(Subject::per_second("std, all local", Role::Limit, move || {
        for _ in 0..BATCH {
            batch += 1;
            std::hint::black_box(local[ranges(batch, &mut random)].iter().map(|each| each[WORDS - 1]).sum::<u64>());
        }
        Ok(BATCH)
    }));
    bench.measure(figure, "E", &mut subjects)
}
