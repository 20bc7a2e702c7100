//! Counts the instructions of hot paths under valgrind, and compares them with what they were: a regression shows however noisy the machine is.
//!
//! Each path of `benches/src/bin/counted.rs` is run with few turns and with many; what a turn takes is the difference, and nothing of what sets up. The numbers
//! are kept in `benches/instructions.toml`. They depend on the compiler, which is noted there, and hardly on the machine.
#![forbid(unsafe_code)]

use crate::invocation::Invocation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// How much more than the kept number fails, in percent.
const TOLERANCE: f64 = 5.0;

/// Few turns, and many: whole rounds over the objects that are present. A miss is some thousand instructions, the other paths are some ten.
const TURNS: [u64; 2] = [10 * 256, 100 * 256];

/// Where the numbers are kept.
const FILE: &str = "benches/instructions.toml";

/// Says what to do with the numbers.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Keep the numbers of now, rather than compare with those that are kept
    #[arg(long)]
    update: bool,
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Kept {
    /// The compiler that they were counted with.
    compiler: String,
    /// Instructions of a turn, by path.
    instructions: BTreeMap<String, f64>,
}

/// Why nothing can be counted here, if it can't.
pub(crate) fn cannot_count() -> Option<String> {
    let runs = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let missing = !runs.is_ok_and(|status| status.success());
    missing.then(|| "valgrind counts the instructions, and can't be run; install the package valgrind".into())
}

/// Whether nothing got worse.
pub(crate) fn run(options: &Options, root: &Path, target: &Path) -> Result<bool, String> {
    if let Some(why) = cannot_count() {
        return Err(why);
    }
    let build = Invocation::cargo("build --release --quiet -p farptr-benches --bin counted");
    if !build.command(root)?.status().is_ok_and(|status| status.success()) {
        return Err(format!("failed: {build}"));
    }
    let now = Kept { compiler: output(Command::new("rustc").arg("--version"))?.trim().into(), instructions: count(target)? };
    if options.update {
        let text = toml::to_string(&now).map_err(|error| error.to_string())?;
        let text = format!("# Instructions of a turn of each hot path; written by `cargo xtask bench-check --update`.\n{text}");
        std::fs::write(root.join(FILE), text).map_err(|error| format!("can't write {FILE}: {error}"))?;
        println!("wrote {FILE}");
        return Ok(true);
    }
    let text = std::fs::read_to_string(root.join(FILE)).map_err(|error| format!("can't read {FILE}: {error}"))?;
    let kept: Kept = toml::from_str(&text).map_err(|error| format!("{FILE}: {error}"))?;
    if kept.compiler != now.compiler {
        println!("counted with {}, compared with {}: differences may be the compilers'", now.compiler, kept.compiler);
    }
    let verdicts = compare(&kept.instructions, &now.instructions);
    verdicts.iter().for_each(|(_, line)| println!("{line}"));
    Ok(verdicts.iter().all(|(well, _)| *well))
}

/// Instructions of a turn of each path. All are counted at a time.
fn count(target: &Path) -> Result<BTreeMap<String, f64>, String> {
    let program = target.join("release/counted");
    let paths = output(&mut Command::new(&program))?;
    let counted = |path: &str| -> Result<(String, f64), String> {
        let [few, many] = TURNS.map(|turns| {
            let arguments = ["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"];
            let mut command = Command::new("valgrind");
            command.args(arguments).arg(&program).args([path, &turns.to_string()]).stdout(Stdio::null());
            let output = command.output().map_err(|error| format!("valgrind: {error}"))?;
            let said = String::from_utf8_lossy(&output.stderr);
            total(&said).filter(|_| output.status.success()).ok_or(format!("no count of {path}: {said}"))
        });
        Ok((path.into(), (many? as f64 - few? as f64) / (TURNS[1] - TURNS[0]) as f64))
    };
    let counts: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = paths.split_whitespace().map(|path| scope.spawn(move || counted(path))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("counting panicked".into()))).collect()
    });
    counts.into_iter().map(|each| each.map(|(path, count)| (path, (count * 10.0).round() / 10.0))).collect()
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("can't run {command:?}: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The number of instructions that cachegrind reports: `==1== I   refs:      1,234`.
fn total(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.split_whitespace().skip(1).take(2).eq(["I", "refs:"]))?;
    line.split_whitespace().last()?.replace(',', "").parse().ok()
}

/// A line for each path, and whether it is well.
fn compare(kept: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) -> Vec<(bool, String)> {
    let paths: std::collections::BTreeSet<&String> = kept.keys().chain(now.keys()).collect();
    let line = |path: &String| match (kept.get(path), now.get(path)) {
        (Some(was), Some(is)) => {
            let percent = 100.0 * (is / was - 1.0);
            let verdict = match percent {
                _ if percent > TOLERANCE => "WORSE",
                _ if percent < -TOLERANCE => "better: keep it with --update",
                _ => "ok",
            };
            (percent <= TOLERANCE, format!("{path:12} {was:8.1} -> {is:8.1} {percent:+6.1}%  {verdict}"))
        }
        (Some(_), None) => (false, format!("{path:12} is kept, and not counted any more: --update")),
        (None, _) => (false, format!("{path:12} is counted, and not kept: --update")),
    };
    paths.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: &[(&str, f64)]) -> BTreeMap<String, f64> {
        all.iter().map(|(path, count)| ((*path).to_string(), *count)).collect()
    }

    #[test]
    fn more_than_the_tolerance_fails_and_less_is_to_be_kept() {
        let kept = counts(&[("a", 100.0), ("b", 100.0), ("c", 100.0)]);
        let verdicts = compare(&kept, &counts(&[("a", 104.9), ("b", 105.1), ("c", 80.0)]));
        assert_eq!(verdicts.iter().map(|(well, _)| *well).collect::<Vec<_>>(), [true, false, true]);
        assert!(verdicts[1].1.contains("WORSE") && verdicts[2].1.contains("better"));
    }

    #[test]
    fn a_path_that_is_on_one_side_only_fails() {
        assert!(!compare(&counts(&[("a", 1.0)]), &counts(&[]))[0].0);
        assert!(!compare(&counts(&[]), &counts(&[("a", 1.0)]))[0].0);
    }

    #[test]
    fn the_count_is_found_in_what_cachegrind_says() {
        assert_eq!(total("==7== Cachegrind\n==7== \n==7== I   refs:      1,234,567\n"), Some(1_234_567));
        assert_eq!(total("==7== I refs:        42\n"), Some(42));
        assert_eq!(total("nothing"), None);
    }
}
