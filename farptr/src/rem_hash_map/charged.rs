//! Ordinary memory that counts against the local budget.
//!
//! Charging may have to wait for evacuation, and says why if it fails. An allocator can do neither well from the inside of a hash table, so the
//! index pays in two steps: an allocation without credit is refused, which tells the size; the size is charged and becomes credit;
//! the allocation is tried again and uses the credit up. What is freed is released at once.

use allocator_api2::alloc::{AllocError, Allocator, Global};
use farptr_runtime::Result;
use farptr_runtime::memory::Memory;
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const NO_SYSTEM_MEMORY: &str = "the system gives no memory for a map's tables";

/// An allocator that allocates what has been paid for.
#[derive(Debug)]
pub(super) struct Charged {
    memory: Arc<Memory>,
    /// Bytes charged and not allocated yet. Only the map's exclusive owner changes it; atomic so that the map is `Sync`.
    credit: AtomicUsize,
}

impl Charged {
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        Charged { memory, credit: AtomicUsize::new(0) }
    }

    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Charges `bytes` for the next allocation.
    pub(super) fn pay(&self, bytes: usize) -> Result<()> {
        self.memory.charge_table(bytes)?;
        self.credit.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Takes back what was paid and not used: an error if there is anything, for then the system has refused.
    pub(super) fn settle(&self) -> Result<()> {
        match self.credit.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            unused => {
                self.memory.release_table(unused);
                Err(self.memory.out_of_local(unused, NO_SYSTEM_MEMORY))
            }
        }
    }
}

// SAFETY: blocks come from `Global` and go back to it with the same layout, so they are valid until deallocated, wherever this value is; it has no
// clones.
unsafe impl Allocator for Charged {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let bytes = layout.size();
        let paid = self.credit.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |credit| credit.checked_sub(bytes));
        if paid.is_err() {
            return Err(AllocError);
        }
        Global.allocate(layout).inspect_err(|_| {
            self.credit.fetch_add(bytes, Ordering::Relaxed);
        })
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on: by contract `block` is one of `allocate`'s with this layout, which was `Global`'s.
        unsafe { Global.deallocate(block, layout) };
        self.memory.release_table(layout.size());
    }
}

/// A vector with room for exactly `capacity` elements, charged. [`release_vec`] takes it back.
pub(super) fn charged_vec<T>(memory: &Memory, capacity: usize) -> Result<Vec<T>> {
    let bytes = capacity * size_of::<T>();
    memory.charge_table(bytes)?;
    let mut vec = Vec::new();
    if vec.try_reserve_exact(capacity).is_err() {
        memory.release_table(bytes);
        return Err(memory.out_of_local(bytes, NO_SYSTEM_MEMORY));
    }
    Ok(vec)
}

/// Frees what [`charged_vec`] made with `capacity`.
pub(super) fn release_vec<T>(memory: &Memory, vec: Vec<T>, capacity: usize) {
    drop(vec);
    memory.release_table(capacity * size_of::<T>());
}
