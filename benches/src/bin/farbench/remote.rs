//! The other end of a [`Program`]: starts it, in a group that limits its memory, and takes samples.

use crate::Outcome;
use crate::figure::Role;
use crate::group::Group;
use crate::program::{Load, Program};
use crate::server::{Started, spawn};
use crate::subject::Subject;
use crate::undo::{SetUp, Undo};
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// What a process takes besides its data: code, stack, the allocator's own.
const BASE: u64 = 4 << 20;

/// A program that runs. Ends when this goes; its group after it.
pub(crate) struct Remote {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// Bytes of a MiB where work is counted in bytes, otherwise 1.
    scale: f64,
    series: String,
    _end: SetUp,
    _group: Group,
}

impl Remote {
    /// Starts a program that may have `limit` bytes, and waits until its data is there.
    pub(crate) fn start(program: &Program, limit: u64, undo: &Undo) -> Outcome<Self> {
        let group = Group::new(limit + BASE, undo)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--subject").arg(serde_json::to_string(program)?).stdin(Stdio::piped()).stdout(Stdio::piped());
        let Started { process, stdin, stdout, end } = spawn(&mut command, undo)?;
        let (stdin, stdout) = stdin.zip(stdout).ok_or("a child without pipes")?;
        group.take(process)?;
        let scale = if matches!(program, Program::Scan { .. } | Program::ScanFile { .. }) { f64::from(1 << 20) } else { 1.0 };
        let mut remote =
            Remote { stdin, stdout: BufReader::new(stdout), scale, series: "a program".into(), _end: end, _group: group };
        match remote.ask("go")?.trim() {
            "ready" => Ok(remote),
            other => Err(format!("a program that is not ready: {other}").into()),
        }
    }

    fn ask(&mut self, line: &str) -> Outcome<String> {
        let ended = "the program ended that was to be measured: the kernel takes it for out of memory where what is swapped counts against its limit, \
            as what doesn't compress does in zswap";
        writeln!(self.stdin, "{line}").map_err(|_| ended)?;
        let mut answer = String::new();
        match self.stdout.read_line(&mut answer)? {
            0 => Err(ended.into()),
            _ => Ok(answer),
        }
    }

    /// How much it does in a second: operations, or MiB.
    pub(crate) fn sample(&mut self, time: Duration) -> Outcome<f64> {
        Ok(self.ask(&time.as_secs_f64().to_string())?.trim().parse::<f64>()? / self.scale)
    }

    pub(crate) fn named(mut self, series: impl Into<String>) -> Self {
        self.series = series.into();
        self
    }

    /// Has a program with a map go on with other operations.
    pub(crate) fn load(&mut self, load: &Load) -> Outcome {
        match self.ask(&serde_json::to_string(load)?)?.trim() {
            "ready" => Ok(()),
            other => Err(format!("a program that is not ready: {other}").into()),
        }
    }

    pub(crate) fn subject(&mut self) -> Subject<'_> {
        Subject::new(self.series.clone(), Role::Alternative, move |time| self.sample(time)).that_may_fail()
    }
}
