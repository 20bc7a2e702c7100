//! What safe code must not be able to do, and what the compiler says when it tries; and that the rest compiles.
//!
//! The texts are those of one release of the compiler. Under another one only the refusals in the doc tests are checked. Where the source of the
//! standard library is installed, the compiler quotes from it; then the tests run with a compiler that can't find it.
#![forbid(unsafe_code)]

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The compiler whose words the `.stderr` files hold.
const WORDED_BY: &str = "rustc 1.95.";

#[test]
fn misuse_does_not_compile_and_is_explained() {
    let version = ask_rustc("--version");
    if !version.starts_with(WORDED_BY) {
        // Not by `eprintln!`, which the test harness keeps to itself.
        let skip = format!("SKIPPED: the compile-fail texts are those of {WORDED_BY}x; this is {version}");
        writeln!(std::io::stderr(), "{skip}").expect("standard error takes a line");
        return;
    }
    let sysroot = PathBuf::from(ask_rustc("--print=sysroot"));
    if sysroot.join("lib/rustlib/src/rust/library").exists() && std::env::var_os("RUSTC_WRAPPER").is_none() {
        let compiler = compiler_without_source(&sysroot).expect("a compiler that doesn't find the source");
        // A variable can be set for another process only.
        let again = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "misuse_does_not_compile_and_is_explained", "--nocapture"])
            .env("RUSTC_WRAPPER", compiler)
            .status();
        assert!(again.expect("this program, once more").success());
        return;
    }
    let tests = trybuild::TestCases::new();
    tests.pass("tests/run_pass/*.rs");
    tests.compile_fail("tests/compile_fail/*.rs");
}

/// A program that runs the compiler with a root that has everything but the source.
fn compiler_without_source(sysroot: &Path) -> io::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("without-source");
    if folder.exists() {
        // Of another toolchain, perhaps.
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(folder.join("lib/rustlib"))?;
    for entry in fs::read_dir(sysroot.join("lib/rustlib"))? {
        let entry = entry?;
        if entry.file_name() != "src" {
            symlink(entry.path(), folder.join("lib/rustlib").join(entry.file_name()))?;
        }
    }
    let program = folder.join("rustc");
    fs::write(&program, format!("#!/bin/sh\nrustc=$1\nshift\nexec \"$rustc\" --sysroot '{}' \"$@\"\n", folder.display()))?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    Ok(program)
}

fn ask_rustc(question: &str) -> String {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let answer = Command::new(rustc).arg(question).output().expect("the compiler that built this test is there");
    String::from_utf8_lossy(&answer.stdout).trim().to_owned()
}
