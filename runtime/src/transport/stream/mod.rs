//! Connections to a `farmemd` over a stream of bytes: what TCP and Unix sockets have in common.
#![forbid(unsafe_code)]

mod ask;
mod connection;
mod control;
mod patience;
mod wait;

pub(in crate::transport) use ask::ask;
pub(in crate::transport) use connection::Connection;
pub(in crate::transport) use control::{Control, countable_slabs};
pub(in crate::transport) use patience::{Limits, Patience};
pub(in crate::transport) use wait::{Until, wait_for_file};

use std::fs::File;
use std::io;
use std::time::Duration;

/// A connected socket that doesn't block.
pub(in crate::transport) trait Socket {
    /// Receives bytes, and the files that came with them. 0 if the peer has sent its last byte.
    fn receive(&mut self, into: &mut [u8], files: &mut Vec<File>) -> io::Result<usize>;

    /// Sends as many of `bytes` as the kernel takes.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Sleeps until the socket is ready, but at most for `at_most`. May return early.
    fn wait(&mut self, until: Until, at_most: Duration);
}
