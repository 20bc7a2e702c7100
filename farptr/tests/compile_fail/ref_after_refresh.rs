//! A refresh ends the scope's references.

use farptr::{FarMemory, RemBox};

fn main() {
    let mem = FarMemory::from_env().unwrap();
    let value = RemBox::new_in(1u64, &mem);
    let mut scope = farptr::scope();
    let reference = value.get(&scope);
    scope.refresh();
    println!("{reference}");
}
