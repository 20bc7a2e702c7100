//! Dereference scopes and grace periods.
//!
//! A [`Scope`] is an interval in which a thread's loaded references stay valid. The evacuator marks objects, then waits
//! for one **grace period**: until every scope that was open at its start has ended or been refreshed.
//!
//! # Protocol
//! Each thread has a [`ThreadRecord`] with a clock, written by that thread only: odd inside a scope, even outside. Entering the
//! outermost scope and leaving it each add one; refreshing adds two. Nested scopes are counted in thread-local memory only.
//!
//! | step | mutator | evacuator |
//! |---|---|---|
//! | 1 | store clock (odd), release | CAS the mark into the metadata word |
//! | 2 | light fence | heavy fence |
//! | 3 | load metadata word | read every clock, keep the odd ones |
//! | 4 | use the reference | wait until each kept clock has changed (acquire) |
//! | 5 | store clock (even), release | nobody has an unmarked reference left |
//!
//! This is store buffering (Dekker): the fences forbid that the mutator misses the mark *and* the evacuator misses the
//! clock. If the mutator's load came before the mark, its clock store came before the heavy fence and is seen. The heavy fence is
//! `membarrier(PRIVATE_EXPEDITED)`, which makes every running thread execute a full fence, so that the light fence need only
//! stop the compiler; a sleeping thread has passed one in the scheduler. Where the kernel has no membarrier both are full fences.
//! Step 5's release and step 4's acquire order a mutator's writes before the evacuator's copy. Step 1 is a release for the same reason: if
//! the next scope has begun by the time of the look, its clock is what step 4 sees.
//!
//! A thread that registers late: its record is linked before its first clock store in program order, and the list is read after
//! the heavy fence, so the argument covers the link as well.
//!
//! # Why one clock for the whole process
//! A scope protects objects of every far memory, because a reference borrows a scope, not a particular memory: if
//! scopes belonged to one memory each, every deref would have to check that scope and pointer belong together. The cost is that
//! a long scope holds back evacuation in all far memories of the process, of which there is rarely more than one. The list of
//! records is the one piece of global state of this crate; records are reused, and there are never more than threads at a time.
//!
//! crossbeam-epoch would do the same with 3.3 ns for a pin against 0.3-0.6 ns here: its pin must fence, because it cannot
//! assume a membarrier. The tests hold this implementation against it.

mod grace;
mod guard;
mod record;
#[cfg(farptr_zeal)]
pub mod zeal;

pub use grace::Grace;
pub(crate) use guard::current_hint;
pub use guard::{
    AccessHint, Hinted, Refreshed, Scope, add_creditor, begin_grace, count_open, current_clock, in_scope, open_scopes, owe,
    thread_number,
};
pub use record::{Creditor, OpenScope, Registry, ThreadRecord};

use crate::sync::{Ordering, fence};

/// The mutator's fence between its clock and its first load; also that of who rings an [alarm](crate::alarm).
#[inline(always)]
pub(crate) fn light_fence() {
    #[cfg(not(farptr_loom))]
    {
        if guard::scopes_must_fence() {
            fence(Ordering::SeqCst);
        } else {
            std::sync::atomic::compiler_fence(Ordering::SeqCst);
        }
    }
    // Loom knows no membarrier: it is modelled as a full fence on both sides.
    #[cfg(farptr_loom)]
    fence(Ordering::SeqCst);
}

/// The evacuator's fence between its marks and its look at the clocks; also that of who is about to sleep by an [alarm](crate::alarm).
///
/// False if it could not be made: scopes rely on the kernel's part, and a thread can have been forbidden the system call since (by a
/// seccomp filter of its own). Then nothing may be concluded from the clocks.
#[must_use]
pub(crate) fn heavy_fence() -> bool {
    #[cfg(not(farptr_loom))]
    if crate::sys::barrier() == crate::sys::Barrier::Expedited {
        return crate::sys::expedited_barrier();
    }
    fence(Ordering::SeqCst);
    true
}

#[cfg(all(test, not(farptr_loom)))]
mod tests;
