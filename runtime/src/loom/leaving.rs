//! Evacuation to absent, clean and dirty, against readers and writers.
#![forbid(unsafe_code)]

use super::check;
use super::evacuator::Evacuator;
use super::mutator::Mutator;
use super::world::{FIRST, World};
use crate::scope::AccessHint;
use crate::word::{Freshness, Warmth};
use loom::thread;
use std::rc::Rc;

/// One round over a cold (or unspared) object, against a thread that runs `body`. What it leaves must be `last`.
fn one_round(freshness: Freshness, warmth: Warmth, last: u64, body: impl FnOnce(&Mutator) + 'static) {
    let world = World::with_present(freshness, warmth);
    let mutator = Mutator::new(&world, 1);
    let its = thread::spawn(move || body(&mutator));
    Evacuator::new(&world, false, &[], &[1]).round(0);
    its.join().unwrap();
    world.check_end(Some(last));
}

#[test]
fn clean_object_leaves_under_a_reader() {
    check(3, &["let go", "rescued", "lost", "fetched", "freed at once", "put back"], || {
        one_round(Freshness::Clean, Warmth::Cold, FIRST, |mutator| {
            assert_eq!(mutator.scope(|| mutator.read()), FIRST);
            assert_eq!(mutator.scope(|| mutator.read()), FIRST);
        });
    });
}

#[test]
fn dirty_object_leaves_under_a_reader() {
    check(3, &["written back", "rescued", "lost", "fetched", "freed at once", "put back"], || {
        one_round(Freshness::Dirty, Warmth::Hot, FIRST, |mutator| {
            assert_eq!(mutator.scope(|| mutator.read()), FIRST);
            assert_eq!(mutator.scope(|| mutator.read()), FIRST);
        });
    });
}

/// A non-temporal reader, which leaves the object cold, and refreshes its scope in between.
#[test]
fn object_leaves_under_a_scan() {
    check(3, &["written back", "rescued", "lost", "fetched"], || {
        one_round(Freshness::Dirty, Warmth::Cold, FIRST, |mutator| {
            mutator.scope(|| {
                assert_eq!(mutator.readable(AccessHint::NonTemporal).contents.get(), FIRST);
                mutator.refresh();
                assert_eq!(mutator.readable(AccessHint::NonTemporal).contents.get(), FIRST);
            });
        });
    });
}

#[test]
fn two_readers_rescue_or_fetch_one_object() {
    check(2, &["let go", "rescued", "lost", "fetched", "joined"], || {
        let world = World::with_present(Freshness::Clean, Warmth::Cold);
        let readers = [1, 2].map(|spare| {
            let mutator = Mutator::new(&world, spare);
            thread::spawn(move || assert_eq!(mutator.scope(|| mutator.read()), FIRST))
        });
        Evacuator::new(&world, false, &[], &[]).round(0);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        world.check_end(Some(FIRST));
    });
}

#[test]
fn write_is_not_lost_to_write_back() {
    check(3, &["written back", "lost", "fetched", "moved by its writer"], || {
        one_round(Freshness::Dirty, Warmth::Hot, 3, |mutator| {
            mutator.scope(|| mutator.write(2));
            mutator.scope(|| mutator.write(3));
        });
    });
}

#[test]
fn first_write_is_not_lost_to_letting_go() {
    check(3, &["let go", "lost", "fetched", "moved by its writer"], || {
        one_round(Freshness::Clean, Warmth::Cold, 2, |mutator| mutator.scope(|| mutator.write(2)));
    });
}

/// The evacuator copies the object for write-back while it is rescued by a read and then written: `R` must keep the writer away from the bytes.
#[test]
fn rescued_object_is_not_written_while_it_is_written_back() {
    check(3, &["written back", "rescued", "lost", "fetched", "moved by its writer"], || {
        one_round(Freshness::Dirty, Warmth::Cold, 2, |mutator| {
            mutator.scope(|| {
                assert_eq!(mutator.read(), FIRST);
                mutator.write(2);
            });
        });
    });
}

/// Rescue by one thread, write by another that the program orders after it.
#[test]
fn rescue_and_write_by_two_threads() {
    check(2, &["written back", "rescued", "lost", "moved by its writer"], || {
        let world = World::with_present(Freshness::Dirty, Warmth::Cold);
        let (reader, writer) = (Mutator::new(&world, 1), Mutator::new(&world, 2));
        let borrower = thread::spawn(move || {
            let shared = thread::spawn(move || assert_eq!(reader.scope(|| reader.read()), FIRST));
            shared.join().unwrap();
            writer.scope(|| writer.write(2));
        });
        Evacuator::new(&world, false, &[], &[1]).round(0);
        borrower.join().unwrap();
        world.check_end(Some(2));
    });
}

/// What was rescued leaves in the next round.
#[test]
fn object_leaves_in_one_of_two_rounds() {
    check(2, &["written back", "rescued", "put back", "freed at once"], || {
        let world = World::with_present(Freshness::Dirty, Warmth::Cold);
        let mutator = Mutator::new(&world, 1);
        let reader = thread::spawn(move || assert_eq!(mutator.scope(|| mutator.read()), FIRST));
        let mut evacuator = Evacuator::new(&world, false, &[], &[1, 2]);
        evacuator.round(0);
        if world.slot.load().is_present_at(super::world::addr_of(0)) {
            evacuator.round(0);
        }
        reader.join().unwrap();
        drop(evacuator);
        Rc::clone(&world).check_end(Some(FIRST));
    });
}
