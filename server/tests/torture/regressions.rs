//! Seeds that failed once, each with its story. Where the story could be told by itself, it is in `server/tests/faulty_memory.rs` as well.
//!
//! A seed's scenario changes when the model does; what it then repeats is the kind of scenario, not the very order of events.

use crate::scenario::{Daemons, Scenario, Servers, Tally};
use crate::watch::run_watched;

#[track_caller]
fn again(seed: u64, servers: Servers) {
    let _servers = Daemons;
    if let Err(problem) = run_watched(Scenario::of(seed, servers), &mut Tally::default()) {
        panic!("seed {seed}: {problem}");
    }
}

/// A write that had timed out came late and overwrote a place that had been written anew: `Corrupt`, though no server had lost anything.
#[test]
fn seeds_4_37_53_late_writes_overwrote_acknowledged_ones() {
    [4, 37, 53].into_iter().for_each(|seed| again(seed, Servers::Mixed));
}

/// A far log's session failed with batches in flight and was replaced before it had said so: they counted as arrived.
#[test]
fn seed_10_batches_of_a_dead_session_counted_as_arrived() {
    again(10, Servers::Mixed);
}

/// A lane's session was busy with nothing in flight, and was never polled again: the futures waited for ever.
#[test]
fn seeds_21_and_31_futures_hung_behind_a_busy_session() {
    again(21, Servers::Mixed);
    again(31, Servers::Embedded);
}
