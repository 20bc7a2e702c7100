//! The slabs that are mapped here now.
#![forbid(unsafe_code)]

use crate::error::TransportError;
use crate::slab::mapping::Mapping;
use crate::slab::memory::SlabMemory;
use crate::slab::rows::Rows;
use crate::transport::{ImmediateAccess, SlabId, SlabPos};
use std::fs::File;
use std::sync::OnceLock;

/// Slabs by the server's names for them.
pub(super) struct Mapped {
    slabs: Rows<OnceLock<SlabMemory>>,
    slab_bytes: u32,
}

impl Mapped {
    /// Room for `count` slabs of `slab_bytes` bytes, none of which is mapped.
    pub(super) fn new(count: usize, slab_bytes: u32) -> Self {
        Self { slabs: Rows::new(count), slab_bytes }
    }

    /// Maps a slab that has just been lent: it lies in `file` from `offset` on.
    pub(super) fn map(&self, slab: SlabId, file: &File, offset: u64) -> Result<(), TransportError> {
        let index = slab.0 as usize;
        if index >= self.slabs.len() {
            return Err(TransportError::Protocol(format!("it lent slab {} of {}", slab.0, self.slabs.len())));
        }
        let memory = self.slabs.get_or_make(index).get_or_init(|| SlabMemory::new(self.slab_bytes as usize));
        if memory.is_mapped() {
            return Err(TransportError::Protocol(format!("it lent slab {}, which it has lent already", slab.0)));
        }
        let system = |error: std::io::Error| TransportError::System(format!("slab {} can't be mapped: {error}", slab.0));
        memory.install(Mapping::shared(file, offset, self.slab_bytes as usize).map_err(system)?);
        // The server has the pages; without this each would be a fault of its own at the first access.
        memory.populate().map_err(|error| {
            memory.remove();
            system(error)
        })
    }

    /// Gives up a slab's mapping. `false` if it has none.
    pub(super) fn unmap(&self, slab: SlabId) -> bool {
        let memory = self.memory(slab).filter(|memory| memory.is_mapped());
        memory.inspect(|memory| memory.remove()).is_some()
    }

    #[inline]
    fn memory(&self, slab: SlabId) -> Option<&SlabMemory> {
        self.slabs.get(slab.0 as usize)?.get()
    }

    /// The slab's memory, if it may hold the range.
    #[inline]
    fn find(&self, at: SlabPos, len: usize) -> Result<&SlabMemory, TransportError> {
        let memory = self.memory(at.slab).ok_or_else(|| not_borrowed(at.slab))?;
        if at.offset > self.slab_bytes || len > (self.slab_bytes - at.offset) as usize {
            return Err(TransportError::Refused(format!(
                "range {}+{len} ends past a slab's {} bytes",
                at.offset, self.slab_bytes
            )));
        }
        Ok(memory)
    }
}

#[cold]
fn not_borrowed(slab: SlabId) -> TransportError {
    TransportError::Refused(format!("slab {} is not borrowed", slab.0))
}

impl ImmediateAccess for Mapped {
    #[inline]
    fn read_at(&self, at: SlabPos, into: &mut [u8]) -> Result<(), TransportError> {
        self.find(at, into.len())?.read(at.offset as usize, into, || true).map_err(|_| not_borrowed(at.slab))
    }

    #[inline]
    fn read_summed(&self, at: SlabPos, into: &mut [u8], header: usize) -> Result<u32, TransportError> {
        let memory = self.find(at, into.len())?;
        memory.read_summed(at.offset as usize, into, header, || true).map_err(|_| not_borrowed(at.slab))
    }

    #[inline]
    fn write_at(&self, at: SlabPos, bytes: &[u8]) -> Result<(), TransportError> {
        self.find(at, bytes.len())?.write(at.offset as usize, bytes, || true).map_err(|_| not_borrowed(at.slab))
    }
}
