//! Pins that move their object, against readers of the old place, rounds with and without a grace period, sweeps, and the cleaner.
#![forbid(unsafe_code)]

use super::evacuator::Evacuator;
use super::mutator::Mutator;
use super::world::{FIRST, World, place_at};
use super::{check, saw};
use crate::scope::AccessHint;
use crate::word::{Freshness, Warmth};
use loom::thread::{self, JoinHandle};
use std::rc::Rc;

/// Pins, elsewhere if possible, reads without a scope, and gives the pin back.
fn pinning(world: &Rc<World>, spare: usize) -> JoinHandle<()> {
    let (mutator, world) = (Mutator::new(world, spare), Rc::clone(world));
    thread::spawn(move || {
        if mutator.pin_elsewhere() || world.pins.try_pin(&world.slot) {
            saw("pinned");
            assert_eq!(world.places[place_at(world.slot.load().addr())].contents.get(), FIRST);
            world.pins.unpin(&world.slot);
        }
    })
}

/// Gets a reference and looks at it twice.
fn reading(world: &Rc<World>, spare: usize) -> JoinHandle<()> {
    let mutator = Mutator::new(world, spare);
    thread::spawn(move || {
        mutator.scope(|| {
            let place = mutator.readable(AccessHint::NonTemporal);
            assert_eq!((place.contents.get(), place.contents.get()), (FIRST, FIRST));
        });
    })
}

/// The reader has met no mark, and the sweep has no grace period before it looks.
#[test]
fn segment_that_a_pin_moved_out_of_is_not_swept_without_grace() {
    check(3, &["moved by a pin", "put back", "freed from limbo"], || {
        let world = World::with_present(Freshness::Clean, Warmth::Hot);
        let threads = [pinning(&world, 1), reading(&world, 2)];
        let mut evacuator = Evacuator::new(&world, true, &[], &[]);
        evacuator.sweep(0);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        world.check_end(Some(FIRST));
    });
}

/// The round is given up because of the very scope that refers to the old place.
#[test]
fn segment_that_a_pin_moved_out_of_is_not_freed_by_a_round_without_grace() {
    check(3, &["moved by a pin", "put back", "freed from limbo"], || {
        let world = World::with_present(Freshness::Clean, Warmth::Hot);
        let threads = [pinning(&world, 1), reading(&world, 2)];
        let mut evacuator = Evacuator::new(&world, true, &[], &[]);
        evacuator.round_without_grace(0);
        evacuator.free_limbo();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        world.check_end(Some(FIRST));
    });
}

/// The first round has looked at the segment when the pin moves the object: it must not have forgotten that for the second.
#[test]
fn round_without_grace_after_a_round_during_which_a_pin_moved() {
    check(2, &["moved by a pin", "put back", "freed from limbo"], || {
        let world = World::with_present(Freshness::Clean, Warmth::Hot);
        let threads = [pinning(&world, 1), reading(&world, 2)];
        let mut evacuator = Evacuator::new(&world, true, &[3], &[]);
        evacuator.round_without_grace(0);
        evacuator.round_without_grace(0);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        evacuator.free_limbo();
        world.check_end(Some(FIRST));
    });
}

/// A round whose grace period ends may free the segment at once.
#[test]
fn round_with_grace_frees_a_segment_that_a_pin_moved_out_of() {
    check(2, &["moved by a pin", "relocated", "lost", "put back", "freed at once"], || {
        let world = World::with_present(Freshness::Clean, Warmth::Hot);
        let threads = [pinning(&world, 1), reading(&world, 2)];
        let mut evacuator = Evacuator::new(&world, true, &[3], &[]);
        evacuator.round(0);
        evacuator.free_limbo();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        world.check_end(Some(FIRST));
    });
}

/// The copy is that of the object, and the object can leave from its new place.
#[test]
fn object_that_a_pin_moved_leaves_from_there() {
    for (freshness, left) in [(Freshness::Clean, "let go"), (Freshness::Dirty, "written back")] {
        check(3, &["moved by a pin", "pinned", left, "lost", "put back", "freed at once"], move || {
            let world = World::with_present(freshness, Warmth::Cold);
            let pinned = pinning(&world, 1);
            let mut evacuator = Evacuator::new(&world, false, &[], &[2, 1]);
            evacuator.round(0);
            evacuator.round(1);
            pinned.join().unwrap();
            world.check_end(Some(FIRST));
        });
    }
}

#[test]
fn far_copy_of_an_object_that_a_pin_moves_is_disowned_once() {
    check(3, &["moved by a pin", "disowned"], || {
        let world = World::with_present(Freshness::Clean, Warmth::Hot);
        let pinned = pinning(&world, 1);
        let mut evacuator = Evacuator::new(&world, true, &[], &[]);
        evacuator.clean(0, 1);
        pinned.join().unwrap();
        world.check_end(Some(FIRST));
    });
}

/// As `Handle::pin_mut`, whose pin moves the object in the scope in which it was made writable.
#[test]
fn object_that_is_moved_and_pinned_for_writing_stays_dirty() {
    check(3, &["moved by a pin", "written back", "lost", "put back"], || {
        let world = World::with_present(Freshness::Clean, Warmth::Hot);
        let (mutator, its) = (Mutator::new(&world, 1).and(4), Rc::clone(&world));
        let pinning = thread::spawn(move || {
            mutator.scope(|| {
                mutator.writable();
                assert!(mutator.pin_elsewhere_in_scope() || its.pins.try_pin(&its.slot), "present in its scope");
            });
            let place = &its.places[place_at(its.slot.load().addr())];
            place.contents.set(2);
            place.contents.set(3);
            its.pins.unpin(&its.slot);
        });
        let mut evacuator = Evacuator::new(&world, false, &[], &[2, 1]);
        evacuator.round(0);
        evacuator.sweep(0);
        pinning.join().unwrap();
        let last = world.slot.load();
        if last.is_present() {
            evacuator.round(place_at(last.addr()));
        }
        world.check_end(Some(3));
    });
}

/// Two pins, of which one may be taken while the other copies: the object is moved once at most by each, and never under a pin.
#[test]
fn object_is_not_moved_under_another_pin() {
    check(2, &["moved by a pin", "pinned"], || {
        let world = World::with_present(Freshness::Dirty, Warmth::Hot);
        let threads = [pinning(&world, 1), pinning(&world, 2)];
        let mut evacuator = Evacuator::new(&world, true, &[], &[]);
        evacuator.sweep(0);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        evacuator.free_limbo();
        world.check_end(Some(FIRST));
        assert_eq!(world.slot.load().pins(), 0);
    });
}
