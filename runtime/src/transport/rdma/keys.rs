//! Where the slabs that are borrowed lie, and the keys to them.
#![forbid(unsafe_code)]

use super::verbs::Remote;
use crate::error::TransportError;
use crate::slab::MemoryKey;
use crate::slab::rows::Rows;
use crate::transport::{SlabId, SlabPos};
use std::sync::{PoisonError, RwLock};

/// By the server's names for slabs.
#[derive(Debug)]
pub(super) struct Keys {
    slabs: Rows<RwLock<Option<MemoryKey>>>,
    slab_bytes: u32,
}

impl Keys {
    /// Room for `count` slabs of `slab_bytes` bytes, none of which is borrowed.
    pub(super) fn new(count: usize, slab_bytes: u32) -> Self {
        Self { slabs: Rows::new(count), slab_bytes }
    }

    /// A slab has been lent.
    pub(super) fn put(&self, slab: SlabId, key: MemoryKey) -> Result<(), TransportError> {
        if slab.0 as usize >= self.slabs.len() {
            return Err(TransportError::Protocol(format!("it lent slab {} of {}", slab.0, self.slabs.len())));
        }
        if key.address.checked_add(self.slab_bytes.into()).is_none() {
            return Err(TransportError::Protocol(format!("it lent slab {} where no memory can be", slab.0)));
        }
        let place = self.slabs.get_or_make(slab.0 as usize);
        *place.write().unwrap_or_else(PoisonError::into_inner) = Some(key);
        Ok(())
    }

    /// A slab is borrowed no more. `false` if it was not.
    pub(super) fn take(&self, slab: SlabId) -> bool {
        let place = self.slabs.get(slab.0 as usize);
        place.is_some_and(|place| place.write().unwrap_or_else(PoisonError::into_inner).take().is_some())
    }

    /// Where `len` bytes at `at` are, if they lie in a slab that is borrowed.
    pub(super) fn find(&self, at: SlabPos, len: usize) -> Result<Remote, TransportError> {
        let place = self.slabs.get(at.slab.0 as usize);
        let key = place.and_then(|place| *place.read().unwrap_or_else(PoisonError::into_inner));
        let key = key.ok_or_else(|| TransportError::Refused(format!("slab {} is not borrowed", at.slab.0)))?;
        if at.offset > self.slab_bytes || len > (self.slab_bytes - at.offset) as usize {
            return Err(TransportError::Refused(format!(
                "range {}+{len} ends past a slab's {} bytes",
                at.offset, self.slab_bytes
            )));
        }
        Ok(Remote { address: key.address + u64::from(at.offset), key: key.key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLAB: u32 = 1 << 18;

    #[test]
    fn ranges_are_checked_before_the_device_is_asked() {
        let keys = Keys::new(4, SLAB);
        let at = |offset| SlabPos { slab: SlabId(1), offset };
        assert!(keys.find(at(0), 1).is_err(), "not borrowed");
        keys.put(SlabId(1), MemoryKey { address: 1 << 40, key: 7 }).expect("put");
        assert_eq!(keys.find(at(SLAB - 8), 8), Ok(Remote { address: (1 << 40) + u64::from(SLAB) - 8, key: 7 }));
        assert!(keys.find(at(SLAB - 8), 9).is_err());
        assert!(keys.find(at(SLAB + 1), 0).is_err());
        assert!(keys.find(SlabPos { slab: SlabId(4), offset: 0 }, 1).is_err());
        assert!(keys.take(SlabId(1)) && !keys.take(SlabId(1)) && !keys.take(SlabId(9)));
        assert!(keys.find(at(0), 1).is_err(), "returned");
    }

    #[test]
    fn a_server_can_t_lend_what_can_t_be() {
        let keys = Keys::new(4, SLAB);
        assert!(keys.put(SlabId(4), MemoryKey { address: 0, key: 0 }).is_err());
        assert!(keys.put(SlabId(0), MemoryKey { address: u64::MAX - 5, key: 0 }).is_err());
    }
}
