//! What a closure of a vector or a map is given stays in it.

use farptr::{RemHashMap, RemVec};

fn from_a_vector(vec: &mut RemVec<u64>) {
    let returned: Option<&u64> = vec.with(0, |value| value);
    let mut kept = None;
    vec.with_mut(0, |value| kept = Some(value));
    let mut slices = Vec::new();
    vec.for_each_slice_mut(.., |_, slice| slices.push(slice));
    println!("{returned:?} {kept:?} {slices:?}");
}

fn from_a_map(map: &mut RemHashMap<u32, u64>) {
    let returned: Option<&u64> = map.with(&1, |value| value);
    let mut kept = None;
    map.with_mut(&1, |value| kept = Some(value));
    let mut keys = Vec::new();
    map.for_each(|key, _| keys.push(key));
    let mut values = Vec::new();
    map.retain_mut(|_, value| {
        values.push(value);
        true
    });
    println!("{returned:?} {kept:?} {keys:?} {values:?}");
}

fn from_an_entry(map: &mut RemHashMap<u32, u64>) {
    let mut kept = None;
    map.entry(1).and_modify(|value| kept = Some(value)).or_insert_with_key(|_| 1);
    let returned: &u64 = map.entry(1).or_default().with(|value| value);
    println!("{kept:?} {returned}");
}

fn map_changes_under_its_own_closure(map: &mut RemHashMap<u32, u64>) {
    map.for_each(|key, value| {
        map.insert(*key + 1, *value);
    });
}

fn main() {}
