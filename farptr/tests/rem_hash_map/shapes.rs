//! Contents of unusual shapes.

use crate::{assert_empty, memory};
use farptr::{Error, Far, RemBox, RemHashMap};
use std::hash::{Hash, Hasher};

#[test]
fn zero_sized_keys_and_values() {
    let mem = memory(1 << 20);
    let mut unit: RemHashMap<(), ()> = RemHashMap::new_in(&mem);
    assert_eq!((unit.insert((), ()), unit.insert((), ()), unit.len()), (None, Some(()), 1));
    let mut set: RemHashMap<u32, ()> = RemHashMap::new_in(&mem);
    set.extend((0..5000).map(|key| (key, ())));
    mem.evacuate_all().unwrap();
    assert!((0..6000).all(|key| set.contains_key(&key) == (key < 5000)));
    assert_eq!(unit.remove(&()), Some(()));
    assert_eq!(unit.remove(&()), None);
    drop((unit, set));
    assert_empty(&mem);
}

#[derive(Far, Clone, Copy, PartialEq, Debug)]
#[repr(align(64))]
struct Line(u64);

#[derive(Far, Clone, Copy, PartialEq, Debug)]
#[repr(align(4096))]
struct Page(u8);

#[derive(Far, Clone, Copy, PartialEq, Debug)]
#[repr(align(8192))]
struct TwoPages(u8);

#[test]
fn over_aligned_values() {
    let mem = memory(2 << 20);
    let mut lines: RemHashMap<u64, Line> = RemHashMap::new_in(&mem);
    let mut pages: RemHashMap<u16, Page> = RemHashMap::new_in(&mem);
    lines.extend((0..5000).map(|key| (key, Line(key))));
    pages.extend((0..500).map(|key| (key, Page(key as u8))));
    mem.evacuate_all().unwrap();
    for key in 0..5000 {
        assert!(lines.with(&key, |line| line.0 == key && std::hint::black_box(std::ptr::from_ref(line)).is_aligned()).unwrap());
    }
    for key in 0..500 {
        assert!(
            pages.with(&key, |page| page.0 == key as u8 && std::hint::black_box(std::ptr::from_ref(page)).is_aligned()).unwrap()
        );
    }
    pages.shrink_to_fit();
    assert_eq!(pages.remove(&77), Some(Page(77)));
    drop((lines, pages));
    assert_empty(&mem);
}

#[test]
fn alignment_beyond_a_page_is_an_error() {
    let mem = memory(2 << 20);
    let mut map = RemHashMap::new_in(&mem);
    let refused = map.try_insert(1, TwoPages(1));
    assert!(matches!(refused, Err(Error::CapacityOverflow { limit: 4096, .. })), "{refused:?}");
    assert!(map.is_empty() && !map.contains_key(&1));
    drop(map);
    assert_empty(&mem);
}

#[test]
fn values_of_a_mebibyte() {
    const MIB: usize = 1 << 20;
    // They pass through the stack on their way.
    let thread = std::thread::Builder::new().stack_size(64 * MIB).spawn(|| {
        let mem = memory(6 * MIB);
        let mut map: RemHashMap<u8, [u8; MIB]> = RemHashMap::new_in(&mem);
        for key in 0..20 {
            assert!(map.insert(key, [key; MIB]).is_none());
        }
        for key in (0..20).rev() {
            map.with_mut(&key, |value| value[MIB / 2] = !key).unwrap();
        }
        for key in 0..10 {
            let value = map.remove(&key).unwrap();
            assert!((value[0], value[MIB / 2], value[MIB - 1]) == (key, !key, key));
        }
        map.shrink_to_fit();
        let mut seen = 0;
        map.for_each(|key, value| {
            assert!(*key >= 10 && (value[MIB / 2 - 1], value[MIB / 2]) == (*key, !key));
            seen += 1;
        });
        assert_eq!(seen, 10);
        drop(map);
        assert_empty(&mem);
    });
    thread.unwrap().join().unwrap();
}

/// A key that is far itself, so that comparing two swaps in.
#[derive(Far)]
struct Name(RemBox<str>);

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.with(|name| name.hash(state));
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        // The texts one after the other: in one scope, both would have to fit.
        let own = self.0.with(str::to_owned);
        other.0.with(|name| *name == own)
    }
}

impl Eq for Name {}

#[test]
fn keys_and_values_that_own_far_objects() {
    let mem = memory(1 << 20);
    let name = |n: u32| Name(RemBox::from_str_in(&format!("{n:0>500}"), &mem));
    let mut map: RemHashMap<Name, RemBox<[u32]>> = RemHashMap::new_in(&mem);
    for n in 0..2000 {
        assert!(map.insert(name(n), RemBox::from_slice_in(&[n; 50], &mem)).is_none());
    }
    assert!(mem.stats().local_used_bytes <= 1 << 20);
    for n in (0..2000).rev() {
        assert_eq!(map.with(&name(n), |value| value.with(|value| value[49])), Some(n));
    }
    for n in (0..2000).step_by(2) {
        assert_eq!(map.remove(&name(n)).map(|value| value.len()), Some(50));
    }
    assert!(!map.contains_key(&name(2)) && map.contains_key(&name(3)));
    mem.evacuate_all().unwrap();
    drop(map);
    assert_eq!(mem.stats().lost_drops, 0);
    assert_empty(&mem);
}
