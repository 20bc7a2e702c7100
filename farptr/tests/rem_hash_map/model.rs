//! Random operations on a map and on `std`'s.

use crate::{assert_empty, memory, numbers};
use farptr::rem_hash_map::Entry;
use farptr::{FarMemory, RemHashMap};
use proptest::prelude::*;
use std::collections::HashMap;
use std::collections::hash_map;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

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

/// What one may do to a map.
#[derive(Debug, Clone)]
enum Op {
    Insert(u16, u32),
    Remove(u16),
    Read(u16),
    Write(u16, u32),
    AddTo(u16, u32),
    Retain(u16),
    Clear,
    Reserve(u8),
    Shrink,
    Drain(u8),
    Evacuate,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0..300u16;
    prop_oneof![
        20 => (key.clone(), any::<u32>()).prop_map(|(k, v)| Op::Insert(k, v)),
        10 => key.clone().prop_map(Op::Remove),
        8 => key.clone().prop_map(Op::Read),
        6 => (key.clone(), any::<u32>()).prop_map(|(k, v)| Op::Write(k, v)),
        6 => (key, any::<u32>()).prop_map(|(k, v)| Op::AddTo(k, v)),
        1 => (1..5u16).prop_map(Op::Retain),
        1 => Just(Op::Clear),
        1 => any::<u8>().prop_map(Op::Reserve),
        2 => Just(Op::Shrink),
        1 => any::<u8>().prop_map(Op::Drain),
        3 => Just(Op::Evacuate),
    ]
}

/// A hasher as bad as can be.
#[derive(Debug, Default, Clone)]
struct Constant;

impl Hasher for Constant {
    fn finish(&self) -> u64 {
        42
    }
    fn write(&mut self, _: &[u8]) {}
}

/// One that gives the key itself.
#[derive(Debug, Default, Clone)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }
}

fn agree<S: BuildHasher>(mem: &FarMemory, hasher: S, ops: &[Op]) {
    let mut map: RemHashMap<u16, [u32; 40], S> = RemHashMap::with_hasher_in(hasher, mem);
    let mut model: HashMap<u16, u32> = HashMap::new();
    for op in ops {
        match *op {
            Op::Insert(k, v) => assert_eq!(map.insert(k, [v; 40]), model.insert(k, v).map(|v| [v; 40])),
            Op::Remove(k) => assert_eq!(map.remove_entry(&k), model.remove_entry(&k).map(|(k, v)| (k, [v; 40]))),
            Op::Read(k) => assert_eq!(map.get_cloned(&k), model.get(&k).map(|v| [*v; 40])),
            Op::Write(k, v) => {
                let scope = farptr::scope();
                if let Some(place) = map.get_mut(&k, &scope) {
                    *place = [v; 40];
                }
                model.entry(k).and_modify(|place| *place = v);
            }
            Op::AddTo(k, v) => {
                map.entry(k).and_modify(|place| place[0] ^= 0).or_insert([7; 40]).with_mut(|place| {
                    *place = [place[39].wrapping_add(v); 40];
                });
                let place = model.entry(k).or_insert(7);
                *place = place.wrapping_add(v);
            }
            Op::Retain(n) => {
                map.retain(|k, _| k % n == 0);
                model.retain(|k, _| k % n == 0);
            }
            Op::Clear => {
                map.clear();
                model.clear();
            }
            Op::Reserve(n) => {
                map.reserve(n.into());
                assert!(map.capacity() >= map.len() + usize::from(n));
            }
            Op::Shrink => {
                map.shrink_to_fit();
                assert!(map.capacity() >= map.len());
            }
            Op::Drain(n) => {
                for entry in map.drain().take(n.into()) {
                    let (k, v) = entry.unwrap();
                    assert_eq!(model.remove(&k).map(|v| [v; 40]), Some(v));
                }
                model.clear();
            }
            Op::Evacuate => mem.evacuate_all().unwrap(),
        }
        assert_eq!(map.len(), model.len());
    }
    for (k, v) in &model {
        assert_eq!(map.with(k, |v| *v), Some([*v; 40]));
    }
    let scope = farptr::scope();
    let mut all: Vec<_> = map.iter(&scope).map(|entry| entry.map(|(k, v)| (*k, v[20]))).collect::<Result<_, _>>().unwrap();
    all.sort_unstable();
    let mut expected: Vec<_> = model.into_iter().collect();
    expected.sort_unstable();
    assert_eq!(all, expected);
    drop(scope);
    drop(map);
    assert_empty(mem);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_operations_agrees_with_std(ops in prop::collection::vec(op(), 1..400)) {
        agree(&memory(1 << 20), RandomState::new(), &ops);
    }

    #[test]
    fn so_does_one_with_hashes_that_are_all_equal(ops in prop::collection::vec(op(), 1..120)) {
        agree(&memory(1 << 20), BuildHasherDefault::<Constant>::default(), &ops);
    }

    #[test]
    fn so_does_one_with_keys_for_hashes(ops in prop::collection::vec(op(), 1..200)) {
        agree(&memory(1 << 20), BuildHasherDefault::<Identity>::default(), &ops);
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
    let mut map: RemHashMap<u32, [u32; 300], _> = RemHashMap::with_hasher_in(BuildHasherDefault::<Constant>::default(), &mem);
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
