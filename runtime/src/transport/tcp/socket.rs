//! Connecting, and the socket's part in a [`Connection`](crate::transport::stream::Connection).
#![forbid(unsafe_code)]

use crate::error::TransportError;
use crate::transport::stream::{Limits, Socket, Until, wait_for_file};
use socket2::{SockRef, TcpKeepalive};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// A peer that is gone without a word is probed after this, and then (nine times on Linux) at a third of it.
const KEEPALIVE: Duration = Duration::from_secs(15);

impl Socket for TcpStream {
    fn receive(&mut self, into: &mut [u8], _files: &mut Vec<File>) -> io::Result<usize> {
        self.read(into)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    fn wait(&mut self, until: Until, at_most: Duration) {
        wait_for_file(self.as_fd(), until, at_most);
    }
}

/// Connects to the first of `addresses` that answers.
pub(super) fn connect(addresses: &[SocketAddr], limits: Limits) -> Result<TcpStream, TransportError> {
    let mut last = TransportError::Unreachable("it has no address".into());
    for address in addresses {
        let left = limits.connect_by.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(TransportError::Timeout { what: "the connection request", after: limits.connect_timeout });
        }
        match TcpStream::connect_timeout(address, left) {
            Ok(stream) => return set_up(stream).map_err(|error| TransportError::System(error.to_string())),
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                last = TransportError::Timeout { what: "the connection request", after: limits.connect_timeout };
            }
            Err(error) => last = TransportError::Unreachable(error.to_string()),
        }
    }
    Err(last)
}

fn set_up(stream: TcpStream) -> std::io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}
