//! A future of what may not change threads does not do so either.

use farptr::{Far, RemBox, RemVec};
use std::cell::Cell;
use std::marker::PhantomData;
use std::rc::Rc;

/// May be neither sent nor shared.
#[derive(Far)]
struct Ticket(u32, PhantomData<*const ()>);

/// May be sent, and not shared.
#[derive(Far)]
struct Own(u32, PhantomData<Cell<u8>>);

fn must_be_send<T: Send>(_: T) {}

fn reads(ticket: &RemBox<Ticket>, own: &RemBox<Own>) {
    must_be_send(ticket.with_async(|ticket| ticket.0));
    must_be_send(own.with_async(|own| own.0));
    must_be_send(own.pin_async());
}

fn writes(ticket: &mut RemBox<Ticket>) {
    must_be_send(ticket.with_mut_async(|ticket| ticket.0));
    must_be_send(ticket.pin_mut_async());
}

fn reads_a_vector(vec: &RemVec<Own>) {
    must_be_send(vec.with_async(0, |own| own.0));
}

fn closure_is_not_send(value: &RemBox<u64>) {
    let count = Rc::new(1);
    must_be_send(value.with_async(move |value| *value + *count));
}

fn main() {}
