//! One `farmemd`, reached by as many connections as there are sessions, and one for control.
#![forbid(unsafe_code)]

use super::address;
use super::session::TcpSession;
use super::socket::connect;
use crate::error::TransportError;
use crate::transport::stream::{Connection, Control, Patience};
use crate::transport::{Session, SlabId, Transport};
use crate::wire::SlabUses;
use crate::wire::client::DEFAULT_IN_FLIGHT;
use crate::wire::frame::{Intent, Terms};
use crate::wire::uses::Return;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
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
    patience: Patience,
    addresses: Vec<SocketAddr>,
    terms: Terms,
    control: Control<TcpStream>,
    /// What all sessions have underway.
    uses: Arc<SlabUses>,
}

impl TcpTransport {
    /// Connects as a new borrower.
    pub fn connect(config: TcpConfig) -> Result<Self, TransportError> {
        let patience = Patience::new(config.connect_timeout, config.op_timeout, config.in_flight)?;
        Self::connect_by(&config.address, patience, patience.connect_by())
    }

    /// The same, perhaps with less time for this first connection than for others.
    pub(in crate::transport) fn connect_by(address: &str, patience: Patience, by: Instant) -> Result<Self, TransportError> {
        let addresses = address::resolve(address)?;
        let limits = patience.limits(by);
        let (control, terms) = Connection::open(connect(&addresses, limits)?, Intent::New, limits)?;
        let description = format!("tcp:{}", address::without_scheme(address));
        let control = Control::new(Some(control), patience.op());
        let uses = Arc::new(SlabUses::new(terms.slabs()));
        Ok(Self { description, patience, addresses, terms, control, uses })
    }

    /// What the server lends at most, to all its borrowers, in bytes.
    pub fn capacity(&self) -> u64 {
        self.terms.capacity
    }

    /// Returns the slabs that were to be returned by requests whose connections ended.
    fn return_ready(&self) {
        while let Some(slab) = self.uses.take_ready() {
            if let Err(error) = self.control.return_slab(slab, |by| self.join(by)) {
                // The server takes it back with the others in the end.
                tracing::warn!(server = self.description, slab = slab.0, %error, "a slab can't be returned");
            }
        }
    }

    /// Opens a further connection of this borrower.
    fn join(&self, by: Instant) -> Result<Connection<TcpStream>, TransportError> {
        let limits = self.patience.limits(by);
        let socket = connect(&self.addresses, limits)?;
        let (connection, terms) = Connection::open(socket, Intent::Join(self.terms.token), limits)?;
        if terms.slab_bytes != self.terms.slab_bytes {
            return Err(TransportError::Protocol("it changed the size of its slabs".into()));
        }
        Ok(connection)
    }
}

impl Transport for TcpTransport {
    fn describe(&self) -> &str {
        &self.description
    }

    fn slab_bytes(&self) -> u32 {
        self.terms.slab_bytes
    }

    fn borrow_slab(&self) -> Result<SlabId, TransportError> {
        self.return_ready();
        let slab = self.control.borrow_slab(|by| self.join(by))?.slab;
        self.uses.lent(slab);
        Ok(slab)
    }

    fn return_slab(&self, slab: SlabId) -> Result<(), TransportError> {
        self.return_ready();
        match self.uses.begin_return(slab) {
            Return::Now => self.control.return_slab(slab, |by| self.join(by)),
            Return::Later => Ok(()),
            Return::Again => Err(TransportError::Refused(format!("slab {} has been returned already", slab.0))),
        }
    }

    fn open_session(&self) -> Result<Box<dyn Session>, TransportError> {
        let mut connection = self.join(self.patience.connect_by())?;
        connection.session.share_uses(Arc::clone(&self.uses));
        Ok(Box::new(TcpSession { connection }))
    }
}
