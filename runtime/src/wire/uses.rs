//! Which slabs a borrower's connections have requests underway for.
//!
//! A borrower has many connections, and a server reads each at its own pace. A slab that is returned on one while a read or write of it is underway on another
//! may be gone when the server comes to that, and a request for a slab that isn't the client's ends its connection, with all else that
//! is in flight there. No caller needs the answer to such a request: it was given up, or is for an object that has moved. So a return waits for them:
//! - Each request counts itself in before it is sent ([`SlabUses::enter`]) and out when it has been answered, however late, or its connection has ended
//!   ([`SlabUses::leave`]).
//! - A return marks the slab ([`SlabUses::begin_return`]). If nothing is underway, it goes out now; otherwise the last request to be counted out
//!   sends it. Count and mark are one atomic, so that exactly one of the two does.
//! - After the mark no request counts itself in. The mark goes when the slab is lent again.
#![forbid(unsafe_code)]

use crate::slab::rows::Rows;
use crate::transport::SlabId;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The slab has been returned by its borrower; the other bits are the count.
const RETURNED: u32 = 1 << 31;

/// Most slabs of a server that a borrower keeps a table of, which takes 16 bytes for each 256 before any is lent. Behind them nothing is counted.
pub(crate) const MAX_SLABS: u64 = 1 << 24;

/// Requests underway, by slab. Shared by a borrower's connections.
pub struct SlabUses {
    slabs: Rows<AtomicU32>,
    /// Slabs to be returned whose last request ended with its connection.
    ready: Mutex<Vec<SlabId>>,
}

/// What to do about a slab that is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Return {
    /// Tell the server.
    Now,
    /// The last request underway will.
    Later,
    /// It was returned before.
    Again,
}

impl SlabUses {
    /// Counts for a server that has so many slabs.
    pub fn new(slabs: u64) -> Self {
        Self { slabs: Rows::new(slabs.min(MAX_SLABS) as usize), ready: Mutex::default() }
    }

    /// A slab has been lent.
    pub fn lent(&self, slab: SlabId) {
        if let Some(state) = self.slabs.get(slab.0 as usize) {
            state.fetch_and(!RETURNED, Ordering::AcqRel);
        }
    }

    /// A request for a slab is about to be sent. `false` if the slab has been returned, and it must not be.
    #[inline]
    pub fn enter(&self, slab: SlabId) -> bool {
        let Some(state) = self.state(slab) else { return true };
        let counted = |state: u32| (state & RETURNED == 0).then_some(state + 1);
        // Not an addition to be taken back: for a moment it would be the last request underway. Acquire and release throughout: whoever
        // sends the return has seen that all requests before it were answered.
        state.fetch_update(Ordering::AcqRel, Ordering::Acquire, counted).is_ok()
    }

    /// A request for a slab is over. `true` if the caller must tell the server that the slab is returned.
    #[inline]
    #[must_use]
    pub fn leave(&self, slab: SlabId) -> bool {
        self.state(slab).is_some_and(|state| state.fetch_sub(1, Ordering::AcqRel) == RETURNED + 1)
    }

    /// The borrower returns a slab.
    pub fn begin_return(&self, slab: SlabId) -> Return {
        match self.state(slab).map_or(0, |state| state.fetch_or(RETURNED, Ordering::AcqRel)) {
            0 => Return::Now,
            before if before & RETURNED != 0 => Return::Again,
            _ => Return::Later,
        }
    }

    /// The caller was to tell the server of a return, and can't.
    pub fn leave_return_to_others(&self, slab: SlabId) {
        self.ready().push(slab);
    }

    /// A slab of whose return the server must be told by the caller, because nobody else did.
    pub fn take_ready(&self) -> Option<SlabId> {
        self.ready().pop()
    }

    fn state(&self, slab: SlabId) -> Option<&AtomicU32> {
        let index = slab.0 as usize;
        (index < self.slabs.len()).then(|| self.slabs.get_or_make(index))
    }

    fn ready(&self) -> MutexGuard<'_, Vec<SlabId>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for SlabUses {
    /// Counts nothing.
    fn default() -> Self {
        Self::new(0)
    }
}

impl std::fmt::Debug for SlabUses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlabUses").field("slabs", &self.slabs.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLAB: SlabId = SlabId(3);

    #[test]
    fn the_last_request_returns_a_slab_and_no_other_may_follow() {
        let uses = SlabUses::new(8);
        assert!(uses.enter(SLAB) && uses.enter(SLAB));
        assert_eq!(uses.begin_return(SLAB), Return::Later);
        assert!(!uses.enter(SLAB));
        assert_eq!(uses.begin_return(SLAB), Return::Again);
        assert!(!uses.leave(SLAB));
        assert!(uses.leave(SLAB));
        assert_eq!(uses.take_ready(), None);
        uses.lent(SLAB);
        assert!(uses.enter(SLAB) && !uses.leave(SLAB));
        assert_eq!(uses.begin_return(SLAB), Return::Now);
        assert!(uses.enter(SlabId(8)) && !uses.leave(SlabId(8)), "slabs that can't be are the server's business");
    }

    /// However threads run, each return is sent exactly once, and nothing is counted in after it.
    #[test]
    fn each_return_is_sent_once() {
        use std::sync::atomic::AtomicUsize;
        let uses = SlabUses::new(8);
        for _ in 0..2000 {
            uses.lent(SLAB);
            let sent = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        if uses.enter(SLAB) {
                            assert_eq!(sent.load(Ordering::SeqCst), 0, "counted in after the return");
                            if uses.leave(SLAB) {
                                sent.fetch_add(1, Ordering::SeqCst);
                            }
                        }
                    });
                }
                if uses.begin_return(SLAB) == Return::Now {
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            });
            let left = std::iter::from_fn(|| uses.take_ready()).count();
            assert_eq!(sent.load(Ordering::SeqCst) + left, 1);
        }
    }
}
