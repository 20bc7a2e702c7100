//! Random operations on vectors and on `std`'s.

use crate::common::value::{Large, Lined, Nothing, Paged, Small, Value, Wide, live};
use crate::common::{assert_all_released, assert_empty, assert_released, block_on, cases, churn, memory};
use farptr::{Error, Far, FarMemory, RemVec};
use proptest::prelude::*;
use std::fmt::Debug;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Each method of a vector, and what else may happen to one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    Push,
    TryPush,
    Pop,
    TryPop,
    Get,
    TryGet,
    GetMut,
    TryGetMut,
    With,
    TryWith,
    WithMut,
    TryWithMut,
    WithAsync,
    SliceAt,
    TrySliceAt,
    SliceAtMut,
    TrySliceAtMut,
    ForEachSlice,
    TryForEachSlice,
    ForEachSliceMut,
    TryForEachSliceMut,
    Iter,
    Truncate,
    Clear,
    SwapRemove,
    TrySwapRemove,
    Extend,
    TryExtend,
    Reserve,
    TryReserve,
    Debug,
    Evacuate,
    Churn,
}

const ACTS: &[(u32, Act)] = &[
    (6, Act::Push),
    (3, Act::TryPush),
    (2, Act::Pop),
    (2, Act::TryPop),
    (1, Act::Get),
    (1, Act::TryGet),
    (1, Act::GetMut),
    (1, Act::TryGetMut),
    (1, Act::With),
    (1, Act::TryWith),
    (1, Act::WithMut),
    (1, Act::TryWithMut),
    (1, Act::WithAsync),
    (1, Act::SliceAt),
    (1, Act::TrySliceAt),
    (1, Act::SliceAtMut),
    (1, Act::TrySliceAtMut),
    (1, Act::ForEachSlice),
    (1, Act::TryForEachSlice),
    (1, Act::ForEachSliceMut),
    (1, Act::TryForEachSliceMut),
    (1, Act::Iter),
    (2, Act::Truncate),
    (1, Act::Clear),
    (2, Act::SwapRemove),
    (2, Act::TrySwapRemove),
    (3, Act::Extend),
    (3, Act::TryExtend),
    (1, Act::Reserve),
    (1, Act::TryReserve),
    (1, Act::Debug),
    (5, Act::Evacuate),
    (1, Act::Churn),
];

/// One end of a range: an index relative to the length, or none.
#[derive(Debug, Clone, Copy)]
enum End {
    At(Bound<usize>),
    Last(usize),
    Most,
}

impl End {
    fn of(self, len: usize) -> Bound<usize> {
        let index = |n: usize| n % (len + 2);
        match self {
            End::At(Bound::Included(n)) => Bound::Included(index(n)),
            End::At(Bound::Excluded(n)) => Bound::Excluded(index(n)),
            End::At(Bound::Unbounded) => Bound::Unbounded,
            End::Last(n) => Bound::Excluded(len.saturating_sub(n)),
            End::Most => Bound::Included(usize::MAX),
        }
    }
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        2 => any::<usize>().prop_map(|n| End::At(Bound::Included(n))),
        2 => any::<usize>().prop_map(|n| End::At(Bound::Excluded(n))),
        6 => Just(End::At(Bound::Unbounded)),
        3 => (0..3usize).prop_map(End::Last),
        1 => Just(End::Most),
    ]
}

#[derive(Debug, Clone)]
struct Op {
    act: Act,
    at: usize,
    id: u64,
    range: (End, End),
}

fn ops(most: usize) -> impl Strategy<Value = Vec<Op>> {
    let act = prop::strategy::Union::new_weighted(ACTS.iter().map(|(weight, act)| (*weight, Just(*act))).collect());
    let op = (act, any::<usize>(), 0..1000u64, (end(), end())).prop_map(|(act, at, id, range)| Op { act, at, id, range });
    prop::collection::vec(op, 1..most)
}

/// Bytes of chunks: one element each, several chunks to a segment, as large as they get.
fn chunk_bytes() -> impl Strategy<Value = usize> {
    prop::sample::select(&[1, 64, 1000, 16 << 10, usize::MAX][..])
}

/// A deref in a scope, where memory can't be waited for, may be refused. Then it has done nothing.
fn unless_exhausted<T>(result: farptr::Result<T>) -> Option<T> {
    result.inspect_err(|error| assert!(matches!(error, Error::ScopeExhausted { .. }), "{error}")).ok()
}

fn ids<V: Value>(values: &[V]) -> Vec<u64> {
    values.iter().map(Value::id).collect()
}

/// A vector and its model.
struct Pair<'m, V: Value> {
    mem: &'m FarMemory,
    far: RemVec<V>,
    near: Vec<V>,
}

impl<V: Value> Pair<'_, V> {
    fn apply(&mut self, op: &Op) {
        let Pair { mem, far, near } = self;
        let len = near.len();
        let (at, id) = (op.at % (len + 2), op.id);
        let range = (op.range.0.of(len), op.range.1.of(len));
        let name = |value: &V| value.id();
        match op.act {
            Act::Push => {
                far.push(V::new(id));
                near.push(V::new(id));
            }
            Act::TryPush => {
                far.try_push(V::new(id)).unwrap();
                near.push(V::new(id));
            }
            Act::Pop => assert_eq!(far.pop().as_ref().map(name), near.pop().as_ref().map(name)),
            Act::TryPop => assert_eq!(far.try_pop().unwrap().as_ref().map(name), near.pop().as_ref().map(name)),
            Act::Get => {
                // All room is free, so that a scope finds some.
                mem.evacuate_all().unwrap();
                assert_eq!(far.get(at, &farptr::scope()).map(name), near.get(at).map(name));
            }
            Act::TryGet => {
                let mut scope = farptr::scope_non_temporal();
                for _ in 0..2 {
                    if let Some(element) = unless_exhausted(far.try_get(at, &scope)) {
                        assert_eq!(element.map(name), near.get(at).map(name));
                    }
                    scope.refresh();
                }
            }
            Act::GetMut => {
                mem.evacuate_all().unwrap();
                let renamed = far.get_mut(at, &farptr::scope()).map(|value| value.rename(id));
                assert_eq!(renamed, near.get_mut(at).map(|value| value.rename(id)));
            }
            Act::TryGetMut => {
                if let Some(element) = unless_exhausted(far.try_get_mut(at, &farptr::scope())) {
                    assert_eq!(element.map(|value| value.rename(id)), near.get_mut(at).map(|value| value.rename(id)));
                }
            }
            Act::With => assert_eq!(far.with(at, name), near.get(at).map(name)),
            Act::TryWith => assert_eq!(far.try_with(at, name).unwrap(), near.get(at).map(name)),
            Act::WithMut => {
                assert_eq!(far.with_mut(at, |value| value.rename(id)), near.get_mut(at).map(|value| value.rename(id)));
            }
            Act::TryWithMut => {
                let renamed = far.try_with_mut(at, |value| value.rename(id)).unwrap();
                assert_eq!(renamed, near.get_mut(at).map(|value| value.rename(id)));
            }
            Act::WithAsync => assert_eq!(block_on(far.with_async(at, name)).unwrap(), near.get(at).map(name)),
            Act::SliceAt | Act::TrySliceAt => {
                if op.act == Act::SliceAt {
                    mem.evacuate_all().unwrap();
                }
                let scope = farptr::scope();
                let slice = if op.act == Act::SliceAt {
                    Some(far.slice_at(at, &scope))
                } else {
                    unless_exhausted(far.try_slice_at(at, &scope))
                };
                if let Some(slice) = slice {
                    assert!(slice.is_empty() == (at >= len) && slice.len() <= far.chunk_len());
                    assert_eq!(ids(slice), ids(&near[at.min(len)..][..slice.len()]));
                }
            }
            Act::SliceAtMut | Act::TrySliceAtMut => {
                if op.act == Act::SliceAtMut {
                    mem.evacuate_all().unwrap();
                }
                let scope = farptr::scope();
                let slice = if op.act == Act::SliceAtMut {
                    Some(far.slice_at_mut(at, &scope))
                } else {
                    unless_exhausted(far.try_slice_at_mut(at, &scope))
                };
                if let Some(slice) = slice {
                    assert_eq!(slice.is_empty(), at >= len);
                    let near = &mut near[at.min(len)..][..slice.len()];
                    assert_eq!(ids(slice), ids(near));
                    for (n, (far, near)) in slice.iter_mut().zip(near).enumerate() {
                        far.rename(id + n as u64);
                        near.rename(id + n as u64);
                    }
                }
            }
            Act::ForEachSlice | Act::TryForEachSlice => {
                let mut seen = Vec::new();
                let look = |first: usize, slice: &[V]| {
                    seen.extend(slice.iter().zip(first..).map(|(value, index)| (index, value.id())));
                };
                let done = catch_unwind(AssertUnwindSafe(|| match op.act {
                    Act::ForEachSlice => far.for_each_slice(range, look),
                    _ => far.try_for_each_slice(range, look).unwrap(),
                }));
                let expected = catch_unwind(AssertUnwindSafe(|| near[range].iter().map(Value::id).collect::<Vec<_>>()));
                assert_eq!(done.ok().map(|()| seen.iter().map(|(_, id)| *id).collect::<Vec<_>>()), expected.ok(), "{range:?}");
                assert!(seen.is_sorted() && seen.iter().all(|(index, id)| near[*index].id() == *id));
            }
            Act::ForEachSliceMut | Act::TryForEachSliceMut => {
                let change = |index: usize, value: &mut V| value.rename(id + index as u64);
                let all =
                    |first: usize, slice: &mut [V]| slice.iter_mut().zip(first..).for_each(|(value, index)| change(index, value));
                let done = catch_unwind(AssertUnwindSafe(|| match op.act {
                    Act::ForEachSliceMut => far.for_each_slice_mut(range, all),
                    _ => far.try_for_each_slice_mut(range, all).unwrap(),
                }));
                let expected = catch_unwind(AssertUnwindSafe(|| {
                    let first = near.len() - near[(range.0, Bound::Unbounded)].len();
                    all(first, &mut near[range]);
                }));
                assert_eq!(done.is_ok(), expected.is_ok(), "{range:?}");
            }
            Act::Iter => {
                let scope = farptr::scope_non_temporal();
                let mut iter = far.iter(&scope);
                assert!(format!("{iter:?}").starts_with("Iter"));
                for expected in near.iter() {
                    let element = iter.next().expect("as many as there are elements");
                    let Some(element) = unless_exhausted(element) else {
                        assert!(iter.next().is_none(), "an error is given once");
                        return;
                    };
                    assert_eq!(element.id(), expected.id());
                }
                assert!(iter.next().is_none() && iter.next().is_none());
            }
            Act::Truncate => {
                let len = at.max(len.saturating_sub(op.at % 9));
                far.truncate(len);
                near.truncate(len);
            }
            Act::Clear => {
                far.clear();
                near.clear();
            }
            Act::SwapRemove | Act::TrySwapRemove => {
                let removed = catch_unwind(AssertUnwindSafe(|| match op.act {
                    Act::SwapRemove => far.swap_remove(at),
                    _ => far.try_swap_remove(at).unwrap(),
                }));
                let expected = catch_unwind(AssertUnwindSafe(|| near.swap_remove(at)));
                assert_eq!(removed.ok().as_ref().map(name), expected.ok().as_ref().map(name));
            }
            Act::Extend | Act::TryExtend => {
                let more = id..id + op.at as u64 % 40;
                match op.act {
                    Act::Extend => far.extend(more.clone().map(V::new)),
                    _ => far.try_extend(more.clone().map(V::new)).unwrap(),
                }
                near.extend(more.map(V::new));
            }
            Act::Reserve | Act::TryReserve => {
                let more = op.at % 30;
                match op.act {
                    Act::Reserve => far.reserve(more),
                    _ => far.try_reserve(more).unwrap(),
                }
                assert!(far.capacity() >= len + more);
                let (capacity, far_capacity) = (near.capacity(), far.capacity());
                (0..more as u64).for_each(|n| far.push(V::new(id + n)));
                near.extend((0..more as u64).map(|n| V::new(id + n)));
                assert!(far.capacity() == far_capacity, "what was reserved suffices: {capacity}");
            }
            Act::Debug => assert!(format!("{far:?}").starts_with(&format!("RemVec {{ len: {len}, chunks: "))),
            Act::Evacuate => assert_all_released(mem, len.div_ceil(far.chunk_len()), || far.for_each_slice(.., |_, _| ())),
            Act::Churn => churn(mem),
        }
    }
}

fn agree<V: Value>(chunk_bytes: usize, ops: &[Op]) {
    silence();
    let mem = memory(1 << 20);
    let counts = live();
    let far = if chunk_bytes == 16 << 10 { RemVec::new_in(&mem) } else { RemVec::with_chunk_bytes_in(chunk_bytes, &mem) };
    let mut pair: Pair<'_, V> = Pair { mem: &mem, far, near: Vec::new() };
    for op in ops {
        pair.apply(op);
        let (len, near) = (pair.far.len(), pair.near.len());
        assert_eq!((len, pair.far.is_empty()), (near, near == 0), "after {op:?}");
        assert!(pair.far.capacity() >= len);
        if std::mem::needs_drop::<V>() {
            assert_eq!(live() - counts, 2 * near as u64, "after {op:?}");
        }
    }
    let mut all = Vec::new();
    pair.far.for_each_slice(.., |_, slice| all.extend(ids(slice)));
    assert_eq!(all, ids(&pair.near));
    assert_released(&mem);
    let Pair { far, near, .. } = pair;
    drop((far, near));
    assert_eq!((live(), mem.stats().lost_drops), (counts, 0));
    assert_empty(&mem);
}

/// Panics of ranges and indices out of bounds are compared, not shown.
fn silence() {
    static SILENT: std::sync::Once = std::sync::Once::new();
    SILENT.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let said = info.payload_as_str().unwrap_or_default();
            if !["out of bounds", "out of range", "index", "range", "as asked"].iter().any(|words| said.contains(words)) {
                usual(info);
            }
        }));
    });
}

/// As `agree`, with what takes elements by copying them.
fn agree_by_copies<T: Far + Copy + PartialEq + Debug>(chunk_bytes: usize, of: fn(u64) -> T, ops: &[Op]) {
    let mem = memory(1 << 20);
    let mut far: RemVec<T> = RemVec::with_chunk_bytes_in(chunk_bytes, &mem);
    let mut near: Vec<T> = Vec::new();
    for op in ops {
        let at = op.at % (near.len() + 2);
        let more: Vec<T> = (0..op.at as u64 % 700).map(|n| of(n ^ op.id)).collect();
        match op.act {
            Act::Push | Act::Extend => {
                far.extend_from_slice(&more);
                near.extend_from_slice(&more);
            }
            Act::TryPush | Act::TryExtend => {
                far.try_extend_from_slice(&more).unwrap();
                near.extend_from_slice(&more);
            }
            Act::Truncate => {
                far.truncate(at);
                near.truncate(at);
            }
            Act::Pop => assert_eq!(far.pop(), near.pop()),
            Act::Reserve => far.reserve(more.len()),
            Act::Evacuate => assert_released(&mem),
            _ => assert_eq!(far.get_copied(at), near.get(at).copied()),
        }
        assert_eq!(far.len(), near.len());
    }
    far.for_each_slice(.., |first, slice| assert_eq!(slice, &near[first..first + slice.len()]));
    drop(far);
    assert_empty(&mem);
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn vectors_of_small_values_agree_with_std(chunk in chunk_bytes(), ops in ops(200)) {
        agree::<Small>(chunk, &ops);
    }

    #[test]
    fn vectors_of_plain_values_agree_with_std(chunk in chunk_bytes(), ops in ops(200)) {
        agree::<u64>(chunk, &ops);
    }

    #[test]
    fn vectors_of_wide_values_agree_with_std(chunk in chunk_bytes(), ops in ops(150)) {
        agree::<Wide>(chunk, &ops);
    }

    #[test]
    fn vectors_of_nothing_agree_with_std(chunk in chunk_bytes(), ops in ops(200)) {
        agree::<Nothing>(chunk, &ops);
    }

    #[test]
    fn vectors_of_values_aligned_to_a_line_agree_with_std(chunk in chunk_bytes(), ops in ops(100)) {
        agree::<Lined>(chunk, &ops);
    }

    #[test]
    fn vectors_of_values_aligned_to_a_page_agree_with_std(chunk in chunk_bytes(), ops in ops(60)) {
        agree::<Paged>(chunk, &ops);
    }

    #[test]
    fn vectors_of_large_values_agree_with_std(chunk in chunk_bytes(), ops in ops(40)) {
        agree::<Large>(chunk, &ops);
    }

    #[test]
    fn vectors_filled_by_copies_agree_with_std(chunk in chunk_bytes(), ops in ops(60)) {
        agree_by_copies::<u32>(chunk, |n| n as u32, &ops);
        agree_by_copies::<[u8; 3]>(chunk, |n| [n as u8; 3], &ops);
        agree_by_copies::<()>(chunk, |_| (), &ops);
    }
}
