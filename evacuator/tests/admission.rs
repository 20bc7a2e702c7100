//! Which queue an object is admitted to that comes in: that of the hotness policy, by what is known of the object.
#![forbid(unsafe_code)]

mod common;

use farptr_evacuator::Evacuator;
use farptr_runtime::heap::QueueKind;
use farptr_runtime::scope::AccessHint;
use std::alloc::Layout;

const BUDGET: usize = 4 << 20;

/// The queue of the only segment that is in use after the only object has left, `evacuated` bytes have followed, and it has come back.
fn queue_after_a_miss(hint: AccessHint, evacuated: usize) -> QueueKind {
    let (memory, layout) = (common::memory(BUDGET), Layout::new::<[u64; 16]>());
    let evacuator = Evacuator::start(&memory).unwrap();
    let object = common::object(&memory, layout);
    evacuator.evacuate_all(&memory).unwrap();
    assert!(!memory.slot(object).load().is_present());
    memory.advance_ghost_clock(evacuated);
    memory.prepare(memory.slot(object), layout, hint).unwrap();
    memory.heap().seal_all();
    let kinds = [QueueKind::Transient, QueueKind::Young, QueueKind::Main];
    let used: Vec<QueueKind> = kinds.into_iter().filter(|kind| memory.heap().sealed(*kind) > 0).collect();
    assert_eq!(used.len(), 1, "{used:?}");
    used[0]
}

#[test]
fn object_that_comes_back_soon_after_it_left_goes_to_the_main_queue() {
    assert_eq!(queue_after_a_miss(AccessHint::Normal, 0), QueueKind::Main);
    assert_eq!(queue_after_a_miss(AccessHint::Normal, BUDGET * 3 / 4), QueueKind::Main);
}

#[test]
fn object_that_was_away_for_long_goes_to_the_young_queue() {
    assert_eq!(queue_after_a_miss(AccessHint::Normal, BUDGET), QueueKind::Young);
    assert_eq!(queue_after_a_miss(AccessHint::Normal, 20 * BUDGET), QueueKind::Young);
}

#[test]
fn object_of_a_scan_goes_to_the_transient_queue_however_soon_it_comes_back() {
    assert_eq!(queue_after_a_miss(AccessHint::NonTemporal, 0), QueueKind::Transient);
}
