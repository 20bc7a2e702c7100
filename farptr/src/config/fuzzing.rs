//! Settings from texts alone, for the fuzz target: no file, no environment and no machine stand between an input and what comes of it.
#![forbid(unsafe_code)]

use super::machine::Machine;
use super::{Environment, file};
use farptr_runtime::Result;
use std::path::Path;
use std::time::Duration;

/// Settings that were found right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Local budget in bytes.
    pub local_budget: usize,
    /// Servers' addresses.
    pub servers: Vec<String>,
    /// Shard executors.
    pub shards: usize,
    /// Most far memory to borrow, in bytes.
    pub far_capacity: Option<u64>,
    /// How long a server may take to answer.
    pub timeout: Duration,
}

/// What the text of a `farptr.toml` and the environment's variables make, on a machine with so much memory and so many cores.
///
/// # Errors
/// `Config`, as [`Builder::build`](crate::Builder::build).
pub fn settings(file: &str, env: &dyn Fn(&str) -> Option<String>, memory: Option<u64>, cores: usize) -> Result<Checked> {
    let env = |name: &str| env(name).map(Into::into);
    let layers = Environment(&env).layer()?.or(file::parse(Path::new("farptr.toml"), file)?);
    let found = layers.check(&Machine { memory, cores })?;
    Ok(Checked {
        local_budget: found.local_budget,
        servers: found.servers.iter().map(ToString::to_string).collect(),
        shards: found.shards,
        far_capacity: found.far_capacity,
        timeout: found.timeout,
    })
}
