//! Slabs: the memory a lender lends, whole and zeroed, to one borrower at a time.
//!
//! # Parties
//! - The lender ([`SlabStore`]) owns the memory. `farmemd` holds all of it from the start, so that what it says it lends it
//!   has; the embedded transport maps a slab when it is borrowed and gives its pages back when it is returned.
//! - A borrower ([`BorrowerId`]) is one process, however many connections it has.
//!
//! # Life of a slab
//! `clean -> lent(borrower) -> dirty -> clean`. Only clean slabs are lent. A dirty slab becomes clean by being zeroed, by
//! whoever calls [`SlabStore::scrub_one`] (a daemon's idle thread) or, if nobody did, by the next `lend`.
//!
//! Where borrowers map slabs themselves ([`Supply::Shared`]), nobody can take a mapping away from them. There a slab that was passed becomes clean by
//! being given other memory, and what it had is given back to the system: see [`Backing`].
//!
//! Where borrowers reach slabs by RDMA, the store holds a [`Lease`] for each that is lent, and gives it up before the slab is zeroed: see [`Export`].
//!
//! # Who may touch a slab's bytes when
//! Two connections of one borrower may be served by different threads, and a hostile one may read and write the same range
//! through both. That must not be a data race, and neither may be the zeroing that follows a return. So each stripe of
//! [`STRIPE_BYTES`] has a readers-writer lock:
//! 1. An access takes the lock of one stripe (shared to read, exclusive to write), *then* looks at the slab's owner, copies
//!    only if it is the caller, and lets go. A range over two stripes is two such accesses.
//! 2. A return first takes the owner away, *then* zeroes under each stripe's exclusive lock. An access that got a stripe's
//!    lock before has ended when the zeroing reaches that stripe; one that gets it after sees that the owner has gone.
//! 3. Nobody holds a stripe's lock while waiting for anything but another stripe's lock of the same slab in ascending order
//!    (only the pages' release does), so nobody deadlocks.
//!
//! Why a lock per stripe, when it costs two locked instructions (about 10 ns) an access: the alternatives were one lock a slab
//! (a 256 KiB write-back would hold up every read of the slab) and one thread a borrower (a second connection would gain
//! nothing). A stripe is a far segment, which well-behaved borrowers write once and before they read it, so its
//! lock is never waited for. Reads of different stripes share no cache line.

mod backing;
mod export;
mod foreign;
pub(crate) mod mapping;
pub(crate) mod memory;
pub(crate) mod rows;
mod store;
#[cfg(test)]
mod tests;

pub use backing::{Backing, Sharing};
pub use export::{Export, Lease, LentMemory, MemoryKey};
pub use memory::STRIPE_BYTES;
pub use store::{BorrowerId, SlabError, SlabStore, SlabStoreConfig, Supply};

/// Slab size unless told otherwise: 16 MiB, eight huge pages. Small enough that a borrower of little wastes little, large enough
/// that borrowing is rare (one exchange per 64 far segments).
pub const DEFAULT_SLAB_BYTES: u32 = 16 << 20;
