//! Promises of far space: new objects are refused before far memory is too full for those that exist.
//!
//! Every object may have to leave, so each is charged from its birth to its death for what it takes in far memory ([`charge`]). The sum is what
//! far memory has promised. Overwriting does not change it. The limit is what borrowed far memory can hold
//! ([`FarSpace::usable_bytes`](crate::far::FarSpace::usable_bytes)), and a quarter of local memory on top.
//!
//! # Why a quarter of local memory
//! Objects that far memory has no room for are dirty and stay here. So no more than a quarter of local memory can be full of objects that can't leave; the rest serves
//! reads, by clean copies that come and go, and writes: of those objects that are dirty beyond the quarter some can leave at any time, because by the count above
//! far memory has room for them, or has after cleaning. A larger part would take from these; a smaller one would not cover the cases in which images pack
//! worse than their charges say.
//!
//! # Slabs are borrowed ahead
//! What a server lends is known when it has refused. If write-back found that out, local memory would be full of dirty objects already. So whoever makes
//! an object that passes the limit asks for the next slab. The first slab is different: data that fit local memory need none, so it is asked for
//! when three quarters of local memory are promised. If nobody knows whether there is more (another thread is asking, or a server can't be reached) the
//! object is made. Then more may be promised than there is, until objects are dropped. Writes that would make a further object dirty are refused when that is a quarter of
//! local memory more than the limit, and never if all was promised within it: what is kept for scopes may have been less then.
#![forbid(unsafe_code)]

use super::{Memory, Origin};
use crate::budget::Party;
use crate::error::Result;
use crate::far::{charge, charge_large};
use std::alloc::Layout;

/// The part of local memory that may be promised on top of far memory.
const LOCAL_PART: usize = 4;

/// Quarters of local memory that may be promised before the first slab is borrowed.
const PARTS_BEFORE_FIRST: u64 = 3;

impl Memory {
    /// What an object of `layout` is charged.
    #[inline]
    pub fn charge(&self, layout: Layout) -> u64 {
        if self.is_large(layout) { charge_large(layout.size()) } else { charge(layout.size()) }
    }

    /// Promises room for an object of `layout`, if it is a new one. What is returned must be given back in the end.
    ///
    /// # Errors
    /// `FarMemoryFull` if there is none.
    #[inline]
    pub(super) fn promise(&self, origin: Origin, layout: Layout) -> Result<u64> {
        if !matches!(origin, Origin::New) {
            return Ok(0);
        }
        let bytes = self.charge(layout);
        let promised = self.far.promise(bytes);
        if promised <= self.far.usable_bytes() {
            return Ok(bytes);
        }
        self.extend_promises(promised).inspect_err(|_| self.far.end_promise(bytes))?;
        Ok(bytes)
    }

    #[cold]
    fn extend_promises(&self, promised: u64) -> Result<()> {
        loop {
            let parts = if self.far.borrowed_bytes() == 0 { PARTS_BEFORE_FIRST } else { 1 };
            if promised <= self.far.usable_bytes() + parts * self.local_part() || !self.far.borrow_ahead()? {
                return Ok(());
            }
        }
    }

    /// A quarter of what metadata and what is kept for evacuation and for scopes leave of the budget.
    fn local_part(&self) -> u64 {
        self.local_part_above(self.heap.floor(Party::Creator))
    }

    fn local_part_above(&self, floor: usize) -> u64 {
        let others = self.metadata_bytes() + floor * self.heap.segment_bytes();
        (self.budget.limit().saturating_sub(others) / LOCAL_PART) as u64
    }

    /// Whether an object more may become dirty.
    ///
    /// # Errors
    /// `FarMemoryFull` if it could not leave, by far.
    #[inline]
    pub(super) fn may_dirty(&self) -> Result<()> {
        if self.far.promised_bytes() <= self.far.usable_bytes() { Ok(()) } else { self.may_dirty_beyond_usable() }
    }

    #[cold]
    fn may_dirty_beyond_usable(&self) -> Result<()> {
        let far = &self.far;
        // What was promised when fewer threads were there holds now that more is kept for scopes.
        let most_promised = self.local_part_above(self.heap.lowest_floor(Party::Creator));
        if far.promised_bytes() > far.usable_bytes() + most_promised.max(2 * self.local_part()) && far.is_full() {
            return Err(far.full_error());
        }
        Ok(())
    }
}
