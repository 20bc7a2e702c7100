//! Maps against `std`'s, with a heap so small that evacuation runs all the time.

mod api;
#[path = "../common/mod.rs"]
mod common;
mod footprint;
mod iteration;
mod model;
mod panics;
mod shapes;

use common::{assert_empty, memory, numbers, zeal_contradicts};
use farptr::{FarMemory, RemHashMap};

/// A map of `n` entries, key and value telling each other.
fn filled(n: u64, mem: &FarMemory) -> RemHashMap<u64, [u64; 8]> {
    let mut map = RemHashMap::new_in(mem);
    for key in 0..n {
        assert_eq!(map.insert(key, [key; 8]), None);
    }
    map
}
