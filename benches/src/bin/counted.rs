//! The paths whose instructions are counted: `counted PATH TURNS` goes one of them so many times, and does nothing else that depends on the turns.
//!
//! `cargo xtask bench-check` runs it under valgrind with few turns and with many; the difference is what a turn costs, however noisy the machine.
#![forbid(unsafe_code)]

use farptr::{FarMemory, RemBox, RemHashMap, RemVec};
use farptr_benches::deref::{Object, sum_box, sum_far, sum_vec, write_far};
use farptr_benches::reads::FarReads;
use std::error::Error;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::hint::black_box;

/// Objects that are present: all of them fit any cache.
const OBJECTS: u32 = 256;

/// The paths, in the order of the table.
const PATHS: &str = "box-read deref-read deref-write scope vec-get map-get miss";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, turns] = &arguments[..] else {
        println!("{PATHS}");
        return Ok(());
    };
    let turns: u32 = turns.parse()?;
    // Rounds by whoever needs memory, so that each run does the same.
    let memory = |budget| FarMemory::builder().local_budget(budget).server("embedded:").without_evacuation_thread().build();
    let mem = memory(16 << 20)?;
    let order: Vec<u32> = (0..OBJECTS).collect();
    let rounds = turns / OBJECTS;
    let objects = || (0..u64::from(OBJECTS)).map(|i| [i; 8]);
    let boxes = || objects().map(|object| RemBox::try_new_in(object, &mem)).collect::<Result<Vec<_>, _>>();
    // The first two rounds make the objects hot and dirty; few turns have them, too.
    match path.as_str() {
        "box-read" => {
            let boxes: Vec<Box<Object>> = objects().map(Box::new).collect();
            (0..rounds).for_each(|_| _ = black_box(sum_box(&boxes, &order)));
        }
        "deref-read" => {
            let mut boxes = boxes()?;
            (0..2).for_each(|_| write_far(&mut boxes, &order));
            (0..rounds).for_each(|_| _ = black_box(sum_far(&boxes, &order)));
        }
        "deref-write" => {
            let mut boxes = boxes()?;
            (0..2 + rounds).for_each(|_| write_far(&mut boxes, &order));
        }
        "scope" => (0..turns).for_each(|_| drop(black_box(farptr::scope()))),
        "vec-get" => {
            let mut vec = RemVec::new_in(&mem);
            vec.try_extend(objects())?;
            (0..2 + rounds).for_each(|_| _ = black_box(sum_vec(&vec, &order)));
        }
        "map-get" => {
            // The hasher that std's map has, with keys that are the same each time.
            let mut map: RemHashMap<u64, Object, BuildHasherDefault<DefaultHasher>> =
                RemHashMap::with_hasher_in(BuildHasherDefault::default(), &mem);
            map.try_extend(objects().map(|object| (object[0], object)))?;
            let scope = farptr::scope();
            let look = |keys: &[u32]| {
                keys.iter().filter_map(|key| map.get(&u64::from(*key), &scope)).map(|object| object[0]).sum::<u64>()
            };
            (0..2 + rounds).for_each(|_| _ = black_box(look(&order)));
        }
        "miss" => {
            // 4 MiB of objects of 512 bytes, of which hardly a quarter fits.
            let mem = memory(1 << 20)?;
            let mut reads = FarReads::<64>::fill(&mem, 4 << 20)?;
            reads.read(u64::from(turns))?;
            assert!(turns < 1000 || mem.stats().misses > u64::from(turns) / 2, "most reads miss");
        }
        other => return Err(format!("no path `{other}`; there are: {PATHS}").into()),
    }
    Ok(())
}
