//! What may not change threads does not do so as a key or a value.

use farptr::rem_hash_map::{Drain, Entry, IntoIter, Iter, IterMut, PinnedValue, PinnedValueMut, ValueMut};
use farptr::{Far, RemHashMap};
use std::marker::PhantomData;

#[derive(Far, PartialEq, Eq, Hash)]
struct Ticket(u32, PhantomData<*const ()>);

fn must_be_send<T: Send>() {}
fn must_be_sync<T: Sync>() {}

fn map_of_values_is_moved(map: RemHashMap<u32, Ticket>) {
    std::thread::spawn(move || drop(map));
}

fn map_of_keys_is_moved(map: RemHashMap<Ticket, u32>) {
    std::thread::spawn(move || drop(map));
}

fn map_is_shared(map: RemHashMap<u32, Ticket>) {
    std::thread::scope(|threads| {
        threads.spawn(|| map.with(&1, |ticket| ticket.0));
    });
}

fn pin_tells_its_key(map: RemHashMap<Ticket, u32>) {
    let pin = map.pin(&Ticket(1, PhantomData)).unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| println!("{}", pin.key().0));
    });
}

fn parts() {
    must_be_send::<Entry<'_, u32, Ticket>>();
    must_be_send::<ValueMut<'_, Ticket, u32>>();
    must_be_sync::<ValueMut<'_, u32, Ticket>>();
    must_be_send::<PinnedValue<'_, u32, Ticket>>();
    must_be_send::<PinnedValueMut<'_, u32, Ticket>>();
    must_be_send::<IntoIter<Ticket, u32>>();
    must_be_send::<Drain<'_, u32, Ticket>>();
}

fn iterators_have_a_scope() {
    must_be_send::<Iter<'_, u32, u32>>();
    must_be_send::<IterMut<'_, u32, u32>>();
    must_be_sync::<Iter<'_, u32, u32>>();
    must_be_send::<farptr::vec::Iter<'_, u32>>();
}

fn main() {}
