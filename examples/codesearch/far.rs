//! Far memory as a store: each log is a [`RemVec`] of bytes.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use farptr::{FarMemory, RemVec};

use super::store::{ByteLog, ChunkBytes, Store, StoreError, Usage};

/// Far memory, and how often it has been asked for an object.
#[derive(Debug)]
pub struct FarStore {
    memory: FarMemory,
    accesses: Rc<Cell<u64>>,
}

impl FarStore {
    /// A store in `memory`.
    pub fn new(memory: FarMemory) -> Self {
        FarStore { memory, accesses: Rc::default() }
    }
}

impl Store for FarStore {
    type Log = FarLog;

    fn log(&self, chunk: ChunkBytes) -> Result<FarLog, StoreError> {
        Ok(FarLog { bytes: RemVec::with_chunk_bytes_in(chunk.0, &self.memory), accesses: self.accesses.clone() })
    }

    fn usage(&self) -> Usage {
        let stats = self.memory.stats();
        Usage { far_bytes: stats.far_used_bytes, accesses: self.accesses.get(), misses: stats.misses }
    }
}

/// A log in far memory.
pub struct FarLog {
    bytes: RemVec<u8>,
    accesses: Rc<Cell<u64>>,
}

impl FarLog {
    fn count(&self, accesses: usize) {
        self.accesses.set(self.accesses.get() + accesses as u64);
    }
}

impl ByteLog for FarLog {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let chunk = self.bytes.chunk_len();
        let before = self.bytes.len();
        self.bytes.try_extend_from_slice(bytes)?;
        self.count(self.bytes.len().div_ceil(chunk) - before / chunk);
        Ok(())
    }

    fn truncate(&mut self, len: usize) -> Result<(), StoreError> {
        self.bytes.truncate(len);
        Ok(())
    }

    fn read(&self, range: Range<usize>, visit: &mut dyn FnMut(&[u8])) -> Result<(), StoreError> {
        self.bytes.try_for_each_slice(range, |_, slice| {
            self.count(1);
            visit(slice);
        })
    }
}
