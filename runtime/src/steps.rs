//! Steps: what a mutator, the evacuator or the cleaner does next with one object, decided from its word.
//!
//! [`crate::word`] says which transitions there are and why; this says which one is due. Nothing here allocates, copies, does I/O or knows
//! of heaps: [`crate::memory`] and the evacuator do that around these steps, and the loom models do the same around the same steps.
#![forbid(unsafe_code)]

use crate::addr::{FarAddr, ObjectAddr};
use crate::scope::AccessHint;
use crate::word::{FarPlace, Outcome, Slot, State, Word};

/// What a reader or writer does next with a present object. Its scope is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Access {
    /// The object may be used at the address in the word, as was intended.
    Granted,
    /// As `Granted`. The far copy named in the header was valid until now, and the caller must free it.
    GrantedAndDirtied,
    /// The word has changed: look again.
    Again,
    /// The evacuator may be reading the bytes: the writer must move the object itself ([`move_away`]).
    Move,
    /// The evacuator is reading a large object's bytes and will soon see that a writer waits: look again in a moment.
    Wait,
}

/// One step of a read.
#[inline]
pub fn read(slot: &Slot, word: Word, hint: AccessHint) -> Access {
    if word.is_fast_read() {
        return Access::Granted;
    }
    let outcome = match hint {
        AccessHint::Normal => slot.rescue(word),
        AccessHint::NonTemporal if word.is_evacuating() => slot.rescue_cold(word),
        AccessHint::NonTemporal => return Access::Granted,
    };
    if outcome.is_ok() { Access::Granted } else { Access::Again }
}

/// One step of a write to a small object.
#[inline]
pub fn write(slot: &Slot, word: Word) -> Access {
    if word.is_fast_write() {
        return Access::Granted;
    }
    if word.is_evacuating() {
        // Not moved before it is rescued: until then its segment may be freed at any moment.
        let _ = slot.rescue(word);
        return Access::Again;
    }
    if word.is_relocating() {
        return Access::Move;
    }
    begin_write(slot, word)
}

/// One step of a write to a large object.
#[inline]
pub fn write_large(slot: &Slot, word: Word) -> Access {
    if word.is_fast_write() {
        return Access::Granted;
    }
    if word.is_evacuating() || word.is_relocating() {
        let _ = slot.rescue_large(word);
        return Access::Again;
    }
    if word.is_copying() {
        return Access::Wait;
    }
    begin_write(slot, word)
}

fn begin_write(slot: &Slot, word: Word) -> Access {
    match slot.begin_write(word) {
        Ok(_) if word.is_clean() => Access::GrantedAndDirtied,
        Ok(_) => Access::Granted,
        Err(_) => Access::Again,
    }
}

/// The uses so far count for nothing. Whether the word says so now.
///
/// An object that is about to leave is left alone: the evacuator finishes from the exact word that it marked, and would not find its mark again.
/// Anything else that changes the word meanwhile is a use, which makes the hint void.
#[inline]
pub fn cool(slot: &Slot, word: Word) -> bool {
    word.is_present() && !word.is_evacuating() && slot.cool(word).is_ok()
}

/// A writer that was told [`Access::Move`] has copied the object to `to`. On success the far copy that has to be freed, if the old header
/// (`far_in_header` reads it) names a valid one; on failure the word has changed and the copy is worth nothing.
///
/// # Errors
/// The word as it is now.
#[inline]
pub fn move_away<F>(slot: &Slot, word: Word, to: ObjectAddr, far_in_header: impl FnOnce() -> F) -> Result<Option<F>, Word> {
    // Read before: nobody but the writer keeps the old place, so afterwards its segment may be freed at once.
    let far = word.is_clean().then(far_in_header);
    slot.self_relocate(word, to)?;
    Ok(far)
}

/// A pin moves an object that is at rest and not pinned, of which it has made a copy at `to`, and pins it there. `note` flags the segment of the old
/// place as moved out of. Counts as a use unless `hint` is non-temporal. On failure the word has changed and the copy is worth nothing.
///
/// # Errors
/// The word as it is now.
#[inline]
pub fn pin_moved(slot: &Slot, word: Word, to: ObjectAddr, hint: AccessHint, note: impl FnOnce()) -> Outcome {
    // Before: once the word has changed, a sweep may find nothing in the segment, and must know.
    note();
    match hint {
        AccessHint::Normal => slot.pin_at(word, to),
        AccessHint::NonTemporal => slot.pin_cold_at(word, to),
    }
}

/// The owner gives up a present object, which is not marked or rescued, in a scope. Results as for [`move_away`].
///
/// # Errors
/// The word as it is now.
#[inline]
pub fn give_up<F>(slot: &Slot, word: Word, far_in_header: impl FnOnce() -> F) -> Result<Option<F>, Word> {
    // Read before, as in `move_away`.
    let far = word.is_clean().then(far_in_header);
    slot.vacate_from(word)?;
    Ok(far)
}

/// What the evacuator found at an object's place while choosing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Mark {
    /// It is marked now; the word to finish from.
    Marked(Word),
    /// It is here, and can't be marked.
    Stays,
    /// It is not here any more.
    Gone,
}

/// Evacuator: marks the object at `addr` for moving if it is hot and to be spared, else for leaving.
#[inline]
pub fn mark(slot: &Slot, addr: ObjectAddr, spare_hot: bool) -> Mark {
    mark_as(slot, addr, |word| spare_hot && word.is_hot())
}

/// Evacuator: marks the object at `addr` for moving if `spares` says so, else for leaving.
#[inline]
pub fn mark_as(slot: &Slot, addr: ObjectAddr, mut spares: impl FnMut(Word) -> bool) -> Mark {
    let mut word = slot.load();
    while word.is_present_at(addr) {
        // Pinned, or `R` left behind by a rescue of a round that was cut short: stays.
        if word.pins() > 0 || word.is_evacuating() || word.is_relocating() {
            return Mark::Stays;
        }
        match if spares(word) { slot.mark_relocating(word) } else { slot.mark_evacuating(word) } {
            Ok(word) => return Mark::Marked(word),
            Err(now) => word = now,
        }
    }
    Mark::Gone
}

/// What the evacuator does with a marked object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Plan {
    /// Somebody came first ([`lost`]).
    Lost,
    /// Copy it within the local heap.
    Relocate,
    /// Its far copy is valid: let it go.
    LetGo,
    /// Write it back, then let it go.
    WriteBack,
}

/// Evacuator: looks at a marked object again. Must come after the grace period: see [`crate::word`], "One round", step 3.
#[inline]
pub fn plan(slot: &Slot, marked: Word) -> Plan {
    if slot.load() != marked {
        Plan::Lost
    } else if marked.is_relocating() {
        Plan::Relocate
    } else if marked.is_clean() {
        Plan::LetGo
    } else {
        Plan::WriteBack
    }
}

/// Evacuator: somebody came first, and it does not read the bytes any more. Whether the object is still at `addr`.
#[inline]
pub fn lost(slot: &Slot, addr: ObjectAddr) -> bool {
    slot.end_reading().is_present_at(addr)
}

/// Evacuator: the object can't be brought away. Whether it is still at `addr`.
#[inline]
pub fn keep(slot: &Slot, marked: Word, addr: ObjectAddr) -> bool {
    slot.unmark(marked).is_ok() || lost(slot, addr)
}

/// What becomes of a victim segment at the end of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Fate {
    /// Objects are left in it. If `referred`, it must not be freed before the next grace period, even if they are dead by then.
    PutBack {
        /// Somebody may hold a reference to a place that an object was relocated from.
        referred: bool,
    },
    /// Nothing is left, but somebody may hold a reference into it: free after the next grace period.
    Limbo,
    /// Nothing is left and nobody holds a reference.
    Free,
}

/// Evacuator: whether somebody may hold a reference to a place in the victim that an object has left without a mark of this round. `put_back`: an earlier
/// round relocated an object out of it, and no grace period has ended since. `moved_out_of`: a pin has, some time ([`pin_moved`]); looked up after
/// the objects were marked. `graceful`: a grace period has ended since they were marked.
#[inline]
pub fn is_referred(put_back: bool, moved_out_of: bool, graceful: bool) -> bool {
    (put_back || moved_out_of) && !graceful
}

/// Evacuator: the fate of a segment in which `left` objects are left. `relocated`: this round relocated an object out of it. `referred`: see
/// [`is_referred`].
#[inline]
pub fn fate(left: usize, relocated: bool, referred: bool) -> Fate {
    match (left, relocated || referred) {
        (1.., referred) => Fate::PutBack { referred },
        (0, true) => Fate::Limbo,
        (0, false) => Fate::Free,
    }
}

/// What the cleaner found out about a far copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Claim {
    /// An absent object's: must be copied before its segment can be freed.
    Alive,
    /// It was a present object's, which is dirty from now on. The caller frees it.
    Disowned,
    /// Nobody's, or about to be used: not the cleaner's business in this pass.
    None,
}

/// Cleaner: claims the far copy at `from`. `far_in_header` reads the far address in a present object's header (nothing for large ones,
/// whose pieces have slots of their own that are never present).
#[inline]
pub fn claim(slot: &Slot, from: FarAddr, far_in_header: impl Fn(ObjectAddr) -> Option<u64>) -> Claim {
    loop {
        let word = slot.load();
        match word.state() {
            State::Absent(FarPlace::At(at)) if at == from => return Claim::Alive,
            State::Present(addr) if word.is_clean() && !word.is_evacuating() && far_in_header(addr) == Some(from.to_bits()) => {
                if slot.disown_far_copy(word).is_ok() {
                    return Claim::Disowned;
                }
            }
            // Being fetched from here or elsewhere, or about to leave for here: tried again in a later pass.
            State::Present(_) | State::Absent(_) | State::Fetching(_) | State::Vacant => return Claim::None,
        }
    }
}
