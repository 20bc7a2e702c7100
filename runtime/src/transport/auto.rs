//! The best way to a `farmemd` of which one knows the host: memory of this machine that is mapped, else RDMA, else TCP.
//!
//! Over TCP the server is asked what it offers ([`wire`](crate::wire)), and what it offers is tried from the best to the worst. A way that doesn't work costs a line in the log and at most
//! a second; TCP is always left, and its errors are those of [`tcp`]. What was chosen is a part of the name, for example `tcp:10.0.0.2:7070 (auto)`, and stays: there is no change when
//! another way opens or this one closes.
//!
//! # Whose socket it is
//! The server names a path in its own file system. On another machine, or in another container, there may be nothing of this name, or the socket of another server. So who listens there is asked as well,
//! and must be who the server is. That tells servers apart which mean no harm: an identity is told to whoever asks, and a program that listens at the path could say it too.
//! Where such programs may run, name the way.
#![forbid(unsafe_code)]

use super::shm::{self, ShmTransport};
use super::stream::Patience;
use super::tcp::{self, TcpTransport};
use super::{ImmediateAccess, LocalMemory, Session, SlabId, Transport};
use crate::error::TransportError;
use crate::wire::client::DEFAULT_IN_FLIGHT;
use crate::wire::{Identity, Offers};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The port if none is given: that of `farmemd`.
pub const DEFAULT_PORT: u16 = 7070;

/// Longest time for a way that may lead nowhere, and never more than half of what is left. Where it does lead somewhere, it takes milliseconds.
const ATTEMPT: Duration = Duration::from_secs(1);

/// How to reach a server, and how patiently.
#[derive(Debug, Clone)]
pub struct AutoConfig {
    /// `HOST:PORT` or `HOST`; `auto:` may stand before it.
    pub address: String,
    /// How long connecting may take, by whichever way, asking included. 5 s unless set.
    pub connect_timeout: Duration,
    /// How long one operation may take. 5 s unless set.
    pub op_timeout: Duration,
}

impl AutoConfig {
    /// The usual settings for `address`.
    pub fn new(address: impl Into<String>) -> Self {
        let patience = Duration::from_secs(5);
        Self { address: address.into(), connect_timeout: patience, op_timeout: patience }
    }
}

/// `HOST:PORT` for `HOST:PORT` or `HOST`.
pub fn with_port(address: &str) -> String {
    // An IPv6 address in brackets has colons of its own.
    if address.ends_with(']') || !address.contains(':') { format!("{address}:{DEFAULT_PORT}") } else { address.into() }
}

/// Connects as a new borrower by the best way that both ends have.
pub fn connect(config: AutoConfig) -> Result<Arc<dyn Transport>, TransportError> {
    let patience = Patience::new(config.connect_timeout, config.op_timeout, DEFAULT_IN_FLIGHT)?;
    let host_port = with_port(config.address.strip_prefix("auto:").unwrap_or(&config.address).trim_start_matches("//"));
    let place = Place { connect_by: patience.connect_by(), host_port, patience };
    let addresses = tcp::resolve(&place.host_port)?;
    let (offers, server) = tcp::ask(&addresses, patience.limits(place.connect_by))?;
    let chosen = match place.by_better_ways(&offers, server) {
        Some(chosen) => chosen,
        None => Chosen::new(TcpTransport::connect_by(&place.host_port, patience, place.connect_by)?),
    };
    tracing::info!(server = place.host_port, way = chosen.description, "way to the server chosen");
    Ok(Arc::new(chosen))
}

/// Where to, and by when.
struct Place {
    patience: Patience,
    host_port: String,
    connect_by: Instant,
}

impl Place {
    fn by_better_ways(&self, offers: &Offers, server: SocketAddr) -> Option<Chosen> {
        if let Some(path) = offers.ways.unix() {
            match self.by_unix(path, offers.identity, self.attempt()) {
                Ok(found) => return Some(Chosen::new(found)),
                // As is to be expected on another machine.
                Err(why) if !path.exists() => {
                    tracing::debug!(server = self.host_port, path = %path.display(), %why, "not mapped")
                }
                Err(why) => tracing::info!(server = self.host_port, path = %path.display(), %why, "not mapped"),
            }
        }
        let place = offers.ways.rdma()?;
        let mut to = server;
        if let Some(host) = place.host {
            to = SocketAddr::new(host, 0);
        }
        to.set_port(place.port.get());
        match self.by_rdma(to, self.attempt()) {
            Ok(found) => return Some(found),
            Err(why) => tracing::info!(server = self.host_port, device = %to, %why, "not by RDMA"),
        }
        None
    }

    /// Maps memory of the server that listens at `path`, if it is the one that was asked.
    fn by_unix(&self, path: &Path, identity: Identity, by: Instant) -> Result<ShmTransport, TransportError> {
        let said = shm::ask(path, self.patience.limits(by))?;
        if said.identity != identity {
            return Err(TransportError::Refused("another server listens there".into()));
        }
        ShmTransport::connect_by(path.into(), self.patience, by)
    }

    #[cfg(feature = "rdma")]
    fn by_rdma(&self, to: SocketAddr, by: Instant) -> Result<Chosen, TransportError> {
        use super::rdma::{DEFAULT_IN_FLIGHT, RdmaTransport, has_device};
        if !has_device() {
            return Err(TransportError::System("this machine has no RDMA device".into()));
        }
        let patience = self.patience.with_in_flight(DEFAULT_IN_FLIGHT);
        RdmaTransport::connect_by(&to.to_string(), patience, by).map(Chosen::new)
    }

    #[cfg(not(feature = "rdma"))]
    fn by_rdma(&self, _to: SocketAddr, _by: Instant) -> Result<Chosen, TransportError> {
        Err(TransportError::System("this program was built without RDMA".into()))
    }

    /// By when an attempt must have ended that begins now.
    fn attempt(&self) -> Instant {
        let now = Instant::now();
        now + ATTEMPT.min(self.connect_by.saturating_duration_since(now) / 2)
    }
}

/// The way that was chosen, by a name that says so.
struct Chosen {
    way: Box<dyn Transport>,
    description: String,
}

impl Chosen {
    fn new(way: impl Transport) -> Self {
        Self { description: format!("{} (auto)", way.describe()), way: Box::new(way) }
    }
}

/// Everything but the name is the way's, also what has a default.
impl Transport for Chosen {
    fn describe(&self) -> &str {
        &self.description
    }

    fn slab_bytes(&self) -> u32 {
        self.way.slab_bytes()
    }

    fn borrow_slab(&self) -> Result<SlabId, TransportError> {
        self.way.borrow_slab()
    }

    fn return_slab(&self, slab: SlabId) -> Result<(), TransportError> {
        self.way.return_slab(slab)
    }

    fn open_session(&self) -> Result<Box<dyn Session>, TransportError> {
        self.way.open_session()
    }

    fn immediate(&self) -> Option<&dyn ImmediateAccess> {
        self.way.immediate()
    }

    fn local_memory(&self) -> Option<Arc<dyn LocalMemory>> {
        self.way.local_memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_not_given_is_that_of_farmemd() {
        for (given, meant) in
            [("host", "host:7070"), ("host:1", "host:1"), ("[::1]", "[::1]:7070"), ("[::1]:1", "[::1]:1"), ("::1", "::1")]
        {
            assert_eq!(with_port(given), meant);
        }
    }

    #[test]
    fn an_attempt_leaves_time_for_what_comes_after_it() {
        let ends = |left: Duration| {
            let now = Instant::now();
            let patience = Patience::new(left, left, 1).expect("no zero");
            let place = Place { patience, host_port: "host:1".into(), connect_by: now + left };
            place.attempt() - now
        };
        assert!(ends(Duration::from_secs(3600)) < ATTEMPT + Duration::from_millis(900));
        assert!(ends(Duration::from_millis(200)) <= Duration::from_millis(200));
        assert!(ends(Duration::from_millis(800)) >= Duration::from_millis(400));
    }
}
