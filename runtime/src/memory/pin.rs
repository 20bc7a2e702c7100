//! Pins: holding one object where it is, without a scope. Where an object lies when it is pinned: `elsewhere.rs`.
#![forbid(unsafe_code)]

use super::Memory;
use super::elsewhere::Elsewhere;
use crate::error::Result;
use crate::forked;
use crate::scope::{AccessHint, current_hint, in_scope};
use crate::sync::{Mutex, MutexGuard};
use crate::word::{PinOutcome, Slot, UnpinOutcome, Word};
use std::alloc::Layout;
use std::collections::HashMap;
use std::sync::PoisonError;

/// Pins beyond the 255 that a word counts, by the slot's address. A word whose count is full stays full until its entry here is gone.
#[derive(Debug, Default)]
pub(crate) struct Overflow(Mutex<HashMap<usize, usize>>);

impl Overflow {
    fn lock(&self) -> MutexGuard<'_, HashMap<usize, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no word's count has overflown.
    #[cfg(all(test, farptr_loom))]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Pins the object if it is present.
    #[cfg(all(test, farptr_loom))]
    pub(crate) fn try_pin(&self, slot: &Slot) -> bool {
        self.try_pin_as(slot, AccessHint::Normal).is_some()
    }

    /// Pins the object if it is present; the word with the pin. Counts as a use unless `hint` is non-temporal.
    fn try_pin_as(&self, slot: &Slot, hint: AccessHint) -> Option<Word> {
        let mut word = slot.load();
        while word.is_present() {
            let outcome = match hint {
                AccessHint::Normal => slot.pin(word),
                AccessHint::NonTemporal => slot.pin_cold(word),
            };
            match outcome {
                PinOutcome::Pinned(now) => return Some(now),
                PinOutcome::Changed(now) => word = now,
                PinOutcome::Full => {
                    let mut overflow = self.lock();
                    // Under the lock the count can't leave "full": `unpin` takes the lock for that.
                    if slot.load().pins() == u8::MAX {
                        *overflow.entry(std::ptr::from_ref(slot) as usize).or_default() += 1;
                        return Some(word);
                    }
                    drop(overflow);
                    word = slot.load();
                }
            }
        }
        None
    }

    /// The object is gone, with pins that were forgotten: they must not count for the slot's next object.
    #[cold]
    pub(crate) fn forget(&self, slot: &Slot) {
        self.lock().remove(&(std::ptr::from_ref(slot) as usize));
    }

    /// Takes one pin away. The word now, if the word counted that pin.
    pub(crate) fn unpin(&self, slot: &Slot) -> Option<Word> {
        match slot.unpin() {
            UnpinOutcome::Unpinned(now) => Some(now),
            UnpinOutcome::Full => {
                self.unpin_full(slot);
                None
            }
        }
    }

    #[cold]
    fn unpin_full(&self, slot: &Slot) {
        let key = std::ptr::from_ref(slot) as usize;
        let mut overflow = self.lock();
        match overflow.get_mut(&key) {
            Some(1) => drop(overflow.remove(&key)),
            Some(count) => *count -= 1,
            None => slot.unpin_full(),
        }
    }
}

impl Memory {
    /// Brings the object in and pins it: it stays where it is, present, until [`Memory::unpin`]. Needs no scope.
    ///
    /// # Errors
    /// What a swap-in can meet.
    pub fn pin(&self, slot: &Slot, layout: Layout) -> Result<()> {
        forked::check()?;
        loop {
            #[cfg(farptr_zeal)]
            self.legal_point();
            let mut moved = self.pin_elsewhere(slot);
            if moved == Elsewhere::NoRoom && !in_scope() {
                self.wait_for_pin_room();
                moved = self.pin_elsewhere(slot);
            }
            if moved == Elsewhere::Pinned || self.try_pin_here(slot) {
                return Ok(());
            }
            self.prepare(slot, layout, current_hint())?;
        }
    }

    /// Pins the object if it is present. Counts as a use unless this thread's hint is non-temporal. Waits for nothing.
    ///
    /// The object may have another address afterwards.
    pub fn try_pin_present(&self, slot: &Slot) -> bool {
        #[cfg(farptr_zeal)]
        self.legal_point();
        self.pin_elsewhere(slot) == Elsewhere::Pinned || self.try_pin_here(slot)
    }

    fn try_pin_here(&self, slot: &Slot) -> bool {
        let pinned = self.pins.try_pin_as(slot, current_hint());
        if let Some(word) = pinned
            && word.pins() == 1
        {
            self.heap.pinned(word.addr());
        }
        pinned.is_some()
    }

    /// Takes one pin away. In the child of a fork it stays: nothing moves there.
    pub fn unpin(&self, slot: &Slot) {
        if forked::is_child() {
            return;
        }
        if let Some(word) = self.pins.unpin(slot)
            && word.pins() == 0
        {
            self.heap.unpinned(word.addr());
        }
        #[cfg(farptr_zeal)]
        self.legal_point();
    }
}

#[cfg(all(test, not(farptr_loom)))]
mod tests {
    use super::*;
    use crate::addr::ObjectAddr;
    use crate::word::{Freshness, Warmth};

    #[test]
    fn non_temporal_pin_holds_and_does_not_count_as_a_use() {
        let pins = Overflow::default();
        let slot = Slot::new(Word::present(ObjectAddr::new(0x1000), Freshness::Clean, Warmth::Cold));
        let marked = slot.mark_evacuating(slot.load()).unwrap();
        assert!(pins.try_pin_as(&slot, AccessHint::NonTemporal).is_some());
        assert!(!slot.load().is_hot() && !slot.load().is_evacuating() && slot.load() != marked);
        (1..1000).for_each(|_| assert!(pins.try_pin_as(&slot, AccessHint::NonTemporal).is_some()));
        assert_eq!((slot.load().pins(), slot.load().is_hot()), (u8::MAX, false));
        for _ in 0..1000 {
            let _ = pins.unpin(&slot);
        }
        assert_eq!(slot.load().pins(), 0);
        assert!(pins.try_pin_as(&slot, AccessHint::Normal).is_some());
        assert!(slot.load().is_hot());
    }
}
