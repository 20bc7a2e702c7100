//! Application-integrated far memory: data larger than the memory a program may use, behind smart pointers.

extern crate self as farptr;

mod config;
mod far;
mod memory;
mod object;
mod pin;
mod pointee;
mod rem_box;
pub mod rem_hash_map;
mod rem_vec;
mod shard;

pub use far::Far;
pub use farptr_derive::Far;
pub use farptr_runtime::memory::Stats;
pub use farptr_runtime::scope::{AccessHint, Scope};
pub use farptr_runtime::{Error, Result, TransportError};
pub use memory::{Builder, FarMemory};
pub use pin::{Pinned, PinnedMut};
pub use pointee::FarPointee;
pub use rem_box::RemBox;
pub use rem_vec::RemVec;
pub use shard::ShardTask;

/// Iterators of [`RemVec`].
pub mod vec {
    pub use crate::rem_vec::Iter;
}
pub use rem_hash_map::RemHashMap;

/// Opens a dereference scope: references to far objects borrow it. The same as [`Scope::enter`].
#[inline]
pub fn scope() -> Scope {
    Scope::enter()
}

/// Opens a scope for a scan: objects fetched in it leave local memory first. The same as [`Scope::enter_non_temporal`].
#[inline]
pub fn scope_non_temporal() -> Scope {
    Scope::enter_non_temporal()
}

/// Panics out of line, for the forms that panic.
#[cold]
#[inline(never)]
#[track_caller]
fn failed(error: &Error) -> ! {
    panic!("{error}")
}
