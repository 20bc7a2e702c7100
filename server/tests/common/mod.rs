//! What the tests of borrowers share: a `farmemd` of their own, and small tools.
#![allow(dead_code, reason = "each test file uses a part")]

use farptr::FarMemory;
use rustix::process::{Pid, Signal, kill_process};
use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A running `farmemd`, killed (SIGKILL) when dropped.
pub(crate) struct Farmemd {
    pub(crate) child: Child,
    pub(crate) address: String,
    /// Where its socket is.
    _folder: TempDir,
}

impl Farmemd {
    /// One that listens on loopback.
    pub(crate) fn start(capacity: &str) -> Self {
        Self::start_with(&["--listen", "127.0.0.1:0", "--capacity", capacity], tempfile::tempdir().expect("a folder"))
    }

    /// One whose memory is mapped by its borrowers.
    pub(crate) fn at_socket(capacity: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("farmemd").to_str().expect("a path").to_owned();
        Self::start_with(&["--unix", &path, "--capacity", capacity], folder)
    }

    pub(crate) fn start_with(args: &[&str], folder: TempDir) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_farmemd"))
            .args(args)
            .args(["--slab-size", "1MiB"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("farmemd starts");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut ready).expect("a ready line");
        let address = ready.strip_prefix("farmemd ready: ").and_then(|rest| rest.split_whitespace().next());
        let address = address.unwrap_or_else(|| panic!("not a ready line: {ready:?}")).to_string();
        Self { child, address, _folder: folder }
    }

    /// The path of its socket.
    pub(crate) fn path(&self) -> &str {
        self.address.strip_prefix("unix:").expect("a farmemd with a socket")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // It has not been waited for, so the pid is its.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("a child can be sent a signal");
    }

    pub(crate) fn memory(&self, budget: usize) -> FarMemory {
        let timeout = Duration::from_secs(2);
        FarMemory::builder().local_budget(budget).server(&self.address).timeout(timeout).build().expect("a far memory")
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

impl Drop for Farmemd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

pub(crate) fn assert_empty(mem: &FarMemory) {
    mem.trim().expect("trim");
    let stats = mem.stats();
    assert_eq!((stats.local_used_bytes, stats.far_live_bytes, stats.far_borrowed_bytes), (0, 0, 0), "{stats:?}");
}

/// Runs a future to its end on this thread, without any executor: polls when woken, and at least every millisecond.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        std::thread::park();
    }
}

/// Whether `test` can't be run, loudly: under zeal objects leave at every legal point, used or not, and `measured` says what that makes of it.
pub(crate) fn zeal_contradicts(test: &str, measured: &str) -> bool {
    if cfg!(farptr_zeal) {
        writeln!(std::io::stderr(), "SKIPPED: {test}: under zeal {measured}").expect("standard error takes a line");
    }
    cfg!(farptr_zeal)
}
