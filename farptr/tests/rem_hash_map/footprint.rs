//! How much local memory a map keeps when all its entries are far.

use crate::{assert_empty, filled, memory, numbers};
use farptr::{Error, FarMemory, RemHashMap};

/// What the issue allows.
const BYTES_PER_ENTRY: u64 = 24;

/// One row of 512 that is not full, a page of slots for each of the two shorter kinds, and the tail of the last page of rows.
const SLACK: u64 = 512 * 12 + 3 * 4096;

/// Local bytes in use, all objects being far.
fn resting(mem: &FarMemory) -> u64 {
    mem.evacuate_all().unwrap();
    mem.trim().unwrap();
    mem.stats().local_used_bytes
}

#[test]
fn resting_map_keeps_at_most_24_bytes_an_entry() {
    let mem = memory(16 << 20);
    let mut map: RemHashMap<u64, [u8; 64]> = RemHashMap::new_in(&mem);
    let mut previous = 0;
    // About each point at which the index doubles, and between.
    let sizes = (4..19).flat_map(|bits| {
        let full = (1usize << bits) / 8 * 7;
        [full, full + 1, full * 4 / 3]
    });
    for size in sizes {
        map.extend((map.len() as u64..size as u64).map(|key| (key, [key as u8; 64])));
        assert_eq!(map.len(), size);
        let used = resting(&mem);
        assert!(used <= BYTES_PER_ENTRY * size as u64 + SLACK, "{size} entries keep {used} bytes");
        assert!(used >= 12 * size as u64, "{size} entries keep {used} bytes, less than their slots and hashes");
        assert!(map.capacity() >= size && map.capacity() >= previous);
        previous = map.capacity();
    }
    drop(map);
    assert_empty(&mem);
}

#[test]
fn bound_holds_after_much_coming_and_going() {
    let mem = memory(8 << 20);
    let mut next = numbers(5);
    let full = (1u64 << 16) / 8 * 7;
    for size in [full * 3 / 4, full * 30 / 32, full * 31 / 32 + 1, full - 1] {
        let mut map: RemHashMap<u64, [u8; 64]> = RemHashMap::new_in(&mem);
        let mut keys: Vec<u64> = (0..size).collect();
        map.extend(keys.iter().map(|key| (*key, [0; 64])));
        for fresh in size..3 * size {
            let gone = next() as usize % keys.len();
            assert!(map.remove(&std::mem::replace(&mut keys[gone], fresh)).is_some());
            assert!(map.insert(fresh, [0; 64]).is_none());
        }
        let used = resting(&mem);
        assert!(used <= BYTES_PER_ENTRY * size + SLACK, "{size} entries keep {used} bytes");
        assert!(keys.iter().all(|key| map.contains_key(key)));
        drop(map);
        assert_empty(&mem);
    }
}

#[test]
fn small_maps_are_small() {
    let mem = memory(4 << 20);
    // Slots come by the page, which maps share: so many maps, and what one of them costs.
    for (entries, bytes) in
        [(0, 0), (1, 16 * 12 + 36 + 128 + 8), (16, 16 * 12 + 32 * 5 + 16 + 128 + 8), (80, 80 * 12 + 128 * 5 + 16 + 128 + 24)]
    {
        let maps: Vec<_> = (0..256).map(|_| filled(entries, &mem)).collect();
        let used = resting(&mem);
        assert!(used <= 256 * bytes + 2 * 4096, "a map of {entries} entries keeps {} bytes", used / 256);
        drop(maps);
        assert_empty(&mem);
    }
}

#[test]
fn shrinking_gives_back_what_the_rest_does_not_need() {
    let mem = memory(4 << 20);
    let mut map = filled(50_000, &mem);
    let full = resting(&mem);
    map.retain(|key, _| key % 100 == 99);
    assert!(resting(&mem) > full / 2, "removal alone keeps the tables");
    map.shrink_to_fit();
    let used = resting(&mem);
    assert!(used <= BYTES_PER_ENTRY * 500 + SLACK, "500 entries keep {used} bytes");
    for key in 0..50_000 {
        assert_eq!(map.contains_key(&key), key % 100 == 99);
    }
    map.for_each(|key, value| assert_eq!(*value, [*key; 8]));
    map.clear();
    map.shrink_to_fit();
    assert_eq!(resting(&mem), 0);
    assert_eq!(map.capacity(), 0);
    map.insert(1, [1; 8]);
    assert_eq!(map.get_cloned(&1), Some([1; 8]));
}

#[test]
fn map_that_can_not_grow_is_as_it_was() {
    let mem = memory(1 << 20);
    let mut map: RemHashMap<u64, u64> = RemHashMap::new_in(&mem);
    let mut refused = None;
    let mut inserted = 0;
    for key in 0..200_000 {
        match map.try_insert(key, key) {
            Ok(_) => inserted += 1,
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    assert!(matches!(refused, Some(Error::OutOfLocalMemory { .. })), "{refused:?}");
    // 24 bytes an entry, and twice as much for the moment of growth.
    assert!(inserted >= 20_000 && map.len() == inserted, "{inserted}");
    assert!(mem.stats().local_used_bytes <= 1 << 20);
    let before = mem.stats();
    assert!(matches!(map.try_reserve(1 << 20), Err(Error::OutOfLocalMemory { .. })));
    assert!(matches!(map.try_reserve(usize::MAX), Err(Error::CapacityOverflow { limit: 0xffff_ffff, .. })));
    assert!(matches!(map.try_reserve(1 << 32), Err(Error::CapacityOverflow { .. })));
    assert!(RemHashMap::<u64, u64>::try_with_capacity_in(1 << 40, &mem).is_err());
    assert_eq!(mem.stats().local_budget_bytes, before.local_budget_bytes);
    for key in 0..inserted as u64 {
        assert_eq!(map.remove(&key), Some(key));
    }
    assert!(map.is_empty());
    drop(map);
    assert_empty(&mem);
}

#[test]
fn full_far_memory_is_an_error_and_keeps_what_is_there() {
    let mem = FarMemory::builder().local_budget(1 << 20).far_capacity(2 << 20).build().unwrap();
    let mut map: RemHashMap<u32, [u32; 256]> = RemHashMap::new_in(&mem);
    let refused = (0..10_000).find_map(|key| map.try_insert(key, [key; 256]).err());
    assert!(matches!(refused, Some(Error::FarMemoryFull { .. } | Error::OutOfLocalMemory { .. })), "{refused:?}");
    let len = map.len() as u32;
    assert!(len > 1000, "{len}");
    // Nothing can leave, so nothing can come in; but what is here can be removed, and makes room for the rest.
    for key in (0..len).rev() {
        assert_eq!(map.remove(&key), Some([key; 256]), "{key} of {len}");
    }
    assert_eq!(map.insert(1, [1; 256]), None);
    drop(map);
    assert_empty(&mem);
}

/// Takes a minute, and 1.3 GB for the embedded server: run by `cargo test --release -p farptr --test rem_hash_map -- --ignored --nocapture`.
#[test]
#[ignore = "10 M entries; in release mode"]
fn footprint_of_ten_million_entries() {
    const ENTRIES: u64 = 10_000_000;
    let mem = memory(512 << 20);
    let mut map: RemHashMap<u64, [u8; 64]> = RemHashMap::new_in(&mem);
    let started = std::time::Instant::now();
    for key in 0..ENTRIES {
        map.insert(key, [key as u8; 64]);
    }
    let inserted = started.elapsed();
    let used = resting(&mem);
    println!(
        "{ENTRIES} entries of 8 + 64 bytes: {used} bytes local when all is evacuated, {:.2} an entry (bound {BYTES_PER_ENTRY}); far {} bytes; inserted in {inserted:.1?}",
        used as f64 / ENTRIES as f64,
        mem.stats().far_live_bytes,
    );
    assert!(used <= BYTES_PER_ENTRY * ENTRIES);
    for key in (0..ENTRIES + 1000).step_by(997) {
        assert_eq!(map.with(&key, |value| value[63]), (key < ENTRIES).then_some(key as u8));
    }
    let started = std::time::Instant::now();
    drop(map);
    println!("dropped in {:.1?}", started.elapsed());
    assert_empty(&mem);
}
