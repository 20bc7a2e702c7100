//! Maps against `std`'s, with a heap so small that evacuation runs all the time.

mod api;
mod footprint;
mod iteration;
mod model;
mod panics;
mod shapes;

use farptr::{FarMemory, RemHashMap};

fn memory(budget: usize) -> FarMemory {
    FarMemory::builder().local_budget(budget).build().unwrap()
}

/// A small generator of numbers: the tests must not depend on a seed from elsewhere.
fn numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// Nothing is left: no object, slot or table, here or far away.
fn assert_empty(memory: &FarMemory) {
    memory.trim().unwrap();
    let stats = memory.stats();
    assert_eq!((stats.local_used_bytes, stats.far_live_bytes, stats.far_borrowed_bytes), (0, 0, 0), "{stats:?}");
}

/// A map of `n` entries, key and value telling each other.
fn filled(n: u64, mem: &FarMemory) -> RemHashMap<u64, [u64; 8]> {
    let mut map = RemHashMap::new_in(mem);
    for key in 0..n {
        assert_eq!(map.insert(key, [key; 8]), None);
    }
    map
}
