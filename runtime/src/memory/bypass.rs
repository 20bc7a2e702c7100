//! Reading past the local heap: what a long scan does when local memory is full.
//!
//! An object that is read once needs no place in the log. While memory is free it gets one nevertheless, since another scan may come. When memory
//! is full, each place has to be taken from somebody, and by the time a long scan comes to an object again that place has gone to a later
//! one: nothing is ever hit, and evacuation works for nothing. So most of what such a scan misses is fetched into one buffer, looked at there, and forgotten:
//! what is local stays, and is hit by the next scan; and the buffer, unlike the next place of a log, is in the processor's cache.
//!
//! One miss of [`ADMITTED`] is swapped in like any other object, so that what is scanned again and again replaces what nobody uses any more. This is bimodal
//! insertion (Qureshi et al., "Adaptive insertion policies for high performance caching", ISCA 2007), with its share of 1/32.
//!
//! By the protocol of [`crate::word`] it is a fetch that is abandoned: the object is claimed, so that its far copy stays where it is, and given back
//! when its bytes have arrived. Nobody writes it meanwhile or later, because the caller has borrowed it, and types with interior mutability are not
//! [`Far`](../../farptr/trait.Far.html).
#![forbid(unsafe_code)]

use super::Memory;
use crate::ablations::Scans;
use crate::budget::Party;
use crate::error::Result;
use crate::forked;
use crate::heap::HEADER_BYTES;
use crate::scope::{AccessHint, in_scope};
use crate::word::{FarPlace, Slot, State};
use std::alloc::Layout;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// One miss in so many is swapped in.
const ADMITTED: u32 = 32;

/// Objects at the start of a scan that are used as any others are. A scan that ends there was none, but a look at a few neighbours, which may be looked at again soon.
pub const SHORT_SCAN: usize = 4;

/// Bytes of a buffer in which there is an aligned place for an object of `layout`, wherever the buffer lies.
pub(super) fn buffer_bytes(layout: Layout) -> usize {
    HEADER_BYTES + layout.size() + layout.align()
}

/// Where in a buffer of at least [`buffer_bytes`] the contents of an object of `layout` come to lie, aligned and behind room for a header.
pub(super) fn contents_in(buffer: &[u8], layout: Layout) -> Range<usize> {
    let start = buffer.as_ptr() as usize;
    let first = (start + HEADER_BYTES).next_multiple_of(layout.align()) - start;
    first..first + layout.size()
}

/// How a scan gets at an object.
#[derive(Debug)]
pub enum Route<'b> {
    /// Here are its contents, aligned as they should be, until the next object is asked for.
    Past(&'b [u8]),
    /// As everybody does, with this hint.
    ThroughHeap(AccessHint),
}

/// One scan's way past the local heap. Its buffer is charged to the budget as long as it lives.
#[derive(Debug)]
pub struct Bypass<'m> {
    memory: &'m Memory,
    missed: u32,
    /// As large as the largest object so far, and room to align it.
    buffer: Vec<u8>,
}

impl<'m> Bypass<'m> {
    /// For a scan that begins. Costs nothing until it is used.
    pub fn new(memory: &'m Memory) -> Self {
        Bypass { memory, missed: 0, buffer: Vec::new() }
    }

    /// Reads an object past the heap, if that is the way. Nobody writes it while the caller looks at its contents.
    ///
    /// # Errors
    /// Those of a fetch. The object is where it was.
    pub fn read(&mut self, slot: &Slot, layout: Layout) -> Result<Route<'_>> {
        forked::check()?;
        let memory = self.memory;
        let seen = slot.load();
        let State::Absent(FarPlace::At(addr)) = seen.state() else { return Ok(Route::ThroughHeap(AccessHint::NonTemporal)) };
        self.missed = self.missed.saturating_add(1);
        if memory.heap.is_roomy() || memory.ablations().scans == Scans::SwappedIn {
            return Ok(Route::ThroughHeap(AccessHint::NonTemporal));
        }
        // In a scope there is no waiting for a place.
        if self.missed.is_multiple_of(ADMITTED) && !in_scope() {
            return Ok(Route::ThroughHeap(AccessHint::Normal));
        }
        if !self.make_room(layout) {
            return Ok(Route::ThroughHeap(AccessHint::NonTemporal));
        }
        #[cfg(farptr_zeal)]
        memory.legal_point();
        let contents = contents_in(&self.buffer, layout);
        let image = &mut self.buffer[contents.start - HEADER_BYTES..contents.end];
        let Ok(claimed) = slot.claim_fetch(seen) else {
            // Somebody else is bringing it in.
            return Ok(Route::ThroughHeap(AccessHint::NonTemporal));
        };
        let fetched = memory.fetch_image(addr, memory.slots.id_of(slot), image);
        memory.give_back(slot, claimed);
        fetched?;
        memory.count_miss(layout);
        memory.counters.bypassed.fetch_add(1, Ordering::Relaxed);
        Ok(Route::Past(&image[HEADER_BYTES..]))
    }

    /// Makes the buffer large enough for an object of `layout`, if the budget allows.
    fn make_room(&mut self, layout: Layout) -> bool {
        let bytes = buffer_bytes(layout);
        if bytes > self.buffer.len() {
            self.give_up();
            if !self.memory.try_charge(Party::Mutator, bytes) {
                return false;
            }
            self.buffer = vec![0; bytes];
        }
        true
    }

    fn give_up(&mut self) {
        self.memory.budget.release(self.buffer.len());
        self.buffer = Vec::new();
    }
}

impl Drop for Bypass<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}
