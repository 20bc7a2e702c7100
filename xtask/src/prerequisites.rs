//! What a fresh machine with a Rust toolchain may lack, and how it is got.
//!
//! glommio builds a few C files of liburing and calls git while at it. Root may install packages; everybody else is told
//! which. rustup adds toolchain components by itself. Nothing else on the machine is changed.
#![forbid(unsafe_code)]

use crate::guest::QEMU;
use crate::uring;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Memory that a glommio executor locks, in bytes.
const LOCKED_BYTES: u64 = 512 << 10;

/// A program, and the Debian package that brings it.
struct Tool {
    program: String,
    package: &'static str,
    what: &'static str,
}

/// Installs what is missing, or says what to install. Then says what else of the machine will matter.
pub(crate) fn provide() -> Result<(), String> {
    let tools = [
        Tool { program: "git".into(), package: "git", what: "git" },
        Tool { program: std::env::var("CC").unwrap_or_else(|_| "cc".into()), package: "gcc libc6-dev", what: "a C compiler" },
    ];
    let missing: Vec<&Tool> = tools.iter().filter(|tool| !runs(&tool.program, &["--version"])).collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    if let Some(still) = missing.iter().find(|tool| !runs(&tool.program, &["--version"])) {
        return Err(format!("{} (`{}`) is needed and can't be run", still.what, still.program));
    }
    notice();
    Ok(())
}

/// The release of cargo-fuzz that is installed where none is. Any other that is there will do.
const CARGO_FUZZ: &str = "0.13.2";

/// Installs what fuzzing needs: cargo-fuzz, and a C++ compiler for libFuzzer.
pub(crate) fn fuzzing() -> Result<(), String> {
    let compiler =
        Tool { program: std::env::var("CXX").unwrap_or_else(|_| "c++".into()), package: "g++", what: "a C++ compiler" };
    if !runs(&compiler.program, &["--version"]) {
        install(&[&compiler])?;
    }
    if runs("cargo", &["fuzz", "--version"]) {
        return Ok(());
    }
    let install = ["install", "--locked", "cargo-fuzz", "--version", CARGO_FUZZ];
    println!("=== installing cargo-fuzz\n$ cargo {}", install.join(" "));
    let installed = Command::new("cargo").args(install).status().is_ok_and(|status| status.success());
    if installed { Ok(()) } else { Err(format!("cargo-fuzz is needed; install: cargo {}", install.join(" "))) }
}

/// Installs what runs guests: the emulator, what an initramfs is made of, and what the guest sets its network and its RDMA device up with.
pub(crate) fn guests() -> Result<(), String> {
    let tool = |program: &str, package, what| Tool { program: program.into(), package, what };
    let tools = [
        (tool(QEMU, "qemu-system-x86", "an emulator for guests"), &["--version"][..]),
        (tool("busybox", "busybox-static", "busybox for guests"), &["true"]),
        (tool("xz", "xz-utils", "xz for the guests' kernel"), &["--version"]),
        (tool("rdma", "iproute2", "the program `rdma` for guests"), &["-Version"]),
    ];
    let missing: Vec<&Tool> = tools.iter().filter(|(tool, test)| !runs(&tool.program, test)).map(|(tool, _)| tool).collect();
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

/// Why a sanitizer can't be used, if it can't: the compiler that is in use does not bring its runtime library, `name` as in `librustc-stable_rt.asan.a`.
pub(crate) fn sanitizer_missing(name: &str) -> Option<String> {
    let ending = format!("_rt.{name}.a");
    let files = printed_path("target-libdir").and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let found = files.map(|file| file.file_name()).any(|file| file.to_string_lossy().ends_with(&ending));
    (!found).then(|| format!("the toolchain brings no runtime library *{ending}"))
}

/// Why the standard library can't be compiled, if it can't. Its source is a component of its own, which is added if rustup is there to do it.
pub(crate) fn standard_library_source_missing() -> Option<String> {
    let is_there = || printed_path("sysroot").is_some_and(|root| root.join("lib/rustlib/src/rust/library/std").is_dir());
    if !is_there() && runs("rustup", &["--version"]) {
        println!("$ rustup component add rust-src");
        runs("rustup", &["component", "add", "rust-src"]);
    }
    (!is_there()).then(|| "the source of the standard library is missing; install: rustup component add rust-src".into())
}

/// What `rustc --print` says of a folder.
fn printed_path(what: &str) -> Option<PathBuf> {
    let printed = Command::new("rustc").args(["--print", what]).stderr(Stdio::null()).output().ok()?;
    printed.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&printed.stdout).trim()))
}

fn install(missing: &[&Tool]) -> Result<(), String> {
    let names = missing.iter().map(|tool| tool.what).collect::<Vec<_>>().join(" and ");
    let packages = missing.iter().flat_map(|tool| tool.package.split(' ')).collect::<Vec<_>>();
    let by_hand = format!("{names} missing, needed to build; install: apt-get install {}", packages.join(" "));
    if !runs("apt-get", &["--version"]) || !is_root() {
        return Err(by_hand);
    }
    println!("=== installing {names}, needed to build");
    // The lists may be recent enough; if not, that shows in the first attempt.
    let install = [&["install", "--yes", "--no-install-recommends"], packages.as_slice()].concat();
    if apt(&install) || (update() && apt(&install)) { Ok(()) } else { Err(by_hand) }
}

/// Brings the lists of packages up to date, if that may be done here.
pub(crate) fn update() -> bool {
    is_root() && apt(&["update"])
}

fn apt(args: &[&str]) -> bool {
    println!("$ apt-get {}", args.join(" "));
    Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive").status().is_ok_and(|status| status.success())
}

/// Says what this machine lacks that tests will skip over.
fn notice() {
    if let Some(problem) = uring::missing() {
        println!("=== note: {problem}; tests of the async forms will say that they are skipped");
    }
    if let Some(limit) = locked_memory_limit()
        && limit < LOCKED_BYTES
    {
        println!("=== note: only {limit} bytes may be locked and each shard locks {LOCKED_BYTES}; raise `ulimit -l`");
    }
}

/// Adds the toolchain components that CI's steps need, if rustup is there to do it. A step that still lacks its component
/// fails, and cargo says what to install.
pub(crate) fn components() {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if !runs("cargo", &[subcommand, "--version"]) && runs("rustup", &["--version"]) {
            println!("$ rustup component add {component}");
            runs("rustup", &["component", "add", component]);
        }
    }
}

fn runs(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective_uid(&status) == Some(0)
}

/// After `Uid:` stand the real, the effective, the saved and the file system's user.
fn effective_uid(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?.parse().ok()
}

fn locked_memory_limit() -> Option<u64> {
    soft_limit_of_locked_memory(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

/// `Max locked memory         8388608              8388608              bytes`; "unlimited" is `None`.
fn soft_limit_of_locked_memory(limits: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_noticed() {
        assert!(runs("cargo", &["--version"]));
        assert!(!runs("cargo", &["no-such-command"]));
        assert!(!runs("/no/such/program", &[]));
    }

    #[test]
    fn the_kernel_s_tables_are_read() {
        assert_eq!(effective_uid("Name:\tx\nUid:\t1000\t0\t0\t0\n"), Some(0));
        let limits = "Max open files 1 2 files\nMax locked memory         65536                8388608              bytes\n";
        assert_eq!(soft_limit_of_locked_memory(limits), Some(65536));
        assert_eq!(
            soft_limit_of_locked_memory("Max locked memory         unlimited            unlimited            bytes"),
            None
        );
    }
}
