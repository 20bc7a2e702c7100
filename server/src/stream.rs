//! Sockets of each kind, and who is at the other end.
#![forbid(unsafe_code)]

#[cfg(feature = "rdma")]
use farptr_runtime::slab::Export;
#[cfg(feature = "rdma")]
use farptr_runtime::transport::rdma::{Domains, RdmaListener, RdmaStream};
use farptr_runtime::wire::{Lender, ServerSession};
use mio::event::Source;
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
#[cfg(feature = "rdma")]
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use socket2::{SockRef, TcpKeepalive};
use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsFd;
#[cfg(feature = "rdma")]
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A borrower's machine that vanished is probed after this.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Where connections come from.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
    #[cfg(feature = "rdma")]
    Rdma(RdmaListener, Arc<Domains>),
}

/// A connection's socket.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    #[cfg(feature = "rdma")]
    Rdma(Box<RdmaStream>, Arc<Domains>),
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peer {
    Host(SocketAddr),
    /// A process on this machine.
    Process {
        pid: i32,
        uid: u32,
    },
    /// A process on this machine, of which the system doesn't say which.
    Unknown,
}

impl Listener {
    pub(crate) fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Listener::Tcp(listener) => listener.accept().map(|(stream, peer)| (Stream::Tcp(stream), Peer::Host(peer))),
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                let peer = match rustix::net::sockopt::socket_peercred(&stream) {
                    Ok(process) => Peer::Process { pid: process.pid.as_raw_pid(), uid: process.uid.as_raw() },
                    Err(_) => Peer::Unknown,
                };
                Ok((Stream::Unix(stream), peer))
            }
            #[cfg(feature = "rdma")]
            Listener::Rdma(listener, domains) => {
                let (stream, peer) = listener.accept()?;
                Ok((Stream::Rdma(Box::new(stream), Arc::clone(domains)), peer.map_or(Peer::Unknown, Peer::Host)))
            }
        }
    }
}

impl Stream {
    /// Readies a socket that has just been accepted.
    pub(crate) fn set_up(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => {
                stream.set_nodelay(true)?;
                let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3);
                SockRef::from(stream).set_tcp_keepalive(&keepalive)
            }
            Stream::Unix(_) => Ok(()),
            #[cfg(feature = "rdma")]
            Stream::Rdma(..) => Ok(()),
        }
    }

    /// The protocol for this kind of connection.
    pub(crate) fn session(&self, lender: Arc<Lender>, now: Instant) -> ServerSession {
        match self {
            Stream::Tcp(_) => ServerSession::new(lender, now),
            Stream::Unix(_) => ServerSession::passing_files(lender, now),
            #[cfg(feature = "rdma")]
            Stream::Rdma(_, domains) => ServerSession::passing_keys(lender, now, Arc::clone(domains) as Arc<dyn Export>),
        }
    }

    /// Whether something was said before the connection was taken, which no event announces.
    pub(crate) fn has_said(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => false,
            #[cfg(feature = "rdma")]
            Stream::Rdma(..) => true,
        }
    }

    /// Lets time pass: a kind of connection whose system doesn't look whether the other end is still there does it here.
    pub(crate) fn keep_alive(&mut self, now: Instant) -> io::Result<()> {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => {
                let _ = now;
                Ok(())
            }
            #[cfg(feature = "rdma")]
            Stream::Rdma(stream, _) => stream.keep_alive(now),
        }
    }

    /// Sends as much of a session's output, and of the files that go with it, as the kernel takes. How many bytes.
    pub(crate) fn send(&mut self, session: &ServerSession) -> io::Result<usize> {
        let output = session.output();
        match (self, session.file()) {
            #[cfg(feature = "rdma")]
            (Stream::Rdma(stream, _), _) => stream.send(session.borrower(), output),
            (stream, None) => stream.write(output),
            (stream, Some((before, _))) if before > 0 => stream.write(&output[..before]),
            (Stream::Unix(stream), Some((_, file))) => {
                let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut along = SendAncillaryBuffer::new(&mut room);
                let passed = [file.as_fd()];
                if !along.push(SendAncillaryMessage::ScmRights(&passed)) {
                    return Err(io::Error::other("no room for a file beside a message"));
                }
                // One byte: whatever follows may have a file of its own.
                let sent = rustix::net::sendmsg(stream, &[IoSlice::new(&output[..1])], &mut along, SendFlags::NOSIGNAL)?;
                Ok(sent)
            }
            (Stream::Tcp(_), Some(_)) => Err(io::Error::other("files can't be passed over TCP")),
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn shut_down(&mut self) {
        // That there is no connection any more is all the same.
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(feature = "rdma")]
            Stream::Rdma(stream, _) => {
                stream.shut_down();
                Ok(())
            }
        };
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(into),
            Stream::Unix(stream) => stream.read(into),
            #[cfg(feature = "rdma")]
            Stream::Rdma(stream, _) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
            #[cfg(feature = "rdma")]
            Stream::Rdma(stream, _) => stream.send(None, bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

macro_rules! as_source {
    ($($kind:ident)*) => {
        $(impl Source for $kind {
            fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
                match self {
                    $kind::Tcp(source) => source.register(registry, token, interests),
                    $kind::Unix(source) => source.register(registry, token, interests),
                    #[cfg(feature = "rdma")]
                    $kind::Rdma(source, _) => each_file(&source.files(), |file| file.register(registry, token, Interest::READABLE)),
                }
            }

            fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
                match self {
                    $kind::Tcp(source) => source.reregister(registry, token, interests),
                    $kind::Unix(source) => source.reregister(registry, token, interests),
                    #[cfg(feature = "rdma")]
                    $kind::Rdma(source, _) => each_file(&source.files(), |file| file.reregister(registry, token, Interest::READABLE)),
                }
            }

            fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
                match self {
                    $kind::Tcp(source) => source.deregister(registry),
                    $kind::Unix(source) => source.deregister(registry),
                    #[cfg(feature = "rdma")]
                    $kind::Rdma(source, _) => each_file(&source.files(), |file| file.deregister(registry)),
                }
            }
        })*
    };
}

as_source!(Listener Stream);

/// Does something with the descriptors of which one becomes readable when there is news.
#[cfg(feature = "rdma")]
fn each_file(files: &[BorrowedFd<'_>], mut what: impl FnMut(&mut SourceFd<'_>) -> io::Result<()>) -> io::Result<()> {
    files.iter().try_for_each(|file| what(&mut SourceFd(&file.as_raw_fd())))
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Host(address) => address.fmt(f),
            Peer::Process { pid, uid } => write!(f, "process {pid} of user {uid}"),
            Peer::Unknown => f.write_str("a process of this machine"),
        }
    }
}
