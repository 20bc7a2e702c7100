//! One far memory: the local heap, the slots, the far space, and what mutators do with them.
//!
//! - `object.rs`: making objects and giving them up. `room.rs`: what happens when local memory is short; `reserve.rs`: what threads in scopes get nevertheless; `blame.rs`: what the error says.
//!   `promise.rs`: whether far memory has room for new ones.
//! - `access.rs`: the slow path of a deref, by the protocol of [`crate::word`]. `miss.rs`: swap-in. `bypass.rs`: scans past the local heap. `admission.rs`: reads past it; `evidence.rs`: when.
//! - `joined.rs`: waiting for a fetch that another thread or task has claimed.
//! - `lane.rs`: misses in flight, who drives them and who is woken. `reads.rs`: their bytes. `ending.rs`, `wakers.rs`: who waits for what. `ticker.rs`:
//!   who looks after the others. `task.rs`: the futures.
//! - `pin.rs`: pins. `elsewhere.rs`: where an object is pinned. `stats.rs`: counters. `zeal.rs`: legal points, in one of the checking configurations.
//!
//! A [`Memory`] lives in an `Arc`. Every slot in use holds one strong count of it, so that a smart pointer, which knows
//! its slot only, can rely on the memory behind it ([`Memory::of`]). The evacuator, which a memory has one of, is reached
//! through [`Relief`].

mod access;
mod admission;
mod blame;
mod bypass;
mod elsewhere;
pub(crate) mod ending;
mod evidence;
pub(crate) mod joined;
pub(crate) mod lane;
mod miss;
mod object;
pub(crate) mod pin;
mod promise;
mod reads;
mod reserve;
mod room;
mod stats;
mod task;
pub(crate) mod ticker;
pub(crate) mod wakers;
#[cfg(farptr_zeal)]
mod zeal;

#[cfg(all(test, not(farptr_loom)))]
mod tests;

pub use access::Intent;
pub use admission::Passed;
pub use bypass::{Bypass, Route, SHORT_SCAN};
pub use evidence::Young;
pub use object::{NewObject, Origin};
pub use room::{Relief, Waiting};
pub use stats::{Counters, Stats};
pub use task::BringIn;

use crate::ablations::Ablations;
use crate::addr::SlotId;
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::far::{FarSpace, LargeFars, Server};
use crate::forked;
use crate::heap::{Extents, Heap, LargeObjects, Spares};
use crate::rcu::Rcu;
use crate::scope;
use crate::slot::{SlotTable, owner_of};
use crate::spinners::Spinners;
use crate::transport::{BufferPool, MAX_OP_BYTES};
use crate::word::{Slot, Stamp};
use std::alloc::Layout;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// Steps of the ghost clock in one turnover of the heap.
const STEPS_PER_TURNOVER: u64 = 32;

/// An object that comes back within this many steps after it left was evicted too early, and is admitted to the main queue:
/// S3-FIFO's ghost queue, which holds as many objects as the main queue (Yang et al., SOSP 2023).
const GHOST_STEPS: u16 = 29;

/// Least local budget in bytes.
pub const MIN_LOCAL_BUDGET: usize = 1 << 20;

/// Buffers of a far segment that are in use at a time beside those in flight: one each for write-back and the cleaner, one to exchange for a full one, and four that are read for
/// cleaning. More are memory of their own.
const BUFFERS: usize = 7;

/// This part of the budget may be mappings that wait for the next large object: about what a round frees.
const SPARES_SHARE: usize = 16;

/// Buffers in flight to one server, at most.
const BUFFERS_PER_SERVER: usize = 4;

/// How a memory is set up.
#[derive(Debug, Clone, Copy)]
pub struct MemoryConfig {
    /// The local budget in bytes.
    pub local_budget: usize,
    /// Allocation shards: about one for each thread that allocates at a time.
    pub shards: usize,
    /// Longest time an operation waits for a server or for memory.
    pub timeout: Duration,
    /// Most far memory to borrow, in bytes.
    pub far_capacity: u64,
}

/// One far memory.
#[derive(Debug)]
pub struct Memory {
    pub(crate) budget: Budget,
    pub(crate) heap: Heap,
    pub(crate) large: LargeObjects,
    pub(crate) spares: Spares,
    pub(crate) extents: Arc<Extents>,
    pub(crate) slots: SlotTable,
    pub(crate) far: FarSpace,
    pub(crate) large_fars: LargeFars,
    buffers: Arc<BufferPool>,
    pub(crate) pins: pin::Overflow,
    pub(crate) admission: admission::Admission,
    pub(crate) counters: Counters,
    pub(crate) timeout: Duration,
    relief: OnceLock<Arc<dyn Relief>>,
    /// By thread number.
    lanes: Rcu<Vec<Option<Arc<lane::Lane<reads::Reads>>>>>,
    /// What threads hold in their scopes, by thread number.
    holdings: Rcu<Vec<Option<Arc<reserve::Holding>>>>,
    /// Threads that may open a scope.
    threads: AtomicUsize,
    /// Until `evacuated` has come so far, more may come.
    group_until: AtomicU64,
    ticker: ticker::Ticker<std::thread::Thread>,
    joined: joined::Joined,
    /// Threads that spin for a fetch of another.
    spinners: Spinners,
    wanted: AtomicUsize,
    weak: Weak<Memory>,
    /// Bytes evacuated so far: the clock of the ghost memory.
    evacuated: AtomicU64,
    ghost_step: u64,
    #[cfg(feature = "ablations")]
    ablations: Ablations,
}

impl Memory {
    /// Sets a far memory up over `servers`. Borrows nothing yet.
    pub fn new(config: MemoryConfig, servers: Vec<Server>) -> Result<Arc<Self>> {
        Self::with(config, servers, Ablations::default())
    }

    /// The same with mechanisms off, for measurements.
    #[cfg(feature = "ablations")]
    #[doc(hidden)]
    pub fn ablated(config: MemoryConfig, servers: Vec<Server>, ablations: Ablations) -> Result<Arc<Self>> {
        Self::with(config, servers, ablations)
    }

    fn with(config: MemoryConfig, mut servers: Vec<Server>, ablations: Ablations) -> Result<Arc<Self>> {
        forked::check()?;
        forked::mark();
        let MemoryConfig { local_budget, shards, timeout, far_capacity } = config;
        if local_budget < MIN_LOCAL_BUDGET {
            return Err(Error::Config(format!(
                "local budget of {local_budget} bytes is too small; give at least {MIN_LOCAL_BUDGET} bytes (1 MiB)"
            )));
        }
        let slab = servers.iter().map(|server| server.transport().slab_bytes()).min().unwrap_or(0);
        if far_capacity < u64::from(slab) {
            return Err(Error::Config(format!(
                "far capacity of {far_capacity} bytes is less than a slab, which is what a server lends at a time; give at least {slab} bytes"
            )));
        }
        let segment = Heap::segment_bytes_for(local_budget);
        // Two segments to relocate into, and a few pages of slots for pieces of large objects.
        let reserve = 2;
        let budget = Budget::new(local_budget, reserve * segment);
        let no_addresses = |what: &str, e: io::Error| Error::Config(format!("can't reserve address space for {what}: {e}"));
        let mut heap = Heap::new(local_budget, shards.max(1), reserve)
            .map_err(|e| no_addresses(&format!("a local heap of {local_budget} bytes"), e))?;
        heap.ablate(ablations);
        let buffers = BufferPool::new(BUFFERS + servers.len() * BUFFERS_PER_SERVER).map_err(|e| no_addresses("buffers", e))?;
        for device in servers.iter().filter_map(|server| server.transport().local_memory()) {
            device.attach(buffers.range(), MAX_OP_BYTES);
            heap.attach(device);
        }
        servers.iter_mut().for_each(|server| server.set_patience(timeout));
        let ghost_step = (local_budget as u64 / STEPS_PER_TURNOVER).max(1);
        let memory = Arc::new_cyclic(|weak| Memory {
            budget,
            heap,
            large: LargeObjects::default(),
            spares: Spares::new(local_budget / SPARES_SHARE),
            extents: Arc::new(Extents::new(local_budget)),
            slots: SlotTable::with_pages(ablations.pages),
            far: FarSpace::new(servers, far_capacity),
            large_fars: LargeFars::default(),
            buffers,
            pins: pin::Overflow::default(),
            admission: admission::Admission::default(),
            counters: Counters::default(),
            timeout,
            relief: OnceLock::new(),
            lanes: Rcu::new(Vec::new()),
            holdings: Rcu::new(Vec::new()),
            threads: AtomicUsize::new(0),
            group_until: AtomicU64::new(0),
            ticker: ticker::Ticker::default(),
            joined: joined::Joined::default(),
            spinners: Spinners::default(),
            wanted: AtomicUsize::new(0),
            weak: weak.clone(),
            evacuated: AtomicU64::new(0),
            ghost_step,
            #[cfg(feature = "ablations")]
            ablations,
        });
        memory.slots.set_owner(Arc::as_ptr(&memory).cast());
        scope::add_creditor(memory.weak.clone());
        Ok(memory)
    }

    /// What is off: nothing, unless this was built to measure.
    #[doc(hidden)]
    #[inline(always)]
    pub fn ablations(&self) -> Ablations {
        #[cfg(feature = "ablations")]
        return self.ablations;
        #[cfg(not(feature = "ablations"))]
        Ablations::default()
    }

    /// Says who makes room. Once, before the memory is used.
    pub fn set_relief(&self, relief: Arc<dyn Relief>) {
        let set = self.relief.set(relief);
        debug_assert!(set.is_ok(), "a memory has one evacuator");
    }

    /// The memory that `slot` belongs to.
    ///
    /// # Safety
    /// `slot` was returned by [`Memory::alloc_slot`] or [`NewObject::publish`] and has not been freed; the reference is not used after
    /// it has been.
    #[inline]
    pub unsafe fn of<'a>(slot: NonNull<Slot>) -> &'a Memory {
        // SAFETY: the slot is in use, so its table exists; the owner was set in `new` to the address inside the `Arc`, and a slot in
        // use holds a strong count.
        unsafe { &*owner_of(slot).cast::<Memory>() }
    }

    /// Takes a slot for one object. It holds a strong count of the memory until [`Memory::free_slot`].
    pub fn alloc_slot(self: &Arc<Self>) -> Result<NonNull<Slot>> {
        let id = self.alloc_slots(crate::slot::UnitClass::One)?;
        Ok(NonNull::from(self.slots.slot(id)))
    }

    /// Takes a row of slots for a container, which owns the memory as well.
    pub fn alloc_slots(self: &Arc<Self>, class: crate::slot::UnitClass) -> Result<SlotId> {
        #[cfg(farptr_zeal)]
        self.legal_point();
        let id = self.room_for_slots(class)?;
        std::mem::forget(Arc::clone(self));
        Ok(id)
    }

    /// Gives a slot back whose object has been released, and the count of the memory that it held.
    ///
    /// # Safety
    /// `slot` came from [`Memory::alloc_slot`] of a memory that nobody else will free it to; it is vacant, and nobody uses it again.
    pub unsafe fn free_slot(slot: NonNull<Slot>) {
        if forked::is_child() {
            return;
        }
        // SAFETY: as the caller says, the slot is in use until here, so its table exists.
        let owner = unsafe { owner_of(slot) }.cast::<Memory>();
        // SAFETY: the owner is what `Arc::as_ptr` returned in `new`, and `alloc_slots` forgot one strong count for this slot, which is taken back here,
        // once. By value, so that the memory can't go before the slot has been given back to it.
        let memory = unsafe { Arc::from_raw(owner) };
        // SAFETY: the slot lies in the table of the memory, which `memory` keeps.
        let id = memory.slots.id_of(unsafe { slot.as_ref() });
        memory.slots.free(id, crate::slot::UnitClass::One, &memory.budget);
    }

    /// Gives a row of vacant slots back, and the count of the memory that it held. The caller's own keeps the memory meanwhile.
    ///
    /// # Safety
    /// `id` came from [`Memory::alloc_slots`] of this memory with the same class; all its slots are vacant or were never used, and nobody uses them
    /// again.
    pub unsafe fn free_slots(self: &Arc<Self>, id: SlotId, class: crate::slot::UnitClass) {
        if forked::is_child() {
            return;
        }
        self.slots.free(id, class, &self.budget);
        // SAFETY: the pointer is that of an `Arc`; `alloc_slots` forgot one strong count for this row, and the caller promises that it is given
        // up once. It is not the last: the borrowed `Arc` has another.
        unsafe { Arc::decrement_strong_count(Arc::as_ptr(self)) };
    }

    /// For an owner that goes in the child of a fork: what is behind the memory is its parent's, so it must not go with its last owner. Whether this is a child.
    pub fn leave_to_parent(self: &Arc<Self>) -> bool {
        let is_child = forked::is_child();
        if is_child {
            std::mem::forget(Arc::clone(self));
        }
        is_child
    }

    /// The slot of number `id`, which `alloc_slots` returned (plus an index in the row).
    #[inline]
    pub fn slot(&self, id: SlotId) -> &Slot {
        self.slots.slot(id)
    }

    /// The row of slots that `alloc_slots` returned as `id`.
    #[inline]
    pub fn slot_row(&self, id: SlotId, class: crate::slot::UnitClass) -> &[Slot] {
        self.slots.row(id, class)
    }

    /// Whether an object of `layout` is a large one.
    #[inline]
    pub fn is_large(&self, layout: Layout) -> bool {
        self.heap.is_large(layout)
    }

    /// The local budget.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The local log.
    pub fn heap(&self) -> &Heap {
        &self.heap
    }

    /// The large objects.
    pub fn large_objects(&self) -> &LargeObjects {
        &self.large
    }

    /// The slots.
    pub fn slot_table(&self) -> &SlotTable {
        &self.slots
    }

    /// The far space.
    pub fn far(&self) -> &FarSpace {
        &self.far
    }

    /// What large objects have left for the next.
    pub fn spares(&self) -> &Spares {
        &self.spares
    }

    /// Where large objects lie.
    pub fn extents(&self) -> &Extents {
        &self.extents
    }

    /// The far copies of large objects.
    pub fn large_fars(&self) -> &LargeFars {
        &self.large_fars
    }

    /// Buffers for far segments that are written or cleaned.
    pub fn buffers(&self) -> &Arc<BufferPool> {
        &self.buffers
    }

    /// What has been counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Longest time an operation waits.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    fn shard(&self) -> usize {
        self.heap.shard_for(scope::thread_number())
    }

    /// The time on the ghost clock.
    pub fn ghost_now(&self) -> Stamp {
        Stamp::at(self.evacuated.load(Ordering::Relaxed) / self.ghost_step)
    }

    /// The evacuator has sent `bytes` away.
    pub fn advance_ghost_clock(&self, bytes: usize) {
        let before = self.evacuated.fetch_add(bytes as u64, Ordering::Relaxed);
        let turnover = self.group_until.load(Ordering::Relaxed);
        if before < turnover && before + bytes as u64 >= turnover {
            self.shrink_reserve();
        }
    }
}

/// Whether an object that left at `then` was evicted too early.
fn is_ghost(now: Stamp, then: Stamp) -> bool {
    now.steps_since(then) <= GHOST_STEPS
}
