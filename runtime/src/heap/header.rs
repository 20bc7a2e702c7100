//! The header in front of every local object.

use crate::addr::{ObjectAddr, SlotId};
use crate::sync::Ordering;
use std::alloc::Layout;
use std::sync::atomic::AtomicU64;

/// Bytes of a header; also the granularity of the local log.
pub const HEADER_BYTES: usize = 16;

/// Largest size the header can hold. Larger objects are always large objects, whose size is kept elsewhere.
pub const MAX_SMALL: usize = (1 << 24) - 1;

const SIZE_SHIFT: u32 = 32;
const ALIGN_SHIFT: u32 = 56;
const BUSY: u64 = 1 << 60;
const FILLER: u64 = 1 << 61;

/// What the evacuator must know of an object. Lies 16 bytes before the contents.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct ObjectHeader {
    tag: AtomicU64,
    far: AtomicU64,
}

const _: () = assert!(size_of::<ObjectHeader>() == HEADER_BYTES);

impl ObjectHeader {
    /// Header of a new object: busy. `far` is the raw far address or large id it was fetched from, or zero.
    pub fn busy(slot: SlotId, layout: Layout, far: u64) -> Self {
        debug_assert!(layout.size() <= MAX_SMALL && layout.align() <= 1 << 15);
        let align = u64::from(layout.align().trailing_zeros());
        let tag = u64::from(slot.0) | (layout.size() as u64) << SIZE_SHIFT | align << ALIGN_SHIFT | BUSY;
        ObjectHeader { tag: AtomicU64::new(tag), far: AtomicU64::new(far) }
    }

    /// Header of a gap of `bytes` bytes, itself included.
    pub fn filler(bytes: usize) -> Self {
        let size = (bytes - HEADER_BYTES) as u64;
        ObjectHeader { tag: AtomicU64::new(size << SIZE_SHIFT | 4 << ALIGN_SHIFT | FILLER), far: AtomicU64::new(0) }
    }

    /// The header of the object whose contents start at `addr`.
    ///
    /// # Safety
    /// `addr` is that of an object whose memory is mapped and stays so while the reference is used.
    #[inline]
    pub unsafe fn of<'a>(addr: ObjectAddr) -> &'a ObjectHeader {
        // SAFETY: every object has a header written in front of it before its address becomes known; headers are atomics.
        unsafe { &*((addr.get() - HEADER_BYTES) as *const ObjectHeader) }
    }

    /// The object is filled and published, or given up. Release: partner of `is_busy`'s acquire.
    pub fn settle(&self) {
        self.tag.fetch_and(!BUSY, Ordering::Release);
    }

    /// Whether the allocator still works on the object.
    pub fn is_busy(&self) -> bool {
        self.tag.load(Ordering::Acquire) & BUSY != 0
    }

    /// The object's slot; `NONE` for a gap.
    #[inline]
    pub fn slot(&self) -> SlotId {
        SlotId(self.tag.load(Ordering::Relaxed) as u32)
    }

    /// Size and alignment of the contents; of a large object the size is not here.
    pub fn layout(&self) -> Layout {
        let tag = self.tag.load(Ordering::Relaxed);
        let (size, align) = (tag >> SIZE_SHIFT & 0xff_ffff, 1usize << (tag >> ALIGN_SHIFT & 0xf));
        Layout::from_size_align(size as usize, align).expect("a header was made from a layout")
    }

    /// The far copy the object was fetched from, as raw bits.
    pub fn far(&self) -> u64 {
        self.far.load(Ordering::Relaxed)
    }

    /// Names the far copy, while the object is busy.
    pub fn set_far(&self, far: u64) {
        debug_assert!(self.is_busy());
        self.far.store(far, Ordering::Relaxed);
    }
}
