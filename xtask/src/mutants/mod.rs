//! `cargo xtask mutants`: what the checks are worth. Weakens the code on purpose, one place at a time, and sees whether a check notices.
//!
//! - `table`: the weakenings, which are data in `xtask/mutants/*.toml`. **A new one is an entry there.**
//! - `scratch`: a copy of the workspace, the only place where anything is weakened.
//! - `trial`: builds and runs one check, until its first failure.
//! - `report`: what came of it, for people and for programs.
//! - `docs`: the table in `docs/testing.md`, which is made of the data.
//!
//! # One run
//! 1. Every selected weakening must still apply. One whose text is not there exactly once is an error before anything is built.
//! 2. A check must pass on the code as it is before it judges weakened code: what fails anyway finds nothing. This also says how long it takes.
//! 3. Each weakening is applied to the copy, built, checked and taken back. It is **found** if a test fails, crashes, or takes ten times as
//!    long as before; **broken** if it does not compile or its check runs no test; else it **survived**.
//!
//! The run fails if one survived or is broken, and also if one that is known to survive was found: then the table is out of date.
#![forbid(unsafe_code)]

mod docs;
mod report;
mod scratch;
mod table;
mod trial;

use indicatif::{ProgressBar, ProgressStyle};
use report::{Outcome, Report};
use scratch::Scratch;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use table::{Check, Table, Weakening};
use trial::Verdict;

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask mutants                       all of them; allow an hour and a half on two cores
  cargo xtask mutants --list                their names, what each breaks, and which check should notice
  cargo xtask mutants --only word           those of xtask/mutants/word.toml
  cargo xtask mutants --only plan-blind --only limbo-dropped
                                            these two
  cargo xtask mutants --check               only whether each still applies to the code; what CI runs
  cargo xtask mutants --json > mutants.json results for a program, progress on standard error

A weakening is an entry of a file in xtask/mutants: a name, what it does, why that must be wrong, the check that should notice, and
the text to replace in which file. The text must be there exactly once. Nothing outside the target folder is changed.
Exit status: 0 if all were found, 1 if one survived or an entry is out of date, 2 if nothing could be run.";

/// A check may take this many times as long as on the code as it is; beyond, it hangs.
const PATIENCE: u32 = 10;

/// But never less than this: the machine may be busy with something else.
const LEAST_PATIENCE: Duration = Duration::from_secs(120);

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Only the weakening of this name, or those of this file; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Say what there is, and run nothing
    #[arg(long, conflicts_with_all = ["check", "docs"])]
    list: bool,
    /// Only check that every weakening applies, and that docs/testing.md lists them
    #[arg(long, conflicts_with_all = ["docs", "json"])]
    check: bool,
    /// Write the table in docs/testing.md anew
    #[arg(long, conflicts_with = "json")]
    docs: bool,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// Whether all went well; an error if nothing could be run.
pub(crate) fn run(options: &Options, root: &Path, target: &Path) -> Result<bool, String> {
    let table = Table::load(root)?;
    if options.docs {
        docs::write(root, &table)?;
        return Ok(true);
    }
    let selected = table.select(&options.only)?;
    if options.list {
        if options.json {
            println!("{}", report::list_json(&selected))
        } else {
            print!("{}", report::list(&selected))
        }
        return Ok(true);
    }
    if options.check {
        check(root)?;
        println!("{} weakenings apply, and docs/testing.md lists them", table.weakenings().count());
        return Ok(true);
    }
    for weakening in &selected {
        weakening.applied(root)?;
    }
    let reports = run_all(&selected, root, target)?;
    let summary = report::Summary::new(&reports);
    if options.json {
        println!("{}", report::json(&reports, &summary))
    } else {
        print!("{}", report::text(&reports, &summary))
    }
    Ok(summary.is_good())
}

/// Whether every weakening applies, names tests that exist, and is in the docs. Reads files only.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let table = Table::load(root)?;
    let mut problems: Vec<String> = table.weakenings().filter_map(|weakening| weakening.applied(root).err()).collect();
    problems.extend(table.weakenings().filter_map(|weakening| weakening.missing_test(root)));
    problems.extend(docs::check(root, &table).err());
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

fn run_all(selected: &[&Weakening], root: &Path, target: &Path) -> Result<Vec<Report>, String> {
    let scratch = Scratch::new(root, target)?;
    let mut order: Vec<&Weakening> = selected.to_vec();
    // One check after the other: each of its builds then starts from the one before.
    order.sort_by(|a, b| a.check.cmp(&b.check));
    let mut checks: BTreeMap<&Check, Vec<&Weakening>> = BTreeMap::new();
    order.iter().for_each(|weakening| checks.entry(&weakening.check).or_default().push(weakening));
    let bar = ProgressBar::new((order.len() + checks.len()) as u64);
    let style =
        ProgressStyle::with_template("{elapsed:>5} [{bar:30}] {pos}/{len} {wide_msg}").expect("the template is a constant");
    bar.set_style(style.progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut limits = BTreeMap::new();
    let mut reports = Vec::new();
    for weakening in order {
        if !limits.contains_key(&weakening.check) {
            bar.set_message(format!("{} on the code as it is", weakening.check));
            limits.insert(&weakening.check, limit_for(&scratch, &weakening.check, &checks[&weakening.check])?);
            bar.inc(1);
        }
        bar.set_message(weakening.name.clone());
        let started = Instant::now();
        let outcome = match &limits[&weakening.check] {
            Ok(limit) => {
                scratch.apply(&weakening.applied(root)?)?;
                let verdict = trial::run(&scratch, &weakening.check, &weakening.tests, *limit);
                scratch.restore()?;
                Outcome::of(weakening, verdict?)
            }
            Err(why) => Outcome::Broken(why.clone()),
        };
        let report = Report { weakening: weakening.clone(), outcome, took: started.elapsed() };
        bar.suspend(|| eprintln!("{}", report.line()));
        reports.push(report);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(reports)
}

/// Runs what the weakenings name on the code as it is, and says how long it may take on weakened code, or why it can't judge any.
fn limit_for(scratch: &Scratch, check: &Check, weakenings: &[&Weakening]) -> Result<Result<Duration, String>, String> {
    let all = weakenings.iter().any(|weakening| weakening.tests.is_empty());
    let mut tests = Vec::new();
    if !all {
        tests.extend(weakenings.iter().flat_map(|weakening| weakening.tests.iter().cloned()));
    }
    Ok(match trial::run(scratch, check, &tests, Duration::MAX)? {
        Verdict::Passed { took } => Ok((took * PATIENCE).max(LEAST_PATIENCE)),
        verdict => Err(format!("{check} does not pass on the code as it is: {verdict}")),
    })
}
