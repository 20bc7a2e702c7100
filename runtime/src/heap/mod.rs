//! The local heap: a log of segments inside the budget.
//!
//! # Segments
//! One arena of address space, divided into segments of one size (a 64th of the budget, 16 KiB to 1 MiB). A segment is *free*
//! (committed or not), *open* (one allocation head fills it by bumping a cursor), *sealed* (in one of the queues below, waiting
//! to become a victim) or *in limbo* (evacuated, but a reader may still hold a reference: see [`crate::word`]). Only the evacuator
//! takes sealed segments and frees them; nothing is freed piecemeal. Large objects, over half a segment or 64 KiB, lie in [`Extents`].
//!
//! Sealed segments stand in three queues, oldest first: **transient** (fetched under a non-temporal hint), **young** (new or fetched
//! once) and **main** (survived, or fetched again soon after they left). What each queue is for: [`QueueKind`].
//!
//! Objects that are moved in order to be pinned ([`crate::memory`], `elsewhere.rs`) go to an open segment of their own, the **pin head**. A pin head
//! that is sealed before it is full is opened again for the next such object, as long as it holds pinned ones. [`SegmentPins`] counts which segments
//! hold pinned objects.
//!
//! # Objects
//! ```text
//! [ header 16 | contents, aligned, at least to 16 | padding to 16 ] [ header | contents ...
//! header: tag  = slot number 32 | size 24 | log2 of alignment 4 | flags 4
//!         far  = far address or large id of the copy it was fetched from
//! ```
//! Between allocation and publication an object is *busy*: header and contents are the allocating thread's alone (a swap-in receives the far
//! image right over both). Each segment counts its busy objects; the evacuator leaves a segment alone that has any. When the object is
//! *settled*, the final header is in place, the slot has been published or the object given up, and the count goes down (release);
//! from then on the header never changes. A header whose slot does not say "present, here" is dead. Gaps for alignment are
//! filled with headers of no slot.
//!
//! # Who may touch what
//! - A segment's cursor: the holder of its head's lock. Queues and free list: one lock, held for a few instructions.
//! - Contents of a busy object: the allocating thread. Afterwards: by the protocol of the metadata word.

mod extents;
mod header;
mod large;
mod log;
pub(crate) mod pins;
mod segment;

pub use extents::Extents;
pub use header::{HEADER_BYTES, MAX_SMALL, ObjectHeader};
pub use large::{LargeObject, LargeObjects, Mapping, Spares};
pub use log::{Heap, NoRoom, Watermarks};
pub use pins::SegmentPins;
pub use segment::{Objects, QueueKind, SealedSegment, SegmentId};
