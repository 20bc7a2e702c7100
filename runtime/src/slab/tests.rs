//! What a lender promises its borrowers, checked on the store.
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
fn a_slab_is_zero_however_it_was_left() {
    for supply in [Supply::Upfront, Supply::OnDemand] {
        let store = store(1, supply);
        for _ in 0..3 {
            let borrower = store.register();
            let slab = store.lend(borrower).expect("lend");
            let mut got = vec![1; SLAB as usize];
            store.read(borrower, at(slab, 0), &mut got).expect("read");
            assert!(got.iter().all(|byte| *byte == 0), "{supply:?}: a lent slab holds the last borrower's bytes");
            store.write(borrower, at(slab, 0), &vec![0xee; SLAB as usize]).expect("write");
            assert_eq!(store.take_back_all(borrower), 1);
        }
    }
}

#[test]
fn access_needs_a_slab_of_ones_own() {
    let store = store(2, Supply::Upfront);
    let (mine, yours) = (store.register(), store.register());
    let slab = store.lend(mine).expect("lend");
    let mut buf = [0; 8];
    for (who, named) in [(yours, slab), (mine, SlabId(1)), (mine, SlabId(2)), (mine, SlabId(u32::MAX))] {
        let denied = Err(SlabError::NotYours { slab: named });
        assert_eq!(store.read(who, at(named, 0), &mut buf), denied);
        assert_eq!(store.write(who, at(named, 0), &buf), denied);
        assert_eq!(store.take_back(who, named), denied);
    }
    store.take_back(mine, slab).expect("return");
    assert_eq!(store.read(mine, at(slab, 0), &mut buf), Err(SlabError::NotYours { slab }));
    assert_eq!(store.take_back(mine, slab), Err(SlabError::NotYours { slab }), "returned twice");
}

#[test]
fn a_range_must_lie_in_the_slab() {
    let store = store(1, Supply::OnDemand);
    let who = store.register();
    let slab = store.lend(who).expect("lend");
    store.write(who, at(slab, SLAB - 8), &[1; 8]).expect("up to the last byte");
    for offset in [SLAB - 7, SLAB, SLAB + 1, u32::MAX] {
        let expected = Err(SlabError::Range { offset, len: 8, slab_bytes: SLAB });
        assert_eq!(store.read(who, at(slab, offset), &mut [0; 8]), expected);
        assert_eq!(store.write(who, at(slab, offset), &[0; 8]), expected);
    }
}

#[test]
fn a_full_store_says_so_and_lends_again_after_a_return() {
    for supply in [Supply::Upfront, Supply::OnDemand] {
        let store = store(3, supply);
        let who = store.register();
        let slabs: Vec<_> = (0..3).map(|_| store.lend(who).expect("lend")).collect();
        assert_eq!(store.lent_bytes(), 3 * u64::from(SLAB));
        assert_eq!(store.lend(who), Err(SlabError::Full { capacity: 3 * u64::from(SLAB) }));
        store.take_back(who, slabs[1]).expect("return");
        assert_eq!(store.lend(who), Ok(slabs[1]));
    }
}

#[test]
fn on_demand_memory_follows_what_is_lent() {
    let store = store(4, Supply::OnDemand);
    let who = store.register();
    assert_eq!(store.resident_bytes(), 0);
    let a = store.lend(who).expect("lend");
    store.lend(who).expect("lend");
    assert_eq!(store.resident_bytes(), 2 * SLAB as usize);
    store.take_back(who, a).expect("return");
    assert_eq!(store.resident_bytes(), SLAB as usize);
    store.take_back_all(who);
    assert_eq!(store.resident_bytes(), 0);
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
