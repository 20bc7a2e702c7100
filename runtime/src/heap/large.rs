//! Large objects: a piece of memory each, which [`Extents`] have.
//!
//! Touching its pages for the first time and giving them back again costs several times the copy that fills it. So a few of those of
//! objects that have gone are kept for those that come next, of the same footprint: [`Spares`].

use super::extents::{Extents, Room};
use super::header::{HEADER_BYTES, ObjectHeader};
use crate::addr::{ObjectAddr, SlotId};
use crate::arena::PAGE;
use crate::poison;
use std::alloc::Layout;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A large object's memory. Freed when the value is dropped.
#[derive(Debug)]
pub struct LargeObject {
    mapping: Mapping,
    /// Of the contents; the header holds none.
    layout: Layout,
}

/// Memory for a large object: a page with the header at its end, then the contents. Freed when the value is dropped.
#[derive(Debug)]
pub struct Mapping {
    extents: Arc<Extents>,
    /// Until it is freed.
    room: Option<Room>,
    base: usize,
    len: usize,
}

impl Mapping {
    fn new(extents: &Arc<Extents>, footprint: usize) -> io::Result<Self> {
        Ok(Self::of(Arc::clone(extents), extents.take(footprint)?))
    }

    fn of(extents: Arc<Extents>, room: Room) -> Self {
        Mapping { extents, base: room.base(), len: room.len(), room: Some(room) }
    }

    fn contents(&self) -> usize {
        self.base + PAGE
    }

    /// Its size in bytes, which is the footprint of its objects.
    pub fn footprint(&self) -> usize {
        self.len
    }

    /// Gives the memory back to the system.
    ///
    /// # Errors
    /// The memory, if the system does not take it: it may be used for another object, and be tried again.
    pub fn free(mut self) -> Result<(), (Self, io::Error)> {
        self.give_back().map_err(|(room, error)| (Self::of(Arc::clone(&self.extents), room), error))
    }

    fn give_back(&mut self) -> Result<(), (Room, io::Error)> {
        let Some(room) = self.room.take() else { return Ok(()) };
        poison::unmapped(self.base, self.len);
        // SAFETY: the room is this value's alone, and the last claim on the object that lay there is gone: nobody refers to its bytes.
        self.extents.free(room, |arena, range| unsafe { arena.decommit(range) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if let Err((room, error)) = self.give_back() {
            // The run stays taken, or the mapping's own drop says what became of it.
            tracing::warn!(%error, bytes = room.len(), "the system does not take back the memory of a large object");
        }
    }
}

impl LargeObject {
    /// Bytes that an object of `layout` takes in all.
    pub fn footprint(layout: Layout) -> usize {
        (PAGE + layout.size()).next_multiple_of(PAGE)
    }

    /// Maps room for an object, and writes its header.
    pub fn map(extents: &Arc<Extents>, layout: Layout, slot: SlotId, far: u64) -> io::Result<Self> {
        Ok(Self::place(Mapping::new(extents, Self::footprint(layout))?, layout, slot, far))
    }

    /// As [`map`](Self::map), where an object of the same footprint was before; the contents are initialised to what they were.
    pub fn place(mapping: Mapping, layout: Layout, slot: SlotId, far: u64) -> Self {
        assert_eq!(mapping.footprint(), Self::footprint(layout), "a mapping is as large as its object");
        let unsized_layout = Layout::from_size_align(0, layout.align()).expect("an alignment alone is a layout");
        let addr = mapping.contents();
        poison::bounded(mapping.base, mapping.len, addr - HEADER_BYTES, addr + layout.size());
        let object = LargeObject { mapping, layout };
        // SAFETY: the mapping is this value's alone: it is new, or was taken out of the last object that had it, which was the last claim on
        // it. It begins a page before the contents.
        unsafe { ObjectHeader::new(slot, unsized_layout, far).write(object.addr()) };
        object
    }

    /// Its memory, for another.
    pub fn into_mapping(self) -> Mapping {
        self.mapping
    }

    /// Address of the contents.
    pub fn addr(&self) -> ObjectAddr {
        ObjectAddr::new(self.mapping.contents())
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

/// Mappings without an object, for the next of their footprints. They stay charged to the budget, and give way before anything else does.
///
/// In the configurations that look for uses of what was given up there are none: a mapping that is taken away shows such a use at once.
#[derive(Debug)]
pub struct Spares {
    /// Bytes that may be kept.
    most: usize,
    kept: Mutex<Vec<Mapping>>,
    /// Those that the system has refused to take back, however many.
    refused: Mutex<Vec<Mapping>>,
}

impl Spares {
    /// How many are kept at most, each of which the others are searched for.
    const COUNT: usize = 32;

    /// Keeps `most` bytes.
    pub fn new(most: usize) -> Self {
        let most = if cfg!(any(farptr_zeal, farptr_asan)) { 0 } else { most };
        Spares { most, kept: Mutex::default(), refused: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Mapping>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self) -> MutexGuard<'_, Vec<Mapping>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of just so many bytes.
    pub fn take(&self, footprint: usize) -> Option<Mapping> {
        let find = |kept: &mut Vec<Mapping>| {
            let place = kept.iter().rposition(|mapping| mapping.footprint() == footprint)?;
            Some(kept.remove(place))
        };
        find(&mut self.lock()).or_else(|| find(&mut self.refused()))
    }

    /// Keeps a mapping, unless there is enough: then it comes back.
    pub fn keep(&self, mapping: Mapping) -> Option<Mapping> {
        let mut kept = self.lock();
        let bytes: usize = kept.iter().map(Mapping::footprint).sum();
        if kept.len() == Self::COUNT || bytes + mapping.footprint() > self.most {
            return Some(mapping);
        }
        kept.push(mapping);
        None
    }

    /// Keeps a mapping that the system does not take back, charged as it is.
    pub fn keep_refused(&self, mapping: Mapping) {
        self.refused().push(mapping);
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> usize {
        let sum = |kept: &[Mapping]| kept.iter().map(Mapping::footprint).sum::<usize>();
        sum(&self.lock()) + sum(&self.refused())
    }

    /// All of them.
    pub fn take_all(&self) -> Vec<Mapping> {
        let mut all = std::mem::take(&mut *self.lock());
        all.append(&mut self.refused());
        all
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

    /// Bytes of their mappings.
    pub fn bytes(&self) -> usize {
        self.lock().by_addr.values().map(|(_, object)| LargeObject::footprint(object.layout())).sum()
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
