//! What a regular expression asks of the index.
//!
//! # Method
//! After Russ Cox, *Regular Expression Matching with a Trigram Index*, section "Indexed Regular Expression Search". For each
//! part of the expression, from the leaves up, it is computed what must hold of every text that the part matches:
//! - `exact`: it is one of these strings (if they are few enough to tell);
//! - `prefix`: it begins with one of these; `suffix`: it ends with one of these;
//! - `need`: whatever text contains it satisfies this plan.
//!
//! # Why it never loses a file
//! Each rule only weakens what is known: a set of strings that has become too large is cut to shorter beginnings or ends (the
//! empty string at last, which says nothing) after its trigrams have gone into `need`; a class of too many characters is "any
//! text". Assertions (`^`, `\b`) are taken as the empty text, which only matches more. Case-insensitive matching has already
//! become classes when the expression arrives here, and so needs no rule.
//!
//! A match lies within one line. A trigram with a line's end in it is in no posting list, which is right: no match holds it.

use std::collections::BTreeSet;

use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

use super::strings::{Keep, MAX_STRINGS, Strings};
use super::trigram::Trigram;

/// Characters of the largest class that is spelled out. Enough for both cases of any letter, and for short ranges.
const MAX_CLASS: usize = 8;
/// Strings that may stand in one `or` of a plan: each costs lookups.
const MAX_ALTERNATIVES: usize = 2 * MAX_STRINGS;
/// Copies of a repeated part that are looked at. More rarely excludes more files.
const MAX_COPIES: u32 = 3;
/// Bytes of one exact string; a longer one is cut into beginning, end and trigrams.
const MAX_EXACT_BYTES: usize = 256;

/// A question about the trigrams of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plan {
    /// Every file will do.
    All,
    /// No file will do.
    None,
    /// Files that hold this trigram.
    Has(Trigram),
    /// Files for which all of these hold.
    And(Vec<Plan>),
    /// Files for which one of these holds.
    Or(Vec<Plan>),
}

impl Plan {
    /// The plan of an expression.
    pub fn of(hir: &Hir) -> Plan {
        Known::of(hir).into_need()
    }

    /// Both must hold.
    pub fn and(self, other: Plan) -> Plan {
        match (self, other) {
            (Plan::None, _) | (_, Plan::None) => Plan::None,
            (Plan::All, plan) | (plan, Plan::All) => plan,
            (one, other) => {
                let mut all = parts_of(one, Plan::conjuncts);
                all.append(&mut parts_of(other, Plan::conjuncts));
                // `x and (x or y)` is x.
                one_or(without(&all, Plan::disjuncts), Plan::And)
            }
        }
    }

    /// One of the two must hold.
    pub fn or(self, other: Plan) -> Plan {
        match (self, other) {
            (Plan::All, _) | (_, Plan::All) => Plan::All,
            (Plan::None, plan) | (plan, Plan::None) => plan,
            (one, other) => {
                let mut all = parts_of(one, Plan::disjuncts);
                all.append(&mut parts_of(other, Plan::disjuncts));
                // `x or (x and y)` is x.
                one_or(without(&all, Plan::conjuncts), Plan::Or)
            }
        }
    }

    fn conjuncts(&self) -> Option<&[Plan]> {
        if let Plan::And(parts) = self { Some(parts) } else { None }
    }

    fn disjuncts(&self) -> Option<&[Plan]> {
        if let Plan::Or(parts) = self { Some(parts) } else { None }
    }

    /// Files that hold all trigrams of one of `strings`.
    fn contains_one_of(strings: &Strings) -> Plan {
        if strings.shortest() < 3 {
            return Plan::All;
        }
        strings.iter().fold(Plan::None, |plan, string| plan.or(Plan::contains(string)))
    }

    fn contains(string: &[u8]) -> Plan {
        let trigrams: BTreeSet<Trigram> = Trigram::all_of(string).collect();
        one_or(trigrams.into_iter().map(Plan::Has).collect(), Plan::And)
    }
}

fn parts_of(plan: Plan, parts: fn(&Plan) -> Option<&[Plan]>) -> BTreeSet<Plan> {
    match parts(&plan) {
        Some(parts) => parts.iter().cloned().collect(),
        None => BTreeSet::from([plan]),
    }
}

/// `all` but those with a part that is itself in `all`, and so says as much.
fn without(all: &BTreeSet<Plan>, parts: fn(&Plan) -> Option<&[Plan]>) -> Vec<Plan> {
    let absorbed = |plan: &Plan| parts(plan).is_some_and(|parts| parts.iter().any(|part| all.contains(part)));
    all.iter().filter(|plan| !absorbed(plan)).cloned().collect()
}

fn one_or(mut parts: Vec<Plan>, make: fn(Vec<Plan>) -> Plan) -> Plan {
    if parts.len() == 1 { parts.remove(0) } else { make(parts) }
}

/// What is known of every text that a part of the expression matches.
#[derive(Debug, Clone)]
struct Known {
    exact: Option<Strings>,
    /// Not used while `exact` is known.
    prefix: Strings,
    /// Not used while `exact` is known.
    suffix: Strings,
    need: Plan,
}

impl Known {
    fn of(hir: &Hir) -> Known {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => Known::exactly(Strings::empty()),
            HirKind::Literal(literal) => Known::exactly(Strings::one(&literal.0)),
            HirKind::Class(class) => Known::of_class(class),
            HirKind::Repetition(repetition) => Known::of_repetition(repetition),
            HirKind::Capture(capture) => Known::of(&capture.sub),
            HirKind::Concat(parts) => {
                parts.iter().map(Known::of).reduce(Known::then).unwrap_or_else(|| Known::exactly(Strings::empty()))
            }
            HirKind::Alternation(parts) => {
                parts.iter().map(Known::of).reduce(Known::or).unwrap_or_else(|| Known::exactly(Strings::none()))
            }
        }
    }

    fn exactly(strings: Strings) -> Known {
        let long = strings.iter().any(|string| string.len() > MAX_EXACT_BYTES);
        let known = Known { exact: Some(strings), prefix: Strings::empty(), suffix: Strings::empty(), need: Plan::All };
        if long { known.inexact() } else { known }
    }

    fn anything() -> Known {
        Known { exact: None, prefix: Strings::empty(), suffix: Strings::empty(), need: Plan::All }
    }

    fn of_class(class: &Class) -> Known {
        let characters: usize = match class {
            Class::Unicode(class) => class.iter().map(|range| range.len()).sum(),
            Class::Bytes(class) => class.iter().map(|range| range.len()).sum(),
        };
        if characters > MAX_CLASS {
            return Known::anything();
        }
        Known::exactly(match class {
            Class::Unicode(class) => Strings::of(
                class.iter().flat_map(|range| range.start()..=range.end()).map(|character| character.to_string().into_bytes()),
            ),
            Class::Bytes(class) => Strings::of(class.iter().flat_map(|range| range.start()..=range.end()).map(|byte| vec![byte])),
        })
    }

    fn of_repetition(repetition: &Repetition) -> Known {
        let part = Known::of(&repetition.sub);
        let copies = repetition.min.min(MAX_COPIES);
        let repeated = (1..copies).fold(part.clone(), |known, _| known.then(part.clone()));
        match (repetition.min, repetition.max) {
            (_, Some(0)) => Known::exactly(Strings::empty()),
            (0, Some(1)) => part.or(Known::exactly(Strings::empty())),
            // Some copies or none at all: of any text it is only known what both have in common.
            (0, _) => part.inexact().or(Known::exactly(Strings::empty())),
            (min, Some(max)) if min == max && min == copies => repeated,
            // At least these copies: it begins with them, it ends with them, and between there may be more.
            _ => repeated.inexact(),
        }
    }

    /// This text and then that.
    fn then(self, next: Known) -> Known {
        let need = self.need.clone().and(next.need.clone());
        if let (Some(first), Some(second)) = (&self.exact, &next.exact)
            && first.len() * second.len() <= MAX_STRINGS
        {
            let mut known = Known::exactly(first.followed_by(second));
            known.need = known.need.and(need);
            return known;
        }
        let boundary = across(self.ends(), next.beginnings());
        let prefix = match &self.exact {
            Some(exact) => exact.followed_by(next.beginnings()).cut_to_few(Keep::Beginning),
            None => self.prefix.clone(),
        };
        let suffix = match &next.exact {
            Some(exact) => self.ends().followed_by(exact).cut_to_few(Keep::End),
            None => next.suffix.clone(),
        };
        let need = [&self.exact, &next.exact]
            .into_iter()
            .flatten()
            .fold(need.and(boundary), |need, exact| need.and(Plan::contains_one_of(exact)));
        Known { exact: None, prefix, suffix, need }
    }

    /// This text or that.
    fn or(self, other: Known) -> Known {
        if let (Some(one), Some(two)) = (&self.exact, &other.exact) {
            let both = one.clone().union(two);
            if both.len() <= MAX_STRINGS {
                return Known {
                    exact: Some(both),
                    prefix: Strings::empty(),
                    suffix: Strings::empty(),
                    need: self.need.or(other.need),
                };
            }
        }
        let (one, two) = (self.inexact(), other.inexact());
        Known {
            exact: None,
            prefix: one.prefix.union(&two.prefix).cut_to_few(Keep::Beginning),
            suffix: one.suffix.union(&two.suffix).cut_to_few(Keep::End),
            need: one.need.or(two.need),
        }
    }

    fn beginnings(&self) -> &Strings {
        self.exact.as_ref().unwrap_or(&self.prefix)
    }

    fn ends(&self) -> &Strings {
        self.exact.as_ref().unwrap_or(&self.suffix)
    }

    /// Turns `exact` into what it says about beginning, end and trigrams.
    fn inexact(self) -> Known {
        match self.exact {
            None => self,
            Some(exact) => Known {
                prefix: exact.cut_to_few(Keep::Beginning),
                suffix: exact.cut_to_few(Keep::End),
                need: self.need.and(Plan::contains_one_of(&exact)),
                exact: None,
            },
        }
    }

    fn into_need(self) -> Plan {
        self.inexact().need
    }
}

/// What the trigrams that lie across two neighbours say.
fn across(ends: &Strings, beginnings: &Strings) -> Plan {
    let (ends, beginnings) = match ends.len() * beginnings.len() > MAX_ALTERNATIVES {
        true => (&ends.cut(Keep::End, 2), &beginnings.cut(Keep::Beginning, 2)),
        false => (ends, beginnings),
    };
    if ends.len() * beginnings.len() > MAX_ALTERNATIVES {
        return Plan::All;
    }
    Plan::contains_one_of(&ends.followed_by(beginnings))
}
