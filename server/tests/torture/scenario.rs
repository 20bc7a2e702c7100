//! What a seed stands for: servers, faults, threads, sizes.

use crate::owner::Owner;
use crate::watch::Steps;
use farptr::faults::{FaultPlan, Faults, Immediate, Kind, Rates};
use farptr::{Error, FarMemory};
use farptr_runtime::transport::Transport;
use farptr_runtime::transport::embedded::{EmbeddedConfig, EmbeddedTransport};
use farptr_runtime::transport::shm::{ShmConfig, ShmTransport};
use farptr_runtime::transport::tcp::{TcpConfig, TcpTransport};
use farptr_server::{Address, Config, Daemon};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const SLAB: u32 = 1 << 20;
const BUDGET: usize = 1 << 20;

/// Attempts at something that works without faults. A session that died unnoticed costs one.
const RETRIES: usize = 100;

/// Which servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Servers {
    Embedded,
    Tcp,
    /// On this machine, with memory that is mapped.
    Shm,
    /// Any of them, by seed.
    Mixed,
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Servers::Embedded => "embedded",
            Servers::Tcp => "tcp",
            Servers::Shm => "shm",
            Servers::Mixed => "mixed",
        })
    }
}

impl FromStr for Servers {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Servers::Embedded, Servers::Tcp, Servers::Shm, Servers::Mixed];
        all.into_iter()
            .find(|servers| servers.to_string() == name)
            .ok_or_else(|| format!("no servers `{name}`: embedded, tcp, shm or mixed"))
    }
}

/// How bad it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    /// Bytes come as they were sent, if they come: `Corrupt` would be a lie.
    Network,
    /// What is read may be damaged on its way.
    Damage,
    /// Servers lose and damage what they keep.
    Broken,
}

/// A small generator of numbers (xorshift64).
#[derive(Debug, Clone)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((self.next() >> 32) as usize) % bound
    }
}

/// One seed's world.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) sort: Sort,
    /// How each server is reached; never [`Servers::Mixed`].
    servers: Vec<Servers>,
    rate: u16,
    threads: usize,
    pub(crate) futures: bool,
    evacuation_thread: bool,
    immediate: bool,
    /// Slabs that each server lends; few of them make far memory full.
    slabs: u64,
    steps: usize,
}

impl Scenario {
    pub(crate) fn of(seed: u64, servers: Servers) -> Self {
        let mut next = Numbers::new(seed);
        (0..8).for_each(|_| {
            next.next();
        });
        let servers: Vec<Servers> = (0..1 + next.below(3))
            .map(|_| {
                let far = next.below(3) == 0;
                match servers {
                    Servers::Mixed if far => Servers::Tcp,
                    // No draw of its own, which would make other scenarios of the seeds.
                    Servers::Mixed if seed % 4 == 3 => Servers::Shm,
                    Servers::Mixed => Servers::Embedded,
                    all => all,
                }
            })
            .collect();
        let threads = [1, 1, 1, 1, 2, 3][next.below(6)];
        let futures = next.below(3) == 0;
        Scenario {
            seed,
            sort: [Sort::Network, Sort::Network, Sort::Damage, Sort::Broken][next.below(4)],
            rate: [10, 40, 150, 500, 1500][next.below(5)],
            threads,
            futures,
            evacuation_thread: threads > 1 || futures || next.below(2) == 0,
            immediate: next.below(4) == 0,
            slabs: if next.below(6) == 0 { 2 } else { 40 },
            steps: 200 + next.below(800),
            servers,
        }
    }

    fn rates(&self) -> Rates {
        match self.sort {
            Sort::Network => {
                let damage = [Kind::ShortRead, Kind::FlippedRead, Kind::ZeroedRead, Kind::MisplacedRead, Kind::StaleRead];
                damage.into_iter().fold(Rates::honest(self.rate), |rates, kind| rates.with(kind, 0))
            }
            Sort::Damage => Rates::honest(self.rate),
            Sort::Broken => Rates::broken(self.rate),
        }
    }

    /// Whether far memory is too small for the data.
    pub(crate) fn is_scarce(&self) -> bool {
        self.slabs < 10
    }

    /// Whether an operation may fail like this while faults are on.
    pub(crate) fn allows(&self, error: &Error) -> bool {
        match error {
            Error::Transport { cause, .. } => !matches!(
                cause,
                farptr::TransportError::Protocol(_) | farptr::TransportError::Version { .. } | farptr::TransportError::Refused(_)
            ),
            Error::Corrupt { .. } => self.sort != Sort::Network,
            Error::FarMemoryFull { .. } | Error::OutOfLocalMemory { .. } => true,
            _ => false,
        }
    }

    /// Plays the scenario.
    ///
    /// # Panics
    /// If anything is not as it must be.
    pub(crate) fn run(&self, steps: &Steps) -> Tally {
        let plan = FaultPlan {
            rates: self.rates(),
            immediate: if self.immediate { Immediate::Faulty } else { Immediate::Hidden },
            ..FaultPlan::new(self.seed)
        };
        let faults = Faults::new(plan);
        let mut embedded = Vec::new();
        // Kept for as long as this seed uses them, whoever else ends or replaces them.
        let mut daemons = Vec::new();
        let transports: Vec<Arc<dyn Transport>> = self
            .servers
            .iter()
            .enumerate()
            .map(|(number, server)| -> Arc<dyn Transport> {
                match server {
                    Servers::Tcp => {
                        let daemon = daemon(number);
                        let address = daemon.tcp_address().expect("it listens").to_string();
                        daemons.push(daemon);
                        Arc::new(TcpTransport::connect(TcpConfig::new(address)).expect("connect"))
                    }
                    Servers::Shm => {
                        let daemon = daemon(number);
                        let path = socket(&daemon);
                        daemons.push(daemon);
                        Arc::new(ShmTransport::connect(ShmConfig::new(path)).expect("connect"))
                    }
                    Servers::Embedded | Servers::Mixed => {
                        let config = EmbeddedConfig { capacity: self.slabs * u64::from(SLAB), slab_bytes: SLAB };
                        let lender = Arc::new(EmbeddedTransport::new(config).expect("embedded"));
                        embedded.push(Arc::clone(&lender));
                        lender
                    }
                }
            })
            .collect();
        // What the machine does otherwise may make an operation fail, with an error that is allowed.
        let mut builder =
            FarMemory::builder().local_budget(BUDGET).timeout(Duration::from_millis(250)).transports(transports).faults(&faults);
        if !self.evacuation_thread {
            builder = builder.without_evacuation_thread();
        }
        let mem = builder.build().expect("a far memory");
        let mut tally = Tally::default();
        let mut owners: Vec<Owner<'_>> = (0..self.threads).map(|thread| Owner::new(self, &mem, thread)).collect();
        if let [owner] = &mut owners[..] {
            owner.run(self.steps, steps);
        } else {
            std::thread::scope(|scope| {
                for owner in &mut owners {
                    let name = format!("seed-{}-{}", self.seed, owner.thread);
                    std::thread::Builder::new()
                        .name(name)
                        .spawn_scoped(scope, || owner.run(self.steps / 2, steps))
                        .expect("a thread");
                }
            });
        }
        faults.stop();
        for owner in &mut owners {
            owner.check_all();
            tally.add(&owner.tally);
        }
        drop(owners);
        persist("trim", || mem.trim());
        let stats = mem.stats();
        if stats.lost_drops == 0 {
            assert_eq!((stats.local_used_bytes, stats.far_live_bytes, stats.far_borrowed_bytes), (0, 0, 0), "{stats:?}");
            if embedded.len() == self.servers.len() {
                let lent: u64 = embedded.iter().map(|lender| lender.lent_bytes()).sum();
                assert_eq!(lent, faults.leaked_slabs() * u64::from(SLAB), "lent, against what faults have leaked: {faults:?}");
            }
        } else {
            assert!(self.sort == Sort::Broken, "a drop was lost: {stats:?}");
        }
        for (kind, count) in faults.counts() {
            tally.faults[kind as usize] += count;
        }
        tally.seeds = 1;
        tally
    }
}

/// Tries until it works; without faults it must.
pub(crate) fn persist<T>(what: &str, mut attempt: impl FnMut() -> Result<T, Error>) -> T {
    let mut last = None;
    for _ in 0..RETRIES {
        match attempt() {
            Ok(value) => return value,
            Err(error) => {
                if matches!(error, Error::OutOfLocalMemory { .. }) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                last = Some(error);
            }
        }
    }
    panic!("{what} fails without faults: {last:?}");
}

static DAEMONS: [Mutex<Option<Arc<Daemon>>>; 3] = [const { Mutex::new(None) }; 3];

/// When dropped, it ends the servers that no seed is using; their sockets would outlast the process. Who comes later starts others.
#[derive(Debug)]
pub(crate) struct Daemons;

impl Drop for Daemons {
    fn drop(&mut self) {
        DAEMONS.iter().for_each(|place| *place.lock().unwrap_or_else(PoisonError::into_inner) = None);
    }
}

/// A server of this process that seeds share: taking its memory takes longer than a seed. A borrower's slabs go back when it is gone; one whose drop was lost
/// (see `Stats::lost_drops`) keeps them, and when such borrowers have too many, the next seed gets a new server.
fn daemon(number: usize) -> Arc<Daemon> {
    const SLABS: u64 = 48;
    let mut place = DAEMONS[number].lock().unwrap_or_else(PoisonError::into_inner);
    if place.as_ref().is_some_and(|daemon| daemon.lent_bytes() > SLABS / 4 * u64::from(SLAB)) {
        *place = None;
    }
    let start = || {
        // A name is free again only when its daemon has gone, which those who still use it put off.
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let name = format!("farptr-torture-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let unix = Some(std::env::temp_dir().join(name));
        let config = Config { slab_bytes: SLAB, threads: Some(1), unix, ..Config::new("127.0.0.1:0", SLABS * u64::from(SLAB)) };
        Arc::new(Daemon::start(config).expect("daemon"))
    };
    Arc::clone(place.get_or_insert_with(start))
}

/// Where borrowers on this machine find a daemon.
fn socket(daemon: &Daemon) -> PathBuf {
    let found = daemon.addresses().iter().find_map(|address| match address {
        Address::Unix(path) => Some(path.clone()),
        Address::Tcp(_) | Address::Rdma(_) => None,
    });
    found.expect("it has a socket")
}

/// What has happened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) seeds: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    /// Of those that failed: corrupt.
    pub(crate) corrupt: u64,
    /// Objects that a lying server has lost for good.
    pub(crate) lost: u64,
    /// Objects that could not be read in the end because local and far memory were full of dirty ones.
    pub(crate) starved: u64,
    faults: [u64; Kind::ALL.len()],
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Tally) {
        self.seeds += other.seeds;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.corrupt += other.corrupt;
        self.lost += other.lost;
        self.starved += other.starved;
        for (mine, theirs) in self.faults.iter_mut().zip(other.faults) {
            *mine += theirs;
        }
    }

    pub(crate) fn faults(&self, kind: Kind) -> u64 {
        self.faults[kind as usize]
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let injected: u64 = self.faults.iter().sum();
        write!(f, "{} operations well, {} failed ({} corrupt), {injected} faults", self.succeeded, self.failed, self.corrupt)
    }
}
