//! What a lender promises its borrowers that a model on one thread does not show; the rest is in `tests/models/slab.rs`.
#![forbid(unsafe_code)]

use super::*;
use crate::transport::{SlabId, SlabPos};
use std::sync::atomic::{AtomicBool, Ordering};

const SLAB: u32 = 4 * STRIPE_BYTES as u32;

fn store(slabs: u64, supply: Supply) -> SlabStore {
    SlabStore::new(SlabStoreConfig { capacity: slabs * u64::from(SLAB), slab_bytes: SLAB, supply }).expect("store")
}

fn at(slab: SlabId, offset: u32) -> SlabPos {
    SlabPos { slab, offset }
}

#[test]
fn settings_that_make_no_store_are_refused_with_a_remedy() {
    for (capacity, slab_bytes, remedy) in [
        (1 << 30, 0, "multiple of"),
        (1 << 30, 1000, "multiple of"),
        (0, SLAB, "at least"),
        (u64::from(SLAB) - 1, SLAB, "at least"),
        (u64::MAX, STRIPE_BYTES as u32, "lend less"),
    ] {
        let error = SlabStore::new(SlabStoreConfig { capacity, slab_bytes, supply: Supply::OnDemand }).expect_err("refused");
        assert!(error.to_string().contains(remedy), "{error}");
    }
}

/// A hostile borrower's connections are served by different threads; it may do to one range what it likes, and its bytes
/// must still never be seen by the slab's next borrower.
#[test]
fn no_byte_written_during_a_return_survives_it() {
    let store = store(1, Supply::Upfront);
    for _ in 0..50 {
        let hostile = store.register();
        let slab = store.lend(hostile).expect("lend");
        let (started, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let bytes = vec![0xbb; STRIPE_BYTES];
                let mut offset = 0;
                while !stop.load(Ordering::Relaxed) {
                    let _ = store.write(hostile, at(slab, offset), &bytes);
                    started.store(true, Ordering::Relaxed);
                    offset = (offset + 4096) % (SLAB - STRIPE_BYTES as u32);
                }
            });
            while !started.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            store.take_back(hostile, slab).expect("return");
            let next = store.register();
            let slab = store.lend(next).expect("lend");
            let mut got = vec![1; SLAB as usize];
            store.read(next, at(slab, 0), &mut got).expect("read");
            assert!(got.iter().all(|byte| *byte == 0), "the next borrower sees a byte of the last one");
            store.take_back(next, slab).expect("return");
            stop.store(true, Ordering::Relaxed);
            writer.join().expect("writer");
        });
    }
}
