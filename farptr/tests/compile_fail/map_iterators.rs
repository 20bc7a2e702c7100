//! Iterators borrow the map and the scope, those for writing exclusively.

use farptr::RemHashMap;

fn cleared_while_read(mut map: RemHashMap<u32, u64>) {
    let scope = farptr::scope();
    for entry in map.iter(&scope) {
        map.remove(entry.unwrap().0);
    }
}

fn read_while_written(mut map: RemHashMap<u32, u64>) {
    let scope = farptr::scope();
    let mut values = map.values_mut(&scope);
    println!("{:?}", map.get(&1, &scope));
    println!("{:?}", values.next());
}

fn two_for_writing(mut map: RemHashMap<u32, u64>) {
    let scope = farptr::scope();
    let mut first = map.iter_mut(&scope);
    let mut second = map.iter_mut(&scope);
    println!("{:?} {:?}", first.next(), second.next());
}

fn keys_outlive_the_scope(map: RemHashMap<u32, u64>) {
    let scope = farptr::scope();
    let keys: Vec<&u32> = map.keys(&scope).map(Result::unwrap).collect();
    drop(scope);
    println!("{keys:?}");
}

fn values_outlive_a_refresh(mut map: RemHashMap<u32, u64>) {
    let mut scope = farptr::scope();
    let values: Vec<&mut u64> = map.values_mut(&scope).map(Result::unwrap).collect();
    scope.refresh();
    println!("{values:?}");
}

fn drained_while_changed(mut map: RemHashMap<u32, u64>) {
    for entry in map.drain() {
        let (key, value) = entry.unwrap();
        map.insert(key, value);
    }
}

fn drain_outlives_the_map(mut map: RemHashMap<u32, u64>) {
    let drain = map.drain();
    drop(map);
    println!("{drain:?}");
}

fn used_after_it_was_given_away(map: RemHashMap<u32, u64>) {
    let entries = map.into_iter();
    println!("{} {entries:?}", map.len());
}

fn writing_iterator_is_copied(mut map: RemHashMap<u32, u64>) {
    let scope = farptr::scope();
    let values = map.values_mut(&scope);
    let second = values.clone();
    println!("{values:?} {second:?}");
}

fn main() {}
