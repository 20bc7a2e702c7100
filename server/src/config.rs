//! What to lend and where, and what can be wrong with that.

use crate::machine::{self, Memory};
use farptr_runtime::bytes::format_size;
use farptr_runtime::slab::{Backing, DEFAULT_SLAB_BYTES, SlabError, Supply};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

/// How long workers spin after the last byte moved before they sleep, unless set. Longer than a borrower computes between two
/// misses in a row, as a rule, and five times what waking costs.
pub const DEFAULT_SPIN: Duration = Duration::from_micros(200);

/// Connections at once, unless set.
pub const DEFAULT_MAX_CONNECTIONS: usize = 1024;

/// Permission bits of the socket on this machine, unless set: programs of the user who runs the daemon.
pub const DEFAULT_UNIX_MODE: u32 = 0o600;

/// What a daemon lends, and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// `HOST:PORT` to listen at for borrowers on other machines; port 0 lets the system choose.
    pub listen: Option<String>,
    /// `HOST:PORT` to listen at for borrowers that come by RDMA: an address of an RDMA device, or the unspecified one. Needs the cargo feature `rdma`.
    pub rdma: Option<String>,
    /// Path of a socket to listen at for borrowers on this machine, who map what they borrow.
    pub unix: Option<PathBuf>,
    /// Who may connect to that socket: its permission bits.
    pub unix_mode: u32,
    /// What the memory is; `None` for ordinary memory.
    pub backing: Option<Backing>,
    /// Bytes to lend, rounded down to whole slabs. Taken when the daemon starts.
    pub capacity: u64,
    /// Bytes of a slab; a multiple of 256 KiB.
    pub slab_bytes: u32,
    /// Threads that serve connections; `None` chooses by the number of processors.
    pub threads: Option<usize>,
    /// How long a thread spins after the last byte moved before it sleeps.
    pub spin: Duration,
    /// Connections at once. Each may take up to 2.5 MiB beside the capacity, and does if its client doesn't read its replies.
    pub max_connections: usize,
}

impl Config {
    /// The usual settings for lending `capacity` bytes at `listen`, a `HOST:PORT`.
    pub fn new(listen: impl Into<String>, capacity: u64) -> Self {
        Self { listen: Some(listen.into()), ..Self::nowhere(capacity) }
    }

    /// The usual settings for lending `capacity` bytes to programs on this machine, by a socket at `path`.
    pub fn unix(path: impl Into<PathBuf>, capacity: u64) -> Self {
        Self { unix: Some(path.into()), ..Self::nowhere(capacity) }
    }

    /// The usual settings for lending `capacity` bytes by RDMA, at `address`, a `HOST:PORT`.
    pub fn rdma(address: impl Into<String>, capacity: u64) -> Self {
        Self { rdma: Some(address.into()), ..Self::nowhere(capacity) }
    }

    fn nowhere(capacity: u64) -> Self {
        Self {
            listen: None,
            rdma: None,
            unix: None,
            unix_mode: DEFAULT_UNIX_MODE,
            backing: None,
            capacity,
            slab_bytes: DEFAULT_SLAB_BYTES,
            threads: None,
            spin: DEFAULT_SPIN,
            max_connections: DEFAULT_MAX_CONNECTIONS,
        }
    }

    /// Threads to serve with. One on small machines, because a spinning worker takes a processor that the borrower, if it runs
    /// here too, needs; a worker for every second processor on larger ones, and four at most: that fills a 100 Gbit/s link.
    pub(crate) fn workers(&self) -> usize {
        self.threads.unwrap_or_else(|| {
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            (processors / 2).clamp(1, 4)
        })
    }

    /// What the slabs are made of. Borrowers can map only what lies in files.
    pub(crate) fn supply(&self) -> Supply {
        match (&self.backing, &self.unix) {
            (Some(backing), _) => Supply::Shared(backing.clone()),
            (None, Some(_)) => Supply::Shared(Backing::Memfd),
            (None, None) => Supply::Upfront,
        }
    }

    /// The socket addresses that `listen` stands for.
    pub(crate) fn addresses(listen: &str) -> Result<Vec<SocketAddr>, StartError> {
        let bad = |why: String| StartError::Address { given: listen.into(), why };
        let malformed = listen.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err());
        if malformed {
            return Err(bad("it is not HOST:PORT".into()));
        }
        let found: Vec<_> = listen.to_socket_addrs().map_err(|error| bad(error.to_string()))?.collect();
        if found.is_empty() { Err(bad("the host has no address".into())) } else { Ok(found) }
    }

    /// Checks what can be checked before memory is taken.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        if self.threads == Some(0) || self.threads.is_some_and(|threads| threads > 1024) {
            return Err(StartError::Setting("the number of threads must be 1 to 1024".into()));
        }
        if self.max_connections == 0 {
            return Err(StartError::Setting("0 connections would serve nobody; give at least 1".into()));
        }
        if self.capacity == 0 {
            return Err(StartError::Setting("a capacity of 0 bytes lends nothing; give for example 4GiB".into()));
        }
        if self.listen.is_none() && self.unix.is_none() && self.rdma.is_none() {
            return Err(StartError::Setting(
                "nobody could reach it; give --listen HOST:PORT, --unix PATH or --rdma HOST:PORT".into(),
            ));
        }
        if self.rdma.is_some() && !cfg!(feature = "rdma") {
            let how =
                "this farmemd was built without RDMA; build it with --features rdma (it wants libibverbs-dev and librdmacm-dev)";
            return Err(StartError::Setting(how.into()));
        }
        if self.unix_mode > 0o777 {
            return Err(StartError::Setting("the mode of the socket must be three octal digits, for example 660".into()));
        }
        match machine::memory() {
            // What a folder, file or device has is not what the machine has free; taking it tells.
            Some(memory) if self.backing.is_none() => self.check_against(memory),
            _ => Ok(()),
        }
    }

    fn check_against(&self, memory: Memory) -> Result<(), StartError> {
        if self.capacity > memory.available {
            return Err(StartError::TooMuch {
                capacity: format_size(self.capacity),
                total: format_size(memory.total),
                available: format_size(memory.available),
            });
        }
        Ok(())
    }
}

/// Why a daemon did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address can't be listened at.
    #[error("can't listen at {given:?}: {why}; give --listen HOST:PORT, for example 127.0.0.1:7070")]
    Address {
        /// As it was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// No RDMA device can be listened at by this address.
    #[error(
        "can't listen at {given:?} for RDMA: {why}; give --rdma an address of an RDMA device (see `rdma link`), or 0.0.0.0:PORT for all of them"
    )]
    Rdma {
        /// As it was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// Another program has the port.
    #[error(
        "can't listen at {0:?}: the port is in use; end the program that uses it or give another port (0 lets the system choose)"
    )]
    PortInUse(String),
    /// The socket's path can't be used.
    #[error("can't listen at {}: {why}; give another --unix PATH", .path.display())]
    Path {
        /// As it was given.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// More memory than there is.
    #[error("can't lend {capacity}: of this machine's {total} of memory {available} are free; give a smaller --capacity")]
    TooMuch {
        /// What was asked for.
        capacity: String,
        /// What there is.
        total: String,
        /// What is free.
        available: String,
    },
    /// The slabs can't be made.
    #[error("can't lend: {0}")]
    Slabs(#[from] SlabError),
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(String),
    /// The system refused something.
    #[error("can't start: {0}")]
    System(#[from] std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_does_not_have_is_not_lent() {
        let config = Config::new("127.0.0.1:0", 8 << 30);
        let memory = Memory { total: 16 << 30, available: 7 << 30 };
        let error = config.check_against(memory).expect_err("too much").to_string();
        assert!(error.contains("8.0 GiB") && error.contains("7.0 GiB") && error.contains("--capacity"), "{error}");
        assert!(config.check_against(Memory { available: 8 << 30, ..memory }).is_ok());
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let good = Config::new("127.0.0.1:0", 1 << 20);
        assert!(good.check().is_ok());
        for bad in [
            Config { capacity: 0, ..good.clone() },
            Config { capacity: u64::MAX, ..good.clone() },
            Config { threads: Some(0), ..good.clone() },
            Config { max_connections: 0, ..good.clone() },
            Config { listen: None, ..good.clone() },
            Config { unix_mode: 0o1000, ..good.clone() },
            #[cfg(not(feature = "rdma"))]
            Config { rdma: Some("127.0.0.1:0".into()), ..good.clone() },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        for listen in ["", "7070", "127.0.0.1", "127.0.0.1:99999", ":7070"] {
            let error = Config::addresses(listen).expect_err(listen).to_string();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
    }
}
