//! Segments of the local log, and walking the objects in one.

use super::header::{HEADER_BYTES, ObjectHeader};
use crate::ablations::Policy;
use crate::addr::ObjectAddr;
use crate::poison;
use crate::sys::prefetch_line;
use std::alloc::Layout;

/// Number of a segment in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub u32);

/// The queue a segment's objects were admitted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueueKind {
    /// Fetched under a non-temporal hint: leaves first.
    Transient,
    /// New, or fetched after a long absence.
    Young,
    /// Survived the young queue, or came back soon after it left.
    Main,
}

impl QueueKind {
    /// That of what survives, or comes back soon. Where there is one queue only, it is the young one.
    pub fn of_survivors(policy: Policy) -> Self {
        match policy {
            Policy::S3Fifo => QueueKind::Main,
            Policy::Clock | Policy::ArrivalOrder => QueueKind::Young,
        }
    }
}

/// A segment that takes no more objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedSegment {
    /// Which.
    pub id: SegmentId,
    /// Bytes from its start that hold objects.
    pub used: usize,
    /// Where its objects were admitted.
    pub kind: QueueKind,
    /// Readers may hold references to places in it that objects were relocated from; cleared by the next grace period.
    pub referred: bool,
}

/// A run of bytes in a segment that one head fills.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) id: SegmentId,
    pub(super) base: usize,
    pub(super) cursor: usize,
    pub(super) end: usize,
}

/// Where an object of `layout` would lie if the log's cursor is at `cursor`: address of the contents, and end of the object.
pub(super) fn place(cursor: usize, layout: Layout) -> (usize, usize) {
    let contents = (cursor + HEADER_BYTES).next_multiple_of(layout.align().max(HEADER_BYTES));
    (contents, (contents + layout.size()).next_multiple_of(HEADER_BYTES))
}

impl Open {
    /// Takes room for an object. Its header is not written yet. `None` if it does not fit.
    pub(super) fn bump(&mut self, layout: Layout) -> Option<ObjectAddr> {
        let (contents, end) = place(self.cursor, layout);
        if end > self.end {
            return None;
        }
        // SAFETY: `cursor..end` lies in the open segment, of which this head is the only writer; nobody has been told of these bytes.
        unsafe { poison::handed_out(self.cursor, end - self.cursor) };
        let gap = contents - HEADER_BYTES - self.cursor;
        if gap > 0 {
            // SAFETY: `cursor..contents - 16` lies in the open segment, of which this head is the only writer, is a multiple of
            // 16 long and not empty, so a header fits; nobody has been told of these bytes.
            unsafe { ObjectHeader::filler(gap).write(ObjectAddr::new(self.cursor + HEADER_BYTES)) };
        }
        self.cursor = end;
        Some(ObjectAddr::new(contents))
    }
}

/// How many objects ahead headers are prefetched, as if they were all as large as this one: each is found by the one before, and in a segment of large
/// ones each is a miss of its own.
const HEADERS_AHEAD: usize = 8;

/// The objects of a sealed segment, in order of allocation; gaps are left out.
#[derive(Debug)]
pub struct Objects {
    next: usize,
    end: usize,
}

impl Objects {
    /// # Safety
    /// `base..base + used` is a sealed segment without busy objects that is not freed while the iterator is used.
    pub(super) unsafe fn new(base: usize, used: usize) -> Self {
        Objects { next: base, end: base + used }
    }
}

impl Iterator for Objects {
    type Item = (ObjectAddr, ObjectHeader);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        while self.next < self.end {
            let addr = ObjectAddr::new(self.next + HEADER_BYTES);
            // SAFETY: by the contract of `new` nothing in the segment is busy: it is a gapless row of settled headers with their
            // contents, up to `end`.
            let header = unsafe { ObjectHeader::read(addr) };
            let next = (addr.get() + header.size()).next_multiple_of(HEADER_BYTES);
            prefetch_line(next + (next - self.next) * HEADERS_AHEAD);
            self.next = next;
            if header.slot() != crate::addr::SlotId::NONE {
                return Some((addr, header));
            }
        }
        None
    }
}
