//! The lender's end: listening, connections for control, and slabs that borrowers reach by themselves.
//!
//! Each borrower has a protection domain of its own, in which its connections are made and what it has borrowed is registered. So the device itself keeps borrowers apart: a key is worth nothing in
//! another's domain. A slab is registered when it is lent and deregistered when it is taken back, before anybody else can have it; what comes late for it is refused by the device.

use super::verbs::{Broken, Domain, Event, Id, Link, Region, Shape};
use crate::slab::{BorrowerId, Export, Lease, LentMemory, MemoryKey};
use crate::wire::frame::HELLO_BYTES;
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// A connection's device waits so long for an acknowledgement, eight times, before it gives a borrower up that doesn't answer: a minute, so that a link may be down for a while.
const ACK_TIMEOUT: Duration = Duration::from_secs(8);

/// A borrower's device that has been silent for so long is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How long a farewell may take to arrive.
const FAREWELL: Duration = Duration::from_millis(50);

/// Lenders' connections begin no transfers.
const SHAPE: Shape = Shape { transfers: 0 };

/// The protection domains of a lender's borrowers.
#[derive(Debug, Default)]
pub struct Domains(Mutex<HashMap<BorrowerId, Weak<Domain>>>);

impl Domains {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<BorrowerId, Weak<Domain>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A borrower's domain, if it has connections.
    fn find(&self, borrower: BorrowerId) -> Option<Arc<Domain>> {
        self.lock().get(&borrower)?.upgrade()
    }

    /// A borrower's domain, for a connection to be made by `id`.
    fn domain_for(&self, borrower: BorrowerId, id: &Id) -> io::Result<Arc<Domain>> {
        if let Some(domain) = self.find(borrower) {
            return if domain.is_on_device_of(id) {
                Ok(domain)
            } else {
                Err(io::Error::other("the borrower came by another RDMA device than before"))
            };
        }
        let anchor = Id::new()?;
        let mut here = id.local_address().ok_or_else(|| io::Error::other("the RDMA device has no address"))?;
        here.set_port(0);
        anchor.bind(here)?;
        let domain = Domain::new(anchor)?;
        let mut domains = self.lock();
        domains.retain(|_, domain| domain.strong_count() > 0);
        domains.insert(borrower, Arc::downgrade(&domain));
        Ok(domain)
    }
}

impl Export for Domains {
    fn export(&self, to: BorrowerId, memory: &LentMemory<'_>) -> io::Result<(Lease, MemoryKey)> {
        let domain = self.find(to).ok_or_else(|| io::Error::from(ErrorKind::NotConnected))?;
        let start = memory.start();
        // SAFETY: `LentMemory` is a slab's: to no byte of it does a Rust reference ever exist, and all copies from and to it reckon with others who write it. The store drops the lease, and
        // with it the region, before it gives the memory to somebody else.
        let region = unsafe { Region::lent(&domain, start, memory.len()) }?;
        let key = MemoryKey { address: start as u64, key: region.remote_key() };
        Ok((Box::new(region), key))
    }
}

/// Takes connections of borrowers.
#[derive(Debug)]
pub struct RdmaListener {
    id: Id,
    domains: Arc<Domains>,
}

impl RdmaListener {
    /// Listens at an address of an RDMA device, or at all of them if it is the unspecified one. Port 0 lets the system choose.
    /// At most `backlog` requests for connections wait to be taken.
    pub fn bind(address: SocketAddr, backlog: i32, domains: Arc<Domains>) -> io::Result<Self> {
        let id = Id::new()?;
        id.bind(address)?;
        id.listen(backlog)?;
        Ok(Self { id, domains })
    }

    /// Where it listens.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.id.local_address()
    }

    /// The descriptor that becomes readable when there is a connection to take.
    pub fn files(&self) -> [BorrowedFd<'_>; 1] {
        [self.id.as_fd()]
    }

    /// The next connection; an error of kind `WouldBlock` if there is none now.
    pub fn accept(&self) -> io::Result<(RdmaStream, Option<SocketAddr>)> {
        loop {
            match self.id.next_event()? {
                None => return Err(ErrorKind::WouldBlock.into()),
                Some(Event::Request(id, said)) => {
                    let peer = id.peer_address();
                    id.set_ack_timeout(ACK_TIMEOUT);
                    let Some(hello) = said.first_chunk::<HELLO_BYTES>() else {
                        id.reject(&[])?;
                        continue;
                    };
                    let link = Link::new(id, SHAPE)?;
                    let stage = Stage::Requested { hello: Some(*hello) };
                    let (domains, heard) = (Arc::clone(&self.domains), Instant::now());
                    return Ok((RdmaStream { link, stage, domains, heard }, peer));
                }
                Some(_) => {}
            }
        }
    }
}

#[derive(Debug)]
enum Stage {
    /// It was asked for, with these bytes; what is sent first is the answer.
    Requested {
        hello: Option<[u8; HELLO_BYTES]>,
    },
    Open,
    /// Rejected, or ended by the other end.
    Over,
}

/// A borrower's connection for control: a stream of bytes each way. Never blocks.
#[derive(Debug)]
pub struct RdmaStream {
    link: Link,
    stage: Stage,
    domains: Arc<Domains>,
    /// When something came last, or the other end was last asked whether it is there.
    heard: Instant,
}

impl RdmaStream {
    /// Reads what has come. All of it, if there is room: a later message makes one of the [`files`](Self::files) readable.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.stage {
            Stage::Requested { hello } => match hello.take() {
                Some(hello) => {
                    let len = into.len().min(hello.len());
                    into[..len].copy_from_slice(&hello[..len]);
                    return Ok(len);
                }
                None => return Err(ErrorKind::WouldBlock.into()),
            },
            Stage::Over => return Ok(0),
            Stage::Open => {}
        }
        let looked = self.look();
        match self.link.take(into) {
            0 => {
                looked?;
                match self.stage {
                    Stage::Over => Ok(0),
                    _ => Err(ErrorKind::WouldBlock.into()),
                }
            }
            len => {
                self.heard = Instant::now();
                Ok(len)
            }
        }
    }

    /// Takes completions and events, and sees to it that later ones are announced.
    fn look(&mut self) -> io::Result<()> {
        while let Some(event) = self.link.next_event()? {
            if let Event::Disconnected = event {
                self.stage = Stage::Over;
            }
        }
        self.pump()?;
        self.link.arm()?;
        // What came before the queue was armed is not announced.
        self.pump()
    }

    fn pump(&mut self) -> io::Result<()> {
        match self.link.pump(drop) {
            Ok(_) => Ok(()),
            Err(Broken::Ended) => {
                self.stage = Stage::Over;
                Ok(())
            }
            Err(broken) => Err(io::Error::new(ErrorKind::ConnectionReset, super::socket::lost(&broken))),
        }
    }

    /// Sends as much of `bytes` as goes now. The first is the answer to the request: it takes the connection, as `borrower`'s, or rejects it if that is nobody.
    pub fn send(&mut self, borrower: Option<BorrowerId>, bytes: &[u8]) -> io::Result<usize> {
        match (&self.stage, borrower) {
            (Stage::Requested { .. }, Some(borrower)) => {
                let domain = self.domains.domain_for(borrower, self.link.id())?;
                self.link.open(&domain, SHAPE)?;
                self.link.accept(bytes)?;
                self.stage = Stage::Open;
                Ok(bytes.len())
            }
            (Stage::Requested { .. }, None) => {
                self.stage = Stage::Over;
                self.link.id().reject(bytes)?;
                Ok(bytes.len())
            }
            (Stage::Open, _) => match self.link.send(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // Places become free by completions.
                    self.look()?;
                    self.link.send(bytes)
                }
                sent => sent,
            },
            (Stage::Over, _) => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    /// Sees to it that a borrower whose machine has vanished is noticed, if it is called now and then.
    pub fn keep_alive(&mut self, now: Instant) -> io::Result<()> {
        if !matches!(self.stage, Stage::Open) {
            return Ok(());
        }
        if now.saturating_duration_since(self.heard) >= KEEPALIVE {
            self.heard = now;
            self.link.keep_alive()?;
        }
        self.pump()
    }

    /// Ends the connection when what was sent has arrived, or has had time for it.
    pub fn shut_down(&mut self) {
        let began = Instant::now();
        while matches!(self.stage, Stage::Open) && self.link.is_sending() && began.elapsed() < FAREWELL && self.pump().is_ok() {
            std::thread::yield_now();
        }
        self.link.disconnect();
        self.stage = Stage::Over;
    }

    /// Descriptors of which one becomes readable when there is something to read or room to send, if [`read`](Self::read) has said `WouldBlock` before.
    pub fn files(&self) -> [BorrowedFd<'_>; 2] {
        self.link.files()
    }
}
