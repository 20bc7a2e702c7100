//! Slabs of a `farmemd`, by RDMA: one-sided reads and writes, in which the server's processor has no part.
//!
//! Reliable connections, made by the connection manager (rdma_cm), on whatever carries it: RoCE v2, InfiniBand, soft-RoCE. (iWARP wants remote rights for the target of a read, which are not given
//! here.) Control, which is rare, is the protocol of [`wire`](crate::wire) in small messages; the hello goes along with the request for a connection and the welcome with its
//! answer. With each slab that is lent come its address and its key, and from then on the borrower's device reads and writes the slab through the server's device.
//!
//! # A session
//! is a connection. What is submitted is posted at the next poll, all of it with one doorbell for each 16; of a batch every fourth and the last say when they are done. Writes of up to 256 bytes
//! go along with their request. While nothing comes, a session sleeps on its completion channel.
//!
//! # Memory of this process
//! The device moves bytes from and to memory that was registered with it. The local heap and the write buffers are, in parts, each when it is first used; what lies elsewhere passes through
//! half a MiB of registered memory of the session. Registered memory stays where it is, which counts against the limit of locked memory (`ulimit -l`); where that is too small, everything passes
//! through the session's.
//!
//! # When something goes
//! - *A read or write that times out* ends its session, and so does any other failure of one: requests can't be taken back one by one, and until the connection is over the device may still move their bytes.
//!   Everything in flight ends with the same error; a new session may be opened.
//! - *The server's program dies*: its system says so at once, and all sessions fail with [`Lost`](crate::TransportError::Lost).
//! - *The server's machine or the network dies*: the device sends again for as long as the operation's timeout, then the session fails.
//! - *The server's program is stopped*: reads and writes go on. What needs control (borrowing, returning, new sessions) times out.
//! - *The link is down for a while*: sessions fail and are opened anew when it is back. The server holds slabs for a minute.
//!
//! Unsafe code is in [`verbs`](self) and, for what is lent, in `lend.rs`.

mod address;
mod keys;
mod lend;
mod local;
mod session;
mod socket;
mod transport;
mod verbs;

pub(super) use address::has_device;
pub use lend::{Domains, RdmaListener, RdmaStream};
pub(super) use transport::DEFAULT_IN_FLIGHT;
pub use transport::{RdmaConfig, RdmaTransport};
