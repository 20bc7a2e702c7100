//! Drop against evacuation, and what the evacuator's late steps do to a slot that serves another object by then.
#![forbid(unsafe_code)]

use super::check;
use super::world::{Evacuator, FIRST, Mutator, World, addr_of};
use crate::word::{Freshness, Warmth, Word};
use loom::thread;
use std::rc::Rc;

/// Contents of the object that has the slot next.
const NEXT: u64 = 7;

/// A round over the object while its owner drops it and puts another in its slot.
fn drop_and_reuse(freshness: Freshness, warmth: Warmth, spares: bool) {
    let world = World::with_present(freshness, warmth);
    let (owner, its) = (Mutator::new(&world, 1), Rc::clone(&world));
    let dropping = thread::spawn(move || {
        assert_eq!(owner.drop_object(), FIRST);
        // As `NewObject::publish` in a slot just taken from the table, then a use.
        its.places[1].contents.set(NEXT);
        its.slot.init(Word::present(addr_of(1), Freshness::Dirty, Warmth::Hot));
        owner.scope(|| {
            assert_eq!(owner.read(), NEXT);
            owner.write(NEXT + 1);
        });
    });
    let mut evacuator = Evacuator::new(&world, spares, &[2], &[1]);
    evacuator.round(0);
    evacuator.free_limbo();
    dropping.join().unwrap();
    assert!(world.slot.load().is_present_at(addr_of(1)));
    world.check_end(Some(NEXT + 1));
}

#[test]
fn clean_object_is_dropped_while_it_leaves() {
    check(3, &["dropped here", "dropped far away", "lost", "let go"], || {
        drop_and_reuse(Freshness::Clean, Warmth::Cold, true);
    });
}

#[test]
fn dirty_object_is_dropped_while_it_leaves() {
    check(3, &["dropped here", "dropped far away", "lost", "written back"], || {
        drop_and_reuse(Freshness::Dirty, Warmth::Hot, false);
    });
}

#[test]
fn object_is_dropped_while_it_is_relocated() {
    check(3, &["dropped here", "lost", "relocated", "freed at once", "freed from limbo"], || {
        drop_and_reuse(Freshness::Clean, Warmth::Hot, true);
    });
}
