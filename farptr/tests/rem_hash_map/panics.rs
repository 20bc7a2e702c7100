//! Code of the user's that panics, or contradicts itself, at every point where it is called.

use crate::{assert_empty, memory};
use farptr::{Far, FarMemory, RemHashMap};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// Calls of the user's code until one panics.
    static FUSE: Cell<u32> = const { Cell::new(u32::MAX) };
    /// Whether a `Drop` counts as one.
    static DROPS_PANIC: Cell<bool> = const { Cell::new(false) };
    /// The serial numbers of values that exist.
    static LIVE: RefCell<HashSet<u64>> = RefCell::default();
    static SERIAL: Cell<u64> = const { Cell::new(0) };
}

/// One call of the user's code.
fn burn() {
    let left = FUSE.get();
    FUSE.set(left.wrapping_sub(1));
    if left == 0 {
        panic!("as asked");
    }
}

/// Something that is there once, and that knows when it is dropped.
#[derive(Far, Debug)]
struct Once {
    serial: u64,
    ballast: [u64; 20],
}

impl Once {
    fn new() -> Self {
        let serial = SERIAL.get();
        SERIAL.set(serial + 1);
        LIVE.with_borrow_mut(|live| assert!(live.insert(serial)));
        Once { serial, ballast: [serial; 20] }
    }
}

impl Drop for Once {
    fn drop(&mut self) {
        assert_eq!(self.ballast, [self.serial; 20]);
        let existed = LIVE.with_borrow_mut(|live| live.remove(&self.serial));
        if !existed {
            // A panic here could be taken for one that was asked for.
            eprintln!("value {} is dropped twice", self.serial);
            std::process::abort();
        }
        if DROPS_PANIC.get() && !std::thread::panicking() {
            burn();
        }
    }
}

#[derive(Far, Debug)]
struct Key {
    id: u32,
    _once: Once,
}

fn key(id: u32) -> Key {
    Key { id, _once: Once::new() }
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

type Map = RemHashMap<Key, Once, BuildHasherDefault<Few>>;

fn new_map(mem: &FarMemory) -> Map {
    RemHashMap::with_hasher_in(BuildHasherDefault::default(), mem)
}

/// Runs `f` with a fuse of `calls`. Whether it burnt down.
fn fused(calls: u32, f: impl FnOnce()) -> bool {
    FUSE.set(calls);
    let panicked = catch_unwind(AssertUnwindSafe(f)).is_err();
    FUSE.set(u32::MAX);
    panicked
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

type Operation = (&'static str, fn(&mut Map));

fn operations() -> Vec<Operation> {
    vec![
        ("insert", |map| drop(map.insert(key(1000), Once::new()))),
        ("insert over", |map| drop(map.insert(key(3), Once::new()))),
        ("remove", |map| drop(map.remove(&key(7)))),
        ("remove a missing one", |map| drop(map.remove(&key(5000)))),
        ("get", |map| {
            let scope = farptr::scope();
            map.get(&key(8), &scope).unwrap();
        }),
        ("get_mut", |map| {
            let scope = farptr::scope();
            map.get_mut(&key(8), &scope).unwrap();
        }),
        ("with", |map| map.with(&key(9), |_| burn()).unwrap()),
        ("with_mut", |map| map.with_mut(&key(9), |_| burn()).unwrap()),
        ("pin", |map| {
            let pin = map.pin(&key(10)).unwrap();
            burn();
            drop(pin);
        }),
        ("entry", |map| {
            map.entry(key(1001)).and_modify(|_| burn()).or_insert_with(|| {
                burn();
                Once::new()
            });
        }),
        ("entry of one that is there", |map| {
            map.entry(key(11)).and_modify(|_| burn()).or_insert_with(Once::new).with_mut(|_| burn());
        }),
        ("for_each", |map| map.for_each(|_, _| burn())),
        ("for_each_mut", |map| map.for_each_mut(|_, _| burn())),
        ("retain", |map| {
            map.retain(|key, _| {
                burn();
                key.id % 3 != 0
            });
        }),
        ("retain_mut", |map| {
            map.retain_mut(|key, _| {
                burn();
                key.id % 4 != 0
            });
        }),
        ("extend", |map| {
            map.extend((2000..2030).map(|id| {
                burn();
                (key(id), Once::new())
            }));
        }),
        ("drain", |map| drop(map.drain().take(10).map(Result::unwrap).inspect(|_| burn()).collect::<Vec<_>>())),
        ("shrink_to_fit", |map| map.shrink_to_fit()),
        ("clear", Map::clear),
    ]
}

/// Silences the messages of panics that are asked for.
fn quiet() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>() != Some(&"as asked") {
            usual(info);
        }
    }));
}

#[test]
fn panic_at_any_call_leaves_a_valid_map_and_drops_everything_once() {
    quiet();
    for drops_panic in [false, true] {
        for (name, operation) in operations() {
            let mut panics = 0;
            // Each of the first calls, then samples.
            for calls in (0..12).chain((14..80).step_by(6)) {
                let mem = memory(1 << 20);
                let mut map = new_map(&mem);
                for id in 0..40 {
                    map.insert(key(id), Once::new());
                }
                map.remove(&key(20));
                mem.evacuate_all().unwrap();
                DROPS_PANIC.set(drops_panic);
                let panicked = fused(calls, || operation(&mut map));
                DROPS_PANIC.set(false);
                assert_valid(&map);
                mem.evacuate_all().unwrap();
                assert_valid(&map);
                map.insert(key(3000), Once::new());
                drop(map);
                assert!(LIVE.with_borrow(HashSet::is_empty), "{name}, {calls} calls: left {:?}", LIVE.take());
                assert_empty(&mem);
                panics += u32::from(panicked);
                if !panicked {
                    break;
                }
            }
            assert!(
                panics > 0 || name == "shrink_to_fit" || (name == "clear" && !drops_panic),
                "{name} calls no code of the user's"
            );
        }
    }
}

#[test]
fn panic_while_the_map_is_dropped_still_drops_the_rest() {
    quiet();
    for evacuated in [false, true] {
        for calls in [0, 1, 17, 78, 79] {
            let mem = memory(1 << 20);
            let mut map = new_map(&mem);
            for id in 0..40 {
                map.insert(key(id), Once::new());
            }
            if evacuated {
                mem.evacuate_all().unwrap();
            }
            DROPS_PANIC.set(true);
            assert!(fused(calls, || drop(map)));
            DROPS_PANIC.set(false);
            assert!(LIVE.with_borrow(HashSet::is_empty), "{calls} calls: left {:?}", LIVE.take());
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
struct Moody(Once);

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
    let mut map: RemHashMap<Moody, Once> = RemHashMap::new_in(&mem);
    let mut inserted = 0;
    for step in 0..4000 {
        let moody = Moody(Once::new());
        match whim() % 8 {
            0..4 => inserted += usize::from(map.insert(moody, Once::new()).is_none()),
            4 => inserted -= usize::from(map.remove(&moody).is_some()),
            5 => assert!(map.with(&moody, |once| once.ballast == [once.serial; 20]).unwrap_or(true)),
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
        assert!(key.serial != value.serial);
        seen += 1;
    });
    assert_eq!(seen, inserted);
    assert_eq!(LIVE.with_borrow(HashSet::len), 2 * inserted);
    drop(map);
    assert!(LIVE.with_borrow(HashSet::is_empty));
    assert_empty(&mem);
}
