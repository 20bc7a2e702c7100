//! Steps: how one is run, and how all of them are reported.
//!
//! A step's output is shown as it comes and read along: how many tests passed, and what was skipped. A test that can't be
//! run here writes a line with `SKIPPED: reason` to standard error (not by `eprintln!`, which the test harness hides), and
//! the summary repeats it. A step that fails doesn't stop the others; the summary ends with its command.
#![forbid(unsafe_code)]

use crate::invocation::Invocation;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// A piece of work.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// What it would catch, in one line.
    pub(crate) why: &'static str,
    pub(crate) action: Action,
    /// Why it can't be run here, if it can't. Asked just before it would be.
    pub(crate) skip: fn() -> Option<String>,
}

impl Step {
    pub(crate) fn new(name: &'static str, why: &'static str, action: Action) -> Self {
        Step { name, why, action, skip: || None }
    }

    /// Asks `skip` before it is run.
    pub(crate) fn unless(mut self, skip: fn() -> Option<String>) -> Self {
        self.skip = skip;
        self
    }
}

/// What a step does.
pub(crate) enum Action {
    /// Passes if the command does.
    Run(Invocation),
    /// Passes if the command does and at least one test ran: a filter that fits nothing would pass for ever.
    Tests(Invocation),
    /// Passes if the command does and the function likes its standard output.
    Judged(Invocation, fn(&Path, &str) -> Result<(), String>),
    /// Passes if the function does.
    Check(fn(&Path) -> Result<(), String>),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Run(invocation) | Action::Tests(invocation) | Action::Judged(invocation, _) => invocation.fmt(f),
            Action::Check(_) => f.write_str("(a check of xtask itself)"),
        }
    }
}

/// How a step ended.
enum Outcome {
    Passed { tests: usize },
    Failed(String),
    Skipped(String),
}

struct Report {
    outcome: Outcome,
    took: Duration,
    /// What its tests said they skipped.
    skips: Vec<String>,
}

/// Runs the steps in order, and says at the end how each went. Returns whether none failed.
pub(crate) fn run_all(steps: &[Step], root: &Path) -> bool {
    let mut reports = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        println!("\n=== {}/{} {}: {}", i + 1, steps.len(), step.name, step.why);
        let start = Instant::now();
        let mut skips = Vec::new();
        let outcome = match (step.skip)() {
            Some(reason) => Outcome::Skipped(reason),
            None => run(&step.action, root, &mut skips).map_or_else(Outcome::Failed, |tests| Outcome::Passed { tests }),
        };
        match &outcome {
            Outcome::Failed(problem) => println!("=== FAILED {}: {problem}", step.name),
            Outcome::Skipped(reason) => println!("=== SKIPPED {}: {reason}", step.name),
            Outcome::Passed { .. } => {}
        }
        reports.push(Report { outcome, took: start.elapsed(), skips });
    }
    summarise(steps, &reports, &mut io::stdout().lock()).expect("standard output takes the summary");
    reports.iter().all(|report| !matches!(report.outcome, Outcome::Failed(_)))
}

fn summarise(steps: &[Step], reports: &[Report], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n=== summary")?;
    for (step, report) in steps.iter().zip(reports) {
        let how = match &report.outcome {
            Outcome::Passed { tests: 0 } => "ok".to_owned(),
            Outcome::Passed { tests } => format!("ok, {tests} tests passed"),
            Outcome::Failed(problem) => format!("FAILED: {problem}"),
            Outcome::Skipped(reason) => format!("SKIPPED: {reason}"),
        };
        writeln!(out, "{:>16} {:>8.1} s  {how}", step.name, report.took.as_secs_f64())?;
    }
    for skipped in reports.iter().flat_map(|report| &report.skips) {
        writeln!(out, "!!! SKIPPED: {skipped}")?;
    }
    for (step, report) in steps.iter().zip(reports) {
        if matches!(report.outcome, Outcome::Failed(_)) {
            writeln!(out, "!!! FAILED {}; to run it again: {}", step.name, Again(step))?;
        }
    }
    Ok(())
}

/// The command that runs a step again.
struct Again<'a>(&'a Step);

impl fmt::Display for Again<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.action {
            Action::Run(invocation) | Action::Tests(invocation) => invocation.fmt(f),
            Action::Judged(..) | Action::Check(_) => write!(f, "cargo xtask ci {}", self.0.name),
        }
    }
}

/// Returns how many tests passed.
fn run(action: &Action, root: &Path, skips: &mut Vec<String>) -> Result<usize, String> {
    let execute = |invocation: &Invocation, skips: &mut Vec<String>| {
        println!("$ {invocation}");
        let heard = execute(invocation, root)?;
        skips.extend(heard.skips);
        match heard.failed {
            Some(how) => Err(how),
            None => Ok((heard.passed, heard.stdout)),
        }
    };
    match action {
        Action::Run(invocation) => Ok(execute(invocation, skips)?.0),
        Action::Tests(invocation) => match execute(invocation, skips)?.0 {
            0 => Err("no test ran; the filter fits none".into()),
            passed => Ok(passed),
        },
        Action::Judged(invocation, judge) => {
            let (passed, stdout) = execute(invocation, skips)?;
            judge(root, &stdout).map(|()| passed)
        }
        Action::Check(check) => check(root).map(|()| 0),
    }
}

/// What was read along.
#[derive(Default)]
struct Heard {
    /// How it failed, if it did.
    failed: Option<String>,
    passed: usize,
    skips: Vec<String>,
    stdout: String,
}

fn execute(invocation: &Invocation, root: &Path) -> Result<Heard, String> {
    let mut command = invocation.command(root)?;
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("can't start {}: {error}", command.get_program().display()))?;
    let stdout = child.stdout.take().expect("standard output is piped");
    let stderr = child.stderr.take().expect("standard error is piped");
    let heard = Mutex::new(Heard::default());
    let hear = |line: &str| heard.lock().expect("a listener doesn't panic").hear(line);
    thread::scope(|threads| {
        threads.spawn(|| pass_on(stderr, io::stderr(), hear));
        pass_on(stdout, io::stdout(), |line| {
            hear(line);
            heard.lock().expect("a listener doesn't panic").stdout.push_str(line);
        });
    });
    let status = child.wait().map_err(|error| format!("can't wait for it: {error}"))?;
    let mut heard = heard.into_inner().expect("a listener doesn't panic");
    heard.failed = (!status.success()).then(|| status.to_string());
    Ok(heard)
}

/// Copies line by line, and shows each line to `hear`. What isn't UTF-8 is passed on as it is.
fn pass_on(from: impl Read, mut to: impl Write, mut hear: impl FnMut(&str)) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while matches!(from.read_until(b'\n', &mut line), Ok(1..)) {
        // Where the output goes may be gone (`| head`); the command shall run to its end all the same.
        let _ = to.write_all(&line).and_then(|()| to.flush());
        hear(&String::from_utf8_lossy(&line));
        line.clear();
    }
}

impl Heard {
    fn hear(&mut self, line: &str) {
        if let Some((_, counts)) = line.split_once("test result: ") {
            self.passed += passed_in(counts).unwrap_or(0);
        } else if let Some((_, reason)) = line.split_once("SKIPPED: ") {
            self.skips.push(reason.trim_end().to_owned());
        }
    }
}

/// `ok. 24 passed; 0 failed; ...`
fn passed_in(counts: &str) -> Option<usize> {
    counts.split_once(" passed;")?.0.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_skips_are_heard() {
        let mut heard = Heard::default();
        for line in [
            "test result: ok. 24 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s\n",
            "running 3 tests\n",
            "test a ... SKIPPED: no io_uring here\n",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored\n",
        ] {
            heard.hear(line);
        }
        assert_eq!(heard.passed, 26);
        assert_eq!(heard.skips, ["no io_uring here"]);
    }

    #[test]
    fn output_is_passed_on_to_the_last_byte() {
        let (mut copy, mut lines) = (Vec::new(), 0);
        pass_on(&b"one\n\xff two\nthree"[..], &mut copy, |_| lines += 1);
        assert_eq!((copy.as_slice(), lines), (&b"one\n\xff two\nthree"[..], 3));
    }

    #[test]
    fn the_summary_repeats_what_was_skipped_and_how_to_run_what_failed() {
        let steps = [
            Step::new("lint", "", Action::Run(Invocation::cargo("clippy"))),
            Step::new("all", "", Action::Tests(Invocation::cargo("test"))),
            Step::new("uring", "", Action::Tests(Invocation::cargo("test uring"))),
        ];
        let outcomes =
            [Outcome::Failed("exit status: 101".into()), Outcome::Passed { tests: 7 }, Outcome::Skipped("forbidden here".into())];
        let reports = outcomes.map(|outcome| Report { outcome, took: Duration::ZERO, skips: vec!["a reason".into()] });
        let mut text = Vec::new();
        summarise(&steps, &reports, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("ok, 7 tests passed"), "{text}");
        assert!(text.contains("SKIPPED: forbidden here") && text.contains("!!! SKIPPED: a reason"), "{text}");
        assert!(text.ends_with("!!! FAILED lint; to run it again: cargo clippy\n"), "{text}");
    }

    #[test]
    fn a_command_that_fails_or_runs_no_test_fails_the_step() {
        let root = Path::new("/");
        let run = |action| run(&action, root, &mut Vec::new());
        assert_eq!(run(Action::Run(Invocation::cargo("--version"))), Ok(0));
        assert!(run(Action::Tests(Invocation::cargo("--version"))).unwrap_err().starts_with("no test ran"));
        assert!(run(Action::Run(Invocation::cargo("no-such-command"))).is_err());
        let picky = |_: &Path, said: &str| if said.starts_with("cargo 1.") { Err("no".to_owned()) } else { Ok(()) };
        assert_eq!(run(Action::Judged(Invocation::cargo("--version"), picky)), Err("no".into()));
    }
}
