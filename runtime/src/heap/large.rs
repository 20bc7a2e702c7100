//! Large objects: a mapping each.

use super::header::{HEADER_BYTES, ObjectHeader};
use crate::addr::{ObjectAddr, SlotId};
use crate::arena::{Arena, HUGE_PAGE, PAGE};
use std::alloc::Layout;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A large object's memory. Freed when the value is dropped.
#[derive(Debug)]
pub struct LargeObject {
    arena: Arena,
    /// Of the contents; the header holds none.
    layout: Layout,
}

/// Largest alignment an object may have: the contents begin one page into the mapping.
pub const MAX_ALIGN: usize = PAGE;

impl LargeObject {
    /// Bytes that an object of `layout` takes in all.
    pub fn footprint(layout: Layout) -> usize {
        (PAGE + layout.size()).next_multiple_of(PAGE)
    }

    /// Maps room for an object, with a busy header.
    pub fn map(layout: Layout, slot: SlotId, far: u64) -> io::Result<Self> {
        let footprint = Self::footprint(layout);
        let arena = Arena::reserve(footprint, PAGE)?;
        if footprint >= 2 * HUGE_PAGE {
            arena.advise_huge(0..footprint);
        }
        let unsized_layout = Layout::from_size_align(0, layout.align()).expect("an alignment alone is a layout");
        let header = ObjectHeader::busy(slot, unsized_layout, far);
        // SAFETY: the mapping is new and at least a page and the contents long; the header ends where the contents begin.
        unsafe { ((arena.base() + PAGE - HEADER_BYTES) as *mut ObjectHeader).write(header) };
        Ok(LargeObject { arena, layout })
    }

    /// Address of the contents.
    pub fn addr(&self) -> ObjectAddr {
        ObjectAddr::new(self.arena.base() + PAGE)
    }

    /// Size and alignment of the contents.
    pub fn layout(&self) -> Layout {
        self.layout
    }
}

/// The large objects of one heap, oldest first for the evacuator.
#[derive(Debug, Default)]
pub struct LargeObjects {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_addr: BTreeMap<ObjectAddr, LargeObject>,
    queue: VecDeque<ObjectAddr>,
}

impl LargeObjects {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an object as the youngest.
    pub fn insert(&self, object: LargeObject) {
        let mut inner = self.lock();
        inner.queue.push_back(object.addr());
        inner.by_addr.insert(object.addr(), object);
    }

    /// Takes the object at `addr` out. Its memory is freed when the returned value is dropped, which must not be before nobody
    /// refers to it any more.
    pub fn remove(&self, addr: ObjectAddr) -> Option<LargeObject> {
        self.lock().by_addr.remove(&addr)
    }

    /// Size and alignment of the object at `addr`.
    pub fn layout_of(&self, addr: ObjectAddr) -> Option<Layout> {
        self.lock().by_addr.get(&addr).map(LargeObject::layout)
    }

    /// Whether the object at `addr` is a large one.
    pub fn contains(&self, addr: ObjectAddr) -> bool {
        self.lock().by_addr.contains_key(&addr)
    }

    /// The oldest object, which becomes the youngest. Only the evacuator asks.
    pub fn rotate(&self) -> Option<ObjectAddr> {
        let mut inner = self.lock();
        while let Some(addr) = inner.queue.pop_front() {
            if inner.by_addr.contains_key(&addr) {
                inner.queue.push_back(addr);
                return Some(addr);
            }
        }
        None
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().by_addr.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
