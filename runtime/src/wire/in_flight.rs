//! A client's tags, and what each stands for.
//!
//! A tag is a slot's index and the slot's generation, so that a reply to an earlier use of a slot doesn't pass for one to this.
#![forbid(unsafe_code)]

use super::frame::Tag;
use crate::transport::{IoBuf, SlabId, Token, Verb};
use std::time::{Duration, Instant};

/// Index of a slot, the lower half of a tag.
pub(super) type Slot = u16;

/// What a slot stands for.
#[derive(Debug)]
pub(super) enum State {
    Free,
    Data {
        token: Token,
        verb: Verb,
        buf: IoBuf,
    },
    Borrow,
    Return,
    /// Timed out. What the reply must look like is still known.
    Abandoned(Late),
}

/// The reply that an abandoned slot waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Late {
    Read { len: usize },
    Write,
    Borrow,
    Return,
}

/// All slots of a session.
#[derive(Debug)]
pub(super) struct InFlight {
    slots: Box<[Entry]>,
    free: Vec<Slot>,
    /// Slots whose deadline isn't set yet, because `submit` knows no time.
    undated: Vec<Slot>,
    /// No slot's deadline is earlier. Exact when it was computed, or too early. So the slots are looked
    /// through about once a timeout, not at every poll.
    earliest: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    /// Upper half of the tag.
    generation: u16,
    deadline: Option<Instant>,
    /// Its first deadline has passed; the one it has now is its last.
    overdue: bool,
    /// The slab that a read or write is for, also after it has been abandoned.
    slab: Option<SlabId>,
    state: State,
}

impl InFlight {
    /// `count` free slots.
    pub(super) fn new(count: u16) -> Self {
        Self {
            slots: (0..count)
                .map(|_| Entry { generation: 0, deadline: None, overdue: false, slab: None, state: State::Free })
                .collect(),
            free: (0..count).rev().collect(),
            undated: Vec::with_capacity(count.into()),
            earliest: None,
        }
    }

    /// How many slots there are.
    pub(super) fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Takes a free slot, which is then to be filled.
    #[inline]
    pub(super) fn reserve(&mut self) -> Option<Slot> {
        self.free.pop()
    }

    /// The tag of a slot's present use.
    #[inline]
    pub(super) fn tag(&self, slot: Slot) -> Tag {
        Tag(u32::from(self.slots[usize::from(slot)].generation) << 16 | u32::from(slot))
    }

    /// Puts a reserved slot to use; its time starts with the next [`date`](Self::date).
    #[inline]
    pub(super) fn fill(&mut self, slot: Slot, state: State) {
        self.slots[usize::from(slot)].state = state;
        self.undated.push(slot);
    }

    /// Says which slab a slot in use is for.
    #[inline]
    pub(super) fn set_slab(&mut self, slot: Slot, slab: SlabId) {
        self.slots[usize::from(slot)].slab = Some(slab);
    }

    /// The slab that a slot was for, which it isn't any more.
    #[inline]
    pub(super) fn take_slab(&mut self, slot: Slot) -> Option<SlabId> {
        self.slots[usize::from(slot)].slab.take()
    }

    /// The slabs that slots are for, one for each such slot.
    pub(super) fn slabs(&self) -> impl Iterator<Item = SlabId> {
        self.slots.iter().filter_map(|entry| entry.slab)
    }

    /// The slot of a tag that a peer sent, and what it stands for: `Free` if nothing is in flight by this tag.
    #[inline]
    pub(super) fn find(&self, tag: Tag) -> (Slot, &State) {
        let slot = (tag.0 & 0xffff) as Slot;
        let known = self.slots.get(usize::from(slot)).filter(|entry| u32::from(entry.generation) == tag.0 >> 16);
        (slot, known.map_or(&State::Free, |entry| &entry.state))
    }

    /// What a slot stands for.
    #[inline]
    pub(super) fn state_mut(&mut self, slot: Slot) -> &mut State {
        &mut self.slots[usize::from(slot)].state
    }

    /// What all slots stand for.
    pub(super) fn states_mut(&mut self) -> impl Iterator<Item = &mut State> {
        self.slots.iter_mut().map(|entry| &mut entry.state)
    }

    /// What all slots stood for.
    pub(super) fn into_states(self) -> impl Iterator<Item = State> {
        self.slots.into_iter().map(|entry| entry.state)
    }

    /// Frees a slot.
    #[inline]
    pub(super) fn release(&mut self, slot: Slot) -> State {
        let entry = &mut self.slots[usize::from(slot)];
        entry.generation = entry.generation.wrapping_add(1);
        entry.overdue = false;
        if entry.deadline.take().is_none() {
            // Answered before it was dated: the owner fed input without letting time pass first, which is allowed and rare.
            self.undated.retain(|undated| *undated != slot);
        }
        self.free.push(slot);
        std::mem::replace(&mut entry.state, State::Free)
    }

    /// Sets the deadline of what was filled since the last time. Whether some slot may be overdue.
    #[inline]
    pub(super) fn date(&mut self, now: Instant, timeout: Duration) -> bool {
        if !self.undated.is_empty() {
            let deadline = now + timeout;
            for slot in self.undated.drain(..) {
                self.slots[usize::from(slot)].deadline = Some(deadline);
            }
            // What is abandoned has more time than what is new.
            self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        }
        self.earliest.is_some_and(|earliest| earliest <= now)
    }

    /// Gives each slot whose deadline has passed to `overdue`, which says what it stands for from now on, for `again` at most. Returns
    /// whether `again` has passed for one as well.
    #[cold]
    pub(super) fn expire(&mut self, now: Instant, again: Duration, mut overdue: impl FnMut(State) -> State) -> bool {
        let mut gone = false;
        self.earliest = None;
        for entry in &mut self.slots {
            let Some(mut deadline) = entry.deadline else { continue };
            if deadline <= now {
                gone |= std::mem::replace(&mut entry.overdue, true);
                entry.state = overdue(std::mem::replace(&mut entry.state, State::Free));
                deadline = now + again;
                entry.deadline = Some(deadline);
            }
            self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        }
        gone
    }
}
