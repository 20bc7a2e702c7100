//! Going through all entries.

use crate::{assert_empty, filled, memory, zeal_contradicts};
use farptr::{Error, Far, RemHashMap};

#[test]
fn for_each_goes_through_ten_times_the_budget() {
    let mem = memory(1 << 20);
    let mut map: RemHashMap<u32, [u32; 250]> = RemHashMap::new_in(&mem);
    map.extend((0..10_000).map(|key| (key, [key; 250])));
    for turn in 0..3 {
        let mut sum = 0u64;
        map.for_each(|key, value| {
            assert_eq!(*value, [*key + turn; 250]);
            sum += u64::from(*key);
        });
        assert_eq!(sum, 10_000 * 9_999 / 2);
        map.for_each_mut(|_, value| value.iter_mut().for_each(|n| *n += 1));
    }
    let mut count = 0;
    map.retain(|key, value| {
        assert_eq!(*value, [*key + 3; 250]);
        count += 1;
        key % 10 == 0
    });
    assert_eq!((count, map.len()), (10_000, 1000));
    map.retain_mut(|key, value| {
        value[0] = 1;
        key % 20 == 0
    });
    assert_eq!(map.len(), 500);
    let mut left = 0;
    for entry in map {
        let (key, value) = entry.unwrap();
        assert!(key % 20 == 0 && value[0] == 1 && value[1] == key + 3);
        left += 1;
    }
    assert_eq!(left, 500);
    assert_empty(&mem);
}

#[test]
fn scan_does_not_make_way_through_the_hot_set() {
    if zeal_contradicts("scan_does_not_make_way_through_the_hot_set", "it measures what stays local, and nothing does") {
        return;
    }
    let mem = memory(4 << 20);
    let hot = filled(2000, &mem);
    let mut cold: RemHashMap<u32, [u64; 128]> = RemHashMap::new_in(&mem);
    cold.extend((0..20_000).map(|key| (key, [1; 128])));
    let touch = || (0..2000).for_each(|key| assert!(hot.contains_key(&key)));
    (0..4).for_each(|_| touch());
    let mut sum = 0;
    for turn in 0..4 {
        // Used between the scans, as a hot set is.
        touch();
        cold.for_each(|key, value| {
            sum += value[0];
            if key % 16 == 0 {
                assert!(hot.contains_key(&u64::from(key / 16 * 7 % 2000)), "turn {turn}");
            }
        });
    }
    assert_eq!(sum, 80_000);
    let before = mem.stats().misses;
    touch();
    let misses = mem.stats().misses - before;
    assert!(misses < 200, "{misses} of 2000 hot entries had left after a scan of five times the budget");
}

/// Something to drop, so that entries are pinned while they are looked at.
#[derive(Far)]
struct Dropped([u64; 128]);

impl Drop for Dropped {
    fn drop(&mut self) {
        assert_eq!(self.0[127], 1);
    }
}

/// How many of 400 entries, new and not used again, have left after `scan` of five times the budget.
fn new_entries_that_leave<V: Far>(value: fn() -> V, scan: impl Fn(&mut RemHashMap<u32, V>)) -> u64 {
    let mem = memory(4 << 20);
    let mut cold = RemHashMap::new_in(&mem);
    cold.extend((0..20_000).map(|key| (key, value())));
    mem.evacuate_all().unwrap();
    let mut new: RemHashMap<u32, [u64; 128]> = RemHashMap::new_in(&mem);
    new.extend((0..400).map(|key| (key, [2; 128])));
    (0..2).for_each(|_| scan(&mut cold));
    let before = mem.stats().misses;
    assert!((0..400).all(|key| new.contains_key(&key)));
    mem.stats().misses - before
}

#[test]
fn what_a_scan_fetches_leaves_before_what_is_new() {
    if zeal_contradicts("what_a_scan_fetches_leaves_before_what_is_new", "it measures what stays local, and nothing does") {
        return;
    }
    let plain = || [1u64; 128];
    let dropped = || Dropped([1; 128]);
    let counts = [
        new_entries_that_leave(plain, |map| map.for_each(|_, value| assert_eq!(value[0], 1))),
        new_entries_that_leave(plain, |map| map.retain(|_, value| value[0] == 1)),
        new_entries_that_leave(dropped, |map| map.for_each(|_, value| assert_eq!(value.0[0], 1))),
        // For comparison: what reading them one by one does.
        new_entries_that_leave(plain, |map| (0..20_000).for_each(|key| assert!(map.contains_key(&key)))),
    ];
    assert!(counts[..3].iter().all(|count| *count < 200) && counts[3] > 300, "{counts:?}");
}

#[test]
fn closures_of_a_scan_have_their_own_hint() {
    let mem = memory(1 << 20);
    let map = filled(10, &mem);
    map.for_each(|_, _| assert_eq!(farptr::scope().hint(), farptr::AccessHint::Normal));
    let scope = farptr::scope_non_temporal();
    map.for_each(|_, _| assert_eq!(farptr::scope().hint(), farptr::AccessHint::NonTemporal));
    assert_eq!(scope.hint(), farptr::AccessHint::NonTemporal);
}

#[test]
fn iterators_know_their_length_and_agree() {
    let mem = memory(1 << 20);
    let mut map = filled(1000, &mem);
    (0..1000).step_by(3).for_each(|key| assert_eq!(map.remove(&key), Some([key; 8])));
    mem.evacuate_all().unwrap();
    let len = map.len();
    {
        let scope = farptr::scope();
        let mut iter = map.iter(&scope);
        assert_eq!(iter.len(), len);
        iter.next().unwrap().unwrap();
        assert_eq!((iter.len(), iter.clone().count()), (len - 1, len - 1));
        let keys: Vec<u64> = map.keys(&scope).map(|key| *key.unwrap()).collect();
        let values: Vec<u64> = map.values(&scope).map(|value| value.unwrap()[7]).collect();
        assert_eq!((keys.len(), &keys), (len, &values));
        assert_eq!(format!("{:?}", map.keys(&scope)), format!("Keys {{ left: {len}, .. }}"));
        // All at a time.
        let mut all: Vec<&mut [u64; 8]> = map.values_mut(&scope).collect::<Result<_, _>>().unwrap();
        all.iter_mut().enumerate().for_each(|(i, value)| value[0] = i as u64);
        assert!(all.iter().enumerate().all(|(i, value)| value[0] == i as u64));
        for entry in map.iter_mut(&scope) {
            let (key, value) = entry.unwrap();
            value[1] = key + 1;
        }
    }
    mem.evacuate_all().unwrap();
    map.for_each(|key, value| assert_eq!((value[1], value[2]), (key + 1, *key)));
    let into_iter = map.into_iter();
    assert_eq!((into_iter.len(), into_iter.take(10).count()), (len, 10));
    assert_empty(&mem);
}

#[test]
fn scope_that_an_iterator_exhausts_ends_in_errors() {
    let mem = memory(1 << 20);
    let mut map: RemHashMap<u32, [u32; 250]> = RemHashMap::new_in(&mem);
    map.extend((0..3000).map(|key| (key, [key; 250])));
    mem.evacuate_all().unwrap();
    {
        let scope = farptr::scope();
        let refused = map.iter(&scope).find_map(Result::err);
        assert!(matches!(refused, Some(Error::ScopeExhausted { .. })), "{refused:?}");
        assert!(matches!(map.try_for_each(|_, _| ()), Err(Error::ScopeExhausted { .. })));
    }
    map.for_each(|key, value| assert_eq!(*value, [*key; 250]));
}

#[test]
fn drained_map_is_empty_and_its_tables_serve_again() {
    let mem = memory(1 << 20);
    let mut map = filled(3000, &mem);
    let capacity = map.capacity();
    assert_eq!(map.drain().take(100).filter(|entry| entry.is_ok()).count(), 100);
    assert_eq!((map.len(), map.capacity()), (0, capacity));
    mem.evacuate_all().unwrap();
    mem.trim().unwrap();
    let before = mem.stats().local_used_bytes;
    map.extend((0..3000).map(|key| (key, [key; 8])));
    mem.evacuate_all().unwrap();
    mem.trim().unwrap();
    assert_eq!(mem.stats().local_used_bytes, before, "the rows were kept");
    assert_eq!(map.get_cloned(&2999), Some([2999; 8]));

    // A drain that is forgotten takes the entries with it, and the map does not see them any more.
    std::mem::forget(map.drain());
    assert!(map.is_empty() && !map.contains_key(&5));
    map.for_each(|_, _| panic!("nothing is there"));
    map.insert(5, [5; 8]);
    assert_eq!(map.get_cloned(&5), Some([5; 8]));
}
