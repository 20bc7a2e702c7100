//! Pins: holding one object where it is, without a scope.
#![forbid(unsafe_code)]

use super::Memory;
use crate::error::Result;
use crate::scope::{AccessHint, current_hint};
use crate::sync::{Mutex, MutexGuard};
use crate::word::{PinOutcome, Slot, UnpinOutcome};
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
        self.try_pin_as(slot, AccessHint::Normal)
    }

    /// Pins the object if it is present. Counts as a use unless `hint` is non-temporal.
    fn try_pin_as(&self, slot: &Slot, hint: AccessHint) -> bool {
        let mut word = slot.load();
        while word.is_present() {
            let outcome = match hint {
                AccessHint::Normal => slot.pin(word),
                AccessHint::NonTemporal => slot.pin_cold(word),
            };
            match outcome {
                PinOutcome::Pinned(_) => return true,
                PinOutcome::Changed(now) => word = now,
                PinOutcome::Full => {
                    let mut overflow = self.lock();
                    // Under the lock the count can't leave "full": `unpin` takes the lock for that.
                    if slot.load().pins() == u8::MAX {
                        *overflow.entry(std::ptr::from_ref(slot) as usize).or_default() += 1;
                        return true;
                    }
                    drop(overflow);
                    word = slot.load();
                }
            }
        }
        false
    }

    /// The object is gone, with pins that were forgotten: they must not count for the slot's next object.
    #[cold]
    pub(crate) fn forget(&self, slot: &Slot) {
        self.lock().remove(&(std::ptr::from_ref(slot) as usize));
    }

    /// Takes one pin away.
    pub(crate) fn unpin(&self, slot: &Slot) {
        if slot.unpin() == UnpinOutcome::Full {
            self.unpin_full(slot);
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
        loop {
            if self.try_pin_present(slot) {
                return Ok(());
            }
            self.prepare(slot, layout, current_hint())?;
        }
    }

    /// Pins the object if it is present. Counts as a use unless this thread's hint is non-temporal.
    pub fn try_pin_present(&self, slot: &Slot) -> bool {
        #[cfg(farptr_zeal)]
        self.legal_point();
        self.pins.try_pin_as(slot, current_hint())
    }

    /// Takes one pin away.
    pub fn unpin(&self, slot: &Slot) {
        self.pins.unpin(slot);
        #[cfg(farptr_zeal)]
        self.legal_point();
    }
}

#[cfg(all(test, not(farptr_loom)))]
mod tests {
    use super::*;
    use crate::addr::ObjectAddr;
    use crate::word::{Freshness, Warmth, Word};

    #[test]
    fn non_temporal_pin_holds_and_does_not_count_as_a_use() {
        let pins = Overflow::default();
        let slot = Slot::new(Word::present(ObjectAddr::new(0x1000), Freshness::Clean, Warmth::Cold));
        let marked = slot.mark_evacuating(slot.load()).unwrap();
        assert!(pins.try_pin_as(&slot, AccessHint::NonTemporal));
        assert!(!slot.load().is_hot() && !slot.load().is_evacuating() && slot.load() != marked);
        (1..1000).for_each(|_| assert!(pins.try_pin_as(&slot, AccessHint::NonTemporal)));
        assert_eq!((slot.load().pins(), slot.load().is_hot()), (u8::MAX, false));
        (0..1000).for_each(|_| pins.unpin(&slot));
        assert_eq!(slot.load().pins(), 0);
        assert!(pins.try_pin_as(&slot, AccessHint::Normal));
        assert!(slot.load().is_hot());
    }
}
