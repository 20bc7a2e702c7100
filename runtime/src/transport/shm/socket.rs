//! A Unix socket on which files come along with the bytes.
#![forbid(unsafe_code)]

use crate::error::TransportError;
use crate::transport::stream::{Limits, Socket, Until, wait_for_file};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};
use std::fs::File;
use std::io::{self, ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to wait before a server whose queue of connection requests is full is asked again.
const QUEUE_FULL: Duration = Duration::from_millis(5);

/// A connected Unix socket that doesn't block.
#[derive(Debug)]
pub(super) struct UnixSocket(UnixStream);

impl UnixSocket {
    /// Connects to the server that listens at `path`.
    pub(super) fn connect(path: &Path, limits: Limits) -> Result<Self, TransportError> {
        let late = || TransportError::Timeout { what: "the connection request", after: limits.connect_timeout };
        let unreachable = |error: Errno| TransportError::Unreachable(error.to_string());
        let address = SocketAddrUnix::new(path).map_err(unreachable)?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(|error| TransportError::System(error.to_string()))?;
        loop {
            match rustix::net::connect(&socket, &address) {
                Ok(()) => return Ok(Self(socket.into())),
                // A server that accepts nobody (because it is stopped, say) has a queue, which may be full.
                Err(Errno::AGAIN) => {
                    if Instant::now() >= limits.connect_by {
                        return Err(late());
                    }
                    std::thread::sleep(QUEUE_FULL);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(unreachable(error)),
            }
        }
    }

    /// Whether the process at the other end could end this one anyhow: it ran as root or as this process's user when it began to listen.
    pub(super) fn peer_is_trusted(&self) -> bool {
        let peer = rustix::net::sockopt::socket_peercred(&self.0);
        peer.is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid())
    }
}

impl Socket for UnixSocket {
    fn receive(&mut self, into: &mut [u8], files: &mut Vec<File>) -> io::Result<usize> {
        // One receive brings one file at most, because the kernel stops behind it.
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut came_along = RecvAncillaryBuffer::new(&mut room);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(into)], &mut came_along, flags)?;
        for message in came_along.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                files.extend(passed.map(File::from));
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "the server passed more files than slabs, or this process may open no more files",
            ));
        }
        Ok(received.bytes)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Not `write`, which raises SIGPIPE in programs that don't ignore it.
        Ok(rustix::net::send(&self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    fn wait(&mut self, until: Until, at_most: Duration) {
        wait_for_file(self.0.as_fd(), until, at_most);
    }
}
