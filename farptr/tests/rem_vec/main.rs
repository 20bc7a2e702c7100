//! `RemVec` against `Vec`, with a heap so small that evacuation runs all the time.

#[path = "../common/mod.rs"]
mod common;
mod model;
mod panics;
mod scan;

use common::{assert_empty, memory, numbers};
use farptr::{AccessHint, Error, Far, FarMemory, RemBox, RemVec};
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn random_operations_agree_with_vec() {
    let mem = memory(1 << 20);
    for (seed, chunk) in [(1, 64), (2, 1000), (3, 16 << 10)] {
        let mut next = numbers(seed);
        let mut far: RemVec<u64> = RemVec::with_chunk_bytes_in(chunk, &mem);
        let mut model: Vec<u64> = Vec::new();
        for step in 0..60_000u64 {
            let n = next();
            match n % 16 {
                0..6 => {
                    far.push(n);
                    model.push(n);
                }
                6 => assert_eq!(far.pop(), model.pop()),
                7 if n % 400 == 7 => {
                    let len = model.len() * 3 / 4;
                    far.truncate(len);
                    model.truncate(len);
                }
                8 => {
                    let more: Vec<u64> = (0..n % 700).collect();
                    far.extend_from_slice(&more);
                    model.extend_from_slice(&more);
                }
                9 if !model.is_empty() => {
                    let at = (n >> 8) as usize % model.len();
                    assert_eq!(far.swap_remove(at), model.swap_remove(at));
                }
                10 if !model.is_empty() => {
                    let at = (n >> 8) as usize % model.len();
                    far.with_mut(at, |v| *v ^= n);
                    model[at] ^= n;
                }
                11 if n % 64 == 11 => {
                    far.clear();
                    model.clear();
                }
                _ => {
                    let at = (n >> 8) as usize % (model.len() + 2);
                    assert_eq!(far.with(at, |v| *v), model.get(at).copied(), "step {step}");
                }
            }
            assert_eq!(far.len(), model.len());
        }
        let mut index = 0;
        far.for_each_slice(.., |first, slice| {
            assert_eq!(first, index);
            assert_eq!(slice, &model[index..index + slice.len()]);
            index += slice.len();
        });
        assert_eq!(index, model.len());
        drop(far);
        assert_empty(&mem);
    }
}

#[test]
fn a_vector_of_many_times_the_budget_is_scanned_and_changed() {
    let mem = memory(1 << 20);
    let mut far: RemVec<u32> = RemVec::new_in(&mem);
    far.extend(0..5_000_000);
    far.for_each_slice_mut(1_000_000..4_000_000, |_, slice| slice.iter_mut().for_each(|v| *v = !*v));
    let mut seen = 0u32;
    far.for_each_slice(.., |first, slice| {
        for (i, v) in slice.iter().enumerate() {
            let n = (first + i) as u32;
            assert_eq!(*v, if (1_000_000..4_000_000).contains(&n) { !n } else { n });
            seen += 1;
        }
    });
    assert_eq!(seen, 5_000_000);
    let scope = farptr::scope();
    assert_eq!(far.get(4_999_999, &scope), Some(&4_999_999));
    assert_eq!(far.get(5_000_000, &scope), None);
    assert_eq!(far.slice_at(4_999_998, &scope), [4_999_998, 4_999_999]);
    assert!(far.slice_at(5_000_000, &scope).is_empty());
    drop((scope, far));
    assert_empty(&mem);
}

static ALIVE: AtomicUsize = AtomicUsize::new(0);

#[derive(Far)]
struct Counted(RemBox<u64>);

impl Counted {
    fn new(value: u64, mem: &FarMemory) -> Self {
        ALIVE.fetch_add(1, Ordering::Relaxed);
        Counted(RemBox::new_in(value, mem))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn elements_are_dropped_once() {
    let mem = memory(1 << 20);
    let mut far = RemVec::with_chunk_bytes_in(256, &mem);
    for i in 0..5000 {
        far.push(Counted::new(i, &mem));
    }
    assert_eq!(ALIVE.load(Ordering::Relaxed), 5000);
    mem.evacuate_all().unwrap();
    let popped = far.pop().unwrap();
    assert_eq!(popped.0.with(|v| *v), 4999);
    drop(popped);
    far.truncate(3001);
    assert_eq!(ALIVE.load(Ordering::Relaxed), 3001);
    let removed = far.swap_remove(7);
    assert_eq!(removed.0.with(|v| *v), 7);
    assert_eq!(far.with(7, |v| v.0.with(|v| *v)), Some(3000));
    drop(removed);
    drop(far);
    assert_eq!(ALIVE.load(Ordering::Relaxed), 0);
    assert_empty(&mem);
}

#[test]
fn zero_sized_and_large_elements() {
    let mem = memory(2 << 20);
    let mut units = RemVec::new_in(&mem);
    (0..100_000).for_each(|_| units.push(()));
    assert_eq!((units.len(), units.pop(), units.len()), (100_000, Some(()), 99_999));
    let mut large: RemVec<[u64; 20_000]> = RemVec::new_in(&mem);
    (0..40).for_each(|i| large.push([i; 20_000]));
    for i in 0..40 {
        assert_eq!(large.with(i, |v| (v[0], v[19_999])), Some((i as u64, i as u64)));
    }
    drop((units, large));
    assert_empty(&mem);
}

#[test]
fn reserving_what_can_not_be_had_is_an_error_and_takes_nothing() {
    let mem = FarMemory::builder().local_budget(1 << 20).far_capacity(4 << 20).build().unwrap();
    let mut far = RemVec::new_in(&mem);
    far.extend(0..5000u64);
    let capacity = far.capacity();
    let before = mem.stats();
    for absurd in [usize::MAX, usize::MAX / 2, isize::MAX as usize / 8, 1 << 40] {
        let refused = far.try_reserve(absurd);
        assert!(matches!(refused, Err(Error::CapacityOverflow { .. } | Error::OutOfLocalMemory { .. })), "{refused:?}");
    }
    assert_eq!(mem.stats().rounds, before.rounds, "no use to make room for that");
    let refused = far.try_reserve(5 << 17);
    assert!(matches!(refused, Err(Error::FarMemoryFull { .. } | Error::OutOfLocalMemory { .. })), "{refused:?}");
    assert_eq!((far.len(), far.capacity()), (5000, capacity));
    mem.evacuate_all().unwrap();
    assert!(mem.stats().far_live_bytes < 1 << 20, "{:?}", mem.stats());
    far.extend(5000..20_000);
    assert_eq!(far.with(19_999, |n| *n), Some(19_999));
    drop(far);
    assert_empty(&mem);
}

#[test]
#[should_panic(expected = "is out of bounds of a RemVec of length 3")]
fn range_to_the_last_index_there_can_be_is_out_of_bounds() {
    let mem = memory(1 << 20);
    let mut far = RemVec::new_in(&mem);
    far.extend(0..3u8);
    far.for_each_slice(..=usize::MAX, |_, _| ());
}

#[test]
fn closures_of_a_scan_have_their_own_hint() {
    let mem = memory(1 << 20);
    let mut far = RemVec::with_chunk_bytes_in(64, &mem);
    far.extend(0..1000u64);
    far.for_each_slice(.., |_, _| assert_eq!(farptr::scope().hint(), AccessHint::Normal));
    let scope = farptr::scope_non_temporal();
    far.for_each_slice_mut(.., |_, _| assert_eq!(farptr::scope().hint(), AccessHint::NonTemporal));
    assert_eq!(scope.hint(), AccessHint::NonTemporal);
}

#[test]
fn iterating_borrows_one_scope() {
    let mem = memory(1 << 20);
    let mut far = RemVec::new_in(&mem);
    far.extend(0..1000u16);
    let scope = farptr::scope();
    let all: Vec<u16> = far.iter(&scope).map(|v| *v.unwrap()).collect();
    assert_eq!(all, (0..1000).collect::<Vec<u16>>());
}

/// Nothings take no memory, so that only their number has an end. It came round to zero.
#[test]
fn nothings_are_counted_up_to_the_last_number() {
    let mem = memory(1 << 20);
    let mut nothings = RemVec::new_in(&mem);
    nothings.extend_from_slice(&[(); usize::MAX - 2]);
    nothings.push(());
    assert_eq!(nothings.len(), usize::MAX - 1);
    let too_many = nothings.try_extend_from_slice(&[(); 3]);
    assert!(matches!(too_many, Err(Error::CapacityOverflow { .. })), "{too_many:?}");
    assert_eq!(nothings.len(), usize::MAX);
    assert!(matches!(nothings.try_push(()), Err(Error::CapacityOverflow { .. })));
    assert!(matches!(nothings.try_extend([()]), Err(Error::CapacityOverflow { .. })));
    assert!(matches!(nothings.try_reserve(1), Err(Error::CapacityOverflow { .. })));
    assert_eq!(nothings.pop(), Some(()));
    assert_eq!(nothings.len(), usize::MAX - 1);
    drop(nothings);
    assert_empty(&mem);
}
