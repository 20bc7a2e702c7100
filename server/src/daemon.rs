//! A running `farmemd`: its workers, and the thread that zeroes returned slabs.

use crate::config::{Config, StartError};
use crate::listen::{self, Address, Name};
use crate::worker::{Desk, Shared, Worker};
use farptr_runtime::slab::{SlabStore, SlabStoreConfig, Supply};
use farptr_runtime::wire::{Lender, Ways};
use mio::Poll;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tracing::error;

/// How long the zeroing thread sleeps if nothing wakes it.
const SCRUB_SLEEP: Duration = Duration::from_secs(60);

/// A lender of slabs at an address. Dropping it ends it.
#[derive(Debug)]
pub struct Daemon {
    addresses: Vec<Address>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Removed when the daemon has ended.
    _name: Option<Name>,
}

impl Daemon {
    /// Takes the memory, listens and serves.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, |_| {})
    }

    /// The same; calls `on_worker_end` with a message from the thread of a worker that ended though nobody stopped the daemon.
    pub fn start_with(config: Config, on_worker_end: impl Fn(String) + Clone + Send + 'static) -> Result<Self, StartError> {
        config.check()?;
        // Before the memory, which takes a while: a port in use is known at once.
        let (mut listeners, mut addresses, mut name) = (Vec::new(), Vec::new(), None);
        if let Some(listen) = &config.listen {
            let (listener, address) = listen::tcp(listen, config.max_connections)?;
            listeners.push(listener);
            addresses.push(address);
        }
        #[cfg(feature = "rdma")]
        if let Some(listen) = &config.rdma {
            let (listener, address) = listen::rdma(listen, config.max_connections)?;
            listeners.push(listener);
            addresses.push(address);
        }
        if let Some(path) = &config.unix {
            let (listener, address, made) = listen::unix(path, config.unix_mode, config.max_connections)?;
            listeners.push(listener);
            addresses.push(address);
            name = Some(made);
        }
        let Config { capacity, slab_bytes, .. } = config;
        let supply = config.supply();
        if supply != Supply::Upfront {
            allow_open_files(&config)?;
        }
        let ways = Ways::new(find(&addresses, Address::path), find(&addresses, Address::rdma));
        let lender = Lender::offering(SlabStore::new(SlabStoreConfig { capacity, slab_bytes, supply })?, ways);

        let polls = (0..config.workers()).map(|_| Poll::new()).collect::<io::Result<Vec<_>>>()?;
        let desks = polls.iter().map(Desk::new).collect::<io::Result<Vec<_>>>()?;
        let shared = Arc::new(Shared {
            lender,
            spin: config.spin,
            max_connections: config.max_connections,
            stopping: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            desks,
        });
        // From here on an early return stops what has been started, by the drop of `daemon`.
        let mut daemon = Self { addresses, shared, threads: Vec::new(), _name: name };
        daemon.start_scrubber()?;
        for (number, poll) in polls.into_iter().enumerate() {
            let worker = Worker::new(number, poll, daemon.shared.clone(), std::mem::take(&mut listeners))?;
            let (shared, on_end) = (daemon.shared.clone(), on_worker_end.clone());
            let run = move || {
                let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run()));
                if !shared.stopping.load(Ordering::Acquire) {
                    let why = match ended {
                        Ok(Ok(())) => "without a reason".to_string(),
                        Ok(Err(error)) => error.to_string(),
                        Err(_) => "by a panic, which is a fault of this program".to_string(),
                    };
                    error!(worker = number, "worker ended: {why}");
                    on_end(why);
                }
            };
            daemon.threads.push(std::thread::Builder::new().name(format!("farmemd-{number}")).spawn(run)?);
        }
        Ok(daemon)
    }

    /// Where it listens. A port is the one the system chose if port 0 was asked for.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Where it listens for TCP connections, if it does.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        find(&self.addresses, Address::tcp)
    }

    /// Where it listens for RDMA, if it does.
    pub fn rdma_address(&self) -> Option<SocketAddr> {
        find(&self.addresses, Address::rdma)
    }

    /// Bytes it lends at most.
    pub fn capacity(&self) -> u64 {
        self.shared.lender.store().capacity()
    }

    /// Bytes of a slab.
    pub fn slab_bytes(&self) -> u32 {
        self.shared.lender.store().slab_bytes()
    }

    /// Bytes lent now.
    pub fn lent_bytes(&self) -> u64 {
        self.shared.lender.store().lent_bytes()
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    fn start_scrubber(&mut self) -> io::Result<()> {
        let shared = self.shared.clone();
        let run = move || {
            let store = shared.lender.store();
            while !shared.stopping.load(Ordering::Acquire) {
                if !store.scrub_one() {
                    store.wait_dirty(SCRUB_SLEEP);
                }
            }
        };
        self.threads.push(std::thread::Builder::new().name("farmemd-scrub".into()).spawn(run)?);
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        for desk in &self.shared.desks {
            if let Err(error) = desk.waker.wake() {
                // It notices at its next check.
                error!(%error, "a worker can't be woken to end");
            }
        }
        self.shared.lender.store().wake_scrubber();
        for thread in self.threads.drain(..) {
            // Its panic, if it had one, has been reported.
            let _ = thread.join();
        }
    }
}

/// The first address of a kind.
fn find<'a, T>(addresses: &'a [Address], kind: impl Fn(&'a Address) -> Option<T>) -> Option<T> {
    addresses.iter().find_map(kind)
}

/// Lets this process have as many files open as a file for each slab takes.
fn allow_open_files(config: &Config) -> Result<(), StartError> {
    const OTHERS: u64 = 64;
    let needed = config.capacity / u64::from(config.slab_bytes.max(1)) + config.max_connections as u64 + OTHERS;
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(maximum) = now.maximum.filter(|maximum| *maximum < needed) {
        return Err(StartError::Setting(format!(
            "it needs {needed} open files, one for each slab and connection, and may have {maximum}; raise the limit (ulimit -n), \
             or give a larger --slab-size or a smaller --max-connections"
        )));
    }
    let raised = Rlimit { current: Some(needed), maximum: now.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|error| StartError::System(error.into()))
}
