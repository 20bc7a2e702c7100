//! Rows: the slots of entries, and a note for each.
//!
//! ```text
//! row        0    1    2   ...   7     8     9   ...
//! entries    16   64   64  ...   64   512   512  ...
//! number     0    16   80  ...  400   464   976  ...
//! number+48  48   64   128 ...  448   512  1024  ...
//! ```
//! With 48 added, rows begin at multiples of their length, the first one apart.

use super::charged::{charged_vec, release_vec};
use farptr_runtime::Result;
use farptr_runtime::addr::SlotId;
use farptr_runtime::memory::Memory;
use farptr_runtime::slot::UnitClass;
use farptr_runtime::word::Slot;
use std::ptr::NonNull;
use std::sync::Arc;

const FIRST: usize = UnitClass::Row16.slots();
const SHORT: usize = UnitClass::Row64.slots();
const LONG: usize = UnitClass::Row512.slots();
const SHIFT: usize = SHORT - FIRST;
/// Rows shorter than a block of slots.
const SHORT_ROWS: usize = LONG / SHORT;

/// Most entries of one map: numbers are 32 bits, and one of them names none.
pub(super) const MAX_ENTRIES: usize = u32::MAX as usize;

/// The number of an entry, for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryNumber(u32);

impl EntryNumber {
    /// No entry.
    pub(super) const NONE: EntryNumber = EntryNumber(u32::MAX);

    /// The number `index`, which is below [`MAX_ENTRIES`].
    #[inline]
    pub(super) fn new(index: usize) -> Self {
        debug_assert!(index < MAX_ENTRIES);
        EntryNumber(index as u32)
    }

    #[inline]
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    pub(super) const fn from_bits(bits: u32) -> Self {
        EntryNumber(bits)
    }

    pub(super) const fn to_bits(self) -> u32 {
        self.0
    }

    /// Which row the entry is in, and where in the row.
    #[inline]
    pub(super) const fn place(self) -> (usize, usize) {
        let shifted = self.index() + SHIFT;
        // Written so that it compiles to moves on condition: in a map of a thousand entries a jump would be mispredicted half the time.
        let (len, rows_less) = if shifted >= LONG { (LONG, SHORT_ROWS - 1) } else { (SHORT, 0) };
        let before = if shifted < SHORT { SHIFT } else { 0 };
        ((shifted >> len.trailing_zeros()) + rows_less, (shifted & (len - 1)) - before)
    }
}

/// The index of the first entry of row `row`: how many entries the rows before it hold.
pub(super) const fn first_of(row: usize) -> usize {
    match row {
        0 => 0,
        _ if row <= SHORT_ROWS => row * SHORT - SHIFT,
        _ => (row - SHORT_ROWS + 1) * LONG - SHIFT,
    }
}

/// How many rows hold `entries` entries.
pub(super) fn rows_for(entries: usize) -> usize {
    entries.checked_sub(1).map_or(0, |last| EntryNumber::new(last).place().0 + 1)
}

const fn class_of(row: usize) -> UnitClass {
    match row {
        0 => UnitClass::Row16,
        _ if row < SHORT_ROWS => UnitClass::Row64,
        _ => UnitClass::Row512,
    }
}

/// The slots of some entries, and a note for each. Must be given back by [`Row::free`].
#[derive(Debug)]
pub(super) struct Row {
    slots: NonNull<[Slot]>,
    /// Of an entry in use its hash, of a free one the number of the next free one.
    notes: Box<[u32]>,
}

// SAFETY: the slots are the row's alone until it is freed, and they are atomics of a table that any thread may use.
unsafe impl Send for Row {}
// SAFETY: as above; notes change through `&mut` only.
unsafe impl Sync for Row {}

impl Row {
    /// The row that comes as number `row` in a map.
    pub(super) fn new(memory: &Arc<Memory>, row: usize) -> Result<Self> {
        let class = class_of(row);
        let mut notes = charged_vec(memory, class.slots())?;
        notes.resize(class.slots(), 0);
        match memory.alloc_slots(class) {
            Ok(id) => Ok(Row { slots: NonNull::from(memory.slot_row(id, class)), notes: notes.into_boxed_slice() }),
            Err(error) => {
                release_vec(memory, notes, class.slots());
                Err(error)
            }
        }
    }

    /// The slots.
    #[inline]
    pub(super) fn slots(&self) -> &[Slot] {
        // SAFETY: they stay mapped as long as the memory lives, which they hold a count of until `free`, and that takes `self`.
        unsafe { self.slots.as_ref() }
    }

    #[inline]
    pub(super) fn note(&self, offset: usize) -> u32 {
        self.notes[offset]
    }

    pub(super) fn set_note(&mut self, offset: usize, note: u32) {
        self.notes[offset] = note;
    }

    /// Gives the row back.
    ///
    /// # Safety
    /// The row is number `row` of `memory`; none of its slots has an object.
    pub(super) unsafe fn free(self, memory: &Arc<Memory>, row: usize) {
        let class = class_of(row);
        let id: SlotId = memory.slot_table().id_of(&self.slots()[0]);
        // SAFETY: by contract vacant or never used, and `new` took it with this class; `self` is consumed.
        unsafe { memory.free_slots(id, class) };
        release_vec(memory, self.notes.into_vec(), class.slots());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fill_row_after_row() {
        let mut expected = Vec::new();
        for row in 0..20 {
            assert_eq!(first_of(row), expected.len(), "row {row}");
            expected.extend((0..class_of(row).slots()).map(|offset| (row, offset)));
        }
        for (index, place) in expected.iter().enumerate() {
            assert_eq!(EntryNumber::new(index).place(), *place, "entry {index}");
            assert_eq!(rows_for(index + 1), place.0 + 1);
        }
        assert_eq!(rows_for(0), 0);
        let last = EntryNumber::new(MAX_ENTRIES - 1);
        assert!(last != EntryNumber::NONE && first_of(last.place().0) + last.place().1 == last.index());
    }
}
