//! Far memory as a store: each chunk of a log is a far object.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use farptr::{FarMemory, RemBox};

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
        Ok(FarLog { memory: self.memory.clone(), chunk, chunks: Vec::new(), tail: Vec::new(), accesses: self.accesses.clone() })
    }

    fn usage(&self) -> Usage {
        let stats = self.memory.stats();
        Usage { far_bytes: stats.far_used_bytes, accesses: self.accesses.get(), misses: stats.misses }
    }
}

/// A log in far memory.
#[derive(Debug)]
pub struct FarLog {
    memory: FarMemory,
    chunk: ChunkBytes,
    /// Full chunks.
    chunks: Vec<RemBox<[u8]>>,
    /// The chunk that is being filled, in ordinary memory, so that appending a little at a time makes no object again and again.
    tail: Vec<u8>,
    accesses: Rc<Cell<u64>>,
}

impl FarLog {
    fn count_access(&self) {
        self.accesses.set(self.accesses.get() + 1);
    }
}

impl ByteLog for FarLog {
    fn len(&self) -> usize {
        self.chunks.len() * self.chunk.0 + self.tail.len()
    }

    fn heap_bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<RemBox<[u8]>>() + self.tail.capacity()
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.chunk.0 - self.tail.len()));
            self.tail.extend_from_slice(now);
            bytes = later;
            if self.tail.len() == self.chunk.0 {
                self.chunks.push(RemBox::try_from_slice_in(&self.tail, &self.memory)?);
                self.count_access();
                self.tail.clear();
            }
        }
        Ok(())
    }

    fn truncate(&mut self, len: usize) -> Result<(), StoreError> {
        let full = len / self.chunk.0;
        if full < self.chunks.len() {
            self.tail.clear();
            self.chunks[full].try_with(|chunk| self.tail.extend_from_slice(chunk))?;
            self.chunks.truncate(full);
        }
        self.tail.truncate(len - full * self.chunk.0);
        Ok(())
    }

    fn read(&self, range: Range<usize>, visit: &mut dyn FnMut(&[u8])) -> Result<(), StoreError> {
        let mut at = range.start;
        while at < range.end {
            let (number, start) = (at / self.chunk.0, at % self.chunk.0);
            let end = self.chunk.0.min(start + range.end - at);
            match self.chunks.get(number) {
                Some(chunk) => {
                    self.count_access();
                    chunk.try_with(|chunk| visit(&chunk[start..end]))?;
                }
                None => visit(&self.tail[start..end]),
            }
            at += end - start;
        }
        Ok(())
    }
}
