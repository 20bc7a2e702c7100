//! Where an object is pinned: where it lies, or among other pinned objects.
//!
//! A pinned object can't be moved, and a segment is freed as a whole. So a pin keeps a whole segment, a 64th of the local heap, from being freed,
//! and a few dozen pins of small objects, each in another segment, would use up all local memory. As long as few segments hold pinned objects
//! that is allowed, because it costs nothing. When more than a sixteenth of them do, a pin moves its object first, unless the object's segment
//! holds a pinned object anyway. It goes to a segment that is filled with pinned objects only, the **pin head** ([`crate::heap`]).
//!
//! How the move is safe for readers that hold references to the old place, and for the evacuator and the cleaner: [`crate::word`], "Moves by a pin".
//!
//! Not moved: large objects, which share no segment; objects that the evacuator has marked; objects that are pinned already. Nor any if there is no room
//! for the copy, because a pin of a local object does not fail. Outside scopes [`Memory::pin`] waits for room for a moment.

use super::Memory;
use super::room::Waiting;
use crate::budget::Party;
use crate::heap::{ObjectHeader, QueueKind};
use crate::scope::{Scope, current_hint};
use crate::steps;
use crate::word::{Slot, State};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Attempts to move an object whose word changes meanwhile. Each leaves a dead copy behind; a use that changes the word is rare.
const ATTEMPTS: u32 = 2;

/// How long a pin waits for room before it holds the object where it lies: some rounds of evacuation.
const PATIENCE: Duration = Duration::from_millis(10);

/// What became of an attempt to move an object in order to pin it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Elsewhere {
    /// It was moved, and is pinned.
    Pinned,
    /// It is to be pinned where it lies; or it is absent.
    Not,
    /// As `Not`, because there is no room for a copy.
    NoRoom,
}

impl Memory {
    /// Moves a present object to the pinned ones and pins it there, if too many segments hold pinned objects already.
    #[inline]
    pub(super) fn pin_elsewhere(&self, slot: &Slot) -> Elsewhere {
        if self.heap.pins().are_strewn() { self.pin_in_head(slot) } else { Elsewhere::Not }
    }

    #[cold]
    fn pin_in_head(&self, slot: &Slot) -> Elsewhere {
        let hint = current_hint();
        // Keeps the old place as it is until it has been copied, and its segment until it has been flagged.
        let _scope = Scope::enter();
        for _ in 0..ATTEMPTS {
            let word = slot.load();
            let State::Present(old) = word.state() else { return Elsewhere::Not };
            if !word.is_at_rest() || word.pins() > 0 {
                return Elsewhere::Not;
            }
            let Some(segment) = self.heap.segment_of(old) else { return Elsewhere::Not };
            if self.heap.pins().is_for_pins(segment) {
                return Elsewhere::Not;
            }
            // SAFETY: present and unmarked in this scope, so the segment is not freed before the scope ends; the header was settled before the slot
            // was published, with which the load of the word synchronised, and does not change.
            let header = unsafe { ObjectHeader::read(old) };
            debug_assert_eq!(header.slot(), self.slots.id_of(slot), "a present object's header names its slot");
            let (shard, kind) = (self.heap.pin_shard(), QueueKind::of_survivors(self.ablations().policy));
            let Ok(to) = self.heap.alloc(shard, kind, header.layout(), &self.budget, Party::Mutator) else {
                return Elsewhere::NoRoom;
            };
            // SAFETY: the old contents are those of an object of the header's layout, mapped as above. Nobody writes them: a writer would have borrowed
            // the owner exclusively, and the caller, who pins, has a borrow. The new contents are busy, just allocated here. They do not overlap.
            unsafe {
                std::ptr::copy_nonoverlapping(old.get() as *const u8, to.get() as *mut u8, header.size());
            }
            // SAFETY: busy, and so this thread's alone.
            unsafe { header.write(to) };
            let moved = steps::pin_moved(slot, word, to, hint, || self.heap.pins().note_move_out_of(segment));
            // If the word has changed, the copy is dead from here on: its slot does not say that it is here.
            self.heap.settle(to);
            self.kick_if_low();
            if moved.is_ok() {
                self.heap.pinned(to);
                self.counters.relocated.fetch_add(1, Ordering::Relaxed);
                return Elsewhere::Pinned;
            }
        }
        Elsewhere::Not
    }

    /// Waits a moment for room in which an object could be pinned. The caller is outside any scope.
    #[cold]
    pub(super) fn wait_for_pin_room(&self) {
        let Some(relief) = self.relief.get() else { return };
        let (deadline, mut waiting) = (Instant::now() + PATIENCE, Waiting::default());
        while !self.heap.has_room_for(Party::Mutator, &self.budget) && Instant::now() < deadline {
            // Whatever the reason is, the pin does without.
            if relief.relieve(self, self.heap.segment_bytes(), &mut waiting).is_err() {
                return;
            }
        }
    }
}
