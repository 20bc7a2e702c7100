//! Far memory as its borrower sees it: slabs on servers, divided into far segments, filled with the images of objects.
//!
//! The borrower decides what lies where. A **far segment** (256 KiB) is filled from its start by write-back and holds object images
//! one behind the other; an object's far address is its image's place. A segment counts its live bytes: images that some
//! slot or header still names. What is dead is not reused in place; a segment with few live bytes is *cleaned*: the live
//! images are copied to the log's end, and the segment is used again from its start.
//!
//! # The image of an object
//! ```text
//! [ slot 4 | size 4 | incarnation 4 | check 4 | contents: size bytes | padding to 16 ]      little-endian
//! ```
//! - slot: the number of the slot that owns the image, so that the cleaner can ask whether it is still alive.
//! - incarnation: the number of this use of the segment, so that what an earlier use left behind is not taken for an image.
//! - check: CRC-32C of the contents, mixed with slot, size, incarnation and far address ([`image::check`]).
//!
//! On a swap-in the expected slot, size, address and incarnation are known here; the image must agree with all of them, so
//! bytes that a server swapped, kept from earlier or damaged do not become an object. CRC-32C is a defence against faults, not
//! against a server that means harm and computes a fitting CRC: that needs a key, and comes with sealed objects.
//!
//! Stale bytes in particular: within one use of a segment each place is written once, and no two uses have the same incarnation, whatever slab they are
//! in. So an older image at the right place, of the right object, of the right size, is found out by its incarnation. The one exception is a write
//! whose answer was lost: it may arrive or not, but then nothing counts on it.
//! Everything read from far memory is data until then: the cleaner looks slot numbers up in the table before it believes them.

pub mod image;
mod large;
mod promise;
mod server;
pub(crate) mod sessions;
mod space;

pub use large::{LargeFar, LargeFars, PIECE_BYTES, PIECE_IMAGE_BYTES};
pub use promise::{charge, charge_large};
pub use server::{Server, unblock, wait_for};
pub use space::{FarSegment, FarSpace, Slab, kept_for_cleaning};
