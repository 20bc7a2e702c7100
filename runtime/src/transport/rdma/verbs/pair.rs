//! Queue pairs.

use super::check;
use super::completions::Completions;
use super::domain::Domain;
use super::id::Id;
use rdma_sys::{
    ibv_post_recv, ibv_post_send, ibv_qp, ibv_qp_cap, ibv_qp_init_attr, ibv_qp_type, ibv_recv_wr, ibv_send_wr, rdma_accept,
    rdma_conn_param, rdma_connect, rdma_create_qp, rdma_destroy_qp, rdma_disconnect,
};
use std::io;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// As many reads in flight at the device as both ends can have.
const MOST: u8 = 0xff;

/// Times a device sends again before it gives up: the most there can be.
const RETRIES: u8 = 7;

/// Times it tries again if the other end had no room for a message. Not 7, which is for ever.
const ROOM_RETRIES: u8 = 6;

/// Sizes tried for what goes along with a request instead of being fetched by the device.
const INLINE: [u32; 4] = [256, 128, 64, 0];

/// One end of a connection: an identifier, perhaps with a queue pair on it.
#[derive(Debug)]
pub(super) struct Pair {
    qp: Option<NonNull<ibv_qp>>,
    pub(super) completions: Completions,
    domain: Option<Arc<Domain>>,
    pub(super) id: Id,
    inline: usize,
}

// SAFETY: the library's calls on queue pairs may be made by any thread; the value is the only owner.
unsafe impl Send for Pair {}

impl Pair {
    /// An end without a queue pair, on the device that `id` is bound to, with room for so many completions.
    pub(super) fn new(id: Id, completions: u32) -> io::Result<Self> {
        Ok(Self { qp: None, completions: Completions::new(&id, completions)?, domain: None, id, inline: 0 })
    }

    /// Makes the queue pair, with room for so many requests of each kind. Its device must be the domain's.
    pub(super) fn create(&mut self, domain: &Arc<Domain>, sends: u32, receives: u32) -> io::Result<()> {
        debug_assert!(self.qp.is_none(), "a queue pair is made once");
        let mut outcome = Err(io::ErrorKind::Unsupported.into());
        for inline in INLINE {
            let mut attributes = ibv_qp_init_attr {
                qp_context: ptr::null_mut(),
                send_cq: self.completions.cq(),
                recv_cq: self.completions.cq(),
                srq: ptr::null_mut(),
                cap: ibv_qp_cap {
                    max_send_wr: sends,
                    max_recv_wr: receives,
                    max_send_sge: 1,
                    max_recv_sge: 1,
                    max_inline_data: inline,
                },
                qp_type: ibv_qp_type::IBV_QPT_RC,
                sq_sig_all: 0,
            };
            // SAFETY: identifier, domain and queue exist, on one device (the library checks that), and live until the queue pair is destroyed in `kill`.
            outcome = check("no queue pair", unsafe { rdma_create_qp(self.id.raw(), domain.pd(), &mut attributes) });
            if outcome.is_ok() {
                self.inline = inline as usize;
                break;
            }
        }
        outcome?;
        // SAFETY: the call succeeded, so the identifier has a queue pair.
        self.qp = NonNull::new(unsafe { (*self.id.raw()).qp });
        self.domain = Some(Arc::clone(domain));
        Ok(())
    }

    /// The domain of the queue pair.
    pub(super) fn domain(&self) -> Option<&Arc<Domain>> {
        self.domain.as_ref()
    }

    /// Bytes that a write may take along, at most.
    pub(super) fn inline(&self) -> usize {
        self.inline
    }

    /// Asks the other end for a connection, and says up to 56 bytes with that.
    pub(super) fn connect(&mut self, said: &[u8]) -> io::Result<()> {
        let mut parameters = parameters(said)?;
        // SAFETY: the identifier exists and has a queue pair; the parameters point to `said`, which is copied.
        check("can't connect", unsafe { rdma_connect(self.id.raw(), &mut parameters) })
    }

    /// Takes the connection that was asked for, and says up to 196 bytes with that.
    pub(super) fn accept(&mut self, said: &[u8]) -> io::Result<()> {
        let mut parameters = parameters(said)?;
        // SAFETY: as for `connect`.
        check("can't accept a connection", unsafe { rdma_accept(self.id.raw(), &mut parameters) })
    }

    /// Ends the connection; what was posted completes with an error.
    pub(super) fn disconnect(&mut self) {
        if self.qp.is_some() {
            // SAFETY: the identifier exists and has a queue pair. That there may be no connection (any more) is an error that changes nothing.
            unsafe { rdma_disconnect(self.id.raw()) };
        }
    }

    /// Destroys the queue pair. When this returns the device touches nothing more that was posted.
    pub(super) fn kill(&mut self) {
        if self.qp.take().is_some() {
            // SAFETY: the identifier exists and has a queue pair, which is destroyed once, because `qp` is empty from now on.
            unsafe { rdma_destroy_qp(self.id.raw()) };
        }
    }

    /// Posts a chain of work requests. Fails with how many of them were posted.
    ///
    /// # Safety
    /// `wrs` is linked by `next` in order, to its end. What each names in local memory may be read (or written, by a read) by the device and is touched by
    /// nobody else until its completion, or one of a later request, was taken, or [`kill`](Self::kill) was called.
    pub(super) unsafe fn post_sends(&mut self, wrs: &mut [ibv_send_wr]) -> Result<(), (usize, io::Error)> {
        let Some(qp) = self.qp else { return Err((0, io::ErrorKind::NotConnected.into())) };
        let mut bad = ptr::null_mut();
        // SAFETY: the queue pair exists; the chain is the caller's promise, and is copied.
        let code = unsafe { ibv_post_send(qp.as_ptr(), wrs.as_mut_ptr(), &mut bad) };
        check("requests can't be posted", code).map_err(|error| {
            let posted = wrs.iter().position(|wr| ptr::eq(wr, bad)).unwrap_or(0);
            (posted, error)
        })
    }

    /// Posts one receive.
    ///
    /// # Safety
    /// What it names in local memory may be written by the device and is touched by nobody else until its completion was taken, or `kill` was called.
    pub(super) unsafe fn post_receive(&mut self, wr: &mut ibv_recv_wr) -> io::Result<()> {
        let Some(qp) = self.qp else { return Err(io::ErrorKind::NotConnected.into()) };
        let mut bad = ptr::null_mut();
        // SAFETY: the queue pair exists; the request is a single one, by the caller's promise good, and is copied.
        check("a receive can't be posted", unsafe { ibv_post_recv(qp.as_ptr(), wr, &mut bad) })
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.kill();
    }
}

fn parameters(said: &[u8]) -> io::Result<rdma_conn_param> {
    let private_data_len = u8::try_from(said.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(rdma_conn_param {
        private_data: said.as_ptr().cast(),
        private_data_len,
        responder_resources: MOST,
        initiator_depth: MOST,
        flow_control: 0,
        retry_count: RETRIES,
        rnr_retry_count: ROOM_RETRIES,
        srq: 0,
        qp_num: 0,
    })
}
