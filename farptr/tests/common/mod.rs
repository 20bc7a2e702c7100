//! What the tests of this crate share.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod value;

use farptr::{FarMemory, RemBox};
use proptest::prelude::ProptestConfig;
use std::future::Future;
use std::io::Write;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Keeps the other tests of the process waiting that ask for it as well: scopes hold back evacuation in all far memories, those of other tests included.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

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

/// How many objects missed, and how many of these were read past local memory.
pub(crate) fn counted(memory: &FarMemory, read: impl FnOnce()) -> (u64, u64) {
    let before = memory.stats();
    read();
    let after = memory.stats();
    assert!(after.local_used_bytes <= after.local_budget_bytes, "{after:?}");
    (after.misses - before.misses, after.bypassed_objects - before.bypassed_objects)
}

/// No scope is open, and whatever is not pinned leaves.
pub(crate) fn assert_released(memory: &FarMemory) {
    assert!(!farptr_runtime::scope::in_scope(), "a scope was left open");
    memory.evacuate_all().unwrap();
}

/// As [`assert_released`]; and none of `objects` objects, which `look` reads, had been left pinned.
pub(crate) fn assert_all_released(memory: &FarMemory, objects: usize, look: impl FnOnce()) {
    assert_released(memory);
    let before = memory.stats().misses;
    look();
    let fetched = memory.stats().misses - before;
    assert!(fetched >= objects as u64, "{} of {objects} objects did not leave", objects as u64 - fetched);
}

/// Fills the local heap more than once with what nobody needs, so that what was there leaves by ordinary rounds.
pub(crate) fn churn(memory: &FarMemory) {
    let bytes = memory.stats().local_budget_bytes as usize;
    for _ in 0..bytes * 5 / 4 / 4096 {
        drop(RemBox::from_slice_in(&[7u8; 4000], memory));
    }
}

/// So many cases of a property, unless the environment says how many (`PROPTEST_CASES`).
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    let cases = std::env::var_os("PROPTEST_CASES").map_or(cases, |_| config.cases);
    ProptestConfig { cases, ..config }
}

/// The longest time a future may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An executor of one future: polls it until it is ready.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let started = Instant::now();
    loop {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => return output,
            Poll::Pending => assert!(started.elapsed() < PATIENCE, "a future does not end"),
        }
        std::thread::yield_now();
    }
}

/// Whether `test` can't be run, loudly: under zeal objects leave at every legal point, used or not, and `measured` says what that makes of it.
pub(crate) fn zeal_contradicts(test: &str, measured: &str) -> bool {
    if cfg!(farptr_zeal) {
        writeln!(std::io::stderr(), "SKIPPED: {test}: under zeal {measured}").expect("standard error takes a line");
    }
    cfg!(farptr_zeal)
}
