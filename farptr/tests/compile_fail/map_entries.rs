//! An entry borrows its map exclusively, and what it gives borrows the scope as well.

use farptr::RemHashMap;
use farptr::rem_hash_map::Entry;

fn two_entries(mut map: RemHashMap<u32, u64>) {
    let first = map.entry(1);
    let second = map.entry(2);
    first.or_insert(1);
    second.or_insert(2);
}

fn read_beside_an_entry(mut map: RemHashMap<u32, u64>) {
    let entry = map.entry(1);
    let count = map.len();
    entry.or_insert(count as u64);
}

fn used_twice(mut map: RemHashMap<u32, u64>) {
    let entry = map.entry(1);
    entry.or_insert(1);
    entry.or_insert(2);
}

fn value_outlives_the_map(mut map: RemHashMap<u32, u64>) {
    let value = map.entry(1).or_default();
    drop(map);
    value.with(|value| *value);
}

fn reference_outlives_the_scope(mut map: RemHashMap<u32, u64>) {
    let scope = farptr::scope();
    let value = map.entry(1).or_default().into_mut(&scope);
    drop(scope);
    *value += 1;
}

fn reference_outlives_a_refresh(mut map: RemHashMap<u32, u64>) {
    let mut scope = farptr::scope();
    let value = map.entry(1).or_default().into_mut(&scope);
    scope.refresh();
    *value += 1;
}

fn inserted_under_a_reference(mut map: RemHashMap<u32, u64>) {
    let scope = farptr::scope();
    let Entry::Occupied(mut entry) = map.entry(1) else { return };
    let value = entry.get(&scope);
    entry.insert(2);
    println!("{value}");
}

fn reference_outlives_the_entry(mut map: RemHashMap<u32, u64>) -> u64 {
    let scope = farptr::scope();
    let value = {
        let Entry::Occupied(mut entry) = map.entry(1) else { return 0 };
        entry.get_mut(&scope)
    };
    *value
}

fn used_after_it_was_removed(mut map: RemHashMap<u32, u64>) {
    let Entry::Occupied(entry) = map.entry(1) else { return };
    entry.remove();
    entry.with(|value| *value);
}

fn two_values_of_one_entry(mut map: RemHashMap<u32, u64>) {
    let Entry::Occupied(mut entry) = map.entry(1) else { return };
    let first = entry.value();
    let second = entry.value();
    first.with(|first| second.with(|second| first + second));
}

fn main() {}
