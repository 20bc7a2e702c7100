//! Code of the user's that panics at every point where a vector calls it. `Vec` goes through the same, and what is left must be the same.

use crate::common::value::{Burning, Large, Nothing, Small, Value, burn, fused, live};
use crate::common::{assert_all_released, assert_empty, assert_released, block_on, memory};
use farptr::{FarMemory, RemVec};

/// Elements of a vector that something is done to.
const LEN: u64 = 30;

/// What is done to a vector, and what to one of `std`'s. `None`: it is gone.
struct Operation<V: Value> {
    name: &'static str,
    far: fn(&mut Option<RemVec<V>>, &FarMemory),
    near: fn(&mut Option<Vec<V>>),
}

/// Changes a value and panics, perhaps, when it is half done.
fn half<V: Value>(value: &mut V) {
    value.rename(1007);
    burn();
    value.rename(1008);
}

/// An iterator of the user's.
fn more<V: Value>() -> impl Iterator<Item = V> {
    (100..112).map(|id| {
        burn();
        V::new(id)
    })
}

fn operations<V: Value>() -> Vec<Operation<V>> {
    macro_rules! operation {
        ($name:literal, |$far:ident| $on_far:expr, |$near:ident| $on_near:expr) => {
            Operation {
                name: $name,
                far: |far, _| {
                    let $far = far.as_mut().unwrap();
                    $on_far
                },
                near: |near| {
                    let $near = near.as_mut().unwrap();
                    $on_near
                },
            }
        };
    }
    vec![
        operation!("extend", |far| far.extend(more()), |near| near.extend(more())),
        operation!("try_extend", |far| far.try_extend(more()).unwrap(), |near| near.extend(more())),
        operation!("with", |far| far.with(5, |_| burn()).unwrap(), |_near| burn()),
        operation!("with_mut", |far| far.with_mut(5, half).unwrap(), |near| half(&mut near[5])),
        operation!("with_async", |far| block_on(far.with_async(5, |_| burn())).unwrap().unwrap(), |_near| burn()),
        operation!("get_mut", |far| half(far.get_mut(29, &farptr::scope()).unwrap()), |near| half(&mut near[29])),
        operation!("slice_at_mut", |far| far.slice_at_mut(29, &farptr::scope()).iter_mut().for_each(half), |near| near[29..]
            .iter_mut()
            .for_each(half)),
        operation!(
            "iter",
            |far| far.iter(&farptr::scope()).take(3).for_each(|value| {
                burn();
                value.unwrap().id();
            }),
            |_near| (0..3).for_each(|_| burn())
        ),
        operation!("for_each_slice", |far| far.for_each_slice(.., |_, slice| slice.iter().for_each(|_| burn())), |near| near
            .iter()
            .for_each(|_| burn())),
        operation!(
            "for_each_slice_mut",
            |far| far.for_each_slice_mut(3..20, |_, slice| slice.iter_mut().for_each(half)),
            |near| near[3..20].iter_mut().for_each(half)
        ),
        operation!("clone", |far| far.push(far.with(3, V::clone).unwrap()), |near| near.push(near[3].clone())),
        operation!(
            "push and pop",
            |far| {
                far.push(V::new(50));
                drop(far.pop());
            },
            |near| {
                near.push(V::new(50));
                drop(near.pop());
            }
        ),
        operation!("swap_remove", |far| drop(far.swap_remove(2)), |near| drop(near.swap_remove(2))),
        operation!("truncate to a few", |far| far.truncate(3), |near| near.truncate(3)),
        operation!("truncate by a few", |far| far.truncate(27), |near| near.truncate(27)),
        operation!("truncate to none", |far| far.truncate(0), |near| near.truncate(0)),
        operation!("clear", |far| far.clear(), |near| near.clear()),
        Operation { name: "drop", far: |far, _| drop(far.take()), near: |near| drop(near.take()) },
        Operation {
            name: "replace",
            far: |far, mem| {
                *far = Some({
                    let mut fresh = RemVec::new_in(mem);
                    fresh.push(V::new(9));
                    fresh
                })
            },
            near: |near| *near = Some(vec![V::new(9)]),
        },
    ]
}

fn ids<V: Value>(vec: &RemVec<V>) -> Vec<u64> {
    let mut ids = Vec::new();
    vec.for_each_slice(.., |_, slice| ids.extend(slice.iter().map(V::id)));
    ids
}

/// Runs an operation with every fuse that burns down, and once with one that does not.
fn compare<V: Value>(operation: &Operation<V>, burning: Burning, chunk_bytes: usize, evacuated: bool) -> u32 {
    for calls in 0..200 {
        let case = format!("{}, {calls} calls, {burning:?}, chunks of {chunk_bytes}, evacuated: {evacuated}", operation.name);
        let mut near: Option<Vec<V>> = Some((0..LEN).map(V::new).collect());
        let expected = fused(burning, calls, || (operation.near)(&mut near));
        let mem = memory(1 << 20);
        let mut far = Some(RemVec::with_chunk_bytes_in(chunk_bytes, &mem));
        far.as_mut().unwrap().extend((0..LEN).map(V::new));
        if evacuated {
            mem.evacuate_all().unwrap();
        }
        let panicked = fused(burning, calls, || (operation.far)(&mut far, &mem));
        assert_eq!((panicked, far.is_some()), (expected, near.is_some()), "{case}");
        if let (Some(far), Some(near)) = (&mut far, &near) {
            // No scope is open, and no pin left: all of it can go.
            assert_all_released(&mem, far.len().div_ceil(far.chunk_len()), || {
                assert_eq!(ids(far), near.iter().map(V::id).collect::<Vec<_>>(), "{case}");
            });
            // It still is a vector.
            far.extend((0..5).map(V::new));
            assert_eq!(far.pop().map(|value| value.id()), Some(V::called(4)), "{case}");
        }
        let near_len = near.map_or(0, |near| near.len() as u64);
        assert_eq!(live(), far.as_ref().map_or(0, |far| far.len() as u64), "{case}, {near_len} by std");
        drop(far);
        assert_eq!((live(), mem.stats().lost_drops), (0, 0), "{case}");
        assert_released(&mem);
        assert_empty(&mem);
        if !panicked {
            return calls;
        }
    }
    panic!("{} never ends", operation.name);
}

fn panics_leave_what_std_leaves<V: Value>(chunks: &[usize]) {
    for operation in operations::<V>() {
        for burning in [Burning::Calls, Burning::CallsAndDrops] {
            for chunk_bytes in chunks {
                for evacuated in [false, true] {
                    let panics = compare(&operation, burning, *chunk_bytes, evacuated);
                    let only_drops = [
                        "push and pop",
                        "swap_remove",
                        "truncate to a few",
                        "truncate by a few",
                        "truncate to none",
                        "clear",
                        "drop",
                        "replace",
                    ];
                    assert!(
                        panics > 0 || burning == Burning::Calls && only_drops.contains(&operation.name),
                        "{} calls no code of the user's",
                        operation.name
                    );
                }
            }
        }
    }
}

#[test]
fn panic_at_any_call_leaves_a_vector_of_small_values_as_it_leaves_stds() {
    // One element to a chunk, four, and all in one.
    panics_leave_what_std_leaves::<Small>(&[1, 4 * size_of::<Small>(), 16 << 10]);
}

#[test]
fn panic_at_any_call_leaves_a_vector_of_nothing_as_it_leaves_stds() {
    panics_leave_what_std_leaves::<Nothing>(&[16 << 10]);
}

#[test]
fn panic_while_a_vector_of_large_values_is_dropped_drops_the_rest() {
    for calls in [0, 1, 5] {
        let mem = memory(1 << 20);
        let mut far: RemVec<Large> = RemVec::new_in(&mem);
        far.extend((0..6).map(Large::new));
        assert!(fused(Burning::CallsAndDrops, calls, || drop(far)));
        assert_eq!((live(), mem.stats().lost_drops), (0, 0));
        assert_empty(&mem);
    }
}
