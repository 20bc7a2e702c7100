//! `cargo xtask guest`: runs commands in emulated guests with an RDMA device, on machines that have none.
//!
//! The device is soft-RoCE (`rdma_rxe`) of a Debian kernel, on an interface of the guest's. A guest's files are the machine's own, under a layer that takes
//! writes, so that a program just built here runs there. The kernel is fetched and unpacked, never installed; nothing needs privileges but
//! `apt-get install`, if something is missing.
//!
//! - `kernel`, `modules`, `image`: what is booted. `machine`: the emulated machine as arguments.
//! - `script`: a command as the guest's shell gets it. `course`: who goes when, and who ends. `run`: does it.
//! - `ci/guest`: what must be shell.
#![forbid(unsafe_code)]

mod course;
mod image;
mod kernel;
mod machine;
mod modules;
mod run;
mod script;

use crate::prerequisites;
use course::Role;
use image::Image;
use run::{Limits, Problem, Task};
use script::Script;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

pub(crate) use run::QEMU;

const EXAMPLES: &str = "\
Examples:
  cargo xtask guest -- ibv_devinfo                                 one guest; any program of this machine's
  cargo xtask guest -- sh -c 'ping -c1 10.9.0.1 && uname -r'
  cargo xtask guest --cargo -- test -p farptr-server --test contract
                                                                   built here, run in a guest
  cargo xtask guest --each 'ping -c1 10.7.0.2' --each 'ping -c1 10.7.0.1'
                                                                   two guests that see each other
  cargo xtask guest --build '-p farptr-server' --server 'target/debug/farmemd --listen 10.7.0.1:7070 --capacity 64MiB' \\
                    --each 'busybox nc -z 10.7.0.1 7070'           a server, and what uses it

Each guest has an RDMA device, rxe0. The variable FARPTR_TEST_RDMA holds the guest's own address: 10.9.0.1 if it is the only one, else 10.7.0.1 and so on, the
servers first, in the order they are named. Its files are this machine's; what it writes is gone when it ends. It starts in this folder, as root, with
variables FARPTR_..., RUST_..., PROPTEST_... and few others.

Commands start when all guests are there, and those of --each when each server has said its first line. When all of --each have ended, servers
are sent SIGTERM. When one fails, the others are, and its status is this command's; 124 says that the time was up.

Emulation makes a program some ten times slower: for correctness, not for speed.";

/// Run commands in emulated guests that have an RDMA device
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Run a line of shell in a guest of its own; may be repeated
    #[arg(long, value_name = "LINE", conflicts_with = "command")]
    each: Vec<String>,
    /// Run a line of shell that serves the others, in a guest of its own; may be repeated
    #[arg(long, value_name = "LINE", conflicts_with_all = ["command", "cargo"])]
    server: Vec<String>,
    /// Before anything else run `cargo build` here, with these arguments
    #[arg(long, value_name = "ARGUMENTS", allow_hyphen_values = true)]
    build: Option<String>,
    /// COMMAND is for cargo, which builds here, and runs what it has built in a guest
    #[arg(long, requires = "command")]
    cargo: bool,
    /// End the guests after so many seconds
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    seconds: u32,
    /// A guest's memory in MiB; what it writes to files is in there as well [default: 2048, of several guests 1024 each]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(256..=1 << 20))]
    memory: Option<u32>,
    /// A guest's processors [default: 2, of several guests 1 each]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=64))]
    cpus: Option<u8>,
    /// The command, after --
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// As many as have a letter for their name.
const MOST_GUESTS: usize = 26;

/// Runs what `options` ask for. The error is for people.
pub(crate) fn run(options: &Options, target_dir: &Path) -> Result<ExitCode, String> {
    let tasks = tasks(options)?;
    if let Some(arguments) = &options.build {
        let mut build = Command::new(cargo());
        build.arg("build").args(arguments.split_whitespace());
        if !build.status().is_ok_and(|status| status.success()) {
            return Err(format!("failed: cargo build {arguments}"));
        }
    }
    let image = provide(target_dir)?;
    if options.cargo {
        return built_by_cargo(options);
    }
    let alone = tasks.len() == 1;
    let limits = Limits {
        time: Duration::from_secs(options.seconds.into()),
        memory_mib: options.memory.unwrap_or(if alone { 2048 } else { 1024 }),
        cpus: options.cpus.unwrap_or(if alone { 2 } else { 1 }),
    };
    match run::run(&tasks, &image, &limits, &folder(target_dir)?) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Problem::Unable(problem)) => Err(problem),
        Err(Problem::Failed { status, what }) => {
            eprintln!("xtask: {what}");
            Ok(ExitCode::from(status))
        }
    }
}

/// Why guests can't be run here, if they can't. What is missing is got first, if it can be.
pub(crate) fn missing(target_dir: &Path) -> Option<String> {
    provide(target_dir).err()
}

fn provide(target_dir: &Path) -> Result<Image, String> {
    if !cfg!(target_arch = "x86_64") {
        return Err("guests run programs of this machine's, and are x86-64".into());
    }
    prerequisites::guests()?;
    Image::provide(&folder(target_dir)?)
}

/// Seen by guests as well, by the same name.
fn folder(target_dir: &Path) -> Result<PathBuf, String> {
    let target_dir = std::path::absolute(target_dir).map_err(|error| format!("there is no current folder: {error}"))?;
    Ok(target_dir.join("guest"))
}

/// What each guest does.
fn tasks(options: &Options) -> Result<Vec<Task>, String> {
    let line = |role, line: &String| Task { role, script: Script::Line(line.clone()) };
    let mut tasks: Vec<Task> = options.server.iter().map(|text| line(Role::Server, text)).collect();
    tasks.extend(options.each.iter().map(|text| line(Role::Client, text)));
    if !options.command.is_empty() {
        tasks.push(Task { role: Role::Client, script: Script::Words(options.command.clone()) });
    }
    if tasks.iter().all(|task| task.role == Role::Server) {
        return Err("no command is given; cargo xtask guest --help has examples".into());
    }
    if tasks.len() > MOST_GUESTS {
        return Err(format!("no more than {MOST_GUESTS} guests at a time"));
    }
    Ok(tasks)
}

/// Lets cargo run what it builds through this program.
fn built_by_cargo(options: &Options) -> Result<ExitCode, String> {
    let this = std::env::current_exe().map_err(|error| format!("can't find xtask's own program: {error}"))?;
    let this = this.to_str().ok_or("xtask's own program is at a path that isn't UTF-8")?;
    let mut command = Command::new(cargo());
    command.arg("--config").arg(runner(this, options)).args(&options.command);
    let status = command.status().map_err(|error| format!("can't run cargo: {error}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Cargo's setting for what runs the programs it has built.
fn runner(this: &str, options: &Options) -> String {
    let mut words = vec![this.to_owned(), "guest".into(), "--seconds".into(), options.seconds.to_string()];
    let mut add =
        |option: &str, value: Option<String>| words.extend(value.into_iter().flat_map(|value| [option.to_owned(), value]));
    add("--memory", options.memory.map(|memory| memory.to_string()));
    add("--cpus", options.cpus.map(|cpus| cpus.to_string()));
    words.push("--".into());
    format!("target.x86_64-unknown-linux-gnu.runner={}", toml::Value::from(words))
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn parsed(words: &[&str]) -> Options {
        Cli::try_parse_from([&["guest"], words].concat()).expect("it can be parsed").options
    }

    #[test]
    fn servers_come_first() {
        let tasks = tasks(&parsed(&["--each", "b", "--server", "a", "--each", "c"])).unwrap();
        let lines: Vec<_> = tasks.iter().map(|task| (task.role, &task.script)).collect();
        let line = |text: &str| Script::Line(text.into());
        assert_eq!(lines, [(Role::Server, &line("a")), (Role::Client, &line("b")), (Role::Client, &line("c"))]);
    }

    #[test]
    fn something_must_be_asked_for() {
        assert!(tasks(&parsed(&[])).is_err());
        assert!(tasks(&parsed(&["--server", "a"])).is_err());
        assert!(tasks(&parsed(&["--each", "a"].repeat(MOST_GUESTS + 1))).is_err());
        assert!(Cli::try_parse_from(["guest", "--each", "a", "--", "b"]).is_err());
        assert!(Cli::try_parse_from(["guest", "--cargo"]).is_err());
    }

    #[test]
    fn cargo_s_runner_is_this_program_with_the_same_limits() {
        let options = parsed(&["--cargo", "--cpus", "4", "--", "test", "--lib"]);
        let setting = runner("/a b/xtask", &options);
        let value: toml::Table = toml::from_str(&setting).unwrap();
        let words = &value["target"]["x86_64-unknown-linux-gnu"]["runner"];
        let words: Vec<_> = words.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        assert_eq!(words, ["/a b/xtask", "guest", "--seconds", "300", "--cpus", "4", "--"]);
    }
}
