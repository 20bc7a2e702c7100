//! What a fresh machine with a Rust toolchain may lack, and how it is got.
//!
//! glommio builds a few C files of liburing and calls git while at it. Root may install packages; everybody else is told
//! which. rustup adds toolchain components by itself. Nothing else on the machine is changed.
#![forbid(unsafe_code)]

use crate::guest::QEMU;
use crate::uring;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Memory that a glommio executor locks, in bytes.
const LOCKED_BYTES: u64 = 512 << 10;

/// A program, and the Debian package that brings it.
struct Tool {
    program: String,
    package: &'static str,
    what: &'static str,
}

impl Tool {
    fn lack(&self) -> Lack {
        Lack { what: self.what, packages: self.package.to_owned() }
    }
}

/// Something that isn't there, and the Debian packages that bring it.
struct Lack {
    what: &'static str,
    packages: String,
}

/// Installs what is missing, or says what to install. Then says what else of the machine will matter.
pub(crate) fn provide() -> Result<(), String> {
    let tools = [
        Tool { program: "git".into(), package: "git", what: "git" },
        Tool { program: std::env::var("CC").unwrap_or_else(|_| "cc".into()), package: "gcc libc6-dev", what: "a C compiler" },
    ];
    let missing: Vec<&Tool> = tools.iter().filter(|tool| !runs(&tool.program, &["--version"])).collect();
    install(&missing.iter().map(|tool| tool.lack()).collect::<Vec<_>>(), "to build")?;
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
        install(&[compiler.lack()], "to build")?;
    }
    if runs("cargo", &["fuzz", "--version"]) {
        return Ok(());
    }
    let install = ["install", "--locked", "cargo-fuzz", "--version", CARGO_FUZZ];
    println!("=== installing cargo-fuzz\n$ cargo {}", install.join(" "));
    let installed = Command::new("cargo").args(install).status().is_ok_and(|status| status.success());
    if installed { Ok(()) } else { Err(format!("cargo-fuzz is needed; install: cargo {}", install.join(" "))) }
}

/// Installs what runs guests: the emulator, what its kernel and initramfs are made with, and what the guest sets its network and its RDMA device up with.
pub(crate) fn guests() -> Result<(), String> {
    provide_all(
        || {
            let lack = |there: bool, what, packages: &str| (!there).then(|| Lack { what, packages: packages.to_owned() });
            let lacks = [
                lack(runs(QEMU, &["--version"]), "an emulator", "qemu-system-x86"),
                lack(runs("busybox", &["true"]), "busybox", "busybox-static"),
                lack(runs("xz", &["--version"]), "xz", "xz-utils"),
                lack(runs("rdma", &["-Version"]), "the program `rdma`", "iproute2"),
            ];
            lacks.into_iter().flatten().collect()
        },
        "to run guests",
    )
}

/// Installs what the feature `rdma` is built with, and what makes soft-RoCE known to libibverbs.
pub(crate) fn verbs() -> Result<(), String> {
    provide_all(
        || {
            let mut lacks = Vec::new();
            if !runs("pkg-config", &["--version"]) {
                lacks.push(Lack { what: "pkg-config", packages: "pkg-config".into() });
            }
            if !runs("pkg-config", &["--exists", "libibverbs", "librdmacm"]) {
                lacks.push(Lack { what: "the libraries of RDMA", packages: "libibverbs-dev librdmacm-dev".into() });
            }
            if !Path::new("/etc/libibverbs.d/rxe.driver").exists() {
                lacks.push(Lack { what: "their driver for soft-RoCE", packages: "ibverbs-providers".into() });
            }
            if !has_libclang() {
                lacks.push(Lack { what: "libclang", packages: libclang_packages() });
            }
            lacks
        },
        "to build with the feature `rdma`",
    )
}

/// The library, and the headers of the compiler's own, both of whichever release is there.
fn has_libclang() -> bool {
    let names = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    names(Path::new("/usr/lib")).iter().filter(|folder| folder.to_string_lossy().starts_with("/usr/lib/llvm-")).any(|llvm| {
        // Not libclang-cpp, which is another library.
        let is_library =
            |name: &str| name.starts_with("libclang.so") || (name.starts_with("libclang-") && !name.starts_with("libclang-cpp"));
        let library = |path: &PathBuf| path.file_name().is_some_and(|name| is_library(&name.to_string_lossy()));
        names(&llvm.join("lib")).iter().any(library)
            && names(&llvm.join("lib/clang")).iter().any(|release| release.join("include/stddef.h").exists())
    })
}

/// The library and those headers alone, if apt knows of which release; else the package that depends on both, and much else.
fn libclang_packages() -> String {
    let said = Command::new("apt-cache").args(["depends", "libclang-dev"]).stderr(Stdio::null()).output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let release =
        dependency(&said, "libclang-").and_then(|name| Some(name.strip_prefix("libclang-")?.strip_suffix("-dev")?.to_owned()));
    release.map_or_else(|| "libclang-dev".into(), |release| format!("libclang1-{release} libclang-common-{release}-dev"))
}

/// The first dependency in the output of `apt-cache depends` that begins with `prefix`.
pub(crate) fn dependency(said: &str, prefix: &str) -> Option<String> {
    let names = said.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.map(str::trim).find(|name| name.starts_with(prefix)).map(str::to_owned)
}

/// Installs what `lacks` finds lacking, and asks it again.
fn provide_all(lacks: impl Fn() -> Vec<Lack>, purpose: &str) -> Result<(), String> {
    install(&lacks(), purpose)?;
    let left = lacks();
    if left.is_empty() { Ok(()) } else { Err(by_hand(&left, purpose)) }
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

fn by_hand(missing: &[Lack], purpose: &str) -> String {
    let (names, packages) = listed(missing);
    format!("{names} missing, needed {purpose}; install: apt-get install {packages}")
}

/// Names, for people; packages, for apt.
fn listed(missing: &[Lack]) -> (String, String) {
    let names: Vec<&str> = missing.iter().map(|lack| lack.what).collect();
    let packages: Vec<&str> = missing.iter().map(|lack| lack.packages.as_str()).collect();
    (names.join(" and "), packages.join(" "))
}

fn install(missing: &[Lack], purpose: &str) -> Result<(), String> {
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = by_hand(missing, purpose);
    if !runs("apt-get", &["--version"]) || !is_root() {
        return Err(by_hand);
    }
    let (names, packages) = listed(missing);
    println!("=== installing {names}, needed {purpose}");
    let packages: Vec<&str> = packages.split(' ').collect();
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
    fn what_is_missing_is_named_with_its_packages() {
        let lack = |what, packages: &str| Lack { what, packages: packages.into() };
        assert_eq!(
            by_hand(&[lack("a", "p q"), lack("b", "r")], "to run"),
            "a and b missing, needed to run; install: apt-get install p q r"
        );
        assert_eq!(install(&[], "for nothing"), Ok(()));
    }

    #[test]
    fn a_package_is_found_in_what_apt_says() {
        let said = "linux-image-amd64\n  Depends: linux-image-6.1.0-1-amd64\n  Recommends: x\n";
        assert_eq!(dependency(said, "linux-image-"), Some("linux-image-6.1.0-1-amd64".into()));
        assert_eq!(dependency("", "linux-image-"), None);
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
