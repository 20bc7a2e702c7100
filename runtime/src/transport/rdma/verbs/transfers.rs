//! Reads and writes of the other end's memory, many in flight, and the buffers in use by them.
//!
//! A reliable connection completes its requests in the order in which they were posted. So what is in flight is a queue; only the last request of each doorbell and every
//! [`SIGNAL_EVERY`]th between says when it is done, and stands for all before it.

use super::domain::{Domain, Region};
use super::link::Kind;
use super::messages::request;
use super::pair::Pair;
use crate::slab::mapping::Mapping;
use crate::transport::{IoBuf, MAX_OP_BYTES, SlabId, Token, Verb};
use rdma_sys::{ibv_send_flags as flag, ibv_send_wr, ibv_sge, ibv_wr_opcode};
use std::collections::VecDeque;
use std::io;
use std::ptr;
use std::sync::Arc;
use std::time::Instant;

/// Requests that are posted with one doorbell.
const DOORBELL: usize = 16;

/// Of so many requests in a row at least one says when it is done, so that the first of a long batch doesn't wait for its last.
const SIGNAL_EVERY: u64 = 4;

/// Room for what passes through registered memory, because it doesn't lie in any: two of the largest operations.
const STAGING_BYTES: usize = 2 * MAX_OP_BYTES;

/// Where in the other end's memory, and the key to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport::rdma) struct Remote {
    pub(in crate::transport::rdma) address: u64,
    pub(in crate::transport::rdma) key: u32,
}

/// A read or write to be done.
#[derive(Debug)]
pub(in crate::transport::rdma) struct Transfer {
    pub(in crate::transport::rdma) token: Token,
    pub(in crate::transport::rdma) verb: Verb,
    pub(in crate::transport::rdma) slab: SlabId,
    pub(in crate::transport::rdma) buf: IoBuf,
}

/// Why a transfer was not taken.
#[derive(Debug)]
pub(in crate::transport::rdma) enum NotAdded {
    /// There is no room now.
    Busy(Transfer),
    /// There will be none.
    Failed(Transfer, io::Error),
}

#[derive(Debug)]
struct Entry {
    transfer: Transfer,
    remote: Remote,
    place: Place,
    deadline: Option<Instant>,
}

/// From or to where the device moves the bytes.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// The buffer, which lies in registered memory with this key.
    Buffer { key: u32 },
    /// A part of the staging memory, up to this position of its ring.
    Staged { offset: usize, end: u64 },
    /// With the request itself.
    Inline,
}

/// Registered memory through which other memory passes: a ring, since requests end in order.
#[derive(Debug)]
struct Staging {
    memory: Mapping,
    region: Region,
    /// Positions count all bytes that ever passed.
    head: u64,
    tail: u64,
}

/// The reads and writes of one connection.
#[derive(Debug)]
pub(super) struct Transfers {
    queue: VecDeque<Entry>,
    /// Number of the first in the queue.
    first: u64,
    /// How many of the queue are posted.
    posted: usize,
    capacity: usize,
    staging: Option<Staging>,
}

impl Transfers {
    /// Room for `capacity` in flight.
    pub(super) fn new(capacity: usize) -> Self {
        Self { queue: VecDeque::new(), first: 0, posted: 0, capacity, staging: None }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Takes a transfer, to be posted with the next doorbell. `local_key`: that of the registered memory in which its buffer lies, if it does.
    pub(super) fn add(
        &mut self,
        pair: &Pair,
        transfer: Transfer,
        remote: Remote,
        local_key: Option<u32>,
    ) -> Result<(), NotAdded> {
        if self.queue.len() >= self.capacity {
            return Err(NotAdded::Busy(transfer));
        }
        let len = transfer.buf.len();
        let place = match (transfer.verb, local_key) {
            (Verb::Write, _) if len <= pair.inline() => Place::Inline,
            (_, Some(key)) => Place::Buffer { key },
            (verb, None) => {
                let staging = match self.staging_of(pair) {
                    Ok(staging) => staging,
                    Err(error) => return Err(NotAdded::Failed(transfer, error)),
                };
                let Some((offset, end)) = staging.take(len) else { return Err(NotAdded::Busy(transfer)) };
                if verb == Verb::Write {
                    staging.fill(offset, transfer.buf.as_slice());
                }
                Place::Staged { offset, end }
            }
        };
        self.queue.push_back(Entry { transfer, remote, place, deadline: None });
        Ok(())
    }

    /// The staging memory, which is made when it is first needed.
    fn staging_of(&mut self, pair: &Pair) -> io::Result<&mut Staging> {
        match &mut self.staging {
            Some(staging) => Ok(staging),
            staging => {
                let domain = pair.domain().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
                Ok(staging.insert(Staging::new(domain)?))
            }
        }
    }

    /// Posts what is not posted yet, and says when it is to be done.
    pub(super) fn post(&mut self, pair: &mut Pair, deadline: Instant) -> io::Result<()> {
        while self.posted < self.queue.len() {
            let count = (self.queue.len() - self.posted).min(DOORBELL);
            let mut parts = [ibv_sge { addr: 0, length: 0, lkey: 0 }; DOORBELL];
            for (index, part) in parts[..count].iter_mut().enumerate() {
                *part = self.part(self.posted + index);
            }
            let mut wrs: [ibv_send_wr; DOORBELL] = std::array::from_fn(|index| {
                let Some(entry) = self.queue.get(self.posted + index).filter(|_| index < count) else {
                    return request(0, 0, 0, &mut parts[index], (0, 0));
                };
                let number = self.first + (self.posted + index) as u64;
                let opcode = match entry.transfer.verb {
                    Verb::Read => ibv_wr_opcode::IBV_WR_RDMA_READ,
                    Verb::Write => ibv_wr_opcode::IBV_WR_RDMA_WRITE,
                };
                let signalled = index + 1 == count || number % SIGNAL_EVERY == SIGNAL_EVERY - 1;
                let mut flags = if signalled { flag::IBV_SEND_SIGNALED.0 } else { 0 };
                if let Place::Inline = entry.place {
                    flags |= flag::IBV_SEND_INLINE.0;
                }
                request(Kind::Transfer.tag(number), opcode, flags, &mut parts[index], (entry.remote.address, entry.remote.key))
            });
            for index in 1..count {
                wrs[index - 1].next = ptr::from_mut(&mut wrs[index]);
            }
            // SAFETY: the first `count` are linked in order. Each names a buffer that its entry owns or a part of the staging memory that its entry has taken, and
            // both stay so until the entry leaves the queue: by `completed`, after its completion or a later one was taken, or by `take_all`, which `Link` calls after
            // it has killed the queue pair, as it does before it drops this. A buffer is initialised memory that nobody but its owner touches.
            let posted = unsafe { pair.post_sends(&mut wrs[..count]) };
            let went = posted.as_ref().map_or_else(|(went, _)| *went, |()| count);
            for entry in self.queue.range_mut(self.posted..self.posted + went) {
                entry.deadline = Some(deadline);
            }
            self.posted += went;
            posted.map_err(|(_, error)| error)?;
        }
        Ok(())
    }

    /// The local memory of an entry.
    fn part(&mut self, index: usize) -> ibv_sge {
        let Entry { transfer, place, .. } = &mut self.queue[index];
        let length = transfer.buf.len() as u32;
        let (at, lkey) = match *place {
            Place::Buffer { key } => (transfer.buf.as_mut_slice().as_mut_ptr(), key),
            Place::Inline => (transfer.buf.as_mut_slice().as_mut_ptr(), 0),
            Place::Staged { offset, .. } => {
                let staging = self.staging.as_ref().expect("staged entries lie in the staging memory");
                (staging.memory.as_mut_ptr().wrapping_add(offset), staging.region.local_key())
            }
        };
        ibv_sge { addr: at.expose_provenance() as u64, length, lkey }
    }

    /// Request number `number` is done, and all before it: hands them to `done`.
    pub(super) fn completed(&mut self, number: u64, done: &mut impl FnMut(Transfer)) {
        while self.posted > 0 && self.first <= number {
            let Some(Entry { mut transfer, place, .. }) = self.queue.pop_front() else { return };
            self.first += 1;
            self.posted -= 1;
            if let (Place::Staged { offset, end }, Some(staging)) = (place, &mut self.staging) {
                if transfer.verb == Verb::Read {
                    staging.copy_out(offset, transfer.buf.as_mut_slice());
                }
                staging.head = end;
            }
            done(transfer);
        }
    }

    /// The requests before number `number`, which failed, are done.
    pub(super) fn completed_before(&mut self, number: u64, done: &mut impl FnMut(Transfer)) {
        if let Some(last) = number.checked_sub(1) {
            self.completed(last, done);
        }
    }

    /// When the first of the queue is to be done, if it is posted.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.queue.front()?.deadline
    }

    /// What the first of the queue is.
    pub(super) fn front(&self) -> Option<&Transfer> {
        self.queue.front().map(|entry| &entry.transfer)
    }

    /// All that is left, after the queue pair has been killed.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Transfer> + use<> {
        self.posted = 0;
        std::mem::take(&mut self.queue).into_iter().map(|entry| entry.transfer)
    }
}

impl Staging {
    fn new(domain: &Arc<Domain>) -> io::Result<Self> {
        let memory = Mapping::private(STAGING_BYTES)?;
        let region = Region::own(domain, memory.as_mut_ptr().expose_provenance(), memory.len())?;
        Ok(Self { memory, region, head: 0, tail: 0 })
    }

    /// Takes `len` bytes in one piece: where they begin, and the position behind them.
    fn take(&mut self, len: usize) -> Option<(usize, u64)> {
        let size = self.memory.len() as u64;
        let len = len as u64;
        let mut start = self.tail;
        if start % size + len > size {
            start = start.next_multiple_of(size);
        }
        if start + len - self.head > size {
            return None;
        }
        self.tail = start + len;
        Some(((start % size) as usize, self.tail))
    }

    fn fill(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.memory.len(), "what is taken lies in the ring");
        // SAFETY: the range lies in the memory and was taken just now, so no request uses it and no Rust reference to it exists.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.as_mut_ptr().add(offset), bytes.len()) };
    }

    fn copy_out(&self, offset: usize, into: &mut [u8]) {
        assert!(offset + into.len() <= self.memory.len(), "what was taken lies in the ring");
        // SAFETY: the range lies in the memory; its request has completed and it is not given to another before `head` passes it, so the device doesn't write it.
        unsafe { ptr::copy_nonoverlapping(self.memory.as_mut_ptr().add(offset), into.as_mut_ptr(), into.len()) };
    }
}
