//! Random operations on boxes and on `std`'s.

use crate::common::value::{Large, Lined, Nothing, Paged, Small, Value, Wide, live};
use crate::common::{assert_empty, assert_released, block_on, cases, churn, memory};
use farptr::{Error, Far, FarMemory, FarPointee, RemBox, Scope};
use proptest::prelude::*;
use std::fmt::Debug;

/// Boxes at a time.
const PLACES: usize = 20;

/// Each method of a box, and what else may happen to one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    NewIn,
    TryNewIn,
    Drop,
    IntoInner,
    TryIntoInner,
    Get,
    TryGet,
    GetMut,
    TryGetMut,
    With,
    TryWith,
    WithMut,
    TryWithMut,
    Pin,
    TryPin,
    PinMut,
    TryPinMut,
    PinAsync,
    PinMutAsync,
    WithAsync,
    WithMutAsync,
    Debug,
    Exchange,
    AnotherThread,
    Evacuate,
    Churn,
}

const ACTS: &[Act] = &[
    Act::NewIn,
    Act::NewIn,
    Act::NewIn,
    Act::TryNewIn,
    Act::Drop,
    Act::IntoInner,
    Act::TryIntoInner,
    Act::Get,
    Act::TryGet,
    Act::GetMut,
    Act::TryGetMut,
    Act::With,
    Act::TryWith,
    Act::WithMut,
    Act::TryWithMut,
    Act::Pin,
    Act::TryPin,
    Act::PinMut,
    Act::TryPinMut,
    Act::PinAsync,
    Act::PinMutAsync,
    Act::WithAsync,
    Act::WithMutAsync,
    Act::Debug,
    Act::Exchange,
    Act::AnotherThread,
    Act::Evacuate,
    Act::Evacuate,
    Act::Evacuate,
    Act::Churn,
];

#[derive(Debug, Clone)]
struct Op {
    act: Act,
    place: usize,
    id: u64,
}

fn ops(most: usize) -> impl Strategy<Value = Vec<Op>> {
    let op = (prop::sample::select(ACTS), 0..PLACES, 0..1000u64).prop_map(|(act, place, id)| Op { act, place, id });
    prop::collection::vec(op, 1..most)
}

/// A deref in a scope, where memory can't be waited for, may be refused. Then it has done nothing.
fn unless_exhausted<T>(result: farptr::Result<T>, f: impl FnOnce(T)) {
    match result {
        Ok(value) => f(value),
        Err(error) => assert!(matches!(error, Error::ScopeExhausted { .. }), "{error}"),
    }
}

/// What both kinds of models do with a box that is there.
fn agree_on<T: ?Sized + FarPointee + Debug + Sync + Send>(
    mem: &FarMemory,
    act: Act,
    far: &mut RemBox<T>,
    near: &mut T,
    same: impl Fn(&T, &T) + Copy + Send + Sync,
    change: impl Fn(&mut T) + Copy,
) {
    let reading = |scope: &Scope| unless_exhausted(far.try_get(scope), |value| same(value, near));
    match act {
        Act::Get => {
            // All room is free, so that a scope finds some.
            mem.evacuate_all().unwrap();
            same(far.get(&farptr::scope()), near);
        }
        Act::TryGet => {
            reading(&farptr::scope());
            let mut scope = farptr::scope_non_temporal();
            reading(&scope);
            scope.refresh();
            reading(&scope);
        }
        Act::GetMut => {
            mem.evacuate_all().unwrap();
            change(far.get_mut(&farptr::scope()));
            change(near);
        }
        Act::TryGetMut => unless_exhausted(far.try_get_mut(&farptr::scope()), |value| {
            change(value);
            change(near);
        }),
        Act::With => far.with(|value| same(value, near)),
        Act::TryWith => far.try_with(|value| same(value, near)).unwrap(),
        Act::WithMut => {
            far.with_mut(change);
            change(near);
        }
        Act::TryWithMut => {
            far.try_with_mut(change).unwrap();
            change(near);
        }
        Act::Pin | Act::TryPin => {
            let pin = if act == Act::Pin { far.pin() } else { far.try_pin().unwrap() };
            let second = far.pin();
            mem.evacuate_all().unwrap();
            assert!(far.is_local() && std::ptr::eq(&raw const *pin, &raw const *second));
            same(&pin, near);
            drop(second);
            mem.evacuate_all().unwrap();
            same(&pin, near);
            drop(pin);
        }
        Act::PinMut | Act::TryPinMut | Act::PinMutAsync => {
            let mut pin = match act {
                Act::PinMut => far.pin_mut(),
                Act::TryPinMut => far.try_pin_mut().unwrap(),
                _ => block_on(far.pin_mut_async()).unwrap(),
            };
            let address = &raw const *pin;
            change(&mut pin);
            change(near);
            mem.evacuate_all().unwrap();
            assert!(std::ptr::eq(address, &raw const *pin));
            same(&pin, near);
            change(&mut pin);
            change(near);
        }
        Act::PinAsync => same(&block_on(far.pin_async()).unwrap(), near),
        Act::WithAsync => block_on(far.with_async(|value| same(value, near))).unwrap(),
        Act::WithMutAsync => {
            block_on(far.with_mut_async(change)).unwrap();
            change(near);
        }
        Act::AnotherThread => {
            let (far, near) = (&*far, &*near);
            std::thread::scope(|threads| threads.spawn(move || far.with(|value| same(value, near))).join().unwrap());
        }
        Act::Debug => {
            let local = far.is_local();
            let printed = format!("{far:?}");
            assert!(local || !far.is_local(), "that fetched it");
            assert!(printed == "RemBox(far)" || local && printed == far.with(|value| format!("{value:?}")), "{printed:.80}");
        }
        Act::Evacuate => {
            assert_released(mem);
            assert!(!far.is_local(), "nothing holds it");
        }
        _ => unreachable!("{act:?} is not about a box that stays"),
    }
}

fn same<V: Value>(far: &V, near: &V) {
    assert_eq!(far.id(), near.id());
}

/// Makes the values and drops them on one thread, which is the one that counts them.
fn agree<V: Value + Send + Sync>(ops: &[Op]) {
    let mem = memory(1 << 20);
    let mut boxes: Vec<Option<(RemBox<V>, Box<V>)>> = (0..PLACES).map(|_| None).collect();
    let counts = live();
    for Op { act, place, id } in ops {
        let (act, place, id) = (*act, *place, *id);
        match (act, boxes[place].take()) {
            (Act::Churn, there) => {
                churn(&mem);
                boxes[place] = there;
            }
            (Act::TryNewIn, _) => boxes[place] = Some((RemBox::try_new_in(V::new(id), &mem).unwrap(), Box::new(V::new(id)))),
            (Act::NewIn, _) | (_, None) => boxes[place] = Some((RemBox::new_in(V::new(id), &mem), Box::new(V::new(id)))),
            (Act::Drop, Some(_)) => {}
            (Act::IntoInner, Some((far, near))) => same(&far.into_inner(), &*near),
            (Act::TryIntoInner, Some((far, near))) => match far.try_into_inner() {
                Ok(value) => same(&value, &*near),
                Err((_, error)) => panic!("{error}"),
            },
            (Act::Exchange, Some((mut far, mut near))) => {
                // The handles change places; the objects stay.
                if let Some((other_far, other_near)) = &mut boxes[id as usize % PLACES] {
                    std::mem::swap(&mut far, other_far);
                    std::mem::swap(&mut near, other_near);
                }
                boxes[place] = Some((far, near));
            }
            (_, Some((mut far, mut near))) => {
                agree_on(&mem, act, &mut far, &mut *near, same, |value| value.rename(id));
                boxes[place] = Some((far, near));
            }
        }
        if std::mem::needs_drop::<V>() {
            assert_eq!(live() - counts, 2 * boxes.iter().flatten().count() as u64, "after {act:?}");
        }
    }
    boxes.iter().flatten().for_each(|(far, near)| far.with(|value| same(value, near)));
    assert_released(&mem);
    drop(boxes);
    assert_eq!(live(), counts);
    assert_empty(&mem);
}

/// As `agree`, for slices and strings, of elements that take `element` bytes.
fn agree_on_unsized<T: ?Sized + FarPointee + PartialEq + Debug + Send + Sync>(
    ops: &[Op],
    element: usize,
    make: impl Fn(u64, usize, &FarMemory) -> (RemBox<T>, Box<T>),
    len: impl Fn(&RemBox<T>) -> (usize, bool),
    near_len: impl Fn(&T) -> usize,
    change: impl Fn(&mut T, u64) + Copy,
) {
    let mem = memory(1 << 20);
    let mut boxes: Vec<Option<(RemBox<T>, Box<T>)>> = (0..PLACES).map(|_| None).collect();
    for Op { act, place, id } in ops {
        let (act, place, id) = (*act, *place, *id);
        // Empty, a few, part of a segment, and more than 64 KiB.
        let length =
            [0, id as usize % 9, id as usize % 50, 5000 / element, (70_000 + 30 * id as usize) / element][id as usize % 5];
        match (act, boxes[place].take()) {
            (Act::Churn, there) => {
                churn(&mem);
                boxes[place] = there;
            }
            (Act::NewIn | Act::TryNewIn, _) | (_, None) => boxes[place] = Some(make(id, length, &mem)),
            (Act::Drop | Act::IntoInner | Act::TryIntoInner, Some(_)) => {}
            (Act::Exchange, there) => boxes[place] = there,
            (_, Some((mut far, mut near))) => {
                assert_eq!(len(&far), (near_len(&near), near_len(&near) == 0));
                agree_on(&mem, act, &mut far, &mut *near, |a, b| assert!(a == b), |value| change(value, id));
                boxes[place] = Some((far, near));
            }
        }
    }
    boxes.iter().flatten().for_each(|(far, near)| far.with(|value| assert!(*value == **near)));
    drop(boxes);
    assert_empty(&mem);
}

fn slices<T: Far + Copy + PartialEq + Debug + Send + Sync>(ops: &[Op], of: fn(u64) -> T) {
    agree_on_unsized::<[T]>(
        ops,
        size_of::<T>().max(1),
        |id, length, mem| {
            let near: Box<[T]> = (0..length as u64).map(|n| of(n ^ id)).collect();
            let far = if id.is_multiple_of(2) {
                RemBox::from_slice_in(&near, mem)
            } else {
                RemBox::try_from_slice_in(&near, mem).unwrap()
            };
            (far, near)
        },
        |far| (far.len(), far.is_empty()),
        <[T]>::len,
        |value, id| {
            let len = value.len() as u64;
            if let Some(at) = id.checked_rem(len) {
                value[at as usize] = of(id);
            }
        },
    );
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn boxes_of_small_values_agree_with_std(ops in ops(150)) {
        agree::<Small>(&ops);
    }

    #[test]
    fn boxes_of_plain_values_agree_with_std(ops in ops(150)) {
        agree::<u64>(&ops);
    }

    #[test]
    fn boxes_of_wide_values_agree_with_std(ops in ops(150)) {
        agree::<Wide>(&ops);
    }

    #[test]
    fn boxes_of_nothing_agree_with_std(ops in ops(100)) {
        agree::<Nothing>(&ops);
    }

    #[test]
    fn boxes_of_values_aligned_to_a_line_agree_with_std(ops in ops(100)) {
        agree::<Lined>(&ops);
    }

    #[test]
    fn boxes_of_values_aligned_to_a_page_agree_with_std(ops in ops(100)) {
        agree::<Paged>(&ops);
    }

    #[test]
    fn boxes_of_large_values_agree_with_std(ops in ops(100)) {
        agree::<Large>(&ops);
    }

    #[test]
    fn boxes_of_slices_agree_with_std(ops in ops(100)) {
        slices::<u32>(&ops, |n| n as u32);
    }

    #[test]
    fn boxes_of_slices_of_nothing_agree_with_std(ops in ops(60)) {
        slices::<()>(&ops, |_| ());
    }

    #[test]
    fn boxes_of_slices_of_over_aligned_values_agree_with_std(ops in ops(60)) {
        #[derive(Far, Clone, Copy, PartialEq, Debug)]
        #[repr(align(64))]
        struct Line(u8);
        slices::<Line>(&ops, |n| Line(n as u8));
    }

    #[test]
    fn boxes_of_text_agree_with_std(ops in ops(100)) {
        agree_on_unsized::<str>(
            &ops,
            1,
            |id, length, mem| {
                let near: Box<str> = (0..length as u32).map(|n| char::from_u32(0x61 + (n ^ id as u32) % 0x90).unwrap()).collect();
                let far = if id.is_multiple_of(2) { RemBox::from_str_in(&near, mem) } else { RemBox::try_from_str_in(&near, mem).unwrap() };
                (far, near)
            },
            |far| (far.len(), far.is_empty()),
            str::len,
            |value, _| value.make_ascii_uppercase(),
        );
    }
}
