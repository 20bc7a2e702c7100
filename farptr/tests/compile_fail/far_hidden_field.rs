//! A macro cannot smuggle a field past the check by writing the implementation's bounds for it.
use farptr::Far;
use std::cell::UnsafeCell;

macro_rules! opaque {
    ($t:ty) => { UnsafeCell<$t> };
}

#[derive(Far)]
struct Smuggled<T> {
    value: opaque!(T),
}

#[derive(Far)]
#[repr(C, packed(2))]
struct Packed {
    tag: u8,
    value: UnsafeCell<u32>,
}

fn main() {}
