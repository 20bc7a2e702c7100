//! A vector does not change while a part of it is borrowed.

use farptr::{FarMemory, RemVec};

fn main() {
    let mem = FarMemory::from_env().unwrap();
    let mut vec = RemVec::new_in(&mem);
    vec.push(1u64);
    let scope = farptr::scope();
    let slice = vec.slice_at(0, &scope);
    vec.push(2);
    println!("{slice:?}");

    let mut elements = vec.iter(&scope);
    vec.clear();
    println!("{:?}", elements.next());

    vec.for_each_slice(.., |_, slice| vec.push(slice[0]));
}
