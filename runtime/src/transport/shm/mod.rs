//! Slabs of a `farmemd` on the same machine, mapped into this process: a read or write is a copy, in which the server has no part.
//!
//! A Unix socket carries control only: each slab that is lent comes with the file that it lies in, which is mapped here and stays so until the slab is
//! returned. So lent memory goes on working while the server is stopped, and after it has died: what is missing then is control. This
//! is also how memory of other kinds looks that a machine can map (CXL, persistent memory): see `farmemd --backing`.
//!
//! # What the server could do
//! The memory is shared with a process that may be hostile, so whatever is read here is checked by its reader before it is believed (far images
//! have checksums). What the file is, is checked when it comes ([`file`](self)):
//! - A file that can get shorter would end this process by SIGBUS at the next access. So it must be sealed against that, which the kernel enforces; or
//!   its server must run as root or as this process's user, who could end this process anyhow, and then be trusted not to do so.
//! - A sealed file is in the system's memory, so that a page fault on it takes no longer than one on any memory. For other files, as before.
//!
//! # When the server goes
//! Slabs that are lent go on working. Borrowing and returning fail, with [`Lost`](crate::TransportError::Lost) or
//! [`Unreachable`](crate::TransportError::Unreachable), or time out if it is merely stopped; then they go on when it does. The first connection
//! is kept open for that and otherwise not used, because a server takes a borrower's slabs back when its last connection has gone.
#![forbid(unsafe_code)]

mod file;
mod mapped;
mod socket;
mod transport;

pub use transport::{ShmConfig, ShmTransport};

use super::stream::{self, Limits};
use crate::error::TransportError;
use crate::wire::Offers;
use std::path::Path;

/// Asks the server that listens at `path` what it offers.
pub(super) fn ask(path: &Path, limits: Limits) -> Result<Offers, TransportError> {
    stream::ask(socket::UnixSocket::connect(path, limits)?, limits)
}
