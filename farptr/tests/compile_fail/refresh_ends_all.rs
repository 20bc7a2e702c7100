//! A refresh ends every kind of reference that borrowed the scope.

use farptr::{RemBox, RemHashMap, RemVec};

fn for_writing(mut value: RemBox<u64>) {
    let mut scope = farptr::scope();
    let reference = value.get_mut(&scope);
    scope.refresh();
    *reference += 1;
}

fn element(vec: RemVec<u64>) {
    let mut scope = farptr::scope();
    let element = vec.get(0, &scope);
    scope.refresh();
    println!("{element:?}");
}

fn slice(mut vec: RemVec<u64>) {
    let mut scope = farptr::scope();
    let slice = vec.slice_at_mut(0, &scope);
    scope.refresh();
    slice[0] += 1;
}

fn iterator(vec: RemVec<u64>) {
    let mut scope = farptr::scope();
    for element in vec.iter(&scope) {
        println!("{element:?}");
        scope.refresh();
    }
}

fn entry(map: RemHashMap<u32, u64>) {
    let mut scope = farptr::scope();
    let value = map.get(&1, &scope);
    scope.refresh();
    println!("{value:?}");
}

fn through_a_shared_borrow(scope: &farptr::Scope) {
    scope.refresh();
}

fn main() {}
