//! Large objects: how many leave at a time, what becomes of their memory, and how they come back.
//!
//! They are alone in their far memories, so that rounds find nothing else.
#![forbid(unsafe_code)]

mod common;

use farptr_evacuator::far_log::FarLog;
use farptr_evacuator::round::{self, Mercy, Outcome, RoundState};
use farptr_runtime::addr::SlotId;
use farptr_runtime::budget::Party;
use farptr_runtime::error::TransportError;
use farptr_runtime::far::Server;
use farptr_runtime::heap::LargeObject;
use farptr_runtime::memory::{Intent, Memory, MemoryConfig};
use farptr_runtime::scope::Scope;
use farptr_runtime::transport::embedded::{EmbeddedConfig, EmbeddedTransport};
use farptr_runtime::transport::wrapped::Wrapped;
use farptr_runtime::transport::{Completion, Op, Progress, Session, Submit, Verb};
use std::alloc::Layout;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const BUDGET: usize = 16 << 20;

/// What one round may take.
const MOST: usize = BUDGET / 16;

const LAYOUT: Layout = Layout::new::<[u64; 12 << 10]>();

/// Scopes are the process's: one test's would hold back another's round.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who runs rounds.
#[derive(Default)]
struct Rounds(RoundState, FarLog);

impl Rounds {
    fn run(&mut self, memory: &Memory, mercy: Mercy) -> Outcome {
        round::run(memory, &mut self.0, &mut self.1, mercy, round::GRACE_LIMIT)
    }
}

/// Brings an object in, or only uses it.
fn read(memory: &Memory, object: SlotId, layout: Layout) {
    let _scope = Scope::enter();
    memory.access_slow(memory.slot(object), layout, Intent::Read).expect("an object that can be had");
}

fn present(memory: &Memory, objects: &[SlotId]) -> usize {
    objects.iter().filter(|object| memory.slot(**object).load().is_present()).count()
}

/// A round that found nothing else used to send all away that was cold.
#[test]
fn a_round_takes_as_much_of_large_objects_as_it_would_of_others() {
    let _alone = alone();
    let (memory, mut rounds) = (common::memory(BUDGET), Rounds::default());
    let objects: Vec<_> = (0..64).map(|_| common::object(&memory, LAYOUT)).collect();
    let footprint = LargeObject::footprint(LAYOUT);
    let outcome = rounds.run(&memory, Mercy::Spare);
    let freed = outcome.freed_large;
    assert!((MOST..MOST + footprint).contains(&freed), "{outcome:?}");
    assert_eq!(present(&memory, &objects), 64 - freed / footprint);
    // The oldest went. Those after them are in use now: they are passed by, and still as many others leave.
    assert_eq!(present(&memory, &objects[freed / footprint..]), 64 - freed / footprint);
    let used = &objects[freed / footprint..2 * (freed / footprint)];
    used.iter().for_each(|object| read(&memory, *object, LAYOUT));
    assert_eq!(rounds.run(&memory, Mercy::Spare).freed_large, freed);
    assert_eq!(present(&memory, used), used.len());
}

#[test]
fn what_large_objects_leave_is_for_the_next_and_gives_way_before_anything_else() {
    let _alone = alone();
    let (memory, mut rounds) = (common::memory(BUDGET), Rounds::default());
    let objects: Vec<_> = (0..40).map(|_| common::object(&memory, LAYOUT)).collect();
    let budget = memory.budget();
    let before = budget.used();
    let gone = rounds.run(&memory, Mercy::Spare).freed_large;
    if cfg!(any(farptr_zeal, farptr_asan)) {
        return assert!(!memory.drop_spares(), "such a configuration keeps none");
    }
    let kept = gone - (before - budget.used());
    let footprint = LargeObject::footprint(LAYOUT);
    assert!(kept > MOST - footprint && kept <= MOST, "{kept} bytes of {gone}");
    // The next has one of them.
    let used = budget.used();
    read(&memory, objects[0], LAYOUT);
    assert_eq!((budget.used(), memory.slot(objects[0]).load().is_present()), (used, true));
    // What is new does not take them, and there is no other room: they give way.
    while memory.heap().try_charge(4096, budget, Party::Creator) {}
    memory.charge_table(4096).expect("room that only spares can make");
    assert!(memory.heap().try_charge(4096, budget, Party::Creator) && !memory.drop_spares());
}

/// Counts how many reads are asked for at a time.
struct CountedSession {
    session: Box<dyn Session>,
    /// Until the next poll.
    waiting: Vec<Op>,
    most: Arc<AtomicUsize>,
}

impl Session for CountedSession {
    fn submit(&mut self, op: Op) -> Submit {
        self.waiting.push(op);
        let reads = self.waiting.iter().filter(|op| op.verb == Verb::Read).count();
        self.most.fetch_max(reads, Ordering::Relaxed);
        Submit::Accepted
    }

    fn poll(&mut self, now: Instant, done: &mut Vec<Completion>) -> Progress {
        for op in self.waiting.drain(..) {
            assert!(matches!(self.session.submit(op), Submit::Accepted));
        }
        self.session.poll(now, done)
    }

    fn park(&mut self, at_most: Duration) {
        self.session.park(at_most);
    }

    fn in_flight(&self) -> usize {
        self.waiting.len() + self.session.in_flight()
    }

    fn failure(&self) -> Option<TransportError> {
        self.session.failure()
    }
}

#[test]
fn the_pieces_of_a_large_object_are_asked_for_together() {
    let _alone = alone();
    let most = Arc::new(AtomicUsize::new(0));
    let server = EmbeddedTransport::new(EmbeddedConfig { capacity: 8 << 20, slab_bytes: 1 << 20 }).unwrap();
    let counted = Arc::clone(&most);
    let count = move |session| CountedSession { session, waiting: Vec::new(), most: Arc::clone(&counted) };
    let server = Server::new(Arc::new(Wrapped::new(Arc::new(server), count)));
    let config = MemoryConfig { local_budget: BUDGET, shards: 1, timeout: Duration::from_secs(5), far_capacity: 8 << 20 };
    let (memory, mut rounds) = (Memory::new(config, vec![server]).unwrap(), Rounds::default());
    let layout = Layout::new::<[u64; 64 << 10]>();
    let object = common::object(&memory, layout);
    assert!(rounds.run(&memory, Mercy::None).is_progress());
    assert!(!memory.slot(object).load().is_present());
    read(&memory, object, layout);
    assert!(memory.slot(object).load().is_present());
    // Of nine pieces.
    assert_eq!(most.load(Ordering::Relaxed), 8);
}
