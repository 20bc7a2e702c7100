//! A safe layer over libibverbs and librdmacm: as much of them as one-sided transfers and a few messages need.
//!
//! # Who owns what
//! ```text
//! Channel      events of the connection manager       a file descriptor
//! Id           one end of a connection to be, or the listening one; has its Channel
//! Domain       a protection domain on one device; has an Id that keeps the device open
//! Region       memory that the device may use; has its Domain
//! Completions  a completion queue with its channel    a file descriptor
//! Pair         a queue pair: an Id with a queue pair on it, its Domain and its Completions
//! Messages     small messages on a Pair, and their memory
//! Transfers    reads and writes on a Pair, and the buffers that are in use by them
//! Link         a Pair with its Messages and Transfers
//! ```
//! Each is destroyed before what it has, which is what the libraries ask for.
//!
//! # What makes it safe
//! The device reads and writes memory by itself, by the addresses in what was posted, until the completion has been taken from the queue or the queue pair has
//! been destroyed (the specification's, and the kernel's, promise for `ibv_destroy_qp`). So whoever posts hands the memory over to [`Transfers`] or [`Messages`], which give it back
//! after either of the two and not before: also if an operation times out, and if the whole is dropped in the middle.
//!
//! Memory that is registered for this process's own use can't be reached from outside: its keys carry no remote rights. What a [`Region`] of lent memory
//! allows is up to who lends it.
//!
//! The libraries may be called by any thread at any time but for destroying what is in use; everything here is owned by one value, so Rust's rules see to that.

mod completions;
mod domain;
mod id;
mod link;
mod messages;
mod pair;
mod transfers;

pub(super) use domain::{Domain, Region};
pub(super) use id::{Event, Id};
pub(super) use link::{Broken, Link, Shape};
pub(super) use transfers::{NotAdded, Remote, Transfer};

use std::io;

/// What the system said about a call that failed, with the name of what was to be done.
fn last_error(what: &str) -> io::Error {
    named(what, io::Error::last_os_error())
}

/// The same for calls that return their error.
fn check(what: &str, code: i32) -> io::Result<()> {
    match code {
        0 => Ok(()),
        // librdmacm returns -1 and sets errno, libibverbs returns the number.
        -1 => Err(last_error(what)),
        number => Err(named(what, io::Error::from_raw_os_error(number.abs()))),
    }
}

fn named(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Switches a file descriptor of the libraries' to not blocking.
fn set_nonblocking(fd: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}
