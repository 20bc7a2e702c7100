//! Which of the objects that are read get a place in local memory.
//!
//! An object that misses is swapped in because it may be used again. S3-FIFO gives each a turn in the young queue, to see whether it is: one that is not leaves
//! after a tenth of a turnover. Where hardly any is, as with reads that are spread over much more than fits, the swap-ins bring nothing, and each costs a place in the log, cold memory to copy to, and
//! its evacuation. So an object that is read by value or in a closure, and that nobody has asked for lately, is then **passed**: fetched into a buffer, which is in
//! the processor's cache, looked at there, and forgotten. The absent word is stamped as if the object had left just then: if it is asked for again before the heap has turned over once, it gets a place
//! in the main queue. That is the ghost queue of S3-FIFO (Yang et al., SOSP 2023), with a young queue of no length. Where coming back says nothing either, as with uniform reads, an object must come back
//! several times in a row. [`super::evidence`] says when which of these holds.
//!
//! One miss of [`SAMPLE`] is treated the other way than it would be, to see what comes of that. References in scopes must last, so what they
//! miss is always swapped in.
//!
//! Only where a miss is a copy, from memory that is mapped here: where each is a message of some 10 us, an added miss costs more than a pass saves. Not for large objects. Not while there is room
//! that evacuation would leave free.
//!
//! By the protocol of [`crate::word`] it is a fetch that is abandoned, as in [`super::bypass`](super::Bypass): the object is claimed, and let go when its bytes have arrived.
#![forbid(unsafe_code)]

use super::bypass::{buffer_bytes, contents_in};
use super::evidence::{Evidence, Flows, SAMPLE, Young};
use super::{Memory, is_ghost};
use crate::ablations::{FirstReads, Policy};
use crate::addr::SlotId;
use crate::budget::Party;
use crate::error::Result;
use crate::forked;
use crate::heap::HEADER_BYTES;
use crate::scope::{AccessHint, current_hint, in_scope};
use crate::word::{FarPlace, Slot, Stamp, State};
use crossbeam_utils::atomic::AtomicCell;
use std::alloc::Layout;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Buffers that wait for the next object, at most.
const BUFFERS: usize = 4;

/// An object is passed if its buffer is at most this part of the budget.
const BUFFER_SHARE: usize = 64;

/// What is known of how objects are used, and buffers for those that are passed.
#[derive(Default)]
pub(crate) struct Admission {
    evidence: Evidence,
    /// Those that wait for the next object.
    buffers: [AtomicCell<Option<Box<Buffer>>>; BUFFERS],
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("evidence", &self.evidence).finish_non_exhaustive()
    }
}

impl Admission {
    fn take_buffer(&self) -> Option<Box<Buffer>> {
        self.buffers.iter().find_map(AtomicCell::take)
    }

    /// Keeps a buffer for the next object. Returns one if there were enough.
    fn keep(&self, buffer: Box<Buffer>) -> Option<Box<Buffer>> {
        // Each place takes what the one before it had.
        self.buffers.iter().try_fold(buffer, |buffer, place| place.swap(Some(buffer)))
    }
}

/// Whether a miss is one of those that are treated the other way. Another one of the objects each time the ghost clock moves on.
fn is_sample(now: Stamp, slot: SlotId) -> bool {
    let mixed = (slot.0 ^ u32::from(now.0) << 16).wrapping_mul(0x9e37_79b1);
    ((mixed >> 16) as usize).is_multiple_of(SAMPLE)
}

/// Room for an object that is passed, charged to the budget.
#[derive(Debug)]
struct Buffer(Vec<u8>);

/// An object that is passed: a copy of its contents. The copy's place is charged to the budget.
#[derive(Debug)]
pub struct Passed<'m> {
    memory: &'m Memory,
    /// Until it is dropped.
    buffer: Option<Box<Buffer>>,
    contents: Range<usize>,
}

impl Passed<'_> {
    /// The contents, aligned as they should be.
    pub fn contents(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| &buffer.0[self.contents.clone()])
    }
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        if let Some(one_too_many) = self.buffer.take().and_then(|buffer| self.memory.admission.keep(buffer)) {
            self.memory.budget.release(one_too_many.0.len());
        }
    }
}

impl Memory {
    /// How many times fewer objects come to the young queue than would if none were passed, so that it is to be as much shorter: 1 to 16.
    pub fn young_thinned(&self) -> usize {
        self.admission.evidence.thinned()
    }

    /// Says what has become of young objects.
    pub fn learn(&self, young: Young) {
        if self.may_pass() {
            let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let flows = Flows {
                passed: get(&self.counters.passed),
                evacuated: get(&self.counters.evacuated),
                turnovers: get(&self.evacuated) as f64 / self.budget.limit() as f64,
            };
            self.admission.evidence.learn(young, flows);
        }
    }

    /// Begins to pass objects if they may be passed at all, before anything is known of how they are used.
    pub fn pass_first_reads(&self) {
        if self.may_pass() {
            self.admission.evidence.begin();
        }
    }

    /// Whether objects may be passed at all: whether misses are copies.
    fn may_pass(&self) -> bool {
        let ablations = self.ablations();
        ablations.policy == Policy::S3Fifo && ablations.first_reads == FirstReads::Past && self.far.is_mapped()
    }

    /// Reads an object past the local heap, if that is the way now; else the caller derefs it. Nobody writes it while the caller looks at what is returned.
    ///
    /// # Errors
    /// Those of a fetch. The object is where it was.
    #[cold]
    pub fn pass(&self, slot: &Slot, layout: Layout) -> Result<Option<Passed<'_>>> {
        forked::check()?;
        let seen = slot.load();
        let State::Absent(FarPlace::At(addr)) = seen.state() else { return Ok(None) };
        let evidence = &self.admission.evidence;
        if !evidence.passes() || current_hint() == AccessHint::NonTemporal || self.heap.is_roomy() {
            return Ok(None);
        }
        let (now, before) = (self.ghost_now(), seen.stamp());
        let returns = if is_ghost(now, before) { before.returns() + 1 } else { 0 };
        if returns > 0 {
            evidence.came_back(returns);
        }
        let gets_a_place = returns >= evidence.returns_for_a_place();
        if gets_a_place != is_sample(now, self.slots.id_of(slot)) {
            return Ok(None);
        }
        let Some(mut buffer) = self.passing_buffer(buffer_bytes(layout)) else { return Ok(None) };
        #[cfg(farptr_zeal)]
        self.legal_point();
        let contents = contents_in(&buffer.0, layout);
        let claim = slot.claim_fetch(seen);
        let fetched = claim.map(|_| {
            let image = &mut buffer.0[contents.start - HEADER_BYTES..contents.end];
            self.fetch_image(addr, self.slots.id_of(slot), image)
        });
        let passed = Passed { memory: self, buffer: Some(buffer), contents };
        // Somebody else is bringing it in.
        let (Ok(claimed), Ok(fetched)) = (claim, fetched) else { return Ok(None) };
        if fetched.is_ok() {
            self.advance_ghost_clock(HEADER_BYTES + layout.size());
            self.pass_by(slot, claimed, now.after(returns));
            self.count_miss(layout);
            self.counters.passed.fetch_add(1, Ordering::Relaxed);
            if returns > 0 {
                evidence.passed_again();
            }
        } else {
            self.give_back(slot, claimed);
        }
        fetched.map(|()| Some(passed))
    }

    /// A buffer of at least so many bytes, if the budget has that.
    fn passing_buffer(&self, bytes: usize) -> Option<Box<Buffer>> {
        if let Some(buffer) = self.admission.take_buffer() {
            if buffer.0.len() >= bytes {
                return Some(buffer);
            }
            self.budget.release(buffer.0.len());
        }
        let bytes = bytes.next_power_of_two();
        let charge = || self.try_charge(Party::Mutator, bytes).then_some(());
        // It is kept, so that this happens once. A segment may have to leave for it.
        let charged = match bytes <= self.budget.limit() / BUFFER_SHARE {
            true if in_scope() => charge().is_some(),
            fits => fits && self.with_room(bytes, charge).is_ok(),
        };
        charged.then(|| Box::new(Buffer(vec![0; bytes])))
    }

    /// Gives up the buffers that wait for objects that are passed.
    pub(super) fn drop_passing_buffers(&self) -> bool {
        let mut any = false;
        while let Some(buffer) = self.admission.take_buffer() {
            self.budget.release(buffer.0.len());
            any = true;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_one_in_so_many_and_another_each_time() {
        let sample = |now| (0..1 << 14).filter(|slot| is_sample(Stamp(now), SlotId(*slot))).collect::<Vec<_>>();
        for now in [0, 1, 2, 1000, u16::MAX] {
            let (one, next) = (sample(now), sample(now.wrapping_add(1)));
            let expected = (1 << 14) / SAMPLE;
            assert!((expected * 3 / 4..expected * 5 / 4).contains(&one.len()), "{} at {now}", one.len());
            let both = one.iter().filter(|slot| next.contains(slot)).count();
            assert!(both < one.len() / 4, "{both} of {} at {now}", one.len());
        }
    }
}
