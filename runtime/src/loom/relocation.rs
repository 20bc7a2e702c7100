//! Relocation of hot objects, against readers, who go on reading the old place, and writers, who move the object themselves.
#![forbid(unsafe_code)]

use super::evacuator::Evacuator;
use super::mutator::Mutator;
use super::world::{FIRST, World, addr_of};
use super::{check, saw};
use crate::steps;
use crate::word::{Freshness, Warmth};
use loom::thread;
use std::rc::Rc;

#[test]
fn readers_keep_the_old_place_until_the_next_grace_period() {
    check(3, &["relocated", "freed from limbo"], || {
        let world = World::with_present(Freshness::Clean, Warmth::Hot);
        let mutator = Mutator::new(&world, 1);
        let reader = thread::spawn(move || {
            for _ in 0..2 {
                mutator.scope(|| assert_eq!((mutator.read(), mutator.read()), (FIRST, FIRST)));
            }
        });
        let mut evacuator = Evacuator::new(&world, true, &[2], &[]);
        evacuator.round(0);
        evacuator.free_limbo();
        reader.join().unwrap();
        world.check_end(Some(FIRST));
    });
}

/// The limbo of one round is freed after the grace period of the next, in which the object, cold by now, leaves.
#[test]
fn object_is_relocated_and_leaves_in_the_next_round() {
    check(3, &["relocated", "freed from limbo", "let go", "rescued"], || {
        let world = World::with_present(Freshness::Clean, Warmth::Hot);
        let mutator = Mutator::new(&world, 1);
        let reader = thread::spawn(move || mutator.scope(|| assert_eq!((mutator.read(), mutator.read()), (FIRST, FIRST))));
        let mut evacuator = Evacuator::new(&world, true, &[3, 2], &[]);
        evacuator.round(0);
        evacuator.round(2);
        evacuator.free_limbo();
        reader.join().unwrap();
        world.check_end(Some(FIRST));
    });
}

/// The object's segment still holds something else after the round that relocates it. When that has gone, too, the segment is found empty in a
/// round whose grace period is given up, because of the very scope that has a reference into it.
#[test]
fn segment_put_back_after_a_relocation_is_not_freed_without_grace() {
    check(3, &["relocated", "put back"], || {
        let world = World::with_present(Freshness::Clean, Warmth::Hot);
        let mutator = Mutator::new(&world, 1);
        let reader = thread::spawn(move || {
            mutator.scope(|| assert_eq!(mutator.read(), FIRST));
        });
        let mut evacuator = Evacuator::new(&world, true, &[2], &[]);
        evacuator.others = 1;
        evacuator.round(0);
        evacuator.others = 0;
        evacuator.round_without_grace(0);
        reader.join().unwrap();
        world.check_end(Some(FIRST));
    });
}

/// As above for `round::sweep`, which has no grace period of its own before it looks.
#[test]
fn segment_put_back_after_a_relocation_is_not_swept_without_grace() {
    check(3, &["relocated", "put back", "freed from limbo"], || {
        let world = World::with_present(Freshness::Clean, Warmth::Hot);
        let mutator = Mutator::new(&world, 1);
        let reader = thread::spawn(move || {
            mutator.scope(|| assert_eq!(mutator.read(), FIRST));
        });
        let mut evacuator = Evacuator::new(&world, true, &[2], &[]);
        evacuator.others = 1;
        evacuator.round(0);
        evacuator.sweep(0);
        reader.join().unwrap();
        world.check_end(Some(FIRST));
    });
}

/// The round is given up before anything is moved: marks come off, whatever a mutator did meanwhile.
#[test]
fn round_without_grace_leaves_no_mark() {
    for spares in [true, false] {
        check(3, &["moved by its writer", "put back", "freed at once"], move || {
            let world = World::with_present(Freshness::Dirty, Warmth::Hot);
            let mutator = Mutator::new(&world, 1);
            let writer = thread::spawn(move || {
                mutator.scope(|| mutator.write(2));
            });
            let mut evacuator = Evacuator::new(&world, spares, &[], &[]);
            evacuator.round_without_grace(0);
            writer.join().unwrap();
            world.check_end(Some(2));
        });
    }
}

/// As above, against a reader, who leaves `R` where `E` was and does not move the object: nobody but the round can take that away.
#[test]
fn round_without_grace_takes_back_what_a_rescue_left() {
    check(3, &["rescued", "put back"], || {
        let world = World::with_present(Freshness::Clean, Warmth::Cold);
        let mutator = Mutator::new(&world, 1);
        let reader = thread::spawn(move || assert_eq!(mutator.scope(|| mutator.read()), FIRST));
        let mut evacuator = Evacuator::new(&world, true, &[], &[]);
        evacuator.round_without_grace(0);
        reader.join().unwrap();
        world.check_end(Some(FIRST));
    });
}

#[test]
fn writer_moves_a_marked_object_itself() {
    check(3, &["relocated", "lost", "moved by its writer", "freed at once", "freed from limbo"], || {
        let world = World::with_present(Freshness::Dirty, Warmth::Hot);
        let mutator = Mutator::new(&world, 1);
        let writer = thread::spawn(move || {
            mutator.scope(|| mutator.write(2));
            mutator.scope(|| mutator.write(3));
        });
        let mut evacuator = Evacuator::new(&world, true, &[2], &[]);
        evacuator.round(0);
        evacuator.free_limbo();
        writer.join().unwrap();
        world.check_end(Some(3));
    });
}

/// The far copy that the old header names is buried once and rightly, though the old segment is freed at once when the writer has left it.
#[test]
fn writer_buries_the_far_copy_of_the_place_it_leaves() {
    check(3, &["relocated", "lost", "moved by its writer", "freed at once"], || {
        let world = World::with_present(Freshness::Clean, Warmth::Hot);
        let mutator = Mutator::new(&world, 1);
        let writer = thread::spawn(move || mutator.scope(|| mutator.write(2)));
        let mut evacuator = Evacuator::new(&world, true, &[2], &[]);
        evacuator.round(0);
        evacuator.free_limbo();
        writer.join().unwrap();
        world.check_end(Some(2));
    });
}

/// A reader in one thread and, ordered after it by the program, a writer in another; the reader's scope goes on.
#[test]
fn writer_after_a_reader_whose_scope_is_still_open() {
    check(2, &["relocated", "moved by its writer"], || {
        let world = World::with_present(Freshness::Dirty, Warmth::Hot);
        let (reader, writer) = (Mutator::new(&world, 3), Mutator::new(&world, 1));
        let borrower = thread::spawn(move || {
            reader.scope(|| {
                assert_eq!(reader.read(), FIRST);
                let exclusive = thread::spawn(move || writer.scope(|| writer.write(2)));
                exclusive.join().unwrap();
                assert_eq!(reader.read(), 2);
            });
        });
        let mut evacuator = Evacuator::new(&world, true, &[2], &[]);
        evacuator.round(0);
        borrower.join().unwrap();
        evacuator.free_limbo();
        assert!(!world.slot.load().is_present_at(addr_of(3)));
        world.check_end(Some(2));
    });
}

/// The place that the writer moves the object to becomes a victim of the same round, so that the object is marked twice in it: what the evacuator
/// takes back for the first mark must not hurt the second.
#[test]
fn object_is_marked_at_two_places_in_one_round() {
    for (spares, outcomes) in [(true, ["relocated", "lost"].as_slice()), (false, &["written back", "lost", "fetched"])] {
        check(3, outcomes, move || {
            let world = World::with_present(Freshness::Dirty, Warmth::Hot);
            let mutator = Mutator::new(&world, 1).and(3);
            let writer = thread::spawn(move || {
                mutator.scope(|| mutator.write(2));
                mutator.scope(|| mutator.write(3));
            });
            let mut evacuator = Evacuator::new(&world, spares, &[2], &[1]);
            evacuator.round_over(&[0, 1], true);
            evacuator.free_limbo();
            writer.join().unwrap();
            world.check_end(Some(3));
        });
    }
}

/// The owner says that the uses so far count for nothing (`Handle::cool`), then uses the object again: the marked word is as it was, and may be
/// finished from.
#[test]
fn object_is_cooled_and_used_again_while_it_is_relocated() {
    check(3, &["relocated", "lost", "freed from limbo"], || {
        let world = World::with_present(Freshness::Clean, Warmth::Hot);
        let (mutator, its) = (Mutator::new(&world, 1), Rc::clone(&world));
        let owner = thread::spawn(move || {
            steps::cool(&its.slot, its.slot.load());
            mutator.scope(|| assert_eq!((mutator.read(), mutator.read()), (FIRST, FIRST)));
        });
        let mut evacuator = Evacuator::new(&world, true, &[2], &[]);
        evacuator.round(0);
        evacuator.free_limbo();
        owner.join().unwrap();
        world.check_end(Some(FIRST));
    });
}

/// The same while a round that spares nothing sends it away, and nobody uses it again: the mark must not stay behind, or no later round would touch
/// the object.
#[test]
fn object_is_cooled_while_it_leaves() {
    check(3, &["written back", "cooled", "about to leave"], || {
        let world = World::with_present(Freshness::Dirty, Warmth::Hot);
        let its = Rc::clone(&world);
        let owner = thread::spawn(move || {
            let word = its.slot.load();
            let cooled = steps::cool(&its.slot, word);
            saw(if cooled {
                "cooled"
            } else if word.is_evacuating() {
                "about to leave"
            } else {
                "late"
            });
        });
        let mut evacuator = Evacuator::new(&world, false, &[2], &[1]);
        evacuator.round(0);
        evacuator.free_limbo();
        owner.join().unwrap();
        world.check_end(Some(FIRST));
    });
}
