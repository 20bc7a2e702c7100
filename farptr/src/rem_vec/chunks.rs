//! The chunks of a vector: room for elements, initialised or not.

use crate::object::{self, Handle};
use crate::{Far, Scope};
use farptr_runtime::memory::Memory;
use farptr_runtime::word::Slot;
use farptr_runtime::{Error, Result};
use std::alloc::Layout;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;

/// Bytes of a full chunk unless the caller says otherwise: at 16 KiB the fixed cost of a miss (0.3-0.5 us) is a quarter of the copying.
pub(super) const CHUNK_BYTES: usize = 16 << 10;

/// A chunk takes at most this part of a segment of the local log, or segments would be left half empty.
const SEGMENT_SHARE: usize = 7;

/// Slots that the first table has room for.
const FIRST_TABLE: usize = 4;

/// Elements of the first chunk when it is made.
const FIRST_ELEMENTS: usize = 4;

/// The object of a chunk. Its elements are initialised as far as the vector's length says.
pub(super) type Chunk<T> = Handle<[MaybeUninit<T>]>;

/// A vector's chunks. Drops no element.
pub(super) struct Chunks<T: Far> {
    memory: Arc<Memory>,
    /// Charged to the budget by capacity.
    slots: Vec<NonNull<Slot>>,
    charged: usize,
    /// Log2 of the elements in a full chunk.
    shift: u32,
    /// Elements the first chunk has room for; the others have room for `1 << shift`.
    first: usize,
    _elements: std::marker::PhantomData<T>,
}

impl<T: Far> Chunks<T> {
    pub(super) fn new(memory: Arc<Memory>, chunk_bytes: usize) -> Self {
        let most = chunk_bytes.min(memory.heap().segment_bytes() / SEGMENT_SHARE);
        let elements = most.checked_div(size_of::<T>()).unwrap_or(usize::MAX >> 1).max(1);
        Chunks { memory, slots: Vec::new(), charged: 0, shift: elements.ilog2(), first: 0, _elements: std::marker::PhantomData }
    }

    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Elements in a full chunk.
    pub(super) fn per_chunk(&self) -> usize {
        1 << self.shift
    }

    /// Chunk and place in it of element `index`.
    #[inline(always)]
    pub(super) fn split(&self, index: usize) -> (usize, usize) {
        (index >> self.shift, index & ((1 << self.shift) - 1))
    }

    /// Elements there is room for.
    pub(super) fn capacity(&self) -> usize {
        match self.slots.len() {
            0 => 0,
            // Of nothings there is room for more than can be counted.
            chunks => self.first.saturating_add((chunks - 1).saturating_mul(self.per_chunk())),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Chunk number `chunk`, which exists.
    #[inline(always)]
    pub(super) fn chunk(&self, chunk: usize) -> Chunk<T> {
        let room = if chunk == 0 { self.first } else { self.per_chunk() };
        // SAFETY: the slot was made by `make` with this much room and is in use until `pop_chunk` or `drop`; `MaybeUninit` needs no value.
        unsafe { Handle::new(self.slots[chunk], room) }
    }

    /// The address of element `index`, for reading.
    ///
    /// # Safety
    /// `index` is below the vector's length; the vector is borrowed, shared, as long as what is made of the address.
    #[inline(always)]
    pub(super) unsafe fn element(&self, index: usize, scope: &Scope) -> Result<*const T> {
        let (chunk, at) = self.split(index);
        // SAFETY: elements below the length have a chunk.
        let slot = unsafe { *self.slots.get_unchecked(chunk) };
        // SAFETY: passed on; the element lies in the chunk's object.
        unsafe { Ok(Chunk::<T>::start(slot, scope, || self.chunk(chunk))?.cast::<T>().add(at)) }
    }

    /// The address of element `index`, for writing.
    ///
    /// # Safety
    /// As for `element`, and the borrow is exclusive.
    #[inline(always)]
    pub(super) unsafe fn element_mut(&mut self, index: usize, scope: &Scope) -> Result<*mut T> {
        let (chunk, at) = self.split(index);
        // SAFETY: elements below the length have a chunk.
        let slot = unsafe { *self.slots.get_unchecked(chunk) };
        // SAFETY: passed on; the element lies in the chunk's object.
        unsafe { Ok(Chunk::<T>::start_mut(slot, scope, || self.chunk(chunk))?.cast::<T>().add(at)) }
    }

    fn layout(room: usize) -> Result<Layout> {
        Layout::array::<T>(room).map_err(|_| Error::CapacityOverflow {
            what: "a RemVec",
            asked: room as u64,
            limit: isize::MAX as u64,
        })
    }

    /// Makes room for at least one element more than `len`, of which all but the last chunk's are full.
    pub(super) fn grow(&mut self, len: usize) -> Result<()> {
        if len < self.capacity() {
            return Ok(());
        }
        // Nothings take no memory, so they can run out of numbers only.
        if len == usize::MAX {
            return Err(Error::CapacityOverflow { what: "a RemVec", asked: u64::MAX, limit: usize::MAX as u64 });
        }
        if self.slots.len() == 1 && self.first < self.per_chunk() {
            return self.grow_first((self.first * 2).min(self.per_chunk()));
        }
        let room = if self.slots.is_empty() { FIRST_ELEMENTS.min(self.per_chunk()) } else { self.per_chunk() };
        self.add_chunk(room)
    }

    /// Makes room for `capacity` elements in all, or gives back what it has made.
    pub(super) fn reserve(&mut self, capacity: usize) -> Result<()> {
        Self::layout(capacity)?;
        let before = self.slots.len();
        self.make_room(capacity).inspect_err(|_| self.keep(before))
    }

    fn make_room(&mut self, capacity: usize) -> Result<()> {
        self.charge(capacity.div_ceil(self.per_chunk()))?;
        if self.slots.len() <= 1 && capacity > self.first && self.first < self.per_chunk() {
            let room = capacity.min(self.per_chunk());
            if self.slots.is_empty() { self.add_chunk(room)? } else { self.grow_first(room)? }
        }
        while self.capacity() < capacity {
            self.add_chunk(self.per_chunk())?;
        }
        Ok(())
    }

    fn add_chunk(&mut self, room: usize) -> Result<()> {
        if self.slots.len() == self.slots.capacity() {
            self.charge((self.slots.len() * 2).max(FIRST_TABLE))?;
        }
        if !self.slots.is_empty() {
            // Filling the chunk was one use, however many writes it took.
            self.chunk(self.slots.len() - 1).cool();
        }
        let slot = object::create_with(&self.memory, Self::layout(room)?, |_| ())?;
        if self.slots.is_empty() {
            self.first = room;
        }
        self.slots.push(slot);
        Ok(())
    }

    /// Makes room for `chunks` slots in the table.
    fn charge(&mut self, chunks: usize) -> Result<()> {
        if chunks <= self.slots.capacity() {
            return Ok(());
        }
        let bytes = chunks.saturating_mul(size_of::<NonNull<Slot>>());
        // The old table exists until the elements have been copied.
        self.memory.charge_table(bytes)?;
        self.slots.reserve_exact(chunks - self.slots.len());
        self.memory.release_table(self.charged);
        self.charged = bytes;
        Ok(())
    }

    /// Copies the first chunk into a larger one.
    fn grow_first(&mut self, room: usize) -> Result<()> {
        let old = self.chunk(0);
        let slot = object::create_with(&self.memory, Self::layout(room)?, |_| ())?;
        // SAFETY: made just now with this much room.
        let new: Chunk<T> = unsafe { Handle::new(slot, room) };
        // SAFETY: both chunks belong to this vector, borrowed exclusively; the pins are given back below. The old elements' bytes are moved; the
        // old chunk is released without dropping any.
        let moved = unsafe {
            old.pin().and_then(|from| {
                let copied = new.pin_mut().map(|mut to| {
                    to.as_mut()[..old.meta].copy_from_slice_uninit(from.as_ref());
                    new.unpin();
                });
                old.unpin();
                copied
            })
        };
        if let Err(error) = moved {
            Self::discard(new);
            return Err(error);
        }
        self.slots[0] = slot;
        self.first = room;
        Self::discard(old);
        Ok(())
    }

    /// Gives a chunk's object and slot up. Drops no element.
    fn discard(chunk: Chunk<T>) {
        // SAFETY: the chunk is in no vector any more, and `MaybeUninit` has nothing to drop; the slot is vacant after `release`.
        unsafe {
            chunk.release();
            Memory::free_slot(chunk.slot);
        }
    }

    /// Moves the contents of the last chunk into ordinary memory, and gives the chunk up. Takes no local memory.
    ///
    /// # Errors
    /// If they can't be fetched; nothing has changed then.
    pub(super) fn take_last(&mut self) -> Result<Vec<MaybeUninit<T>>> {
        let chunk = self.chunk(self.slots.len() - 1);
        let mut contents: Vec<MaybeUninit<T>> = Vec::with_capacity(chunk.meta);
        // SAFETY: the chunk belongs to this vector, borrowed exclusively, and its slot is taken out of it below; the room fits the chunk's elements,
        // which need not be initialised.
        unsafe {
            chunk.take(contents.as_mut_ptr().cast())?;
            contents.set_len(chunk.meta);
        }
        self.slots.pop();
        if self.slots.is_empty() {
            self.first = 0;
        }
        // SAFETY: `take` has left the slot vacant, and it is in no vector any more.
        unsafe { Memory::free_slot(chunk.slot) };
        Ok(contents)
    }

    /// Gives up the chunks that hold none of the first `len` elements.
    pub(super) fn truncate(&mut self, len: usize) {
        self.keep(len.div_ceil(self.per_chunk()));
    }

    /// Gives up all chunks but the first `keep`.
    fn keep(&mut self, keep: usize) {
        while self.slots.len() > keep {
            let chunk = self.chunk(self.slots.len() - 1);
            self.slots.pop();
            Self::discard(chunk);
        }
        if self.slots.is_empty() {
            self.first = 0;
        }
    }
}

impl<T: Far> Drop for Chunks<T> {
    fn drop(&mut self) {
        if self.memory.leave_to_parent() {
            return;
        }
        self.truncate(0);
        self.memory.release_table(self.charged);
    }
}

/// `copy_from_slice` for elements that may not be initialised.
trait CopyUninit {
    fn copy_from_slice_uninit(&mut self, from: &Self);
}

impl<T> CopyUninit for [MaybeUninit<T>] {
    fn copy_from_slice_uninit(&mut self, from: &Self) {
        assert_eq!(self.len(), from.len());
        // SAFETY: of one length, and one is borrowed exclusively, so they do not overlap; bytes of `MaybeUninit` may be copied.
        unsafe { self.as_mut_ptr().copy_from_nonoverlapping(from.as_ptr(), from.len()) };
    }
}
