//! What is known of how objects are used, and what follows for those that miss: see [`super::admission`].
//!
//! # Whether objects are passed
//! What a pass saves is a third to a half of a miss; what it loses is one miss of each object that would have been used again while it was young. So it pays
//! as long as fewer than about a third of the young are used again, with a margin, and some distance between on and off. To know it also while objects are passed,
//! a sample is swapped in nevertheless, and the young queue is as much shorter, so that these stay as long as all would. Where most of what misses is swapped in for
//! references in scopes, the queue is as long as ever. Objects that are new belong to the young queue as well and are never passed; while they are most of it, nothing is.
//!
//! # Whether coming back earns a place
//! What comes back within a turnover gets a place, which somebody else loses, because it is likely to be asked for again. It is more likely to than others if some objects are used more than
//! others; if all are used alike, the place changes hands for nothing. So it is counted how many come back of those that had come back before, and of the others. For objects that are asked
//! for at random, but each at its own rate, the share that comes back within some time is 1 - exp(-rate x time). Where the rate of the former is not clearly higher, an object gets a place only if it
//! has come back [`MOST_RETURNS`] times in a row, so that a program whose data has changed has it in local memory after a few turns all the same.
//!
//! Counts begin anew with each decision. What comes back during the first turnover after it had been passed by the rules before, so that isn't counted.
#![forbid(unsafe_code)]

use crate::word::MOST_RETURNS;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// While objects are passed, one miss in so many is treated the other way, to see what comes of it.
pub(super) const SAMPLE: usize = 16;

/// Young objects between two decisions whether objects are passed.
const WINDOW: usize = 1024;

/// Passing begins when fewer than one young object in so many was used again, and ends when more than one in `ENDS` was.
const BEGINS: usize = 4;
const ENDS: usize = 3;

/// Turnovers of the heap for which it is counted how many come back, at least; and how many must have come back before, at least.
const TURNOVERS: f64 = 2.0;
const LEAST_AGAIN: u64 = 64;

/// Coming back earns a place if those that have come back are asked for at so many times the rate of others.
const TELLING: f64 = 1.5;

/// What has become of young objects that left, or had their turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Young {
    /// Objects that were made, or written since they were fetched.
    pub made: usize,
    /// Objects that were fetched.
    pub fetched: usize,
    /// Of these, how many were used after the use that fetched them.
    pub used_again: usize,
}

impl Young {
    /// One more, with a far copy or without, hot or not.
    pub fn count(&mut self, has_far_copy: bool, is_hot: bool) {
        self.made += usize::from(!has_far_copy);
        self.fetched += usize::from(has_far_copy);
        self.used_again += usize::from(has_far_copy && is_hot);
    }
}

/// What has gone through the heap and past it, since ever.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flows {
    /// Objects that were passed.
    pub(crate) passed: u64,
    /// Objects that left.
    pub(crate) evacuated: u64,
    /// How many times the local budget all of them are.
    pub(crate) turnovers: f64,
}

/// What came back: was asked for while it was far, within a turnover after it had left or been passed.
#[derive(Debug, Default)]
struct Returns {
    /// Objects that had not come back before.
    firsts: AtomicU64,
    /// Objects that had.
    repeated: AtomicU64,
    /// How many of all were passed.
    passed: AtomicU64,
}

/// Since ever, or between two moments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    /// Objects that left, or were passed, as those that had not come back before; and how many came back.
    once: u64,
    once_back: u64,
    /// Objects that were passed when they had come back before; and how many came back.
    again: u64,
    again_back: u64,
}

impl Counts {
    fn since(self, earlier: Counts) -> Counts {
        Counts {
            once: self.once.saturating_sub(earlier.once),
            once_back: self.once_back.saturating_sub(earlier.once_back),
            again: self.again.saturating_sub(earlier.again),
            again_back: self.again_back.saturating_sub(earlier.again_back),
        }
    }

    /// Whether what comes back is asked for at a clearly higher rate than what hasn't.
    fn tell(self) -> bool {
        let rate = |back: u64, of: u64| -(-(back as f64 / of.max(1) as f64).min(0.999)).ln_1p();
        rate(self.again_back, self.again) > TELLING * rate(self.once_back, self.once)
    }
}

/// What has been seen since the last decisions.
#[derive(Debug, Default)]
struct Seen {
    young: Young,
    /// Objects that had been passed by then.
    passed: u64,
    phase: Phase,
}

/// Where the counting of what comes back stands.
#[derive(Debug)]
enum Phase {
    /// Nothing is counted until the heap has turned over so many times.
    Settling(f64),
    /// It is counted since it had turned over so many times, from so much on.
    Counting(f64, Counts),
}

impl Default for Phase {
    fn default() -> Self {
        Phase::Settling(0.0)
    }
}

/// What is known of how objects are used.
#[derive(Debug)]
pub(crate) struct Evidence {
    passes: AtomicBool,
    thinned: AtomicUsize,
    returns_for_a_place: AtomicU8,
    returns: Returns,
    seen: Mutex<Seen>,
}

impl Default for Evidence {
    fn default() -> Self {
        Evidence {
            passes: AtomicBool::new(false),
            thinned: AtomicUsize::new(1),
            returns_for_a_place: AtomicU8::new(1),
            returns: Returns::default(),
            seen: Mutex::default(),
        }
    }
}

impl Evidence {
    /// Whether objects are passed now.
    #[inline]
    pub(crate) fn passes(&self) -> bool {
        self.passes.load(Ordering::Relaxed)
    }

    /// How many times fewer objects come to the young queue than would without passing.
    pub(crate) fn thinned(&self) -> usize {
        self.thinned.load(Ordering::Relaxed)
    }

    /// How many times in a row an object must come back for a place.
    pub(crate) fn returns_for_a_place(&self) -> u8 {
        self.returns_for_a_place.load(Ordering::Relaxed)
    }

    /// Passes objects from now on.
    pub(crate) fn begin(&self) {
        self.passes.store(true, Ordering::Relaxed);
    }

    /// An object was asked for that has come back, for this time in a row.
    pub(crate) fn came_back(&self, returns: u8) {
        let counter = if returns == 1 { &self.returns.firsts } else { &self.returns.repeated };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// An object was passed that had come back.
    pub(crate) fn passed_again(&self) {
        self.returns.passed.fetch_add(1, Ordering::Relaxed);
    }

    /// Some more young objects had their turn, and so much has gone through.
    pub(crate) fn learn(&self, young: Young, flows: Flows) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.young.made += young.made;
        seen.young.fetched += young.fetched;
        seen.young.used_again += young.used_again;
        if self.passes() {
            self.weigh_returns(&mut seen.phase, flows);
        }
        if seen.young.made + seen.young.fetched >= WINDOW {
            self.weigh_young(&mut seen, flows);
        }
    }

    fn weigh_young(&self, seen: &mut Seen, flows: Flows) {
        let Young { made, fetched, used_again } = std::mem::take(&mut seen.young);
        let passed = flows.passed.wrapping_sub(std::mem::replace(&mut seen.passed, flows.passed));
        let missed = fetched + passed as usize;
        let passed_before = self.passes();
        let least = if passed_before { ENDS } else { BEGINS };
        let passes = made < missed && used_again * least < fetched;
        // Reads in scopes, and awaited ones, come to the young queue as ever.
        let thinned = match (passes, passed_before) {
            (true, true) => (missed / fetched.max(1)).clamp(1, SAMPLE),
            (true, false) => SAMPLE,
            (false, _) => 1,
        };
        if passes != passed_before {
            self.returns_for_a_place.store(1, Ordering::Relaxed);
            seen.phase = Phase::Settling(flows.turnovers + 1.0);
        }
        self.passes.store(passes, Ordering::Relaxed);
        self.thinned.store(thinned, Ordering::Relaxed);
    }

    fn weigh_returns(&self, phase: &mut Phase, flows: Flows) {
        let counts = self.counts(flows);
        match *phase {
            Phase::Settling(until) if flows.turnovers >= until => *phase = Phase::Counting(flows.turnovers, counts),
            Phase::Counting(from, earlier) if flows.turnovers >= from + TURNOVERS => {
                let counted = counts.since(earlier);
                if counted.again < LEAST_AGAIN {
                    return;
                }
                let needed = if counted.tell() { 1 } else { MOST_RETURNS };
                let before = self.returns_for_a_place.swap(needed, Ordering::Relaxed);
                *phase = match needed == before {
                    true => Phase::Counting(flows.turnovers, counts),
                    false => Phase::Settling(flows.turnovers + 1.0),
                };
            }
            _ => {}
        }
    }

    fn counts(&self, flows: Flows) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let again = get(&self.returns.passed);
        Counts {
            once: (flows.passed + flows.evacuated).saturating_sub(again),
            once_back: get(&self.returns.firsts),
            again,
            again_back: get(&self.returns.repeated),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn young(fetched: usize, used_again: usize) -> Young {
        Young { made: 0, fetched, used_again }
    }

    #[test]
    fn passing_begins_where_few_are_used_again_and_ends_where_many_are() {
        let evidence = Evidence::default();
        let after = |young: Young| {
            evidence.learn(young, Flows::default());
            evidence.passes()
        };
        assert!(!after(young(WINDOW - 1, 0)), "not enough has been seen");
        assert!(after(young(1, 0)), "none was used again");
        assert!(after(young(WINDOW, WINDOW * 3 / 10)), "between the two marks it goes on");
        assert!(!after(young(WINDOW, WINDOW * 2 / 5)));
        assert!(!after(young(WINDOW, WINDOW * 3 / 10)), "between the two marks it does not begin");
        assert!(after(young(WINDOW, WINDOW / 10)));
    }

    #[test]
    fn the_young_queue_is_as_much_shorter_as_less_comes_to_it() {
        let evidence = Evidence::default();
        let mut passed = 0;
        let mut after = |used_again: usize, more: usize| {
            passed += more as u64;
            evidence.learn(young(WINDOW, used_again), Flows { passed, ..Flows::default() });
            evidence.thinned()
        };
        assert_eq!(after(WINDOW, 0), 1);
        assert_eq!(after(0, 0), SAMPLE, "from now on a sample comes");
        assert_eq!(after(0, 15 * WINDOW), SAMPLE);
        assert_eq!(after(0, 40 * WINDOW), SAMPLE, "no shorter than for a sample");
        assert_eq!(after(0, 3 * WINDOW), 4, "three in four are passed");
        assert_eq!(after(0, 0), 1, "all that misses comes, for references");
        assert_eq!(after(WINDOW, 5 * WINDOW), 1, "from now on all comes");
    }

    #[test]
    fn nothing_is_passed_while_most_objects_are_new() {
        let evidence = Evidence::default();
        let mut passed = 0;
        let mut after = |made: usize, fetched: usize, more: usize| {
            passed += more as u64;
            evidence.learn(Young { made, fetched, used_again: 0 }, Flows { passed, ..Flows::default() });
            evidence.passes()
        };
        assert!(!after(WINDOW, 0, 0));
        assert!(!after(WINDOW, WINDOW / 2, 0));
        assert!(after(WINDOW, 2 * WINDOW, 0));
        assert!(after(WINDOW, WINDOW / 8, WINDOW), "with those that were passed, more are read than made");
        assert!(!after(WINDOW, WINDOW / 8, WINDOW / 2));
    }

    /// Objects that are passed, and what comes back, for so many turnovers.
    struct Load {
        evidence: Evidence,
        flows: Flows,
    }

    impl Load {
        fn new() -> Self {
            let evidence = Evidence::default();
            evidence.begin();
            Load { evidence, flows: Flows::default() }
        }

        /// A turnover in which so many objects are passed, `passed_again` of them having come back; `back` come back that had not before, and `back_again` that had.
        fn turnover(&mut self, passed: u64, back: u64, passed_again: u64, back_again: u64) -> u8 {
            (0..back).for_each(|_| self.evidence.came_back(1));
            (0..back_again).for_each(|_| self.evidence.came_back(2));
            (0..passed_again).for_each(|_| self.evidence.passed_again());
            self.flows.passed += passed;
            self.flows.turnovers += 1.0;
            self.evidence.learn(Young::default(), self.flows);
            self.evidence.returns_for_a_place()
        }
    }

    #[test]
    fn coming_back_earns_a_place_where_it_tells() {
        let mut load = Load::new();
        let mut last = |back_again: u64| (0..8).map(|_| load.turnover(1000, 200, 50, back_again)).last();
        assert_eq!(last(10), Some(MOST_RETURNS), "a fifth of all come back, whatever they did before");
        assert_eq!(last(25), Some(1), "a fifth, and half of those that had come back");
        assert_eq!(last(12), Some(MOST_RETURNS), "hardly more than others");
    }

    #[test]
    fn where_nearly_all_come_back_it_tells_nothing() {
        let mut load = Load::new();
        let last = (0..8).map(|_| load.turnover(1000, 950, 50, 50)).last();
        assert_eq!(last, Some(MOST_RETURNS));
    }

    #[test]
    fn little_evidence_changes_nothing() {
        let mut load = Load::new();
        let few = LEAST_AGAIN / 16;
        assert!((0..12).all(|_| load.turnover(1000, 200, few, 0) == 1), "too few that had come back");
        let mut load = Load::new();
        assert!((0..2).all(|_| load.turnover(1000, 200, 500, 0) == 1), "too little time");
        assert_eq!(load.turnover(1000, 200, 500, 0), MOST_RETURNS);
        assert_eq!(load.turnover(1000, 200, 500, 500), MOST_RETURNS, "too little time, again");
    }

    #[test]
    fn what_came_back_by_the_rules_before_is_not_counted() {
        let mut load = Load::new();
        assert_eq!((0..3).map(|_| load.turnover(1000, 200, 50, 10)).last(), Some(MOST_RETURNS));
        // Of many that had been passed before few are passed now, and all that come back in the first turnover are of the former.
        assert_eq!(load.turnover(1000, 200, 500, 500), MOST_RETURNS);
        assert!((0..6).all(|_| load.turnover(1000, 200, 500, 100) == MOST_RETURNS));
    }

    #[test]
    fn each_time_of_passing_begins_with_places_for_what_comes_back() {
        let mut load = Load::new();
        assert_eq!((0..4).map(|_| load.turnover(1000, 200, 50, 10)).last(), Some(MOST_RETURNS));
        load.evidence.learn(young(WINDOW, WINDOW), load.flows);
        assert!(!load.evidence.passes());
        load.evidence.learn(young(WINDOW, 0), load.flows);
        assert!(load.evidence.passes());
        assert_eq!(load.evidence.returns_for_a_place(), 1);
    }
}
