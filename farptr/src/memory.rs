//! [`FarMemory`]: where far objects live.
#![forbid(unsafe_code)]

use crate::config::{ServerAddr, Settings, SettingsBuilder};
#[cfg(feature = "shards")]
use crate::shard::ShardTask;
use crate::shard::Shards;
use farptr_evacuator::Evacuator;
use farptr_runtime::addr::FAR_SEGMENT_BYTES;
use farptr_runtime::far::Server;
use farptr_runtime::memory::{Memory, MemoryConfig, Relief, Stats};
use farptr_runtime::scope::in_scope;
use farptr_runtime::transport::Transport;
use farptr_runtime::transport::auto::{self, AutoConfig};
use farptr_runtime::transport::embedded::{EmbeddedConfig, EmbeddedTransport};
use farptr_runtime::transport::shm::{ShmConfig, ShmTransport};
use farptr_runtime::transport::tcp::{TcpConfig, TcpTransport};
use farptr_runtime::{Error, Result, TransportError, forked};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Far memory: a local budget, and servers that lend what does not fit it.
///
/// A cheap handle: clones are the same memory. It lives until the last handle and the last object in it are gone.
///
/// ```
/// let mem = farptr::FarMemory::builder().local_budget(8 << 20).build()?;
/// assert_eq!(mem.stats().local_budget_bytes, 8 << 20);
/// # Ok::<(), farptr::Error>(())
/// ```
#[derive(Clone)]
pub struct FarMemory {
    inner: Arc<Inner>,
}

struct Inner {
    memory: Arc<Memory>,
    evacuator: Arc<Evacuator>,
    embedded: Vec<Arc<EmbeddedTransport>>,
    #[cfg_attr(not(feature = "shards"), expect(dead_code, reason = "nothing is spawned on none"))]
    shards: Shards,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.memory.leave_to_parent();
    }
}

/// Sets up a [`FarMemory`]. What is not set here comes from the environment, then from `farptr.toml`, then from defaults.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    settings: SettingsBuilder,
    ways: Ways,
}

/// What tests and measurements do differently.
#[derive(Clone, Default)]
struct Ways {
    #[cfg(feature = "faults")]
    transports: Vec<Arc<dyn Transport>>,
    #[cfg(feature = "faults")]
    faults: Option<farptr_runtime::transport::faulty::Faults>,
    #[cfg(feature = "faults")]
    without_thread: bool,
    #[cfg(feature = "ablations")]
    ablations: farptr_runtime::ablations::Ablations,
}

impl fmt::Debug for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ways").finish_non_exhaustive()
    }
}

impl Ways {
    /// Servers that replace those of the settings, if there are any.
    #[cfg(feature = "faults")]
    fn transports(&self) -> Vec<Arc<dyn Transport>> {
        self.transports.clone()
    }

    #[cfg(not(feature = "faults"))]
    fn transports(&self) -> Vec<Arc<dyn Transport>> {
        Vec::new()
    }

    /// The way to a server.
    fn to(&self, server: Arc<dyn Transport>) -> Arc<dyn Transport> {
        #[cfg(feature = "faults")]
        if let Some(faults) = &self.faults {
            return faults.wrap(server);
        }
        server
    }

    fn memory(&self, config: MemoryConfig, servers: Vec<Server>) -> Result<Arc<Memory>> {
        #[cfg(feature = "ablations")]
        return Memory::ablated(config, servers, self.ablations);
        #[cfg(not(feature = "ablations"))]
        Memory::new(config, servers)
    }

    fn evacuator(&self, memory: &Arc<Memory>) -> Result<Arc<Evacuator>> {
        #[cfg(feature = "faults")]
        if self.without_thread {
            return Ok(Evacuator::without_thread(memory));
        }
        Evacuator::start(memory)
    }
}

impl Builder {
    /// The local budget in bytes, at least 1 MiB: objects, headers, slots and the collections' own tables together. Hard.
    #[must_use]
    pub fn local_budget(mut self, bytes: usize) -> Self {
        self.settings.local_budget = Some(bytes);
        self
    }

    /// Adds a server: `tcp:host:port` (a `farmemd`), `unix:path` (a `farmemd` on this machine, whose memory is mapped), `rdma:host:port` (a
    /// `farmemd` by RDMA; feature `rdma`), `auto:host` (a `farmemd` by the best of these), or `embedded:` (memory of this process, the default).
    #[must_use]
    pub fn server(mut self, address: impl Into<String>) -> Self {
        self.settings.servers.push(address.into());
        self
    }

    /// How many glommio executors to run, with the cargo feature `shards`. See `FarMemory::spawn`.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.settings.shards = Some(shards);
        self
    }

    /// Most far memory to borrow, in bytes. Some 1% of it is kept for cleaning (more below 64 MiB), and what is new is refused when all that exists would not fit the rest and a part of local
    /// memory.
    #[must_use]
    pub fn far_capacity(mut self, bytes: u64) -> Self {
        self.settings.far_capacity = Some(bytes);
        self
    }

    /// Longest time an operation waits for a server or for local memory.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// Reads this configuration file instead of `farptr.toml`.
    #[must_use]
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.config_file = Some(path.into());
        self
    }

    /// Puts faults in front of every server, for tests of what a program does when far memory fails. Feature `faults`; see [`faults`](crate::faults).
    ///
    /// ```
    /// use farptr::faults::{FaultPlan, Faults, Kind, Rates};
    /// use farptr::{Error, FarMemory, RemBox};
    ///
    /// let rates = Rates::NONE.with(Kind::FlippedRead, Rates::ALWAYS);
    /// let faults = Faults::new(FaultPlan { rates, ..FaultPlan::new(1) });
    /// let mem = FarMemory::builder().local_budget(1 << 20).server("embedded:").faults(&faults).build()?;
    /// let text = RemBox::from_str_in("far away", &mem);
    /// mem.evacuate_all()?;
    /// assert!(matches!(text.try_with(|text| text.len()), Err(Error::Corrupt { .. })));
    /// faults.stop();
    /// assert_eq!(text.try_with(|text| text.len())?, 8);
    /// # Ok::<(), farptr::Error>(())
    /// ```
    #[cfg(feature = "faults")]
    #[must_use]
    pub fn faults(mut self, faults: &farptr_runtime::transport::faulty::Faults) -> Self {
        self.ways.faults = Some(faults.clone());
        self
    }

    /// Uses these ways to servers instead of servers that are named: for tests that look at both ends. Feature `faults`.
    #[cfg(feature = "faults")]
    #[must_use]
    pub fn transports(mut self, transports: impl IntoIterator<Item = Arc<dyn Transport>>) -> Self {
        self.ways.transports.extend(transports);
        self
    }

    /// Starts no thread for evacuation: rounds are run by whoever needs memory. A program with one thread then makes the same operations on its
    /// servers each time, and meets the same faults. Feature `faults`.
    #[cfg(feature = "faults")]
    #[must_use]
    pub fn without_evacuation_thread(mut self) -> Self {
        self.ways.without_thread = true;
        self
    }

    /// Turns mechanisms off, to measure what each brings. Not for programs.
    #[cfg(feature = "ablations")]
    #[doc(hidden)]
    #[must_use]
    pub fn ablations(mut self, ablations: farptr_runtime::ablations::Ablations) -> Self {
        self.ways.ablations = ablations;
        self
    }

    /// Connects to the servers and starts the evacuator.
    ///
    /// # Errors
    /// `Config` if a setting is wrong, and says which and where it came from; `Transport` if a server can't be reached; `Forked` in the child of a fork of a process that uses far memory.
    pub fn build(self) -> Result<FarMemory> {
        forked::check()?;
        FarMemory::with_settings(&self.settings.resolve()?, &self.ways)
    }
}

/// Bytes an embedded lender lends if nothing else is said: no limit but the machine's.
const EMBEDDED_CAPACITY: u64 = 1 << 40;

/// A lender in this process. Its slabs are a quarter of the local budget, so that a small memory does not hold slabs it can't fill, and one of 8 MiB has huge
/// pages behind them: without, a miss of 4 KiB took half as long again. A slab is no larger than what may be lent.
fn embedded_lender(local_budget: usize, capacity: u64) -> Result<Arc<EmbeddedTransport>> {
    let wanted = (local_budget as u64 / 4).clamp(1, capacity.max(1));
    let slab_bytes = (1_u64 << wanted.ilog2()).clamp(4 * FAR_SEGMENT_BYTES as u64, 16 << 20) as u32;
    let lender = EmbeddedTransport::new(EmbeddedConfig { capacity, slab_bytes });
    lender.map(Arc::new).map_err(|cause| Error::transport("embedded", cause))
}

fn by_the_best(host_port: &str, patience: Duration) -> Result<Arc<dyn Transport>, TransportError> {
    auto::connect(AutoConfig { connect_timeout: patience, op_timeout: patience, ..AutoConfig::new(host_port) })
}

fn by_tcp(host_port: &str, patience: Duration) -> Result<Arc<dyn Transport>, TransportError> {
    let config = TcpConfig { connect_timeout: patience, op_timeout: patience, ..TcpConfig::new(host_port) };
    Ok(Arc::new(TcpTransport::connect(config)?))
}

fn by_mapping(path: &Path, patience: Duration) -> Result<Arc<dyn Transport>, TransportError> {
    let config = ShmConfig { connect_timeout: patience, op_timeout: patience, ..ShmConfig::new(path) };
    Ok(Arc::new(ShmTransport::connect(config)?))
}

#[cfg(feature = "rdma")]
fn by_rdma(address: &str, patience: Duration) -> Result<Arc<dyn Transport>, TransportError> {
    use farptr_runtime::transport::rdma::{RdmaConfig, RdmaTransport};
    let config = RdmaConfig { connect_timeout: patience, op_timeout: patience, ..RdmaConfig::new(address) };
    Ok(Arc::new(RdmaTransport::connect(config)?))
}

impl FarMemory {
    /// Begins to set up a far memory.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A far memory as the environment and the configuration file say.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn from_env() -> Result<Self> {
        Self::builder().build()
    }

    /// Over one embedded lender, without threads of its own: see [`Evacuator::without_thread`].
    pub(crate) fn without_threads(local_budget: usize, far_capacity: u64, timeout: Duration) -> Result<Self> {
        let lender = embedded_lender(local_budget, far_capacity)?;
        let servers = vec![Server::new(Arc::<EmbeddedTransport>::clone(&lender))];
        let memory = Memory::new(MemoryConfig { local_budget, shards: 1, timeout, far_capacity }, servers)?;
        let evacuator = Evacuator::without_thread(&memory);
        Ok(FarMemory { inner: Arc::new(Inner { memory, evacuator, embedded: vec![lender], shards: Shards::start(0)? }) })
    }

    fn with_settings(settings: &Settings, ways: &Ways) -> Result<Self> {
        let mut embedded = Vec::new();
        let mut servers = Vec::new();
        let given = ways.transports();
        let named = if given.is_empty() { &settings.servers[..] } else { &[] };
        for address in named {
            let (patience, failed) = (settings.timeout, |cause| Error::transport(address.to_string(), cause));
            let transport: Arc<dyn Transport> = match address {
                ServerAddr::Embedded => {
                    let lender = embedded_lender(settings.local_budget, settings.far_capacity.unwrap_or(EMBEDDED_CAPACITY))?;
                    embedded.push(Arc::clone(&lender));
                    lender
                }
                ServerAddr::Auto(host_port) => by_the_best(host_port, patience).map_err(failed)?,
                ServerAddr::Tcp(host_port) => by_tcp(host_port, patience).map_err(failed)?,
                ServerAddr::Unix(path) => by_mapping(path, patience).map_err(failed)?,
                #[cfg(feature = "rdma")]
                ServerAddr::Rdma(address) => by_rdma(address, patience).map_err(failed)?,
            };
            servers.push(Server::new(ways.to(transport)));
        }
        servers.extend(given.into_iter().map(|transport| Server::new(ways.to(transport))));
        let shards = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MAX_ALLOCATION_SHARDS);
        let config = MemoryConfig {
            local_budget: settings.local_budget,
            shards,
            timeout: settings.timeout,
            far_capacity: settings.far_capacity.unwrap_or(u64::MAX),
        };
        let memory = ways.memory(config, servers)?;
        let evacuator = ways.evacuator(&memory)?;
        let shards = Shards::start(settings.shards)?;
        Ok(FarMemory { inner: Arc::new(Inner { memory, evacuator, embedded, shards }) })
    }

    /// Runs a future on glommio executor number `shard` (of [`Builder::shards`]), and returns a task to wait for it with. The closure makes the
    /// future on the shard, so the future itself need not be `Send`.
    ///
    /// ```no_run
    /// # async fn work() -> u32 { 7 }
    /// let mem = farptr::FarMemory::builder().shards(1).build()?;
    /// let task = mem.spawn(0, || async { work().await })?;
    /// assert_eq!(task.join().unwrap(), 7);
    /// # Ok::<(), farptr::Error>(())
    /// ```
    ///
    /// Cargo feature `shards`.
    ///
    /// # Errors
    /// `Unsupported` if there is no such shard. (Where io_uring is missing, already building a memory with shards fails, and says so.)
    #[cfg(feature = "shards")]
    pub fn spawn<F, Fut>(&self, shard: usize, make: F) -> Result<ShardTask<Fut::Output>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future + 'static,
        Fut::Output: Send + 'static,
    {
        forked::check()?;
        self.inner.shards.spawn(shard, make)
    }

    pub(crate) fn core(&self) -> &Arc<Memory> {
        &self.inner.memory
    }

    /// Sizes and counters of now.
    pub fn stats(&self) -> Stats {
        self.inner.memory.stats()
    }

    /// The servers, as they were given; of an `auto:host`, the way that was chosen.
    pub fn transport(&self) -> String {
        self.inner.memory.far().server_names()
    }

    /// Bytes of this process's memory that embedded lenders have lent: far memory that happens to be here. Zero without an embedded server.
    pub fn embedded_resident_bytes(&self) -> u64 {
        self.inner.embedded.iter().map(|lender| lender.resident_bytes() as u64).sum()
    }

    /// Sends every object away that can leave: none that is pinned or referred to in an open scope. Inside a scope of the calling thread it does
    /// nothing. Mostly for tests and measurements.
    ///
    /// # Errors
    /// If a server fails.
    pub fn evacuate_all(&self) -> Result<()> {
        forked::check()?;
        self.inner.evacuator.evacuate_all(&self.inner.memory)
    }

    pub(crate) fn run_round(&self) -> bool {
        !in_scope() && self.inner.evacuator.assist(&self.inner.memory)
    }

    pub(crate) fn pass_first_reads(&self) {
        self.inner.memory.pass_first_reads();
    }

    /// Gives memory that holds nothing any more back: local segments to the system, slabs to their servers. Inside a scope of the calling thread, what
    /// the scope may still refer to stays.
    ///
    /// # Errors
    /// If a server can't be told.
    pub fn trim(&self) -> Result<()> {
        forked::check()?;
        self.inner.evacuator.trim(&self.inner.memory)
    }
}

/// Allocation shards at most: each holds up to three open segments.
const MAX_ALLOCATION_SHARDS: usize = 4;

impl fmt::Debug for FarMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FarMemory").field("servers", &self.transport()).field("stats", &self.stats()).finish()
    }
}
