//! Lent memory that others reach without this process's processor.
#![forbid(unsafe_code)]

use super::BorrowerId;
use std::io;
use std::marker::PhantomData;

/// Where a slab lies in its lender's memory, and the key by which its borrower's device may read and write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryKey {
    /// Address of its first byte.
    pub address: u64,
    /// The key (`rkey`).
    pub key: u32,
}

/// What makes a slab reachable. When it is dropped, the slab isn't any more.
pub type Lease = Box<dyn Send + Sync>;

/// Memory of a slab that is being lent. It stays where it is, and mapped, until the lease has been dropped, and no Rust reference to it exists at any time.
#[derive(Debug)]
pub struct LentMemory<'a> {
    start: *mut u8,
    len: usize,
    store: PhantomData<&'a ()>,
}

impl LentMemory<'_> {
    /// For who has a slab's memory.
    pub(super) fn new(start: *mut u8, len: usize) -> Self {
        Self { start, len, store: PhantomData }
    }

    /// Address of its first byte.
    pub fn start(&self) -> usize {
        self.start.expose_provenance()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A way for borrowers to reach slabs by themselves.
pub trait Export: Send + Sync {
    /// Makes `memory` reachable by `to`, and by nobody else, for as long as the lease exists.
    fn export(&self, to: BorrowerId, memory: &LentMemory<'_>) -> io::Result<(Lease, MemoryKey)>;
}
