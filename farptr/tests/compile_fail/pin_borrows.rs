//! A pin is a reference: for reading it gives no `&mut`, for writing it is the only one.

use farptr::{Pinned, PinnedMut, RemBox};

fn written_through_a_pin_for_reading(value: RemBox<u64>) {
    let mut pin = value.pin();
    *pin = 2;
}

fn pinned_for_writing_through_a_shared_borrow(value: &RemBox<u64>) {
    *value.pin_mut() = 2;
}

fn two_for_writing(mut value: RemBox<u64>) {
    let mut first = value.pin_mut();
    let mut second = value.pin_mut();
    *first = *second;
    *second = *first;
}

fn two_references_of_one_pin(mut value: RemBox<[u64; 2]>) {
    let mut pin = value.pin_mut();
    let first = &mut pin[0];
    let second = &mut pin[1];
    std::mem::swap(first, second);
}

fn reference_outlives_the_pin(value: RemBox<u64>) {
    let pin = value.pin();
    let reference = &*pin;
    drop(pin);
    println!("{reference}");
}

fn longer<'a, 'long: 'a>(pin: Pinned<'a, u64>) -> Pinned<'long, u64> {
    pin
}

fn copied<'a>(pin: &PinnedMut<'a, u64>) -> PinnedMut<'a, u64> {
    pin.clone()
}

fn main() {}
