//! `cargo xtask sanitize`: the suite under AddressSanitizer (LeakSanitizer is part of it) or ThreadSanitizer.
//!
//! The stable compiler has both behind `RUSTC_BOOTSTRAP=1`, and its releases bring the sanitizers' runtime libraries. Each has a target folder of its
//! own, since everything is built with other flags; `--target` keeps procedural macros and build scripts, which run inside the compiler, out of it.
//!
//! - AddressSanitizer runs with the standard library as it is shipped: what that touches on our behalf is intercepted, or generic and compiled here. It runs
//!   under zeal, and is told of the local heap by `--cfg farptr_asan` (`runtime/src/poison.rs`).
//! - ThreadSanitizer must see every release and acquire, those inside `std` as well: a lock that had to be waited for, a cell set once, a thread that
//!   ended would else order nothing, and all that they guard would look like a race. So `std` is compiled as well (`-Zbuild-std`, from the component
//!   `rust-src`). `Arc`, whose last drop rests on a fence, then loads instead.
#![forbid(unsafe_code)]

use crate::invocation::Invocation;
use crate::prerequisites;
use crate::step::{Action, Step};
use std::path::Path;

/// Where the releases bring the runtime libraries, and what is built for; the prerequisites ask whether they are there.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Of a test's thread. A frame of a model of large values (72 KB each) takes more than the usual 2 MiB.
const STACK_BYTES: &str = "16777216";

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Sanitizer {
    /// Uses of what was freed, given up or never handed out, and leaks
    Address,
    /// Uses of the same bytes by two threads, one of them writing, that nothing orders
    Thread,
}

/// The suite, in words of `cargo test`. The compile-fail tests run nothing.
const SUITE: &str = "-p farptr-runtime -p farptr-evacuator -p farptr -p farptr-server --no-fail-fast --lib --bins --tests -- \
    --skip misuse_does_not_compile";

/// What CI runs under ThreadSanitizer: clocks, grace periods, slabs and lanes; mutators against the evacuator's thread; blocking and async forms. Under
/// AddressSanitizer CI runs the fuzz targets.
const THREADS: &str = "-p farptr-runtime -p farptr-evacuator -p farptr --no-fail-fast --lib --test rounds --test scopes --test rem_box --test no_uring -- \
    --skip model::";

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// CI's step.
pub(crate) fn threads(target_dir: &Path, root: &Path) -> Step {
    step(Sanitizer::Thread, &words(THREADS), target_dir, root)
}

/// The step. `what` is for `cargo test`; if it is empty, the suite is run.
pub(crate) fn step(sanitizer: Sanitizer, what: &[String], target_dir: &Path, root: &Path) -> Step {
    let (name, folder, why, skip): (_, _, _, fn() -> Option<String>) = match sanitizer {
        Sanitizer::Address => (
            "sanitize-address",
            "address",
            "nothing is used that was freed, given up or never handed out, and nothing leaks",
            || prerequisites::sanitizer_missing("asan"),
        ),
        Sanitizer::Thread => (
            "sanitize-thread",
            "thread",
            "no two threads use the same bytes, one of them writing, without an order between them",
            || prerequisites::sanitizer_missing("tsan").or_else(prerequisites::standard_library_source_missing),
        ),
    };
    let invocation = Invocation::cargo("test --target").arg(TARGET);
    // Of the debugging information what a stack needs.
    let invocation = invocation.arg("--config").arg("profile.dev.debug=\"line-tables-only\"");
    let suppressions = |of: &str| format!("suppressions={}", root.join("xtask/suppressions").join(of).display());
    let invocation = invocation
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", target_dir.join(folder).display().to_string())
        // AddressSanitizer gives each variable a place of its own, so that frames grow, and such large ones step over the page that guards the stack.
        .env("RUST_MIN_STACK", STACK_BYTES);
    let invocation = match sanitizer {
        Sanitizer::Address => invocation
            // The shipped standard library is not compiled for it, which is fine (see above).
            .env("RUSTFLAGS", "-Zsanitizer=address -Cunsafe-allow-abi-mismatch=sanitizer")
            .env("LSAN_OPTIONS", suppressions("leak.txt"))
            .with_cfg("farptr_zeal,farptr_asan"),
        Sanitizer::Thread => invocation
            .arg("-Zbuild-std")
            .env("RUSTFLAGS", "-Zsanitizer=thread")
            .env("TSAN_OPTIONS", suppressions("thread.txt"))
            // Operations drawn at random are carried out by one thread, in which no race can be: a look at each kind is enough.
            .env("PROPTEST_CASES", std::env::var("PROPTEST_CASES").unwrap_or_else(|_| "8".into()))
            // Known to tests only.
            .with_cfg("farptr_tsan"),
    };
    let tests = if what.is_empty() { words(SUITE) } else { what.to_vec() };
    Step::new(name, why, Action::Tests(tests.into_iter().fold(invocation, Invocation::arg))).unless(skip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(sanitizer: Sanitizer, what: &[&str]) -> String {
        let what: Vec<String> = what.iter().map(|word| (*word).to_owned()).collect();
        step(sanitizer, &what, Path::new("/t"), Path::new("/w")).action.to_string()
    }

    #[test]
    fn each_sanitizer_has_a_target_folder_of_its_own() {
        for (sanitizer, folder) in [(Sanitizer::Address, "/t/address"), (Sanitizer::Thread, "/t/thread")] {
            let said = text(sanitizer, &[]);
            assert!(said.contains(&format!("CARGO_TARGET_DIR={folder} ")), "{said}");
            assert!(said.contains(&format!("-Zsanitizer={}", &folder[3..])), "{said}");
        }
    }

    #[test]
    fn what_is_asked_for_is_run_and_nothing_else() {
        let said = text(Sanitizer::Thread, &["-p", "farptr-server"]);
        assert!(said.ends_with(" -p farptr-server") && !said.contains("farptr-runtime"), "{said}");
    }
}
