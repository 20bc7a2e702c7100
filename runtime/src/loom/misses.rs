//! Misses: one claim at a time, given back or published, and what drop makes of it.
#![forbid(unsafe_code)]

use super::mutator::Mutator;
use super::world::{FIRST, World};
use super::{check, saw};
use crate::word::{Stamp, State, Word};
use loom::thread;
use std::rc::Rc;

#[test]
fn two_misses_join_one_fetch() {
    check(3, &["fetched", "joined"], || {
        let world = World::with_absent();
        let (one, other) = (Mutator::new(&world, 0), Mutator::new(&world, 1));
        let first = thread::spawn(move || assert_eq!(one.scope(|| one.read()), FIRST));
        assert_eq!(other.scope(|| other.read()), FIRST);
        first.join().unwrap();
        world.check_end(Some(FIRST));
    });
}

/// Gives a claim back, as a fetch that fails does.
fn fail(world: &World, claimed: Word) {
    let given_back = world.slot.abandon_fetch(claimed).expect("a claimed word is changed by its claimer only");
    assert!(matches!(given_back.state(), State::Absent(_)));
    saw("failed");
}

fn fail_to_fetch(world: &World) {
    let word = world.slot.load();
    if matches!(word.state(), State::Absent(_))
        && let Ok(claimed) = world.slot.claim_fetch(word)
    {
        fail(world, claimed);
    }
}

#[test]
fn failed_fetch_is_tried_by_the_next() {
    check(3, &["fetched", "joined", "failed"], || {
        let world = World::with_absent();
        let (reader, failing) = (Mutator::new(&world, 0), Rc::clone(&world));
        let first = thread::spawn(move || fail_to_fetch(&failing));
        assert_eq!(reader.scope(|| reader.read()), FIRST);
        first.join().unwrap();
        world.check_end(Some(FIRST));
    });
}

/// One reads the object past the local heap, and another means to keep it: whoever claims it, both see it, and it is where the word says.
#[test]
fn an_object_that_is_passed_is_fetched_by_the_next() {
    check(3, &["fetched", "joined", "passed"], || {
        let world = World::with_absent();
        let (reader, passing) = (Mutator::new(&world, 0), Rc::clone(&world));
        let first = thread::spawn(move || {
            let word = passing.slot.load();
            if matches!(word.state(), State::Absent(_))
                && let Ok(claimed) = passing.slot.claim_fetch(word)
            {
                let now = Stamp(word.stamp().0.wrapping_add(1));
                let passed = passing.slot.pass_by(claimed, now).expect("a claimed word is changed by its claimer only");
                assert!(passed.state() == word.state() && passed.stamp() == now);
                saw("passed");
            }
        });
        assert_eq!(reader.scope(|| reader.read()), FIRST);
        first.join().unwrap();
        world.check_end(Some(FIRST));
    });
}

#[test]
fn two_readers_and_a_failing_fetch() {
    check(1, &["fetched", "joined", "failed"], || {
        let world = World::with_absent();
        let readers = [0, 1].map(|spare| {
            let reader = Mutator::new(&world, spare);
            thread::spawn(move || assert_eq!(reader.scope(|| reader.read()), FIRST))
        });
        fail_to_fetch(&world);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        world.check_end(Some(FIRST));
    });
}

/// A future that was dropped had claimed the object; its fetch goes on, and succeeds, while the owner drops the object.
#[test]
fn drop_waits_for_a_fetch_that_nobody_wants() {
    check(3, &["fetched", "dropped here"], || {
        let world = World::with_absent();
        let (owner, fetching) = (Mutator::new(&world, 1), Mutator::new(&world, 0));
        let claimed = world.slot.claim_fetch(world.slot.load()).unwrap();
        let fetch = thread::spawn(move || fetching.fetch(claimed));
        assert_eq!(owner.drop_object(), FIRST);
        fetch.join().unwrap();
        world.check_end(None);
    });
}

/// As above, and the fetch fails.
#[test]
fn drop_waits_for_a_fetch_that_fails() {
    check(3, &["failed", "dropped far away"], || {
        let world = World::with_absent();
        let (owner, failing) = (Mutator::new(&world, 1), Rc::clone(&world));
        let claimed = world.slot.claim_fetch(world.slot.load()).unwrap();
        let fetch = thread::spawn(move || fail(&failing, claimed));
        assert_eq!(owner.drop_object(), FIRST);
        fetch.join().unwrap();
        world.check_end(None);
    });
}
