//! Sleeping until a socket is ready.
#![forbid(unsafe_code)]

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// What a socket is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport) enum Until {
    /// There is something to receive.
    Readable,
    /// There is something to receive, or room to send.
    ReadableOrWritable,
}

/// [`Socket::wait`](super::Socket::wait) for sockets of the system's.
pub(in crate::transport) fn wait_for_file(socket: BorrowedFd<'_>, until: Until, at_most: Duration) {
    let events = match until {
        Until::Readable => PollFlags::IN,
        Until::ReadableOrWritable => PollFlags::IN | PollFlags::OUT,
    };
    let longest = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
    // An error (a signal, for the most part) is an early return, which callers expect.
    let _ = poll(&mut [PollFd::from_borrowed_fd(socket, events)], Some(&Timespec::try_from(at_most).unwrap_or(longest)));
}
