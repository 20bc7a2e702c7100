//! Far copies of large objects: in pieces, each an ordinary image with a slot of its own.
//!
//! A large object does not fit a far segment, or would waste much of one. Its far copy is cut into pieces of one size. Each piece has a
//! slot that says where it is, so that the cleaner moves pieces like any other image, knowing nothing of large objects.
//! The object's own word, when absent, holds the number of its entry here.
#![forbid(unsafe_code)]

use crate::addr::{LargeId, SlotId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes a piece takes in a far segment: four fill one exactly.
pub const PIECE_IMAGE_BYTES: usize = crate::addr::FAR_SEGMENT_BYTES / 4;

/// Bytes of contents in a piece (the last one has fewer).
pub const PIECE_BYTES: usize = PIECE_IMAGE_BYTES - super::image::IMAGE_HEADER_BYTES;

/// One large object's far copy.
#[derive(Debug)]
pub struct LargeFar {
    /// Bytes of the object.
    pub size: usize,
    /// The slots of its pieces, in order. Always absent.
    pub pieces: Box<[SlotId]>,
}

impl LargeFar {
    /// The pieces of an object of `size` bytes: offset and length of each.
    pub fn cuts(size: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..size.div_ceil(PIECE_BYTES)).map(move |number| Self::cut(size, number))
    }

    /// Offset and length of piece `number` of an object of `size` bytes, which has as many.
    pub fn cut(size: usize, number: usize) -> (usize, usize) {
        let offset = number * PIECE_BYTES;
        (offset, PIECE_BYTES.min(size - offset))
    }
}

/// All far copies of large objects.
#[derive(Debug, Default)]
pub struct LargeFars {
    inner: Mutex<(u64, HashMap<u64, Arc<LargeFar>>)>,
}

impl LargeFars {
    fn lock(&self) -> MutexGuard<'_, (u64, HashMap<u64, Arc<LargeFar>>)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a far copy. Numbers are not used again: at a million large write-backs a minute 2^40 of them last two years.
    pub fn insert(&self, far: LargeFar) -> LargeId {
        let mut inner = self.lock();
        inner.0 += 1;
        let id = inner.0;
        inner.1.insert(id, Arc::new(far));
        LargeId(id)
    }

    /// The far copy of number `id`.
    pub fn get(&self, id: LargeId) -> Option<Arc<LargeFar>> {
        self.lock().1.get(&id.0).cloned()
    }

    /// Takes it out.
    pub fn remove(&self, id: LargeId) -> Option<Arc<LargeFar>> {
        self.lock().1.remove(&id.0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().1.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
