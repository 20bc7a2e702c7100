//! The header in front of every local object.

use crate::addr::{ObjectAddr, SlotId};
use std::alloc::Layout;

/// Bytes of a header; also the granularity of the local log.
pub const HEADER_BYTES: usize = 16;

/// Largest size of an object that is not a large one, however long the segments are: a far copy in one piece must fit a far segment and one
/// operation, and four to a far segment leave less than a quarter of it empty.
pub const MAX_SMALL: usize = crate::addr::FAR_SEGMENT_BYTES / 4 - HEADER_BYTES;

const _: () = assert!(MAX_SMALL < 1 << 24, "a header holds the size in 24 bits");

const SIZE_SHIFT: u32 = 32;
const ALIGN_SHIFT: u32 = 56;

/// What the evacuator must know of an object. Lies 16 bytes before the contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct ObjectHeader {
    tag: u64,
    far: u64,
}

const _: () = assert!(size_of::<ObjectHeader>() == HEADER_BYTES);

impl ObjectHeader {
    /// Header of an object of `slot`. `far` is the raw far address or large id it was fetched from, or zero.
    pub fn new(slot: SlotId, layout: Layout, far: u64) -> Self {
        debug_assert!(layout.size() <= MAX_SMALL && layout.align() <= 1 << 15);
        let align = u64::from(layout.align().trailing_zeros());
        ObjectHeader { tag: u64::from(slot.0) | (layout.size() as u64) << SIZE_SHIFT | align << ALIGN_SHIFT, far }
    }

    /// Header of a gap of `bytes` bytes, itself included.
    pub fn filler(bytes: usize) -> Self {
        ObjectHeader { tag: ((bytes - HEADER_BYTES) as u64) << SIZE_SHIFT, far: 0 }
    }

    /// The header of the object whose contents start at `addr`.
    ///
    /// # Safety
    /// A header has been written there, by this thread or by one whose write this thread has synchronised with, the memory is mapped, and
    /// nobody writes it now.
    #[inline]
    pub unsafe fn read(addr: ObjectAddr) -> ObjectHeader {
        // SAFETY: by contract; object addresses are multiples of 16, so are their headers'.
        unsafe { ((addr.get() - HEADER_BYTES) as *const ObjectHeader).read() }
    }

    /// Writes the header of the object whose contents start at `addr`.
    ///
    /// # Safety
    /// The 16 bytes in front of `addr` are mapped and the caller's alone.
    #[inline]
    pub unsafe fn write(self, addr: ObjectAddr) {
        // SAFETY: by contract; aligned as in `read`.
        unsafe { ((addr.get() - HEADER_BYTES) as *mut ObjectHeader).write(self) };
    }

    /// The object's slot; `NONE` for a gap.
    #[inline]
    pub fn slot(&self) -> SlotId {
        SlotId(self.tag as u32)
    }

    /// Bytes of the contents.
    #[inline]
    pub fn size(&self) -> usize {
        (self.tag >> SIZE_SHIFT & 0xff_ffff) as usize
    }

    /// Size and alignment of the contents; of a large object the size is not here.
    pub fn layout(&self) -> Layout {
        let align = 1usize << (self.tag >> ALIGN_SHIFT & 0xf);
        Layout::from_size_align(self.size(), align).expect("a header was made from a layout")
    }

    /// The far copy the object was fetched from, as raw bits.
    #[inline]
    pub fn far(&self) -> u64 {
        self.far
    }
}
