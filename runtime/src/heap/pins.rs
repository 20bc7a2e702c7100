//! Which segments hold pinned objects, and out of which a pin has moved one.
//!
//! The counts are hints. They decide where an object is pinned, and what an error says; nothing else depends on them. A count is changed after the word:
//! it goes up when an object's first pin has been taken, down when its last has been given up. A thread that is late with the latter may find that
//! its segment was freed meanwhile, and lower the count of the segment's next use; the count never goes below zero, and starts anew when the segment
//! is freed. So does a count that is too high because a pin was forgotten (`mem::forget`).
//!
//! The flags are no hints: see [`crate::word`], "Moves by a pin".
#![forbid(unsafe_code)]

use super::segment::SegmentId;
use crate::sync::{AtomicU64 as Flag, Ordering as FlagOrdering};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// This part of the heap's segments may hold pinned objects before objects are moved in order to be pinned: so much local memory may few pins keep from
/// others, and a program with few pins pays nothing.
const SHARE: usize = 16;

const NO_SEGMENT: u32 = u32::MAX;

/// Of all segments of a heap.
#[derive(Debug)]
pub struct SegmentPins {
    /// Pinned objects of each segment.
    counts: Box<[AtomicU32]>,
    /// Segments whose count is not zero.
    held: AtomicUsize,
    /// The open segment for pinned objects.
    head: AtomicU32,
    moved_out: MovedOut,
}

/// A flag for each segment: a pin has moved an object out of it, or is about to.
#[derive(Debug)]
pub(crate) struct MovedOut(Box<[Flag]>);

impl MovedOut {
    pub(crate) fn new(segments: usize) -> Self {
        MovedOut((0..segments).map(|_| Flag::new(0)).collect())
    }

    /// Before the CAS. Relaxed: the CAS, a release, orders it for whoever finds that the object has left.
    pub(crate) fn note(&self, segment: usize) {
        self.0[segment].store(1, FlagOrdering::Relaxed);
    }

    /// After the segment's objects have been found gone, by loads of their words, which are acquires: partners of the CAS.
    pub(crate) fn is_noted(&self, segment: usize) -> bool {
        self.0[segment].load(FlagOrdering::Relaxed) != 0
    }

    /// The segment is freed.
    fn clear(&self, segment: usize) {
        self.0[segment].store(0, FlagOrdering::Relaxed);
    }
}

impl SegmentPins {
    pub(super) fn new(segments: usize) -> Self {
        SegmentPins {
            counts: (0..segments).map(|_| AtomicU32::new(0)).collect(),
            held: AtomicUsize::new(0),
            head: AtomicU32::new(NO_SEGMENT),
            moved_out: MovedOut::new(segments),
        }
    }

    /// An object of the segment is pinned that was not.
    pub(super) fn add(&self, id: SegmentId) {
        if self.counts[id.0 as usize].fetch_add(1, Ordering::Relaxed) == 0 {
            self.held.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An object of the segment is not pinned any more.
    pub(super) fn remove(&self, id: SegmentId) {
        let count = &self.counts[id.0 as usize];
        if count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1)) == Ok(1) {
            self.held.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The segment is freed. Before anybody can open it.
    pub(super) fn reset(&self, id: SegmentId) {
        if self.counts[id.0 as usize].swap(0, Ordering::Relaxed) > 0 {
            self.held.fetch_sub(1, Ordering::Relaxed);
        }
        self.moved_out.clear(id.0 as usize);
    }

    /// The segment is filled with pinned objects from now on.
    pub(super) fn open_head(&self, id: SegmentId) {
        self.head.store(id.0, Ordering::Relaxed);
    }

    /// The segment is sealed. Whether it was being filled with pinned objects.
    pub(super) fn close_head(&self, id: SegmentId) -> bool {
        self.head.compare_exchange(id.0, NO_SEGMENT, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Segments that hold pinned objects.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether so many segments hold pinned objects that no other should.
    #[inline]
    pub fn are_strewn(&self) -> bool {
        self.held() > self.counts.len() / SHARE
    }

    /// Whether the segment holds a pinned object.
    pub fn holds_some(&self, id: SegmentId) -> bool {
        self.counts[id.0 as usize].load(Ordering::Relaxed) > 0
    }

    /// Whether a pin more in the segment keeps no other memory from being freed: it holds pinned objects, or is being filled with them.
    pub fn is_for_pins(&self, id: SegmentId) -> bool {
        self.holds_some(id) || self.head.load(Ordering::Relaxed) == id.0
    }

    /// A pin is about to move an object out of the segment.
    pub fn note_move_out_of(&self, id: SegmentId) {
        self.moved_out.note(id.0 as usize);
    }

    /// Whether a pin has moved an object out of the segment since it was opened.
    pub fn was_moved_out_of(&self, id: SegmentId) -> bool {
        self.moved_out.is_noted(id.0 as usize)
    }
}

#[cfg(all(test, not(farptr_loom)))]
mod tests {
    use super::*;
    use crate::budget::{Budget, Party};
    use crate::heap::{Heap, QueueKind, SealedSegment};
    use std::alloc::Layout;

    #[test]
    fn a_late_unpin_does_not_lower_the_count_of_a_segments_next_use_below_zero() {
        let pins = SegmentPins::new(2 * SHARE);
        (0..3).for_each(|id| pins.add(SegmentId(id)));
        assert!(pins.are_strewn() && pins.holds_some(SegmentId(0)));
        pins.note_move_out_of(SegmentId(0));
        pins.reset(SegmentId(0));
        assert!(!pins.was_moved_out_of(SegmentId(0)) && !pins.holds_some(SegmentId(0)));
        pins.remove(SegmentId(0));
        assert_eq!(pins.held(), 2);
        pins.add(SegmentId(0));
        assert_eq!(pins.held(), 3);
        (0..3).for_each(|id| pins.remove(SegmentId(id)));
        assert_eq!(pins.held(), 0);
    }

    #[test]
    fn the_head_is_for_pins_before_it_holds_any() {
        let pins = SegmentPins::new(2 * SHARE);
        assert!(!pins.is_for_pins(SegmentId(3)));
        pins.open_head(SegmentId(3));
        assert!(pins.is_for_pins(SegmentId(3)));
        assert!(!pins.close_head(SegmentId(2)) && pins.close_head(SegmentId(3)));
        assert!(!pins.is_for_pins(SegmentId(3)));
    }

    /// Everything is sealed now and then. A pin head for each of these times would be what pin heads are there to avoid.
    #[test]
    fn a_pin_head_that_was_sealed_is_filled_up_as_long_as_it_holds_pins() {
        let heap = Heap::new(4 << 20, 1, 2).unwrap();
        let budget = Budget::new(4 << 20, 2 * heap.segment_bytes());
        let alloc = || {
            let layout = Layout::new::<[u8; 100]>();
            let addr = heap.alloc(heap.pin_shard(), QueueKind::Main, layout, &budget, Party::Mutator).unwrap();
            // The evacuator does not walk the segment in this test, so it needs no header.
            heap.settle(addr);
            (addr, heap.segment_of(addr).unwrap())
        };
        let (first, head) = alloc();
        heap.pinned(first);
        heap.seal_all();
        assert_eq!(heap.sealed(QueueKind::Main), 1);
        let (second, again) = alloc();
        assert!(again == head && second > first && heap.sealed(QueueKind::Main) == 0);
        heap.seal_all();
        // A round has relocated something out of it. The note on it must not be lost.
        let taken = heap.take_sealed(QueueKind::Main).unwrap();
        heap.put_back(SealedSegment { referred: true, kind: QueueKind::Transient, ..taken });
        assert!(!heap.pins().was_moved_out_of(head));
        let (third, again) = alloc();
        assert!(again == head && third > second && heap.pins().was_moved_out_of(head));
        heap.seal_all();
        // The evacuator has it.
        let taken = heap.take_sealed(QueueKind::Main).unwrap();
        let (_, other) = alloc();
        assert_ne!(other, head);
        heap.put_back(taken);
        heap.seal_all();
        // Neither holds pins any more.
        heap.unpinned(first);
        let (_, third) = alloc();
        assert!(third != head && third != other && heap.sealed(QueueKind::Main) == 2);
    }
}
