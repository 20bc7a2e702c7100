//! A pin ends before its box does.

use farptr::RemBox;

fn dropped(value: RemBox<u64>) {
    let pin = value.pin();
    drop(value);
    println!("{}", *pin);
}

fn replaced(mut value: RemBox<u64>, other: RemBox<u64>) {
    let pin = value.pin();
    value = other;
    println!("{}", *pin);
}

fn moved_out(mut value: RemBox<u64>) {
    let mut pin = value.pin_mut();
    let inner = value.into_inner();
    *pin = inner;
}

fn main() {}
