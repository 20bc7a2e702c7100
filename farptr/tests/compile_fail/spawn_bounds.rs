//! What is spawned on a shard comes from another thread and outlives the call; its result goes back.

use farptr::{FarMemory, RemBox};
use std::rc::Rc;

fn closure_is_not_send(mem: &FarMemory) {
    let count = Rc::new(1);
    let _ = mem.spawn(0, move || async move { *count });
}

fn result_is_not_send(mem: &FarMemory) {
    let _ = mem.spawn(0, || async { Rc::new(1) });
}

fn borrows_what_goes_away(mem: &FarMemory, value: RemBox<u64>) {
    let _ = mem.spawn(0, || async { value.with(|value| *value) });
}

fn borrows_a_scope(mem: &FarMemory) {
    let scope = farptr::scope();
    let value = RemBox::new_in(1u64, mem);
    let _ = mem.spawn(0, || async { *value.get(&scope) });
}

fn main() {}
