//! A `--cfg` or two more for the crates of the workspace, and only for them.
//!
//! With `RUSTFLAGS` every dependency would be built once more, which takes longer than all else. So cargo is told to call this program in place of
//! rustc for what is the workspace's own (`RUSTC_WORKSPACE_WRAPPER`); cargo keeps what comes of it apart from ordinary builds by itself. One
//! choice in one target folder, though: cargo does not know which it was.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The cfgs, separated by commas, for this program in its part as the compiler.
const VARIABLE: &str = "FARPTR_XTASK_CFG";

/// Makes cargo, which `command` runs, add `cfg` (or several, separated by commas).
pub(crate) fn add(command: &mut Command, cfg: &str) -> Result<(), String> {
    let this = std::env::current_exe().map_err(|error| format!("can't find xtask's own program: {error}"))?;
    command.env("RUSTC_WORKSPACE_WRAPPER", this).env(VARIABLE, cfg);
    Ok(())
}

/// If cargo has called this program in place of the compiler: becomes the compiler. Returns then only if it can't, and says why.
pub(crate) fn as_compiler() -> Option<String> {
    let cfg = std::env::var(VARIABLE).ok()?;
    let mut args = std::env::args_os().skip(1);
    // `cargo xtask` run by something that itself runs under the variable is no compiler.
    let compiler = args.next().filter(is_compiler)?;
    let error = Command::new(&compiler).args(args).args(cfg.split(',').flat_map(|cfg| ["--cfg", cfg])).exec();
    Some(format!("can't run {}: {error}", compiler.display()))
}

fn is_compiler(program: &OsString) -> bool {
    Path::new(program).file_stem().is_some_and(|name| name == "rustc" || name == "clippy-driver")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chores_are_not_taken_for_compilers() {
        assert!(is_compiler(&"/some/where/rustc".into()) && is_compiler(&"clippy-driver".into()));
        assert!(!is_compiler(&"ci".into()) && !is_compiler(&"zeal".into()));
    }
}
