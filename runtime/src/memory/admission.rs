//! Which of the objects that are read get a place in local memory.
//!
//! An object that misses is swapped in because it may be used again. S3-FIFO gives each a turn in the young queue, to see whether it is: one that is not leaves
//! after a tenth of a turnover. Where hardly any is, as with reads that are spread over much more than fits, the swap-ins bring nothing, and each costs a place in the log, cold memory to copy to, and
//! its evacuation. So an object that is read by value or in a closure, and that nobody has asked for lately, is then **passed**: fetched into a buffer, which is in
//! the processor's cache, looked at there, and forgotten. The absent word is stamped as if the object had left just then: if it is asked for again before the heap has turned over once, it goes to the main queue
//! at once. That is the ghost queue of S3-FIFO (Yang et al., SOSP 2023), with a young queue of no length.
//!
//! # When
//! What a pass saves is a third to a half of a miss; what it loses is one miss of each object that would have been used again while it was young. So it pays
//! as long as fewer than about a third of the young are used again: [`Admission::learn`], with a margin, and some distance between on and off. To know it also while objects are passed,
//! one miss of [`SAMPLE`] is swapped in nevertheless, and the young queue is as much shorter, so that these stay as long as all would. References in scopes must last, so what they
//! miss is always swapped in; where that is most of the misses, the queue is as long as ever.
//! Objects that are new belong to the young queue as well and are never passed; while they are most of it, nothing is.
//!
//! Only where a miss is a copy, from memory that is mapped here: where each is a message of some 10 us, an added miss costs more than a pass saves. Not for large objects. Not while there is room
//! that evacuation would leave free.
//!
//! By the protocol of [`crate::word`] it is a fetch that is abandoned, as in [`super::bypass`](super::Bypass): the object is claimed, and let go when its bytes have arrived.
#![forbid(unsafe_code)]

use super::bypass::{buffer_bytes, contents_in};
use super::{Memory, is_ghost};
use crate::ablations::{FirstReads, Policy};
use crate::addr::SlotId;
use crate::budget::Party;
use crate::error::Result;
use crate::heap::HEADER_BYTES;
use crate::scope::{AccessHint, current_hint, in_scope};
use crate::word::{FarPlace, Slot, Stamp, State};
use crossbeam_utils::atomic::AtomicCell;
use std::alloc::Layout;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// While objects are passed, one miss in so many is swapped in, to see what becomes of it.
const SAMPLE: usize = 16;

/// Young objects between two decisions.
const WINDOW: usize = 1024;

/// Passing begins when fewer than one young object in so many was used again, and ends when more than one in `ENDS` was.
const BEGINS: usize = 4;
const ENDS: usize = 3;

/// Buffers that wait for the next object, at most.
const BUFFERS: usize = 4;

/// An object is passed if its buffer is at most this part of the budget.
const BUFFER_SHARE: usize = 64;

/// What has become of young objects that left, or had their turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Young {
    /// Objects that were made, or written since they were fetched.
    pub made: usize,
    /// Objects that were fetched.
    pub fetched: usize,
    /// Of these, how many were used after the use that fetched them.
    pub used_again: usize,
}

impl Young {
    /// One more, with a far copy or without, hot or not.
    pub fn count(&mut self, has_far_copy: bool, is_hot: bool) {
        self.made += usize::from(!has_far_copy);
        self.fetched += usize::from(has_far_copy);
        self.used_again += usize::from(has_far_copy && is_hot);
    }
}

/// What is known of how objects are used, and buffers for those that are passed.
pub(crate) struct Admission {
    passes: AtomicBool,
    thinned: AtomicUsize,
    /// Those that wait for the next object.
    buffers: [AtomicCell<Option<Box<Buffer>>>; BUFFERS],
    seen: Mutex<Seen>,
}

/// Since the last decision.
#[derive(Debug, Default)]
struct Seen {
    young: Young,
    /// Objects that had been passed by then.
    passed: u64,
}

impl Default for Admission {
    fn default() -> Self {
        let (passes, thinned) = (AtomicBool::new(false), AtomicUsize::new(1));
        Admission { passes, thinned, buffers: Default::default(), seen: Mutex::default() }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").field("passes", &self.passes).field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl Admission {
    /// Whether objects are passed now.
    #[inline]
    fn passes(&self) -> bool {
        self.passes.load(Ordering::Relaxed)
    }

    /// How many times fewer objects come to the young queue than would without passing.
    fn thinned(&self) -> usize {
        self.thinned.load(Ordering::Relaxed)
    }

    /// Some more young objects had their turn; so many objects have been passed so far.
    fn learn(&self, young: Young, passed: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.young.made += young.made;
        seen.young.fetched += young.fetched;
        seen.young.used_again += young.used_again;
        if seen.young.made + seen.young.fetched < WINDOW {
            return;
        }
        let before = std::mem::replace(&mut *seen, Seen { young: Young::default(), passed });
        let Young { made, fetched, used_again } = before.young;
        let missed = fetched + passed.wrapping_sub(before.passed) as usize;
        let passed_before = self.passes();
        let least = if passed_before { ENDS } else { BEGINS };
        let passes = made < missed && used_again * least < fetched;
        // Reads in scopes, and awaited ones, come to the young queue as ever.
        let thinned = match (passes, passed_before) {
            (true, true) => (missed / fetched.max(1)).clamp(1, SAMPLE),
            (true, false) => SAMPLE,
            (false, _) => 1,
        };
        self.passes.store(passes, Ordering::Relaxed);
        self.thinned.store(thinned, Ordering::Relaxed);
    }

    fn take_buffer(&self) -> Option<Box<Buffer>> {
        self.buffers.iter().find_map(AtomicCell::take)
    }

    /// Keeps a buffer for the next object. Returns one if there were enough.
    fn keep(&self, buffer: Box<Buffer>) -> Option<Box<Buffer>> {
        // Each place takes what the one before it had.
        self.buffers.iter().try_fold(buffer, |buffer, place| place.swap(Some(buffer)))
    }
}

/// Whether a miss is one of those that are swapped in to see what becomes of them. Another one of the objects each time the ghost clock moves on.
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
        self.admission.thinned()
    }

    /// Says what has become of young objects.
    pub fn learn(&self, young: Young) {
        if self.may_pass() {
            self.admission.learn(young, self.counters.passed.load(Ordering::Relaxed));
        }
    }

    /// Begins to pass objects if they may be passed at all, before anything is known of how they are used.
    pub fn pass_first_reads(&self) {
        self.admission.passes.store(self.may_pass(), Ordering::Relaxed);
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
        let seen = slot.load();
        let State::Absent(FarPlace::At(addr)) = seen.state() else { return Ok(None) };
        let now = self.ghost_now();
        if !self.admission.passes()
            || current_hint() == AccessHint::NonTemporal
            || is_ghost(now, seen.stamp())
            || is_sample(now, self.slots.id_of(slot))
            || self.heap.is_roomy()
        {
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
            let let_go = slot.pass_by(claimed, now);
            debug_assert!(let_go.is_ok(), "a claimed word is changed by its claimer only");
            self.count_miss(layout);
            self.counters.passed.fetch_add(1, Ordering::Relaxed);
        } else {
            super::miss::give_back(slot, claimed);
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

    fn young(fetched: usize, used_again: usize) -> Young {
        Young { made: 0, fetched, used_again }
    }

    #[test]
    fn passing_begins_where_few_are_used_again_and_ends_where_many_are() {
        let admission = Admission::default();
        let after = |young: Young| {
            admission.learn(young, 0);
            admission.passes()
        };
        assert!(!after(young(WINDOW - 1, 0)), "not enough has been seen");
        assert!(after(young(1, 0)), "none was used again");
        assert!(after(young(WINDOW, WINDOW * 3 / 10)), "between the two marks it goes on");
        assert!(!after(young(WINDOW, WINDOW * 2 / 5)));
        assert!(!after(young(WINDOW, WINDOW * 3 / 10)), "between the two marks it does not begin");
        assert!(after(young(WINDOW, WINDOW / 10)));
    }

    #[test]
    fn the_young_queue_is_as_much_shorter_as_less_comes_to_it() {
        let admission = Admission::default();
        let mut passed = 0;
        let mut after = |used_again: usize, more: usize| {
            passed += more as u64;
            admission.learn(young(WINDOW, used_again), passed);
            admission.thinned()
        };
        assert_eq!(after(WINDOW, 0), 1);
        assert_eq!(after(0, 0), SAMPLE, "from now on a sample comes");
        assert_eq!(after(0, 15 * WINDOW), SAMPLE);
        assert_eq!(after(0, 40 * WINDOW), SAMPLE, "no shorter than for a sample");
        assert_eq!(after(0, 3 * WINDOW), 4, "three in four are passed");
        assert_eq!(after(0, 0), 1, "all that misses comes, for references");
        assert_eq!(after(WINDOW, 5 * WINDOW), 1, "from now on all comes");
    }

    #[test]
    fn nothing_is_passed_while_most_objects_are_new() {
        let admission = Admission::default();
        let mut passed = 0;
        let mut after = |made: usize, fetched: usize, more: usize| {
            passed += more as u64;
            admission.learn(Young { made, fetched, used_again: 0 }, passed);
            admission.passes()
        };
        assert!(!after(WINDOW, 0, 0));
        assert!(!after(WINDOW, WINDOW / 2, 0));
        assert!(after(WINDOW, 2 * WINDOW, 0));
        assert!(after(WINDOW, WINDOW / 8, WINDOW), "with those that were passed, more are read than made");
        assert!(!after(WINDOW, WINDOW / 8, WINDOW / 2));
    }
}
