//! Walks: lending iterators that hold one chunk at a time.
//!
//! # Why a pin and not a scope
//! The loop's body runs between two steps. Were a scope open there, the body's own derefs could not wait for memory, a slow body would hold back all evacuation,
//! and inside another scope it could not be refreshed. A pin of the chunk holds that chunk and nothing else, costs two atomic operations a chunk, and may be
//! held across an await.

use super::RemVec;
use super::pin::{PinnedSlice, PinnedSliceMut};
use crate::{Far, ok};
use farptr_runtime::Result;
use farptr_runtime::memory::SHORT_SCAN;
use farptr_runtime::scope::{AccessHint, Hinted};
use std::fmt;
use std::ops::{Range, RangeBounds};

/// What is left of a range, and how many chunks of it have been pinned.
struct Rest {
    elements: Range<usize>,
    chunks: usize,
}

impl Rest {
    /// One chunk more. As in [`RemVec::for_each_slice`], from the fifth on it is not expected to be used again soon: neither its fetch nor its use counts.
    /// The guard is for the pin alone; what the body of the loop does counts as usual.
    fn next_chunk(&mut self) -> Option<Hinted> {
        self.chunks += 1;
        (self.chunks > SHORT_SCAN).then(|| Hinted::new(AccessHint::NonTemporal))
    }

    /// Passes over a chunk that can't be had.
    fn pass_over(&mut self, chunk_len: usize) {
        // Chunk lengths are powers of two. The last element of the chunk, and one more.
        let last = self.elements.start | (chunk_len - 1);
        self.elements.start = last.saturating_add(1).min(self.elements.end);
    }
}

/// References to elements one after the other, each until the next step. See [`RemVec::walk`].
pub struct Walk<'a, T: Far> {
    vec: &'a RemVec<T>,
    pinned: Option<PinnedSlice<'a, T>>,
    /// Of the next element in what is pinned.
    at: usize,
    /// Behind what is pinned.
    rest: Rest,
}

impl<T: Far> Walk<'_, T> {
    /// The next element; `None` at the end. Waits for local memory if need be.
    ///
    /// # Panics
    /// If its chunk can't be had: see [`try_next`](Walk::try_next).
    #[expect(clippy::should_implement_trait, reason = "an `Iterator` can't lend")]
    #[track_caller]
    pub fn next(&mut self) -> Option<&T> {
        ok(self.try_next())
    }

    /// The next element; `None` at the end. Waits for local memory if need be.
    ///
    /// # Errors
    /// As [`try_with`](RemVec::try_with). The next call goes on behind the chunk that could not be had, so a loop that goes on ends nevertheless.
    #[inline]
    pub fn try_next(&mut self) -> Result<Option<&T>> {
        if self.pinned.as_ref().is_none_or(|slice| self.at == slice.len()) {
            self.pin_next()?;
        }
        let at = self.at;
        self.at += 1;
        Ok(self.pinned.as_ref().map(|slice| &slice[at]))
    }

    /// Lets the chunk go, and pins the next one if there is one.
    #[cold]
    fn pin_next(&mut self) -> Result<()> {
        // First, so that one chunk is enough.
        self.pinned = None;
        self.at = 0;
        let Range { start, end } = self.rest.elements;
        let pinned = {
            let _hint = self.rest.next_chunk();
            self.vec.pin_range(start, end)
        };
        match pinned {
            Ok(pinned) => {
                self.rest.elements.start += pinned.as_ref().map_or(0, |slice| slice.len());
                self.pinned = pinned;
                Ok(())
            }
            Err(error) => {
                self.rest.pass_over(self.vec.chunk_len());
                Err(error)
            }
        }
    }
}

impl<T: Far> fmt::Debug for Walk<'_, T> {
    /// Does not fetch the elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.rest.elements.len() + self.pinned.as_ref().map_or(0, |slice| slice.len() - self.at);
        f.debug_struct("Walk").field("left", &left).finish_non_exhaustive()
    }
}

/// References for writing to elements one after the other, each until the next step. See [`RemVec::walk_mut`].
pub struct WalkMut<'a, T: Far> {
    /// Used for nothing but the next pin, when the one before is gone.
    vec: &'a mut RemVec<T>,
    pinned: Option<PinnedSliceMut<'a, T>>,
    at: usize,
    rest: Rest,
}

impl<T: Far> WalkMut<'_, T> {
    /// The next element; `None` at the end. Waits for local memory if need be.
    ///
    /// # Panics
    /// If its chunk can't be had: see [`try_next`](WalkMut::try_next).
    #[expect(clippy::should_implement_trait, reason = "an `Iterator` can't lend")]
    #[track_caller]
    pub fn next(&mut self) -> Option<&mut T> {
        ok(self.try_next())
    }

    /// The next element; `None` at the end. Waits for local memory if need be.
    ///
    /// # Errors
    /// As [`Walk::try_next`].
    #[inline]
    pub fn try_next(&mut self) -> Result<Option<&mut T>> {
        if self.pinned.as_ref().is_none_or(|slice| self.at == slice.len()) {
            self.pin_next()?;
        }
        let at = self.at;
        self.at += 1;
        Ok(self.pinned.as_mut().map(|slice| &mut slice[at]))
    }

    #[cold]
    fn pin_next(&mut self) -> Result<()> {
        self.pinned = None;
        self.at = 0;
        let Range { start, end } = self.rest.elements;
        let pinned = {
            let _hint = self.rest.next_chunk();
            self.vec.pin_range_mut(start, end).map(|pinned| {
                // SAFETY: the vector is borrowed exclusively for `'a`. The pin before is gone, with all references that it lent, since a step needs `&mut self`;
                // and as long as this one exists the walk does nothing with the vector.
                pinned.map(|slice| unsafe { slice.for_all_of_the_borrow() })
            })
        };
        match pinned {
            Ok(pinned) => {
                self.rest.elements.start += pinned.as_ref().map_or(0, |slice| slice.len());
                self.pinned = pinned;
                Ok(())
            }
            Err(error) => {
                self.rest.pass_over(self.vec.chunk_len());
                Err(error)
            }
        }
    }
}

impl<T: Far> fmt::Debug for WalkMut<'_, T> {
    /// Does not fetch the elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.rest.elements.len() + self.pinned.as_ref().map_or(0, |slice| slice.len() - self.at);
        f.debug_struct("WalkMut").field("left", &left).finish_non_exhaustive()
    }
}

impl<T: Far> RemVec<T> {
    /// Goes through the elements of `range` one by one and holds one chunk at a time, so any length passes: a lending iterator.
    ///
    /// The chunk of the current element is pinned, and no scope is open in the loop: what its body derefs may wait for memory, and a slow body holds back the evacuation of this
    /// chunk only. An element is good until the next step, by the compiler; copy or collect what you keep. Chunks are swapped in, from the fifth on
    /// non-temporally. [`for_each_slice`](RemVec::for_each_slice) is faster, and reads past local memory.
    ///
    /// Inside a scope, nothing that was fetched since it began can leave, chunks that the walk has let go included: there a long walk ends in
    /// `ScopeExhausted`. Walk outside.
    ///
    /// ```
    /// # use farptr::{FarMemory, RemVec};
    /// # let mem = FarMemory::builder().local_budget(2 << 20).build()?;
    /// let mut vec = RemVec::new_in(&mem);
    /// vec.extend(0..1_000_000u64); // 8 MB, with 2 MiB local
    /// let (mut sum, mut walk) = (0, vec.walk(..));
    /// while let Some(element) = walk.try_next()? {
    ///     sum += element;
    /// }
    /// assert_eq!(sum, 499_999_500_000);
    /// # Ok::<(), farptr::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the range is out of bounds.
    #[track_caller]
    pub fn walk(&self, range: impl RangeBounds<usize>) -> Walk<'_, T> {
        Walk { rest: Rest { elements: self.bounds(range), chunks: 0 }, vec: self, pinned: None, at: 0 }
    }

    /// As [`walk`](RemVec::walk), for writing. All chunks that it comes to are written back later, so if few elements change, look first.
    ///
    /// # Panics
    /// If the range is out of bounds.
    #[track_caller]
    pub fn walk_mut(&mut self, range: impl RangeBounds<usize>) -> WalkMut<'_, T> {
        WalkMut { rest: Rest { elements: self.bounds(range), chunks: 0 }, vec: self, pinned: None, at: 0 }
    }
}
