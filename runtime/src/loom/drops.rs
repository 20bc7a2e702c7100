//! Drop against evacuation, and what the evacuator's late steps do to a slot that serves another object by then.
#![forbid(unsafe_code)]

use super::check;
use super::world::{Evacuator, FIRST, Mutator, NO_FAR, World, addr_of};
use crate::word::{Freshness, Warmth, Word};
use loom::thread;
use std::rc::Rc;

/// Contents of the object that has the slot next.
const NEXT: u64 = 7;

/// A round over the object while its owner drops it and puts another in its slot, in a place that may be a victim of the same round.
fn drop_and_reuse(freshness: Freshness, warmth: Warmth, spares: bool, victims: &[usize]) {
    let world = World::with_present(freshness, warmth);
    let (owner, its) = (Mutator::new(&world, 3).and(4), Rc::clone(&world));
    let dropping = thread::spawn(move || {
        assert_eq!(owner.drop_object(), FIRST);
        // As `NewObject::publish` in a slot just taken from the table, then a use.
        its.places[1].fill(NEXT, NO_FAR);
        its.slot.init(Word::present(addr_of(1), Freshness::Dirty, Warmth::Hot));
        its.places[1].settle();
        owner.scope(|| {
            assert_eq!(owner.read(), NEXT);
            owner.write(NEXT + 1);
        });
    });
    let mut evacuator = Evacuator::new(&world, spares, &[2], &[1]);
    evacuator.round_over(victims, true);
    evacuator.free_limbo();
    dropping.join().unwrap();
    world.check_end(Some(NEXT + 1));
}

#[test]
fn clean_object_is_dropped_while_it_leaves() {
    check(3, &["dropped here", "dropped far away", "lost", "let go"], || {
        drop_and_reuse(Freshness::Clean, Warmth::Cold, true, &[0]);
    });
}

#[test]
fn dirty_object_is_dropped_while_it_leaves() {
    check(3, &["dropped here", "dropped far away", "lost", "written back"], || {
        drop_and_reuse(Freshness::Dirty, Warmth::Hot, false, &[0]);
    });
}

#[test]
fn object_is_dropped_while_it_is_relocated() {
    check(3, &["dropped here", "lost", "relocated", "freed at once", "freed from limbo"], || {
        drop_and_reuse(Freshness::Clean, Warmth::Hot, true, &[0]);
    });
}

/// Both objects that had the slot are marked in one round.
#[test]
fn slot_serves_two_objects_in_one_round() {
    check(3, &["dropped here", "lost", "relocated"], || {
        drop_and_reuse(Freshness::Dirty, Warmth::Hot, true, &[0, 1]);
    });
    check(3, &["dropped here", "lost", "written back"], || {
        drop_and_reuse(Freshness::Dirty, Warmth::Hot, false, &[0, 1]);
    });
}
