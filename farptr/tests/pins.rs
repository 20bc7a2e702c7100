//! Pins are many and scattered, and local memory is small.

mod common;

use common::{alone, assert_empty, block_on, memory, numbers, zeal_contradicts};
use farptr::{Error, FarMemory, Pinned, RemBox, RemVec};
use std::sync::Barrier;

const BUDGET: usize = 4 << 20;

fn boxes<const N: usize>(mem: &FarMemory, bytes: usize) -> Vec<RemBox<[u8; N]>> {
    (0..bytes / N).map(|n| RemBox::new_in([n as u8; N], mem)).collect()
}

fn check_all<const N: usize>(values: &[RemBox<[u8; N]>]) {
    values.iter().enumerate().for_each(|(n, value)| assert!(value.with(|value| *value == [n as u8; N]), "value {n}"));
}

fn check_pins<const N: usize>(pins: &[(usize, Pinned<'_, [u8; N]>)]) {
    pins.iter().for_each(|(n, pin)| assert!(**pin == [*n as u8; N], "pin of value {n}"));
}

/// Half of the budget can be used beside what is pinned: for pins of a vector's chunks, the hardest use. 32 of the 64 segments, with 7 chunks in each.
/// A quarter of the budget is slots here, and five segments are kept for derefs in scopes.
fn assert_half_is_usable(mem: &FarMemory) {
    let chunks = boxes::<8192>(mem, BUDGET);
    let held: Vec<_> = (0..32 * 7).map(|n| (n, chunks[n].try_pin().unwrap())).collect();
    check_pins(&held);
    drop(held);
    check_all(&chunks);
}

/// "36 pins of 144 bytes use up 4 MiB." Each lay in a segment of its own, a 64th of the budget, and kept all of it.
#[test]
fn one_pin_in_each_segment_leaves_most_of_the_budget() {
    let _alone = alone();
    let mem = memory(BUDGET);
    let values = boxes::<144>(&mem, 3 * BUDGET);
    let apart = BUDGET / 64 / 160;
    // Of the end, where all are local.
    let pins: Vec<_> = (1..=50).map(|n| values.len() - n * apart).map(|n| (n, values[n].try_pin().unwrap())).collect();
    check_all(&values);
    assert_half_is_usable(&mem);
    check_pins(&pins);
    drop(pins);
    drop(values);
    assert_empty(&mem);
}

#[test]
fn thousand_scattered_pins_leave_half_of_the_budget() {
    let _alone = alone();
    let mem = memory(BUDGET);
    let values = boxes::<100>(&mem, 3 * BUDGET);
    let apart = values.len() / 1000;
    let pins: Vec<_> = (0..1000).map(|n| n * apart).map(|n| (n, values[n].try_pin().unwrap())).collect();
    check_all(&values);
    assert_half_is_usable(&mem);
    let mut vec = RemVec::new_in(&mem);
    (0..BUDGET / 4).for_each(|_| vec.push(7u64));
    assert_eq!(vec.with(BUDGET / 8, |n| *n), Some(7));
    check_pins(&pins);
    drop((pins, vec));
    drop(values);
    assert_empty(&mem);
}

/// The same by the forms that don't block, and for writing.
#[test]
fn scattered_pins_for_writing_and_awaited_leave_half_of_the_budget() {
    let _alone = alone();
    let mem = memory(BUDGET);
    let mut values = boxes::<100>(&mem, 3 * BUDGET);
    let apart = values.len() / 400;
    let (awaited, written) = values.split_at_mut(200 * apart);
    let awaited: Vec<_> = (0..200).map(|n| n * apart).map(|n| (n, block_on(awaited[n].pin_async()).unwrap())).collect();
    let mut written: Vec<_> = written.iter_mut().step_by(apart).map(|value| value.try_pin_mut().unwrap()).collect();
    written.iter_mut().for_each(|pin| pin[0] ^= 0x55);
    assert_half_is_usable(&mem);
    check_pins(&awaited);
    drop((awaited, written));
    mem.evacuate_all().unwrap();
    for (n, value) in values.iter().enumerate() {
        let first = if n >= 200 * apart && (n - 200 * apart).is_multiple_of(apart) { n as u8 ^ 0x55 } else { n as u8 };
        assert_eq!(value.with(|value| (value[0], value[99])), (first, n as u8), "value {n}");
    }
    drop(values);
    assert_empty(&mem);
}

#[test]
fn sixteen_threads_pin_eight_chunks_each() {
    let _alone = alone();
    let mem = memory(BUDGET);
    let chunks = boxes::<8192>(&mem, 4 * BUDGET);
    let all_hold = Barrier::new(16);
    std::thread::scope(|threads| {
        for thread in 0..16 {
            let (chunks, all_hold) = (&chunks, &all_hold);
            threads.spawn(move || {
                for round in 0..4 {
                    let held: Vec<_> = (0..8).map(|n| (thread * 8 + n * 131 + round * 17) % chunks.len()).collect();
                    let held: Vec<_> = held.into_iter().map(|n| (n, chunks[n].try_pin().unwrap())).collect();
                    all_hold.wait();
                    check_pins(&held);
                    all_hold.wait();
                }
            });
        }
    });
    check_all(&chunks);
    drop(chunks);
    assert_empty(&mem);
}

/// A reference that was got before the pin moved its object is one to the old place.
#[test]
fn reference_from_before_a_pin_moved_the_object_stays_good() {
    let _alone = alone();
    let mem = memory(BUDGET);
    let values = boxes::<144>(&mem, 2 << 20);
    let apart = BUDGET / 64 / 160;
    let picked: Vec<_> = (1..=24).map(|n| values.len() - n * apart).collect();
    let scope = farptr::scope();
    let before: Vec<_> = picked.iter().map(|n| values[*n].get(&scope)).collect();
    let pins: Vec<_> = picked.iter().map(|n| (*n, values[*n].try_pin().unwrap())).collect();
    let moved = pins.iter().zip(&before).filter(|((_, pin), before)| !std::ptr::eq(&raw const **pin, **before)).count();
    // Under zeal all had left, and lie close together since they were fetched.
    assert!(moved > 0 || cfg!(farptr_zeal), "no pin has moved its object");
    std::thread::scope(|threads| {
        // Sweeps and rounds that can't wait for this scope, and new objects that would lie where the old ones did.
        threads.spawn(|| {
            mem.trim().unwrap();
            drop((0..500).map(|_| RemBox::try_new_in([0xeeu8; 144], &mem)).collect::<Vec<_>>());
            mem.trim().unwrap();
        });
    });
    before.iter().zip(&picked).for_each(|(value, n)| assert_eq!(**value, [*n as u8; 144], "value {n}"));
    check_pins(&pins);
    drop(pins);
    drop(scope);
    drop(values);
    assert_empty(&mem);
}

/// Threads pin, write under pins, write in scopes, replace and read, each its own objects; each knows what they hold.
#[test]
fn pins_come_and_go_under_traffic() {
    const OBJECTS: usize = 12_000;
    let _alone = alone();
    let mem = memory(BUDGET);
    std::thread::scope(|threads| {
        for thread in 0..4u64 {
            let mem = &mem;
            threads.spawn(move || {
                let mut random = numbers(thread + 1);
                let mut values: Vec<_> = (0..OBJECTS as u64).map(|n| RemBox::new_in([n; 20], mem)).collect();
                let mut model: Vec<_> = (0..OBJECTS as u64).collect();
                for _ in 0..if cfg!(farptr_zeal) { 3 } else { 30 } {
                    let held: Vec<_> = (0..60).map(|_| random() as usize % OBJECTS).map(|n| (n, values[n].pin())).collect();
                    for _ in 0..200 {
                        let n = random() as usize % OBJECTS;
                        assert!(values[n].with(|value| *value == [model[n]; 20]), "value {n}");
                        assert!(*values[n].pin() == [model[n]; 20], "value {n}, pinned");
                    }
                    held.iter().for_each(|(n, pin)| assert!(**pin == [model[*n]; 20], "value {n}, held"));
                    drop(held);
                    for _ in 0..100 {
                        let n = random() as usize % OBJECTS;
                        model[n] = random();
                        match random() % 3 {
                            0 => *values[n].pin_mut() = [model[n]; 20],
                            1 => values[n].with_mut(|value| *value = [model[n]; 20]),
                            _ => values[n] = RemBox::new_in([model[n]; 20], mem),
                        }
                    }
                }
                values.iter().zip(&model).for_each(|(value, model)| assert!(value.with(|value| *value == [*model; 20])));
            });
        }
    });
    assert_empty(&mem);
}

/// "Everything local is pinned or in use", it said, of a heap in which nothing was.
#[test]
fn error_says_that_slots_fill_the_budget() {
    if zeal_contradicts("error_says_that_slots_fill_the_budget", "a million objects take too long") {
        return;
    }
    let _alone = alone();
    let mem = memory(2 << 20);
    let mut values = Vec::new();
    let error = loop {
        match RemBox::try_new_in(0u64, &mem) {
            Ok(value) => values.push(value),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::OutOfLocalMemory { why, .. } if why.contains("slots and tables")), "{error}");
    assert!(values.len() > 100_000, "{}", values.len());
}

#[test]
fn error_says_that_pins_fill_the_budget() {
    let _alone = alone();
    let mem = memory(BUDGET);
    let chunks = boxes::<8192>(&mem, 3 * BUDGET);
    let mut pins = Vec::new();
    let error = chunks.iter().find_map(|chunk| match chunk.try_pin() {
        Ok(pin) => {
            pins.push(pin);
            None
        }
        Err(error) => Some(error),
    });
    let error = error.expect("three times the budget can't be pinned");
    assert!(matches!(&error, Error::OutOfLocalMemory { why, .. } if why.contains("pinned objects")), "{error}");
    assert!(pins.len() > BUDGET / 8192 * 5 / 8, "{}", pins.len());
}
