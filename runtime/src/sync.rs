//! Atomics, fences and locks, from `std` or, under `--cfg farptr_loom`, from loom, so that the models check the code as it is.

#[cfg(not(farptr_loom))]
pub use std::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(farptr_loom))]
pub use std::sync::{Mutex, MutexGuard};
#[cfg(not(farptr_loom))]
pub use std::{hint::spin_loop, thread::yield_now};

#[cfg(farptr_loom)]
mod model;
#[cfg(farptr_loom)]
pub use loom::sync::atomic::{Ordering, fence};
#[cfg(farptr_loom)]
pub use loom::sync::{Mutex, MutexGuard};
#[cfg(farptr_loom)]
pub use loom::{hint::spin_loop, thread::yield_now};
#[cfg(farptr_loom)]
pub use model::AtomicU64;
