//! What came of the weakenings, for people and for programs.
#![forbid(unsafe_code)]

use super::table::Weakening;
use super::trial::Verdict;
use serde_json::{Value, json};
use std::time::Duration;

/// What came of one weakening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A check noticed, and how.
    Found(String),
    /// No check noticed.
    Survived,
    /// No check noticed, as the table says.
    SurvivedAsKnown,
    /// A check noticed, though the table says that none can.
    FoundAfterAll(String),
    /// The entry is out of date.
    Broken(String),
}

impl Outcome {
    pub(super) fn of(weakening: &Weakening, verdict: Verdict) -> Self {
        match (verdict, weakening.survives.is_some()) {
            (Verdict::Passed { .. }, true) => Outcome::SurvivedAsKnown,
            (Verdict::Passed { .. }, false) => Outcome::Survived,
            (Verdict::Broken { why }, _) => Outcome::Broken(why),
            (verdict, true) => Outcome::FoundAfterAll(verdict.to_string()),
            (verdict, false) => Outcome::Found(verdict.to_string()),
        }
    }

    fn label(&self) -> &'static str {
        match self {
            Outcome::Found(_) => "found",
            Outcome::Survived => "SURVIVED",
            Outcome::SurvivedAsKnown => "survives",
            Outcome::FoundAfterAll(_) => "FOUND AFTER ALL",
            Outcome::Broken(_) => "BROKEN",
        }
    }

    fn detail(&self) -> &str {
        match self {
            Outcome::Found(how) | Outcome::FoundAfterAll(how) => how,
            Outcome::Broken(why) => why,
            Outcome::Survived | Outcome::SurvivedAsKnown => "",
        }
    }
}

/// One weakening and what came of it.
pub(super) struct Report {
    pub(super) weakening: Weakening,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
}

impl Report {
    pub(super) fn line(&self) -> String {
        let Report { weakening, outcome, took } = self;
        let detail = match outcome {
            Outcome::Survived => format!("{}; expected to be found by {}", weakening.what, expected(weakening)),
            Outcome::SurvivedAsKnown => weakening.survives.clone().unwrap_or_default(),
            _ => outcome.detail().to_owned(),
        };
        format!("{:>15} {:>6.1} s  {:<28} {detail}", outcome.label(), took.as_secs_f64(), weakening.name)
    }
}

/// The check that should notice, with its tests.
fn expected(weakening: &Weakening) -> String {
    if weakening.tests.is_empty() {
        return weakening.check.to_string();
    }
    format!("{}: {}", weakening.check, weakening.tests.join(", "))
}

/// How many of which.
pub(super) struct Summary {
    found: usize,
    /// Without those known to survive.
    all: usize,
    known: usize,
    bad: usize,
}

impl Summary {
    pub(super) fn new(reports: &[Report]) -> Self {
        let count = |label: &str| reports.iter().filter(|report| report.outcome.label() == label).count();
        let (found, known) = (count("found"), count("survives"));
        Summary { found, known, all: reports.len() - known, bad: reports.len() - found - known }
    }

    /// Whether nothing is to be done.
    pub(super) fn is_good(&self) -> bool {
        self.bad == 0
    }
}

/// All of it, with the score in the last line.
pub(super) fn text(reports: &[Report], summary: &Summary) -> String {
    let mut text = String::new();
    for report in reports {
        text += &report.line();
        text.push('\n');
    }
    let took: Duration = reports.iter().map(|report| report.took).sum();
    let Summary { found, all, known, bad } = summary;
    text +=
        &format!("\nscore: {found} of {all} found; {known} survive as known; {bad} to look at; {:.0} s\n", took.as_secs_f64());
    text
}

/// The same for programs.
pub(super) fn json(reports: &[Report], summary: &Summary) -> Value {
    let weakenings: Vec<Value> = reports
        .iter()
        .map(|Report { weakening, outcome, took }| {
            json!({
                "name": weakening.name,
                "what": weakening.what,
                "expected": expected(weakening),
                "outcome": outcome.label().to_lowercase(),
                "how": outcome.detail(),
                "seconds": took.as_secs_f64(),
            })
        })
        .collect();
    json!({ "found": summary.found, "of": summary.all, "survive_as_known": summary.known, "weakenings": weakenings })
}

/// What there is.
pub(super) fn list(weakenings: &[&Weakening]) -> String {
    let mut text = String::new();
    for weakening in weakenings {
        let survives = weakening.survives.as_ref().map_or(String::new(), |why| format!("\n    survives: {why}"));
        text += &format!(
            "{}: {}\n    wrong because {}\n    found by {}{survives}\n",
            weakening.name,
            weakening.what,
            weakening.wrong,
            expected(weakening)
        );
    }
    text
}

/// The same for programs.
pub(super) fn list_json(weakenings: &[&Weakening]) -> Value {
    let entry = |weakening: &&Weakening| {
        json!({
            "name": weakening.name,
            "what": weakening.what,
            "wrong": weakening.wrong,
            "expected": expected(weakening),
            "survives": weakening.survives,
        })
    };
    weakenings.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::super::table::Check;
    use super::*;

    fn report(survives: bool, verdict: Verdict) -> Report {
        let weakening = Weakening {
            name: "name".into(),
            what: "what".into(),
            wrong: "wrong".into(),
            check: Check::default(),
            tests: vec!["a_test".into()],
            survives: survives.then(|| "reason".into()),
            ..Default::default()
        };
        Report { outcome: Outcome::of(&weakening, verdict), weakening, took: Duration::from_secs(1) }
    }

    #[test]
    fn only_what_the_table_says_is_good() {
        let passed = || Verdict::Passed { took: Duration::ZERO };
        let failed = || Verdict::Failed { test: "t".into(), how: "h".into() };
        let broken = || Verdict::Broken { why: "w".into() };
        for (survives, verdict, good) in [
            (false, failed(), true),
            (false, Verdict::Hung { after: Duration::ZERO }, true),
            (false, Verdict::Crashed { how: "signal".into() }, true),
            (true, passed(), true),
            (false, passed(), false),
            (true, failed(), false),
            (true, broken(), false),
            (false, broken(), false),
        ] {
            let reports = [report(survives, verdict)];
            assert_eq!(Summary::new(&reports).is_good(), good, "{}", reports[0].line());
        }
        let reports = [report(false, failed()), report(true, passed()), report(false, passed())];
        let summary = Summary::new(&reports);
        assert!(text(&reports, &summary).contains("score: 1 of 2 found; 1 survive as known; 1 to look at"));
        assert_eq!(json(&reports, &summary)["weakenings"][2]["outcome"], "survived");
    }
}
