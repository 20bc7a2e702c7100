//! The hands of an experiment: time to spend, far memories, alternating runs, figures to fill.
//!
//! Time is shared out as it goes: an experiment says how many measurements there will be ([`Bench::plan`]), and each gets its part of what is left, so
//! that an experiment whose data takes long to set up measures shorter rather than longer than it may.

use crate::Outcome;
use crate::alternatives::Swapping;
use crate::cli::{Cli, Pace};
use crate::device;
use crate::figure::{Figure, Place};
use crate::program::Program;
use crate::remote::Remote;
use crate::server::{self, Farmemd};
use crate::stats::Summary;
use crate::subject::Subject;
use crate::transport::Kind;
use crate::undo::Undo;
use farptr::{Builder, FarMemory};
use indicatif::ProgressBar;
use std::cell::OnceCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Everything an experiment found out.
#[derive(Debug, Default)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) figures: Vec<Figure>,
    pub(crate) notes: Vec<String>,
    /// What could not be measured here, and why.
    pub(crate) missing: Vec<(String, String)>,
    pub(crate) failure: Option<String>,
    pub(crate) seconds: f64,
    /// Load of the machine before and after.
    pub(crate) load: [f64; 2],
}

/// What all experiments of a run share.
pub(crate) struct Shared<'a> {
    pub(crate) cli: &'a Cli,
    pub(crate) undo: &'a Undo,
    /// Set up when it is needed first, or why it can't be.
    swapping: OnceCell<Result<Swapping, String>>,
    farmemd: OnceCell<PathBuf>,
}

impl<'a> Shared<'a> {
    pub(crate) fn new(cli: &'a Cli, undo: &'a Undo) -> Self {
        Shared { cli, undo, swapping: OnceCell::new(), farmemd: OnceCell::new() }
    }
}

/// What an experiment works with.
pub(crate) struct Bench<'a> {
    shared: &'a Shared<'a>,
    cli: &'a Cli,
    undo: &'a Undo,
    progress: &'a ProgressBar,
    deadline: Instant,
    measurements_left: usize,
    servers: Vec<(Kind, Farmemd)>,
    pub(crate) section: Section,
}

/// No sample is shorter: clocks and caches need some time to be believed.
const SHORTEST: Duration = Duration::from_millis(2);

/// No sample is longer: more samples tell more.
const LONGEST: Duration = Duration::from_millis(1500);

/// Samples of one measurement at most.
const MOST_ROUNDS: usize = 25;

impl<'a> Bench<'a> {
    pub(crate) fn new(shared: &'a Shared<'a>, progress: &'a ProgressBar, share: Duration) -> Self {
        let deadline = Instant::now() + share;
        let Shared { cli, undo, .. } = *shared;
        Bench { shared, cli, undo, progress, deadline, measurements_left: 1, servers: Vec::new(), section: Section::default() }
    }

    pub(crate) fn pace(&self) -> Pace {
        self.cli.pace()
    }

    pub(crate) fn undo(&self) -> &'a Undo {
        self.undo
    }

    /// Bytes of a data set.
    pub(crate) fn size(&self) -> usize {
        self.cli.size.map_or(self.pace().of(512 << 20, 64 << 20, 2 << 20), |size| size as usize)
    }

    /// Where far memory is: what was asked for, otherwise `own`.
    pub(crate) fn kinds(&mut self, own: &[Kind]) -> Vec<Kind> {
        let asked = if self.cli.transport.is_empty() { own.to_vec() } else { self.cli.transport.clone() };
        let given = self.given(Kind::Rdma).is_some();
        let why = if given && cfg!(feature = "rdma") { None } else { device::address().err() };
        match why {
            Some(why) if asked.contains(&Kind::Rdma) => {
                self.missing("transport rdma", why);
                asked.into_iter().filter(|kind| *kind != Kind::Rdma).collect()
            }
            _ => asked,
        }
    }

    /// The server of a kind that is there already.
    fn given(&self, kind: Kind) -> Option<&'a String> {
        self.cli.server.iter().find(|address| Kind::of(address) == Some(kind))
    }

    /// Percentages of the data that fit the local budget: what was asked for, otherwise `own`.
    pub(crate) fn locals(&self, own: &[u32]) -> Vec<u32> {
        if self.cli.local.is_empty() { own.to_vec() } else { self.cli.local.clone() }
    }

    /// Percentages of far memory that are alive: what was asked for, otherwise `own`.
    pub(crate) fn alive(&self, own: &[u32]) -> Vec<u32> {
        if self.cli.alive.is_empty() { own.to_vec() } else { self.cli.alive.clone() }
    }

    /// A local budget: a percentage of `data`, and at least what farptr works in.
    pub(crate) fn budget(&self, data: usize, percent: u32) -> usize {
        ((data as u64 * u64::from(percent) / 100) as usize).max(1 << 20)
    }

    /// Sets up a far memory, with a server for it if it needs one.
    pub(crate) fn builder(&mut self, kind: Kind, local_budget: usize) -> Outcome<Builder> {
        let address = self.address(kind)?;
        // A configuration file in the working directory is not to change what is measured.
        Ok(FarMemory::builder().local_budget(local_budget).server(address).shards(0).timeout(Duration::from_secs(10)))
    }

    pub(crate) fn memory(&mut self, kind: Kind, local_budget: usize) -> Outcome<FarMemory> {
        Ok(self.builder(kind, local_budget)?.build()?)
    }

    /// The address of a server, which is started if there is none.
    pub(crate) fn address(&mut self, kind: Kind) -> Outcome<String> {
        if kind == Kind::Embedded {
            return Ok("embedded:".into());
        }
        if let Some(given) = self.given(kind) {
            return Ok(given.clone());
        }
        if let Some((_, server)) = self.servers.iter().find(|(each, _)| *each == kind) {
            return Ok(server.address.clone());
        }
        // Several far memories at a time, each with garbage in its log.
        let capacity = (6 * self.size() as u64).max(256 << 20).min(crate::machine::available_bytes() / 2);
        let server = Farmemd::start(self.farmemd()?, kind, capacity, self.undo)?;
        let address = server.address.clone();
        self.servers.push((kind, server));
        Ok(address)
    }

    /// The program that lends memory, found at first need.
    pub(crate) fn farmemd(&self) -> Outcome<&'a PathBuf> {
        if let Some(program) = self.shared.farmemd.get() {
            return Ok(program);
        }
        self.doing("builds farmemd, if it has to be");
        let program = server::farmemd(self.pace())?;
        Ok(self.shared.farmemd.get_or_init(|| program))
    }

    /// The kernel's swapping, if it can be had here.
    pub(crate) fn swapping(&mut self) -> Option<&'a Swapping> {
        if self.cli.no_swap || self.pace() == Pace::Smoke {
            self.missing("std under a memory limit", "swapping was not asked for");
            return None;
        }
        let bytes = 8 * self.size() as u64;
        self.doing("tries ways to swap");
        match self.shared.swapping.get_or_init(|| Swapping::fastest(bytes, self.undo)) {
            Ok(swapping) => Some(swapping),
            Err(why) => {
                self.missing("std under a memory limit", why);
                None
            }
        }
    }

    /// A program under a memory limit of so many percent of its data, in bytes, and swapping.
    pub(crate) fn swapped(&mut self, program: &Program, data: usize, percent: u32) -> Option<Remote> {
        let swapping = self.swapping()?;
        self.doing(format_args!("setting up, {percent}% local, {}", swapping.way));
        match Remote::start(program, self.budget(data, percent) as u64, self.undo) {
            Ok(remote) => Some(remote.named(format!("std, {}", swapping.way))),
            Err(why) => {
                self.missing(format!("std, {}, {percent}% local", swapping.way), why);
                None
            }
        }
    }

    /// Says how many subjects will be measured from here on, all places together.
    pub(crate) fn plan(&mut self, measurements: usize) {
        self.measurements_left = measurements.max(1);
    }

    /// Says that so many of them were made without [`Bench::measure`].
    pub(crate) fn plan_less(&mut self, measurements: usize) {
        self.measurements_left = self.measurements_left.saturating_sub(measurements);
    }

    /// Does what is not to make measurements shorter: the experiment takes so much longer.
    #[cfg_attr(not(feature = "alternatives"), expect(dead_code, reason = "what takes so long is an alternative"))]
    pub(crate) fn on_top<T>(&mut self, set_up: impl FnOnce(&mut Self) -> T) -> T {
        let started = Instant::now();
        let done = set_up(self);
        self.deadline += started.elapsed();
        done
    }

    /// Time for one of the measurements that are left, all its samples together.
    pub(crate) fn slice(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now()) / self.measurements_left.max(1) as u32;
        // Whoever set up for too long measures all the same.
        left.max(SHORTEST * self.pace().of(50, 25, 1) as u32)
    }

    /// Says what is being done.
    pub(crate) fn doing(&self, what: impl std::fmt::Display) {
        self.progress.set_message(format!("{}: {what}", self.section.name));
    }

    /// Measures subjects in turn, there and back, and puts what came out into the figure.
    pub(crate) fn measure(&mut self, figure: &mut Figure, place: impl Into<Place>, subjects: &mut [Subject<'_>]) -> Outcome {
        let place = place.into();
        self.doing(format_args!("{}, {place} {}", figure.id, figure.axis.label()));
        let rounds = self.pace().rounds();
        let slice = self.slice();
        // One run more, which warms up and is thrown away.
        let sample = (slice / (rounds as u32 + 1)).clamp(SHORTEST, LONGEST);
        let until = Instant::now() + slice * subjects.len() as u32;
        let mut samples: Vec<Option<Vec<f64>>> = vec![Some(Vec::new()); subjects.len()];
        if self.pace() != Pace::Smoke {
            for (subject, samples) in subjects.iter_mut().zip(&mut samples) {
                self.sample(subject, sample, samples, &place)?;
            }
            samples.iter_mut().flatten().for_each(Vec::clear);
        }
        for round in 0..MOST_ROUNDS {
            if round >= rounds && (self.pace() != Pace::Full || Instant::now() + sample * subjects.len() as u32 > until) {
                break;
            }
            for turn in 0..subjects.len() {
                let at = if round % 2 == 0 { turn } else { subjects.len() - 1 - turn };
                self.sample(&mut subjects[at], sample, &mut samples[at], &place)?;
                self.progress.tick();
            }
        }
        for (subject, samples) in subjects.iter().zip(samples) {
            if let Some(samples) = samples {
                let summary = Summary::of(samples).ok_or("no samples")?;
                figure.add(subject.series.clone(), subject.role, place.clone(), summary);
            }
        }
        self.measurements_left = self.measurements_left.saturating_sub(subjects.len());
        Ok(())
    }

    /// Takes a sample, unless the subject failed before, or may fail and does.
    fn sample(&mut self, subject: &mut Subject<'_>, time: Duration, samples: &mut Option<Vec<f64>>, place: &Place) -> Outcome {
        let Some(taken) = samples else { return Ok(()) };
        match subject.sample(time) {
            Ok(sample) => taken.push(sample),
            Err(error) if subject.may_fail => {
                *samples = None;
                self.missing(format!("{}, {place}", subject.series), error);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Keeps a figure that is complete.
    pub(crate) fn keep(&mut self, figure: Figure) {
        if !figure.cells.is_empty() {
            self.section.figures.push(figure);
        }
    }

    /// Something to be said beside the figures.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.section.notes.push(note.into());
    }

    /// Something that can't be measured here.
    pub(crate) fn missing(&mut self, what: impl Into<String>, why: impl std::fmt::Display) {
        let (what, why) = (what.into(), why.to_string());
        if !self.section.missing.iter().any(|(each, _)| *each == what) {
            self.section.missing.push((what, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{Axis, Role, Unit};
    use clap::Parser;
    use std::cell::RefCell;

    fn bench_with(arguments: &str, run: impl FnOnce(&mut Bench<'_>)) {
        let cli = Cli::parse_from(arguments.split(' '));
        let (undo, progress) = (Undo::default(), ProgressBar::hidden());
        run(&mut Bench::new(&Shared::new(&cli, &undo), &progress, Duration::from_millis(10)));
    }

    #[test]
    fn subjects_alternate_there_and_back() {
        bench_with("farbench deref --quick", |bench| {
            let turns = RefCell::new(String::new());
            let subject = |name: &'static str| {
                let turns = &turns;
                Subject::new(name, Role::Subject, move |_| {
                    turns.borrow_mut().push_str(name);
                    Ok(1.0)
                })
            };
            let mut figure = Figure::new("f", "F", Axis::Names("x"), Unit::NS, "");
            bench.measure(&mut figure, "here", &mut [subject("a"), subject("b")]).expect("nothing fails");
            // The first two warm up.
            assert_eq!(*turns.borrow(), "ababbaab");
            assert_eq!(figure.cells[0].summary.samples.len(), 3);
        });
    }

    #[test]
    fn a_subject_that_may_fail_is_left_out_and_said_to_be_missing() {
        bench_with("farbench deref --quick", |bench| {
            let mut figure = Figure::new("f", "F", Axis::Names("x"), Unit::NS, "");
            let fails = || Subject::new("fails", Role::Alternative, |_| Err("ended".into()));
            let works = || Subject::new("works", Role::Subject, |_| Ok(1.0));
            bench.measure(&mut figure, "here", &mut [works(), fails().that_may_fail()]).expect("the other one works");
            assert_eq!(figure.cells.len(), 1);
            assert_eq!(bench.section.missing, [("fails, here".to_string(), "ended".to_string())]);
            assert!(bench.measure(&mut figure, "there", &mut [fails()]).is_err());
        });
    }

    #[test]
    fn a_transport_that_does_not_exist_is_said_to_be_missing() {
        if device::address().is_ok() {
            return eprintln!("SKIPPED: this machine has an RDMA device");
        }
        bench_with("farbench deref --transport rdma,shm", |bench| {
            assert_eq!(bench.kinds(&[Kind::Embedded]), [Kind::Shm]);
            assert_eq!(bench.section.missing.len(), 1);
        });
    }

    #[test]
    fn a_server_that_is_given_is_used() {
        bench_with("farbench deref --server tcp:h:1", |bench| {
            assert_eq!(bench.address(Kind::Tcp).expect("an address"), "tcp:h:1")
        });
        if cfg!(feature = "rdma") {
            bench_with("farbench deref --transport rdma --server rdma:h:1", |bench| {
                assert_eq!(bench.kinds(&[Kind::Embedded]), [Kind::Rdma]);
                assert_eq!(bench.address(Kind::Rdma).expect("an address"), "rdma:h:1");
            });
        }
    }
}
