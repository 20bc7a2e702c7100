//! `cargo xtask fuzz`: builds the fuzz targets with coverage and AddressSanitizer, runs them, and says how to repeat what they find.
//!
//! cargo-fuzz builds; the programs are then run by themselves, several at a time if wanted. They read the inputs in `fuzz/corpus` and keep what they
//! find in `target/fuzz`: new inputs in `corpus`, failing ones in `artifacts`, everything that libFuzzer says in `logs`. The
//! sanitizer and the coverage are unstable flags of the compiler, which `RUSTC_BOOTSTRAP` allows on the stable one.
#![forbid(unsafe_code)]

use crate::invocation::Invocation;
use crate::prerequisites;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// The package whose programs cargo-fuzz builds.
const PROGRAMS: &str = "fuzz/libfuzzer";

/// How often the progress of a target is shown.
const PULSE: Duration = Duration::from_secs(15);

/// One target, and what libFuzzer must know of it.
struct Target {
    name: &'static str,
    /// Longest input in bytes: some hundred operations. Longer ones only make everything slower.
    max_len: u32,
    /// Largest single allocation in MiB. No length that a peer sends may be allocated; the sessions' buffers stay below 2 MiB.
    most_allocated: u32,
}

/// The same targets, by the same names, as in `farptr_fuzz::TARGETS`.
const TARGETS: [Target; 7] = [
    Target { name: "frames", max_len: 1024, most_allocated: 4 },
    Target { name: "server", max_len: 2048, most_allocated: 4 },
    Target { name: "client", max_len: 2048, most_allocated: 4 },
    Target { name: "heap", max_len: 2048, most_allocated: 64 },
    Target { name: "map", max_len: 2048, most_allocated: 64 },
    Target { name: "vec", max_len: 2048, most_allocated: 64 },
    Target { name: "settings", max_len: 1024, most_allocated: 16 },
];

const EXAMPLES: &str = "\
Examples:
  cargo xtask fuzz                            each target for a minute, one after the other
  cargo xtask fuzz heap --seconds 3600        one target for an hour
  cargo xtask fuzz --seconds 30 --jobs 2      a short run of all, two at a time
  cargo xtask fuzz heap --input FILE          run one input, as a failure asks you to
  cargo xtask fuzz heap --keep                put what longer runs found into fuzz/corpus, minimised

Targets:
  frames    bytes to frames and back; streams cut anywhere
  server    what hostile and honest clients send, against a model of slabs
  client    right, wrong, late and missing answers, against a model of operations
  heap      objects of all sizes, pins, scopes and rounds, in a tiny budget, against a model
  map       RemHashMap against std's, with colliding hashes
  vec       RemVec against Vec
  settings  configuration file, variables, sizes

What a run finds that is new stays in target/fuzz/corpus, and later runs go on from there. A failing input goes to target/fuzz/artifacts; when the
cause is mended, move it to fuzz/corpus/TARGET, where the ordinary tests replay it (fuzz/tests/replay.rs).";

/// Run the fuzz targets: made-up input, guided by coverage, against models
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Targets to run [default: all]
    #[arg(value_name = "TARGET", value_parser = TARGETS.map(|target| target.name))]
    only: Vec<String>,
    /// How long to run each
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    seconds: u32,
    /// Draw inputs in the order that this number stands for [default: another order each time]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    seed: Option<u32>,
    /// How many targets to run at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// Run the targets on this input alone, and show all they say
    #[arg(long, value_name = "FILE", conflicts_with = "keep")]
    input: Option<PathBuf>,
    /// Replace fuzz/corpus by the smallest set of known inputs that reaches all that they reach, instead of fuzzing
    #[arg(long)]
    keep: bool,
}

/// Where things are.
struct Places<'a> {
    root: &'a Path,
    /// Builds, and what the targets find.
    work: PathBuf,
}

impl Places<'_> {
    fn program(&self, target: &Target) -> PathBuf {
        self.work.join(host()).join("release").join(target.name)
    }

    fn kept(&self, target: &Target) -> PathBuf {
        self.root.join("fuzz/corpus").join(target.name)
    }

    /// A folder of this target's, which exists afterwards.
    fn folder(&self, kind: &str, target: &Target) -> Result<PathBuf, String> {
        let folder = self.work.join(kind).join(target.name);
        fs::create_dir_all(&folder).map_err(|error| format!("can't make {}: {error}", folder.display()))?;
        Ok(folder)
    }
}

/// Runs what `options` ask for. The error is for people; whether a target failed is the value.
pub(crate) fn run(options: &Options, root: &Path, target_dir: &Path) -> Result<bool, String> {
    prerequisites::fuzzing()?;
    let places = Places { root, work: target_dir.join("fuzz") };
    let chosen = |target: &&Target| options.only.is_empty() || options.only.iter().any(|name| name == target.name);
    let targets: Vec<&Target> = TARGETS.iter().filter(chosen).collect();
    build(&targets, &places)?;
    if let Some(input) = &options.input {
        return targets.iter().try_fold(true, |well, target| Ok(once(target, input, &places)? && well));
    }
    if options.keep {
        return targets.iter().try_fold(true, |well, target| Ok(keep(target, &places)? && well));
    }
    let queue = Mutex::new(VecDeque::from(targets));
    let failures = Mutex::new(Vec::new());
    thread::scope(|threads| {
        for _ in 0..options.jobs {
            threads.spawn(|| {
                loop {
                    let next = queue.lock().expect("a runner doesn't panic").pop_front();
                    let Some(target) = next else { return };
                    if let Err(failure) = fuzz(target, options, &places) {
                        println!("=== FAILED {}: {failure}", target.name);
                        failures.lock().expect("a runner doesn't panic").push((target.name, failure));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("a runner doesn't panic");
    for (name, failure) in &failures {
        println!("!!! {name}: {failure}");
    }
    Ok(failures.is_empty())
}

fn build(targets: &[&Target], places: &Places<'_>) -> Result<(), String> {
    let sanitizer = if prerequisites::sanitizer_missing("asan").is_none() { "address" } else { "none" };
    if sanitizer == "none" {
        println!("=== note: this toolchain brings no AddressSanitizer; fuzzing without");
    }
    // One by one if not all are wanted: cargo-fuzz builds one or all.
    let which: Vec<&str> =
        if targets.len() == TARGETS.len() { vec![""] } else { targets.iter().map(|target| target.name).collect() };
    for target in which {
        let mut invocation = Invocation::cargo("fuzz build --fuzz-dir").arg(PROGRAMS).arg("--sanitizer").arg(sanitizer);
        if !target.is_empty() {
            invocation = invocation.arg(target);
        }
        let invocation = match sanitizer {
            // It is told of the local heap as well (`runtime/src/poison.rs`); cargo-fuzz adds its own flags to these.
            "address" => invocation.env("RUSTFLAGS", "--cfg farptr_asan"),
            _ => invocation,
        };
        let invocation = invocation.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", places.work.display().to_string());
        println!("$ {invocation}");
        let status = invocation.command(places.root)?.status().map_err(|error| format!("can't run cargo fuzz: {error}"))?;
        if !status.success() {
            return Err(format!("the targets can't be built: {status}"));
        }
    }
    Ok(())
}

/// A target's program, with what it is always told.
fn program(target: &Target, places: &Places<'_>) -> Command {
    let mut command = Command::new(places.program(target));
    // A backtrace takes more memory than the limit on allocations allows, which would then pass for the failure.
    command.current_dir(places.root).env("ASAN_OPTIONS", "detect_odr_violation=0").env("RUST_BACKTRACE", "0");
    command.arg(format!("-max_len={}", target.max_len)).arg(format!("-malloc_limit_mb={}", target.most_allocated));
    // An input that takes a second is one too many: rounds that free nothing sleep, and some do so in vain.
    command.args(["-timeout=20", "-rss_limit_mb=2048"]);
    command
}

fn start(mut command: Command) -> Result<std::process::Child, String> {
    command.spawn().map_err(|error| format!("can't run {}: {error}", command.get_program().display()))
}

/// Runs one input, and shows what is said.
fn once(target: &Target, input: &Path, places: &Places<'_>) -> Result<bool, String> {
    let input = fs::canonicalize(input).map_err(|error| format!("can't read {}: {error}", input.display()))?;
    let mut command = program(target, places);
    command.arg(input);
    let status = start(command)?.wait().map_err(|error| format!("can't wait for it: {error}"))?;
    println!("=== {} {}", target.name, if status.success() { "holds" } else { "fails" });
    Ok(status.success())
}

/// Fuzzes one target; the error is what it found.
fn fuzz(target: &Target, options: &Options, places: &Places<'_>) -> Result<(), String> {
    let seconds = options.seconds;
    let artifacts = places.folder("artifacts", target)?;
    let (found, kept) = (places.folder("corpus", target)?, places.kept(target));
    let log_path = places.work.join("logs").join(format!("{}.log", target.name));
    fs::create_dir_all(places.work.join("logs")).map_err(|error| format!("can't make a folder for logs: {error}"))?;
    let mut log = File::create(&log_path).map_err(|error| format!("can't write {}: {error}", log_path.display()))?;
    println!("=== {} for {seconds} s; log: {}", target.name, log_path.display());

    let mut command = program(target, places);
    command.arg(format!("-max_total_time={seconds}")).args([
        "-use_value_profile=1",
        "-len_control=0",
        "-reload=0",
        "-print_final_stats=1",
    ]);
    command.args(options.seed.map(|seed| format!("-seed={seed}")));
    command.arg(format!("-artifact_prefix={}/", artifacts.display())).arg(found);
    if kept.is_dir() {
        command.arg(kept);
    }
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = start(command)?;
    let stderr = child.stderr.take().expect("standard error is piped");
    let (mut heard, mut shown) = (Heard::default(), Instant::now());
    for line in BufReader::new(stderr).split(b'\n') {
        let Ok(line) = line else { break };
        // A full disk must not end the run: what is heard is what counts.
        let _ = log.write_all(&line).and_then(|()| log.write_all(b"\n"));
        if heard.hear(&String::from_utf8_lossy(&line)) && shown.elapsed() >= PULSE {
            shown = Instant::now();
            println!("    {:>8} {}", target.name, heard.progress);
        }
    }
    let status = child.wait().map_err(|error| format!("can't wait for it: {error}"))?;
    if status.success() {
        println!("    {:>8} ok: {} runs; {}", target.name, heard.runs, heard.progress);
        return Ok(());
    }
    let problem = if heard.problem.is_empty() { format!("{status}") } else { heard.problem };
    let again = heard.input.map_or_else(
        || format!("see {}", log_path.display()),
        |input| format!("to run it again: cargo xtask fuzz {} --input {input}", target.name),
    );
    Err(format!("{problem}; {again}"))
}

/// Replaces the kept inputs by the smallest set that reaches as much.
fn keep(target: &Target, places: &Places<'_>) -> Result<bool, String> {
    let (found, kept) = (places.folder("corpus", target)?, places.kept(target));
    let fresh = places.folder("kept", target)?;
    let failed = |error: std::io::Error| format!("can't replace {}: {error}", kept.display());
    fs::remove_dir_all(&fresh).and_then(|()| fs::create_dir_all(&fresh)).map_err(failed)?;
    fs::create_dir_all(&kept).map_err(failed)?;
    let mut command = program(target, places);
    command.arg("-set_cover_merge=1").args([&fresh, &kept, &found]);
    let status = start(command)?.wait().map_err(|error| format!("can't wait for it: {error}"))?;
    if !status.success() {
        println!("=== {}: an input fails; fuzz/corpus is as it was", target.name);
        return Ok(false);
    }
    fs::remove_dir_all(&kept).and_then(|()| fs::create_dir_all(&kept)).map_err(failed)?;
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(&fresh).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        bytes += fs::copy(entry.path(), kept.join(entry.file_name())).map_err(failed)?;
        files += 1;
    }
    println!("=== {}: {files} inputs, {bytes} bytes", target.name);
    Ok(true)
}

/// What libFuzzer said.
#[derive(Default)]
struct Heard {
    /// Its last line about progress.
    progress: String,
    runs: u64,
    /// What failed, in the words of the panic or the sanitizer.
    problem: String,
    /// The input that failed.
    input: Option<String>,
}

impl Heard {
    /// Whether the line tells of progress.
    fn hear(&mut self, line: &str) -> bool {
        if line.starts_with('#') && line.contains(" cov: ") {
            self.progress = line.split_whitespace().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
            return true;
        }
        if let Some((_, input)) = line.split_once("Test unit written to ") {
            self.input = Some(input.trim().to_owned());
        } else if let Some(runs) = line.strip_prefix("stat::number_of_executed_units:") {
            self.runs = runs.trim().parse().unwrap_or(0);
        } else if self.problem.is_empty() {
            let tells = line.contains("panicked at ") || line.contains("ERROR: ");
            self.problem = if tells { line.trim().trim_end_matches(':').to_owned() } else { String::new() };
        } else if self.problem.contains("panicked at ") && !self.problem.contains(": \"") && self.input.is_none() {
            // The line after the place is the message.
            self.problem = format!("{}: \"{}\"", self.problem, line.trim());
        }
        false
    }
}

/// The target triple that cargo-fuzz builds for unless told otherwise.
fn host() -> &'static str {
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_heard() {
        let mut heard = Heard::default();
        assert!(!heard.hear("INFO: Running with entropic power schedule (0xFF, 100)."));
        assert!(heard.hear("#2048\tpulse  cov: 900 ft: 2000 corp: 40/1200b lim: 80 exec/s: 512 rss: 60Mb"));
        heard.hear("thread '<unnamed>' (7) panicked at fuzz/src/heap.rs:9:5:");
        heard.hear("no reason to fail");
        heard.hear("==7== ERROR: libFuzzer: deadly signal");
        heard.hear("artifact_prefix='a/'; Test unit written to a/crash-1");
        heard.hear("stat::number_of_executed_units: 4711");
        assert!(heard.progress.starts_with("#2048 pulse cov: 900"), "{}", heard.progress);
        assert_eq!(heard.problem, "thread '<unnamed>' (7) panicked at fuzz/src/heap.rs:9:5: \"no reason to fail\"");
        assert_eq!((heard.input.as_deref(), heard.runs), (Some("a/crash-1"), 4711));
    }

    #[test]
    fn targets_have_a_program_and_inputs() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder of the workspace");
        for target in &TARGETS {
            assert!(root.join(PROGRAMS).join(format!("targets/{}.rs", target.name)).is_file(), "{}", target.name);
            assert!(root.join("fuzz/corpus").join(target.name).is_dir(), "{}", target.name);
        }
    }
}
