//! Evacuation of the local heap, and the far log that it writes.
//!
//! - [`far_log`]: where images go: far segments are filled one after the other, and used again when nothing in them is alive.
//! - [`cleaner`]: moves what is alive out of far segments that are mostly dead.
//! - [`victims`]: which local segments are evacuated next: the hotness policy.
//! - [`round`]: one round of evacuation, by the protocol of [`farptr_runtime::word`].
//! - [`large`]: the part of a round that concerns large objects.
//! - [`evacuator`]: who runs rounds, and when: a background thread, or a thread that waits for memory.
//!
//! None of it knows an executor. Rounds are run by whoever holds the evacuator's lock: usually its own thread, which is an ordinary one
//! so that evacuation goes on when every shard is busy with synchronous code, and where io_uring is forbidden; or a mutator that
//! has run out of memory outside any scope and would have to wait anyway.

pub mod cleaner;
pub mod evacuator;
pub mod far_log;
pub mod large;
pub mod round;
pub mod victims;
#[cfg(farptr_zeal)]
mod zeal;

pub use evacuator::Evacuator;
