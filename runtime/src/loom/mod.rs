//! Models of the protocol between mutators, evacuator and cleaner, checked by loom in every order of events.
//!
//! What runs is the code itself: [`crate::word`], [`crate::steps`], [`crate::scope`]'s registry, clocks and grace periods, and the pins' overflow
//! table, over loom's atomics (`--cfg farptr_loom`, see [`crate::sync`]). Heap, I/O and tables can't run here, so [`world`], [`mutator`] and
//! [`evacuator`] have their parts of the protocol: places that objects lie in, far copies, a mutator's and the evacuator's sequence of steps,
//! each of which names the function it follows. The bytes of every place and far copy are loom cells: two accesses that nothing
//! orders, of which one is a write, end a model, and a freed place is written at once, as its next owner would.
//!
//! Of waiting it is lanes, endings and the ticker's decisions ([`crate::memory`]), [`crate::alarm`] and [`crate::turns`]; see [`lanes`] and [`sleeps`].
//!
//! Scopes are modelled by their thread's [`ThreadRecord`](crate::scope::ThreadRecord), which is all they are; membarrier by a full fence on both sides.
//!
//! Each model states how many preemptions it bounds the search to. `LOOM_MAX_PREEMPTIONS=4` and the like search deeper. Each also lists
//! outcomes that must have come up at least once, so that a model can't pass because nothing happened in it.
#![forbid(unsafe_code)]

mod cleaning;
mod drops;
mod elsewhere;
mod evacuator;
mod grace;
mod joins;
mod lanes;
mod large;
mod leaving;
mod misses;
mod mutator;
mod pins;
mod relocation;
mod reserve;
mod sleeps;
mod world;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Instant;

thread_local! {
    // Loom runs the threads of a model on the thread of its test.
    static SEEN: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
    static ORDERS: Cell<u64> = const { Cell::new(0) };
}

/// Notes an outcome of the order of events that is being tried.
fn saw(outcome: &'static str) {
    SEEN.with_borrow_mut(|seen| seen.insert(outcome));
}

/// Runs `model` in every order of events with at most `preemptions` preemptions, and checks that `outcomes` came up.
fn check(preemptions: usize, outcomes: &[&str], model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    let bound = *builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = 10_000;
    SEEN.take();
    ORDERS.set(0);
    let started = Instant::now();
    builder.check(move || {
        ORDERS.set(ORDERS.get() + 1);
        model();
    });
    println!("{} orders with at most {bound} preemptions in {:.1} s", ORDERS.get(), started.elapsed().as_secs_f64());
    let seen = SEEN.take();
    for outcome in outcomes {
        assert!(seen.contains(outcome), "`{outcome}` never happened; what did: {seen:?}");
    }
}
