//! Large objects: a mapping each.

use super::header::ObjectHeader;
use crate::addr::{ObjectAddr, SlotId};
use crate::arena::{Arena, HUGE_PAGE, PAGE};
use std::alloc::Layout;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A large object's memory. Freed when the value is dropped.
#[derive(Debug)]
pub struct LargeObject {
    arena: Arena,
    /// Of the contents; the header holds none.
    layout: Layout,
}

impl LargeObject {
    /// Bytes that an object of `layout` takes in all.
    pub fn footprint(layout: Layout) -> usize {
        (PAGE + layout.size()).next_multiple_of(PAGE)
    }

    /// Maps room for an object, and writes its header.
    pub fn map(layout: Layout, slot: SlotId, far: u64) -> io::Result<Self> {
        let footprint = Self::footprint(layout);
        let arena = Arena::reserve(footprint, PAGE)?;
        if footprint >= 2 * HUGE_PAGE {
            arena.advise_huge(0..footprint);
        }
        let unsized_layout = Layout::from_size_align(0, layout.align()).expect("an alignment alone is a layout");
        let object = LargeObject { arena, layout };
        // SAFETY: the mapping is new, known to nobody, and begins a page before the contents.
        unsafe { ObjectHeader::new(slot, unsized_layout, far).write(object.addr()) };
        Ok(object)
    }

    /// Address of the contents.
    pub fn addr(&self) -> ObjectAddr {
        ObjectAddr::new(self.arena.base() + PAGE)
    }

    /// Size and alignment of the contents.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The header.
    pub fn header(&self) -> ObjectHeader {
        // SAFETY: `map` wrote the header in front of the contents, nobody writes it again, and the mapping lives as long as `self`.
        unsafe { ObjectHeader::read(self.addr()) }
    }
}

/// The large objects of one heap, oldest first for the evacuator.
#[derive(Debug, Default)]
pub struct LargeObjects {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_addr: BTreeMap<ObjectAddr, Arc<LargeObject>>,
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
        inner.by_addr.insert(object.addr(), Arc::new(object));
    }

    /// Takes the object at `addr` out of the table. Its memory is freed with the last claim on it.
    pub fn remove(&self, addr: ObjectAddr) -> Option<Arc<LargeObject>> {
        self.lock().by_addr.remove(&addr)
    }

    /// A claim on the object at `addr`: its memory stays mapped until the claim is given up.
    pub fn get(&self, addr: ObjectAddr) -> Option<Arc<LargeObject>> {
        self.lock().by_addr.get(&addr).cloned()
    }

    /// A claim on the oldest object, which becomes the youngest. Only the evacuator asks.
    pub fn rotate(&self) -> Option<Arc<LargeObject>> {
        let mut inner = self.lock();
        while let Some(addr) = inner.queue.pop_front() {
            if let Some(object) = inner.by_addr.get(&addr).cloned() {
                inner.queue.push_back(addr);
                return Some(object);
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
