//! Operations on a [`RemHashMap`] and on `std`'s, with far too little local memory. Values own far objects; hashes may all be the same.
#![forbid(unsafe_code)]

use crate::heap::{PLENTY, assert_in_bounds, assert_nothing_left, memory};
use crate::input;
use arbitrary::{Arbitrary, Unstructured};
use farptr::rem_hash_map::Entry;
use farptr::{Far, FarMemory, RemBox, RemHashMap};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

const MOST_OPS: usize = 300;
/// Keys there may be.
const KEYS: u16 = 2000;

#[derive(Debug, Arbitrary)]
enum Op {
    Insert {
        key: u16,
        made: Made,
    },
    /// Keys in a row.
    Extend {
        key: u16,
        count: u8,
        made: Made,
    },
    Remove {
        key: u16,
    },
    Read {
        key: u16,
    },
    Write {
        key: u16,
        made: Made,
    },
    Entry {
        key: u16,
        made: Made,
        remove: bool,
    },
    /// While a value is pinned, everything else is sent away.
    Pin {
        key: u16,
    },
    Retain {
        every: u8,
        write: bool,
    },
    ForEach {
        write: bool,
    },
    /// Some move out by a drain, the others are dropped with it.
    Drain {
        most: u8,
    },
    /// Some move out, the others are dropped with the iterator; a new map takes the place of the old one.
    IntoIter {
        most: u8,
    },
    Clear,
    Reserve {
        more: u16,
    },
    Shrink,
    Round,
    EvacuateAll,
    Trim,
}

/// What a value is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Arbitrary)]
struct Made {
    seed: u8,
    /// Bytes of the object that it owns, if it owns one.
    owned: Option<u16>,
}

#[derive(Far)]
struct Value {
    plain: [u8; 40],
    owned: Option<RemBox<[u8]>>,
}

impl Made {
    fn owned_bytes(self) -> Option<usize> {
        self.owned.map(|len| usize::from(len % 4096))
    }

    fn make(self, mem: &FarMemory) -> Value {
        let seed = self.seed.into();
        let owned = self.owned_bytes().map(|len| RemBox::from_slice_in(&input::bytes(seed, len), mem));
        Value { plain: std::array::from_fn(|i| input::byte(!seed, i)), owned }
    }

    #[track_caller]
    fn assert_is(self, value: &Value) {
        assert!(value.plain.iter().enumerate().all(|(i, byte)| *byte == input::byte(!u32::from(self.seed), i)));
        match (&value.owned, self.owned_bytes()) {
            (None, None) => {}
            (Some(far), Some(len)) => far.with(|bytes| assert_eq!(bytes, input::bytes(self.seed.into(), len))),
            _ => panic!("another value than was put in"),
        }
    }

    #[track_caller]
    fn assert_both(made: Option<Self>, value: Option<&Value>) {
        match (made, value) {
            (None, None) => {}
            (Some(made), Some(value)) => made.assert_is(value),
            (made, value) => panic!("{made:?} should be there, and something is: {}", value.is_some()),
        }
    }
}

/// Hashes a key to some of its bits: to none, and all keys collide.
#[derive(Clone, Copy)]
struct Bits(u64);

impl BuildHasher for Bits {
    type Hasher = BitsHasher;
    fn build_hasher(&self) -> BitsHasher {
        BitsHasher { bits: self.0, hash: 0 }
    }
}

struct BitsHasher {
    bits: u64,
    hash: u64,
}

impl Hasher for BitsHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.hash = self.hash.rotate_left(8) ^ u64::from(*byte));
    }
    fn finish(&self) -> u64 {
        (self.hash & self.bits).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

struct World<'m> {
    mem: &'m FarMemory,
    hasher: Bits,
    far: RemHashMap<u16, Value, Bits>,
    model: HashMap<u16, Made>,
}

/// Runs the target on one input.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let first = input.arbitrary().unwrap_or(0u8);
    let hasher = Bits([u64::MAX, 7, 0, 0xf0][usize::from(first % 4)]);
    let mem = memory(PLENTY, first);
    let mut world = World { mem: &mem, hasher, far: RemHashMap::with_hasher_in(hasher, &mem), model: HashMap::new() };
    input::each(&mut input, MOST_OPS, |op| {
        world.carry_out(op);
        assert_eq!((world.far.len(), world.far.is_empty()), (world.model.len(), world.model.is_empty()));
        assert!(world.far.capacity() >= world.far.len());
        assert_in_bounds(&mem);
    });
    world.compare();
    drop(world);
    assert_nothing_left(&mem, false);
}

impl World<'_> {
    fn carry_out(&mut self, op: Op) {
        match op {
            Op::Insert { key, made } => {
                let key = key % KEYS;
                let old = self.far.insert(key, made.make(self.mem));
                Made::assert_both(self.model.insert(key, made), old.as_ref());
            }
            Op::Extend { key, count, made } => {
                let keys = (0..count.into()).map(|i| (key.wrapping_add(i)) % KEYS);
                let made: Vec<_> = keys.map(|key| (key, Made { seed: made.seed ^ key as u8, ..made })).collect();
                self.far.extend(made.iter().map(|(key, made)| (*key, made.make(self.mem))));
                self.model.extend(made);
            }
            Op::Remove { key } => {
                let key = key % KEYS;
                Made::assert_both(self.model.remove(&key), self.far.remove(&key).as_ref());
            }
            Op::Read { key } => {
                let (key, expected) = (key % KEYS, self.model.get(&(key % KEYS)));
                let read = self.far.with(&key, |value| expected.expect("a key that isn't there was found").assert_is(value));
                assert_eq!((read.is_some(), self.far.contains_key(&key)), (expected.is_some(), expected.is_some()));
            }
            Op::Write { key, made } => {
                let key = key % KEYS;
                let new = made.make(self.mem);
                let old = self.far.with_mut(&key, |value| std::mem::replace(value, new));
                let expected = self.model.get_mut(&key).map(|old| std::mem::replace(old, made));
                Made::assert_both(expected, old.as_ref());
            }
            Op::Entry { key, made, remove } => self.entry(key % KEYS, made, remove),
            Op::Pin { key } => {
                let pinned = self.far.pin(&(key % KEYS));
                self.mem.evacuate_all().expect("far memory has room");
                Made::assert_both(self.model.get(&(key % KEYS)).copied(), pinned.as_deref());
            }
            Op::Retain { every, write } => self.retain(u16::from(every) + 1, write),
            Op::ForEach { write } => self.for_each(write),
            Op::Drain { most } => {
                let model = &mut self.model;
                for drained in self.far.drain().take(most.into()) {
                    let (key, value) = drained.expect("an entry can be had");
                    model.remove(&key).expect("a key that was put in").assert_is(&value);
                }
                model.clear();
            }
            Op::IntoIter { most } => {
                let old = std::mem::replace(&mut self.far, RemHashMap::with_hasher_in(self.hasher, self.mem));
                for moved in old.into_iter().take(most.into()) {
                    let (key, value) = moved.expect("an entry can be had");
                    self.model.remove(&key).expect("a key that was put in").assert_is(&value);
                }
                self.model.clear();
            }
            Op::Clear => {
                self.far.clear();
                self.model.clear();
            }
            Op::Reserve { more } => {
                self.far.reserve((more % 4096).into());
                assert!(self.far.capacity() >= self.model.len() + usize::from(more % 4096));
            }
            Op::Shrink => self.far.shrink_to_fit(),
            Op::Round => {
                farptr::fuzzing::round(self.mem);
            }
            Op::EvacuateAll => self.mem.evacuate_all().expect("far memory has room"),
            Op::Trim => self.mem.trim().expect("an embedded lender takes slabs back"),
        }
    }

    fn entry(&mut self, key: u16, made: Made, remove: bool) {
        let new = made.make(self.mem);
        match self.far.entry(key) {
            Entry::Occupied(entry) if remove => {
                self.model.remove(&key).expect("a key that was put in").assert_is(&entry.remove());
            }
            Entry::Occupied(mut entry) => {
                let old = entry.insert(new);
                self.model.insert(key, made).expect("a key that was put in").assert_is(&old);
            }
            Entry::Vacant(entry) if remove => {
                assert_eq!((*entry.key(), self.model.get(&key)), (key, None));
            }
            Entry::Vacant(entry) => {
                entry.insert(new);
                assert_eq!(self.model.insert(key, made), None);
            }
        }
    }

    fn retain(&mut self, every: u16, write: bool) {
        if write {
            self.far.retain_mut(|key, value| {
                value.plain = [0; 40];
                !key.is_multiple_of(every)
            });
            // Put right again what was written for the sake of writing.
            let model = &self.model;
            self.far.for_each_mut(|key, value| {
                let seed = !u32::from(model[key].seed);
                assert_eq!(value.plain, [0; 40]);
                value.plain = std::array::from_fn(|i| input::byte(seed, i));
            });
        } else {
            self.far.retain(|key, _| !key.is_multiple_of(every));
        }
        self.model.retain(|key, _| !key.is_multiple_of(every));
    }

    fn for_each(&mut self, write: bool) {
        let mut seen = 0;
        let (model, mem) = (&mut self.model, self.mem);
        if write {
            self.far.for_each_mut(|key, value| {
                let made = model.get_mut(key).expect("a key that was put in");
                made.assert_is(value);
                *made = Made { seed: made.seed.wrapping_add(1), ..*made };
                *value = made.make(mem);
                seen += 1;
            });
        } else {
            self.far.for_each(|key, value| {
                model[key].assert_is(value);
                seen += 1;
            });
        }
        assert_eq!(seen, self.model.len());
    }

    fn compare(&self) {
        // What was lost on the way out shows when it comes back.
        self.mem.evacuate_all().expect("far memory has room");
        for (key, made) in &self.model {
            self.far.with(key, |value| made.assert_is(value)).expect("a key that was put in");
        }
    }
}
