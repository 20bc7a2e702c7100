//! [`RemVec`]: a vector in far memory, many elements to an object.
//!
//! Elements live in chunks of a power of two of them, each chunk one far object. A full chunk has up to 16 KiB, and up to a seventh of a 64th of the local budget: 8 KiB
//! at 4 MiB, 16 KiB from 8 MiB on. Locally the vector keeps 8 bytes a chunk and the
//! chunk's slot, so a `RemVec<u64>` costs a hundredth of its data. The chunk is what is swapped in and out: a scan moves one at a
//! time; random single elements are better kept in a `RemBox` each, or in smaller chunks
//! ([`with_chunk_bytes_in`](RemVec::with_chunk_bytes_in)).
//!
//! The first chunk grows as a `Vec` does, so that a short vector is small; the others have their full size from the start. Chunks never move
//! between slots.

mod chunks;
mod iter;
mod pin;
mod vec;
mod walk;

pub use iter::Iter;
pub use pin::{PinnedElement, PinnedElementMut, PinnedSlice, PinnedSliceMut};
pub use vec::RemVec;
pub use walk::{Walk, WalkMut};
