//! Code of the user's that panics, or contradicts itself, at every point where it is called.

use crate::common::assert_all_released;
use crate::common::value::{Burning, Once, Small, Value as _, burn, fused, live};
use crate::{assert_empty, memory};
use farptr::rem_hash_map::Entry;
use farptr::{Far, FarMemory, RemHashMap};
use std::borrow::Borrow;
use std::cell::Cell;
use std::hash::{BuildHasherDefault, Hash, Hasher};

type Value = Once<[u64; 20]>;

fn value() -> Value {
    Value::new(1)
}

#[derive(Far, Debug)]
struct Key {
    id: u32,
    _once: Small,
}

fn key(id: u32) -> Key {
    Key { id, _once: Small::new(id.into()) }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        burn();
        self.id.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        burn();
        self.id == other.id
    }
}

impl Eq for Key {}

impl Borrow<u32> for Key {
    fn borrow(&self) -> &u32 {
        burn();
        &self.id
    }
}

/// Few hashes, so that keys are compared often.
#[derive(Default)]
struct Few(u64);

impl Hasher for Few {
    fn finish(&self) -> u64 {
        self.0 % 5
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |sum, byte| sum + u64::from(*byte));
    }
}

type Map = RemHashMap<Key, Value, BuildHasherDefault<Few>>;

fn new_map(mem: &FarMemory) -> Map {
    RemHashMap::with_hasher_in(BuildHasherDefault::default(), mem)
}

/// The map is one: what is counted is there, and is found.
fn assert_valid(map: &Map) {
    let mut ids = Vec::new();
    map.for_each(|key, _| ids.push(key.id));
    assert_eq!(ids.len(), map.len());
    for id in &ids {
        assert!(map.contains_key(&key(*id)), "{id} of {ids:?}");
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), map.len(), "a key is there twice");
}

type Operation = (&'static str, fn(&mut Map, &FarMemory));

fn operations() -> Vec<Operation> {
    vec![
        ("insert", |map, _| drop(map.insert(key(1000), value()))),
        ("insert over", |map, _| drop(map.insert(key(3), value()))),
        ("remove", |map, _| drop(map.remove(&key(7)))),
        ("remove a missing one", |map, _| drop(map.remove(&key(5000)))),
        ("get", |map, _| {
            let scope = farptr::scope();
            map.get(&key(8), &scope).unwrap();
        }),
        ("get_mut", |map, _| {
            let scope = farptr::scope();
            map.get_mut(&key(8), &scope).unwrap();
        }),
        ("with", |map, _| map.with(&key(9), |_| burn()).unwrap()),
        ("with_mut", |map, _| map.with_mut(&key(9), |_| burn()).unwrap()),
        ("get_key_value by a borrowed key", |map, _| {
            let scope = farptr::scope();
            map.get_key_value(&8u32, &scope).unwrap();
            burn();
        }),
        ("contains_key", |map, _| assert!(map.contains_key(&8u32))),
        ("get_cloned", |map, _| drop(map.get_cloned(&8u32).unwrap())),
        ("remove_entry", |map, _| drop(map.remove_entry(&9u32).unwrap())),
        ("pin_mut", |map, _| {
            let mut pin = map.pin_mut(&key(10)).unwrap();
            pin.rename(2);
            burn();
            pin.rename(3);
        }),
        ("iter", |map, _| {
            let scope = farptr::scope();
            map.iter(&scope).zip(map.keys(&scope)).zip(map.values(&scope)).take(3).for_each(|_| burn());
        }),
        ("iter_mut", |map, _| {
            let scope = farptr::scope_non_temporal();
            for entry in map.iter_mut(&scope).take(3) {
                entry.unwrap().1.rename(2);
                burn();
            }
            map.values_mut(&scope).take(3).for_each(|_| burn());
        }),
        ("into_iter", |map, mem| {
            let given = std::mem::replace(map, new_map(mem));
            given.into_iter().take(3).for_each(|entry| {
                burn();
                drop(entry.unwrap());
            });
        }),
        ("entry or_default", |map, _| {
            map.entry(key(1001)).or_default();
        }),
        ("entry or_insert_with_key", |map, _| {
            map.entry(key(1001)).or_insert_with_key(|key| {
                burn();
                assert_eq!(key.id, 1001);
                value()
            });
        }),
        ("occupied entry", |map, _| {
            let Entry::Occupied(mut entry) = map.entry(key(12)) else { panic!("it is there") };
            entry.with(|_| burn());
            entry.with_mut(|value| {
                value.rename(5);
                burn();
            });
            drop(entry.insert(value()));
            entry.value().with_mut(|_| burn());
            drop(entry.remove());
        }),
        ("occupied entry is removed", |map, _| {
            let Entry::Occupied(entry) = map.entry(key(12)) else { panic!("it is there") };
            drop(entry.remove_entry());
        }),
        ("vacant entry", |map, _| {
            let Entry::Vacant(entry) = map.entry(key(1002)) else { panic!("it is not there") };
            burn();
            drop(entry.into_key());
        }),
        ("vacant entry is filled", |map, _| {
            let Entry::Vacant(entry) = map.entry(key(1002)) else { panic!("it is not there") };
            let scope = farptr::scope();
            entry.insert(value()).into_mut(&scope).rename(6);
            burn();
        }),
        ("reserve", |map, _| map.reserve(500)),
        ("pin", |map, _| {
            let pin = map.pin(&key(10)).unwrap();
            burn();
            drop(pin);
        }),
        ("entry", |map, _| {
            map.entry(key(1001)).and_modify(|_| burn()).or_insert_with(|| {
                burn();
                value()
            });
        }),
        ("entry of one that is there", |map, _| {
            map.entry(key(11)).and_modify(|_| burn()).or_insert_with(value).with_mut(|_| burn());
        }),
        ("for_each", |map, _| map.for_each(|_, _| burn())),
        ("for_each_mut", |map, _| map.for_each_mut(|_, _| burn())),
        ("retain", |map, _| {
            map.retain(|key, _| {
                burn();
                key.id % 3 != 0
            });
        }),
        ("retain_mut", |map, _| {
            map.retain_mut(|key, _| {
                burn();
                key.id % 4 != 0
            });
        }),
        ("extend", |map, _| {
            map.extend((2000..2030).map(|id| {
                burn();
                (key(id), value())
            }));
        }),
        ("drain", |map, _| drop(map.drain().take(10).map(Result::unwrap).inspect(|_| burn()).collect::<Vec<_>>())),
        ("drop", |map, mem| *map = new_map(mem)),
        ("shrink_to_fit", |map, _| map.shrink_to_fit()),
        ("clear", |map, _| map.clear()),
    ]
}

#[test]
fn panic_at_any_call_leaves_a_valid_map_and_drops_everything_once() {
    for burning in [Burning::Calls, Burning::CallsAndDrops] {
        for (name, operation) in operations() {
            let mut panics = 0;
            // Each of the first calls, then samples.
            for calls in (0..12).chain((14..80).step_by(6)) {
                let mem = memory(1 << 20);
                let mut map = new_map(&mem);
                for id in 0..40 {
                    map.insert(key(id), value());
                }
                map.remove(&key(20));
                mem.evacuate_all().unwrap();
                let panicked = fused(burning, calls, || operation(&mut map, &mem));
                assert_valid(&map);
                // No scope is open, and no pin left: all of it can go.
                assert_all_released(&mem, map.len(), || map.for_each(|_, _| ()));
                assert_valid(&map);
                assert_eq!(live(), 2 * map.len() as u64, "{name}, {calls} calls");
                map.insert(key(3000), value());
                drop(map);
                assert_eq!((live(), mem.stats().lost_drops), (0, 0), "{name}, {calls} calls");
                assert_empty(&mem);
                panics += u32::from(panicked);
                if !panicked {
                    break;
                }
            }
            let only_drops = ["clear", "drop"].contains(&name) && burning == Burning::Calls;
            let none = ["shrink_to_fit", "reserve"].contains(&name);
            assert_eq!(panics == 0, only_drops || none, "{name} calls code of the user's {panics} times");
        }
    }
}

#[test]
fn panic_while_the_map_is_dropped_still_drops_the_rest() {
    for evacuated in [false, true] {
        for calls in [0, 1, 17, 78, 79] {
            let mem = memory(1 << 20);
            let mut map = new_map(&mem);
            for id in 0..40 {
                map.insert(key(id), value());
            }
            if evacuated {
                mem.evacuate_all().unwrap();
            }
            assert!(fused(Burning::CallsAndDrops, calls, || drop(map)));
            assert_eq!((live(), mem.stats().lost_drops), (0, 0), "{calls} calls");
            assert_empty(&mem);
        }
    }
}

thread_local! {
    static MOOD: Cell<u64> = const { Cell::new(1) };
}

fn whim() -> u64 {
    let mut mood = MOOD.get();
    mood ^= mood << 13;
    mood ^= mood >> 7;
    mood ^= mood << 17;
    MOOD.set(mood);
    mood
}

/// A key that does not know what it is.
#[derive(Far)]
struct Moody(Small);

impl Hash for Moody {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (whim() % 7).hash(state);
    }
}

impl PartialEq for Moody {
    fn eq(&self, _: &Moody) -> bool {
        whim().is_multiple_of(3)
    }
}

impl Eq for Moody {}

#[test]
fn inconsistent_hash_and_eq_lose_keys_and_nothing_else() {
    let mem = memory(1 << 20);
    let mut map: RemHashMap<Moody, Value> = RemHashMap::new_in(&mem);
    let mut inserted = 0;
    for step in 0..4000 {
        let moody = Moody(Small::new(7));
        match whim() % 8 {
            0..4 => inserted += usize::from(map.insert(moody, value()).is_none()),
            4 => inserted -= usize::from(map.remove(&moody).is_some()),
            5 => assert!(map.with(&moody, |value| value.id() == 1).unwrap_or(true)),
            6 => {
                let before = map.len();
                map.retain(|_, _| !whim().is_multiple_of(20));
                inserted -= before - map.len();
            }
            _ => map.shrink_to_fit(),
        }
        assert_eq!(map.len(), inserted, "step {step}");
        if step % 500 == 0 {
            mem.evacuate_all().unwrap();
        }
    }
    let mut seen = 0;
    map.for_each(|Moody(key), value| {
        assert_eq!((key.id(), value.id()), (7, 1));
        seen += 1;
    });
    assert_eq!(seen, inserted);
    assert_eq!(live(), 2 * inserted as u64);
    drop(map);
    assert_eq!(live(), 0);
    assert_empty(&mem);
}
