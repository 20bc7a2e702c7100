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
    vec![one_guest(), two_guests(target_dir)]
}

/// What is selected for building, here and there.
const SELECTION: &str = "--workspace";

/// The server's guest is the first, the port is any.
const SERVER: &str = "10.7.0.1:7471";

/// Folders of the workspace to search: several times the local budget.
const FOLDERS: [&str; 6] = ["runtime", "evacuator", "farptr", "server", "examples", "docs"];

fn one_guest() -> Step {
    Step::new(
        "rdma",
        "in a guest that has an RDMA device, transports keep their contract",
        Action::Tests(Invocation::cargo("xtask guest --cargo -- test").arg(SELECTION).arg("--test").arg("contract")),
    )
    .unless(missing)
}

fn two_guests(target_dir: &Path) -> Step {
    let program = |name: &str| target_dir.join("debug").join(name).display().to_string();
    let server = format!("{} --listen {SERVER} --capacity 256MiB", program("farmemd"));
    // Below one folder of the guest's own: the workspace itself holds the target folder.
    let client = format!(
        "mkdir /mnt/tree && cp -r {} /mnt/tree && FARPTR_SERVERS=tcp:{SERVER} {} --json --no-all-local --local-memory {} --literal {} /mnt/tree",
        FOLDERS.join(" "),
        program("examples/codesearch"),
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
                .arg(server)
                .arg("--each")
                .arg(client),
            judge,
        ),
    )
    .unless(missing)
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
    }
}
