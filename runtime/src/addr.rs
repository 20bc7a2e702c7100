//! Names of places: nothing here is a bare integer.
#![forbid(unsafe_code)]

use std::fmt;

/// Address of an object's contents in the local heap: never zero, a multiple of 16, below 2^48.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectAddr(u64);

impl ObjectAddr {
    /// Checks what the metadata word relies on.
    ///
    /// # Panics
    /// If `addr` is zero, not a multiple of 16 or does not fit 48 bits (no Linux user address does otherwise unless asked for).
    #[inline]
    pub fn new(addr: usize) -> Self {
        assert!(
            addr != 0 && addr.is_multiple_of(16) && (addr as u64) >> 48 == 0,
            "object address {addr:#x} fits the metadata word"
        );
        ObjectAddr(addr as u64)
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        ObjectAddr(bits)
    }

    /// The address as an integer.
    #[inline]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for ObjectAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{:#x}", self.0)
    }
}

/// Number of a slot in its memory's slot table. Zero names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub u32);

impl SlotId {
    /// No slot.
    pub const NONE: SlotId = SlotId(0);
}

/// Number of a far segment: 18 bits of slab number (the borrower's own), 8 bits of segment in the slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FarSegmentId(pub u32);

/// Bytes of a far segment: what one write-back may send at once. Small enough that a partly dead one is cleaned cheaply, large
/// enough that its per-write cost vanishes (0.3 us a syscall against 20 us of copying).
pub const FAR_SEGMENT_BYTES: usize = 256 << 10;

/// Granularity of far addresses in bytes, and alignment of far objects.
pub const FAR_UNIT: usize = 16;

/// Most far segments a slab may have, by the bits of [`FarSegmentId`]: slabs of up to 64 MiB.
pub const MAX_SEGMENTS_PER_SLAB: usize = 256;

/// Most slabs one far memory may borrow, by the bits of [`FarSegmentId`].
pub const MAX_SLABS: usize = 1 << 18;

impl FarSegmentId {
    /// The far segment `index` of slab number `slab`.
    pub fn new(slab: usize, index: usize) -> Self {
        debug_assert!(slab < MAX_SLABS && index < MAX_SEGMENTS_PER_SLAB);
        FarSegmentId((slab * MAX_SEGMENTS_PER_SLAB + index) as u32)
    }

    /// The borrower's number of its slab.
    pub fn slab(self) -> usize {
        self.0 as usize / MAX_SEGMENTS_PER_SLAB
    }

    /// Its index in the slab.
    pub fn index(self) -> usize {
        self.0 as usize % MAX_SEGMENTS_PER_SLAB
    }
}

/// Where an object's far copy starts: a far segment and an offset in it, in units of 16 bytes; 40 bits in all (16 TiB).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FarAddr(u64);

const UNITS_PER_SEGMENT: u64 = (FAR_SEGMENT_BYTES / FAR_UNIT) as u64;

impl FarAddr {
    /// Bits a far address takes.
    pub const BITS: u32 = 40;

    /// The place `offset` bytes into `segment`; `offset` is a multiple of [`FAR_UNIT`].
    pub fn new(segment: FarSegmentId, offset: usize) -> Self {
        debug_assert!(offset < FAR_SEGMENT_BYTES && offset.is_multiple_of(FAR_UNIT));
        FarAddr(u64::from(segment.0) * UNITS_PER_SEGMENT + (offset / FAR_UNIT) as u64)
    }

    /// Its far segment.
    pub fn segment(self) -> FarSegmentId {
        FarSegmentId((self.0 / UNITS_PER_SEGMENT) as u32)
    }

    /// Its byte offset in the far segment.
    pub fn offset(self) -> usize {
        (self.0 % UNITS_PER_SEGMENT) as usize * FAR_UNIT
    }

    /// The 40 bits.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// From 40 bits.
    pub const fn from_bits(bits: u64) -> Self {
        FarAddr(bits & ((1 << Self::BITS) - 1))
    }
}

impl fmt::Debug for FarAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "far {}+{:#x}", self.segment().0, self.offset())
    }
}

/// Number of a large object's entry in the table of large far objects; 40 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LargeId(pub u64);
