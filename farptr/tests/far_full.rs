//! Far memory that is nearly full, and full.
//!
//! The story: objects of 4 KiB took 82% of far memory and were overwritten at random. Within a second every operation on a far object failed with `FarMemoryFull`,
//! reads included, and went on failing after 60% of the objects had been dropped. The cleaner had spent its last free segment on a victim in which
//! one image was being fetched. Where far memory was really full, 169 overwrites made nine reads in ten fail, for dirty objects that could not leave had taken
//! all of local memory.

mod common;

use common::{assert_empty, numbers};
use farptr::{Error, FarMemory, RemBox, RemHashMap, RemVec};
use std::time::{Duration, Instant};

const FAR: u64 = 64 << 20;

/// A sixteenth of far memory.
const LOCAL: u64 = 4 << 20;

fn memory(far: u64, local: u64) -> FarMemory {
    FarMemory::builder().local_budget(local as usize).server("embedded:").far_capacity(far).build().unwrap()
}

/// How many objects whose images take `image` bytes make `percent` of far memory.
fn count(percent: u64, image: u64) -> usize {
    (FAR * percent / 100 / image) as usize
}

#[test]
fn boxes_are_overwritten_for_ever_up_to_98_percent() {
    for percent in [70, 80, 90, 95, 98] {
        let mem = memory(FAR, LOCAL);
        let mut next = numbers(percent);
        let mut boxes: Vec<RemBox<[u8]>> =
            (0..count(percent, 4112)).map(|i| RemBox::from_slice_in(&[i as u8; 4096], &mem)).collect();
        for step in 0..4 * boxes.len() {
            let number = next() as usize % boxes.len();
            boxes[number].try_with_mut(|bytes| bytes[1] ^= 1).unwrap_or_else(|error| panic!("{percent}%, step {step}: {error}"));
            let number = next() as usize % boxes.len();
            let first = boxes[number].try_with(|bytes| bytes[0]);
            assert_eq!(first.unwrap_or_else(|error| panic!("{percent}%, step {step}: {error}")), number as u8);
        }
        drop(boxes);
        assert_empty(&mem);
    }
}

#[test]
fn four_threads_overwrite_at_95_percent() {
    let mem = memory(FAR, LOCAL);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let mem = &mem;
            scope.spawn(move || {
                let mut next = numbers(thread + 77);
                let mut boxes: Vec<RemBox<[u8]>> =
                    (0..count(95, 4112) / 4).map(|i| RemBox::from_slice_in(&[i as u8; 4096], mem)).collect();
                for step in 0..4 * boxes.len() {
                    let number = next() as usize % boxes.len();
                    boxes[number].try_with_mut(|bytes| bytes[1] ^= 1).unwrap_or_else(|error| panic!("step {step}: {error}"));
                }
            });
        }
    });
    assert_empty(&mem);
}

#[test]
fn vectors_and_maps_are_overwritten_at_90_percent() {
    let mem = memory(FAR, LOCAL);
    let mut next = numbers(4);
    let mut vector: RemVec<u64> = RemVec::new_in(&mem);
    let mut map: RemHashMap<u64, [u8; 1000]> = RemHashMap::new_in(&mem);
    (0..FAR * 45 / 100 / 8).for_each(|i| vector.push(i));
    (0..FAR * 45 / 100 / 1040).for_each(|i| assert!(map.insert(i, [i as u8; 1000]).is_none()));
    let (len, keys) = (vector.len(), map.len() as u64);
    for step in 0..60_000 {
        let (at, key) = (next() as usize % len, next() % keys);
        vector.try_with_mut(at, |value| *value = at as u64).unwrap_or_else(|error| panic!("step {step}: {error}"));
        let found = map.try_with_mut(&key, |value| {
            value[9] ^= 1;
            value[0]
        });
        assert_eq!(found.unwrap_or_else(|error| panic!("step {step}: {error}")), Some(key as u8));
    }
    drop((vector, map));
    assert_empty(&mem);
}

#[test]
fn objects_of_all_sizes_are_overwritten_when_no_more_can_be_made() {
    let mem = memory(FAR, LOCAL);
    let mut next = numbers(8);
    let mut values: Vec<RemBox<[u8]>> = Vec::new();
    // One in a hundred is large: beyond 64 KiB.
    let size = |next: &mut dyn FnMut() -> u64| if next().is_multiple_of(100) { 200_000 } else { 1 << (5 + next() % 11) };
    let error = loop {
        let bytes = vec![values.len() as u8; size(&mut next)];
        match RemBox::try_from_slice_in(&bytes, &mem) {
            Ok(value) => values.push(value),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::FarMemoryFull { .. }), "{error}");
    for step in 0..values.len() * 3 {
        let number = next() as usize % values.len();
        values[number].try_with_mut(|bytes| bytes[1] ^= 1).unwrap_or_else(|error| panic!("step {step}: {error}"));
        let number = next() as usize % values.len();
        assert_eq!(
            values[number].try_with(|bytes| bytes[0]).unwrap_or_else(|error| panic!("step {step}: {error}")),
            number as u8
        );
    }
    drop(values);
    assert_empty(&mem);
}

/// Fills far memory, overwrites as much as it holds, and then reads and removes.
#[test]
fn what_exists_can_be_read_and_removed_when_far_memory_is_full_and_removing_makes_room() {
    let mem = memory(FAR, LOCAL);
    let mut map: RemHashMap<u64, [u8; 1000]> = RemHashMap::new_in(&mem);
    let mut keys = 0;
    let error = loop {
        match map.try_insert(keys, [keys as u8; 1000]) {
            Ok(_) => keys += 1,
            Err(error) => break error,
        }
    };
    let Error::FarMemoryFull { promised_bytes, usable_bytes, .. } = error else { panic!("{error}") };
    assert!(promised_bytes > usable_bytes && usable_bytes > FAR * 9 / 10, "{error}");
    assert!(keys * 1040 > FAR * 95 / 100, "{keys} entries: {error}");
    let mut next = numbers(3);
    for step in 0..keys {
        map.try_with_mut(&(next() % keys), |value| value[3] ^= 1).unwrap_or_else(|error| panic!("step {step}: {error}"));
    }
    for step in 0..20_000 {
        let key = next() % keys;
        let read = map.try_with(&key, |value| value[7]);
        assert_eq!(read.unwrap_or_else(|error| panic!("step {step}: {error}")), Some(key as u8));
    }
    // New ones are refused at once, but for a few: the part of local memory that may be promised has grown, since less is kept for scopes.
    let more = (keys..).take_while(|key| map.try_insert(*key, [*key as u8; 1000]).is_ok()).count() as u64;
    assert!(more < keys / 100, "{more} of {keys}");
    let started = Instant::now();
    assert!(matches!(map.try_insert(u64::MAX, [0; 1000]), Err(Error::FarMemoryFull { .. })));
    assert!(started.elapsed() < Duration::from_secs(1));
    for key in 0..keys / 20 {
        assert!(map.try_remove(&key).unwrap_or_else(|error| panic!("{key}: {error}")).is_some());
    }
    for key in 0..keys / 25 {
        map.try_insert(2 * keys + key, [0; 1000]).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    drop(map);
    assert_empty(&mem);
}

/// What is kept for scopes is more when a thread has come. It took from what had been promised to objects that exist: a third of a new thread's writes failed, and more of what replaced a value.
#[test]
fn a_thread_that_comes_when_far_memory_is_full_can_write_what_exists() {
    let mem = memory(32 << 20, LOCAL);
    let mut map: RemHashMap<u64, [u8; 400]> = RemHashMap::new_in(&mem);
    let keys = (0..).take_while(|key| map.try_insert(*key, [*key as u8; 400]).is_ok()).count() as u64;
    for thread in 1..5 {
        let map = &mut map;
        let writes = move || {
            let mut next = numbers(thread);
            for step in 0..5000 {
                let (key, other) = (next() % keys, next() % keys);
                map.try_with_mut(&key, |value| value[1] ^= 1).unwrap_or_else(|error| panic!("step {step}: {error}"));
                map.try_insert(other, [other as u8; 400]).unwrap_or_else(|error| panic!("step {step}: {error}"));
            }
        };
        std::thread::scope(|threads| threads.spawn(writes).join().unwrap());
    }
    assert_eq!(map.len() as u64, keys);
    drop(map);
    assert_empty(&mem);
}
