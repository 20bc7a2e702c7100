//! A reference ends before its box does.

use farptr::{FarMemory, RemBox};

fn main() {
    let mem = FarMemory::from_env().unwrap();
    let scope = farptr::scope();
    let value = RemBox::new_in(1u64, &mem);
    let reference = value.get(&scope);
    drop(value);
    println!("{reference}");
}
