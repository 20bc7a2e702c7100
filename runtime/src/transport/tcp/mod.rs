//! Slabs of `farmemd`, over TCP.
//!
//! Every session is one connection with its own socket, and so is control. Sockets never block: [`Session::poll`] sends and
//! receives what the kernel takes and has, [`Session::park`] waits in poll(2). So this needs no executor and no io_uring; a
//! thread that waits for one miss spins on `poll` and gets its answer a bare socket's round trip later, and a glommio task
//! does the same between yields.
//!
//! # When the server goes
//! - A session whose connection ends fails, with all that is in flight; its owner may open another.
//! - Control reconnects by itself when it finds its connection ended. It joins as the same borrower: as long as one
//!   connection was alive throughout, the slabs are still there. If the server doesn't know the borrower any more, it
//!   was restarted or has taken the slabs back, and every operation says [`Lost`](crate::TransportError::Lost) from then on.
//! - A borrow whose answer is lost with the connection may have lent a slab that nobody here knows of. The server takes it
//!   back with the others when this process is gone.
//!
//! [`Session::poll`]: super::Session::poll
//! [`Session::park`]: super::Session::park
#![forbid(unsafe_code)]

mod address;
mod session;
mod socket;
mod transport;

pub(super) use address::resolve;
pub use transport::{TcpConfig, TcpTransport};

use super::stream::{self, Limits};
use crate::error::TransportError;
use crate::wire::Offers;
use std::net::SocketAddr;

/// Asks the first of `addresses` that answers what it offers; and which that is.
pub(super) fn ask(addresses: &[SocketAddr], limits: Limits) -> Result<(Offers, SocketAddr), TransportError> {
    let socket = socket::connect(addresses, limits)?;
    let server = socket.peer_addr().map_err(|error| TransportError::Lost(error.to_string()))?;
    Ok((stream::ask(socket, limits)?, server))
}
