//! Of this crate's own types, only `RemBox` lives in far memory: the others have parts in ordinary memory, or borrow.

use farptr::{Far, FarMemory, Pinned, RemBox, RemVec, Scope};

#[derive(Far)]
struct Index {
    postings: RemVec<u32>,
    nested: Option<RemBox<RemVec<u8>>>,
    memory: FarMemory,
}

#[derive(Far)]
struct Held(Scope, Pinned<'static, u64>);

fn is_far<T: Far>(_: &T) {}

fn main() {
    let mem = FarMemory::from_env().unwrap();
    is_far(&RemVec::<u8>::new_in(&mem));
    let nested: RemVec<RemVec<u8>> = RemVec::new_in(&mem);
    println!("{nested:?}");
}
