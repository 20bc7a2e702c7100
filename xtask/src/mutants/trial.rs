//! One check on the copy: built, and run until its first failure.
#![forbid(unsafe_code)]

use super::scratch::Scratch;
use super::table::{Build, CRATES, Check, package};
use crate::cfg;
use serde_json::Value;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a test that has failed may take to fail again, when it is asked for its message.
const REPEAT: Duration = Duration::from_secs(30);

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All tests passed.
    Passed { took: Duration },
    /// A test failed.
    Failed { test: String, how: String },
    /// The program ended otherwise than by a failed test.
    Crashed { how: String },
    /// It did not end in time.
    Hung { after: Duration },
    /// The code does not compile, or no test fits.
    Broken { why: String },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Passed { .. } => f.write_str("passes"),
            Verdict::Failed { test, how } => write!(f, "{test}: {how}"),
            Verdict::Crashed { how } => write!(f, "crashes ({how})"),
            Verdict::Hung { after } => write!(f, "hangs (more than {} s)", after.as_secs()),
            Verdict::Broken { why } => f.write_str(why),
        }
    }
}

/// Builds the check as the copy is now, and runs `tests` of it, or all, for at most `limit`.
pub(super) fn run(scratch: &Scratch, check: &Check, tests: &[String], limit: Duration) -> Result<Verdict, String> {
    let program = match build(scratch, check)? {
        Ok(program) => program,
        Err(why) => return Ok(Verdict::Broken { why }),
    };
    let all_models = ["loom::".to_owned()];
    let tests = if tests.is_empty() && check.build == Build::Loom { &all_models } else { tests };
    let folder = scratch.tree().join(&check.folder);
    let command = || {
        let mut command = Command::new(&program);
        // Seeds that one weakening failed by must not be tried first on the next.
        command.current_dir(&folder).env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
        // For tests that run cargo themselves: where cargo would say they are, not where it said so of this program.
        command.env("CARGO_MANIFEST_DIR", &folder).env("CARGO_TARGET_DIR", scratch.target("plain"));
        command
    };
    let verdict = watch(command().args(tests), limit)?;
    Ok(match verdict {
        Verdict::Failed { test, .. } => Verdict::Failed { how: message_of(command().args(["--exact", &test])), test },
        verdict => verdict,
    })
}

/// The test program, or why there is none.
fn build(scratch: &Scratch, check: &Check) -> Result<Result<PathBuf, String>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--no-run", "--quiet", "--message-format=json"]);
    match &check.test {
        // All crates, though only one has the test: cargo builds dependencies anew where other crates are chosen, for their features.
        Some(test) => command.args(CRATES.iter().flat_map(|folder| ["-p", package(folder)])).args(["--test", test]),
        None => command.args(["-p", package(&check.folder), "--lib"]),
    };
    // Building takes longer than running: our own code is hardly optimised, and only what has changed is compiled again.
    command.env("CARGO_INCREMENTAL", "1");
    if check.build == Build::Loom {
        command.env("RUSTFLAGS", "--cfg farptr_loom").env("CARGO_TARGET_DIR", scratch.target("loom"));
        command.arg("--release");
        for setting in ["opt-level=1", "package.\"*\".opt-level=3", "debug=0", "incremental=true"] {
            command.args(["--config", &format!("profile.release.{setting}")]);
        }
    } else {
        command.env("CARGO_TARGET_DIR", scratch.target("plain")).args(["--config", "profile.dev.debug=0"]);
    }
    if check.build == Build::Zeal {
        // Cargo keeps these builds of our own crates apart from the plain ones, and shares those of the dependencies.
        cfg::add(&mut command, "farptr_zeal")?;
    }
    let output = command.current_dir(scratch.tree()).stderr(Stdio::piped()).output();
    let output = output.map_err(|error| format!("can't run cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = || text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    if !output.status.success() {
        let said = messages().find_map(|message| error_in(&message));
        let said = said.unwrap_or_else(|| String::from_utf8_lossy(&output.stderr).lines().next_back().unwrap_or_default().into());
        return Ok(Err(format!("it does not compile: {said}")));
    }
    let folder = scratch.tree().join(&check.folder);
    let program = messages().filter(|message| message["profile"]["test"] == true).find_map(|message| {
        let is_its = Path::new(message["manifest_path"].as_str()?).starts_with(&folder);
        message["executable"].as_str().filter(|_| is_its).map(PathBuf::from)
    });
    program.map(Ok).ok_or_else(|| format!("cargo built no test program for {check}"))
}

/// The text of a compiler's error.
fn error_in(message: &Value) -> Option<String> {
    let message = &message["message"];
    (message["level"] == "error").then(|| message["message"].as_str().unwrap_or_default().to_owned())
}

/// Runs a test program until it ends, a test fails, or time is up.
fn watch(command: &mut Command, limit: Duration) -> Result<Verdict, String> {
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("can't start {}: {error}", Path::new(command.get_program()).display()))?;
    let stdout = child.stdout.take().expect("standard output is piped");
    let (lines, heard) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    let mut passed = 0;
    let failure = loop {
        match heard.recv_timeout(limit.saturating_sub(started.elapsed())) {
            Ok(line) => match result_in(&line) {
                Some((_, "ok")) => passed += 1,
                Some((test, "FAILED")) => break Some(Verdict::Failed { test: test.to_owned(), how: String::new() }),
                _ => {}
            },
            Err(RecvTimeoutError::Timeout) => break Some(Verdict::Hung { after: limit }),
            Err(RecvTimeoutError::Disconnected) => break None,
        }
    };
    if failure.is_some() {
        // It may have ended by itself meanwhile. The reader ends with its pipe, which a process that a test started may hold for longer.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| format!("can't wait for it: {error}"))?;
    Ok(match failure {
        Some(verdict) => verdict,
        None if !status.success() => Verdict::Crashed { how: status.to_string() },
        None if passed == 0 => Verdict::Broken { why: "no test ran; the filter fits none".into() },
        None => Verdict::Passed { took: started.elapsed() },
    })
}

/// `test name ... ok`, as the harness says it. A test that is expected to panic has that said behind its name.
fn result_in(line: &str) -> Option<(&str, &str)> {
    let (test, result) = line.strip_prefix("test ")?.split_once(" ... ")?;
    Some((test.trim_end_matches(" - should panic"), result.trim()))
}

/// What a failing test says, in one line: it is run once more, alone.
fn message_of(command: &mut Command) -> String {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return String::new() };
    let stdout = child.stdout.take().expect("standard output is piped");
    let (sender, said) = mpsc::channel();
    thread::spawn(move || {
        let lines: Vec<_> = BufReader::new(stdout).split(b'\n').map_while(Result::ok).collect();
        let text = lines.iter().map(|line| String::from_utf8_lossy(line)).collect::<Vec<_>>().join("\n");
        // Nobody may listen any more.
        let _ = sender.send(text);
    });
    let text = said.recv_timeout(REPEAT);
    let _ = child.kill();
    let _ = child.wait();
    panic_in(&text.unwrap_or_default())
}

/// The first line of the first panic's message.
fn panic_in(text: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.contains(" panicked at "));
    lines.next();
    let said = lines.map(str::trim).find(|line| !line.is_empty()).unwrap_or("it failed, but not when it was run alone");
    said.chars().take(140).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Verdict {
        watch(Command::new("sh").args(["-c", script]), Duration::from_secs(20)).unwrap()
    }

    #[test]
    fn the_first_failure_ends_a_check() {
        let verdict = shell("echo 'test a::b ... ok'; echo 'test c ... FAILED'; exec sleep 100");
        assert_eq!(verdict, Verdict::Failed { test: "c".into(), how: String::new() });
        assert!(matches!(shell("echo 'test a ... ok'"), Verdict::Passed { .. }));
        assert!(matches!(shell("echo 'test a - should panic ... ok'; exit 3"), Verdict::Crashed { .. }));
        assert!(matches!(shell("echo 'running 0 tests'"), Verdict::Broken { .. }));
    }

    #[test]
    fn what_does_not_end_hangs() {
        let verdict = watch(Command::new("sleep").arg("100"), Duration::from_millis(50)).unwrap();
        assert_eq!(verdict, Verdict::Hung { after: Duration::from_millis(50) });
    }

    #[test]
    fn the_message_is_that_of_the_panic() {
        let text = "---- a stdout ----\n\nthread 'a' (7) panicked at src/x.rs:1:2:\nleft is not right\n  left: 1\n";
        assert_eq!(panic_in(text), "left is not right");
        assert!(panic_in("nothing").contains("not when it was run alone"));
        let error = serde_json::json!({"reason": "compiler-message", "message": {"level": "error", "message": "no such thing"}});
        assert_eq!(error_in(&error), Some("no such thing".into()));
        assert_eq!(error_in(&serde_json::json!({"reason": "compiler-artifact"})), None);
    }
}
