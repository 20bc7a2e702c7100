//! Protection domains, and memory that is registered in one.

use super::id::Id;
use super::{check, last_error};
use rdma_sys::{ibv_access_flags, ibv_alloc_pd, ibv_context, ibv_dealloc_pd, ibv_dereg_mr, ibv_mr, ibv_pd, ibv_reg_mr};
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// A protection domain: what is registered in it can be used by its queue pairs, and by no others.
#[derive(Debug)]
pub(in crate::transport::rdma) struct Domain {
    pd: NonNull<ibv_pd>,
    context: NonNull<ibv_context>,
    /// Keeps the device open; dropped after the domain (`Drop`).
    _anchor: Id,
}

// SAFETY: protection domains may be used by any thread; it is freed once, when nobody has the value any more.
unsafe impl Send for Domain {}
// SAFETY: as above; the identifier in it is not used through `&Domain`.
unsafe impl Sync for Domain {}

impl Domain {
    /// A domain on the device that `anchor` is bound to.
    pub(in crate::transport::rdma) fn new(anchor: Id) -> io::Result<Arc<Self>> {
        let context = anchor.device()?;
        // SAFETY: the device is open, because `anchor` is bound to it and exists.
        let pd = unsafe { ibv_alloc_pd(context.as_ptr()) };
        let pd = NonNull::new(pd).ok_or_else(|| last_error("no protection domain"))?;
        Ok(Arc::new(Self { pd, context, _anchor: anchor }))
    }

    /// Whether it is on the device that `id` is bound to.
    pub(in crate::transport::rdma) fn is_on_device_of(&self, id: &Id) -> bool {
        id.device().is_ok_and(|device| device == self.context)
    }

    pub(super) fn pd(&self) -> *mut ibv_pd {
        self.pd.as_ptr()
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`, freed once; regions and queue pairs hold the domain, so none is left.
        unsafe { ibv_dealloc_pd(self.pd.as_ptr()) };
    }
}

/// Who may use a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport::rdma) enum Rights {
    /// This process's own transfers.
    Own,
    /// Whoever has a connection in the domain, and the key, may read and write it.
    Lent,
}

/// Memory that the device knows, and keeps in place. Deregistered when dropped.
#[derive(Debug)]
pub(in crate::transport::rdma) struct Region {
    mr: NonNull<ibv_mr>,
    _domain: Arc<Domain>,
}

// SAFETY: memory regions may be used and deregistered by any thread; the value is its only owner.
unsafe impl Send for Region {}
// SAFETY: as above; only fields that never change are read through `&Region`.
unsafe impl Sync for Region {}

impl Region {
    /// Registers `len` bytes at `start`, which gives them pages that stay where they are.
    ///
    /// For memory of this process's own any address will do: nothing touches it until a transfer is posted, and that has its own conditions. If the memory is unmapped, the
    /// region goes on with pages that are nobody's.
    pub(in crate::transport::rdma) fn own(domain: &Arc<Domain>, start: usize, len: usize) -> io::Result<Self> {
        Self::register(domain, start, len, Rights::Own)
    }

    /// Registers memory that others may read and write at any time.
    ///
    /// # Safety
    /// While the region exists no Rust reference to the memory does: what this process does with it is done by copies that reckon with others.
    pub(in crate::transport::rdma) unsafe fn lent(domain: &Arc<Domain>, start: usize, len: usize) -> io::Result<Self> {
        Self::register(domain, start, len, Rights::Lent)
    }

    fn register(domain: &Arc<Domain>, start: usize, len: usize, rights: Rights) -> io::Result<Self> {
        let local = ibv_access_flags::IBV_ACCESS_LOCAL_WRITE;
        let access = match rights {
            Rights::Own => local,
            Rights::Lent => local | ibv_access_flags::IBV_ACCESS_REMOTE_READ | ibv_access_flags::IBV_ACCESS_REMOTE_WRITE,
        };
        // SAFETY: the domain exists. The kernel checks the range, and pins it; no byte is touched.
        let mr = unsafe { ibv_reg_mr(domain.pd(), std::ptr::with_exposed_provenance_mut(start), len, access.0 as i32) };
        let mr = NonNull::new(mr).ok_or_else(|| {
            let error = io::Error::last_os_error();
            let hint = match error.raw_os_error() {
                Some(libc::ENOMEM | libc::EPERM | libc::EAGAIN) => "; this process may lock too little memory (ulimit -l)",
                _ => "",
            };
            io::Error::new(error.kind(), format!("{len} bytes can't be registered with the RDMA device: {error}{hint}"))
        })?;
        Ok(Self { mr, _domain: Arc::clone(domain) })
    }

    /// The key for transfers of this process.
    pub(in crate::transport::rdma) fn local_key(&self) -> u32 {
        // SAFETY: the region exists, and the field never changes.
        unsafe { self.mr.as_ref() }.lkey
    }

    /// The key for transfers of others.
    pub(in crate::transport::rdma) fn remote_key(&self) -> u32 {
        // SAFETY: as above.
        unsafe { self.mr.as_ref() }.rkey
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: registered by `register`, deregistered once.
        let code = unsafe { ibv_dereg_mr(self.mr.as_ptr()) };
        if let Err(error) = check("a region can't be deregistered", code) {
            tracing::error!(%error, "memory stays pinned");
        }
    }
}
