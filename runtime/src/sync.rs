//! Atomics, fences and locks, from `std` or, under `--cfg farptr_loom`, from loom, so that the models check the code as it is.

#[cfg(not(farptr_loom))]
pub use std::hint::spin_loop;
#[cfg(not(farptr_loom))]
pub use std::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(farptr_loom))]
pub use std::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(farptr_loom))]
pub use std::thread::{Thread, current, park_timeout, yield_now};

#[cfg(farptr_loom)]
mod model;
#[cfg(farptr_loom)]
pub use loom::hint::spin_loop;
#[cfg(farptr_loom)]
pub use loom::sync::atomic::{Ordering, fence};
#[cfg(farptr_loom)]
pub use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(farptr_loom)]
pub use loom::thread::{Thread, current, yield_now};
#[cfg(farptr_loom)]
pub use model::{AtomicU64, park_timeout};
