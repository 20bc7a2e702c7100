//! A server of tests: one slab, and sessions that a test makes up.
#![forbid(unsafe_code)]

use super::{MAX_OP_BYTES, Session, SlabId, Transport};
use crate::error::TransportError;

/// A server whose sessions this function makes.
pub(crate) struct Stub<F>(pub(crate) F);

impl<S: Session + 'static, F: Fn() -> S + Send + Sync + 'static> Transport for Stub<F> {
    fn describe(&self) -> &str {
        "stub"
    }

    fn slab_bytes(&self) -> u32 {
        MAX_OP_BYTES as u32
    }

    fn borrow_slab(&self) -> Result<SlabId, TransportError> {
        Ok(SlabId(1))
    }

    fn return_slab(&self, _slab: SlabId) -> Result<(), TransportError> {
        Ok(())
    }

    fn open_session(&self) -> Result<Box<dyn Session>, TransportError> {
        Ok(Box::new((self.0)()))
    }
}
