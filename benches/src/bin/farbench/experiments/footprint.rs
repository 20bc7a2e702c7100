//! What objects cost where they are not.

use super::Experiment;
use crate::Outcome;
use crate::bench::Bench;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::stats::Summary;
use crate::transport::Kind;
use farptr::{FarMemory, RemBox, RemHashMap, RemVec};
use farptr_benches::random::object;

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "footprint",
    about: "How much local memory an object takes while it is far, and how much far memory",
    weight: 2,
    run,
};

const LOCAL: &str = "Bytes of the local budget in use for each object or entry when all of them were sent away and free segments were given back, without \
    what an empty far memory takes. Handles (8 bytes for a box) lie where the program keeps them and don't count. The limit is what a pointer takes.";

const FAR: &str = "Bytes of far memory that are alive for each object or entry, contents included. The limit is the contents.";

fn run(bench: &mut Bench<'_>) -> Outcome {
    let count = bench.pace().of(1 << 18, 1 << 16, 1 << 13);
    let mut local = Figure::new("local", "Local bytes of an object that is far", Axis::Names(""), Unit::BYTES, LOCAL)
        .headline("RemBox, 64 B");
    let mut far = Figure::new("far", "Far bytes of an object", Axis::Names(""), Unit::BYTES, FAR);
    let mut add = |name: &str, contents: usize, count: usize, mem: &FarMemory| {
        let stats = mem.stats();
        let each = |bytes: u64| Summary::exact(bytes as f64 / count as f64);
        let empty = empty(bench)?;
        local.add("farptr", Role::Subject, name.into(), each(stats.local_used_bytes.saturating_sub(empty)));
        local.add("a pointer", Role::Limit, name.into(), Summary::exact(8.0));
        far.add("farptr", Role::Subject, name.into(), each(stats.far_live_bytes));
        far.add("contents", Role::Limit, name.into(), Summary::exact(contents as f64));
        Outcome::Ok(())
    };
    let mem = || FarMemory::builder().local_budget(512 << 20).server("embedded:").build();

    let all = mem()?;
    let boxes = (0..count).map(|i| RemBox::try_new_in(object::<8>(i as u64), &all)).collect::<Result<Vec<_>, _>>()?;
    send_away(&all)?;
    add("RemBox, 64 B", 64, count, &all)?;
    drop(boxes);

    let (all, some) = (mem()?, count / 16);
    let boxes = (0..some).map(|i| RemBox::try_new_in(object::<512>(i as u64), &all)).collect::<Result<Vec<_>, _>>()?;
    send_away(&all)?;
    add("RemBox, 4 KiB", 4096, some, &all)?;
    drop(boxes);

    let all = mem()?;
    let mut vec = RemVec::new_in(&all);
    vec.try_extend((0..count).map(|i| object::<8>(i as u64)))?;
    send_away(&all)?;
    add("RemVec, element of 64 B", 64, count, &all)?;
    drop(vec);

    let all = mem()?;
    let mut map: RemHashMap<u64, [u64; 8]> = RemHashMap::new_in(&all);
    map.try_extend((0..count as u64).map(|i| (i, object::<8>(i))))?;
    send_away(&all)?;
    add("RemHashMap, 8 + 64 B", 72, count, &all)?;
    drop(map);

    bench.keep(local);
    bench.keep(far);
    Ok(())
}

fn send_away(mem: &FarMemory) -> farptr::Result<()> {
    mem.evacuate_all()?;
    mem.trim()
}

/// Local bytes of a memory in which nothing is.
fn empty(bench: &mut Bench<'_>) -> Outcome<u64> {
    let mem = bench.memory(Kind::Embedded, 512 << 20)?;
    send_away(&mem)?;
    Ok(mem.stats().local_used_bytes)
}
