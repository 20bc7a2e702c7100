//! Large objects: a mapping each.

use super::header::{HEADER_BYTES, ObjectHeader};
use crate::addr::{ObjectAddr, SlotId};
use crate::arena::{Arena, HUGE_PAGE, PAGE};
use crate::poison;
use std::alloc::Layout;
use std::collections::BTreeMap;
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
        let addr = object.addr().get();
        poison::bounded(object.arena.base(), object.arena.len(), addr - HEADER_BYTES, addr + layout.size());
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

impl Drop for LargeObject {
    fn drop(&mut self) {
        poison::unmapped(self.arena.base(), self.arena.len());
    }
}

/// The large objects of one heap, oldest first for the evacuator.
#[derive(Debug, Default)]
pub struct LargeObjects {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Each with its turn.
    by_addr: BTreeMap<ObjectAddr, (u64, Arc<LargeObject>)>,
    /// The addresses by turn. Exactly those of `by_addr`: an address that is left behind would be the next mapping's there.
    turns: BTreeMap<u64, ObjectAddr>,
    next_turn: u64,
}

impl Inner {
    fn take_turn(&mut self, addr: ObjectAddr) -> u64 {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.turns.insert(turn, addr);
        turn
    }
}

impl LargeObjects {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an object as the youngest.
    pub fn insert(&self, object: LargeObject) {
        let mut inner = self.lock();
        let addr = object.addr();
        let turn = inner.take_turn(addr);
        inner.by_addr.insert(addr, (turn, Arc::new(object)));
    }

    /// Takes the object at `addr` out of the table. Its memory is freed with the last claim on it.
    pub fn remove(&self, addr: ObjectAddr) -> Option<Arc<LargeObject>> {
        let mut inner = self.lock();
        let (turn, object) = inner.by_addr.remove(&addr)?;
        inner.turns.remove(&turn);
        Some(object)
    }

    /// A claim on the object at `addr`: its memory stays mapped until the claim is given up.
    pub fn get(&self, addr: ObjectAddr) -> Option<Arc<LargeObject>> {
        self.lock().by_addr.get(&addr).map(|(_, object)| Arc::clone(object))
    }

    /// A claim on the oldest object, which becomes the youngest. Only the evacuator asks.
    pub fn rotate(&self) -> Option<Arc<LargeObject>> {
        let mut inner = self.lock();
        let (_, addr) = inner.turns.pop_first()?;
        let turn = inner.take_turn(addr);
        let (known, object) = inner.by_addr.get_mut(&addr).expect("every turn is an object's");
        *known = turn;
        Some(Arc::clone(object))
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
