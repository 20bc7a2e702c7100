//! `get_mut` is exclusive.

use farptr::{RemBox, RemVec};

fn two_mut(mut value: RemBox<u64>) {
    let scope = farptr::scope();
    let first = value.get_mut(&scope);
    let second = value.get_mut(&scope);
    *first += *second;
}

fn shared_and_mut(mut value: RemBox<u64>) {
    let scope = farptr::scope();
    let shared = value.get(&scope);
    let exclusive = value.get_mut(&scope);
    *exclusive = *shared;
}

fn pinned_and_mut(mut value: RemBox<u64>) {
    let pin = value.pin();
    value.with_mut(|value| *value = *pin);
}

fn pinned_mut_and_shared(mut value: RemBox<u64>) {
    let mut pin = value.pin_mut();
    *pin = value.with(|value| *value);
}

fn two_of_a_vector(mut vec: RemVec<u64>) {
    let scope = farptr::scope();
    let first = vec.get_mut(0, &scope).unwrap();
    let second = vec.get_mut(0, &scope).unwrap();
    std::mem::swap(first, second);
}

fn through_a_shared_borrow(value: &RemBox<u64>) {
    value.with_mut(|value| *value += 1);
}

fn main() {}
