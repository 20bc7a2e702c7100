//! What a box, a vector and a map may hold.

use farptr::{Far, FarMemory, RemBox, RemHashMap, RemVec};
use std::any::Any;

#[derive(Far)]
struct Unsized {
    len: u32,
    tail: [u8],
}

#[derive(Far)]
struct NotCopy(u64);

fn of_a_trait_object(value: RemBox<dyn Any>) {
    drop(value);
}

fn of_an_unsized_struct(value: RemBox<Unsized>) {
    drop(value);
}

fn of_a_borrow<'a>(value: &'a u64, mem: &FarMemory) -> RemBox<&'a u64> {
    RemBox::new_in(value, mem)
}

fn of_a_closure(mem: &FarMemory) {
    RemBox::new_in(|| 1, mem);
}

fn vector_of_slices(vec: RemVec<[u8]>) {
    drop(vec);
}

fn vector_of_cells(mem: &FarMemory) {
    RemVec::new_in(mem).push(std::cell::Cell::new(1));
}

fn copies_of_what_is_not_copy(mem: &FarMemory, values: &[NotCopy]) {
    RemBox::from_slice_in(values, mem);
    RemVec::new_in(mem).extend_from_slice(values);
}

fn map_to_strings(mem: &FarMemory) {
    RemHashMap::new_in(mem).insert(1, String::new());
}

fn map_by_what_has_no_hash(mem: &FarMemory) {
    RemHashMap::new_in(mem).insert(1.0f64, 1);
}

fn main() {}
