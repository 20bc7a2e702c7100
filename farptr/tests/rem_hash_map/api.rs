//! What the methods promise one by one.

use crate::{assert_empty, filled, memory, zeal_contradicts};
use farptr::rem_hash_map::{Drain, Entry, IntoIter, PinnedValue, PinnedValueMut, ValueMut};
use farptr::{Error, Far, RemHashMap};
use std::borrow::Borrow;
use std::cell::Cell;
use std::hash::{BuildHasherDefault, DefaultHasher};

const fn send_and_sync<T: Send + Sync>() {}
const _: () = {
    send_and_sync::<RemHashMap<u64, [u8; 64]>>();
    send_and_sync::<Entry<'_, u64, u64>>();
    send_and_sync::<ValueMut<'_, u64, u64>>();
    send_and_sync::<IntoIter<u64, u64>>();
    send_and_sync::<Drain<'_, u64, u64>>();
    send_and_sync::<PinnedValue<'_, u64, u64>>();
    send_and_sync::<PinnedValueMut<'_, u64, u64>>();
};

#[test]
fn value_survives_the_way_there_and_back() {
    let mem = memory(1 << 20);
    let mut map = RemHashMap::new_in(&mem);
    assert_eq!(map.insert("key".len(), [1u64; 4]), None);
    mem.evacuate_all().unwrap();
    assert_eq!(map.insert(3, [2; 4]), Some([1; 4]));
    mem.evacuate_all().unwrap();
    {
        let scope = farptr::scope();
        assert_eq!(map.get(&3, &scope), Some(&[2; 4]));
        assert_eq!(map.get_key_value(&3, &scope), Some((&3, &[2; 4])));
        assert_eq!(map.get(&4, &scope), None);
        map.get_mut(&3, &scope).unwrap()[1] = 9;
        assert_eq!(map.get_mut(&4, &scope), None);
    }
    mem.evacuate_all().unwrap();
    assert_eq!(map.with_mut(&3, |value| std::mem::replace(&mut value[0], 8)), Some(2));
    assert_eq!(map.with_mut(&4, |_| ()), None);
    assert_eq!(map.remove_entry(&3), Some((3, [8, 9, 2, 2])));
    assert_eq!(map.remove_entry(&3), None);
    drop(map);
    assert_empty(&mem);
}

#[test]
fn miss_without_an_equal_hash_fetches_nothing() {
    if zeal_contradicts(
        "miss_without_an_equal_hash_fetches_nothing",
        "an entry may leave between its swap-in and its use, and is fetched twice",
    ) {
        return;
    }
    let mem = memory(1 << 20);
    let map = filled(2000, &mem);
    mem.evacuate_all().unwrap();
    let before = mem.stats().misses;
    assert!((2000..4000).all(|key| !map.contains_key(&key)));
    assert_eq!(mem.stats().misses, before);
    assert!((0..100).all(|key| map.contains_key(&key)));
    assert_eq!(mem.stats().misses, before + 100);
}

#[test]
fn growth_fetches_nothing_and_asks_no_key_for_its_hash() {
    #[derive(Far, PartialEq, Eq)]
    struct Counted(u32);
    thread_local!(static HASHED: Cell<u32> = const { Cell::new(0) });
    impl std::hash::Hash for Counted {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            HASHED.set(HASHED.get() + 1);
            self.0.hash(state);
        }
    }
    let mem = memory(1 << 20);
    let mut map = RemHashMap::new_in(&mem);
    map.extend((0..2000).map(|n| (Counted(n), n)));
    mem.evacuate_all().unwrap();
    let (misses, hashed, capacity) = (mem.stats().misses, HASHED.get(), map.capacity());
    map.reserve(10_000);
    assert!(map.capacity() >= 12_000 && capacity < 12_000);
    assert_eq!((mem.stats().misses, HASHED.get(), hashed), (misses, 2000, 2000));
    assert_eq!(map.get_cloned(&Counted(1999)), Some(1999));
}

#[test]
fn key_that_is_there_stays_when_its_value_is_replaced() {
    /// Equal by its first field.
    #[derive(Far, Debug, Clone, Copy)]
    struct Labelled(u32, u32);
    impl PartialEq for Labelled {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Labelled {}
    impl std::hash::Hash for Labelled {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }
    impl Borrow<u32> for Labelled {
        fn borrow(&self) -> &u32 {
            &self.0
        }
    }
    let mem = memory(1 << 20);
    let mut map = RemHashMap::new_in(&mem);
    map.insert(Labelled(1, 10), 'a');
    map.insert(Labelled(1, 11), 'b');
    let scope = farptr::scope();
    assert_eq!(map.get_key_value(&1, &scope).map(|(key, value)| (key.1, *value)), Some((10, 'b')));
    assert_eq!(map.get(&1u32, &scope), Some(&'b'));
    let entry = map.entry(Labelled(1, 12));
    assert_eq!(entry.key().1, 12);
    let Entry::Occupied(entry) = entry else { panic!("the key is there") };
    assert_eq!(entry.remove_entry().0.1, 10);
}

#[test]
fn entries_do_what_those_of_std_do() {
    let mem = memory(1 << 20);
    let mut map: RemHashMap<u32, [u32; 2]> = RemHashMap::with_capacity_in(100, &mem);
    assert!(map.capacity() >= 100);
    map.entry(1).or_insert([1, 1]).with_mut(|value| value[1] = 2);
    mem.evacuate_all().unwrap();
    assert_eq!(map.entry(1).or_insert([7, 7]).with(|value| *value), [1, 2]);
    assert_eq!(map.entry(2).or_insert_with_key(|key| [*key; 2]).with(|value| *value), [2, 2]);
    assert_eq!(map.entry(2).or_insert_with(|| panic!("it is there")).with(|value| *value), [2, 2]);
    map.entry(3).and_modify(|_| panic!("it is not there")).or_default();
    map.entry(3).and_modify(|value| value[0] += 4).or_insert([0; 2]);
    {
        let scope = farptr::scope();
        *map.entry(3).or_default().into_mut(&scope) = [5, 6];
        let Entry::Occupied(mut entry) = map.entry(3) else { panic!("it is there") };
        assert_eq!((entry.key(), entry.get(&scope)), (&3, &[5, 6]));
        entry.get_mut(&scope)[0] = 1;
        assert_eq!(entry.insert([9, 9]), [1, 6]);
        assert_eq!(entry.with(|value| value[0]), 9);
        entry.into_mut(&scope)[1] = 8;
    }
    mem.evacuate_all().unwrap();
    let Entry::Occupied(entry) = map.entry(3) else { panic!("it is there") };
    assert_eq!(entry.remove(), [9, 8]);
    let Entry::Vacant(entry) = map.entry(3) else { panic!("it was removed") };
    assert_eq!((*entry.key(), format!("{entry:?}")), (3, "VacantEntry(3)".into()));
    assert_eq!(entry.into_key(), 3);
    assert_eq!(map.len(), 2);
    assert_eq!(format!("{map:?}"), format!("RemHashMap {{ len: 2, capacity: {}, .. }}", map.capacity()));
    drop(map);
    assert_empty(&mem);
}

#[test]
fn pinned_values_stay_where_they_are() {
    let mem = memory(1 << 20);
    let mut map = filled(1000, &mem);
    mem.evacuate_all().unwrap();
    assert!(map.pin(&1000).is_none() && map.pin_mut(&1000).is_none());
    {
        let pins: Vec<_> = (0..100).map(|key| map.pin(&key).unwrap()).collect();
        let addresses: Vec<_> = pins.iter().map(|pin| std::ptr::from_ref::<[u64; 8]>(pin) as usize).collect();
        mem.evacuate_all().unwrap();
        for (key, pin) in pins.iter().enumerate() {
            assert_eq!((pin.key(), **pin), (&(key as u64), [key as u64; 8]));
            assert_eq!(std::ptr::from_ref::<[u64; 8]>(pin) as usize, addresses[key]);
        }
    }
    {
        let mut pin = map.pin_mut(&5).unwrap();
        mem.evacuate_all().unwrap();
        pin[7] = 6;
        assert_eq!((*pin.key(), pin[0]), (5, 5));
    }
    mem.evacuate_all().unwrap();
    assert_eq!(map.get_cloned(&5), Some([5, 5, 5, 5, 5, 5, 5, 6]));
    drop(map);
    assert_empty(&mem);
}

#[test]
fn scope_of_the_callers_may_be_exhausted_and_a_closure_outside_is_not() {
    let mem = memory(1 << 20);
    let mut map: RemHashMap<u32, [u32; 256]> = RemHashMap::new_in(&mem);
    map.extend((0..3000).map(|key| (key, [key; 256])));
    {
        let scope = farptr::scope();
        let mut held = Vec::new();
        let refused = (0..3000).find_map(|key| match map.try_get(&key, &scope) {
            Ok(value) => {
                held.push(value.unwrap());
                None
            }
            Err(error) => Some(error),
        });
        assert!(matches!(refused, Some(Error::ScopeExhausted { .. })), "{refused:?}");
        assert!((0..3000).any(|key| matches!(map.try_with(&key, |_| ()), Err(Error::ScopeExhausted { .. }))));
        assert!(held.iter().enumerate().all(|(key, value)| **value == [key as u32; 256]));
        drop(held);
        // Taking out needs no local memory, though finding may.
        assert!((0..3000).any(|key| map.try_remove(&key).is_ok_and(|value| value == Some([key; 256]))));
    }
    assert_eq!(map.len(), 2999);
    assert_eq!((0..3000).filter(|key| map.with(key, |value| value[255]) == Some(*key)).count(), 2999);
    drop(map);
    assert_empty(&mem);
}

#[test]
fn hasher_is_the_one_given() {
    let mem = memory(1 << 20);
    let hasher = BuildHasherDefault::<DefaultHasher>::new();
    let mut map = RemHashMap::with_capacity_and_hasher_in(10, hasher, &mem);
    map.insert(1, 2);
    let _: &BuildHasherDefault<DefaultHasher> = map.hasher();
    map.extend([(&3, &4)]);
    assert_eq!((map.get_cloned(&1), map.get_cloned(&3)), (Some(2), Some(4)));
}

#[test]
fn map_outlives_the_handle_it_was_made_with() {
    let mem = memory(1 << 20);
    let mut map = filled(100, &mem);
    drop(mem);
    map.extend((100..5000).map(|key| (key, [key; 8])));
    assert!((0..5000).all(|key| map.with(&key, |value| *value) == Some([key; 8])));
}
