//! Settings of a [`FarMemory`](crate): what they are, where they come from, and what is wrong with them.
//!
//! Each setting is looked for in four places, and the first that has it wins:
//!
//! 1. the builder, 2. the environment (`FARPTR_...`), 3. the configuration file (`farptr.toml`), 4. the default.
//!
//! A value remembers where it came from ([`Source`]), so that an error can name the line or the variable to be mended.
//! Values are checked after the places have been merged: a wrong value in a place that has been overruled does no harm,
//! but a value that can't be read at all is an error wherever it is.
#![forbid(unsafe_code)]

mod file;
pub(crate) mod fuzzing;
mod machine;
mod parse;

use bytesize::ByteSize;
use farptr_runtime::{Error, Result};
use machine::Machine;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Smallest local budget, in bytes. Below it a few segments are all there is, and evacuation has no room to work in.
pub(crate) const MIN_LOCAL_BUDGET: usize = 1 << 20;

/// Largest local budget, in bytes, where the machine does not say how much memory it has: what a process can address.
const MAX_LOCAL_BUDGET: u64 = 1 << 47;

/// Most far memory that may be asked for, in bytes: a petabyte. More is a slip of the pen.
const MAX_FAR_CAPACITY: u64 = 1 << 50;

/// How long a server may take to answer, unless said otherwise. Far beyond any healthy answer; short enough to wait for.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Shortest timeout: less than a slow round trip would fail healthy operations.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

/// Longest timeout. Who wants to wait longer has a server that is down, not slow.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// Shard executors, unless said otherwise: none. The blocking forms need none, and many containers forbid io_uring.
const DEFAULT_SHARDS: usize = 0;

/// Name of the configuration file that is read from the working directory if no other is named.
const DEFAULT_FILE: &str = "farptr.toml";

/// Checked settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Local budget in bytes.
    pub(crate) local_budget: usize,
    /// Servers to borrow from; at least one.
    pub(crate) servers: Vec<ServerAddr>,
    /// Shard executors; 0 for none.
    pub(crate) shards: usize,
    /// Most far memory to borrow, in bytes; `None` for as much as the servers lend.
    pub(crate) far_capacity: Option<u64>,
    /// How long a server may take to answer.
    pub(crate) timeout: Duration,
}

/// Where far memory is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum ServerAddr {
    /// In this process.
    Embedded,
    /// `farmemd` at `host:port`.
    Tcp(String),
    /// `farmemd` on this machine, by its socket; what it lends is mapped.
    Unix(PathBuf),
    /// `farmemd` at `host:port` by RDMA, perhaps `@` a device of this machine.
    #[cfg(feature = "rdma")]
    Rdma(String),
    /// `farmemd` at `host:port` or by any other way that it offers there, whichever is best.
    Auto(String),
}

impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerAddr::Embedded => f.write_str("embedded:"),
            ServerAddr::Tcp(host_port) => write!(f, "tcp:{host_port}"),
            ServerAddr::Unix(path) => write!(f, "unix:{}", path.display()),
            #[cfg(feature = "rdma")]
            ServerAddr::Rdma(address) => write!(f, "rdma:{address}"),
            ServerAddr::Auto(host_port) => write!(f, "auto:{host_port}"),
        }
    }
}

/// The builder's part: what the program itself says. `None` and empty mean that it leaves the matter to others.
#[derive(Debug, Clone, Default)]
pub(crate) struct SettingsBuilder {
    pub(crate) local_budget: Option<usize>,
    pub(crate) servers: Vec<String>,
    pub(crate) shards: Option<usize>,
    pub(crate) far_capacity: Option<u64>,
    pub(crate) timeout: Option<Duration>,
    /// File to read instead of the one the environment names, or `farptr.toml`.
    pub(crate) config_file: Option<PathBuf>,
}

impl SettingsBuilder {
    /// Looks for each setting in its places, and checks what was found.
    pub(crate) fn resolve(&self) -> Result<Settings> {
        self.resolve_on(&Machine::of_this_process(), &|name| std::env::var_os(name), Path::new(DEFAULT_FILE))
    }

    /// [`resolve`](Self::resolve), with everything it would ask the system for given.
    fn resolve_on(&self, machine: &Machine, env: &dyn Fn(&str) -> Option<OsString>, default_file: &Path) -> Result<Settings> {
        let builder = self.layer()?;
        let env = Environment(env);
        let file = match &self.config_file {
            Some(path) => file::read(path, &Source::Builder("config_file"))?,
            None => match env.text(CONFIG.var)? {
                Some(path) => file::read(Path::new(&path.value), &path.source)?,
                None => file::read_if_there(default_file)?,
            },
        };
        builder.or(env.layer()?).or(file).check(machine)
    }

    fn layer(&self) -> Result<Layer> {
        let servers: Vec<_> = self.servers.iter().map(|s| Given::new(s.clone(), Source::Builder("server"))).collect();
        Ok(Layer {
            local_budget: self.local_budget.map(|v| Given::new(v as u64, Source::Builder(LOCAL_BUDGET.key))),
            servers: if servers.is_empty() { None } else { Some(parse::servers(servers)?) },
            shards: self.shards.map(|v| Given::new(v, Source::Builder(SHARDS.key))),
            far_capacity: self.far_capacity.map(|v| Given::new(v, Source::Builder(FAR_CAPACITY.key))),
            timeout: self.timeout.map(|v| Given::new(v, Source::Builder(TIMEOUT.key))),
        })
    }
}

/// A setting's names: its key in the file, which is also the builder's method, and its environment variable.
struct Name {
    key: &'static str,
    var: &'static str,
}

const LOCAL_BUDGET: Name = Name { key: "local_budget", var: "FARPTR_LOCAL_BUDGET" };
const SERVERS: Name = Name { key: "servers", var: "FARPTR_SERVERS" };
const SHARDS: Name = Name { key: "shards", var: "FARPTR_SHARDS" };
const FAR_CAPACITY: Name = Name { key: "far_capacity", var: "FARPTR_FAR_CAPACITY" };
const TIMEOUT: Name = Name { key: "timeout", var: "FARPTR_TIMEOUT" };
const CONFIG: Name = Name { key: "config_file", var: "FARPTR_CONFIG" };

/// Where a value came from, in words that lead to it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// The builder's method.
    Builder(&'static str),
    /// An environment variable.
    Env(&'static str),
    /// A line of the configuration file.
    File { path: PathBuf, line: usize, key: &'static str },
}

impl Source {
    /// The error that `problem` with a value from here is: one line, even if it quotes a value that is more.
    fn error(&self, problem: impl fmt::Display) -> Error {
        Error::Config(format!("{self}: {problem}").replace(['\n', '\r'], " "))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Builder(method) => write!(f, "Builder::{method}"),
            Source::Env(var) => write!(f, "environment variable {var}"),
            Source::File { path, line, key } => write!(f, "{}:{line}: {key}", path.display()),
        }
    }
}

/// A value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Given<T> {
    value: T,
    source: Source,
}

impl<T> Given<T> {
    fn new(value: T, source: Source) -> Self {
        Given { value, source }
    }

    /// Replaces the value by what `parse` makes of it; its error is put down to the source.
    fn try_map<U>(self, parse: impl FnOnce(T) -> Result<U, String>) -> Result<Given<U>> {
        match parse(self.value) {
            Ok(value) => Ok(Given { value, source: self.source }),
            Err(problem) => Err(self.source.error(problem)),
        }
    }
}

/// What one place says.
#[derive(Debug, Default)]
struct Layer {
    local_budget: Option<Given<u64>>,
    servers: Option<Vec<Given<ServerAddr>>>,
    shards: Option<Given<usize>>,
    far_capacity: Option<Given<u64>>,
    timeout: Option<Given<Duration>>,
}

impl Layer {
    /// What `self` says, and what `other` says where `self` is silent.
    fn or(self, other: Layer) -> Layer {
        Layer {
            local_budget: self.local_budget.or(other.local_budget),
            servers: self.servers.or(other.servers),
            shards: self.shards.or(other.shards),
            far_capacity: self.far_capacity.or(other.far_capacity),
            timeout: self.timeout.or(other.timeout),
        }
    }

    /// Fills in the defaults, and checks what can be checked without a server.
    fn check(self, machine: &Machine) -> Result<Settings> {
        let local_budget = match self.local_budget {
            Some(given) => given.try_map(|bytes| check_local_budget(bytes, machine))?.value,
            None => machine.default_local_budget(),
        };
        let servers = match self.servers {
            Some(given) => check_servers(given)?,
            None => vec![ServerAddr::Embedded],
        };
        let shards = match self.shards {
            Some(given) => given.try_map(|n| check_shards(n, machine.cores))?.value,
            None => DEFAULT_SHARDS,
        };
        let far_capacity = self.far_capacity.map(|given| given.try_map(check_far_capacity)).transpose()?.map(|given| given.value);
        let timeout = match self.timeout {
            Some(given) => given.try_map(check_timeout)?.value,
            None => DEFAULT_TIMEOUT,
        };
        Ok(Settings { local_budget, servers, shards, far_capacity, timeout })
    }
}

fn check_local_budget(bytes: u64, machine: &Machine) -> Result<usize, String> {
    if bytes < MIN_LOCAL_BUDGET as u64 {
        let least = ByteSize::b(MIN_LOCAL_BUDGET as u64);
        return Err(format!("{bytes} bytes are too few to work in; give at least {least}, better a tenth of the data"));
    }
    match machine.memory {
        Some(memory) if bytes > memory => {
            Err(format!("{} are more than the {} that this process may use; give less", ByteSize::b(bytes), ByteSize::b(memory)))
        }
        _ => usize::try_from(bytes)
            .ok()
            .filter(|_| bytes <= MAX_LOCAL_BUDGET)
            .ok_or_else(|| format!("{} can't be addressed on this machine; give less", ByteSize::b(bytes))),
    }
}

fn check_servers(given: Vec<Given<ServerAddr>>) -> Result<Vec<ServerAddr>> {
    let mut servers: Vec<ServerAddr> = Vec::with_capacity(given.len());
    for Given { value, source } in given {
        if servers.contains(&value) {
            return Err(source.error(format_args!("server {value} is given twice; name each server once")));
        }
        servers.push(value);
    }
    Ok(servers)
}

fn check_shards(shards: usize, cores: usize) -> Result<usize, String> {
    if shards > cores {
        return Err(format!(
            "{shards} shards on {cores} core(s); give at most one a core, or 0 for none (the blocking forms need none)"
        ));
    }
    Ok(shards)
}

fn check_far_capacity(bytes: u64) -> Result<u64, String> {
    match bytes {
        0 => Err("0 bytes of far memory leave nowhere to evacuate to; give more, or leave it out for no limit".into()),
        _ if bytes > MAX_FAR_CAPACITY => {
            Err(format!("{} are beyond the limit of {}", ByteSize::b(bytes), ByteSize::b(MAX_FAR_CAPACITY)))
        }
        _ => Ok(bytes),
    }
}

fn check_timeout(timeout: Duration) -> Result<Duration, String> {
    if (MIN_TIMEOUT..=MAX_TIMEOUT).contains(&timeout) {
        return Ok(timeout);
    }
    let [given, least, most] = [timeout, MIN_TIMEOUT, MAX_TIMEOUT].map(humantime::format_duration);
    Err(format!("{given} is out of range; give {least} to {most}"))
}

/// The environment, as a place for settings. A variable that is empty counts as not set.
struct Environment<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Environment<'_> {
    fn text(&self, var: &'static str) -> Result<Option<Given<String>>> {
        let source = Source::Env(var);
        match (self.0)(var).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) if text.trim().is_empty() => Ok(None),
            Some(Ok(text)) => Ok(Some(Given::new(text, source))),
            Some(Err(_)) => Err(source.error("is not UTF-8")),
        }
    }

    fn layer(&self) -> Result<Layer> {
        let bytes = |name: &Name| self.text(name.var)?.map(|given| given.try_map(|text| parse::size(&text))).transpose();
        let servers = self.text(SERVERS.var)?.map(|Given { value, source }| {
            let each = value.split(',').map(|one| Given::new(one.to_owned(), source.clone())).collect();
            parse::servers(each)
        });
        Ok(Layer {
            local_budget: bytes(&LOCAL_BUDGET)?,
            servers: servers.transpose()?,
            shards: self.text(SHARDS.var)?.map(|given| given.try_map(|text| parse::count(&text))).transpose()?,
            far_capacity: bytes(&FAR_CAPACITY)?,
            timeout: self.text(TIMEOUT.var)?.map(|given| given.try_map(|text| parse::duration(&text))).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests;
