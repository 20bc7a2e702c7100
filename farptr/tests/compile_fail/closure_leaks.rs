//! What a closure is given stays in it.

use farptr::{FarMemory, RemBox, RemVec};

fn main() {
    let mem = FarMemory::from_env().unwrap();
    let mut value = RemBox::new_in(1u64, &mem);
    let returned: &u64 = value.with(|value| value);
    let mut kept = None;
    value.with(|value| kept = Some(value));
    let mut kept_mut = None;
    value.with_mut(|value| kept_mut = Some(value));
    let vec: RemVec<u64> = RemVec::new_in(&mem);
    let mut slices = Vec::new();
    vec.for_each_slice(.., |_, slice| slices.push(slice));
    println!("{returned} {kept:?} {kept_mut:?} {slices:?}");
}
