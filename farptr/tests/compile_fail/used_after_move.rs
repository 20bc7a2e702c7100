//! Who gives something away has it no more.

use farptr::{RemBox, RemVec, Scope};

fn taken_out(value: RemBox<u64>) {
    let inner = value.into_inner();
    println!("{inner} {}", value.is_local());
}

fn taken_out_under_a_reference(value: RemBox<u64>) {
    let scope = farptr::scope();
    let reference = value.get(&scope);
    let inner = value.into_inner();
    println!("{inner} {reference}");
}

fn pushed(value: RemBox<u64>, mut vec: RemVec<RemBox<u64>>) {
    vec.push(value);
    value.with(|value| println!("{value}"));
}

fn moved_out_of_a_reference(vec: RemVec<RemBox<u64>>) {
    let scope = farptr::scope();
    let stolen: RemBox<u64> = *vec.get(0, &scope).unwrap();
    drop(stolen);
}

fn moved_out_of_a_pin(value: RemBox<RemBox<u64>>) {
    let stolen: RemBox<u64> = *value.pin();
    drop(stolen);
}

fn scope_ended(scope: Scope, value: RemBox<u64>) {
    drop(scope);
    value.get(&scope);
}

fn scope_replaced(value: RemBox<u64>) {
    let mut scope = farptr::scope();
    let reference = value.get(&scope);
    scope = farptr::scope();
    println!("{reference} {scope:?}");
}

fn copied(value: &RemBox<u64>) -> RemBox<u64> {
    value.clone()
}

fn main() {}
