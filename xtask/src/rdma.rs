//! What is run in guests that have an RDMA device: tests in one guest, programs in two. **Another run is a row here.**
//!
//! All is built with the selection that the step `all` has, and the feature on top, in the same folder: so only what knows of the feature is built once more.
#![forbid(unsafe_code)]

use crate::invocation::Invocation;
use crate::step::{Action, Step};
use crate::steps::target_dir;
use crate::{guest, prerequisites, smoke, workspace_root};
use std::path::Path;

pub(crate) fn steps(target_dir: &Path) -> Vec<Step> {
    vec![one_guest(), two_guests(target_dir), failures(target_dir)]
}

/// What is selected for building, here and there, with the transport.
const SELECTION: &str = "--workspace --features farptr/rdma,farptr-server/rdma";

/// Lints of what only the feature brings.
pub(crate) fn lints() -> Step {
    Step::new(
        "clippy-rdma",
        "lints of the transport over RDMA, warnings denied",
        Action::Run(Invocation::cargo(&format!("clippy {SELECTION} --all-targets -- -D warnings"))),
    )
    .unless(|| prerequisites::verbs().err())
}

/// The server's guest is the first, the port is any.
const SERVER: &str = "10.7.0.1:7471";

/// Folders of the workspace to search: several times the local budget.
const FOLDERS: [&str; 6] = ["runtime", "evacuator", "farptr", "server", "examples", "docs"];

fn one_guest() -> Step {
    Step::new(
        "rdma",
        "on real verbs slabs by RDMA keep the contract of transports, and fail cleanly",
        Action::Tests(Invocation::cargo(&format!(
            "xtask guest --cargo -- test {SELECTION} --no-fail-fast --test rdma --test contract --test auto"
        ))),
    )
    .unless(missing)
}

fn two_guests(target_dir: &Path) -> Step {
    // Below one folder of the guest's own: the workspace itself holds the target folder.
    let client = format!(
        "mkdir /mnt/tree && cp -r {} /mnt/tree && FARPTR_SERVERS=rdma:{SERVER} {} --json --no-all-local --local-memory {} --literal {} /mnt/tree",
        FOLDERS.join(" "),
        program(target_dir, "examples/codesearch"),
        smoke::BUDGET,
        smoke::PATTERN,
    );
    Step::new(
        "rdma-guests",
        "a server in one guest and the main example in another, with an Ethernet between them, find what is there",
        Action::Judged(
            Invocation::cargo("xtask guest --build")
                .arg(format!("{SELECTION} --bin farmemd --example codesearch"))
                .arg("--server")
                .arg(format!("{} --rdma {SERVER} --capacity 256MiB", program(target_dir, "farmemd")))
                .arg("--each")
                .arg(client),
            judge,
        ),
    )
    .unless(missing)
}

/// A network that loses everything for a while, a server that is killed, a link that is taken down: one test each, in this order, against the two servers of another guest, of which
/// one is killed in the meantime.
fn failures(target_dir: &Path) -> Step {
    /// Seconds until then: longer than the first test takes, shorter than the second waits.
    const KILLED_AFTER: u32 = 25;
    const OTHER_SERVER: &str = "10.7.0.1:7472";
    let farmemd = program(target_dir, "farmemd");
    let server = format!(
        "{farmemd} --rdma {OTHER_SERVER} --capacity 64MiB & \
         timeout -s KILL {KILLED_AFTER} {farmemd} --rdma {SERVER} --capacity 64MiB; wait"
    );
    // The test program that was built last is the one with the feature. A name that fits no test any more would pass for ever.
    let client = format!(
        "tests=$(ls -t {} | grep -v '[.]d$' | head -n 1); export FARPTR_TEST_RDMA_LINK=eth0; \
         run() {{ said=$(FARPTR_TEST_RDMA_SERVER=$1 $tests --ignored --nocapture $2 2>&1); echo \"$said\"; echo \"$said\" | grep -q 'ok. 1 passed'; }}; \
         run {OTHER_SERVER} a_network_that_fails && run {SERVER} a_server_that_is_killed && run {OTHER_SERVER} a_link_that_is_taken_down",
        program(target_dir, "deps/rdma-*"),
    );
    Step::new(
        "rdma-failures",
        "a server and a network that fail are noticed in time on another machine, and are used again",
        Action::Tests(
            Invocation::cargo("xtask guest --build")
                .arg(format!("{SELECTION} --bin farmemd --test rdma"))
                .arg("--server")
                .arg(server)
                .arg("--each")
                .arg(client),
        ),
    )
    .unless(missing)
}

fn program(target_dir: &Path, name: &str) -> String {
    target_dir.join("debug").join(name).display().to_string()
}

/// Compares what the example found with a plain scan.
fn judge(root: &Path, stdout: &str) -> Result<(), String> {
    let lines = FOLDERS.iter().map(|folder| smoke::matching_lines(&root.join(folder))).sum::<std::io::Result<u64>>();
    smoke::judge_figures(stdout, lines.map_err(|error| format!("can't read the folders: {error}"))?)
}

/// Why none of it can be run here, if so.
fn missing() -> Option<String> {
    prerequisites::verbs().err().or_else(|| guest::missing(&target_dir(&workspace_root())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_where_they_are_built() {
        let said = two_guests(Path::new("/t")).action.to_string();
        assert!(said.contains("--server '/t/debug/farmemd ") && said.contains(" /t/debug/examples/codesearch "), "{said}");
        assert!(failures(Path::new("/t")).action.to_string().contains("/t/debug/deps/rdma-*"));
    }
}
