//! Where bytes lie: in far memory or in ordinary memory, behind the same few operations.
//!
//! A [`Store`] makes [`ByteLog`]s. A log is a growing vector of bytes that is read in slices. It is a list of chunks, and a
//! chunk is what moves between local and far memory at once, so that its size is a trade: small chunks bring in little that
//! was not asked for, large ones need fewer round trips.

use std::ops::Range;

/// Why a store failed. Ordinary memory never does.
pub use farptr::Error as StoreError;

/// Bytes that come and go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkBytes(pub usize);

/// What a store has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in far memory.
    pub far_bytes: u64,
    /// Far objects asked for: one for each chunk of each read and each append.
    pub accesses: u64,
    /// Accesses that found the object absent.
    pub misses: u64,
}

impl Usage {
    /// What has been used since `before`.
    pub fn since(&self, before: &Usage) -> Usage {
        Usage { accesses: self.accesses - before.accesses, misses: self.misses - before.misses, ..*self }
    }

    /// The part of accesses that found their object local; 1 if there was none.
    pub fn hit_ratio(&self) -> f64 {
        if self.accesses == 0 { 1.0 } else { 1.0 - self.misses.min(self.accesses) as f64 / self.accesses as f64 }
    }
}

/// Something that holds logs.
pub trait Store {
    /// Its kind of log.
    type Log: ByteLog;

    /// An empty log in chunks of `chunk` bytes.
    fn log(&self, chunk: ChunkBytes) -> Result<Self::Log, StoreError>;

    /// What has been used.
    fn usage(&self) -> Usage;
}

/// A growing vector of bytes.
pub trait ByteLog {
    /// Bytes in it.
    fn len(&self) -> usize;

    /// True if nothing is in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds `bytes` at the end.
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Forgets all after the first `len` bytes.
    fn truncate(&mut self, len: usize) -> Result<(), StoreError>;

    /// Shows the bytes of `range`, which lies inside the log, in order, slice by slice.
    fn read(&self, range: Range<usize>, visit: &mut dyn FnMut(&[u8])) -> Result<(), StoreError>;
}

/// Ordinary memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalStore;

impl Store for LocalStore {
    type Log = Vec<u8>;

    fn log(&self, _chunk: ChunkBytes) -> Result<Vec<u8>, StoreError> {
        Ok(Vec::new())
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }
}

impl ByteLog for Vec<u8> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn truncate(&mut self, len: usize) -> Result<(), StoreError> {
        Vec::truncate(self, len);
        Ok(())
    }

    fn read(&self, range: Range<usize>, visit: &mut dyn FnMut(&[u8])) -> Result<(), StoreError> {
        visit(&self[range]);
        Ok(())
    }
}
