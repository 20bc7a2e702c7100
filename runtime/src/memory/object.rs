//! Making objects and giving them up.

use super::Memory;
use crate::ablations::Policy;
use crate::addr::{FarAddr, LargeId, ObjectAddr, SlotId};
use crate::budget::Party;
use crate::error::{Error, Result};
use crate::far::image::image_bytes;
use crate::forked;
use crate::heap::{HEADER_BYTES, LargeObject, Mapping, ObjectHeader, QueueKind};
use crate::poison;
use crate::scope::Scope;
use crate::slot::UnitClass;
use crate::steps;
use crate::word::{FarPlace, Freshness, Slot, State, Warmth, Word};
use std::alloc::Layout;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Why room is wanted.
#[derive(Debug, Clone, Copy)]
pub enum Origin {
    /// For a new object.
    New,
    /// For an object that its writer moves.
    Moved,
    /// For one that is fetched.
    Fetched {
        /// Where it is admitted.
        kind: QueueKind,
        /// The raw far address or large id it comes from.
        far: u64,
    },
}

impl Origin {
    fn terms(self, policy: Policy) -> (QueueKind, u64, Party) {
        match self {
            Origin::New => (QueueKind::Young, 0, Party::Creator),
            Origin::Moved => (QueueKind::of_survivors(policy), 0, Party::Mutator),
            Origin::Fetched { kind, far } => (kind, far, Party::Mutator),
        }
    }
}

/// Room for an object, local and busy: to be filled, then published. Given up if dropped before.
#[derive(Debug)]
pub struct NewObject<'m> {
    memory: &'m Memory,
    addr: ObjectAddr,
    header: ObjectHeader,
    room: Room,
    /// What a new object has been promised in far memory, until it is published.
    promised: u64,
}

#[derive(Debug)]
enum Room {
    /// In the log, `size` bytes of contents.
    Small,
    /// A mapping of its own, not in the table yet.
    Large(LargeObject),
    /// Settled: nothing left to do.
    Settled,
}

impl<'m> NewObject<'m> {
    /// Where the contents go: exclusive until published, aligned and large enough for the layout asked for, initialised (to anything).
    pub fn addr(&self) -> ObjectAddr {
        self.addr
    }

    /// Header and contents as bytes, to receive a far image, or the images of a large object's pieces.
    pub(crate) fn image_mut(&mut self) -> &mut [u8] {
        let size = match &self.room {
            Room::Small => self.header.size(),
            Room::Large(large) => large.layout().size(),
            Room::Settled => unreachable!("settling consumes the object"),
        };
        let start = (self.addr.get() - HEADER_BYTES) as *mut u8;
        // SAFETY: header and contents of a busy object are its allocator's alone, as is a mapping that is not in the table yet, which has a page before the
        // contents; mapped memory is initialised; `&mut self` makes this the only such slice. The header is written anew before the object is settled.
        unsafe { std::slice::from_raw_parts_mut(start, HEADER_BYTES + size) }
    }

    /// Writes the final header, lets `store` publish the slot, and lets the evacuator have the object. If `store` refuses, the object is
    /// given up.
    pub(crate) fn settle<R, E>(mut self, store: impl FnOnce(ObjectAddr) -> Result<R, E>) -> Result<R, E> {
        match std::mem::replace(&mut self.room, Room::Settled) {
            Room::Small => {
                // SAFETY: busy, so the header is ours.
                unsafe { self.header.write(self.addr) };
                let stored = store(self.addr);
                // A refused object is dead from here on: its slot does not say that it is here.
                self.memory.heap.settle(self.addr);
                stored
            }
            Room::Large(large) => {
                // SAFETY: not in the table yet, so nobody else knows of the mapping.
                unsafe { self.header.write(self.addr) };
                // In the table before the slot says so, for the evacuator and for `free_large`.
                self.memory.large.insert(large);
                let stored = store(self.addr);
                if stored.is_err() {
                    self.memory.free_large(self.addr);
                }
                stored
            }
            Room::Settled => unreachable!("settling consumes the object"),
        }
    }

    /// Publishes a new object in its slot, which is vacant and the caller's: present, dirty.
    pub fn publish(mut self, slot: &Slot) {
        // From now on the promise is the object's. `vacate` ends it.
        self.promised = 0;
        let published = self.settle(|addr| {
            slot.init(Word::present(addr, Freshness::Dirty, Warmth::Cold));
            Ok::<_, Infallible>(())
        });
        match published {
            Ok(()) => {}
        }
    }

    /// Takes the value apart, to be kept where `'m` can't be named. Must be put together again.
    pub(crate) fn into_parts(mut self) -> Parts {
        debug_assert_eq!(self.promised, 0, "what is fetched was promised when it was made");
        let room = std::mem::replace(&mut self.room, Room::Settled);
        Parts { addr: self.addr, header: self.header, room }
    }

    /// Puts together what `into_parts` took apart, of the same memory.
    pub(crate) fn from_parts(memory: &'m Memory, parts: Parts) -> Self {
        NewObject { memory, addr: parts.addr, header: parts.header, room: parts.room, promised: 0 }
    }
}

/// A [`NewObject`] without its memory.
#[derive(Debug)]
pub(crate) struct Parts {
    addr: ObjectAddr,
    header: ObjectHeader,
    room: Room,
}

// SAFETY: room that is nobody else's; the thread that settles or drops it need not be the one that allocated it.
unsafe impl Send for Parts {}

impl Parts {
    /// Where the contents go.
    pub(crate) fn addr(&self) -> ObjectAddr {
        self.addr
    }

    /// The contents of a large object as bytes; empty for a small one.
    pub(crate) fn large_contents_mut(&mut self) -> &mut [u8] {
        match &self.room {
            // SAFETY: the mapping is known to nobody else yet, and as long as its layout; `&mut self` makes this the only such slice.
            Room::Large(large) => unsafe { std::slice::from_raw_parts_mut(self.addr.get() as *mut u8, large.layout().size()) },
            _ => &mut [],
        }
    }
}

impl Drop for NewObject<'_> {
    fn drop(&mut self) {
        if self.promised > 0 {
            self.memory.far.end_promise(self.promised);
        }
        match std::mem::replace(&mut self.room, Room::Settled) {
            Room::Small => {
                let bytes = HEADER_BYTES + self.header.size();
                // SAFETY: busy, so the header is ours.
                unsafe { ObjectHeader::filler(bytes).write(self.addr) };
                self.memory.heap.settle(self.addr);
            }
            // Never published: nobody else knows of the mapping.
            Room::Large(large) => self.memory.free_large_object(large),
            Room::Settled => {}
        }
    }
}

impl Memory {
    /// Local room for an object of `layout` that `slot` will own. Waits for evacuation if need
    /// be and allowed.
    pub fn new_object(&self, slot: SlotId, layout: Layout, origin: Origin) -> Result<NewObject<'_>> {
        #[cfg(farptr_zeal)]
        self.legal_point();
        if layout.align() > crate::arena::PAGE {
            return Err(Error::CapacityOverflow {
                what: "an object's alignment",
                asked: layout.align() as u64,
                limit: crate::arena::PAGE as u64,
            });
        }
        forked::check()?;
        let promised = self.promise(origin, layout)?;
        let made = if self.is_large(layout) {
            let footprint = LargeObject::footprint(layout);
            self.with_room(footprint, || self.try_new_large(slot, layout, origin).transpose()).flatten()
        } else {
            let bytes = self.heap.segment_bytes();
            self.with_room(bytes, || self.try_new_small(slot, layout, origin))
        };
        match made {
            Ok(mut object) => {
                object.promised = promised;
                Ok(object)
            }
            Err(error) => {
                self.far.end_promise(promised);
                Err(error)
            }
        }
    }

    /// As `new_object`, but does not wait: `None` if there is no room now.
    pub(crate) fn try_new_object(&self, slot: SlotId, layout: Layout, origin: Origin) -> Result<Option<NewObject<'_>>> {
        if self.is_large(layout) {
            return self.try_new_large(slot, layout, origin);
        }
        Ok(self.try_new_small(slot, layout, origin))
    }

    #[inline]
    fn try_new_small(&self, slot: SlotId, layout: Layout, origin: Origin) -> Option<NewObject<'_>> {
        let (kind, far, party) = origin.terms(self.ablations().policy);
        let addr = match self.heap.alloc(self.shard(), kind, layout, &self.budget, party) {
            Ok(addr) => addr,
            Err(_) => self.alloc_reserved(kind, layout, origin)?,
        };
        self.note_taken(layout);
        self.kick_if_low();
        Some(NewObject { memory: self, addr, header: ObjectHeader::new(slot, layout, far), room: Room::Small, promised: 0 })
    }

    #[cold]
    fn try_new_large(&self, slot: SlotId, layout: Layout, origin: Origin) -> Result<Option<NewObject<'_>>> {
        let footprint = LargeObject::footprint(layout);
        let (_, far, party) = origin.terms(self.ablations().policy);
        // What is new must leave room for swap-ins; what is fetched takes what there is.
        let spare = if party == Party::Creator { None } else { self.spares.take(footprint) };
        let large = match spare {
            Some(mapping) => LargeObject::place(mapping, layout, slot, far),
            None if !self.try_charge(party, footprint) => return Ok(None),
            None => LargeObject::map(&self.extents, layout, slot, far).map_err(|error| {
                self.budget.release(footprint);
                Error::Config(format!("the system gives no {footprint} bytes for a large object: {error}"))
            })?,
        };
        self.note_taken(layout);
        self.kick_if_low();
        Ok(Some(NewObject { memory: self, addr: large.addr(), header: large.header(), room: Room::Large(large), promised: 0 }))
    }

    /// Takes a large object out of the table and frees it, as soon as the evacuator is done with it. Nothing for other addresses.
    pub fn free_large(&self, addr: ObjectAddr) {
        if let Some(large) = self.large.remove(addr) {
            self.let_go_of_large(large);
        }
    }

    /// Gives up one holder's claim on a large object's memory; the last frees it.
    pub fn let_go_of_large(&self, large: Arc<LargeObject>) {
        if let Some(large) = Arc::into_inner(large) {
            self.free_large_object(large);
        }
    }

    fn free_large_object(&self, large: LargeObject) {
        if let Some(mapping) = self.spares.keep(large.into_mapping()) {
            self.unmap(mapping);
        }
        // There may be no next one.
        if self.large.is_empty() {
            self.drop_spares();
        }
    }

    /// Whether the system has taken it back. If not, it stays charged, for the next of its footprint or another attempt.
    fn unmap(&self, mapping: Mapping) -> bool {
        let bytes = mapping.footprint();
        match mapping.free() {
            Ok(()) => {
                self.budget.release(bytes);
                true
            }
            Err((mapping, error)) => {
                tracing::warn!(%error, bytes, "the system does not take back the memory of a large object; it stays charged to the budget");
                self.spares.keep_refused(mapping);
                false
            }
        }
    }

    /// Gives up what is kept for large objects to come and for objects that are passed. Whether that has freed anything.
    pub fn drop_spares(&self) -> bool {
        self.extents.retry();
        let any = self.drop_passing_buffers();
        // All of them, whatever becomes of one.
        self.spares.take_all().into_iter().fold(any, |any, mapping| self.unmap(mapping) | any)
    }

    /// The far copy that a header or an absent word names is dead.
    pub fn bury_far(&self, place: FarPlace, size: usize) {
        match place {
            FarPlace::At(addr) => self.far.bury(addr, image_bytes(size)),
            FarPlace::Large(id) => self.bury_large_far(id),
        }
    }

    #[cold]
    fn bury_large_far(&self, id: LargeId) {
        let Some(far) = self.large_fars.remove(id) else { return };
        for (piece, (_, len)) in far.pieces.iter().zip(crate::far::LargeFar::cuts(far.size)) {
            // The swap decides between this and the cleaner, which may be moving the piece.
            if let State::Absent(FarPlace::At(addr)) = self.slots.slot(*piece).vacate().state() {
                self.far.bury(addr, image_bytes(len));
            }
            self.slots.free(*piece, UnitClass::One, &self.budget);
        }
    }

    /// The far copy that the header of a clean object names.
    pub fn far_place_of(&self, raw: u64, layout: Layout) -> FarPlace {
        if self.is_large(layout) { FarPlace::Large(LargeId(raw)) } else { FarPlace::At(FarAddr::from_bits(raw)) }
    }

    /// The owner gives an object up whose contents need no `Drop`. The slot is vacant afterwards, and may be freed. In the child of a fork all stays as it is.
    ///
    /// # Safety
    /// `slot` holds an object of `layout`, no reference to which is left or will be made.
    pub unsafe fn release_object(&self, slot: &Slot, layout: Layout) {
        if forked::is_child() {
            return;
        }
        let released = self.vacate(slot, layout, |_| Ok::<_, Infallible>(()), |_, _| Ok(()));
        match released {
            Ok(()) => {}
        }
    }

    /// Moves an object's contents out, to `to`, and gives it up, wherever it is. Takes no local memory. The slot is vacant afterwards, and may be freed.
    ///
    /// # Errors
    /// If the bytes can't be fetched. The object is as it was.
    ///
    /// # Safety
    /// `slot` holds an object of `layout`, no reference to which is left or will be made; `to` is valid for writes of `layout.size()` bytes.
    pub unsafe fn take_object(&self, slot: &Slot, layout: Layout, to: *mut u8) -> Result<()> {
        forked::check()?;
        self.vacate(
            slot,
            layout,
            |addr| {
                // SAFETY: `vacate` calls this with the address of an object that stays where it is during the call, and that nobody writes, since
                // its owner is here. `to` is by contract valid, and not in the local heap's segment of the object.
                unsafe { std::ptr::copy_nonoverlapping(addr.get() as *const u8, to, layout.size()) };
                Ok(())
            },
            |place, slot| {
                let bytes = self.fetch_apart(place, slot, layout.size())?;
                // SAFETY: as above for `to`; the vector is as long.
                unsafe { std::ptr::copy_nonoverlapping(bytes[HEADER_BYTES..].as_ptr(), to, layout.size()) };
                Ok(())
            },
        )
    }

    /// Makes the slot vacant, after `if_present` or `if_absent` has done with the contents what is to be done.
    fn vacate<E>(
        &self,
        slot: &Slot,
        layout: Layout,
        if_present: impl Fn(ObjectAddr) -> Result<(), E>,
        if_absent: impl Fn(FarPlace, SlotId) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            // Holds the object's segment while contents and header are read: see `crate::word`, "Drop".
            let scope = Scope::enter();
            let word = slot.load();
            match word.state() {
                State::Present(_) if word.is_evacuating() => {
                    let _ = slot.rescue_cold(word);
                }
                State::Present(addr) => {
                    if_present(addr)?;
                    // SAFETY: present and unmarked (or rescued) inside this scope: it stays where it is until the scope ends or the
                    // owner, who is here, gives it up, before which `give_up` reads the header.
                    let far = || unsafe { ObjectHeader::read(addr) }.far();
                    if let Ok(dead) = steps::give_up(slot, word, far) {
                        self.far.end_promise(self.charge(layout));
                        if word.pins() == u8::MAX {
                            self.pins.forget(slot);
                        }
                        if word.pins() > 0 {
                            self.heap.unpinned(addr);
                        }
                        if let Some(far) = dead {
                            self.bury_far(self.far_place_of(far, layout), layout.size());
                        }
                        if self.is_large(layout) {
                            self.free_large(addr);
                        } else if !word.is_relocating() {
                            // SAFETY: dead, and without a mark before, so not even the evacuator reads it; the scope still holds its segment.
                            unsafe { poison::given_up(addr.get(), layout.size()) };
                        }
                        return Ok(());
                    }
                }
                State::Absent(place) => {
                    drop(scope);
                    // Claimed, so that the cleaner lets it lie.
                    let Ok(claimed) = slot.claim_fetch(word) else { continue };
                    if let Err(error) = if_absent(place, self.slots.id_of(slot)) {
                        self.give_back(slot, claimed);
                        return Err(error);
                    }
                    let vacated = slot.vacate_from(claimed);
                    debug_assert!(vacated.is_ok(), "a claimed word is changed by its claimer only");
                    self.far.end_promise(self.charge(layout));
                    self.bury_far(place, layout.size());
                    return Ok(());
                }
                // The fetch of a future that was dropped; it ends by itself, at the latest by its timeout.
                State::Fetching(_) => {
                    drop(scope);
                    // A timeout is no reason to give up: the read has its own, and the room is the fetch's until it ends.
                    let _ = self.join_fetch(slot);
                }
                State::Vacant => {
                    debug_assert!(false, "the owner releases its object once");
                    return Ok(());
                }
            }
        }
    }

    /// The header of a small object. `None` for a large one.
    ///
    /// # Safety
    /// A slot said "present at `addr`" after the caller had taken the evacuator's lock, which it still holds: only its holder frees segments, so
    /// the header is still there, whatever has become of the object.
    pub unsafe fn header_of_present(&self, addr: ObjectAddr) -> Option<ObjectHeader> {
        // SAFETY: by contract mapped and not reused; it was settled before the slot was published, and the slot's load synchronised
        // with that. Settled headers do not change.
        self.heap.contains(addr).then(|| unsafe { ObjectHeader::read(addr) })
    }

    /// Counts an object whose `Drop` can't run.
    pub fn count_lost_drop(&self) {
        self.counters.lost_drops.fetch_add(1, Ordering::Relaxed);
    }
}
