//! How well the hotness policy chooses.

use super::Experiment;
use crate::Outcome;
use crate::bench::Bench;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::policy::{belady, lru, s3_fifo};
use crate::stats::Summary;
use crate::transport::Kind;
use farptr::RemBox;
use farptr_benches::random::{Random, object, zipf};
use std::num::NonZeroUsize;

pub(crate) const EXPERIMENT: Experiment =
    Experiment { name: "hitratio", about: "How often an object is missed that a better choice would have kept", weight: 5, run };

const READING: &str = "Reads of 512-byte boxes with 25% of the local budget that all would take; farptr's misses are counted by the library, those of \
    the policies by simulation on the same trace, each with as many objects as there are in the budget without anything else. Belady's evicts what is needed \
    last, which takes a prophet. The first half of a trace warms up.";

/// Words of an object.
const WORDS: usize = 64;

/// Bytes that a local object takes: contents, header, slot.
const LOCAL_BYTES: usize = WORDS * 8 + 16 + 8;

/// Part of the objects that fits.
const PERCENT: usize = 25;

fn run(bench: &mut Bench<'_>) -> Outcome {
    let count = bench.pace().of(1 << 17, 1 << 15, 1 << 13);
    let draws = bench.pace().of(4 << 20, 1 << 19, 1 << 15);
    let mut figure =
        Figure::new("misses", "Reads that miss, 25% local", Axis::Names(""), Unit::MISSES, READING).headline("Zipf 0.99");
    for (name, trace) in [
        ("uniform", zipf(count, 0.0, draws, 5)),
        ("Zipf 0.8", zipf(count, 0.8, draws, 5)),
        ("Zipf 0.99", zipf(count, 0.99, draws, 5)),
        ("Zipf 1.2", zipf(count, 1.2, draws, 5)),
        ("Zipf 0.99 and scans", with_scans(count, &zipf(count, 0.99, draws, 5))),
        ("a loop over half", (0..draws as u32).map(|at| at % (count / 2) as u32).collect()),
    ] {
        bench.doing(name);
        let budget = count * LOCAL_BYTES * PERCENT / 100;
        // Slots of objects that are far count, too, so that the policies get what is left.
        let capacity = NonZeroUsize::new((budget - count * 8) / (LOCAL_BYTES - 8)).ok_or("a capacity")?;
        let measured = trace.len() - trace.len() / 2;
        let percent = |misses: usize| Summary::exact(100.0 * misses as f64 / measured as f64);
        figure.add("farptr", Role::Subject, name.into(), percent(farptr(bench, &trace, count, budget)?));
        figure.add("Belady", Role::Limit, name.into(), percent(belady(&trace, capacity)));
        figure.add("LRU", Role::Alternative, name.into(), percent(lru(&trace, capacity)));
        figure.add("S3-FIFO, by objects", Role::Alternative, name.into(), percent(s3_fifo(&trace, capacity)));
    }
    bench.keep(figure);
    Ok(())
}

/// A trace into which scans over an eighth of the objects are mixed, here and there.
fn with_scans(count: usize, trace: &[u32]) -> Vec<u32> {
    let mut random = Random::seeded(6);
    let piece = count / 2;
    let scan = |random: &mut Random| {
        let from = random.below(count);
        (0..count / 8).map(move |at| ((from + at) % count) as u32)
    };
    trace.chunks(piece).flat_map(|part| part.iter().copied().chain(scan(&mut random)).collect::<Vec<_>>()).collect()
}

/// Misses in the second half of a trace.
fn farptr(bench: &mut Bench<'_>, trace: &[u32], count: usize, budget: usize) -> Outcome<usize> {
    let mem = bench.memory(Kind::Embedded, budget.max(1 << 20))?;
    let boxes = (0..count).map(|i| RemBox::try_new_in(object::<WORDS>(i as u64), &mem)).collect::<Result<Vec<_>, _>>()?;
    let (warm, measured) = trace.split_at(trace.len() / 2);
    let read = |keys: &[u32]| {
        keys.iter().try_for_each(|key| {
            let last = boxes[*key as usize].try_with(|value| value[WORDS - 1])?;
            assert_eq!(last, u64::from(*key), "an object's last word is its number");
            Ok::<_, farptr::Error>(())
        })
    };
    read(warm)?;
    let before = mem.stats().misses;
    read(measured)?;
    Ok((mem.stats().misses - before) as usize)
}
