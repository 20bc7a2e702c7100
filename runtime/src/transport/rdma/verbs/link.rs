//! A connection with all that goes over it.

use super::completions::{BATCH, Done};
use super::domain::Domain;
use super::id::{Event, Id};
use super::messages::{Messages, RECEIVES, SENDS, request};
use super::pair::Pair;
use super::transfers::{NotAdded, Remote, Transfer, Transfers};
use rdma_sys::{ibv_send_flags, ibv_sge, ibv_wc_status as status, ibv_wc_status_str, ibv_wr_opcode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::ffi::CStr;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many transfers may be in flight on a connection.
#[derive(Debug, Clone, Copy)]
pub(in crate::transport::rdma) struct Shape {
    pub(in crate::transport::rdma) transfers: u16,
}

/// What a completion is of: the upper bits of its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Transfer,
    Send,
    Receive,
    KeepAlive,
}

const KIND_BITS: u32 = 62;

impl Kind {
    /// The number of a work request of this kind.
    pub(super) fn tag(self, number: u64) -> u64 {
        (self as u64) << KIND_BITS | number
    }

    fn of(id: u64) -> (Kind, u64) {
        let kind = [Kind::Transfer, Kind::Send, Kind::Receive, Kind::KeepAlive][(id >> KIND_BITS) as usize];
        (kind, id & ((1 << KIND_BITS) - 1))
    }
}

/// Why a connection can't be used any more.
#[derive(Debug)]
pub(in crate::transport::rdma) enum Broken {
    /// The other end's device doesn't answer.
    Silent(&'static str),
    /// The other end's device refused the key or the range.
    Denied(&'static str),
    /// The connection was ended.
    Ended,
    /// This end's fault, or nobody's.
    Other(String),
}

/// A connection. Dropped, it ends at once; buffers that are in use by the device are freed after the device has let go of them.
#[derive(Debug)]
pub(in crate::transport::rdma) struct Link {
    pair: Pair,
    messages: Option<Messages>,
    transfers: Transfers,
    keeping_alive: bool,
}

impl Link {
    /// An end of a connection to be, on the device that `id` is bound to.
    pub(in crate::transport::rdma) fn new(id: Id, shape: Shape) -> io::Result<Self> {
        let completions = u32::from(shape.transfers) + RECEIVES + SENDS + 1;
        Ok(Self {
            pair: Pair::new(id, completions)?,
            messages: None,
            transfers: Transfers::new(shape.transfers.into()),
            keeping_alive: false,
        })
    }

    /// Makes its queue pair, in `domain`.
    pub(in crate::transport::rdma) fn open(&mut self, domain: &Arc<Domain>, shape: Shape) -> io::Result<()> {
        self.pair.create(domain, u32::from(shape.transfers) + SENDS + 1, RECEIVES)?;
        self.messages = Some(Messages::new(&mut self.pair, domain)?);
        Ok(())
    }

    /// Asks the other end for the connection.
    pub(in crate::transport::rdma) fn connect(&mut self, said: &[u8]) -> io::Result<()> {
        self.pair.connect(said)
    }

    /// Takes the connection that was asked for.
    pub(in crate::transport::rdma) fn accept(&mut self, said: &[u8]) -> io::Result<()> {
        self.pair.accept(said)
    }

    /// Its identifier.
    pub(in crate::transport::rdma) fn id(&self) -> &Id {
        &self.pair.id
    }

    /// What happened to the connection, if anything did.
    pub(in crate::transport::rdma) fn next_event(&mut self) -> io::Result<Option<Event>> {
        self.pair.id.next_event()
    }

    /// Begins a transfer, with the next [`post`](Self::post).
    pub(in crate::transport::rdma) fn add(
        &mut self,
        transfer: Transfer,
        remote: Remote,
        local_key: Option<u32>,
    ) -> Result<(), NotAdded> {
        self.transfers.add(&self.pair, transfer, remote, local_key)
    }

    /// Gives the device what was added, to be done by `deadline`.
    pub(in crate::transport::rdma) fn post(&mut self, deadline: Instant) -> io::Result<()> {
        self.transfers.post(&mut self.pair, deadline)
    }

    /// Transfers that have begun and not ended.
    pub(in crate::transport::rdma) fn in_flight(&self) -> usize {
        self.transfers.len()
    }

    /// When the oldest transfer is to be done.
    pub(in crate::transport::rdma) fn deadline(&self) -> Option<Instant> {
        self.transfers.deadline()
    }

    /// The oldest transfer.
    pub(in crate::transport::rdma) fn front(&self) -> Option<&Transfer> {
        self.transfers.front()
    }

    /// Takes all completions there are; transfers that are done go to `done`. How many completions there were.
    pub(in crate::transport::rdma) fn pump(&mut self, mut done: impl FnMut(Transfer)) -> Result<usize, Broken> {
        let mut batch = [Done { id: 0, status: 0, len: 0 }; BATCH];
        let mut taken = 0;
        loop {
            let count = self.pair.completions.take(&mut batch).map_err(other)?;
            taken += count;
            for completion in &batch[..count] {
                self.completed(*completion, &mut done)?;
            }
            if count < BATCH {
                return Ok(taken);
            }
        }
    }

    fn completed(&mut self, Done { id, status, len }: Done, done: &mut impl FnMut(Transfer)) -> Result<(), Broken> {
        let (kind, number) = Kind::of(id);
        if status != status::IBV_WC_SUCCESS {
            if kind == Kind::Transfer {
                self.transfers.completed_before(number, done);
            }
            return Err(broken(status));
        }
        match (kind, &mut self.messages) {
            (Kind::Transfer, _) => self.transfers.completed(number, done),
            (Kind::Send, Some(messages)) => messages.sent(number),
            (Kind::Receive, Some(messages)) => messages.received(&mut self.pair, number, len).map_err(other)?,
            (Kind::KeepAlive, _) => self.keeping_alive = false,
            (Kind::Send | Kind::Receive, None) => {}
        }
        Ok(())
    }

    /// Sends as much of `bytes` as goes now. How much that is.
    pub(in crate::transport::rdma) fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.messages {
            Some(messages) => messages.send(&mut self.pair, bytes),
            None => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Takes what messages have brought.
    pub(in crate::transport::rdma) fn take(&mut self, into: &mut [u8]) -> usize {
        self.messages.as_mut().map_or(0, |messages| messages.take(into))
    }

    /// Whether messages are on their way.
    pub(in crate::transport::rdma) fn is_sending(&self) -> bool {
        self.messages.as_ref().is_some_and(Messages::is_sending)
    }

    /// Has the device make sure that the other end is there: a write of no bytes, which needs nothing of its program. If it is not, the connection breaks.
    pub(in crate::transport::rdma) fn keep_alive(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.keeping_alive, true) {
            return Ok(());
        }
        let mut nothing = ibv_sge { addr: 0, length: 0, lkey: 0 };
        let id = Kind::KeepAlive.tag(0);
        let signalled = ibv_send_flags::IBV_SEND_SIGNALED.0;
        let mut wrs = [request(id, ibv_wr_opcode::IBV_WR_RDMA_WRITE, signalled, &mut nothing, (0, 0))];
        // SAFETY: it names no memory.
        unsafe { self.pair.post_sends(&mut wrs) }.map_err(|(_, error)| error)
    }

    /// Has the next completion make one of the [`files`](Self::files) readable; what has come already may not.
    pub(in crate::transport::rdma) fn arm(&mut self) -> io::Result<()> {
        self.pair.completions.take_notices();
        self.pair.completions.arm()
    }

    /// Descriptors that become readable when there is something to [`pump`](Self::pump), and when there is an event.
    pub(in crate::transport::rdma) fn files(&self) -> [BorrowedFd<'_>; 2] {
        [self.pair.completions.as_fd(), self.pair.id.as_fd()]
    }

    /// Sleeps until one of the files is readable, but at most for `at_most`. May return early.
    pub(in crate::transport::rdma) fn sleep(&self, at_most: Duration) {
        let [completions, events] = self.files();
        let mut files = [PollFd::from_borrowed_fd(completions, PollFlags::IN), PollFd::from_borrowed_fd(events, PollFlags::IN)];
        let longest = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
        // An error (a signal, for the most part) is an early return, which callers expect.
        let _ = poll(&mut files, Some(&Timespec::try_from(at_most).unwrap_or(longest)));
    }

    /// Tells the other end that this is the end. What is on its way still arrives or fails.
    pub(in crate::transport::rdma) fn disconnect(&mut self) {
        self.pair.disconnect();
    }

    /// Ends it at once. The transfers that had not ended come back; the device has let go of their buffers, and whether they were done is not known.
    pub(in crate::transport::rdma) fn end(&mut self) -> impl Iterator<Item = Transfer> + use<> {
        // So that the other end learns of it; a queue pair that is destroyed says nothing.
        self.pair.disconnect();
        self.pair.kill();
        self.transfers.take_all()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Before the buffers that it may be using, which are dropped next.
        drop(self.end());
    }
}

fn other(error: io::Error) -> Broken {
    Broken::Other(error.to_string())
}

fn broken(code: u32) -> Broken {
    // SAFETY: takes any number and returns a string that is never freed.
    let name = unsafe { CStr::from_ptr(ibv_wc_status_str(code)) }.to_str().unwrap_or("unknown");
    match code {
        status::IBV_WC_RETRY_EXC_ERR | status::IBV_WC_RNR_RETRY_EXC_ERR | status::IBV_WC_RESP_TIMEOUT_ERR => Broken::Silent(name),
        status::IBV_WC_REM_ACCESS_ERR | status::IBV_WC_REM_INV_REQ_ERR | status::IBV_WC_REM_OP_ERR => Broken::Denied(name),
        status::IBV_WC_WR_FLUSH_ERR => Broken::Ended,
        _ => Broken::Other(format!("the RDMA device says: {name}")),
    }
}
