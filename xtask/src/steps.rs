//! The table of steps. Add a configuration here; `cargo xtask ci --list` shows it.
#![forbid(unsafe_code)]

use crate::invocation::Invocation;
use crate::sanitize::{self, Sanitizer};
use crate::step::{Action, Step};
use crate::{bench_check, inventory, mutants, rdma, smoke, uring};
use std::path::{Path, PathBuf};

/// `cargo xtask test`.
pub(crate) fn test(root: &Path) -> Vec<Step> {
    let mut steps = vec![
        Step::new(
            "all",
            "unit, integration, compile-fail and doc tests of every crate",
            Action::Tests(Invocation::cargo("test --workspace --no-fail-fast")),
        ),
        Step::new(
            "no-uring",
            "in containers without io_uring all forms work over every transport; only shards don't, and say what is missing",
            // Of the whole workspace, because a selection of packages has other features, and would be built once more.
            Action::Tests(
                Invocation::cargo("test --workspace --lib --bins --tests no_uring")
                    .without_uring()
                    .env("FARPTR_TEST_NO_URING", "1"),
            ),
        )
        .unless(uring::cannot_forbid),
        zeal(None, &[]),
        sanitize::threads(&target_dir(root), root),
        Step::new(
            "loom",
            "the protocols between mutators and evacuator, in every order that threads can run in",
            Action::Tests(
                Invocation::cargo("test -p farptr-runtime -p farptr-evacuator --release --lib loom")
                    .env("RUSTFLAGS", "--cfg farptr_loom")
                    // Other flags, other builds of everything: in the same folder each would undo the other's work.
                    .env("CARGO_TARGET_DIR", target_dir(root).join("loom").display().to_string()),
            ),
        ),
    ];
    steps.extend(rdma::steps(&target_dir(root)));
    steps
}

/// `cargo xtask ci`.
pub(crate) fn ci(root: &Path) -> Vec<Step> {
    let mut steps = vec![
        Step::new("fmt", "one format", Action::Run(Invocation::cargo("fmt --all --check"))),
        unsafe_inventory(),
        Step::new(
            "mutants",
            "the deliberate weakenings still apply to the code; `cargo xtask mutants` runs them",
            Action::Check(mutants::check),
        ),
        Step::new(
            "clippy",
            "lints, warnings denied",
            Action::Run(Invocation::cargo("clippy --workspace --all-targets -- -D warnings")),
        ),
        rdma::lints(),
        doc(false),
    ];
    steps.extend(test(root));
    steps.push(
        Step::new(
            "bench-check",
            "no hot path takes over 5% more instructions than it did",
            Action::Run(Invocation::cargo("xtask bench-check")),
        )
        .unless(bench_check::cannot_count),
    );
    steps.push(Step::new(
        "fuzz",
        "made-up input, guided by coverage, breaks neither the wire nor far memory nor the settings; a short run",
        // The same inputs each time: what fails here is a change's doing. Runs that take what comes are for whoever has the time.
        Action::Run(Invocation::cargo("xtask fuzz --seed 1 --seconds 60 --jobs 4")),
    ));
    steps.push(Step::new(
        "codesearch",
        "the main example, on real input with a small budget, finds what is there",
        Action::Judged(
            Invocation::cargo("run --quiet --release -p farptr-examples --example codesearch --")
                .arg("--json")
                .arg("--local-memory")
                .arg(smoke::BUDGET)
                .arg("--literal")
                .arg(smoke::PATTERN)
                .arg(smoke::FOLDER),
            smoke::judge,
        ),
    ));
    steps
}

/// `cargo xtask soak`.
pub(crate) fn soak(minutes: u32) -> Step {
    Step::new(
        "soak",
        "random operations against a model, with a local budget far below the data",
        Action::Tests(
            Invocation::cargo("test --release -p farptr soak -- --ignored --nocapture")
                .env("FARPTR_SOAK_MINUTES", minutes.to_string()),
        ),
    )
}

/// `cargo xtask torture`. With debug assertions, which are a part of what is tested.
pub(crate) fn torture(first: u64, seeds: u32, server: &str) -> Step {
    Step::new(
        "torture",
        "far memory over servers that go wrong: right data or a clean error, never wrong data, no hang, no panic",
        Action::Tests(
            Invocation::cargo("test -p farptr-server --test torture long_torture -- --ignored --nocapture")
                .env("FARPTR_TORTURE_FIRST", first.to_string())
                .env("FARPTR_TORTURE_SEEDS", seeds.to_string())
                .env("FARPTR_TORTURE_SERVER", server),
        ),
    )
}

/// `cargo xtask zeal`.
pub(crate) fn zeal(every: Option<String>, what: &[String]) -> Step {
    // The compile-fail tests run nothing; doc tests are examples, and would be built once more.
    const SUITE: &str =
        "test -p farptr-runtime -p farptr-evacuator -p farptr -p farptr-server --no-fail-fast --lib --bins --tests";
    let tests = if what.is_empty() {
        Invocation::cargo(SUITE).arg("--").arg("--skip").arg("misuse_does_not_compile")
    } else {
        what.iter().fold(Invocation::cargo("test"), |tests, arg| tests.arg(arg))
    };
    let tests = match every {
        Some(every) => tests.env("FARPTR_ZEAL", every),
        None => tests,
    };
    Step::new(
        "zeal",
        "nothing is relied on past a point where evacuation may happen: there it does",
        Action::Tests(tests.with_cfg("farptr_zeal")),
    )
}

/// `cargo xtask sanitize`.
pub(crate) fn sanitize(sanitizer: Sanitizer, what: &[String], root: &Path) -> Step {
    sanitize::step(sanitizer, what, &target_dir(root), root)
}

/// `cargo xtask doc`.
pub(crate) fn doc(open: bool) -> Step {
    let build = Invocation::cargo("doc --workspace --no-deps").env("RUSTDOCFLAGS", "-D warnings");
    Step::new(
        "doc",
        "documentation builds, and its links lead somewhere",
        Action::Run(if open { build.arg("--open") } else { build }),
    )
}

/// `cargo xtask unsafe`.
pub(crate) fn unsafe_inventory() -> Step {
    Step::new("unsafe", "unsafe code is where docs/design.md says, and nowhere else", Action::Check(inventory::check))
}

/// Where things are built.
pub(crate) fn target_dir(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn steps_have_names_of_their_own() {
        let names: Vec<_> = ci(Path::new("/w")).iter().map(|step| step.name).collect();
        assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len(), "{names:?}");
    }

    #[test]
    fn ci_runs_all_that_test_runs() {
        let ci: BTreeSet<_> = ci(Path::new("/w")).iter().map(|step| step.action.to_string()).collect();
        for step in test(Path::new("/w")) {
            assert!(ci.contains(&step.action.to_string()), "{}", step.name);
        }
    }
}
