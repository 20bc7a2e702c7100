//! A map does not change, move or go away while a part of it is borrowed.

use farptr::RemHashMap;

fn inserted_under_a_reference(mut map: RemHashMap<u32, u64>) {
    let scope = farptr::scope();
    let value = map.get(&1, &scope);
    map.insert(2, 2);
    println!("{value:?}");
}

fn two_for_writing(mut map: RemHashMap<u32, u64>) {
    let scope = farptr::scope();
    let first = map.get_mut(&1, &scope).unwrap();
    let second = map.get_mut(&1, &scope).unwrap();
    std::mem::swap(first, second);
}

fn read_and_written(mut map: RemHashMap<u32, u64>) {
    let scope = farptr::scope();
    let (key, _) = map.get_key_value(&1, &scope).unwrap();
    *map.get_mut(&1, &scope).unwrap() = u64::from(*key);
    println!("{key}");
}

fn dropped_under_a_reference(map: RemHashMap<u32, u64>) {
    let scope = farptr::scope();
    let value = map.get(&1, &scope);
    drop(map);
    println!("{value:?}");
}

fn moved_under_a_reference(map: RemHashMap<u32, u64>) {
    let scope = farptr::scope();
    let value = map.get(&1, &scope);
    let entries = map.into_iter();
    println!("{value:?} {entries:?}");
}

fn removed_under_a_pin(mut map: RemHashMap<u32, u64>) {
    let pin = map.pin(&1);
    map.remove(&1);
    println!("{pin:?}");
}

fn two_pins_for_writing(mut map: RemHashMap<u32, u64>) {
    let mut pin = map.pin_mut(&1).unwrap();
    let second = map.pin(&1).unwrap();
    *pin = *second;
}

fn pin_outlives_the_map(map: RemHashMap<u32, u64>) {
    let pin = map.pin(&1);
    drop(map);
    println!("{pin:?}");
}

fn written_through_a_pin_for_reading(map: RemHashMap<u32, u64>) {
    *map.pin(&1).unwrap() = 2;
}

fn changed_through_a_shared_borrow(map: &RemHashMap<u32, u64>) {
    map.insert(1, 1);
    map.with_mut(&1, |value| *value += 1);
}

fn main() {}
