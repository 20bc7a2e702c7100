//! Small messages over a queue pair: a stream of bytes each way, for control.
//!
//! Each end has room for [`RECEIVES`] messages of [`MESSAGE_BYTES`], and makes room again as soon as it has taken one. Who sends more than that at once is made to wait by
//! its own device, and fails in the end; the protocol on top has fewer requests in flight.

use super::domain::{Domain, Region};
use super::pair::Pair;
use crate::slab::mapping::Mapping;
use rdma_sys::{
    atomic_t, bind_mw_tso_union_t, ibv_recv_wr, ibv_send_flags, ibv_send_wr, ibv_sge, ibv_wr_opcode,
    imm_data_invalidated_rkey_union_t, qp_type_t, rdma_t, tso_t, wr_t, xrc_t,
};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::ptr;
use std::sync::Arc;

/// Bytes of a message. A request has 20, the longest reply 24.
const MESSAGE_BYTES: usize = 256;

/// Messages that can come without being taken.
pub(super) const RECEIVES: u32 = 16;

/// Messages that can be on their way.
pub(super) const SENDS: u32 = 8;

/// The messages of one connection.
#[derive(Debug)]
pub(super) struct Messages {
    /// Room for those that come, then for those that go.
    memory: Mapping,
    region: Region,
    /// What came and was not asked for yet.
    inbox: VecDeque<u8>,
    /// Places for messages to be sent that are free.
    free: Vec<u32>,
}

impl Messages {
    /// Registers the memory, in the domain of the queue pair, and makes room for messages.
    pub(super) fn new(pair: &mut Pair, domain: &Arc<Domain>) -> io::Result<Self> {
        let memory = Mapping::private((RECEIVES + SENDS) as usize * MESSAGE_BYTES)?;
        let region = Region::own(domain, memory.as_mut_ptr().expose_provenance(), memory.len())?;
        let mut messages = Self { memory, region, inbox: VecDeque::new(), free: (0..SENDS).collect() };
        for place in 0..RECEIVES {
            messages.make_room(pair, place)?;
        }
        Ok(messages)
    }

    /// Puts the place of a message that was taken, or of none yet, to use for another.
    fn make_room(&mut self, pair: &mut Pair, place: u32) -> io::Result<()> {
        let mut part = self.part(place as usize, MESSAGE_BYTES);
        let mut wr = ibv_recv_wr {
            wr_id: super::link::Kind::Receive.tag(place.into()),
            next: ptr::null_mut(),
            sg_list: &mut part,
            num_sge: 1,
        };
        // SAFETY: the place lies in `memory`, which lives as long as `self`, and is posted once at a time: at the beginning, and after its completion was taken. `Link` kills
        // the queue pair before it drops this. It is read by `received` only, between completion and the next posting.
        unsafe { pair.post_receive(&mut wr) }
    }

    /// A message has come.
    pub(super) fn received(&mut self, pair: &mut Pair, place: u64, len: u32) -> io::Result<()> {
        let (place, len) = (place as usize, len as usize);
        if place >= RECEIVES as usize || len > MESSAGE_BYTES {
            return Err(io::Error::new(ErrorKind::InvalidData, "a message of a size that can't be"));
        }
        let mut copy = [0; MESSAGE_BYTES];
        // SAFETY: the place lies in `memory`; its receive has completed and is not posted again yet, so the device doesn't write it.
        unsafe { ptr::copy_nonoverlapping(self.memory.as_mut_ptr().add(place * MESSAGE_BYTES), copy.as_mut_ptr(), len) };
        self.inbox.extend(&copy[..len]);
        self.make_room(pair, place as u32)
    }

    /// A message has gone; its place is free.
    pub(super) fn sent(&mut self, place: u64) {
        let place = place as u32;
        if place < SENDS && !self.free.contains(&place) {
            self.free.push(place);
        }
    }

    /// Whether some are on their way.
    pub(super) fn is_sending(&self) -> bool {
        self.free.len() < SENDS as usize
    }

    /// Takes what has come, as much as there is room for.
    pub(super) fn take(&mut self, into: &mut [u8]) -> usize {
        let len = into.len().min(self.inbox.len());
        for (byte, came) in into.iter_mut().zip(self.inbox.drain(..len)) {
            *byte = came;
        }
        len
    }

    /// Sends as much of `bytes` as one message takes. How much that is.
    pub(super) fn send(&mut self, pair: &mut Pair, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(MESSAGE_BYTES);
        let Some(place) = self.free.pop() else { return Err(ErrorKind::WouldBlock.into()) };
        let at = (RECEIVES + place) as usize;
        // SAFETY: the place lies in `memory` and is free: what was posted from there has completed, so the device doesn't read it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.as_mut_ptr().add(at * MESSAGE_BYTES), len) };
        let mut part = self.part(at, len);
        let id = super::link::Kind::Send.tag(place.into());
        let mut wrs = [request(id, ibv_wr_opcode::IBV_WR_SEND, ibv_send_flags::IBV_SEND_SIGNALED.0, &mut part, (0, 0))];
        // SAFETY: the place lies in `memory`, which lives as long as `self`; it is not touched until its completion makes it free again, and `Link` kills the queue pair
        // before it drops this.
        unsafe { pair.post_sends(&mut wrs) }.map_err(|(_, error)| error)?;
        Ok(len)
    }

    fn part(&self, place: usize, len: usize) -> ibv_sge {
        let at = self.memory.as_mut_ptr().wrapping_add(place * MESSAGE_BYTES);
        ibv_sge { addr: at.expose_provenance() as u64, length: len as u32, lkey: self.region.local_key() }
    }
}

/// A work request that stands alone, on the memory that `part` names (none if it is empty).
pub(super) fn request(id: u64, opcode: u32, flags: u32, part: &mut ibv_sge, remote: (u64, u32)) -> ibv_send_wr {
    let (remote_addr, rkey) = remote;
    let num_sge = i32::from(part.length > 0);
    // Whole unions, so that no byte of them is left over from before.
    let mut wr = wr_t { atomic: atomic_t { remote_addr: 0, compare_add: 0, swap: 0, rkey: 0 } };
    wr.rdma = rdma_t { remote_addr, rkey };
    ibv_send_wr {
        wr_id: id,
        next: ptr::null_mut(),
        sg_list: part,
        num_sge,
        opcode,
        send_flags: flags,
        imm_data_invalidated_rkey_union: imm_data_invalidated_rkey_union_t { imm_data: 0 },
        wr,
        qp_type: qp_type_t { xrc: xrc_t { remote_srqn: 0 } },
        bind_mw_tso_union: bind_mw_tso_union_t { tso: tso_t { hdr: ptr::null_mut(), hdr_sz: 0, mss: 0 } },
    }
}
