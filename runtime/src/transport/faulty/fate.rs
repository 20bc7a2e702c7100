//! What is to happen to an operation: a pure function of the seed and of who asks.
#![forbid(unsafe_code)]

use super::kind::{Kind, Rates};
use crate::transport::Verb;

/// A stream of numbers. SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): any seed will do, also the small ones that counters make.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    /// The stream of one operation: `who` names it.
    pub(super) fn of(seed: u64, who: [u64; 3]) -> Self {
        let mut dice = Dice(seed);
        for part in who {
            dice.0 = dice.next() ^ part;
        }
        dice
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Whether something happens that happens at `rate`.
    pub(super) fn happens(&mut self, rate: u16) -> bool {
        // Drawn also where the answer is known, so that one rate does not change what another kind meets.
        let drawn = self.below(usize::from(Rates::ALWAYS));
        drawn < usize::from(rate)
    }
}

/// What is to happen to one operation.
#[derive(Debug)]
pub(super) struct Fate {
    /// What goes wrong with it.
    pub(super) kind: Option<Kind>,
    /// Held back before it is done, in thousandths of the longest delay.
    pub(super) before: u32,
    /// Held back before it is reported.
    pub(super) after: u32,
    /// For what else is to be decided.
    pub(super) dice: Dice,
}

impl Fate {
    /// The fate of an operation through a session.
    pub(super) fn of_operation(mut dice: Dice, verb: Verb, rates: Rates) -> Self {
        let mut kind = None;
        for candidate in Kind::ALL {
            if candidate.fits(verb) && dice.happens(rates.of(candidate)) {
                kind.get_or_insert(candidate);
            }
        }
        let (mut before, mut after) = (0, 0);
        if dice.happens(rates.of(Kind::Delay)) {
            let part = 1 + dice.below(1000) as u32;
            if dice.below(2) == 0 {
                before = part;
            } else {
                after = part;
            }
        }
        Fate { kind, before, after, dice }
    }

    /// The fate of an access to mapped memory, which is over when it returns.
    pub(super) fn of_access(dice: Dice, verb: Verb, rates: Rates) -> Self {
        let rates = Kind::ALL.into_iter().filter(|kind| kind.needs_session()).fold(rates, |rates, kind| rates.with(kind, 0));
        Self::of_operation(dice, verb, rates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fate_depends_on_seed_and_asker_alone() {
        let kinds = |seed, session| {
            let fate = |op| Fate::of_operation(Dice::of(seed, [0, session, op]), Verb::Write, Rates::broken(300)).kind;
            (0..500).map(fate).collect::<Vec<_>>()
        };
        assert_eq!(kinds(1, 1), kinds(1, 1));
        assert!(kinds(1, 1) != kinds(1, 2) && kinds(1, 1) != kinds(2, 1));
        let hit = kinds(1, 1).into_iter().flatten().count();
        assert!((50..300).contains(&hit), "{hit} of 500");
    }

    #[test]
    fn what_is_mapped_meets_no_fault_that_takes_a_session() {
        for op in 0..2000 {
            let fate = Fate::of_access(Dice::of(9, [0, 0, op]), Verb::Write, Rates::broken(500));
            assert!(fate.kind.is_none_or(|kind| !kind.needs_session()) && fate.before + fate.after == 0, "{fate:?}");
        }
    }
}
