//! Waking those who wait: the one place where code of executors runs on our threads.
//!
//! A wake-up is foreign code. It may drop the task that it wakes, and with it a future that is in a lane, or the last pointer to an object; it may
//! panic. So nobody calls this with a lock in hand, what is to be said to all is said before the first is woken, and a panic ends
//! with the waker whose it is: the others are woken nonetheless, and the thread, which may be the ticker or one that only wanted to deref an object, goes on.
#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Wakes all, whatever their wakers do.
pub(crate) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        // The waker is gone afterwards, and we hold nothing that it could have left half done.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
            tracing::error!("the waker of a waiting task panicked; its task may wait for ever");
            // To drop it would run foreign code once more, which could panic once more.
            std::mem::forget(panic);
        }
    }
}
