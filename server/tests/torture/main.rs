//! Torture: small far memories over servers that go wrong in every way there is, compared with a model. Thousands of seeds.
//!
//! Each seed is a scenario of its own ([`scenario`]): one to three servers (in this process, over TCP, in mapped memory), faults at some rate, one to three threads, a local budget far
//! below the data, random operations on boxes, vectors, maps and large objects ([`owner`]). What must hold:
//!
//! - An operation succeeds, and then what it read is what the model says, or fails with an error of a documented kind, and then nothing has changed. Never
//!   wrong data. `Corrupt` only if bytes were damaged.
//! - Nothing panics, in any thread, and nothing waits for ever ([`watch`]).
//! - Once the faults stop, everything can be read that was not lost by a server that lies, and when everything has been dropped no byte is left, here or there.
//!
//! `cargo xtask torture --seeds 5000`, or one seed again: `cargo xtask torture --first SEED --seeds 1`. A seed that failed once becomes a test in [`regressions`].
#![forbid(unsafe_code)]

mod owner;
mod regressions;
mod scenario;
mod watch;

use farptr::faults::Kind;
use scenario::{Daemons, Scenario, Servers, Tally};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};
use watch::run_watched;

/// Seeds of the short form.
const SHORT: u64 = 75;

/// Failures after which a run ends early: more say the same again.
const ENOUGH: usize = 10;

/// Runs `seeds` scenarios and says what has happened in them.
///
/// # Panics
/// If a seed fails, with the command that repeats it.
fn run(first: u64, seeds: u64, servers: Servers) -> Tally {
    let _servers = Daemons;
    let started = Instant::now();
    let mut tally = Tally::default();
    let mut shown = started;
    let mut failures = Vec::new();
    for seed in first..first + seeds {
        if let Err(problem) = run_watched(Scenario::of(seed, servers), &mut tally) {
            let failure = format!(
                "seed {seed} failed: {problem}\n{:?}\nto repeat it: cargo xtask torture --first {seed} --seeds 1 --server {servers}\n",
                Scenario::of(seed, servers)
            );
            let _ = writeln!(std::io::stderr(), "\n{failure}");
            failures.push(failure);
            if failures.len() >= ENOUGH {
                break;
            }
        }
        if shown.elapsed() > Duration::from_secs(5) {
            shown = Instant::now();
            progress(seed + 1 - first, seeds, started, &tally);
        }
    }
    assert!(failures.is_empty(), "{} failures:\n\n{}", failures.len(), failures.join("\n"));
    progress(seeds, seeds, started, &tally);
    tally
}

/// One line: how far, how fast, how much went wrong. Written past the test harness, which would keep it.
fn progress(done: u64, all: u64, started: Instant, tally: &Tally) {
    let rate = done as f64 / started.elapsed().as_secs_f64().max(0.001);
    let bar: String = (0..20).map(|i| if i * all < done * 20 { '#' } else { '.' }).collect();
    let left = (all - done) as f64 / rate.max(0.001);
    let mut out = std::io::stderr().lock();
    let (start, end) = if out.is_terminal() && done < all { ("\r", "") } else { ("", "\n") };
    let _ = write!(out, "{start}torture [{bar}] {done}/{all} seeds, {rate:.1}/s, {left:.0} s left; {tally}{end}");
    let _ = out.flush();
}

#[test]
fn seventy_five_seeds_give_right_data_or_clean_errors() {
    let tally = run(1, SHORT, Servers::Mixed);
    for kind in Kind::ALL {
        assert!(tally.faults(kind) > 0, "{kind:?} was never injected: {tally:?}");
    }
    assert!(tally.succeeded > 10_000 && tally.failed > 250 && tally.corrupt > 25, "{tally:?}");
}

#[test]
#[ignore = "as long as FARPTR_TORTURE_SEEDS says; cargo xtask torture"]
fn long_torture() {
    let number = |name: &str, or: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}: give a number")),
        Err(_) => or,
    };
    let servers =
        std::env::var("FARPTR_TORTURE_SERVER").map_or(Servers::Mixed, |name| name.parse().expect("FARPTR_TORTURE_SERVER"));
    let tally = run(number("FARPTR_TORTURE_FIRST", 1), number("FARPTR_TORTURE_SEEDS", 1000), servers);
    let _ = writeln!(std::io::stderr(), "{tally:#?}");
}
