//! A run: experiments one after the other, within their time, and what becomes of what they found.

use crate::Outcome;
use crate::bench::{Bench, Section, Shared};
use crate::cli::Cli;
use crate::experiments::{self, Experiment};
use crate::machine::{self, Machine};
use crate::program::Program;
use crate::report::{self, Report};
use crate::undo::Undo;
use indicatif::{ProgressBar, ProgressStyle};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How a run ended that could be made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Complete,
    SomeFailed,
}

pub(crate) fn run(cli: &Cli) -> Outcome<Verdict> {
    if let Some(program) = &cli.subject {
        return Program::serve(program).map(|()| Verdict::Complete);
    }
    if cli.experiments.iter().any(|name| name == "list") {
        experiments::ALL.iter().for_each(|experiment| println!("{:12} {}", experiment.name, experiment.about));
        return Ok(Verdict::Complete);
    }
    let undo = Undo::at_signals()?;
    let report = measure(cli, &undo)?;
    if cli.json {
        print!("{}", report::lines(&report)?);
    } else {
        print!("{}", report::text(&report));
    }
    if let Some(folder) = &cli.report {
        report::write(&report, folder)?;
        eprintln!("farbench: wrote {}", folder.join("index.html").display());
    }
    if let Some(file) = &cli.readme {
        report::into_readme(&report, file)?;
    }
    let failed = report.sections.iter().any(|section| section.failure.is_some());
    Ok(if failed { Verdict::SomeFailed } else { Verdict::Complete })
}

/// Makes the experiments that were asked for.
pub(crate) fn measure(cli: &Cli, undo: &Undo) -> Outcome<Report> {
    let all = cli.experiments.iter().any(|name| name == "all");
    let chosen: Vec<&Experiment> =
        experiments::ALL.iter().filter(|each| all || cli.experiments.iter().any(|name| name == each.name)).collect();
    let weights = |experiments: &[&Experiment]| experiments.iter().map(|each| each.weight).sum::<u32>();
    let every: Vec<&Experiment> = experiments::ALL.iter().collect();
    let total = match cli.seconds {
        Some(seconds) => Duration::from_secs(seconds),
        None => cli.pace().total() * weights(&chosen) / weights(&every),
    };
    let machine = Machine::this();
    if !cli.smoke {
        eprintln!("farbench: {}; about {} s", machine.describe(), total.as_secs());
        if cfg!(debug_assertions) {
            eprintln!("farbench: NOT A RELEASE BUILD: these numbers mean nothing; cargo run --release ...");
        }
    }
    let progress = if cli.smoke { ProgressBar::hidden() } else { ProgressBar::new(chosen.len() as u64) };
    progress.set_style(ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len} {wide_msg}")?);
    let (started, shared) = (Instant::now(), Shared::new(cli, undo));
    let mut sections = Vec::new();
    for (at, experiment) in chosen.iter().enumerate() {
        let left = total.saturating_sub(started.elapsed());
        let share = left * experiment.weight / weights(&chosen[at..]);
        if progress.is_hidden() && !cli.smoke {
            eprintln!("farbench: {:4.0} s: {}", started.elapsed().as_secs_f64(), experiment.name);
        }
        sections.push(one(&shared, &progress, experiment, share));
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(Report { machine, pace: cli.pace(), size: cli.size, seconds: started.elapsed().as_secs_f64(), sections })
}

fn one(shared: &Shared<'_>, progress: &ProgressBar, experiment: &Experiment, share: Duration) -> Section {
    let (started, load) = (Instant::now(), machine::load());
    let mut bench = Bench::new(shared, progress, share);
    bench.section = Section { name: experiment.name, about: experiment.about, ..Section::default() };
    bench.doing("begins");
    let outcome = catch_unwind(AssertUnwindSafe(|| (experiment.run)(&mut bench)));
    let mut section = std::mem::take(&mut bench.section);
    section.failure = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            Some(format!("panicked: {}", text.or(panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()))
        }
    };
    if let Some(failure) = &section.failure {
        progress.suspend(|| eprintln!("farbench: {} FAILED: {failure}", experiment.name));
    }
    for (what, why) in &section.missing {
        progress.suspend(|| eprintln!("farbench: {}: NOT AVAILABLE: {what}: {why}", experiment.name));
    }
    section.seconds = started.elapsed().as_secs_f64();
    section.load = [load, machine::load()];
    section
}
