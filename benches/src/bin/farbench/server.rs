//! farmemd as a child process: found or built, started, and ended with whoever holds it.

use crate::Outcome;
use crate::cli::Pace;
use crate::device;
use crate::transport::Kind;
use crate::undo::{Folder, SetUp, Undo};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

/// A farmemd that lends in one way.
pub(crate) struct Farmemd {
    /// As `FarMemory`'s builder wants it.
    pub(crate) address: String,
    _end: SetUp,
    _folder: Folder,
}

impl Farmemd {
    /// Starts the program, which lends `capacity` bytes by `kind`, and waits until it is ready.
    pub(crate) fn start(program: &Path, kind: Kind, capacity: u64, undo: &Undo) -> Outcome<Self> {
        let folder = undo.folder()?;
        let mut command = Command::new(program);
        command.args(["--capacity", &capacity.to_string()]);
        match kind {
            Kind::Tcp => command.args(["--listen", "127.0.0.1:0"]),
            Kind::Shm => command.arg("--unix").arg(folder.path.join("socket")),
            Kind::Rdma => {
                let device = device::address()?;
                // Free for TCP, which says nothing of RDMA, but it is one that nobody has chosen by hand. If it is taken, farmemd says so.
                let port = TcpListener::bind((device, 0))?.local_addr()?.port();
                command.args(["--rdma", &format!("{device}:{port}")])
            }
            Kind::Embedded => return Err(format!("farmemd doesn't lend by {kind}").into()),
        };
        let log = folder.path.join("log");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?).env("RUST_LOG", "warn");
        let Started { stdout, end, .. } = spawn(&mut command, undo)?;
        let stdout = stdout.ok_or("farmemd without a stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = ready(&line)
            .ok_or_else(|| format!("farmemd did not start: {}", std::fs::read_to_string(&log).unwrap_or_default().trim()))?;
        Ok(Farmemd { address: address.into(), _end: end, _folder: folder })
    }
}

/// The address in the line that farmemd prints when it is ready.
fn ready(line: &str) -> Option<&str> {
    line.strip_prefix("farmemd ready: ")?.split(' ').next()
}

/// A child that runs, and its pipes.
pub(crate) struct Started {
    pub(crate) process: u32,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    /// Ends it.
    pub(crate) end: SetUp,
}

/// Starts a child that ends when the guard goes, or when the run is ended.
pub(crate) fn spawn(command: &mut Command, undo: &Undo) -> Outcome<Started> {
    undo.undisturbed(|| {
        let mut child = command.spawn()?;
        let (process, stdin, stdout) = (child.id(), child.stdin.take(), child.stdout.take());
        let end = undo.with(move || {
            // It may have gone by itself.
            let _ = child.kill();
            let _ = child.wait();
        });
        Ok(Started { process, stdin, stdout, end })
    })
}

/// The program: beside this one if it is not older (or if it hardly matters), otherwise built by cargo, which does nothing if nothing changed.
pub(crate) fn farmemd(pace: Pace) -> Outcome<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().ok_or("an executable without a folder")?;
    let beside = folder.join("farmemd");
    if newer(&beside, &own) || (pace == Pace::Smoke && beside.exists()) {
        return Ok(beside);
    }
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("Cargo.toml");
    if manifest.exists() {
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--quiet", "-p", "farptr-server", "--bin", "farmemd", "--manifest-path"]).arg(&manifest);
        if cfg!(feature = "rdma") {
            build.args(["--features", "rdma"]);
        }
        build.arg("--target-dir").arg(folder.parent().unwrap_or(folder));
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        if build.stdin(Stdio::null()).status().is_ok_and(|status| status.success()) && beside.exists() {
            return Ok(beside);
        }
    }
    if beside.exists() {
        return Ok(beside);
    }
    Err(format!("there is no farmemd at {}; cargo build --release -p farptr-server", beside.display()).into())
}

fn newer(a: &Path, b: &Path) -> bool {
    let time = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    time(a).zip(time(b)).is_some_and(|(a, b)| a >= b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_in_the_ready_line() {
        assert_eq!(ready("farmemd ready: tcp:127.0.0.1:7070 capacity=1 slab=2\n"), Some("tcp:127.0.0.1:7070"));
        assert_eq!(ready("farmemd: no"), None);
    }
}
