//! Slabs in this process: the default, for a quick start and for tests.
//!
//! Lent memory is mapped, so an operation is a copy that never waits: [`Session::submit`] does it at once and `poll` only
//! reports it. Callers that hold a place for the bytes use [`ImmediateAccess`] and skip both.
#![forbid(unsafe_code)]

use super::immediate::ImmediateSession;
use super::{ImmediateAccess, Session, SlabId, SlabPos, Transport};
use crate::error::TransportError;
use crate::slab::{BorrowerId, DEFAULT_SLAB_BYTES, SlabStore, SlabStoreConfig, Supply};
use std::sync::Arc;

/// What an embedded lender lends.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedConfig {
    /// Bytes to lend at most. Memory is taken slab by slab, as slabs are borrowed.
    pub capacity: u64,
    /// Bytes of a slab; a multiple of [`MAX_OP_BYTES`](super::MAX_OP_BYTES).
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
    lent: Arc<Lent>,
}

/// The lender's memory, as its borrower may use it.
#[derive(Debug)]
struct Lent {
    store: SlabStore,
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
        let store = SlabStore::new(SlabStoreConfig { capacity, slab_bytes, supply: Supply::OnDemand })?;
        let borrower = store.register();
        Ok(Self { lent: Arc::new(Lent { store, borrower }) })
    }

    /// Bytes of this process's memory that lent slabs take up: what it would not use if the lender were elsewhere.
    pub fn resident_bytes(&self) -> usize {
        self.lent.store.resident_bytes()
    }

    /// Bytes lent now.
    pub fn lent_bytes(&self) -> u64 {
        self.lent.store.lent_bytes()
    }

    /// Bytes it lends at most.
    pub fn capacity(&self) -> u64 {
        self.lent.store.capacity()
    }

    /// Fills `into` from `at`.
    #[inline]
    pub fn read_at(&self, at: SlabPos, into: &mut [u8]) -> Result<(), TransportError> {
        self.lent.read_at(at, into)
    }

    /// Stores `bytes` at `at`.
    #[inline]
    pub fn write_at(&self, at: SlabPos, bytes: &[u8]) -> Result<(), TransportError> {
        self.lent.write_at(at, bytes)
    }
}

impl ImmediateAccess for Lent {
    #[inline]
    fn read_at(&self, at: SlabPos, into: &mut [u8]) -> Result<(), TransportError> {
        Ok(self.store.read(self.borrower, at, into)?)
    }

    #[inline]
    fn read_summed(&self, at: SlabPos, into: &mut [u8], header: usize) -> Result<u32, TransportError> {
        Ok(self.store.read_summed(self.borrower, at, into, header)?)
    }

    #[inline]
    fn write_at(&self, at: SlabPos, bytes: &[u8]) -> Result<(), TransportError> {
        Ok(self.store.write(self.borrower, at, bytes)?)
    }
}

impl Transport for EmbeddedTransport {
    fn describe(&self) -> &str {
        "embedded"
    }

    fn slab_bytes(&self) -> u32 {
        self.lent.store.slab_bytes()
    }

    fn borrow_slab(&self) -> Result<SlabId, TransportError> {
        Ok(self.lent.store.lend(self.lent.borrower)?)
    }

    fn return_slab(&self, slab: SlabId) -> Result<(), TransportError> {
        Ok(self.lent.store.take_back(self.lent.borrower, slab)?)
    }

    fn open_session(&self) -> Result<Box<dyn Session>, TransportError> {
        Ok(Box::new(ImmediateSession::new(Arc::clone(&self.lent))))
    }

    fn immediate(&self) -> Option<&dyn ImmediateAccess> {
        Some(&*self.lent)
    }
}
