//! Pins against marks, and counts of pins that do not fit the word.
#![forbid(unsafe_code)]

use super::world::{Evacuator, FIRST, Mutator, World, place_at};
use super::{check, saw};
use crate::word::{Freshness, Warmth};
use loom::thread;
use std::rc::Rc;

/// Reads without a scope under a pin, twice. As `Handle::pin` of a present object and `Pinned::deref`.
fn read_pinned(world: &World) {
    if world.pins.try_pin(&world.slot) {
        saw("pinned");
        for _ in 0..2 {
            assert_eq!(world.places[place_at(world.slot.load().addr())].contents.get(), FIRST);
        }
        world.pins.unpin(&world.slot);
    } else {
        saw("had left");
    }
}

fn pin_against_round(freshness: Freshness, spares: bool) {
    let world = World::with_present(freshness, Warmth::Hot);
    let its = Rc::clone(&world);
    let pinning = thread::spawn(move || {
        read_pinned(&its);
        read_pinned(&its);
    });
    let mut evacuator = Evacuator::new(&world, spares, &[2], &[1]);
    evacuator.round(0);
    // Nobody holds a scope: what was freed is written before or while the pins are held.
    evacuator.free_limbo();
    pinning.join().unwrap();
    world.check_end(Some(FIRST));
}

#[test]
fn pinned_object_does_not_leave() {
    check(3, &["pinned", "had left", "written back", "lost", "put back"], || pin_against_round(Freshness::Dirty, false));
}

#[test]
fn pinned_clean_object_does_not_leave() {
    check(3, &["pinned", "had left", "let go", "lost", "put back"], || pin_against_round(Freshness::Clean, false));
}

/// A pin that comes and goes between two looks of the evacuator leaves the marked word as it was.
#[test]
fn pinned_object_is_not_relocated() {
    check(3, &["pinned", "relocated", "lost", "put back", "freed from limbo"], || pin_against_round(Freshness::Dirty, true));
}

/// As `Handle::pin_mut` and writes through `PinnedMut`, which are outside the scope.
fn write_pinned(mutator: &Mutator, world: &World, contents: u64) {
    mutator.scope(|| {
        mutator.writable();
        assert!(world.pins.try_pin(&world.slot), "an object stays present in the scope in which it was derefed");
    });
    let place = &world.places[place_at(world.slot.load().addr())];
    place.contents.set(contents - 1);
    place.contents.set(contents);
    world.pins.unpin(&world.slot);
}

fn pin_mut_against_round(freshness: Freshness, warmth: Warmth, spares: bool, times: u64) {
    let world = World::with_present(freshness, warmth);
    let (mutator, its) = (Mutator::new(&world, 1), Rc::clone(&world));
    let pinning = thread::spawn(move || {
        for time in 1..=times {
            write_pinned(&mutator, &its, 10 * time);
        }
    });
    let mut evacuator = Evacuator::new(&world, spares, &[2], &[1]);
    evacuator.round(0);
    evacuator.free_limbo();
    pinning.join().unwrap();
    world.check_end(Some(10 * times));
}

#[test]
fn object_pinned_for_writing_is_not_written_back() {
    check(3, &["written back", "lost", "fetched", "moved by its writer"], || {
        pin_mut_against_round(Freshness::Dirty, Warmth::Hot, false, 1);
    });
}

#[test]
fn object_pinned_for_writing_is_not_relocated() {
    check(3, &["relocated", "lost", "moved by its writer"], || {
        pin_mut_against_round(Freshness::Dirty, Warmth::Hot, true, 2);
    });
}

#[test]
fn clean_object_pinned_for_writing() {
    check(3, &["let go", "lost", "fetched", "moved by its writer"], || {
        pin_mut_against_round(Freshness::Clean, Warmth::Cold, true, 1);
    });
}

/// A pin that is forgotten (`mem::forget`) lets the borrow end, so that the object may be written; the mark may be on it already.
#[test]
fn object_is_written_under_a_leaked_pin() {
    check(3, &["lost", "put back", "moved by its writer", "still pinned"], || {
        let world = World::with_present(Freshness::Dirty, Warmth::Hot);
        let (mutator, its) = (Mutator::new(&world, 1), Rc::clone(&world));
        let leaking = thread::spawn(move || {
            if its.pins.try_pin(&its.slot) {
                mutator.scope(|| mutator.write(2));
            }
        });
        let mut evacuator = Evacuator::new(&world, true, &[2], &[1]);
        evacuator.round(0);
        evacuator.free_limbo();
        leaking.join().unwrap();
        saw(if world.slot.load().pins() > 0 { "still pinned" } else { "pin gone" });
        world.check_end(Some(2));
    });
}

/// From 254 pins on: each of two threads pins twice and unpins twice, so that the count fills and pins overflow.
#[test]
fn pins_that_overflow_are_counted() {
    check(3, &["overflown"], || {
        let world = World::with_pins(u8::MAX - 1);
        let two_pins = |world: Rc<World>| {
            let World { slot, pins, .. } = &*world;
            assert!(pins.try_pin(slot));
            assert!(pins.try_pin(slot));
            assert_eq!(slot.load().pins(), u8::MAX, "256 pins at least");
            saw(if pins.is_empty() { "not overflown" } else { "overflown" });
            pins.unpin(slot);
            assert_eq!(slot.load().pins(), u8::MAX, "255 pins at least");
            pins.unpin(slot);
            assert!(slot.load().pins() >= u8::MAX - 1);
        };
        let its = Rc::clone(&world);
        let other = thread::spawn(move || two_pins(its));
        two_pins(Rc::clone(&world));
        other.join().unwrap();
        assert_eq!(world.slot.load().pins(), u8::MAX - 1);
        assert!(world.pins.is_empty());
    });
}

/// The same around the edge, with one pin in each of three threads.
#[test]
fn three_threads_pin_at_the_edge() {
    check(2, &["full", "not full"], || {
        let world = World::with_pins(u8::MAX - 1);
        let one_pin = |world: Rc<World>| {
            let World { slot, pins, .. } = &*world;
            assert!(pins.try_pin(slot));
            saw(if pins.is_empty() { "not full" } else { "full" });
            assert_eq!(slot.load().pins(), u8::MAX, "255 pins at least");
            pins.unpin(slot);
        };
        let others = [Rc::clone(&world), Rc::clone(&world)].map(|its| thread::spawn(move || one_pin(its)));
        one_pin(Rc::clone(&world));
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(world.slot.load().pins(), u8::MAX - 1);
        assert!(world.pins.is_empty());
    });
}
