//! [`RemHashMap`]: a hash map whose keys and values may be far away.
//!
//! # What is where
//! ```text
//! ordinary memory, charged to the local budget                   far memory, or the local heap
//!
//! index                rows (16, 7 x 64, then 512 entries each)
//! +--------------+     +-----------------+----------------+
//! | entry number |---->| slots, 8 bytes  | notes, 4 bytes |     +--------+-----+-------+
//! | 4 bytes, and |     | of each entry   | of each entry  |---->| header | key | value |
//! | a tag of 1   |     +-----------------+----------------+     +--------+-----+-------+
//! +--------------+
//! ```
//! - An **entry** is a key and its value, one object in far memory behind one slot. It has a number for as long as it lives.
//! - **Rows** (`row.rs`) hold the slots of entries, taken from the slot table, and a note for each: 32 bits of the key's hash. Number to
//!   row is arithmetic. Rows never move, so slots stay where they are when the map grows, and growth copies no slot. The first rows
//!   are short, so that a small map is small.
//! - **Entries** (`entries.rs`) are the rows and a list of numbers that are free again, linked through their notes. All `unsafe` about
//!   references to far objects is there: to the rest, entries are a slab with safe methods.
//! - The **index** (`index.rs`) is a [`hashbrown::HashTable`] of entry numbers. Its hash is made of the noted 32 bits (`hash.rs`), so that
//!   growing fetches no key, and calls no code of the user's. A lookup fetches an entry only if all 32 bits are the same: one in 2^32
//!   for each entry is fetched in vain.
//! - A **table** (`table.rs`) is entries and an index that agree: what `HashMap` is without its hasher. On it are built the map (`map.rs`,
//!   `read.rs`, `write.rs`), the entry API (`entry.rs`) and iteration (`iter.rs`, `into_iter.rs`, `walk.rs`).
//!
//! # What it costs
//! Beside the 16-byte header of a local entry: 8 bytes of slot, 4 of note, and 5 for each bucket of the index, which is between 7/16 (less 1/32
//! of that) and 7/8 full: 17.7 to 23.8 bytes an entry, plus at most one unfinished row. While the index doubles, the old one exists beside the new one: for
//! that moment 6 bytes an entry more. All of it counts against the local budget, and is charged before it is allocated (`charged.rs`): a
//! map that can't grow returns an error and is as it was.
//!
//! # Code of the user's
//! `Hash`, `Eq`, `Drop`, `Borrow`, hashers and closures may panic or contradict themselves. Each is called when index and entries agree:
//! finding a key calls it before anything is changed, and after that a change runs to its end without any. What is dropped is out of the map
//! before its `Drop` runs. So a panic leaves a valid map, and an inconsistent `Hash` or `Eq` one in which keys are not found.
//!
//! `Eq` and the closures run on references. An entry that has something to drop may own far objects itself, which they will deref: outside any
//! scope, such an entry is pinned for them and they run in no scope, so that their derefs may wait for memory.
//!
//! # Why not
//! - *Keys in the index*: fetches fewer entries in vain, but none is what 32 bits come to, and local memory is what a far map must save.
//! - *A `RemBox` in each bucket*: 8 bytes a bucket instead of 4, for buckets that are up to 9/16 empty, and a slot of its own besides.
//! - *`RemHashMap` as contents of far objects*: its tables are ordinary memory and would stay behind, so it is not `Far`, as `HashMap` is not.

mod charged;
mod entries;
mod entry;
mod hash;
mod index;
mod into_iter;
mod iter;
mod map;
mod pin;
mod read;
mod row;
mod table;
mod walk;
mod write;

pub use entry::{Entry, OccupiedEntry, VacantEntry, ValueMut};
pub use into_iter::{Drain, IntoIter};
pub use iter::{Iter, IterMut, Keys, Values, ValuesMut};
pub use map::RemHashMap;
pub use pin::{PinnedValue, PinnedValueMut};
pub use walk::{Walk, WalkMut};

use crate::ok;
use farptr_runtime::Error;

/// The name of the structure in errors.
const WHAT: &str = "a RemHashMap";

#[cold]
fn too_many(entries: usize) -> Error {
    Error::CapacityOverflow { what: WHAT, asked: entries as u64, limit: row::MAX_ENTRIES as u64 }
}
