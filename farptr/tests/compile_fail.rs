//! What safe code must not be able to do, and what the compiler says when it tries; and that the rest compiles.
//!
//! The texts are those of one release of the compiler. Under another one only the refusals in the doc tests are checked.
#![forbid(unsafe_code)]

use std::io::Write;
use std::process::Command;

/// The compiler whose words the `.stderr` files hold.
const WORDED_BY: &str = "rustc 1.95.";

#[test]
fn misuse_does_not_compile_and_is_explained() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("the compiler that built this test is there");
    let version = String::from_utf8_lossy(&version.stdout);
    if !version.starts_with(WORDED_BY) {
        // Not by `eprintln!`, which the test harness keeps to itself.
        let skip = format!("SKIPPED: the compile-fail texts are those of {WORDED_BY}x; this is {version}");
        writeln!(std::io::stderr(), "{}", skip.trim_end()).expect("standard error takes a line");
        return;
    }
    let tests = trybuild::TestCases::new();
    tests.pass("tests/run_pass/*.rs");
    tests.compile_fail("tests/compile_fail/*.rs");
}
