//! Transports: how bytes get to lent memory and back.
//!
//! A server lends **slabs**; the borrower decides what lies where in them. So a transport has three verbs only: read a
//! range of a slab, write a range, and do many of both at once. Everything else (borrowing and returning slabs) is rare
//! control.
//!
//! # Roles
//! - [`Transport`]: one server. Shared by all threads. Its control operations block the calling thread, with a deadline.
//! - [`Session`]: one party's way to that server's slabs, used by one thread at a time. `submit` takes an operation and
//!   returns at once; `poll` moves bytes without blocking and reports what completed, in any order; `park` sleeps in the
//!   kernel until there may be something to poll. How long to spin before parking is the caller's choice, because only
//!   the caller knows what else it could do.
//!
//! # Rules both sides rely on
//! 1. Every submitted operation completes exactly once: done, or failed with an error, at the latest when its timeout
//!    has passed and `poll` is called. A session that failed completes everything in flight with the same error and
//!    refuses new operations.
//! 2. A buffer belongs to the session from `submit` to completion and is handed back in the [`Completion`]. After that
//!    nothing writes to it: a reply that comes after its operation's timeout is thrown away.
//! 3. `submit` refuses ([`Submit::Busy`]) rather than queueing without bound; the operation is handed back.
//! 4. Ranges are checked by the server. A range that a slab can't hold is a protocol error that ends the connection.
//! 5. Operations on overlapping ranges in flight at once have no defined order. The far log never has any.
//! 6. A write that failed may have taken effect, wholly or in part, or may do so later: see the far log for what follows from that.

pub mod auto;
mod buf;
pub mod embedded;
#[cfg(any(test, feature = "faults"))]
pub mod faulty;
mod immediate;
mod pool;
#[cfg(feature = "rdma")]
pub mod rdma;
pub mod shm;
mod stream;
#[cfg(test)]
pub(crate) mod stub;
pub mod tcp;
#[cfg(any(test, feature = "faults"))]
pub mod wrapped;

pub use buf::IoBuf;
pub use pool::{BufferPool, PoolBuf};

use crate::error::TransportError;
use crate::sum::crc32c;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Name of a slab, given by the server that lends it. Means nothing to another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlabId(pub u32);

/// Where in a server's memory: a slab and a byte offset in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlabPos {
    /// Which slab.
    pub slab: SlabId,
    /// Byte offset in the slab.
    pub offset: u32,
}

/// The borrower's own name for an operation in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// Direction of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Far to local: fills the buffer.
    Read,
    /// Local to far: sends the buffer.
    Write,
}

/// One operation: moves `buf.len()` bytes between `buf` and `at`. At most [`MAX_OP_BYTES`].
#[derive(Debug)]
pub struct Op {
    /// The submitter's name for it.
    pub token: Token,
    /// Read or write.
    pub verb: Verb,
    /// Where in the server's memory.
    pub at: SlabPos,
    /// The local side.
    pub buf: IoBuf,
}

/// An operation that has ended, one way or the other. `buf` is the submitter's again.
#[derive(Debug)]
pub struct Completion {
    /// The submitter's name for it.
    pub token: Token,
    /// Read or write.
    pub verb: Verb,
    /// The buffer, filled if a read succeeded; its content is unspecified if a read failed.
    pub buf: IoBuf,
    /// How it ended.
    pub result: Result<(), TransportError>,
}

/// Most bytes one operation may move: a far segment. It bounds what a peer can make the other end allocate.
pub const MAX_OP_BYTES: usize = 256 << 10;

/// How an operation ends that is empty or larger than [`MAX_OP_BYTES`]. It never reaches a server.
pub(crate) fn bad_length(len: usize) -> TransportError {
    TransportError::Refused(format!("an operation of {len} bytes; one moves 1 to {MAX_OP_BYTES} bytes"))
}

/// What became of a submitted operation.
#[derive(Debug)]
#[must_use]
pub enum Submit {
    /// It is in flight, and will complete.
    Accepted,
    /// Too much in flight; poll, then submit again. The operation is handed back.
    Busy(Op),
    /// The session is dead. The operation is handed back, with the reason.
    Failed(Op, TransportError),
}

/// Whether anything moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// Bytes moved or an operation completed.
    Moved,
    /// Nothing to do now.
    Idle,
}

/// One server.
pub trait Transport: Send + Sync + 'static {
    /// The server's address as a person would write it, e.g. `tcp:127.0.0.1:7070`.
    fn describe(&self) -> &str;

    /// Size in bytes of every slab this server lends; a multiple of [`MAX_OP_BYTES`].
    fn slab_bytes(&self) -> u32;

    /// Borrows one slab, zeroed. Blocks for at most the transport's timeout.
    fn borrow_slab(&self) -> Result<SlabId, TransportError>;

    /// Gives a slab back. The server zeroes it.
    fn return_slab(&self, slab: SlabId) -> Result<(), TransportError>;

    /// Opens a session. Blocks for at most the transport's timeout.
    fn open_session(&self) -> Result<Box<dyn Session>, TransportError>;

    /// Access without a session, if lent memory is mapped in this process so that a read is a plain copy which never waits.
    /// Callers then don't bother to overlap misses.
    fn immediate(&self) -> Option<&dyn ImmediateAccess> {
        None
    }

    /// Where to say which memory operations will be from and to, if that makes them cheaper.
    fn local_memory(&self) -> Option<Arc<dyn LocalMemory>> {
        None
    }
}

/// Memory of this process that a device should know, so that it moves bytes from and to it without a copy in between.
///
/// What is said here affects cost only: operations are right whatever memory their buffers lie in, as long as what is given back has been said to be.
pub trait LocalMemory: Send + Sync {
    /// Buffers will lie in this range of addresses, each within one of its parts of `part_bytes`. It costs nothing until they do.
    fn attach(&self, range: Range<usize>, part_bytes: usize);

    /// The system is about to be given the pages of this range, in which no operation is in flight. To be said before it happens.
    fn give_back(&self, range: Range<usize>);
}

/// Lent memory that is mapped in this process. Any thread, any time; a call is a check and a copy.
pub trait ImmediateAccess: Sync {
    /// Fills `into` from `at`.
    fn read_at(&self, at: SlabPos, into: &mut [u8]) -> Result<(), TransportError>;

    /// As `read_at`, and returns the CRC-32C of what is then in `into` behind its first `header` bytes. Faster than to sum it afterwards.
    ///
    /// # Panics
    /// If `into` is shorter than that.
    fn read_summed(&self, at: SlabPos, into: &mut [u8], header: usize) -> Result<u32, TransportError> {
        self.read_at(at, into)?;
        Ok(crc32c(&into[header..]))
    }

    /// Stores `bytes` at `at`.
    fn write_at(&self, at: SlabPos, bytes: &[u8]) -> Result<(), TransportError>;
}

/// One party's way to a server's slabs.
pub trait Session: Send {
    /// Starts an operation, without blocking.
    fn submit(&mut self, op: Op) -> Submit;

    /// Moves bytes without blocking; appends what completed to `done`. `now` decides timeouts.
    fn poll(&mut self, now: Instant, done: &mut Vec<Completion>) -> Progress;

    /// Sleeps until `poll` may find something to do, at most for `at_most`. May return early.
    fn park(&mut self, at_most: Duration);

    /// Operations submitted and not yet completed.
    fn in_flight(&self) -> usize;

    /// Why the session is dead, if it is.
    fn failure(&self) -> Option<TransportError>;
}
