//! The borrower's end of a connection, as a socket: making it, and the stream of bytes for control.
#![forbid(unsafe_code)]

use super::verbs::{Broken, Domain, Event, Id, Link, Shape};
use crate::error::TransportError;
use crate::transport::stream::{Limits, Socket, Until, wait_for_file};
use crate::wire::frame::{HELLO_BYTES, WELCOME_BYTES};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long to wait before a step that failed is tried again. Neighbours on a network may not know each other yet.
const AGAIN: Duration = Duration::from_millis(20);

/// The device sends again eight times and waits one to four times as long as it is told; this part of an operation's timeout keeps all of that within it.
const ACK_PART: u32 = 32;

/// Which way a connection goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    pub(super) to: SocketAddr,
    /// The address of the device to go by; `None` for the one that the routing table says.
    pub(super) from: Option<SocketAddr>,
}

/// A connection past its handshake, of which the first bytes each way went along with request and answer.
#[derive(Debug)]
pub(super) struct RdmaSocket {
    pub(super) link: Link,
    domain: Arc<Domain>,
    /// What was said with the request. The session says it once more.
    said: Option<[u8; HELLO_BYTES]>,
    /// What was answered, until the session has heard it.
    heard: Vec<u8>,
    /// The other end wanted no connection: it has said all.
    rejected: bool,
}

/// Why a try failed.
enum Failure {
    /// It may do better soon.
    Again(String),
    Final(TransportError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Final(TransportError::Unreachable(error.to_string()))
    }
}

impl RdmaSocket {
    /// Connects, saying `hello`, in `domain`, or in a new one if there is none yet.
    pub(super) fn connect(
        route: Route,
        domain: Option<&Arc<Domain>>,
        shape: Shape,
        hello: [u8; HELLO_BYTES],
        limits: Limits,
    ) -> Result<Self, TransportError> {
        loop {
            let why = match Self::try_connect(route, domain, shape, hello, limits) {
                Ok(socket) => return Ok(socket),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again(why)) => why,
            };
            if Instant::now() + AGAIN >= limits.connect_by {
                return Err(TransportError::Unreachable(format!("{why}, for {:?}", limits.connect_timeout)));
            }
            std::thread::sleep(AGAIN);
        }
    }

    fn try_connect(
        route: Route,
        domain: Option<&Arc<Domain>>,
        shape: Shape,
        hello: [u8; HELLO_BYTES],
        limits: Limits,
    ) -> Result<Self, Failure> {
        let id = Id::new()?;
        let left = || limits.connect_by.saturating_duration_since(Instant::now());
        id.resolve_address(route.from, route.to, left())?;
        let Event::AddressResolved = next_event(&id, limits)? else { return Err(out_of_turn()) };
        id.set_ack_timeout(limits.op_timeout / ACK_PART);
        id.resolve_route(left())?;
        let Event::RouteResolved = next_event(&id, limits)? else { return Err(out_of_turn()) };
        let domain = match domain {
            Some(domain) if domain.is_on_device_of(&id) => Arc::clone(domain),
            Some(_) => return Err(io::Error::other("the way there leads over another RDMA device than before").into()),
            None => {
                let anchor = Id::new()?;
                let mut here = id.local_address().ok_or_else(|| io::Error::other("the RDMA device has no address"))?;
                here.set_port(0);
                anchor.bind(here)?;
                Domain::new(anchor)?
            }
        };
        let mut link = Link::new(id, shape)?;
        link.open(&domain, shape)?;
        link.connect(&hello)?;
        let (heard, rejected) = match next_event(link.id(), limits)? {
            Event::Established(heard) => (heard, false),
            Event::Rejected(heard) => (heard, true),
            Event::NobodyThere => {
                return Err(Failure::Final(TransportError::Unreachable("nobody listens at that RDMA port".into())));
            }
            _ => return Err(out_of_turn()),
        };
        // The rest is padding.
        let heard = heard.into_iter().take(WELCOME_BYTES).collect();
        Ok(Self { link, domain, said: Some(hello), heard, rejected })
    }

    /// The domain that it is in.
    pub(super) fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    fn look(&mut self) -> io::Result<()> {
        if let Some(Event::Disconnected) = self.link.next_event()? {
            return Err(io::Error::new(ErrorKind::ConnectionReset, "the server ended it, or is gone"));
        }
        // No transfers are begun on a connection that is used as a socket.
        self.link.pump(drop).map(drop).map_err(|broken| io::Error::new(ErrorKind::ConnectionReset, lost(&broken)))
    }
}

/// What to say of a connection that broke.
pub(super) fn lost(broken: &Broken) -> String {
    match broken {
        Broken::Silent(name) => format!("the server's RDMA device doesn't answer ({name})"),
        Broken::Denied(name) => format!("the server's RDMA device refused access ({name})"),
        Broken::Ended => "the server ended it, or is gone".into(),
        Broken::Other(why) => why.clone(),
    }
}

fn out_of_turn() -> Failure {
    Failure::Again("the connection manager got out of step".into())
}

/// Waits for the next event of a connection that is being made.
fn next_event(id: &Id, limits: Limits) -> Result<Event, Failure> {
    loop {
        match id.next_event()? {
            Some(Event::Failed(why)) => return Err(Failure::Again(why)),
            Some(Event::Other) => {}
            Some(event) => return Ok(event),
            None => {
                let left = limits.connect_by.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    let late = TransportError::Timeout { what: "the connection request", after: limits.connect_timeout };
                    return Err(Failure::Final(late));
                }
                // It may return early, and the loop asks again.
                wait_for_file(id.as_fd(), Until::Readable, left);
            }
        }
    }
}

impl Socket for RdmaSocket {
    fn receive(&mut self, into: &mut [u8], _files: &mut Vec<File>) -> io::Result<usize> {
        if !self.heard.is_empty() {
            let len = into.len().min(self.heard.len());
            into[..len].copy_from_slice(&self.heard[..len]);
            self.heard.drain(..len);
            return Ok(len);
        }
        if self.rejected {
            return Ok(0);
        }
        // What has come counts, whatever has become of the connection since.
        let looked = self.look();
        match self.link.take(into) {
            0 => looked.and(Err(ErrorKind::WouldBlock.into())),
            len => Ok(len),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(hello) = self.said.take() {
            debug_assert_eq!(bytes, hello, "the first bytes went along with the request");
            return Ok(bytes.len().min(hello.len()));
        }
        if self.rejected {
            return Err(ErrorKind::BrokenPipe.into());
        }
        self.link.send(bytes)
    }

    fn wait(&mut self, _until: Until, at_most: Duration) {
        // What comes between the look and the sleep makes the file readable.
        if self.heard.is_empty() && self.link.arm().is_ok() && self.link.pump(drop).is_ok_and(|count| count == 0) {
            self.link.sleep(at_most);
        }
    }
}
