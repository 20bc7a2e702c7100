//! What can go wrong, in the words of the person who has to mend it.
//!
//! Two enums: [`TransportError`] is what one exchange with one server can meet; [`Error`] is what an operation on far
//! memory returns to the program.

use std::borrow::Cow;
use std::time::Duration;

/// Result of an operation on far memory.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on far memory failed. Nothing was lost unless the variant says so: the object is still where it was, and
/// the operation may be tried again.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The local budget can't hold what was asked for, even after evacuation.
    #[error(
        "out of local memory: {needed} bytes needed, {used} of the budget's {budget} bytes used ({why}); or raise the local budget"
    )]
    OutOfLocalMemory {
        /// Bytes the operation needed at once.
        needed: usize,
        /// Bytes of the budget in use when it gave up.
        used: usize,
        /// The local budget in bytes.
        budget: usize,
        /// What stood in the way, and what would help.
        why: Cow<'static, str>,
    },
    /// Local memory ran out while this thread has a dereference scope open, which forbids evacuation to go on.
    #[error(
        "dereference scope exhausted: {needed} bytes needed, and this thread's scope holds {held} of its share of {share} bytes while local memory is full{others}; end or refresh scopes more often (a closure of `with` is one, too), or raise the local budget of {budget} bytes"
    )]
    ScopeExhausted {
        /// Bytes the operation needed.
        needed: usize,
        /// Bytes that this thread has taken since its outermost scope began or was refreshed.
        held: usize,
        /// Bytes that it may take whatever others do: a quarter of the budget divided by the threads with a scope open, at most 256 KiB.
        share: usize,
        /// The local budget in bytes.
        budget: usize,
        /// The other thread that holds most, or whose scope has been open longer than any operation waits: its name, since when, and how much it took. And, if this thread is below its share,
        /// why that does not help.
        others: String,
    },
    /// Every server has lent all it will lend.
    #[error(
        "far memory full: {far_bytes} bytes borrowed from {servers}, and no more can be (the servers lend no more, or `far_capacity` is reached); existing objects would take {promised_bytes} bytes there, {usable_bytes} are usable beside what cleaning needs, and local memory has what it can of the rest; add a server, raise farmemd's --capacity or `far_capacity`, or remove objects"
    )]
    FarMemoryFull {
        /// Far memory borrowed so far, in bytes.
        far_bytes: u64,
        /// The servers asked.
        servers: String,
        /// What all existing objects take when they are far, in bytes.
        promised_bytes: u64,
        /// What may be used of the borrowed memory, in bytes: without what cleaning needs.
        usable_bytes: u64,
    },
    /// The exchange with a server failed.
    #[error("{server}: {cause}")]
    Transport {
        /// Which server, as it was given.
        server: String,
        /// What happened.
        cause: TransportError,
    },
    /// An object's bytes came back other than they were sent. The object is lost unless the server recovers it.
    #[error(
        "corrupt object in far memory of {server} (segment {segment}, byte {offset}): {detail}; the server or its memory is faulty"
    )]
    Corrupt {
        /// Which server.
        server: String,
        /// Far segment number.
        segment: u32,
        /// Byte offset in the far segment.
        offset: u32,
        /// Which check failed.
        detail: &'static str,
    },
    /// The operation can't be done on this system or in this place.
    #[error("{what} is not available: {missing}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
        /// What is missing, and what to use instead.
        missing: String,
    },
    /// The process is a fork of the one that uses far memory. Nothing was touched.
    #[error(
        "this process was forked from one that uses far memory, which stays with that one; use it there, or have the fork exec a program with a far memory of its own"
    )]
    Forked,
    /// More elements or bytes than the structure can ever hold.
    #[error("capacity overflow: {what} can't hold {asked}; the limit is {limit}")]
    CapacityOverflow {
        /// The structure.
        what: &'static str,
        /// What was asked for.
        asked: u64,
        /// Its limit.
        limit: u64,
    },
    /// A setting is wrong.
    #[error("{0}")]
    Config(String),
}

/// Why one exchange with one server failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// No connection could be made.
    #[error("can't connect: {0}; is farmemd running there?")]
    Unreachable(String),
    /// The connection ended. What was in flight is not done, or not known to be done.
    #[error("connection lost: {0}")]
    Lost(String),
    /// No answer in time.
    #[error("no answer to {what} within {after:?}")]
    Timeout {
        /// The operation.
        what: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// The other end speaks another version of the protocol.
    #[error("speaks protocol version {theirs}, this program version {ours}; use the same release at both ends")]
    Version {
        /// The peer's version.
        theirs: u32,
        /// This end's version.
        ours: u32,
    },
    /// The server has no more memory to lend.
    #[error("has no more memory to lend (capacity {capacity} bytes)")]
    Full {
        /// The server's capacity in bytes.
        capacity: u64,
    },
    /// The server refused an operation.
    #[error("refused: {0}")]
    Refused(String),
    /// The peer broke the protocol.
    #[error("broke the protocol: {0}")]
    Protocol(String),
    /// The operating system refused something this end needs.
    #[error("{0}")]
    System(String),
}

impl Error {
    /// A transport error of `server`.
    pub fn transport(server: impl Into<String>, cause: TransportError) -> Self {
        Error::Transport { server: server.into(), cause }
    }
}
