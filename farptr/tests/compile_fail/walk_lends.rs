//! A walk lends one element, until its next step; a pin of an element borrows the vector.

use farptr::{RemHashMap, RemVec};

fn two_elements(vec: &RemVec<u64>) -> bool {
    let mut walk = vec.walk(..);
    let (first, second) = (walk.next(), walk.next());
    first == second
}

fn two_for_writing(vec: &mut RemVec<u64>) {
    let mut walk = vec.walk_mut(..);
    let first = walk.next().unwrap();
    let second = walk.next().unwrap();
    std::mem::swap(first, second);
}

fn two_entries(map: &RemHashMap<u64, u64>) -> u64 {
    let mut walk = map.walk();
    let first = walk.next().unwrap();
    let second = walk.next().unwrap();
    *first + *second
}

fn changed_under_a_walk(mut vec: RemVec<u64>) {
    let mut walk = vec.walk(..);
    vec.push(1);
    walk.next();
}

fn changed_under_a_pin(mut vec: RemVec<u64>) -> u64 {
    let pin = vec.pin(0).unwrap();
    vec.push(1);
    *pin
}

fn slice_outlives_its_pin(vec: &RemVec<u64>) -> &[u64] {
    let pin = vec.pin_slice_at(0).unwrap();
    &pin
}

fn main() {}
