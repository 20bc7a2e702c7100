//! The cleaner against mutators: every far copy is buried once, by whoever takes it from its object.
#![forbid(unsafe_code)]

use super::check;
use super::evacuator::Evacuator;
use super::mutator::Mutator;
use super::world::{FIRST, World};
use crate::word::{Freshness, Warmth};
use loom::thread;
use std::rc::Rc;

/// The cleaner goes over far copy 0 while another thread runs `body`; `last` must be left.
fn clean_against(world: Rc<World>, last: Option<u64>, body: impl FnOnce(&Mutator) + 'static) {
    let mutator = Mutator::new(&world, 1);
    let its = thread::spawn(move || body(&mutator));
    Evacuator::new(&world, true, &[], &[]).clean(0, 1);
    its.join().unwrap();
    world.check_end(last);
}

#[test]
fn far_copy_moves_under_a_fetch() {
    check(3, &["moved far", "moved far in vain", "fetched", "disowned"], || {
        clean_against(World::with_absent(), Some(FIRST), |mutator| assert_eq!(mutator.scope(|| mutator.read()), FIRST));
    });
}

#[test]
fn far_copy_moves_under_a_fetch_and_a_write() {
    check(3, &["moved far", "moved far in vain", "fetched", "disowned"], || {
        clean_against(World::with_absent(), Some(2), |mutator| {
            mutator.scope(|| {
                assert_eq!(mutator.read(), FIRST);
                mutator.write(2);
            });
        });
    });
}

#[test]
fn far_copy_moves_under_a_drop() {
    check(3, &["moved far", "moved far in vain", "dropped far away"], || {
        clean_against(World::with_absent(), None, |mutator| assert_eq!(mutator.drop_object(), FIRST));
    });
}

#[test]
fn far_copy_is_disowned_under_a_first_write() {
    check(3, &["disowned"], || {
        clean_against(World::with_present(Freshness::Clean, Warmth::Cold), Some(2), |mutator| {
            mutator.scope(|| mutator.write(2));
        });
    });
}

#[test]
fn far_copy_is_disowned_under_a_drop() {
    check(3, &["disowned", "dropped here"], || {
        clean_against(World::with_present(Freshness::Clean, Warmth::Hot), None, |mutator| {
            assert_eq!(mutator.drop_object(), FIRST);
        });
    });
}

/// A round, then the cleaner, as one holder of the evacuator's lock runs them, against a reader and writer.
#[test]
fn round_and_cleaner_against_a_writer() {
    for (warmth, outcomes) in [
        (Warmth::Cold, ["let go", "moved far", "disowned", "fetched", "moved by its writer"].as_slice()),
        (Warmth::Hot, &["relocated", "disowned", "moved by its writer"]),
    ] {
        check(2, outcomes, move || {
            let world = World::with_present(Freshness::Clean, warmth);
            let mutator = Mutator::new(&world, 1);
            let writer = thread::spawn(move || {
                assert_eq!(mutator.scope(|| mutator.read()), FIRST);
                mutator.scope(|| mutator.write(2));
            });
            let mut evacuator = Evacuator::new(&world, true, &[2], &[2]);
            evacuator.round(0);
            evacuator.clean(0, 1);
            writer.join().unwrap();
            evacuator.free_limbo();
            world.check_end(Some(2));
        });
    }
}
