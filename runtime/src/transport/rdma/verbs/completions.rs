//! Completion queues, and sleeping until there is something in one.

use super::id::Id;
use super::{check, last_error, set_nonblocking};
use rdma_sys::{
    ibv_ack_cq_events, ibv_comp_channel, ibv_cq, ibv_create_comp_channel, ibv_create_cq, ibv_destroy_comp_channel,
    ibv_destroy_cq, ibv_get_cq_event, ibv_poll_cq, ibv_req_notify_cq, ibv_wc,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::{self, NonNull};

/// Completions taken at once.
pub(super) const BATCH: usize = 32;

/// A completion queue with a channel of its own. Destroyed when dropped.
#[derive(Debug)]
pub(super) struct Completions {
    cq: NonNull<ibv_cq>,
    channel: NonNull<ibv_comp_channel>,
}

// SAFETY: the library's calls on queues and channels may be made by any thread; the value is their only owner.
unsafe impl Send for Completions {}

/// What became of one posted work request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) id: u64,
    /// A code of `ibv_wc_status`.
    pub(super) status: u32,
    /// Bytes received, for a receive that succeeded.
    pub(super) len: u32,
}

impl Completions {
    /// A queue of at least `entries`, on the device of `id`, which must outlive it.
    pub(super) fn new(id: &Id, entries: u32) -> io::Result<Self> {
        let device = id.device()?;
        // SAFETY: the device is open while `id`, which the caller keeps, is bound to it.
        let channel = unsafe { ibv_create_comp_channel(device.as_ptr()) };
        let channel = NonNull::new(channel).ok_or_else(|| last_error("no completion channel"))?;
        // SAFETY: as above; the channel was made just now.
        let cq = unsafe { ibv_create_cq(device.as_ptr(), entries as i32, ptr::null_mut(), channel.as_ptr(), 0) };
        let Some(cq) = NonNull::new(cq) else {
            let error = last_error("no completion queue");
            // SAFETY: made above, used by nothing, destroyed once.
            unsafe { ibv_destroy_comp_channel(channel.as_ptr()) };
            return Err(error);
        };
        let completions = Self { cq, channel };
        set_nonblocking(completions.as_fd())?;
        completions.arm()?;
        Ok(completions)
    }

    /// Takes up to a batch of completions.
    #[inline]
    pub(super) fn take(&mut self, out: &mut [Done; BATCH]) -> io::Result<usize> {
        let mut wcs = [const { std::mem::MaybeUninit::<ibv_wc>::uninit() }; BATCH];
        // SAFETY: the queue exists; there is room for `BATCH` completions.
        let count = unsafe { ibv_poll_cq(self.cq.as_ptr(), BATCH as i32, wcs.as_mut_ptr().cast()) };
        let count = usize::try_from(count).map_err(|_| io::Error::other("the completion queue can't be read"))?;
        for (done, wc) in out.iter_mut().zip(&wcs[..count]) {
            // SAFETY: the call has written the first `count`. Of one that failed only these two fields mean anything, and `byte_len` is a number whatever it says.
            let wc = unsafe { wc.assume_init_ref() };
            *done = Done { id: wc.wr_id, status: wc.status, len: wc.byte_len };
        }
        Ok(count)
    }

    /// Has the next completion make the channel readable. What came before may not: look once more after this.
    pub(super) fn arm(&self) -> io::Result<()> {
        // SAFETY: the queue exists.
        check("a completion queue can't be armed", unsafe { ibv_req_notify_cq(self.cq.as_ptr(), 0) })
    }

    /// Takes the channel's notices, so that it isn't readable any more.
    pub(super) fn take_notices(&self) {
        let mut count = 0;
        loop {
            let (mut cq, mut context) = (ptr::null_mut(), ptr::null_mut());
            // SAFETY: the channel exists; the results have room.
            if unsafe { ibv_get_cq_event(self.channel.as_ptr(), &mut cq, &mut context) } != 0 {
                break;
            }
            count += 1;
        }
        if count > 0 {
            // SAFETY: the queue exists, it is the channel's only one, and so many of its notices were taken above and none is acknowledged twice.
            unsafe { ibv_ack_cq_events(self.cq.as_ptr(), count) };
        }
    }

    pub(super) fn cq(&self) -> *mut ibv_cq {
        self.cq.as_ptr()
    }
}

impl AsFd for Completions {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel exists until `self` is dropped, and its descriptor is open as long.
        unsafe { BorrowedFd::borrow_raw(self.channel.as_ref().fd) }
    }
}

impl Drop for Completions {
    fn drop(&mut self) {
        // SAFETY: both were made in `new` and are destroyed once, the queue before its channel; its notices have been acknowledged as they were taken, and the
        // queue pair that used it has been destroyed (`Pair`).
        unsafe {
            ibv_destroy_cq(self.cq.as_ptr());
            ibv_destroy_comp_channel(self.channel.as_ptr());
        }
    }
}
