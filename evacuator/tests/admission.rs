//! Which queue an object is admitted to that comes in: that of the hotness policy, by what is known of the object.
#![forbid(unsafe_code)]

use farptr_evacuator::Evacuator;
use farptr_runtime::addr::SlotId;
use farptr_runtime::far::Server;
use farptr_runtime::heap::QueueKind;
use farptr_runtime::memory::{Memory, MemoryConfig, Origin};
use farptr_runtime::scope::AccessHint;
use farptr_runtime::slot::UnitClass;
use farptr_runtime::transport::embedded::{EmbeddedConfig, EmbeddedTransport};
use std::alloc::Layout;
use std::sync::Arc;
use std::time::Duration;

const BUDGET: usize = 4 << 20;

fn layout() -> Layout {
    Layout::new::<[u64; 16]>()
}

/// A memory with one object, which is absent.
fn one_object() -> (Arc<Memory>, Arc<Evacuator>, SlotId) {
    let config = EmbeddedConfig { capacity: 8 << 20, slab_bytes: 1 << 20 };
    let server = Server::new(Arc::new(EmbeddedTransport::new(config).unwrap()));
    let config = MemoryConfig { local_budget: BUDGET, shards: 1, timeout: Duration::from_secs(5), far_capacity: config.capacity };
    let memory = Memory::new(config, vec![server]).unwrap();
    let evacuator = Evacuator::start(&memory).unwrap();
    let object = memory.alloc_slots(UnitClass::One).unwrap();
    memory.new_object(object, layout(), Origin::New).unwrap().publish(memory.slot(object));
    evacuator.evacuate_all(&memory).unwrap();
    assert!(!memory.slot(object).load().is_present());
    (memory, evacuator, object)
}

/// The queue of the only segment that is in use.
fn queue_after_a_miss(hint: AccessHint, evacuated_since: usize) -> QueueKind {
    let (memory, _evacuator, object) = one_object();
    memory.advance_ghost_clock(evacuated_since);
    memory.prepare(memory.slot(object), layout(), hint).unwrap();
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
