//! The vector.

use super::chunks::{CHUNK_BYTES, Chunk, Chunks};
use crate::memory::FarMemory;
use crate::object::{Nests, Unpin};
use crate::{Far, Scope, ok};
use farptr_runtime::Result;
use farptr_runtime::memory::{Bypass, SHORT_SCAN};
use std::fmt;
use std::mem::MaybeUninit;
use std::ops::{Bound, Range, RangeBounds};

/// A growable array in far memory, as `Vec` is one on the heap.
///
/// Elements are swapped in by the chunk, whose bytes a reference to one element holds: up to 16 KiB, and up to a seventh of a 64th of the local budget (8 KiB at 4 MiB, 16 KiB from 8 MiB on).
/// So a scope with a share of 256 KiB surely holds 16 elements that lie apart: where reads are random, refresh it before each, or keep smaller chunks
/// ([`with_chunk_bytes_in`](RemVec::with_chunk_bytes_in)), or each element in a [`RemBox`](crate::RemBox). References borrow the vector and a [`Scope`]; slices cover what one chunk holds. Methods that panic on
/// failure have a `try_` twin.
///
/// ```
/// use farptr::{FarMemory, RemVec};
///
/// let mem = FarMemory::builder().local_budget(2 << 20).build()?;
/// let mut squares = RemVec::new_in(&mem);
/// for i in 0..1_000_000u64 {
///     squares.push(i * i); // 8 MB, with 2 MiB local
/// }
/// let mut sum = 0u64;
/// squares.for_each_slice(.., |_, slice| sum += slice.iter().sum::<u64>());
/// assert_eq!(sum, (0..1_000_000u64).map(|i| i * i).sum());
/// assert_eq!(*squares.get(999, &farptr::scope()).unwrap(), 998_001);
/// # Ok::<(), farptr::Error>(())
/// ```
pub struct RemVec<T: Far> {
    pub(super) chunks: Chunks<T>,
    pub(super) len: usize,
}

// SAFETY: a `RemVec<T>` owns its elements and hands out references by the rules of borrowing, like a `Vec<T>`; slots, heap and evacuator are
// made for any thread.
unsafe impl<T: Far + Send> Send for RemVec<T> {}
// SAFETY: as above; through `&RemVec<T>` one gets `&T` only.
unsafe impl<T: Far + Sync> Sync for RemVec<T> {}

impl<T: Far> RemVec<T> {
    /// An empty vector. Takes no memory yet.
    pub fn new_in(memory: &FarMemory) -> Self {
        Self::with_chunk_bytes_in(CHUNK_BYTES, memory)
    }

    /// An empty vector whose chunks take about `bytes` instead of 16 KiB (rounded down to a power of two of elements; at least one element; at most a
    /// seventh of a segment of the local heap, which is a 64th of the budget).
    pub fn with_chunk_bytes_in(bytes: usize, memory: &FarMemory) -> Self {
        RemVec { chunks: Chunks::new(memory.core().clone(), bytes), len: 0 }
    }

    /// How many elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Elements it can hold without taking more memory.
    pub fn capacity(&self) -> usize {
        self.chunks.capacity()
    }

    /// Most elements in a chunk: slices are at most this long.
    pub fn chunk_len(&self) -> usize {
        self.chunks.per_chunk()
    }

    /// Makes room for `additional` more elements. It holds until elements are removed.
    ///
    /// # Errors
    /// `CapacityOverflow` for more than `isize::MAX` bytes; `OutOfLocalMemory`, `ScopeExhausted`, and what write-back can meet. Chunks that were made
    /// before that are given back.
    pub fn try_reserve(&mut self, additional: usize) -> Result<()> {
        let capacity = self.len.checked_add(additional).ok_or(farptr_runtime::Error::CapacityOverflow {
            what: "a RemVec",
            asked: u64::MAX,
            limit: isize::MAX as u64,
        })?;
        self.chunks.reserve(capacity)
    }

    /// Makes room for `additional` more elements.
    ///
    /// # Panics
    /// If there is none: see [`try_reserve`](RemVec::try_reserve).
    #[track_caller]
    pub fn reserve(&mut self, additional: usize) {
        ok(self.try_reserve(additional));
    }

    /// Appends an element.
    ///
    /// # Panics
    /// If there is no memory: see [`try_push`](RemVec::try_push).
    #[inline]
    #[track_caller]
    pub fn push(&mut self, value: T) {
        if let Err(error) = self.try_push(value) {
            crate::failed(&error);
        }
    }

    /// Appends an element.
    ///
    /// # Errors
    /// `OutOfLocalMemory`, `ScopeExhausted`, `FarMemoryFull`, and what a swap-in can meet. The vector is as it was, and `value` has been dropped.
    #[inline]
    pub fn try_push(&mut self, value: T) -> Result<()> {
        if self.len == self.chunks.capacity() {
            self.chunks.grow(self.len)?;
        }
        let (chunk, at) = self.chunks.split(self.len);
        let chunk = self.chunks.chunk(chunk);
        // SAFETY: the vector is borrowed exclusively during the call. No code of the user's runs in it, so a scope does, whatever the elements own.
        unsafe {
            chunk.with_mut(Nests::Nothing, |slice| {
                slice[at].write(value);
            })?;
        }
        self.len += 1;
        Ok(())
    }

    /// Removes the last element. When a chunk has lost its last one, it and those behind it are given back: unlike that of `Vec`, the capacity
    /// shrinks, but for the first chunk.
    ///
    /// # Panics
    /// If it can't be fetched: see [`try_pop`](RemVec::try_pop).
    #[track_caller]
    pub fn pop(&mut self) -> Option<T> {
        ok(self.try_pop())
    }

    /// Removes the last element.
    ///
    /// # Errors
    /// What a swap-in can meet. The vector is as it was.
    pub fn try_pop(&mut self) -> Result<Option<T>> {
        let Some(last) = self.len.checked_sub(1) else { return Ok(None) };
        let (chunk, at) = self.chunks.split(last);
        let chunk = self.chunks.chunk(chunk);
        // SAFETY: borrowed exclusively; element `last` is initialised, is moved out here and, by the new length, never touched again. A scope will do, as
        // in `try_push`.
        let value = unsafe { chunk.with(Nests::Nothing, |slice| slice[at].assume_init_read())? };
        self.len = last;
        // Kept while it is the only one, as `Vec` keeps its capacity; a vector that shrinks for good gives its chunks back.
        if at == 0 && last > 0 {
            self.chunks.truncate(last);
        }
        Ok(Some(value))
    }

    /// A reference to element `index`; `None` past the end.
    ///
    /// # Panics
    /// If the element can't be had: see [`try_get`](RemVec::try_get).
    #[inline]
    #[track_caller]
    pub fn get<'a>(&'a self, index: usize, scope: &'a Scope) -> Option<&'a T> {
        match self.try_get(index, scope) {
            Ok(element) => element,
            Err(error) => crate::failed(&error),
        }
    }

    /// A reference to element `index`; `None` past the end.
    ///
    /// # Errors
    /// `ScopeExhausted` if the scope's references hold too much of the local budget; `Transport` and `Corrupt` if the chunk can't be
    /// fetched.
    #[inline]
    pub fn try_get<'a>(&'a self, index: usize, scope: &'a Scope) -> Result<Option<&'a T>> {
        if index >= self.len {
            return Ok(None);
        }
        // SAFETY: `&self` is borrowed for `'a`; elements below the length are initialised.
        Ok(Some(unsafe { &*self.chunks.element(index, scope)? }))
    }

    /// A reference for writing to element `index`; `None` past the end.
    ///
    /// # Panics
    /// If the element can't be had: see [`try_get_mut`](RemVec::try_get_mut).
    #[inline]
    #[track_caller]
    pub fn get_mut<'a>(&'a mut self, index: usize, scope: &'a Scope) -> Option<&'a mut T> {
        match self.try_get_mut(index, scope) {
            Ok(element) => element,
            Err(error) => crate::failed(&error),
        }
    }

    /// A reference for writing to element `index`; `None` past the end.
    ///
    /// # Errors
    /// As [`try_get`](RemVec::try_get).
    #[inline]
    pub fn try_get_mut<'a>(&'a mut self, index: usize, scope: &'a Scope) -> Result<Option<&'a mut T>> {
        if index >= self.len {
            return Ok(None);
        }
        // SAFETY: `&mut self` is borrowed for `'a`; elements below the length are initialised.
        Ok(Some(unsafe { &mut *self.chunks.element_mut(index, scope)? }))
    }

    /// Calls `f` with element `index`, in a scope of its own; `None` past the end. Waits for local memory if need be. What `f` itself does in that scope can't wait: see
    /// [`RemBox::with`](crate::RemBox::with).
    ///
    /// # Panics
    /// If the element can't be had: see [`try_with`](RemVec::try_with).
    #[track_caller]
    pub fn with<R>(&self, index: usize, f: impl FnOnce(&T) -> R) -> Option<R> {
        ok(self.try_with(index, f))
    }

    /// Calls `f` with element `index`, in a scope of its own; `None` past the end. Waits for local memory if need be.
    ///
    /// A far chunk may be read without being swapped in, as by [`RemBox::try_with`](crate::RemBox::try_with).
    ///
    /// # Errors
    /// `OutOfLocalMemory` if none is freed in time; `Transport` and `Corrupt` if the chunk can't be fetched.
    pub fn try_with<R>(&self, index: usize, f: impl FnOnce(&T) -> R) -> Result<Option<R>> {
        if index >= self.len {
            return Ok(None);
        }
        let (chunk, at) = self.chunks.split(index);
        let chunk = self.chunks.chunk(chunk);
        // SAFETY: borrowed during the call; elements below the length are initialised.
        unsafe { chunk.look(Nests::of::<T>(), |slice| f(slice.get_unchecked(at).assume_init_ref())).map(Some) }
    }

    /// Calls `f` with element `index` for writing, in a scope of its own; `None` past the end. Waits for local memory if need be.
    ///
    /// # Panics
    /// If the element can't be had: see [`try_with_mut`](RemVec::try_with_mut).
    #[track_caller]
    pub fn with_mut<R>(&mut self, index: usize, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        ok(self.try_with_mut(index, f))
    }

    /// Calls `f` with element `index` for writing, in a scope of its own; `None` past the end. Waits for local memory if need be.
    ///
    /// # Errors
    /// As [`try_with`](RemVec::try_with).
    pub fn try_with_mut<R>(&mut self, index: usize, f: impl FnOnce(&mut T) -> R) -> Result<Option<R>> {
        if index >= self.len {
            return Ok(None);
        }
        let (chunk, at) = self.chunks.split(index);
        let chunk = self.chunks.chunk(chunk);
        // SAFETY: borrowed exclusively during the call; elements below the length are initialised.
        unsafe { chunk.with_mut(Nests::of::<T>(), |slice| f(slice.get_unchecked_mut(at).assume_init_mut())).map(Some) }
    }

    /// Calls `f` with element `index` once its chunk is local, without blocking the thread; `None` past the end. Works on any executor.
    ///
    /// # Errors
    /// As [`try_with`](RemVec::try_with).
    pub async fn with_async<R>(&self, index: usize, f: impl FnOnce(&T) -> R) -> Result<Option<R>> {
        if index >= self.len {
            return Ok(None);
        }
        let (chunk, at) = self.chunks.split(index);
        let chunk = self.chunks.chunk(chunk);
        // SAFETY: borrowed as long as the future; elements below the length are initialised.
        unsafe { chunk.with_async(Nests::of::<T>(), |slice| f(slice.get_unchecked(at).assume_init_ref())).await.map(Some) }
    }

    /// The elements from `index` to the end of its chunk (or of the vector); empty past the end.
    ///
    /// # Panics
    /// If the chunk can't be had: see [`try_slice_at`](RemVec::try_slice_at).
    #[track_caller]
    pub fn slice_at<'a>(&'a self, index: usize, scope: &'a Scope) -> &'a [T] {
        match self.try_slice_at(index, scope) {
            Ok(slice) => slice,
            Err(error) => crate::failed(&error),
        }
    }

    /// The elements from `index` to the end of its chunk (or of the vector); empty past the end.
    ///
    /// # Errors
    /// As [`try_get`](RemVec::try_get).
    pub fn try_slice_at<'a>(&'a self, index: usize, scope: &'a Scope) -> Result<&'a [T]> {
        let (chunk, range) = self.stretch(index, self.len);
        if range.is_empty() {
            return Ok(&[]);
        }
        // SAFETY: `&self` is borrowed for `'a`; the range lies in the chunk and below the length.
        Ok(unsafe { init(&self.chunks.chunk(chunk).get(scope)?[range]) })
    }

    /// As [`slice_at`](RemVec::slice_at), for writing.
    ///
    /// # Panics
    /// If the chunk can't be had: see [`try_slice_at_mut`](RemVec::try_slice_at_mut).
    #[track_caller]
    pub fn slice_at_mut<'a>(&'a mut self, index: usize, scope: &'a Scope) -> &'a mut [T] {
        match self.try_slice_at_mut(index, scope) {
            Ok(slice) => slice,
            Err(error) => crate::failed(&error),
        }
    }

    /// As [`try_slice_at`](RemVec::try_slice_at), for writing.
    ///
    /// # Errors
    /// As [`try_get`](RemVec::try_get).
    pub fn try_slice_at_mut<'a>(&'a mut self, index: usize, scope: &'a Scope) -> Result<&'a mut [T]> {
        let (chunk, range) = self.stretch(index, self.len);
        if range.is_empty() {
            return Ok(&mut []);
        }
        // SAFETY: `&mut self` is borrowed for `'a`; the range lies in the chunk and below the length.
        Ok(unsafe { init_mut(&mut self.chunks.chunk(chunk).get_mut(scope)?[range]) })
    }

    /// The part of `index..end` that lies in one chunk: the chunk, and the range in it.
    pub(super) fn stretch(&self, index: usize, end: usize) -> (usize, Range<usize>) {
        let end = end.min(self.len);
        if index >= end {
            return (0, 0..0);
        }
        let (chunk, at) = self.chunks.split(index);
        (chunk, at..(at + (end - index)).min(self.chunks.per_chunk()))
    }

    /// Calls `f` with the elements of `range`, slice by slice, and the index of each slice's first element: the fastest way through a long
    /// vector. Needs no scope, and holds none back: whatever `f` is given is valid until it returns.
    ///
    /// What a long range touches from its fifth chunk on is not expected to be used again soon: it does not become hot, and what is fetched there leaves first.
    /// When local memory is full, most of it is read past local memory: fetched into one buffer of a chunk's size (charged to the budget as long as
    /// the call lasts) and forgotten, so that the range takes nobody's place. One miss in 32 is swapped in (bimodal insertion, Qureshi et al., ISCA 2007): what
    /// is scanned again and again becomes local.
    ///
    /// # Panics
    /// If the range is out of bounds, or a chunk can't be had: see [`try_for_each_slice`](RemVec::try_for_each_slice).
    #[track_caller]
    pub fn for_each_slice(&self, range: impl RangeBounds<usize>, f: impl FnMut(usize, &[T])) {
        ok(self.try_for_each_slice(range, f));
    }

    /// As [`for_each_slice`](RemVec::for_each_slice).
    ///
    /// # Errors
    /// `OutOfLocalMemory`, `Transport`, `Corrupt`; `f` has seen the slices before that.
    ///
    /// # Panics
    /// If the range is out of bounds.
    #[track_caller]
    pub fn try_for_each_slice(&self, range: impl RangeBounds<usize>, mut f: impl FnMut(usize, &[T])) -> Result<()> {
        // Whatever the elements are: it may well fill another collection, and a pin for each chunk costs next to nothing.
        let nests = Nests::FarObjects;
        let mut bypass = Bypass::new(self.chunks.memory());
        for (number, (index, chunk, range)) in self.stretches(range).enumerate() {
            // SAFETY: the range lies in the chunk and below the length.
            let f = |slice: &[MaybeUninit<T>]| f(index, unsafe { init(&slice[range]) });
            // SAFETY: borrowed during the call.
            unsafe { if number < SHORT_SCAN { chunk.with(nests, f)? } else { chunk.scan_past(nests, &mut bypass, f)? } };
        }
        Ok(())
    }

    /// As [`for_each_slice`](RemVec::for_each_slice), for writing.
    ///
    /// # Panics
    /// If the range is out of bounds, or a chunk can't be had: see [`try_for_each_slice_mut`](RemVec::try_for_each_slice_mut).
    #[track_caller]
    pub fn for_each_slice_mut(&mut self, range: impl RangeBounds<usize>, f: impl FnMut(usize, &mut [T])) {
        ok(self.try_for_each_slice_mut(range, f));
    }

    /// As [`try_for_each_slice`](RemVec::try_for_each_slice), for writing.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// If the range is out of bounds.
    #[track_caller]
    pub fn try_for_each_slice_mut(&mut self, range: impl RangeBounds<usize>, mut f: impl FnMut(usize, &mut [T])) -> Result<()> {
        // Whatever the elements are: it may well fill another collection, and a pin for each chunk costs next to nothing.
        let nests = Nests::FarObjects;
        for (number, (index, chunk, range)) in self.stretches(range).enumerate() {
            // SAFETY: the range lies in the chunk and below the length.
            let f = |slice: &mut [MaybeUninit<T>]| f(index, unsafe { init_mut(&mut slice[range]) });
            // SAFETY: borrowed exclusively during the call.
            unsafe { if number < SHORT_SCAN { chunk.with_mut(nests, f)? } else { chunk.scan_mut(nests, f)? } };
        }
        Ok(())
    }

    /// The parts of `range` that lie in one chunk each: the index of the first element, the chunk, and the range in it.
    #[track_caller]
    fn stretches(&self, range: impl RangeBounds<usize>) -> impl Iterator<Item = (usize, Chunk<T>, Range<usize>)> {
        let Range { start: mut index, end } = self.bounds(range);
        std::iter::from_fn(move || {
            let (chunk, range) = self.stretch(index, end);
            let first = index;
            index += range.len();
            (!range.is_empty()).then(|| (first, self.chunks.chunk(chunk), range))
        })
    }

    #[track_caller]
    pub(super) fn bounds(&self, range: impl RangeBounds<usize>) -> Range<usize> {
        // Behind the last index that there can be, nothing is in bounds.
        let start = match range.start_bound() {
            Bound::Included(start) => Some(*start),
            Bound::Excluded(before) => before.checked_add(1),
            Bound::Unbounded => Some(0),
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.checked_add(1),
            Bound::Excluded(end) => Some(*end),
            Bound::Unbounded => Some(self.len),
        };
        match (start, end) {
            (Some(start), Some(end)) if start <= end && end <= self.len => start..end,
            _ => {
                panic!("range {:?} is out of bounds of a RemVec of length {}", (range.start_bound(), range.end_bound()), self.len)
            }
        }
    }

    /// Shortens the vector to `len` elements and drops the others, the last chunk's first. Nothing if it is not longer.
    ///
    /// Elements that need a drop and can't be fetched are leaked and counted in `Stats::lost_drops`.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        if !std::mem::needs_drop::<T>() {
            self.len = len;
            self.chunks.truncate(len);
            return;
        }
        struct Sweep<'a, T: Far> {
            vec: &'a mut RemVec<T>,
            len: usize,
        }
        impl<T: Far> Drop for Sweep<'_, T> {
            // If the `Drop` of an element has panicked, the others are dropped nevertheless, as those of a `Vec` are.
            fn drop(&mut self) {
                self.vec.drop_behind(self.len);
            }
        }
        Sweep { vec: self, len }.vec.drop_behind(len);
    }

    /// Drops the elements from `len` on, chunk by chunk. If the `Drop` of one panics, those of its chunk are gone, and the vector is valid.
    fn drop_behind(&mut self, len: usize) {
        while self.len > len {
            let (chunk, at) = self.chunks.split(self.len - 1);
            let first = at.saturating_sub(self.len - 1 - len);
            // Chunks without elements stand in the way of the last one that has some.
            self.chunks.truncate(self.len);
            let elements = first..at + 1;
            // The elements count as gone before any is dropped.
            self.len -= elements.len();
            let dropped = if first == 0 { self.drop_last_chunk(elements) } else { self.drop_in_chunk(chunk, elements) };
            if let Err(error) = dropped {
                tracing::error!(%error, "elements of a RemVec can't be fetched, so what they own is leaked");
                self.chunks.memory().count_lost_drop();
                self.chunks.truncate(self.len);
            }
        }
        self.chunks.truncate(self.len);
    }

    /// Drops `elements` of the last chunk, which are all that it has, and the chunk. Needs no local memory: it may be that there is none, for
    /// example in a scope that is exhausted.
    ///
    /// The elements are initialised and below the length no more.
    fn drop_last_chunk(&mut self, elements: Range<usize>) -> Result<()> {
        let mut contents = self.chunks.take_last()?;
        // SAFETY: initialised, moved out of the chunk, and by the new length never touched again.
        unsafe { std::ptr::drop_in_place(init_mut(&mut contents[elements])) };
        Ok(())
    }

    /// Drops `elements` of a chunk that goes on. They are initialised and below the length no more.
    fn drop_in_chunk(&mut self, chunk: usize, elements: Range<usize>) -> Result<()> {
        let chunk = self.chunks.chunk(chunk);
        // SAFETY: borrowed exclusively, until the pin is given back.
        let mut slice = unsafe { chunk.pin_mut()? };
        let _unpin = Unpin(chunk);
        // SAFETY: pinned for writing until the guard is dropped; initialised and, by the new length, never touched again.
        unsafe { std::ptr::drop_in_place(init_mut(&mut slice.as_mut()[elements])) };
        Ok(())
    }

    /// Drops all elements.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Removes element `index` by putting the last one in its place.
    ///
    /// # Errors
    /// What a swap-in can meet. The vector is as it was.
    ///
    /// # Panics
    /// If `index` is out of bounds.
    #[track_caller]
    pub fn try_swap_remove(&mut self, index: usize) -> Result<T> {
        assert!(index < self.len, "swap_remove index {index} is out of bounds of a RemVec of length {}", self.len);
        if index == self.len - 1 {
            return self.try_pop().map(|last| last.expect("the vector is not empty"));
        }
        // Made writable first, so that nothing can fail once the last element has been taken out.
        let (chunk, at) = self.chunks.split(index);
        let chunk = self.chunks.chunk(chunk);
        // SAFETY: borrowed exclusively; the pin is given back below.
        let mut pinned = unsafe { chunk.pin_mut()? };
        let last = self.try_pop();
        let removed = last.map(|last| {
            let last = last.expect("the vector is not empty");
            // SAFETY: pinned for writing; element `index` is still below the length, so initialised.
            std::mem::replace(unsafe { pinned.as_mut()[at].assume_init_mut() }, last)
        });
        chunk.unpin();
        removed
    }

    /// Removes element `index` by putting the last one in its place.
    ///
    /// # Panics
    /// If `index` is out of bounds, or a chunk can't be had.
    #[track_caller]
    pub fn swap_remove(&mut self, index: usize) -> T {
        ok(self.try_swap_remove(index))
    }

    /// Appends the elements of an iterator.
    ///
    /// # Errors
    /// As [`try_push`](RemVec::try_push); the elements before that one have been appended.
    pub fn try_extend(&mut self, elements: impl IntoIterator<Item = T>) -> Result<()> {
        elements.into_iter().try_for_each(|element| self.try_push(element))
    }
}

impl<T: Far + Copy> RemVec<T> {
    /// Appends copies of the elements of a slice, a chunk at a time.
    ///
    /// # Panics
    /// If there is no memory: see [`try_extend_from_slice`](RemVec::try_extend_from_slice).
    #[track_caller]
    pub fn extend_from_slice(&mut self, slice: &[T]) {
        ok(self.try_extend_from_slice(slice));
    }

    /// Appends copies of the elements of a slice, a chunk at a time.
    ///
    /// # Errors
    /// As [`try_push`](RemVec::try_push); some of the elements may have been appended, in order.
    pub fn try_extend_from_slice(&mut self, mut slice: &[T]) -> Result<()> {
        while !slice.is_empty() {
            if self.len == self.chunks.capacity() {
                if self.len < self.chunk_len() {
                    // The first chunk: as much as is needed in one step, but not less than doubling.
                    let wanted = (self.len + slice.len()).max(self.len * 2);
                    self.chunks.reserve(wanted.min(self.chunk_len()))?;
                } else {
                    self.chunks.grow(self.len)?;
                }
            }
            let (chunk, at) = self.chunks.split(self.len);
            let chunk = self.chunks.chunk(chunk);
            let count = slice.len().min(chunk.meta - at).min(usize::MAX - self.len);
            // SAFETY: borrowed exclusively during the call.
            unsafe {
                chunk.with_mut(Nests::Nothing, |to| {
                    for (to, from) in to[at..at + count].iter_mut().zip(slice) {
                        to.write(*from);
                    }
                })?;
            }
            self.len += count;
            slice = &slice[count..];
        }
        Ok(())
    }

    /// A copy of element `index`; `None` past the end.
    ///
    /// # Panics
    /// If the element can't be had.
    #[track_caller]
    pub fn get_copied(&self, index: usize) -> Option<T> {
        self.with(index, |element| *element)
    }
}

/// # Safety
/// All elements are initialised.
pub(super) unsafe fn init<T>(slice: &[MaybeUninit<T>]) -> &[T] {
    // SAFETY: by contract; `MaybeUninit<T>` has the layout of `T`.
    unsafe { &*(std::ptr::from_ref(slice) as *const [T]) }
}

/// # Safety
/// All elements are initialised.
pub(super) unsafe fn init_mut<T>(slice: &mut [MaybeUninit<T>]) -> &mut [T] {
    // SAFETY: by contract; `MaybeUninit<T>` has the layout of `T`.
    unsafe { &mut *(std::ptr::from_mut(slice) as *mut [T]) }
}

impl<T: Far> Extend<T> for RemVec<T> {
    /// # Panics
    /// If there is no memory: see [`RemVec::try_extend`].
    #[track_caller]
    fn extend<I: IntoIterator<Item = T>>(&mut self, elements: I) {
        ok(self.try_extend(elements));
    }
}

impl<T: Far> Drop for RemVec<T> {
    fn drop(&mut self) {
        if !self.chunks.memory().leave_to_parent() {
            self.truncate(0);
        }
    }
}

impl<T: Far> fmt::Debug for RemVec<T> {
    /// Does not fetch the elements.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemVec").field("len", &self.len).field("chunks", &self.chunks.len()).finish_non_exhaustive()
    }
}
