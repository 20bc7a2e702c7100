//! One `farmemd`, by its Unix socket.
#![forbid(unsafe_code)]

use super::file;
use super::mapped::Mapped;
use super::socket::UnixSocket;
use crate::error::TransportError;
use crate::slab::Sharing;
use crate::transport::immediate::ImmediateSession;
use crate::transport::stream::{Connection, Control, Patience, countable_slabs};
use crate::transport::{ImmediateAccess, Session, SlabId, Transport};
use crate::wire::frame::{Intent, Passing, Terms};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tags of a connection that only borrows and returns: one request at a time, and those whose answers are late.
const IN_FLIGHT: u16 = 8;

/// How to reach a server on this machine, and how patiently.
#[derive(Debug, Clone)]
pub struct ShmConfig {
    /// The server's socket, as given to `farmemd --unix`.
    pub path: PathBuf,
    /// How long connecting may take, handshake included. 5 s unless set.
    pub connect_timeout: Duration,
    /// How long borrowing or returning a slab may take. 5 s unless set.
    pub op_timeout: Duration,
}

impl ShmConfig {
    /// The usual settings for the server at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let patience = Duration::from_secs(5);
        Self { path: path.into(), connect_timeout: patience, op_timeout: patience }
    }
}

/// One `farmemd` on this machine.
pub struct ShmTransport {
    description: String,
    path: PathBuf,
    patience: Patience,
    terms: Terms,
    sharing: Sharing,
    /// The server could end this process anyhow.
    trusted: bool,
    mapped: Arc<Mapped>,
    control: Control<UnixSocket>,
    /// Tells the server that this borrower exists, whatever happens to control.
    _anchor: UnixSocket,
}

impl ShmTransport {
    /// Connects as a new borrower.
    pub fn connect(config: ShmConfig) -> Result<Self, TransportError> {
        let patience = Patience::new(config.connect_timeout, config.op_timeout, IN_FLIGHT)?;
        Self::connect_by(config.path, patience, patience.connect_by())
    }

    /// The same, perhaps with less time for this first connection than for others.
    pub(in crate::transport) fn connect_by(path: PathBuf, patience: Patience, by: Instant) -> Result<Self, TransportError> {
        let patience = patience.with_in_flight(IN_FLIGHT);
        let limits = patience.limits(by);
        let socket = UnixSocket::connect(&path, limits)?;
        let trusted = socket.peer_is_trusted();
        let (anchor, terms) = Connection::open(socket, Intent::New, limits)?;
        let Passing::Files(sharing) = terms.passing else {
            return Err(TransportError::Protocol("it lends no memory that can be mapped".into()));
        };
        let mapped = Arc::new(Mapped::new(countable_slabs(&terms)?, terms.slab_bytes));
        let description = format!("unix:{}", path.display());
        let control = Control::new(None, patience.op());
        Ok(Self { description, path, patience, terms, sharing, trusted, mapped, control, _anchor: anchor.into_socket() })
    }

    /// What the server lends at most, to all its borrowers, in bytes.
    pub fn capacity(&self) -> u64 {
        self.terms.capacity
    }

    /// Opens a further connection of this borrower.
    fn join(&self, by: Instant) -> Result<Connection<UnixSocket>, TransportError> {
        let limits = self.patience.limits(by);
        let socket = UnixSocket::connect(&self.path, limits)?;
        let (connection, terms) = Connection::open(socket, Intent::Join(self.terms.token), limits)?;
        if (terms.slab_bytes, terms.passing) != (self.terms.slab_bytes, self.terms.passing) {
            return Err(TransportError::Protocol("it changed the size of its slabs, or how it lends them".into()));
        }
        Ok(connection)
    }
}

impl Transport for ShmTransport {
    fn describe(&self) -> &str {
        &self.description
    }

    fn slab_bytes(&self) -> u32 {
        self.terms.slab_bytes
    }

    fn borrow_slab(&self) -> Result<SlabId, TransportError> {
        let lent = self.control.borrow_slab(|by| self.join(by))?;
        let slab = lent.slab;
        let file = lent.file.ok_or_else(|| TransportError::Protocol(format!("it lent slab {} without a file", slab.0)))?;
        let mapped = file::offset_in(&file, slab, self.terms.slab_bytes, self.sharing, self.trusted)
            .and_then(|offset| self.mapped.map(slab, &file, offset));
        match mapped {
            Ok(()) => Ok(slab),
            Err(error) => {
                // What can't be used here may be of use to others. The reason to tell is the first one.
                let _ = self.control.return_slab(slab, |by| self.join(by));
                Err(error)
            }
        }
    }

    fn return_slab(&self, slab: SlabId) -> Result<(), TransportError> {
        // Before the server may give the memory to somebody else. Asked for a slab that isn't borrowed, it would end the connection.
        if !self.mapped.unmap(slab) {
            return Err(TransportError::Refused(format!("slab {} is not borrowed", slab.0)));
        }
        self.control.return_slab(slab, |by| self.join(by))
    }

    fn open_session(&self) -> Result<Box<dyn Session>, TransportError> {
        Ok(Box::new(ImmediateSession::new(Arc::clone(&self.mapped))))
    }

    fn immediate(&self) -> Option<&dyn ImmediateAccess> {
        Some(&*self.mapped)
    }
}

impl fmt::Debug for ShmTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmTransport").field("path", &self.path).field("terms", &self.terms).finish_non_exhaustive()
    }
}
