//! One `farmemd`, reached by as many connections as there are sessions, and one for control.
#![forbid(unsafe_code)]

use super::address;
use super::connection::{Connection, Limits};
use super::session::TcpSession;
use crate::error::TransportError;
use crate::transport::{Session, SlabId, Transport};
use crate::wire::client::{DEFAULT_IN_FLIGHT, LONGEST_TIMEOUT, Terms};
use crate::wire::frame::Intent;
use crate::wire::{ControlDone, ControlVerb};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How to reach a server, and how patiently.
#[derive(Debug, Clone)]
pub struct TcpConfig {
    /// `HOST:PORT`; `tcp:HOST:PORT` will do.
    pub address: String,
    /// How long connecting may take, handshake included. 5 s unless set.
    pub connect_timeout: Duration,
    /// How long one operation may take. 5 s unless set.
    pub op_timeout: Duration,
    /// Operations in flight in one session, at most. 512 unless set.
    pub in_flight: u16,
}

impl TcpConfig {
    /// The usual settings for `address`.
    pub fn new(address: impl Into<String>) -> Self {
        let patience = Duration::from_secs(5);
        Self { address: address.into(), connect_timeout: patience, op_timeout: patience, in_flight: DEFAULT_IN_FLIGHT }
    }
}

/// One `farmemd`.
#[derive(Debug)]
pub struct TcpTransport {
    description: String,
    config: TcpConfig,
    addresses: Vec<SocketAddr>,
    terms: Terms,
    /// `None` when the last one ended.
    control: Mutex<Option<Connection>>,
}

impl TcpTransport {
    /// Connects as a new borrower.
    pub fn connect(mut config: TcpConfig) -> Result<Self, TransportError> {
        if config.in_flight == 0 || config.op_timeout.is_zero() || config.connect_timeout.is_zero() {
            return Err(TransportError::System("timeouts and the number in flight must not be 0".into()));
        }
        config.op_timeout = config.op_timeout.min(LONGEST_TIMEOUT);
        config.connect_timeout = config.connect_timeout.min(LONGEST_TIMEOUT);
        let addresses = address::resolve(&config.address)?;
        let (control, terms) =
            Connection::open(&addresses, Intent::New, limits(&config, Instant::now() + config.connect_timeout))?;
        let description = format!("tcp:{}", address::without_scheme(&config.address));
        Ok(Self { description, config, addresses, terms, control: Mutex::new(Some(control)) })
    }

    /// What the server lends at most, to all its borrowers, in bytes.
    pub fn capacity(&self) -> u64 {
        self.terms.capacity
    }

    /// Opens a further connection of this borrower.
    fn join(&self, by: Instant) -> Result<Connection, TransportError> {
        let (connection, terms) = Connection::open(&self.addresses, Intent::Join(self.terms.token), limits(&self.config, by))?;
        if terms.slab_bytes != self.terms.slab_bytes {
            return Err(TransportError::Protocol("it changed the size of its slabs".into()));
        }
        Ok(connection)
    }

    fn control(&self, verb: ControlVerb) -> Result<ControlDone, TransportError> {
        // Before the lock: whoever waits for a slow exchange of another thread has waited for the same server.
        let deadline = Instant::now() + self.config.op_timeout;
        let mut place = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = place.as_mut() {
            // Finds out whether it ended while nobody looked.
            let _ = connection.poll(Instant::now(), &mut Vec::new());
            if connection.session.failure().is_some() {
                *place = None;
            }
        }
        let connection = match place.as_mut() {
            Some(connection) => connection,
            None => place.insert(self.join(deadline.min(Instant::now() + self.config.connect_timeout))?),
        };
        connection.control(verb, deadline)
    }
}

fn limits(config: &TcpConfig, connect_by: Instant) -> Limits {
    Limits { op_timeout: config.op_timeout, in_flight: config.in_flight, connect_by, connect_timeout: config.connect_timeout }
}

fn mixed_up() -> TransportError {
    TransportError::Protocol("its answer about a slab fits another request".into())
}

impl Transport for TcpTransport {
    fn describe(&self) -> &str {
        &self.description
    }

    fn slab_bytes(&self) -> u32 {
        self.terms.slab_bytes
    }

    fn borrow_slab(&self) -> Result<SlabId, TransportError> {
        match self.control(ControlVerb::Borrow)? {
            ControlDone::Borrowed(result) => result,
            ControlDone::Returned(_) => Err(mixed_up()),
        }
    }

    fn return_slab(&self, slab: SlabId) -> Result<(), TransportError> {
        match self.control(ControlVerb::Return(slab))? {
            ControlDone::Returned(result) => result,
            ControlDone::Borrowed(_) => Err(mixed_up()),
        }
    }

    fn open_session(&self) -> Result<Box<dyn Session>, TransportError> {
        let connection = self.join(Instant::now() + self.config.connect_timeout)?;
        Ok(Box::new(TcpSession { connection }))
    }
}
