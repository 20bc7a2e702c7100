//! Which segments are evacuated next.
//!
//! S3-FIFO (Yang et al., SOSP 2023) on segments: most objects of a skewed load are used once, so new ones pass through a small
//! **young** queue, and only those used again while there go on to the **main** queue, where a used object is given another turn. An object
//! that comes back soon after it was evacuated goes to the main queue at once (the ghost, kept in the absent word). A scan
//! flows through the young queue and leaves the main queue alone. Where hardly any young object is used again, most are read without a place in a queue (`farptr_runtime::memory`, admission and evidence), and
//! the young queue is shorter. **Transient** segments, filled under a non-temporal hint, go first.
//!
//! The queues are of segments, not objects: "used again" is one bit, since a hit that stores nothing can't count.
#![forbid(unsafe_code)]

use crate::round::Mercy;
use farptr_runtime::ablations::Policy;
use farptr_runtime::heap::{QueueKind, SealedSegment};
use farptr_runtime::memory::Memory;

/// The young queue's share of the heap: a tenth, as in the paper.
const YOUNG_SHARE: usize = 10;

/// The next victim, if there is a sealed segment at all. Without mercy the young queue goes first whatever its length: the rounds before
/// got nothing out of the main queue, which may be full of what can't leave (far memory is full, say).
pub fn next(memory: &Memory, mercy: Mercy) -> Option<SealedSegment> {
    let (heap, policy) = (memory.heap(), memory.ablations().policy);
    // Where most objects are passed, those that are not stay as long as all would.
    let young_is_full = heap.sealed(QueueKind::Young) > heap.capacity() / (YOUNG_SHARE * memory.young_thinned());
    let order = if young_is_full || mercy == Mercy::None || policy != Policy::S3Fifo {
        [QueueKind::Transient, QueueKind::Young, QueueKind::Main]
    } else {
        [QueueKind::Transient, QueueKind::Main, QueueKind::Young]
    };
    order.into_iter().find_map(|kind| heap.take_sealed(kind))
}
