//! Sleeping until a socket is ready.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// What a socket is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// There is something to receive.
    Readable,
    /// There is something to receive, or room to send.
    ReadableOrWritable,
}

/// Sleeps until `socket` is ready, but at most for `at_most`. May return early.
pub(super) fn wait(socket: BorrowedFd<'_>, until: Until, at_most: Duration) {
    let events = match until {
        Until::Readable => libc::POLLIN,
        Until::ReadableOrWritable => libc::POLLIN | libc::POLLOUT,
    };
    let mut asked = libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 };
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(at_most.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(at_most.subsec_nanos() as i32),
    };
    // SAFETY: one valid pollfd, whose descriptor the borrow keeps open; a valid timespec; no signal mask. An error (a signal, for
    // the most part) is an early return, which callers expect.
    unsafe { libc::ppoll(&mut asked, 1, &timeout, std::ptr::null()) };
}
