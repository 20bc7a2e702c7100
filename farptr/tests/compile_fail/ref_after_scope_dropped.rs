//! A reference ends before its scope does.

use farptr::{FarMemory, RemBox, RemVec};

fn main() {
    let mem = FarMemory::from_env().unwrap();
    let mut value = RemBox::new_in(1u64, &mem);
    let scope = farptr::scope();
    let reference = value.get(&scope);
    drop(scope);
    println!("{reference}");

    let scope = farptr::scope();
    let reference = value.get_mut(&scope);
    drop(scope);
    *reference = 2;

    let mut vec = RemVec::new_in(&mem);
    vec.push(1u64);
    let scope = farptr::scope();
    let slice = vec.slice_at(0, &scope);
    drop(scope);
    println!("{slice:?}");
}
