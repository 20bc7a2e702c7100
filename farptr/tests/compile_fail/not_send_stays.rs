//! What may not change threads does not do so in far memory.

use farptr::{Far, RemBox, RemVec};
use std::marker::PhantomData;

#[derive(Far)]
struct Ticket(u32, PhantomData<*const ()>);

fn box_is_moved(value: RemBox<Ticket>) {
    std::thread::spawn(move || drop(value));
}

fn box_is_shared(value: RemBox<Ticket>) {
    std::thread::scope(|threads| {
        threads.spawn(|| value.with(|ticket| ticket.0));
    });
}

fn vector_is_moved(vec: RemVec<Ticket>) {
    std::thread::spawn(move || drop(vec));
}

fn pin_is_shared(value: RemBox<Ticket>) {
    let pin = value.pin();
    std::thread::scope(|threads| {
        threads.spawn(|| println!("{}", pin.0));
    });
}

fn main() {}
