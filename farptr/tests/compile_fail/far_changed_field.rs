//! What is checked is the field, not its type as the derive has seen it: an attribute may change it afterwards.
use farptr::Far;
use farptr_test_attributes::u32_in_cells;

#[derive(Far)]
#[u32_in_cells]
struct Changed {
    count: u32,
}

#[derive(Far)]
#[u32_in_cells]
#[repr(C, packed)]
struct Packed {
    tag: u8,
    count: u32,
}

fn main() {}
