//! One `farmemd`, by RDMA.
#![forbid(unsafe_code)]

use super::address::Address;
use super::keys::Keys;
use super::local::Registered;
use super::session::{RdmaSession, Shared};
use super::socket::{RdmaSocket, Route};
use super::verbs::{Domain, Shape};
use crate::error::TransportError;
use crate::transport::stream::{Connection, Control, Limits, Patience, countable_slabs};
use crate::transport::{LocalMemory, Session, SlabId, Transport};
use crate::wire::SlabUses;
use crate::wire::frame::{Intent, Passing, Terms, encode_hello};
use crate::wire::uses::Return;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tags of a connection that only borrows and returns: one request at a time, and those whose answers are late.
const CONTROL_IN_FLIGHT: u16 = 8;

/// Transfers in flight in one session, unless set: a microsecond's work each for a device, at a few hundred thousand a second.
pub(in crate::transport) const DEFAULT_IN_FLIGHT: u16 = 256;

/// How to reach a server by RDMA, and how patiently.
#[derive(Debug, Clone)]
pub struct RdmaConfig {
    /// `HOST:PORT`, or `HOST:PORT@DEVICE/PORT/GID` to choose the device to go by; `rdma:` may stand before it.
    pub address: String,
    /// How long connecting may take, handshake included. 5 s unless set.
    pub connect_timeout: Duration,
    /// How long one operation may take. 5 s unless set.
    pub op_timeout: Duration,
    /// Operations in flight in one session, at most. 256 unless set.
    pub in_flight: u16,
}

impl RdmaConfig {
    /// The usual settings for `address`.
    pub fn new(address: impl Into<String>) -> Self {
        let patience = Duration::from_secs(5);
        Self { address: address.into(), connect_timeout: patience, op_timeout: patience, in_flight: DEFAULT_IN_FLIGHT }
    }
}

/// One `farmemd`.
pub struct RdmaTransport {
    description: String,
    patience: Patience,
    route: Route,
    terms: Terms,
    domain: Arc<Domain>,
    control: Control<RdmaSocket>,
    shared: Arc<Shared>,
}

impl RdmaTransport {
    /// Connects as a new borrower.
    pub fn connect(config: RdmaConfig) -> Result<Self, TransportError> {
        let patience = Patience::new(config.connect_timeout, config.op_timeout, config.in_flight)?;
        Self::connect_by(&config.address, patience, patience.connect_by())
    }

    /// The same, perhaps with less time for this first connection than for others.
    pub(in crate::transport) fn connect_by(said: &str, patience: Patience, by: Instant) -> Result<Self, TransportError> {
        let limits = for_control(patience).limits(by);
        let address = Address::parse(said)?;
        let mut outcome = Err(TransportError::Unreachable("it has no address".into()));
        for to in address.resolve()? {
            let route = Route { to, from: address.source(to)? };
            outcome = open(route, None, Shape { transfers: 0 }, Intent::New, limits)
                .map(|(connection, domain, terms)| (route, connection, domain, terms));
            if outcome.is_ok() {
                break;
            }
        }
        let (route, connection, domain, terms) = outcome?;
        if terms.passing != Passing::Keys {
            return Err(TransportError::Protocol("it lends no memory that can be reached by RDMA".into()));
        }
        let slabs = countable_slabs(&terms)?;
        let shared = Arc::new(Shared {
            keys: Keys::new(slabs, terms.slab_bytes),
            uses: SlabUses::new(slabs as u64),
            local: Arc::new(Registered::new(Arc::clone(&domain))),
        });
        let description = format!("rdma:{}", said.strip_prefix("rdma:").unwrap_or(said).trim_start_matches("//"));
        let control = Control::new(Some(connection), patience.op());
        Ok(Self { description, patience, route, terms, domain, control, shared })
    }

    /// What the server lends at most, to all its borrowers, in bytes.
    pub fn capacity(&self) -> u64 {
        self.terms.capacity
    }

    /// Opens a further connection of this borrower.
    fn join(&self, shape: Shape, by: Instant) -> Result<Connection<RdmaSocket>, TransportError> {
        let limits = for_control(self.patience).limits(by);
        let (connection, _, terms) = open(self.route, Some(&self.domain), shape, Intent::Join(self.terms.token), limits)?;
        if (terms.slab_bytes, terms.passing) != (self.terms.slab_bytes, self.terms.passing) {
            return Err(TransportError::Protocol("it changed the size of its slabs, or how it lends them".into()));
        }
        Ok(connection)
    }

    fn join_for_control(&self, by: Instant) -> Result<Connection<RdmaSocket>, TransportError> {
        self.join(Shape { transfers: 0 }, by)
    }

    /// Returns the slabs that could not be returned before, because something was underway.
    fn return_ready(&self) {
        while let Some(slab) = self.shared.uses.take_ready() {
            if let Err(error) = self.control.return_slab(slab, |by| self.join_for_control(by)) {
                // The server takes it back with the others in the end.
                tracing::warn!(server = self.description, slab = slab.0, %error, "a slab can't be returned");
            }
        }
    }
}

/// Connects and goes through the handshake.
fn open(
    route: Route,
    domain: Option<&Arc<Domain>>,
    shape: Shape,
    intent: Intent,
    limits: Limits,
) -> Result<(Connection<RdmaSocket>, Arc<Domain>, Terms), TransportError> {
    let socket = RdmaSocket::connect(route, domain, shape, encode_hello(intent), limits)?;
    let domain = Arc::clone(socket.domain());
    let (connection, terms) = Connection::open(socket, intent, limits)?;
    Ok((connection, domain, terms))
}

/// Frames are for slabs only: reads and writes need none.
fn for_control(patience: Patience) -> Patience {
    patience.with_in_flight(CONTROL_IN_FLIGHT)
}

impl Transport for RdmaTransport {
    fn describe(&self) -> &str {
        &self.description
    }

    fn slab_bytes(&self) -> u32 {
        self.terms.slab_bytes
    }

    fn borrow_slab(&self) -> Result<SlabId, TransportError> {
        self.return_ready();
        let lent = self.control.borrow_slab(|by| self.join_for_control(by))?;
        let slab = lent.slab;
        let put = match lent.key {
            Some(key) => self.shared.keys.put(slab, key),
            None => Err(TransportError::Protocol(format!("it lent slab {} without a key", slab.0))),
        };
        if let Err(error) = put {
            // What can't be used here may be of use to others. The reason to tell is the first one.
            let _ = self.control.return_slab(slab, |by| self.join_for_control(by));
            return Err(error);
        }
        self.shared.uses.lent(slab);
        Ok(slab)
    }

    fn return_slab(&self, slab: SlabId) -> Result<(), TransportError> {
        self.return_ready();
        // Asked for a slab that isn't borrowed, the server would end the connection.
        if !self.shared.keys.take(slab) {
            return Err(TransportError::Refused(format!("slab {} is not borrowed", slab.0)));
        }
        match self.shared.uses.begin_return(slab) {
            Return::Now => self.control.return_slab(slab, |by| self.join_for_control(by)),
            Return::Later => Ok(()),
            Return::Again => Err(TransportError::Refused(format!("slab {} has been returned already", slab.0))),
        }
    }

    fn open_session(&self) -> Result<Box<dyn Session>, TransportError> {
        let (patience, shared) = (self.patience, Arc::clone(&self.shared));
        let connection = self.join(Shape { transfers: patience.in_flight() }, patience.connect_by())?;
        Ok(Box::new(RdmaSession::new(connection.into_socket(), shared, patience.op(), patience.in_flight())))
    }

    fn local_memory(&self) -> Option<Arc<dyn LocalMemory>> {
        Some(Arc::clone(&self.shared.local) as Arc<dyn LocalMemory>)
    }
}

impl fmt::Debug for RdmaTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RdmaTransport")
            .field("description", &self.description)
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}
