//! The project's chores, one word each: `cargo xtask help`.
//!
//! - `invocation`: a command with its environment, which prints as it would be pasted into a shell.
//! - `step`: a named piece of work, how it is run and reported.
//! - `steps`: the table of all steps. **A new test configuration is a row there.**
//! - `prerequisites`: what a fresh machine may lack.
//! - `cfg`: compiles the workspace with one cfg more, without compiling its dependencies again.
//! - `inventory`, `smoke`: checks that are code of their own. `fuzz`: builds and runs the fuzz targets.
//! - `guest`: commands in emulated guests that have an RDMA device.
//! - `rdma`: what is run in guests. `sanitize`: the suite under AddressSanitizer and ThreadSanitizer.
//! - `mutants`: weakens the code on purpose, to see whether the checks notice.
//! - `bench_check`: counts the instructions of hot paths.
//! - `uring`: takes io_uring away from a command, as containers do.
#![deny(unsafe_code)] // but for `uring`, which says why

mod bench_check;
mod cfg;
mod fuzz;
mod guest;
mod inventory;
mod invocation;
mod mutants;
mod prerequisites;
mod rdma;
mod sanitize;
mod smoke;
mod step;
mod steps;
#[expect(unsafe_code, reason = "prctl and syscall have no safe form")]
mod uring;

use clap::{Parser, Subcommand};
use invocation::Invocation;
use sanitize::Sanitizer;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  cargo xtask test                  everything that can be tested here; installs what is missing, if it can
  cargo xtask test loom             one step of it
  cargo xtask ci                    what CI runs
  cargo xtask ci --list             the steps, why each is there, and the commands behind them
  cargo xtask soak --minutes 1      a short soak
  cargo xtask fuzz heap             one fuzz target for a minute; cargo xtask fuzz --help says which there are
  cargo xtask torture --seeds 200   far memory over faulty servers
  cargo xtask zeal                  the suite, with evacuation at every legal point
  cargo xtask zeal --every 1:7 -- -p farptr --test scopes
                                    some of it, at every point without exception, drawn from another seed
  cargo xtask sanitize address      the suite under AddressSanitizer; cargo xtask sanitize --help
  cargo xtask bench-check           instructions of hot paths, against those of before
  cargo xtask no-uring -- cargo test -p farptr
                                    any command, in a world without io_uring";

const TORTURE_EXAMPLES: &str = "\
Examples:
  cargo xtask torture                              the first thousand seeds: some minutes
  cargo xtask torture --first 1001 --seeds 5000    others
  cargo xtask torture --first 364 --seeds 1        one of them again
A seed that failed becomes a test: server/tests/torture/regressions.rs.";

/// The chores of farptr.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run all tests, in every configuration
    Test(Selection),
    /// Run what CI runs: format, lints, docs, unsafe inventory, all tests, and the main example on real input
    Ci(Selection),
    /// Compare far memory with a model on random operations, for a long time
    Soak {
        /// How long
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        minutes: u32,
    },
    Fuzz(fuzz::Options),
    Guest(guest::Options),
    /// Run small far memories over servers that go wrong in every way, and compare with a model
    ///
    /// Each seed is a scenario: servers, faults and how often they happen, threads, operations. Every read must give the right data or a documented error;
    /// nothing may panic or hang; afterwards nothing may be missing or left over. A seed that fails is printed with the command that repeats it.
    #[command(after_help = TORTURE_EXAMPLES)]
    Torture {
        /// How many seeds
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        seeds: u32,
        /// The first of them
        #[arg(long, default_value_t = 1, value_name = "SEED")]
        first: u64,
        /// In front of which servers: this process, a farmemd over loopback, one whose memory is mapped, or any by seed
        #[arg(long, default_value = "mixed", value_parser = ["embedded", "tcp", "shm", "mixed"])]
        server: String,
    },
    /// Build the documentation, with warnings denied
    Doc {
        /// Show it in a browser
        #[arg(long)]
        open: bool,
    },
    /// Check that unsafe code is only in the files that docs/design.md lists
    Unsafe,
    /// Weaken the code on purpose, one place at a time, and see whether a check notices
    Mutants(mutants::Options),
    /// Count the instructions of hot paths under valgrind, and compare with those of before: more than 5% more fails
    BenchCheck(bench_check::Options),
    /// Run the suite with evacuation at every legal point, and what is given up poisoned
    #[command(after_help = ZEAL)]
    Zeal {
        /// Make every n-th legal point due, perhaps with another seed than 0 [default: thin out as a thread goes on]
        #[arg(long, value_name = "N[:SEED]")]
        every: Option<String>,
        /// What to test, after --, as for `cargo test` [default: all that CI does]
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        what: Vec<String>,
    },
    /// Run the suite under a sanitizer
    #[command(after_help = SANITIZE)]
    Sanitize {
        /// Which
        sanitizer: Sanitizer,
        /// What to test, after --, as for `cargo test` [default: the suite]
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        what: Vec<String>,
    },
    /// Run a cargo command that compiles the workspace's own crates with one cfg more
    WithCfg {
        /// The cfg, say farptr_zeal, or several separated by commas
        cfg: String,
        /// The command, after --
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Run a command that finds no io_uring, as in most containers
    NoUring {
        /// The command, after --
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

const ZEAL: &str = "\
At every legal point (a thread without an open scope enters the runtime, ends its scope or refreshes it) everything that is not pinned is let go, or
relocated, or the far log is cleaned. What is given up reads 0xdd, what is handed out 0xa5. A test that passes otherwise and fails here
keeps something past a point that it must not keep, or the runtime does.

A thread's first 250 points are all due; then passes thin out, so that the suite ends. `--every 1` makes all due: good for a single
test, too slow for the suite. The draw depends on the thread's count of points and the seed alone, so a thread fails where it failed before.";

const SANITIZE: &str = "\
Examples:
  cargo xtask sanitize address
  cargo xtask sanitize thread -- -p farptr-server --test torture

Everything is built once more, in a target folder of its own, by the stable compiler and with what comes with it (for `thread`, the component rust-src as
well). `address` knows of the local heap's own memory: a use of an object that has left is reported at the instruction that makes it; leaks are
reported at the end. It runs under zeal, but FARPTR_ZEAL=1000000000 makes hardly any legal point due. `thread` reports two uses of the same bytes, one of them
a write, that no lock and no atomic orders, in the orders that happen to come up; loom is the one that tries all. A report fails the step.
What is suppressed, and why, is in xtask/suppressions.";

#[derive(clap::Args)]
struct Selection {
    /// Steps to run, by name [default: all]
    #[arg(value_name = "STEP")]
    only: Vec<String>,
    /// Say what would be run, and why
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    if let Some(problem) = cfg::as_compiler() {
        return fail(&problem);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && error.kind() != clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let text = error.to_string();
            let line: Vec<&str> = text.lines().take_while(|line| !line.starts_with("Usage")).map(str::trim).collect();
            return fail(line.join(" ").trim_start_matches("error: ").trim_end());
        }
        Err(help) => {
            print!("{}", help.render());
            return ExitCode::SUCCESS;
        }
    };
    let root = workspace_root();
    match cli.chore {
        Chore::Test(selection) => run(steps::test(&root), &selection),
        Chore::Ci(selection) => {
            if !selection.list {
                prerequisites::components();
            }
            run(steps::ci(&root), &selection)
        }
        Chore::Soak { minutes } => finish(step::run_all(&[steps::soak(minutes)], &root)),
        Chore::Fuzz(options) => match fuzz::run(&options, &root, &steps::target_dir(&root)) {
            Ok(all_well) => finish(all_well),
            Err(problem) => fail(&problem),
        },
        Chore::Guest(options) => guest::run(&options, &steps::target_dir(&root)).unwrap_or_else(|problem| fail(&problem)),
        Chore::Torture { seeds, first, server } => finish(step::run_all(&[steps::torture(first, seeds, &server)], &root)),
        Chore::Doc { open } => finish(step::run_all(&[steps::doc(open)], &root)),
        Chore::Unsafe => finish(step::run_all(&[steps::unsafe_inventory()], &root)),
        Chore::Mutants(options) => match mutants::run(&options, &root, &steps::target_dir(&root)) {
            Ok(all_well) => finish(all_well),
            Err(problem) => fail(&problem),
        },
        Chore::BenchCheck(options) => match bench_check::run(&options, &root, &steps::target_dir(&root)) {
            Ok(all_well) => finish(all_well),
            Err(problem) => fail(&problem),
        },
        Chore::Zeal { every, what } => finish(step::run_all(&[steps::zeal(every, &what)], &root)),
        Chore::Sanitize { sanitizer, what } => finish(step::run_all(&[steps::sanitize(sanitizer, &what, &root)], &root)),
        Chore::WithCfg { cfg, command } => fail(&Invocation::exec_with(&command, Some(&cfg))),
        Chore::NoUring { command } => {
            if let Err(problem) = uring::forbid() {
                return fail(&problem);
            }
            fail(&Invocation::exec(&command))
        }
    }
}

fn run(mut steps: Vec<step::Step>, selection: &Selection) -> ExitCode {
    if let Some(unknown) = selection.only.iter().find(|name| steps.iter().all(|step| step.name != name.as_str())) {
        let known: Vec<&str> = steps.iter().map(|step| step.name).collect();
        return fail(&format!("there is no step `{unknown}`; there are: {}", known.join(", ")));
    }
    if !selection.only.is_empty() {
        steps.retain(|step| selection.only.iter().any(|name| name == step.name));
    }
    if selection.list {
        for step in &steps {
            println!("{}: {}\n    {}", step.name, step.why, step.action);
        }
        return ExitCode::SUCCESS;
    }
    if let Err(problem) = prerequisites::provide() {
        return fail(&problem);
    }
    finish(step::run_all(&steps, &workspace_root()))
}

fn finish(all_well: bool) -> ExitCode {
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Bad usage, or a machine that lacks something: one line, status 2.
fn fail(problem: &str) -> ExitCode {
    eprintln!("xtask: {problem}");
    ExitCode::from(2)
}

fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the workspace").to_owned()
}
