//! A command with its environment.
#![forbid(unsafe_code)]

use crate::cfg;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// A command. Prints as a person would paste it into a shell at the workspace's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invocation {
    env: Vec<(&'static str, String)>,
    without_uring: bool,
    cfg: Option<&'static str>,
    args: Vec<String>,
}

impl Invocation {
    /// `cargo` with arguments separated by single spaces.
    pub(crate) fn cargo(args: &str) -> Self {
        Invocation { env: Vec::new(), without_uring: false, cfg: None, args: args.split(' ').map(str::to_owned).collect() }
    }

    /// One more argument, which may hold anything.
    pub(crate) fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// Runs it where io_uring is refused.
    pub(crate) fn without_uring(mut self) -> Self {
        self.without_uring = true;
        self
    }

    /// Compiles the workspace's own crates with `cfg`.
    pub(crate) fn with_cfg(mut self, cfg: &'static str) -> Self {
        self.cfg = Some(cfg);
        self
    }

    /// The command, to be spawned in `root`.
    pub(crate) fn command(&self, root: &Path) -> Result<Command, String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = if self.without_uring {
            let this = std::env::current_exe().map_err(|error| format!("can't find xtask's own program: {error}"))?;
            let mut command = Command::new(this);
            command.args(["no-uring", "--"]).arg(cargo);
            command
        } else {
            Command::new(cargo)
        };
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value))).current_dir(root);
        if let Some(name) = self.cfg {
            cfg::add(&mut command, name)?;
        }
        Ok(command)
    }

    /// Becomes `command`. Returns only if it can't, and says why.
    pub(crate) fn exec(command: &[OsString]) -> String {
        Self::exec_with(command, None)
    }

    /// As `exec`, with a cfg for what cargo compiles.
    pub(crate) fn exec_with(command: &[OsString], cfg: Option<&str>) -> String {
        let Some((program, args)) = command.split_first() else {
            return "no command is given".into();
        };
        let mut command = Command::new(program);
        if let Some(Err(problem)) = cfg.map(|cfg| cfg::add(&mut command, cfg)) {
            return problem;
        }
        let error = command.args(args).exec();
        format!("can't run {}: {error}", program.display())
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{name}={} ", quoted(value))?;
        }
        if let Some(cfg) = self.cfg {
            write!(f, "cargo xtask with-cfg {cfg} -- ")?;
        }
        f.write_str(if self.without_uring { "cargo xtask no-uring -- cargo" } else { "cargo" })?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quoted(arg)))
    }
}

/// `text` as one word of a shell.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_prints_as_it_would_be_pasted() {
        let loom = Invocation::cargo("test --lib").env("RUSTFLAGS", "--cfg it").arg("isn't");
        assert_eq!(loom.to_string(), r"RUSTFLAGS='--cfg it' cargo test --lib 'isn'\''t'");
        assert_eq!(Invocation::cargo("test").with_cfg("it").to_string(), "cargo xtask with-cfg it -- cargo test");
        assert_eq!(Invocation::cargo("test").without_uring().to_string(), "cargo xtask no-uring -- cargo test");
    }

    #[test]
    fn exec_says_what_it_could_not_run() {
        let said = Invocation::exec(&["/no/such/program".into()]);
        assert!(said.starts_with("can't run /no/such/program: "), "{said}");
    }
}
