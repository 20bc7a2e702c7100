//! The slow path of a deref: everything but "present, hot, at rest".

use super::{Memory, NewObject, Origin};
use crate::addr::ObjectAddr;
use crate::budget::Party;
use crate::error::Result;
use crate::forked;
use crate::heap::ObjectHeader;
use crate::scope::{AccessHint, current_hint, in_scope};
use crate::steps::{self, Access};
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
    /// What a swap-in can meet; `ScopeExhausted` if there is no local memory. `FarMemoryFull` if the object would become dirty and far memory has lost the room
    /// for it. For `Write` also when the object is local, if the evacuator is
    /// reading it and there is no room for a copy.
    #[cold]
    pub fn access_slow(&self, slot: &Slot, layout: Layout, intent: Intent) -> Result<ObjectAddr> {
        debug_assert!(in_scope(), "an address is valid in a scope only");
        forked::check()?;
        let mut turns = 0;
        loop {
            let word = slot.load();
            if intent == Intent::Write && (!word.is_present() || word.is_clean()) {
                self.may_dirty()?;
            }
            let State::Present(addr) = word.state() else {
                self.bring_in(slot, word, layout, current_hint())?;
                continue;
            };
            let step = match intent {
                Intent::Read => steps::read(slot, word, current_hint()),
                Intent::Write if self.is_large(layout) => steps::write_large(slot, word),
                Intent::Write => steps::write(slot, word),
            };
            if word.is_evacuating() {
                self.counters.rescued.fetch_add(1, Ordering::Relaxed);
            }
            match step {
                Access::Granted => return Ok(addr),
                Access::GrantedAndDirtied => {
                    // SAFETY: present, unmarked and in this scope when it was dirtied: it stays here until the scope ends.
                    let far = unsafe { ObjectHeader::read(addr) }.far();
                    self.bury_far(self.far_place_of(far, layout), layout.size());
                    return Ok(addr);
                }
                Access::Again => {}
                Access::Move => {
                    if let Some(addr) = self.self_relocate(slot, word, layout)? {
                        return Ok(addr);
                    }
                }
                // The evacuator sees within one piece that its mark is gone.
                Access::Wait => pause(&mut turns),
            }
        }
    }

    /// Moves an object that the evacuator may be reading, on behalf of its writer. `None` if the word has changed.
    fn self_relocate(&self, slot: &Slot, word: Word, layout: Layout) -> Result<Option<ObjectAddr>> {
        let old = word.addr();
        let fresh: NewObject<'_> = self.new_object(self.slots.id_of(slot), layout, Origin::Moved)?;
        // SAFETY: the old bytes are those of an object of `layout` that is present, not evacuating, inside the caller's scope, so they
        // stay mapped and unwritten (the caller is the only writer); the new ones are busy and ours. They do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(old.get() as *const u8, fresh.addr().get() as *mut u8, layout.size()) };
        // SAFETY: as above for the header, which `move_away` reads at the right time.
        let far = || unsafe { ObjectHeader::read(old) }.far();
        let moved = fresh.settle(|addr| steps::move_away(slot, word, addr, far).map(|dead| (addr, dead)));
        let Ok((addr, dead)) = moved else { return Ok(None) };
        self.counters.relocated.fetch_add(1, Ordering::Relaxed);
        if let Some(far) = dead {
            self.bury_far(self.far_place_of(far, layout), layout.size());
        }
        Ok(Some(addr))
    }

    /// Brings the object in without a scope, so that waiting for memory is possible: for callers that deref right afterwards.
    ///
    /// # Errors
    /// What a swap-in can meet.
    #[cold]
    pub fn prepare(&self, slot: &Slot, layout: Layout, hint: AccessHint) -> Result<()> {
        forked::check()?;
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
