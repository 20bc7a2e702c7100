//! What the tests of this crate share.
#![allow(dead_code, reason = "each test file uses a part")]

use farptr::FarMemory;
use std::io::Write;

/// A far memory with an embedded server.
pub(crate) fn memory(budget: usize) -> FarMemory {
    FarMemory::builder().local_budget(budget).build().unwrap()
}

/// A small generator of numbers (xorshift64): the tests must not depend on a seed from elsewhere.
pub(crate) fn numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// Nothing is left of what was in the memory: local bytes, far bytes, slabs.
pub(crate) fn assert_empty(memory: &FarMemory) {
    memory.trim().unwrap();
    let stats = memory.stats();
    assert_eq!((stats.local_used_bytes, stats.far_live_bytes, stats.far_borrowed_bytes), (0, 0, 0), "{stats:?}");
}

/// Whether `test` can't be run, loudly: under zeal objects leave at every legal point, used or not, and `measured` says what that makes of it.
pub(crate) fn zeal_contradicts(test: &str, measured: &str) -> bool {
    if cfg!(farptr_zeal) {
        writeln!(std::io::stderr(), "SKIPPED: {test}: under zeal {measured}").expect("standard error takes a line");
    }
    cfg!(farptr_zeal)
}
