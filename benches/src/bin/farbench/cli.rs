//! What can be asked for.

use crate::experiments;
use crate::transport::Kind;
use clap::Parser;
use farptr_runtime::bytes::parse_size;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  farbench list                                    what experiments there are
  farbench all --quick --report target/farbench    everything, in 3 minutes; then open target/farbench/index.html
  farbench all --report target/farbench            the same in about 20 minutes, with data sets and runs worth quoting
  farbench deref miss                              two of them, as tables
  farbench hashmap --transport tcp --local 10%,25% --size 1GiB
  farbench miss transport --transport rdma --server rdma:10.0.0.2:7471
  farbench cleaning --transport tcp --alive 95% --seconds 1200
  farbench scan --json | jq -c 'select(.role == \"subject\") | [.figure, .series, .x, .median]'

Reading the numbers: each is the median of runs that alternate with those of its limit and its alternatives, with the quartiles behind it. Compare within
a row, not between machines. What can't be measured here says `NOT AVAILABLE`, and why. docs/benchmarks.md explains each experiment.

Servers are started and stopped as they are needed. As root, where the kernel lets it, farbench also measures swapping under a memory limit: it sets up
a control group and a swap device for that, and takes them away again, also on Ctrl-C.";

/// Measures farptr beside its limits and what would be used instead, on this machine.
#[derive(Debug, Clone, Parser)]
#[command(name = "farbench", version, about, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// Experiments by name, or `all`; `list` says which there are.
    #[arg(required_unless_present = "subject", value_parser = experiment)]
    pub(crate) experiments: Vec<String>,
    /// Small data sets and few runs: `all` takes 3 minutes instead of 20.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write results.jsonl, index.html and table.md into this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Print JSON lines instead of tables: one for each number, with its samples.
    #[arg(long)]
    pub(crate) json: bool,
    /// Where far memory is, instead of the experiment's own choice.
    #[arg(long, value_delimiter = ',', value_name = "KIND")]
    pub(crate) transport: Vec<Kind>,
    /// A server that is there already, for the experiments that use its transport: `rdma:HOST:PORT`, `tcp:HOST:PORT` or `unix:PATH`.
    #[arg(long, value_name = "ADDRESS", value_parser = server)]
    pub(crate) server: Vec<String>,
    /// How much of the data fits the local budget, instead of the experiment's own choice. For example 25%.
    #[arg(long, value_delimiter = ',', value_name = "PERCENT", value_parser = percent)]
    pub(crate) local: Vec<u32>,
    /// How much of far memory is alive, instead of `cleaning`'s own choice. For example 95%.
    #[arg(long, value_delimiter = ',', value_name = "PERCENT", value_parser = percent)]
    pub(crate) alive: Vec<u32>,
    /// Size of the data sets, for example 1GiB. [default: 64MiB if quick, otherwise 512MiB]
    #[arg(long, value_parser = parse_size)]
    pub(crate) size: Option<u64>,
    /// How long to take for all experiments named. [default: their share of 180 if quick, otherwise of 1200]
    #[arg(long)]
    pub(crate) seconds: Option<u64>,
    /// Put the table between the farbench marks of this Markdown file.
    #[arg(long, value_name = "FILE")]
    pub(crate) readme: Option<PathBuf>,
    /// Don't measure swapping, even if it is possible.
    #[arg(long)]
    pub(crate) no_swap: bool,
    /// Next to no data and time, to see that everything runs.
    #[arg(long, hide = true, conflicts_with = "quick")]
    pub(crate) smoke: bool,
    /// Be what is measured, in a process of its own.
    #[arg(long, hide = true, value_name = "JSON")]
    pub(crate) subject: Option<String>,
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Numbers worth quoting.
    Full,
    /// An impression.
    Quick,
    /// That it runs.
    Smoke,
}

impl Pace {
    /// Seconds for all experiments together. Setting up data sets counts.
    pub(crate) fn total(self) -> Duration {
        Duration::from_secs(match self {
            Pace::Full => 1140,
            Pace::Quick => 165,
            Pace::Smoke => 2,
        })
    }

    /// Runs of each subject, at least.
    pub(crate) fn rounds(self) -> usize {
        match self {
            Pace::Full => 7,
            Pace::Quick => 3,
            Pace::Smoke => 1,
        }
    }

    /// `full` of something, or less of it.
    pub(crate) fn of(self, full: usize, quick: usize, smoke: usize) -> usize {
        match self {
            Pace::Full => full,
            Pace::Quick => quick,
            Pace::Smoke => smoke,
        }
    }
}

impl Cli {
    pub(crate) fn pace(&self) -> Pace {
        match (self.smoke, self.quick) {
            (true, _) => Pace::Smoke,
            (false, true) => Pace::Quick,
            (false, false) => Pace::Full,
        }
    }
}

fn experiment(name: &str) -> Result<String, String> {
    if ["all", "list"].contains(&name) || experiments::ALL.iter().any(|experiment| experiment.name == name) {
        return Ok(name.into());
    }
    let names: Vec<_> = experiments::ALL.iter().map(|experiment| experiment.name).collect();
    Err(format!("there is no such experiment; `all`, `list`, or any of: {}", names.join(", ")))
}

fn server(address: &str) -> Result<String, String> {
    Kind::of(address).map(|_| address.into()).ok_or_else(|| "rdma:HOST:PORT, tcp:HOST:PORT or unix:PATH".into())
}

fn percent(text: &str) -> Result<u32, String> {
    match text.trim_end_matches('%').parse() {
        Ok(percent @ 1..=100) => Ok(percent),
        _ => Err("a percentage from 1% to 100%".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_examples_of_the_help_are_understood() {
        for line in EXAMPLES.lines().filter_map(|line| line.strip_prefix("  farbench")) {
            let command = line.split("   ").next().expect("a command").split(" |").next().expect("a command");
            parse(&format!("farbench{command}")).unwrap_or_else(|error| panic!("{command}: {error}"));
        }
    }

    #[test]
    fn lists_of_percentages_and_sizes_are_understood() {
        let cli = parse("farbench scan --local 10%,25 --size 1GiB --transport shm,tcp").expect("good arguments");
        assert_eq!((cli.local, cli.size), (vec![10, 25], Some(1 << 30)));
        assert_eq!(cli.transport, [Kind::Shm, Kind::Tcp]);
        assert_eq!(parse("farbench miss --server rdma:h:1").expect("a server").server, ["rdma:h:1"]);
        assert!(parse("farbench miss --server h:1").is_err());
    }

    #[test]
    fn an_unknown_experiment_is_answered_with_the_known_ones() {
        let error = parse("farbench dereff").expect_err("a slip").to_string();
        assert!(error.contains("deref") && error.contains("miss"), "{error}");
        assert!(parse("farbench").is_err());
        assert!(parse("farbench scan --local 0%").is_err());
    }
}
