//! The slow path of a deref: everything but "present, hot, at rest".

use super::{Memory, NewObject, Origin};
use crate::addr::ObjectAddr;
use crate::budget::Party;
use crate::error::Result;
use crate::heap::ObjectHeader;
use crate::scope::{AccessHint, current_hint, in_scope};
use crate::word::{Slot, State, Word};
use std::alloc::Layout;
use std::sync::atomic::Ordering;

/// What the reference will be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// `&T`.
    Read,
    /// `&mut T`: the object becomes dirty.
    Write,
}

/// Turns of spinning before a waiter yields its time slice.
const SPINS: u32 = 100;

impl Memory {
    /// Brings the object into local memory if need be, and says where it is. The fast path has failed, or was not tried.
    ///
    /// The caller holds a scope, in which the address is valid; for `Write` it holds the object's owner exclusively. `layout` is
    /// the object's.
    ///
    /// # Errors
    /// What a swap-in can meet; `ScopeExhausted` if there is no local memory. For `Write` also when the object is local, if the evacuator is
    /// reading it and there is no room for a copy.
    #[cold]
    pub fn access_slow(&self, slot: &Slot, layout: Layout, intent: Intent) -> Result<ObjectAddr> {
        debug_assert!(in_scope(), "an address is valid in a scope only");
        let mut turns = 0;
        loop {
            let word = slot.load();
            let State::Present(addr) = word.state() else {
                self.bring_in(slot, word, layout, current_hint())?;
                continue;
            };
            let reached = match intent {
                Intent::Read => self.read_present(slot, word),
                Intent::Write if self.is_large(layout) => self.write_large(slot, word, layout, &mut turns),
                Intent::Write => self.write_present(slot, word, layout)?,
            };
            if let Some(moved) = reached {
                return Ok(moved.unwrap_or(addr));
            }
        }
    }

    /// One step of a read: `None` if the word changed under it, `Some(None)` if the object may be read where it is.
    fn read_present(&self, slot: &Slot, word: Word) -> Option<Option<ObjectAddr>> {
        if word.is_fast_read() {
            return Some(None);
        }
        if word.is_evacuating() {
            self.counters.rescued.fetch_add(1, Ordering::Relaxed);
        }
        let outcome = match current_hint() {
            AccessHint::Normal => slot.rescue(word),
            AccessHint::NonTemporal if word.is_evacuating() => slot.rescue_cold(word),
            AccessHint::NonTemporal => return Some(None),
        };
        outcome.is_ok().then_some(None)
    }

    /// One step of a write: as for a read; `Some(Some(addr))` if the object has moved to `addr`.
    fn write_present(&self, slot: &Slot, word: Word, layout: Layout) -> Result<Option<Option<ObjectAddr>>> {
        if word.is_fast_write() {
            return Ok(Some(None));
        }
        if word.is_evacuating() {
            self.counters.rescued.fetch_add(1, Ordering::Relaxed);
            let _ = slot.rescue(word);
            return Ok(None);
        }
        if word.is_relocating() {
            return Ok(self.self_relocate(slot, word, layout)?.map(Some));
        }
        Ok(slot.begin_write(word).is_ok().then(|| {
            self.bury_if_clean(word, word.addr(), layout);
            None
        }))
    }

    /// Moves an object that the evacuator may be reading, on behalf of its writer.
    fn self_relocate(&self, slot: &Slot, word: Word, layout: Layout) -> Result<Option<ObjectAddr>> {
        let old = word.addr();
        let fresh: NewObject<'_> = self.new_object(self.slots.id_of(slot), layout, Origin::Moved)?;
        // SAFETY: the old bytes are those of an object of `layout` that is present, not evacuating, inside the caller's scope, so they
        // stay mapped and unwritten (the caller is the only writer); the new ones are busy and ours. They do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(old.get() as *const u8, fresh.addr().get() as *mut u8, layout.size()) };
        let moved = fresh.settle(|addr| slot.self_relocate(word, addr).map(|_| addr));
        if let Ok(addr) = moved {
            self.counters.relocated.fetch_add(1, Ordering::Relaxed);
            self.bury_if_clean(word, old, layout);
            return Ok(Some(addr));
        }
        Ok(None)
    }

    fn write_large(&self, slot: &Slot, word: Word, layout: Layout, turns: &mut u32) -> Option<Option<ObjectAddr>> {
        if word.is_fast_write() {
            return Some(None);
        }
        if word.is_evacuating() || word.is_relocating() {
            let _ = slot.rescue_large(word);
            return None;
        }
        if word.is_copying() {
            // The evacuator sees within one piece that its mark is gone.
            pause(turns);
            return None;
        }
        slot.begin_write(word).is_ok().then(|| {
            self.bury_if_clean(word, word.addr(), layout);
            None
        })
    }

    /// The object at `addr` was clean in `word`, from which the caller has just taken that away: its far copy is dead.
    fn bury_if_clean(&self, word: Word, addr: ObjectAddr, layout: Layout) {
        if word.is_clean() {
            // SAFETY: the caller's scope keeps the object's memory: it was present and not evacuating in `word`.
            let far = unsafe { ObjectHeader::read(addr) }.far();
            self.bury_far(self.far_place_of(far, layout), layout.size());
        }
    }

    /// Brings the object in without a scope, so that waiting for memory is possible: for callers that deref right afterwards.
    ///
    /// # Errors
    /// What a swap-in can meet.
    #[cold]
    pub fn prepare(&self, slot: &Slot, layout: Layout, hint: AccessHint) -> Result<()> {
        loop {
            let word = slot.load();
            if word.is_present() {
                return Ok(());
            }
            self.bring_in(slot, word, layout, hint)?;
        }
    }

    /// Waits for memory that a write could not get inside its scope. The caller is outside any scope.
    #[cold]
    pub fn wait_for_room(&self) -> Result<()> {
        let segment = self.heap.segment_bytes();
        self.with_room(segment, || self.heap.has_room_for(Party::Mutator, &self.budget).then_some(()))
    }
}

pub(super) fn pause(turns: &mut u32) {
    *turns = turns.saturating_add(1);
    if *turns < SPINS {
        crate::sync::spin_loop();
    } else {
        crate::sync::yield_now();
    }
}
