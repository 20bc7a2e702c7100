//! Slabs in this process: the default, for a quick start and for tests.
//!
//! Lent memory is mapped, so an operation is a copy that never waits: [`Session::submit`] does it at once and `poll` only
//! reports it. Callers that hold a place for the bytes use [`ImmediateAccess`] and skip both.
#![forbid(unsafe_code)]

use super::{Completion, ImmediateAccess, MAX_OP_BYTES, Op, Progress, Session, SlabId, SlabPos, Submit, Transport, Verb};
use crate::error::TransportError;
use crate::slab::{BorrowerId, DEFAULT_SLAB_BYTES, SlabStore, SlabStoreConfig, Supply};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Completed operations a session keeps before it says [`Submit::Busy`].
const MAX_DONE: usize = 1024;

/// What an embedded lender lends.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedConfig {
    /// Bytes to lend at most. Memory is taken slab by slab, as slabs are borrowed.
    pub capacity: u64,
    /// Bytes of a slab; a multiple of [`MAX_OP_BYTES`].
    pub slab_bytes: u32,
}

impl EmbeddedConfig {
    /// A lender of `capacity` bytes in slabs of the usual size.
    pub fn with_capacity(capacity: u64) -> Self {
        Self { capacity, slab_bytes: DEFAULT_SLAB_BYTES }
    }
}

/// A lender in this process, with one borrower.
#[derive(Debug)]
pub struct EmbeddedTransport {
    store: Arc<SlabStore>,
    borrower: BorrowerId,
}

impl EmbeddedTransport {
    /// Makes a lender. Takes no memory yet.
    ///
    /// ```
    /// use farptr_runtime::transport::embedded::{EmbeddedConfig, EmbeddedTransport};
    /// use farptr_runtime::transport::{SlabPos, Transport};
    ///
    /// let lender = EmbeddedTransport::new(EmbeddedConfig::with_capacity(64 << 20))?;
    /// let at = SlabPos { slab: lender.borrow_slab()?, offset: 4096 };
    /// lender.write_at(at, b"far away")?;
    /// let mut back = [0; 8];
    /// lender.read_at(at, &mut back)?;
    /// assert_eq!(&back, b"far away");
    /// # Ok::<(), farptr_runtime::TransportError>(())
    /// ```
    pub fn new(config: EmbeddedConfig) -> Result<Self, TransportError> {
        let EmbeddedConfig { capacity, slab_bytes } = config;
        let store = Arc::new(SlabStore::new(SlabStoreConfig { capacity, slab_bytes, supply: Supply::OnDemand })?);
        let borrower = store.register();
        Ok(Self { store, borrower })
    }

    /// Bytes of this process's memory that lent slabs take up: what it would not use if the lender were elsewhere.
    pub fn resident_bytes(&self) -> usize {
        self.store.resident_bytes()
    }

    /// Bytes lent now.
    pub fn lent_bytes(&self) -> u64 {
        self.store.lent_bytes()
    }

    /// Bytes it lends at most.
    pub fn capacity(&self) -> u64 {
        self.store.capacity()
    }

    /// Fills `into` from `at`.
    #[inline]
    pub fn read_at(&self, at: SlabPos, into: &mut [u8]) -> Result<(), TransportError> {
        Ok(self.store.read(self.borrower, at, into)?)
    }

    /// Stores `bytes` at `at`.
    #[inline]
    pub fn write_at(&self, at: SlabPos, bytes: &[u8]) -> Result<(), TransportError> {
        Ok(self.store.write(self.borrower, at, bytes)?)
    }
}

impl ImmediateAccess for EmbeddedTransport {
    fn read_at(&self, at: SlabPos, into: &mut [u8]) -> Result<(), TransportError> {
        EmbeddedTransport::read_at(self, at, into)
    }

    fn write_at(&self, at: SlabPos, bytes: &[u8]) -> Result<(), TransportError> {
        EmbeddedTransport::write_at(self, at, bytes)
    }
}

impl Transport for EmbeddedTransport {
    fn describe(&self) -> &str {
        "embedded"
    }

    fn slab_bytes(&self) -> u32 {
        self.store.slab_bytes()
    }

    fn borrow_slab(&self) -> Result<SlabId, TransportError> {
        Ok(self.store.lend(self.borrower)?)
    }

    fn return_slab(&self, slab: SlabId) -> Result<(), TransportError> {
        Ok(self.store.take_back(self.borrower, slab)?)
    }

    fn open_session(&self) -> Result<Box<dyn Session>, TransportError> {
        Ok(Box::new(EmbeddedSession { store: self.store.clone(), borrower: self.borrower, done: Vec::new(), failure: None }))
    }

    fn immediate(&self) -> Option<&dyn ImmediateAccess> {
        Some(self)
    }
}

/// Does at once what it is asked, and keeps the completions until they are polled for.
struct EmbeddedSession {
    store: Arc<SlabStore>,
    borrower: BorrowerId,
    done: Vec<Completion>,
    failure: Option<TransportError>,
}

impl Session for EmbeddedSession {
    fn submit(&mut self, op: Op) -> Submit {
        if let Some(failure) = &self.failure {
            return Submit::Failed(op, failure.clone());
        }
        if self.done.len() >= MAX_DONE {
            return Submit::Busy(op);
        }
        let Op { token, verb, at, mut buf } = op;
        let result = if buf.is_empty() || buf.len() > MAX_OP_BYTES {
            Err(super::bad_length(buf.len()))
        } else {
            let moved = match verb {
                Verb::Read => self.store.read(self.borrower, at, buf.as_mut_slice()),
                Verb::Write => self.store.write(self.borrower, at, buf.as_slice()),
            };
            // A slab or range that isn't the borrower's ends the session, as it does with a server elsewhere.
            moved.map_err(|e| self.failure.insert(e.into()).clone())
        };
        self.done.push(Completion { token, verb, buf, result });
        Submit::Accepted
    }

    fn poll(&mut self, _now: Instant, done: &mut Vec<Completion>) -> Progress {
        if self.done.is_empty() {
            return Progress::Idle;
        }
        done.append(&mut self.done);
        Progress::Moved
    }

    fn park(&mut self, _at_most: Duration) {
        // Nothing here ever waits: either completions are ready or there is nothing to wait for.
    }

    fn in_flight(&self) -> usize {
        self.done.len()
    }

    fn failure(&self) -> Option<TransportError> {
        self.failure.clone()
    }
}
