//! Application-integrated far memory: data larger than the memory a program may use, behind smart pointers.
//!
//! A [`FarMemory`] has a local budget and servers that lend memory. [`RemBox`], [`RemVec`] and [`RemHashMap`] own values that live there: local
//! while they are used, far otherwise. A deref borrows the owner and a [`Scope`], and costs about a nanosecond when the value is local; when it is not, it is
//! fetched first. What may be kept is said by the trait [`Far`], which is derived.
//!
//! ```
//! use farptr::{FarMemory, RemBox, RemHashMap};
//!
//! let mem = FarMemory::builder().local_budget(4 << 20).build()?;
//! let mut squares: RemHashMap<u32, u64> = RemHashMap::new_in(&mem);
//! for n in 0..100_000 {
//!     squares.insert(n, u64::from(n) * u64::from(n));
//! }
//! let scope = farptr::scope();
//! assert_eq!(squares.get(&300, &scope), Some(&90_000));
//! drop(scope);
//!
//! let text = RemBox::from_str_in("far away", &mem);
//! assert_eq!(text.with(str::len), 8);
//! # Ok::<(), farptr::Error>(())
//! ```
//!
//! # Which form to use
//! | for | form | holds |
//! |---|---|---|
//! | many derefs in a row | [`get`](RemBox::get) in a [`scope`], [refreshed](Scope::refresh) now and then | all that was derefed since |
//! | one deref | [`with`](RemBox::with) and its kind | one object, for one closure |
//! | a long read, or one across an await | [`pin`](RemBox::pin), [`pin_async`](RemBox::pin_async) | one object, until the pin is dropped |
//! | a scan | [`RemVec::for_each_slice`] | a chunk at a time |
//! | a loop over elements or entries | [`RemVec::walk`], [`RemHashMap::walk`] | a chunk or an entry at a time |
//! | the same as an `Iterator` | [`RemVec::iter`], [`RemHashMap::iter`], in a scope | all items |
//! | a list or a tree of boxes | [`Cursor`], [`CursorMut`] | the current object |
//!
//! Where no scope is open, all forms but the first and the iterators wait for local memory when it is short: a scope never can, because evacuation waits for it. What a scope can hold
//! surely is said at [`Scope`]. Closures over contents that own no far objects open a scope, in which what they nest can't wait;
//! over contents that may, and over slices, they pin. So to fill one collection from another use `for_each_slice`, a walk, or a copy of the value.
//!
//! Methods that panic when far memory fails have a `try_` twin that returns the [`Error`].
//!
//! Everything is shared between threads as what `std` has: `&RemVec<T>` reads from any number of them. Each opens its own scope, and refreshes it where it needs none of its references any more:
//!
//! ```
//! use farptr::{FarMemory, RemVec};
//!
//! let mem = FarMemory::builder().local_budget(4 << 20).build()?;
//! let mut numbers = RemVec::new_in(&mem);
//! for n in 0..1_000_000_u64 {
//!     numbers.try_push(n)?; // 8 MB
//! }
//! let sum_of = |part: usize| {
//!     let (mut scope, mut sum) = (farptr::scope(), 0);
//!     for n in (part..numbers.len()).step_by(1000) {
//!         sum += numbers.get(n, &scope).unwrap();
//!         scope.refresh();
//!     }
//!     sum
//! };
//! let sum: u64 = std::thread::scope(|threads| {
//!     let parts = [0, 1, 2, 3].map(|part| threads.spawn(move || sum_of(part)));
//!     parts.into_iter().map(|part| part.join().unwrap()).sum()
//! });
//! assert_eq!(sum, 4 * 499_500_000 + 1000 * 6);
//! # Ok::<(), farptr::Error>(())
//! ```
//!
//! In the child of a fork, far memory is its parent's: what leaves the fast path is [`Error::Forked`], and drops leave everything as it is.
//!
//! # What to use instead
//! | of | here | |
//! |---|---|---|
//! | `Box<T>`, `Box<[T]>`, `Arc<str>` | [`RemBox`] of the same | inside other far objects, too |
//! | `Vec<T>` | [`RemVec`] | owned by the program. Inside an object `RemBox<[T]>`, or a list of boxes of some elements each: `Vec` is refused there |
//! | `HashMap<K, V>` | [`RemHashMap`] | owned by the program |
//! | `String` in an object | `RemBox<str>`, or `[u8; N]` if it is short | |
//! | `String` as a key | `[u8; N]`, filled up with zeros; if keys are long, a 128-bit hash of the text, and the text as `RemBox<str>` in the value | a `RemBox` is no key: hashing one would fetch it |
//! | `HashMap<String, Vec<u32>>` | `RemHashMap<[u8; 24], List>`, a `List` being a count and an `Option<RemBox<Node>>`, a `Node` some 60 numbers and the next | what is added to a list touches one node |
//! | `Cell`, `RefCell`, `Mutex` | the same around the collection | nothing inside an object may change through `&` |
//!
//! # Soundness
//! Safe code can't make a reference outlive its scope or its owner, alias a mutable one, or keep one while its object moves: references borrow both. A
//! server can lose data, and then the deref is an error. It must be trusted not to forge data, which is checked against accidents only.

extern crate self as farptr;

mod config;
mod cursor;
mod far;
#[doc(hidden)]
pub mod fuzzing;
mod memory;
mod object;
mod pin;
mod pointee;
mod rem_box;
pub mod rem_hash_map;
mod rem_vec;
#[cfg(feature = "shards")]
mod shard;
#[cfg(not(feature = "shards"))]
#[path = "no_shards.rs"]
mod shard;

pub use cursor::{Cursor, CursorMut};
pub use far::Far;
pub use farptr_derive::Far;
pub use farptr_runtime::memory::Stats;
pub use farptr_runtime::scope::{AccessHint, Refreshed, Scope};
pub use farptr_runtime::{Error, Result, TransportError};
pub use memory::{Builder, FarMemory};
pub use pin::{Pinned, PinnedMut};
pub use pointee::FarPointee;
pub use rem_box::RemBox;
pub use rem_vec::RemVec;
#[cfg(feature = "shards")]
pub use shard::ShardTask;

/// Iterators, walks and pins of [`RemVec`].
pub mod vec {
    pub use crate::rem_vec::{Iter, PinnedElement, PinnedElementMut, PinnedSlice, PinnedSliceMut, Walk, WalkMut};
}
pub use rem_hash_map::RemHashMap;

#[cfg(feature = "ablations")]
#[doc(hidden)]
pub use farptr_runtime::ablations;

/// Servers that go wrong on purpose, for tests of programs. Feature `faults`; see [`Builder::faults`].
#[cfg(feature = "faults")]
pub use farptr_runtime::transport::faulty as faults;

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

/// The value, for the forms that panic. Their caller is told.
#[inline]
#[track_caller]
fn ok<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => failed(&error),
    }
}

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
