//! Pinned elements and slices: references that need no scope.

use super::RemVec;
use super::vec::{init, init_mut};
use crate::pin::{Pinned, PinnedMut};
use crate::{Far, ok};
use farptr_runtime::Result;
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut, Range};

/// A chunk, pinned. Its elements are initialised as far as the vector's length says.
type PinnedChunk<'a, T> = Pinned<'a, [MaybeUninit<T>]>;
type PinnedChunkMut<'a, T> = PinnedMut<'a, [MaybeUninit<T>]>;

/// Elements of a [`RemVec`] held in local memory for reading, until this is dropped: those of one chunk. May be held across an await.
pub struct PinnedSlice<'a, T: Far> {
    chunk: PinnedChunk<'a, T>,
    /// Lies in the chunk and below the length of the vector, which is borrowed for `'a`.
    range: Range<usize>,
}

impl<T: Far> Deref for PinnedSlice<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: below the length, so initialised, and the vector's borrow keeps it so.
        unsafe { init(&self.chunk[self.range.clone()]) }
    }
}

impl<T: Far + fmt::Debug> fmt::Debug for PinnedSlice<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Elements of a [`RemVec`] held in local memory for writing, until this is dropped: those of one chunk. May be held across an await.
pub struct PinnedSliceMut<'a, T: Far> {
    chunk: PinnedChunkMut<'a, T>,
    /// As that of [`PinnedSlice`].
    range: Range<usize>,
}

impl<T: Far> PinnedSliceMut<'_, T> {
    /// The pin for as long as its vector is borrowed by whoever calls.
    ///
    /// # Safety
    /// The vector is borrowed exclusively for `'long`, and used for nothing else as long as what is returned exists.
    pub(super) unsafe fn for_all_of_the_borrow<'long>(self) -> PinnedSliceMut<'long, T> {
        // SAFETY: by contract.
        PinnedSliceMut { chunk: unsafe { self.chunk.with_owner() }, range: self.range }
    }
}

impl<T: Far> Deref for PinnedSliceMut<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: below the length, so initialised, and the vector's borrow keeps it so.
        unsafe { init(&self.chunk[self.range.clone()]) }
    }
}

impl<T: Far> DerefMut for PinnedSliceMut<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`.
        unsafe { init_mut(&mut self.chunk[self.range.clone()]) }
    }
}

impl<T: Far + fmt::Debug> fmt::Debug for PinnedSliceMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// An element of a [`RemVec`] held in local memory for reading, with its chunk, until this is dropped. May be held across an await.
pub struct PinnedElement<'a, T: Far>(
    /// Of one element.
    PinnedSlice<'a, T>,
);

impl<T: Far> Deref for PinnedElement<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0[0]
    }
}

impl<T: Far + fmt::Debug> fmt::Debug for PinnedElement<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// An element of a [`RemVec`] held in local memory for writing, with its chunk, until this is dropped. May be held across an await.
pub struct PinnedElementMut<'a, T: Far>(
    /// Of one element.
    PinnedSliceMut<'a, T>,
);

impl<T: Far> Deref for PinnedElementMut<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0[0]
    }
}

impl<T: Far> DerefMut for PinnedElementMut<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0[0]
    }
}

impl<T: Far + fmt::Debug> fmt::Debug for PinnedElementMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Far> RemVec<T> {
    /// Holds element `index` locally without a scope, and with it its chunk: it does not move until the pin is dropped. `None` past the end. Waits for
    /// local memory if need be; pinned memory can't be evacuated, so pin little: see [`RemBox::pin`](crate::RemBox::pin).
    ///
    /// ```
    /// # use farptr::{FarMemory, RemVec};
    /// # let mem = FarMemory::builder().local_budget(2 << 20).build()?;
    /// let mut vec = RemVec::new_in(&mem);
    /// vec.extend(0..1_000_000u64);
    /// let (first, last) = (vec.pin(0).unwrap(), vec.pin(999_999).unwrap());
    /// assert_eq!(*last - *first, 999_999);
    /// # Ok::<(), farptr::Error>(())
    /// ```
    ///
    /// # Panics
    /// If it can't be had: see [`try_pin`](RemVec::try_pin).
    #[track_caller]
    pub fn pin(&self, index: usize) -> Option<PinnedElement<'_, T>> {
        ok(self.try_pin(index))
    }

    /// Holds element `index` locally without a scope; `None` past the end.
    ///
    /// # Errors
    /// As [`try_with`](RemVec::try_with).
    pub fn try_pin(&self, index: usize) -> Result<Option<PinnedElement<'_, T>>> {
        Ok(self.pin_range(index, index.saturating_add(1))?.map(PinnedElement))
    }

    /// Holds element `index` locally without a scope, for writing; `None` past the end.
    ///
    /// # Panics
    /// If it can't be had: see [`try_pin_mut`](RemVec::try_pin_mut).
    #[track_caller]
    pub fn pin_mut(&mut self, index: usize) -> Option<PinnedElementMut<'_, T>> {
        ok(self.try_pin_mut(index))
    }

    /// Holds element `index` locally without a scope, for writing; `None` past the end.
    ///
    /// # Errors
    /// As [`try_with`](RemVec::try_with).
    pub fn try_pin_mut(&mut self, index: usize) -> Result<Option<PinnedElementMut<'_, T>>> {
        Ok(self.pin_range_mut(index, index.saturating_add(1))?.map(PinnedElementMut))
    }

    /// As [`try_pin`](RemVec::try_pin), without blocking the thread: while the chunk is on its way, the executor runs other tasks. Works on any executor.
    ///
    /// # Errors
    /// As [`try_with`](RemVec::try_with).
    pub async fn pin_async(&self, index: usize) -> Result<Option<PinnedElement<'_, T>>> {
        Ok(self.pin_range_async(index, index.saturating_add(1)).await?.map(PinnedElement))
    }

    /// As [`try_pin_mut`](RemVec::try_pin_mut), without blocking the thread.
    ///
    /// # Errors
    /// As [`try_with`](RemVec::try_with).
    pub async fn pin_mut_async(&mut self, index: usize) -> Result<Option<PinnedElementMut<'_, T>>> {
        let (chunk, range) = self.stretch(index, index.saturating_add(1));
        if range.is_empty() {
            return Ok(None);
        }
        let chunk = self.chunks.chunk(chunk);
        // SAFETY: `&mut self` is borrowed as long as the future and the pin.
        let chunk = unsafe {
            chunk.pin_mut_async().await?;
            PinnedMut::new(chunk)
        };
        Ok(Some(PinnedElementMut(PinnedSliceMut { chunk, range })))
    }

    /// Holds the elements from `index` to the end of its chunk (or of the vector) locally without a scope; `None` past the end.
    ///
    /// # Panics
    /// If the chunk can't be had: see [`try_pin_slice_at`](RemVec::try_pin_slice_at).
    #[track_caller]
    pub fn pin_slice_at(&self, index: usize) -> Option<PinnedSlice<'_, T>> {
        ok(self.try_pin_slice_at(index))
    }

    /// Holds the elements from `index` to the end of its chunk (or of the vector) locally without a scope; `None` past the end.
    ///
    /// # Errors
    /// As [`try_with`](RemVec::try_with).
    pub fn try_pin_slice_at(&self, index: usize) -> Result<Option<PinnedSlice<'_, T>>> {
        self.pin_range(index, self.len)
    }

    /// As [`pin_slice_at`](RemVec::pin_slice_at), for writing.
    ///
    /// # Panics
    /// If the chunk can't be had: see [`try_pin_slice_at_mut`](RemVec::try_pin_slice_at_mut).
    #[track_caller]
    pub fn pin_slice_at_mut(&mut self, index: usize) -> Option<PinnedSliceMut<'_, T>> {
        ok(self.try_pin_slice_at_mut(index))
    }

    /// As [`try_pin_slice_at`](RemVec::try_pin_slice_at), for writing.
    ///
    /// # Errors
    /// As [`try_with`](RemVec::try_with).
    pub fn try_pin_slice_at_mut(&mut self, index: usize) -> Result<Option<PinnedSliceMut<'_, T>>> {
        let end = self.len;
        self.pin_range_mut(index, end)
    }

    /// As [`try_pin_slice_at`](RemVec::try_pin_slice_at), without blocking the thread.
    ///
    /// # Errors
    /// As [`try_with`](RemVec::try_with).
    pub async fn pin_slice_at_async(&self, index: usize) -> Result<Option<PinnedSlice<'_, T>>> {
        self.pin_range_async(index, self.len).await
    }

    /// The part of `index..end` that lies in one chunk, pinned; `None` if there is none.
    pub(super) fn pin_range(&self, index: usize, end: usize) -> Result<Option<PinnedSlice<'_, T>>> {
        let (chunk, range) = self.stretch(index, end);
        if range.is_empty() {
            return Ok(None);
        }
        let chunk = self.chunks.chunk(chunk);
        chunk.pin()?;
        // SAFETY: pinned just now; `&self` is borrowed as long as the pin.
        let chunk = unsafe { Pinned::new(chunk) };
        Ok(Some(PinnedSlice { chunk, range }))
    }

    /// As `pin_range`, for writing.
    pub(super) fn pin_range_mut(&mut self, index: usize, end: usize) -> Result<Option<PinnedSliceMut<'_, T>>> {
        let (chunk, range) = self.stretch(index, end);
        if range.is_empty() {
            return Ok(None);
        }
        let chunk = self.chunks.chunk(chunk);
        // SAFETY: `&mut self` is borrowed as long as the pin.
        let chunk = unsafe {
            chunk.pin_mut()?;
            PinnedMut::new(chunk)
        };
        Ok(Some(PinnedSliceMut { chunk, range }))
    }

    async fn pin_range_async(&self, index: usize, end: usize) -> Result<Option<PinnedSlice<'_, T>>> {
        let (chunk, range) = self.stretch(index, end);
        if range.is_empty() {
            return Ok(None);
        }
        let chunk = self.chunks.chunk(chunk);
        chunk.pin_async().await?;
        // SAFETY: pinned just now; `&self` is borrowed as long as the future and the pin.
        let chunk = unsafe { Pinned::new(chunk) };
        Ok(Some(PinnedSlice { chunk, range }))
    }
}
