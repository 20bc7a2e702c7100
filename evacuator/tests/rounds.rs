//! Rounds one by one, with nobody else at work, so that it is known what each must do.
//!
//! Who runs a round must be in no scope; here the test's own thread is, in place of another one's scope that outlasts the round.
#![forbid(unsafe_code)]

mod common;

use farptr_evacuator::far_log::FarLog;
use farptr_evacuator::round::{self, Mercy, RoundState};
use farptr_runtime::heap::QueueKind;
use farptr_runtime::memory::Intent;
use farptr_runtime::scope::Scope;
use farptr_runtime::word::Slot;
use std::alloc::Layout;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const BUDGET: usize = 4 << 20;

/// Scopes are the process's: one test's would hold back another's round.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_segment_that_was_relocated_out_of_waits_for_the_next_grace_period() {
    let _alone = alone();
    let (memory, layout) = (common::memory(BUDGET), Layout::new::<[u64; 16]>());
    let object = common::object(&memory, layout);
    let slot = memory.slot(object);
    {
        let _scope = Scope::enter();
        memory.access_slow(slot, layout, Intent::Read).unwrap();
    }
    assert!(slot.load().is_hot());
    let before = slot.load().addr();
    memory.heap().seal_all();
    let (mut state, mut log) = (RoundState::default(), FarLog::default());
    let outcome = round::run(&memory, &mut state, &mut log, Mercy::Spare, round::GRACE_LIMIT);
    let word = slot.load();
    assert!(word.is_present() && word.addr() != before && !word.is_relocating(), "{word:?}");
    assert_eq!((outcome.victims, outcome.freed_segments, state.has_limbo()), (1, 0, true));
    assert_eq!(state.free_limbo(&memory), 1);
}

#[test]
fn a_round_that_a_scope_outlasts_moves_nothing_and_leaves_no_mark() {
    let _alone = alone();
    let (memory, layout) = (common::memory(BUDGET), Layout::new::<[u64; 16]>());
    let objects = [common::object(&memory, layout), common::object(&memory, layout)];
    // One cold and one hot, so that there is one of each mark.
    let scope = Scope::enter();
    memory.access_slow(memory.slot(objects[0]), layout, Intent::Read).unwrap();
    let before = objects.map(|object| memory.slot(object).load());
    assert_eq!(before.map(|word| word.is_hot()), [true, false]);
    memory.heap().seal_all();
    let (mut state, mut log) = (RoundState::default(), FarLog::default());
    let outcome = round::run(&memory, &mut state, &mut log, Mercy::Spare, round::GRACE_LIMIT);
    assert!(outcome.scopes_too_long && !outcome.is_progress() && outcome.victims == 1, "{outcome:?}");
    assert_eq!(objects.map(|object| memory.slot(object).load()), before);
    drop(scope);
    let outcome = round::run(&memory, &mut state, &mut log, Mercy::None, round::GRACE_LIMIT);
    assert!(!outcome.scopes_too_long && outcome.freed_segments == 1, "{outcome:?}");
    objects.iter().for_each(|object| assert!(!memory.slot(*object).load().is_present()));
}

/// An object that keeps a segment is looked at again in the next round, in which it will be relocated if it was only used; where it can't leave, its segment queues
/// as others do.
#[test]
fn a_segment_that_nearly_left_goes_first_once() {
    let _alone = alone();
    let (memory, layout) = (common::memory(BUDGET), Layout::new::<[u64; 16]>());
    let objects = [common::object(&memory, layout), common::object(&memory, layout)];
    let [kept, leaves] = objects.map(|object| memory.slot(object));
    memory.pin(kept, layout).unwrap();
    memory.heap().seal_all();
    let (mut state, mut log) = (RoundState::default(), FarLog::default());
    let mut round = || {
        let outcome = round::run(&memory, &mut state, &mut log, Mercy::None, round::GRACE_LIMIT);
        let sealed = [QueueKind::Transient, QueueKind::Young, QueueKind::Main].map(|kind| memory.heap().sealed(kind));
        (outcome.victims, outcome.freed_segments, sealed)
    };
    assert_eq!(round(), (1, 0, [1, 0, 0]), "all but the pinned one have left: it goes first");
    assert!(kept.load().is_present() && !leaves.load().is_present());
    assert_eq!(round(), (1, 0, [0, 0, 1]), "nothing more has left: last of all");
    assert_eq!(round(), (1, 0, [0, 0, 1]));
    memory.unpin(kept);
    assert_eq!(round(), (1, 1, [0, 0, 0]));
}

/// A pin moves its object out of a segment without a mark, and a reader, here the test's own scope, may look at the old place. Neither a sweep nor a round whose
/// grace period is given up may free that segment.
#[test]
fn a_segment_that_a_pin_moved_out_of_waits_for_a_grace_period() {
    let _alone = alone();
    let (memory, layout) = (common::memory(BUDGET), Layout::new::<[u64; 16]>());
    let alone_in_its_segment = || {
        let object = common::object(&memory, layout);
        memory.heap().seal_all();
        memory.slot(object)
    };
    // So many segments hold pins that the next pins move their objects.
    while !memory.heap().pins().are_strewn() {
        memory.pin(alone_in_its_segment(), layout).unwrap();
    }
    let [swept, given_up] = [alone_in_its_segment(), alone_in_its_segment()];
    let (mut state, mut log) = (RoundState::default(), FarLog::default());
    let scope = Scope::enter();
    let pin = |slot: &Slot| {
        let old = slot.load().addr();
        memory.pin(slot, layout).unwrap();
        let word = slot.load();
        assert!(word.addr() != old && word.pins() == 1, "{word:?}");
        memory.heap().segment_of(old).unwrap()
    };
    assert!(memory.heap().pins().was_moved_out_of(pin(swept)));
    assert_eq!(round::sweep(&memory, &mut state), 0, "the reader's scope is open");
    assert!(state.has_limbo());
    pin(given_up);
    let mut freed = 0;
    for _ in 0..memory.heap().capacity() {
        let outcome = round::run(&memory, &mut state, &mut log, Mercy::None, Duration::ZERO);
        assert!(outcome.scopes_too_long, "{outcome:?}");
        freed += outcome.freed_segments;
    }
    assert_eq!(freed, 0, "nothing is free before the scope has ended");
    drop(scope);
    assert_eq!(state.free_limbo(&memory), 2);
    [swept, given_up].iter().for_each(|slot| memory.unpin(slot));
}
