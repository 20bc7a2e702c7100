//! Another transport with other sessions.
#![forbid(unsafe_code)]

use super::{Session, SlabId, Transport};
use crate::error::TransportError;
use std::sync::Arc;

/// A transport whose sessions are those of another, in the hands of this function. The way without a session is not offered.
pub struct Wrapped<F> {
    behind: Arc<dyn Transport>,
    wrap: F,
}

impl<S: Session + 'static, F: Fn(Box<dyn Session>) -> S + Send + Sync + 'static> Wrapped<F> {
    /// In front of `behind`; `wrap` is given each session that is opened.
    pub fn new(behind: Arc<dyn Transport>, wrap: F) -> Self {
        Self { behind, wrap }
    }
}

impl<S: Session + 'static, F: Fn(Box<dyn Session>) -> S + Send + Sync + 'static> Transport for Wrapped<F> {
    fn describe(&self) -> &str {
        self.behind.describe()
    }

    fn slab_bytes(&self) -> u32 {
        self.behind.slab_bytes()
    }

    fn borrow_slab(&self) -> Result<SlabId, TransportError> {
        self.behind.borrow_slab()
    }

    fn return_slab(&self, slab: SlabId) -> Result<(), TransportError> {
        self.behind.return_slab(slab)
    }

    fn open_session(&self) -> Result<Box<dyn Session>, TransportError> {
        Ok(Box::new((self.wrap)(self.behind.open_session()?)))
    }
}

impl<F> std::fmt::Debug for Wrapped<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wrapped").field("behind", &self.behind.describe()).finish_non_exhaustive()
    }
}
