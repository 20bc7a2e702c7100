//! farbench: every experiment with farptr on this machine, each number beside its limit and its alternatives, measured in the same run.
//!
//! `cargo run --release -p farptr-benches --bin farbench -- --help` teaches its use; `docs/benchmarks.md` what the experiments mean.
//!
//! - [`cli`]: what can be asked for. [`experiments`]: what there is to ask for. **A new experiment is a file there, and a line in its table.**
//! - [`mod@bench`]: the hands of an experiment: time to spend, far memories, alternating runs, figures to fill.
//! - [`subject`]: one thing that is measured. [`stats`]: what becomes of its samples. [`figure`]: what a plot and a table are made of.
//! - [`server`]: farmemd as a child process. [`device`]: RDMA devices. [`undo`]: what must not stay behind, whatever ends the run.
//! - [`bare`]: operations of a transport without objects.
//! - [`store`]: stores of values by key. [`policy`]: what a better choice of what is local would do.
//! - [`program`]: what would be used without farptr, as a process of its own; [`remote`] starts it in a [`group`] that limits its memory, with [`swap`].
//! - `hybrid`, `redis`: what else would be used instead, with the feature `alternatives`; [`stores`] has them at hand, or says why not.
//! - [`delay`]: a transport that takes longer. [`singly`]: one whose requests leave one by one.
//! - [`machine`]: what was measured on. [`report`]: JSON lines, HTML, tables.
#![deny(unsafe_code)]

mod alternatives;
mod bare;
mod bench;
mod cli;
mod delay;
mod device;
mod experiments;
mod figure;
mod greedy;
mod group;
#[cfg(feature = "alternatives")]
mod hybrid;
mod machine;
mod mapped_file;
mod policy;
mod program;
#[cfg(feature = "alternatives")]
mod redis;
mod remote;
mod report;
mod run;
mod server;
mod singly;
mod stats;
mod store;
mod stores;
mod subject;
mod swap;
mod transport;
mod undo;

use clap::Parser;
use std::process::ExitCode;

/// How anything here can fail: a line for whoever ran it.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match run::run(&cli) {
        Ok(run::Verdict::Complete) => ExitCode::SUCCESS,
        Ok(run::Verdict::SomeFailed) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("farbench: {error}");
            ExitCode::from(2)
        }
    }
}
