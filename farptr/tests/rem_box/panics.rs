//! Code of the user's that panics at every point where a box calls it.

use crate::common::value::{Burning, Large, Nothing, Small, Value, burn, fused, live};
use crate::common::{assert_empty, assert_released, block_on, memory};
use farptr::{Far, FarMemory, RemBox};

/// What is done to two boxes, one in the other's company, and whether the first is there afterwards.
type Operation<V> = (&'static str, fn(&mut Option<RemBox<V>>, &FarMemory));

/// Changes a value and panics, perhaps, when it is half done.
fn half<V: Value>(value: &mut V) {
    value.rename(7);
    burn();
    value.rename(8);
}

fn operations<V: Value>() -> Vec<Operation<V>> {
    fn there<V: Value>(value: &mut Option<RemBox<V>>) -> &mut RemBox<V> {
        value.as_mut().unwrap()
    }
    vec![
        ("with", |value, _| there(value).with(|_| burn())),
        ("with_mut", |value, _| there(value).with_mut(half)),
        ("with in with", |value, _| {
            there(value).with(|_| {
                burn();
                there(&mut Some(RemBox::new_in(V::new(1), &memory(1 << 20)))).with_mut(half);
            });
        }),
        ("get", |value, _| {
            let scope = farptr::scope();
            let value = there(value).get(&scope);
            burn();
            value.id();
        }),
        ("get_mut", |value, _| half(there(value).get_mut(&farptr::scope_non_temporal()))),
        ("pin", |value, _| {
            let value = there(value);
            let pins = [value.pin(), value.pin()];
            burn();
            drop(pins);
        }),
        ("pin_mut", |value, _| half(&mut *there(value).pin_mut())),
        ("with_async", |value, _| block_on(there(value).with_async(|_| burn())).unwrap()),
        ("with_mut_async", |value, _| block_on(there(value).with_mut_async(half)).unwrap()),
        ("pin_async", |value, _| {
            block_on(async {
                let pin = there(value).pin_async().await.unwrap();
                burn();
                std::future::ready(()).await;
                burn();
                pin.id();
            });
        }),
        ("pin_mut_async", |value, _| block_on(async { half(&mut *there(value).pin_mut_async().await.unwrap()) })),
        ("clone", |value, mem| *value = Some(RemBox::new_in(there(value).with(V::clone), mem))),
        ("drop", |value, _| drop(value.take())),
        ("replace", |value, mem| *value = Some(RemBox::new_in(V::new(9), mem))),
        ("into_inner", |value, _| {
            let value = value.take().unwrap().into_inner();
            burn();
            drop(value);
        }),
        ("refused", |value, mem| {
            // Dropped where it was to be taken in.
            assert!(RemBox::try_new_in(OverAligned(V::new(5), TwoPages), mem).is_err());
            drop(value.take());
        }),
    ]
}

#[derive(Far, Clone, Copy)]
#[repr(align(8192))]
struct TwoPages;

/// Beyond the alignment that far memory has.
#[derive(Far)]
struct OverAligned<V: Value>(V, TwoPages);

fn panics_leave_all_as_it_should_be<V: Value>() {
    for burning in [Burning::Calls, Burning::CallsAndDrops] {
        for (name, operation) in operations::<V>() {
            for evacuated in [false, true] {
                let mut panics = 0;
                for calls in 0.. {
                    let mem = memory(1 << 20);
                    let mut value = Some(RemBox::new_in(V::new(3), &mem));
                    let mut witness = RemBox::new_in(V::new(4), &mem);
                    if evacuated {
                        mem.evacuate_all().unwrap();
                    }
                    let panicked = fused(burning, calls, || operation(&mut value, &mem));
                    // No scope is open, and no pin left: all of it can go.
                    assert_released(&mem);
                    assert!(!witness.is_local() && value.as_ref().is_none_or(|value| !value.is_local()), "{name} {calls}");
                    if let Some(value) = &mut value {
                        let id = value.with(V::id);
                        assert!([3, 7, 8, 9].map(V::called).contains(&id), "{name} {calls}: {id}");
                        value.with_mut(|value| value.rename(1));
                        assert_eq!(value.with(V::id), V::called(1));
                    }
                    witness.with_mut(|value| value.rename(2));
                    assert_eq!(live(), 1 + u64::from(value.is_some()), "{name}, {calls} calls");
                    drop((value, witness));
                    assert_eq!((live(), mem.stats().lost_drops), (0, 0), "{name}, {calls} calls");
                    assert_empty(&mem);
                    panics += u32::from(panicked);
                    if !panicked {
                        break;
                    }
                    assert!(calls < 20, "{name} never ends");
                }
                let only_drops = ["drop", "replace", "refused"].contains(&name);
                assert!(panics > 0 || only_drops && burning == Burning::Calls, "{name} calls no code of the user's");
            }
        }
    }
}

#[test]
fn panic_at_any_call_leaves_a_small_value_whole_and_free() {
    panics_leave_all_as_it_should_be::<Small>();
}

#[test]
fn panic_at_any_call_leaves_a_large_value_whole_and_free() {
    panics_leave_all_as_it_should_be::<Large>();
}

#[test]
fn panic_at_any_call_leaves_nothing_whole_and_free() {
    panics_leave_all_as_it_should_be::<Nothing>();
}

/// Owns others, and panics between one and the next.
#[derive(Far)]
struct Family {
    elder: RemBox<Small>,
    younger: Option<RemBox<Family>>,
    itself: Small,
}

fn family(generations: u64, mem: &FarMemory) -> RemBox<Family> {
    let younger = generations.checked_sub(1).map(|left| family(left, mem));
    RemBox::new_in(Family { elder: RemBox::new_in(Small::new(generations), mem), younger, itself: Small::new(generations) }, mem)
}

#[test]
fn panic_in_the_drop_of_what_a_far_object_owns_drops_the_rest() {
    for evacuated in [false, true] {
        for calls in 0..=20 {
            let mem = memory(1 << 20);
            let first = family(9, &mem);
            assert_eq!(live(), 20);
            if evacuated {
                mem.evacuate_all().unwrap();
            }
            assert_eq!(first.with(|family| family.elder.with(Value::id) + family.itself.id()), 18);
            assert!(first.with(|family| family.younger.as_ref().is_some_and(|younger| younger.with(|own| own.itself.id() == 8))));
            assert_eq!(fused(Burning::CallsAndDrops, calls, || drop(first)), calls < 20);
            assert_eq!((live(), mem.stats().lost_drops), (0, 0), "{calls} calls");
            assert_released(&mem);
            assert_empty(&mem);
        }
    }
}
