//! Random operations on a map and on `std`'s.

use crate::common::value::{Large, Lined, Nothing, Paged, Small, Value, Wide, live};
use crate::common::{assert_all_released, assert_released, cases, churn};
use crate::{assert_empty, memory, numbers};
use farptr::rem_hash_map::Entry;
use farptr::{Error, FarMemory, RemHashMap};
use proptest::prelude::*;
use std::collections::HashMap;
use std::collections::hash_map;
use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};

#[test]
fn fifteen_times_the_budget_of_random_operations_agrees_with_std() {
    const KEYS: u64 = 40_000;
    let mem = memory(2 << 20);
    let mut next = numbers(1);
    let mut map: RemHashMap<u64, [u64; 96]> = RemHashMap::new_in(&mem);
    let mut model: HashMap<u64, u64> = HashMap::new();
    for key in 0..KEYS {
        assert_eq!(map.insert(key, [key; 96]), None);
        model.insert(key, key);
    }
    for step in 0..200_000 {
        let (key, value) = (next() % (KEYS + KEYS / 8), next());
        let expected = model.get(&key).copied();
        match next() % 16 {
            0 | 1 => {
                assert_eq!(map.insert(key, [value; 96]), expected.map(|v| [v; 96]));
                model.insert(key, value);
            }
            2 => assert_eq!(map.remove(&key), model.remove(&key).map(|v| [v; 96])),
            3 => {
                map.with_mut(&key, |v| *v = [value; 96]);
                model.entry(key).and_modify(|v| *v = value);
            }
            4 => match map.entry(key) {
                Entry::Occupied(mut entry) => assert_eq!(entry.insert([value; 96]), [model.insert(key, value).unwrap(); 96]),
                Entry::Vacant(entry) => {
                    entry.insert([value; 96]);
                    assert_eq!(model.insert(key, value), None);
                }
            },
            5 => assert_eq!(map.contains_key(&key), expected.is_some()),
            6..9 => {
                let scope = farptr::scope();
                match map.try_get(&key, &scope) {
                    Ok(found) => assert_eq!(found, expected.map(|v| [v; 96]).as_ref()),
                    // No room just now, and none can be waited for in here.
                    Err(error) => assert!(matches!(error, farptr::Error::ScopeExhausted { .. }), "step {step}: {error}"),
                }
            }
            _ => assert_eq!(map.with(&key, |v| *v), expected.map(|v| [v; 96])),
        }
        assert_eq!(map.len(), model.len());
    }
    let stats = mem.stats();
    assert!(stats.misses > 50_000 && stats.local_used_bytes <= 2 << 20, "{stats:?}");
    map.for_each(|key, value| assert_eq!(model.remove(key).map(|v| [v; 96]), Some(*value)));
    assert!(model.is_empty());
    drop(map);
    assert_empty(&mem);
}

/// Each method of a map and of what it gives, and what else may happen to one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    Insert,
    TryInsert,
    Extend,
    TryExtend,
    Remove,
    TryRemove,
    RemoveEntry,
    TryRemoveEntry,
    Get,
    TryGet,
    GetKeyValue,
    TryGetKeyValue,
    GetMut,
    TryGetMut,
    GetCloned,
    TryGetCloned,
    ContainsKey,
    TryContainsKey,
    With,
    TryWith,
    WithMut,
    TryWithMut,
    Pin,
    TryPin,
    PinMut,
    TryPinMut,
    OrInsert,
    TryOrInsert,
    OrInsertWith,
    TryOrInsertWith,
    OrInsertWithKey,
    TryOrInsertWithKey,
    OrDefault,
    TryOrDefault,
    AndModify,
    TryAndModify,
    Occupied,
    TryOccupied,
    OccupiedInScope,
    OccupiedRemove,
    OccupiedTryRemove,
    OccupiedRemoveEntry,
    OccupiedTryRemoveEntry,
    Vacant,
    TryVacant,
    ForEach,
    TryForEach,
    ForEachMut,
    TryForEachMut,
    Retain,
    TryRetain,
    RetainMut,
    TryRetainMut,
    Iter,
    IterMut,
    Keys,
    Values,
    ValuesMut,
    Drain,
    IntoIter,
    Clear,
    Reserve,
    TryReserve,
    Shrink,
    TryShrink,
    Debug,
    Evacuate,
    Churn,
}

const ALL: &[Act] = &[
    Act::Insert,
    Act::TryInsert,
    Act::Extend,
    Act::TryExtend,
    Act::Remove,
    Act::TryRemove,
    Act::RemoveEntry,
    Act::TryRemoveEntry,
    Act::Get,
    Act::TryGet,
    Act::GetKeyValue,
    Act::TryGetKeyValue,
    Act::GetMut,
    Act::TryGetMut,
    Act::GetCloned,
    Act::TryGetCloned,
    Act::ContainsKey,
    Act::TryContainsKey,
    Act::With,
    Act::TryWith,
    Act::WithMut,
    Act::TryWithMut,
    Act::Pin,
    Act::TryPin,
    Act::PinMut,
    Act::TryPinMut,
    Act::OrInsert,
    Act::TryOrInsert,
    Act::OrInsertWith,
    Act::TryOrInsertWith,
    Act::OrInsertWithKey,
    Act::TryOrInsertWithKey,
    Act::OrDefault,
    Act::TryOrDefault,
    Act::AndModify,
    Act::TryAndModify,
    Act::Occupied,
    Act::TryOccupied,
    Act::OccupiedInScope,
    Act::OccupiedRemove,
    Act::OccupiedTryRemove,
    Act::OccupiedRemoveEntry,
    Act::OccupiedTryRemoveEntry,
    Act::Vacant,
    Act::TryVacant,
    Act::ForEach,
    Act::TryForEach,
    Act::ForEachMut,
    Act::TryForEachMut,
    Act::Retain,
    Act::TryRetain,
    Act::RetainMut,
    Act::TryRetainMut,
    Act::Iter,
    Act::IterMut,
    Act::Keys,
    Act::Values,
    Act::ValuesMut,
    Act::Drain,
    Act::IntoIter,
    Act::Clear,
    Act::Reserve,
    Act::TryReserve,
    Act::Shrink,
    Act::TryShrink,
    Act::Debug,
    Act::Evacuate,
    Act::Churn,
];

/// How often each is done, unless as often as most.
const RARE: &[Act] =
    &[Act::Clear, Act::Drain, Act::IntoIter, Act::Retain, Act::TryRetain, Act::RetainMut, Act::TryRetainMut, Act::Churn];
const OFTEN: &[Act] = &[Act::Insert, Act::TryInsert, Act::Extend, Act::Evacuate];

fn acts() -> impl Strategy<Value = Act> {
    let weighted = ALL.iter().map(|act| {
        let act = *act;
        let weight = if RARE.contains(&act) {
            1
        } else if OFTEN.contains(&act) {
            30
        } else {
            5
        };
        (weight, Just(act))
    });
    prop::strategy::Union::new_weighted(weighted.collect())
}

#[derive(Debug, Clone)]
struct Op {
    act: Act,
    key: u16,
    id: u64,
}

fn ops(keys: u16, most: usize) -> impl Strategy<Value = Vec<Op>> {
    let op = (acts(), 0..keys, 0..1000u64).prop_map(|(act, key, id)| Op { act, key, id });
    prop::collection::vec(op, 1..most)
}

/// How keys are hashed. One type for all, because every type of map is compiled anew.
#[derive(Debug, Clone)]
enum Hashing {
    /// As `std` does.
    Std(RandomState),
    /// As badly as can be: all alike.
    Equal,
    /// By the bytes of the key itself.
    Key,
}

enum KeyHasher {
    Std(DefaultHasher),
    Equal,
    Key(u64),
}

impl BuildHasher for Hashing {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        match self {
            Hashing::Std(state) => KeyHasher::Std(state.build_hasher()),
            Hashing::Equal => KeyHasher::Equal,
            Hashing::Key => KeyHasher::Key(0),
        }
    }
}

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        match self {
            KeyHasher::Std(hasher) => hasher.finish(),
            KeyHasher::Equal => 42,
            KeyHasher::Key(key) => *key,
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        match self {
            KeyHasher::Std(hasher) => hasher.write(bytes),
            KeyHasher::Equal => {}
            KeyHasher::Key(key) => bytes.iter().for_each(|byte| *key = *key << 8 | u64::from(*byte)),
        }
    }
}

/// A deref in a scope, where memory can't be waited for, may be refused. Then it has done nothing.
fn unless_exhausted<T>(result: farptr::Result<T>) -> Option<T> {
    result.inspect_err(|error| assert!(matches!(error, Error::ScopeExhausted { .. }), "{error}")).ok()
}

/// A map and its model.
struct Pair<'m, V: Value> {
    mem: &'m FarMemory,
    far: RemHashMap<u16, V, Hashing>,
    near: HashMap<u16, V>,
}

fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    items.sort_unstable();
    items
}

impl<V: Value> Pair<'_, V> {
    fn expected(&self) -> Vec<(u16, u64)> {
        sorted(self.near.iter().map(|(key, value)| (*key, value.id())))
    }

    fn apply(&mut self, op: &Op) {
        let expected_all = self.expected();
        let Pair { mem, far, near } = self;
        let Op { act, key, id } = *op;
        let len = near.len();
        let name = |value: &V| value.id();
        let named = |key: &u16, value: &V| (*key, value.id());
        let expected = near.get(&key).map(name);
        let renamed = near.get(&key).map(|_| V::called(id));
        // What most methods for writing do.
        let rename = |value: &mut V| {
            value.rename(id);
            value.id()
        };
        match act {
            Act::Insert => {
                assert_eq!(far.insert(key, V::new(id)).as_ref().map(name), near.insert(key, V::new(id)).as_ref().map(name))
            }
            Act::TryInsert => {
                assert_eq!(
                    far.try_insert(key, V::new(id)).unwrap().as_ref().map(name),
                    near.insert(key, V::new(id)).as_ref().map(name)
                );
            }
            Act::Extend | Act::TryExtend => {
                let more = || (key..key + id as u16 % 40).map(|key| (key, V::new(id)));
                match act {
                    Act::Extend => far.extend(more()),
                    _ => far.try_extend(more()).unwrap(),
                }
                near.extend(more());
            }
            Act::Remove => assert_eq!(far.remove(&key).as_ref().map(name), near.remove(&key).as_ref().map(name)),
            Act::TryRemove => assert_eq!(far.try_remove(&key).unwrap().as_ref().map(name), near.remove(&key).as_ref().map(name)),
            Act::RemoveEntry | Act::TryRemoveEntry => {
                let removed = if act == Act::RemoveEntry { far.remove_entry(&key) } else { far.try_remove_entry(&key).unwrap() };
                assert_eq!(
                    removed.map(|(key, value)| named(&key, &value)),
                    near.remove_entry(&key).map(|(key, value)| named(&key, &value))
                );
            }
            Act::Get => {
                // All room is free, so that a scope finds some.
                mem.evacuate_all().unwrap();
                assert_eq!(far.get(&key, &farptr::scope()).map(name), expected);
            }
            Act::TryGet => {
                let mut scope = farptr::scope_non_temporal();
                for _ in 0..2 {
                    if let Some(value) = unless_exhausted(far.try_get(&key, &scope)) {
                        assert_eq!(value.map(name), expected);
                    }
                    scope.refresh();
                }
            }
            Act::GetKeyValue => {
                mem.evacuate_all().unwrap();
                let scope = farptr::scope();
                assert_eq!(far.get_key_value(&key, &scope).map(|(key, value)| named(key, value)), expected.map(|id| (key, id)));
            }
            Act::TryGetKeyValue => {
                if let Some(entry) = unless_exhausted(far.try_get_key_value(&key, &farptr::scope())) {
                    assert_eq!(entry.map(|(key, value)| named(key, value)), expected.map(|id| (key, id)));
                }
            }
            Act::GetMut => {
                mem.evacuate_all().unwrap();
                assert_eq!(far.get_mut(&key, &farptr::scope()).map(rename), renamed);
                near.get_mut(&key).map(rename);
            }
            Act::TryGetMut => {
                if let Some(value) = unless_exhausted(far.try_get_mut(&key, &farptr::scope())) {
                    assert_eq!(value.map(rename), renamed);
                    near.get_mut(&key).map(rename);
                }
            }
            Act::GetCloned => assert_eq!(far.get_cloned(&key).as_ref().map(name), expected),
            Act::TryGetCloned => assert_eq!(far.try_get_cloned(&key).unwrap().as_ref().map(name), expected),
            Act::ContainsKey => assert_eq!(far.contains_key(&key), expected.is_some()),
            Act::TryContainsKey => assert_eq!(far.try_contains_key(&key).unwrap(), expected.is_some()),
            Act::With => assert_eq!(far.with(&key, name), expected),
            Act::TryWith => assert_eq!(far.try_with(&key, name).unwrap(), expected),
            Act::WithMut | Act::TryWithMut => {
                let done = if act == Act::WithMut { far.with_mut(&key, rename) } else { far.try_with_mut(&key, rename).unwrap() };
                assert_eq!(done, renamed);
                near.get_mut(&key).map(rename);
            }
            Act::Pin | Act::TryPin => {
                let pin = if act == Act::Pin { far.pin(&key) } else { far.try_pin(&key).unwrap() };
                mem.evacuate_all().unwrap();
                assert_eq!(pin.as_ref().map(|pin| named(pin.key(), pin)), expected.map(|id| (key, id)));
                assert!(pin.is_none() || !format!("{pin:?}").is_empty());
            }
            Act::PinMut | Act::TryPinMut => {
                let mut pin = if act == Act::PinMut { far.pin_mut(&key) } else { far.try_pin_mut(&key).unwrap() };
                assert_eq!(pin.as_mut().map(|pin| rename(pin)), renamed);
                mem.evacuate_all().unwrap();
                assert_eq!(pin.as_ref().map(|pin| named(pin.key(), pin)), renamed.map(|id| (key, id)));
                assert!(pin.is_none() || !format!("{pin:?}").is_empty());
                near.get_mut(&key).map(rename);
            }
            Act::OrInsert
            | Act::TryOrInsert
            | Act::OrInsertWith
            | Act::TryOrInsertWith
            | Act::OrInsertWithKey
            | Act::TryOrInsertWithKey => {
                let entry = far.entry(key);
                assert_eq!(entry.key(), &key);
                let value = match act {
                    Act::OrInsert => entry.or_insert(V::new(id)),
                    Act::TryOrInsert => entry.try_or_insert(V::new(id)).unwrap(),
                    Act::OrInsertWith => entry.or_insert_with(|| V::new(id)),
                    Act::TryOrInsertWith => entry.try_or_insert_with(|| V::new(id)).unwrap(),
                    Act::OrInsertWithKey => entry.or_insert_with_key(|key| V::new(id + u64::from(*key))),
                    _ => entry.try_or_insert_with_key(|key| V::new(id + u64::from(*key))).unwrap(),
                };
                let with_key = matches!(act, Act::OrInsertWithKey | Act::TryOrInsertWithKey);
                let inserted = near.entry(key).or_insert_with_key(|key| V::new(if with_key { id + u64::from(*key) } else { id }));
                assert_eq!(value.with(name), inserted.id());
            }
            Act::OrDefault | Act::TryOrDefault => {
                let entry = far.try_entry(key).unwrap();
                let mut value = if act == Act::OrDefault { entry.or_default() } else { entry.try_or_default().unwrap() };
                let inserted = near.entry(key).or_default();
                assert_eq!(value.try_with(name).unwrap(), inserted.id());
                assert_eq!(value.try_with_mut(rename).unwrap(), rename(inserted));
                assert!(!format!("{value:?}").is_empty());
                if let Some(value) = unless_exhausted(value.try_into_mut(&farptr::scope())) {
                    assert_eq!(value.id(), inserted.id());
                }
            }
            Act::AndModify => {
                let value = far.entry(key).and_modify(|value| value.rename(id)).or_insert(V::new(id));
                assert_eq!(value.with(name), V::called(id));
                near.entry(key).and_modify(|value| value.rename(id)).or_insert(V::new(id));
            }
            Act::TryAndModify => {
                let entry = far.try_entry(key).unwrap().try_and_modify(|value| value.rename(id)).unwrap();
                assert!(format!("{entry:?}").contains(&key.to_string()));
                near.entry(key).and_modify(|value| value.rename(id));
            }
            Act::Occupied => {
                if let Entry::Occupied(mut entry) = far.entry(key) {
                    let value = near.get_mut(&key).expect("it is there");
                    assert_eq!((entry.key(), entry.with(name)), (&key, value.id()));
                    assert_eq!(entry.with_mut(rename), rename(value));
                    assert_eq!(entry.insert(V::new(id + 1)).id(), std::mem::replace(value, V::new(id + 1)).id());
                    assert_eq!(entry.value().with_mut(rename), rename(value));
                    assert_eq!(entry.into_value().with(name), value.id());
                } else {
                    assert_eq!(expected, None);
                }
            }
            Act::TryOccupied => {
                if let Entry::Occupied(mut entry) = far.try_entry(key).unwrap() {
                    let value = near.get_mut(&key).expect("it is there");
                    assert_eq!((entry.key(), entry.try_with(name).unwrap()), (&key, value.id()));
                    assert_eq!(entry.try_with_mut(rename).unwrap(), rename(value));
                    assert_eq!(entry.try_insert(V::new(id + 1)).unwrap().id(), std::mem::replace(value, V::new(id + 1)).id());
                    assert!(format!("{entry:?}").contains(&key.to_string()));
                } else {
                    assert_eq!(expected, None);
                }
            }
            Act::OccupiedInScope => {
                mem.evacuate_all().unwrap();
                if let Entry::Occupied(mut entry) = far.entry(key) {
                    let scope = farptr::scope();
                    let value = near.get_mut(&key).expect("it is there");
                    assert_eq!(entry.get(&scope).id(), value.id());
                    assert_eq!(rename(entry.get_mut(&scope)), rename(value));
                    if let Some(far) = unless_exhausted(entry.try_get(&scope)) {
                        assert_eq!(far.id(), value.id());
                    }
                    if let Some(far) = unless_exhausted(entry.try_get_mut(&scope)) {
                        far.rename(id + 2);
                        value.rename(id + 2);
                    }
                    if id.is_multiple_of(2) {
                        assert_eq!(rename(entry.into_mut(&scope)), rename(value));
                    } else if let Some(far) = unless_exhausted(entry.try_into_mut(&scope)) {
                        assert_eq!(rename(far), rename(value));
                    }
                }
            }
            Act::OccupiedRemove | Act::OccupiedTryRemove | Act::OccupiedRemoveEntry | Act::OccupiedTryRemoveEntry => {
                if let Entry::Occupied(entry) = far.entry(key) {
                    let removed = match act {
                        Act::OccupiedRemove => (key, entry.remove()),
                        Act::OccupiedTryRemove => (key, entry.try_remove().unwrap()),
                        Act::OccupiedRemoveEntry => entry.remove_entry(),
                        _ => entry.try_remove_entry().unwrap(),
                    };
                    assert_eq!(
                        Some(named(&removed.0, &removed.1)),
                        near.remove_entry(&key).map(|(key, value)| named(&key, &value))
                    );
                }
            }
            Act::Vacant | Act::TryVacant => {
                if let Entry::Vacant(entry) = far.entry(key) {
                    assert_eq!((entry.key(), expected), (&key, None));
                    assert!(format!("{entry:?}").contains(&key.to_string()));
                    match (act, id % 3) {
                        (_, 0) => return assert_eq!(entry.into_key(), key),
                        (Act::Vacant, _) => assert_eq!(entry.insert(V::new(id)).with_mut(rename), V::called(id)),
                        _ => assert_eq!(entry.try_insert(V::new(id)).unwrap().with(name), V::called(id)),
                    }
                    near.insert(key, V::new(id));
                }
            }
            Act::ForEach | Act::TryForEach => {
                let mut seen = Vec::new();
                let look = |key: &u16, value: &V| seen.push(named(key, value));
                match act {
                    Act::ForEach => far.for_each(look),
                    _ => far.try_for_each(look).unwrap(),
                }
                assert_eq!(sorted(seen), expected_all);
            }
            Act::ForEachMut | Act::TryForEachMut => {
                let change = |key: &u16, value: &mut V| value.rename(id + u64::from(*key));
                match act {
                    Act::ForEachMut => far.for_each_mut(change),
                    _ => far.try_for_each_mut(change).unwrap(),
                }
                near.iter_mut().for_each(|(key, value)| change(key, value));
            }
            Act::Retain | Act::TryRetain => {
                let stays = |key: &u16, value: &V| !(u64::from(*key) + value.id() + id).is_multiple_of(4);
                match act {
                    Act::Retain => far.retain(stays),
                    _ => far.try_retain(stays).unwrap(),
                }
                near.retain(|key, value| stays(key, value));
            }
            Act::RetainMut | Act::TryRetainMut => {
                let stays = |key: &u16, value: &mut V| {
                    value.rename(id);
                    !(u64::from(*key) + id).is_multiple_of(4)
                };
                match act {
                    Act::RetainMut => far.retain_mut(stays),
                    _ => far.try_retain_mut(stays).unwrap(),
                }
                near.retain(stays);
            }
            Act::Iter | Act::Keys | Act::Values => {
                let scope = farptr::scope_non_temporal();
                let iter = far.iter(&scope);
                assert_eq!(
                    (iter.len(), iter.size_hint(), far.keys(&scope).len(), far.values(&scope).len()),
                    (len, (len, Some(len)), len, len)
                );
                let seen: farptr::Result<Vec<(u16, u64)>> = match act {
                    Act::Iter => iter.clone().map(|entry| entry.map(|(key, value)| named(key, value))).collect(),
                    Act::Keys => far.keys(&scope).clone().map(|key| key.map(|key| (*key, 0))).collect(),
                    _ => far.values(&scope).clone().map(|value| value.map(|value| (0, value.id()))).collect(),
                };
                if let Some(seen) = unless_exhausted(seen) {
                    let part = |(key, id): &(u16, u64)| {
                        (if act == Act::Values { 0 } else { *key }, if act == Act::Keys { 0 } else { *id })
                    };
                    assert_eq!(sorted(seen), sorted(expected_all.iter().map(part)));
                }
            }
            Act::IterMut => {
                let scope = farptr::scope();
                let iter = far.iter_mut(&scope);
                assert_eq!((iter.len(), iter.size_hint()), (len, (len, Some(len))));
                for (key, value) in iter.filter_map(unless_exhausted) {
                    assert_eq!(rename(value), rename(near.get_mut(key).expect("it is there")));
                }
            }
            Act::ValuesMut => {
                // All at a time, and in the same order as what reads.
                let keys: Option<Vec<u16>> = unless_exhausted(far.keys(&farptr::scope()).map(|key| key.copied()).collect());
                let scope = farptr::scope();
                let values: Option<Vec<&mut V>> = unless_exhausted(far.values_mut(&scope).collect());
                if let (Some(keys), Some(values)) = (keys, values) {
                    assert_eq!(values.len(), len);
                    for (key, value) in keys.iter().zip(values) {
                        assert_eq!(rename(value), rename(near.get_mut(key).expect("it is there")));
                    }
                }
            }
            Act::Drain => {
                let drain = far.drain();
                assert_eq!(drain.len(), len);
                for entry in drain.take(id as usize % 50) {
                    let (key, value) = entry.unwrap();
                    assert_eq!(near.remove(&key).map(|value| value.id()), Some(value.id()));
                }
                near.clear();
            }
            Act::IntoIter => {
                let fresh = RemHashMap::try_with_capacity_and_hasher_in(id as usize % 20, far.hasher().clone(), mem).unwrap();
                let mut entries = std::mem::replace(far, fresh).into_iter();
                assert_eq!(entries.len(), len);
                for entry in entries.by_ref().take(id as usize % 50) {
                    let (key, value) = entry.unwrap();
                    assert_eq!(near.remove(&key).map(|value| value.id()), Some(value.id()));
                }
                assert_eq!(entries.len(), near.len());
                near.clear();
            }
            Act::Clear => {
                let capacity = far.capacity();
                far.clear();
                near.clear();
                // More, if places that had been used were out of use.
                assert!(far.capacity() >= capacity);
            }
            Act::Reserve | Act::TryReserve => {
                match act {
                    Act::Reserve => far.reserve(id as usize),
                    _ => far.try_reserve(id as usize).unwrap(),
                }
                assert!(far.capacity() >= len + id as usize);
            }
            Act::Shrink => far.shrink_to_fit(),
            Act::TryShrink => far.try_shrink_to_fit().unwrap(),
            Act::Debug => assert!(format!("{far:?}").starts_with(&format!("RemHashMap {{ len: {len}, "))),
            Act::Evacuate => assert_all_released(mem, len, || far.for_each(|_, _| ())),
            Act::Churn => churn(mem),
        }
    }
}

fn agree<V: Value>(hashing: Hashing, ops: &[Op]) {
    let mem = memory(1 << 20);
    let counts = live();
    let mut pair: Pair<'_, V> = Pair { mem: &mem, far: RemHashMap::with_hasher_in(hashing, &mem), near: HashMap::new() };
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
    pair.far.for_each(|key, value| all.push((*key, value.id())));
    assert_eq!(sorted(all), pair.expected());
    pair.near.iter().for_each(|(key, value)| assert_eq!(pair.far.with(key, V::id), Some(value.id())));
    assert_released(&mem);
    let Pair { far, near, .. } = pair;
    drop((far, near));
    assert_eq!((live(), mem.stats().lost_drops), (counts, 0));
    assert_empty(&mem);
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn maps_of_small_values_agree_with_std(ops in ops(200, 300)) {
        agree::<Small>(Hashing::Std(RandomState::new()), &ops);
    }

    #[test]
    fn maps_of_plain_values_agree_with_std(ops in ops(300, 300)) {
        agree::<u64>(Hashing::Std(RandomState::new()), &ops);
    }

    #[test]
    fn maps_of_wide_values_agree_with_std(ops in ops(200, 200)) {
        agree::<Wide>(Hashing::Std(RandomState::new()), &ops);
    }

    #[test]
    fn maps_of_nothing_agree_with_std(ops in ops(200, 200)) {
        agree::<Nothing>(Hashing::Std(RandomState::new()), &ops);
    }

    #[test]
    fn maps_of_values_aligned_to_a_line_agree_with_std(ops in ops(100, 100)) {
        agree::<Lined>(Hashing::Std(RandomState::new()), &ops);
    }

    #[test]
    fn maps_of_values_aligned_to_a_page_agree_with_std(ops in ops(50, 80)) {
        agree::<Paged>(Hashing::Std(RandomState::new()), &ops);
    }

    #[test]
    fn maps_of_large_values_agree_with_std(ops in ops(20, 50)) {
        agree::<Large>(Hashing::Std(RandomState::new()), &ops);
    }

    #[test]
    fn maps_with_hashes_that_are_all_equal_agree_with_std(ops in ops(100, 100)) {
        agree::<Small>(Hashing::Equal, &ops);
    }

    #[test]
    fn maps_with_keys_for_hashes_agree_with_std(ops in ops(300, 200)) {
        agree::<Small>(Hashing::Key, &ops);
    }
}

#[test]
fn removal_makes_room_for_what_comes_next() {
    let mem = memory(2 << 20);
    let mut map: RemHashMap<u64, [u64; 8]> = RemHashMap::new_in(&mem);
    let mut used = Vec::new();
    for turn in 0..10u64 {
        for key in 0..10_000 {
            assert_eq!(map.insert(turn << 32 | key, [key; 8]), None);
        }
        mem.evacuate_all().unwrap();
        mem.trim().unwrap();
        used.push(mem.stats().local_used_bytes);
        for key in 0..10_000 {
            assert_eq!(map.remove(&(turn << 32 | key)), Some([key; 8]), "turn {turn}");
        }
    }
    assert_eq!((map.len(), mem.stats().far_live_bytes), (0, 0));
    assert!(used.iter().all(|bytes| *bytes <= used[0]), "tables grow though the map does not: {used:?}");
    drop(map);
    assert_empty(&mem);
}

#[test]
fn all_hashes_equal_is_slow_and_right() {
    let mem = memory(1 << 20);
    let mut map: RemHashMap<u32, [u32; 300], _> = RemHashMap::with_hasher_in(Hashing::Equal, &mem);
    for key in 0..1500 {
        assert_eq!(map.insert(key, [key; 300]), None);
    }
    assert!(mem.stats().misses > 1000, "1.8 MB of entries do not fit");
    for key in (0..1500).step_by(3) {
        assert_eq!(map.remove(&key), Some([key; 300]));
    }
    for key in (0..1600).step_by(7) {
        assert_eq!(map.get_cloned(&key), (key < 1500 && key % 3 != 0).then_some([key; 300]));
    }
    drop(map);
    assert_empty(&mem);
}

#[test]
fn threads_share_a_map_under_constant_evacuation() {
    let mem = memory(1 << 20);
    let mut map: RemHashMap<u64, [u64; 32]> = RemHashMap::new_in(&mem);
    map.extend((0..10_000).map(|key| (key, [key; 32])));
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let (map, mem) = (&map, &mem);
            threads.spawn(move || {
                let mut next = numbers(thread + 10);
                let mut own: RemHashMap<u64, [u64; 16]> = RemHashMap::new_in(mem);
                let mut model: hash_map::HashMap<u64, u64> = HashMap::new();
                for _ in 0..25_000 {
                    let key = next() % 10_500;
                    assert_eq!(map.with(&key, |v| *v), (key < 10_000).then_some([key; 32]));
                    let key = key % 1000;
                    if next().is_multiple_of(3) {
                        assert_eq!(own.remove(&key).map(|v| v[15]), model.remove(&key));
                    } else {
                        assert_eq!(own.insert(key, [key + thread; 16]).map(|v| v[0]), model.insert(key, key + thread));
                    }
                }
            });
        }
    });
    assert!(mem.stats().misses > 10_000);
    drop(map);
    assert_empty(&mem);
}
