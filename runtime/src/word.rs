//! The metadata word: the 8-byte state of one object, and the protocol between mutators and the evacuator.
//!
//! # Layout
//! ```text
//!           63                                  16 15       8 7 6 5 4 3 2 1 0
//! present   [ address of the contents (48 bits)   |   pins   |- f C R K c E 0]
//! absent    [ far address or large id (40)  | ghost stamp 16 |  - - - L - F 1]
//! vacant    [ next free slot (40)           | -              |  - - - - 1 - 1]
//! ```
//! - bit 0: absent. Bit 1: `E` evacuating (present), `F` fetching (absent). Bit 2: `c` cold (present), vacant (absent).
//! - bit 3: `K` clean (present: the far copy named by the object header is valid), `L` large (absent: the field is a large id).
//! - `R` relocating: the evacuator may be reading the bytes, but the object stays in the local heap, here or at another place.
//! - `C` copying: the evacuator is reading a large object's bytes; only large objects use it.
//! - `f` fresh: fetched, and not used since. The use that it was fetched for takes `f` away and leaves the object cold: only a second use makes it
//!   hot, or every object of a scan would seem to be in use. Fresh objects are cold.
//! - pins: how many pins hold the object where it is (255: 255 or more, see `memory::pin`).
//!
//! Hot is stored as *not cold*, dirty as *not clean*, so that the fast path of a read tests three bits for zero
//! ([`Word::is_fast_read`]) and that of a write six, in one instruction each, and then shifts the address down: load, test,
//! branch, shift. It stores nothing.
//!
//! # Roles
//! *Mutators* deref objects, inside a dereference scope. The *evacuator* is one at a time for each heap (whoever holds its
//! lock). The borrow checker adds what the word need not: while `&T` is held no `&mut T` exists, and a pointer can't be
//! dropped under a reference. The *cleaner* moves far copies; it acts as a mutator that holds a scope.
//!
//! # One round of evacuation
//! 1. For each object in the victim segments that is present, not pinned and at its place: a hot one is marked `R`, a cold one `E`,
//!    by CAS from the word as read.
//! 2. One grace period: every scope that was open at its start has ended or been refreshed. After it, a reference to a marked
//!    object can only be held by a thread that met the mark.
//! 3. What is no longer as marked is left alone. This look must come after the grace period: a pin that was taken inside a
//!    scope that the grace period waited for may write without a scope from then on. Then, for each object as marked:
//!    `R`: copy to a fresh place, CAS from the exact marked word to the new address, hot bit taken away (it must be earned again).
//!    `E`, clean: CAS from the exact marked word to absent. `E`, dirty: copy into a write-back buffer; when the far memory
//!    has acknowledged it, the same CAS.
//! 4. A CAS that fails: somebody came first; the copy is discarded, the object stays or has moved, its segment is tried again later.
//! 5. A victim segment with nothing left in it is free: at once if nobody could hold a reference into it, which is so unless an
//!    object was relocated out of it (see below) by this round, or by an earlier one that no grace period has followed; otherwise
//!    after the next round's grace period. One with something left goes back, and remembers whether an object was relocated.
//!
//! # What a mutator does that meets a mark
//! - Read, `E`: CAS to the word with `R` in place of `E`, and hot (**rescue**), and on at once. The evacuator's CAS will fail. `R` stays behind
//!   because the evacuator may be copying the bytes: a later writer must know. The evacuator takes it away when it finds that its CAS failed.
//! - Read, `R`: nothing. The bytes stay valid at the old place: readers may go on reading them after the slot has
//!   been changed to the new place, because the old segment is kept until the grace period after. So a hot object that is read
//!   all the time can still be relocated, and segments do not get stuck under hot objects.
//! - Write, `E`: rescue as a read does; then as `R`. (A marked object must not be copied before it is rescued: its segment could be
//!   freed meanwhile.)
//! - Write, `R`: the evacuator may be reading the bytes now, so they must not be written. The mutator has `&mut`, so nobody else
//!   writes or reads: it copies the object to a fresh place itself and changes the slot by CAS to the new address, present and
//!   dirty ([`Slot::self_relocate`]). Reading the old bytes from two sides is no race. Neither waits for the other, and an object that
//!   is written all the time is relocated by its writer. If there is no room for the copy: an error, as for a miss.
//! - Write, large object (it has a mapping of its own, a copy would cost as much again): the mutator clears `E` and `R`, then waits until
//!   `C` is gone. The evacuator sets `C` for one piece of 64 KiB at a time, by CAS from the marked word, and takes it away when that piece is
//!   copied: the wait is for a memcpy, never for I/O.
//! - Pin: a rescue with one pin more. The evacuator does not mark pinned objects, and its CAS fails if a pin came later.
//! - Pin, unmarked, where too many segments hold pins already ([`crate::memory`], `elsewhere.rs`): the mutator may copy the object to a segment for
//!   pinned objects and pin it there, in one CAS ([`Slot::pin_at`]). See "Moves by a pin".
//! - Drop: contents that have a `Drop` are moved out first (a read); then CAS from an unmarked or rescued word to vacant, inside a scope, so that
//!   the header can be read before.
//!
//! # Moves by a pin
//! A pin that moves an object runs in a scope, and on a word without marks and without pins. These four hold then.
//! - The old bytes stay valid while they are copied: the word said "present, unmarked" in the scope.
//! - Nobody writes them meanwhile. A writer has an exclusive borrow of the owner, and the pinning thread has a borrow, shared or exclusive.
//! - The evacuator does not read them. It reads marked objects only, and a mark on the word makes the CAS fail.
//! - `K` keeps its meaning: the new header names the same far copy. If the cleaner takes `K` away first, the CAS fails; if it comes later, it finds
//!   the new header.
//!
//! Other readers may hold references to the old place, and none of them met a mark. So the old segment must not be freed before a grace period that began
//! after the CAS. A segment is freed in three ways.
//! - By a round whose grace period ended. The round found the object gone when it marked the segment's objects, so the CAS came before the grace
//!   period's start. (Had the object still been there, marked or not, it would count as left: a marked word keeps `E` or `R` until the
//!   evacuator's own last look at it, and a word that carries either is not moved. A segment with an object left is not freed.)
//! - By a round whose grace period was given up, or by a sweep, which has none. Neither may free this segment: it waits in limbo.
//! - Out of limbo, after a grace period that began after the last object had left.
//!
//! Only the second way has to know of the move. So each segment has a flag, *moved out of*, which the mutator sets **before** its CAS; the evacuator
//! looks at the flag after it has found the segment's objects gone. The flag stays set until the segment is freed. Clearing it earlier, for
//! example when a round takes the segment, would be wrong: the CAS may come any time after the flag, that is after the round's grace period has begun.
//! The flag can't be set on a segment that has been freed and is used anew: the mutator's scope is older than any mark on the object, so every
//! grace period that could free the segment waits for this scope.
//!
//! # Misses
//! A thread that meets *absent* claims the fetch by CAS to the same word with `F`, brings the object into local memory
//! and publishes by CAS from the exact claimed word to present. Whoever meets `F` waits for the claimer, helping it where it can. A
//! failed fetch is given back by CAS to the word before. A claimed word is changed by its claimer only: the cleaner leaves it alone.
//!
//! # Far copies
//! The header of a present object is immutable once published, and names the far copy it was fetched from. `K` says whether that
//! copy is still valid. Whoever takes `K` away (first write; cleaner that wants the space) frees the far copy, once, because the
//! CAS that takes it away succeeds once.
//!
//! # Orderings
//! - Publishing an address (`publish`, `finish_relocated`, `self_relocate`, `pin_at`) is a release; every load of the word is an acquire: who sees
//!   the address sees the object's bytes.
//! - `begin_write`, `rescue`, `pin`: acquire-release is more than they need (the borrow checker orders references of one object among
//!   mutators); it keeps the release sequence of the publisher going, since these are read-modify-writes.
//! - Mark and scope: see [`crate::scope`]; the fences are there.
//! - What a mutator wrote through `&mut` is seen by the evacuator's copy because the end of a scope is a release and the grace
//!   period's loads are acquires.
//!
//! # Every state
//! Objects are small or large; a piece of a large object's far copy has a slot, too, and is never present. `P` present, `A` absent, `F` absent and being
//! fetched, `V` vacant. `*`: either, but never `f` without `c`. These words occur and no others; the test `table.rs` computes what can be
//! reached by the transitions below and compares.
//! ```text
//! state                     object   E R C K c f pins   who waits in it  who ends the wait
//! at_rest                   small  P 0 0 0 * * * *      nobody           -
//! leaving                   small  P 1 0 0 * * * 0      nobody           -
//! moving_or_rescued         small  P 0 1 0 * * * *      nobody           -
//! at_rest,clean             large  P 0 0 0 1 * * *      nobody           -
//! at_rest,dirty             large  P 0 0 0 0 * 0 *      nobody           -
//! leaving,clean             large  P 1 0 0 1 * * 0      nobody           -
//! leaving,dirty             large  P 1 0 0 0 * 0 0      nobody           -
//! rescued,clean             large  P 0 1 0 1 * * *      nobody           -
//! rescued,dirty             large  P 0 1 0 0 * 0 *      nobody           -
//! leaving,copied            large  P 1 0 1 0 * 0 0      nobody           -
//! rescued,copied            large  P 0 1 1 0 * 0 *      nobody           -
//! wanted_by_a_writer,copied large  P 0 0 1 0 * 0 *      writer           evacuator
//! absent                    any    A - - - - - - -      nobody           -
//! fetching                  small  F - - - - - - -      everybody        claimer
//! fetching                  large  F - - - - - - -      everybody        claimer
//! vacant                    any    V - - - - - - -      nobody           -
//! ```
//!
//! # Every transition
//! Before the arrow the words that a transition may be tried on, as loaded; anything else is refused by a debug assertion. After it what they become if
//! the word has not changed; if it has, the outcome is `Err` of the word as it is, which stays. The first line that fits counts.
//! `=`: as it was. `E|R`: set if either was. `c&f`: set if both were. Place: `=`, or one that was `given`, or `none`. `full`: nothing happens, the overflow table
//! must be asked. `init` does not look at the word; `move_far`, `end_reading`, `unpin`, `unpin_full` and `vacate` load it themselves.
//! ```text
//! transition       by         object   E R C K c f pins      E R   C K c   f pins place outcome
//! init             creator    any    V - - - - - - -    -> P 0 0   0 0 1   0 0    given ok
//! init             evacuator  piece  V - - - - - - -    -> A - -   - - -   - -    given ok
//! rescue           mutator    any    P * * * * * * *    -> P 0 E|R = = c&f 0 =    =     ok
//! rescue_cold      mutator    any    P * * * * * * *    -> P 0 E|R = = =   = =    =     ok
//! begin_write      writer     any    P 0 0 0 * * * *    -> P = =   = 0 c&f 0 =    =     ok
//! rescue_large     writer     large  P * * * * * * *    -> P 0 0   = = c&f 0 =    =     ok
//! self_relocate    writer     small  P 0 1 0 * * * *    -> P 0 0   0 0 0   0 0    given ok
//! cool             mutator    any    P 0 * * * * * *    -> P = =   = = 1   = =    =     ok
//! disown_far_copy  cleaner    small  P 0 * * 1 * * *    -> P = =   = 0 =   = =    =     ok
//! move_far         cleaner    small  A - - - - - - -    -> A - -   - - -   - -    given ok
//! move_far         cleaner    piece  A - - - - - - -    -> A - -   - - -   - -    given ok
//! move_far         cleaner    any    * * * * * * * *    -> = = =   = = =   = =    =     changed
//! mark_evacuating  evacuator  any    P 0 0 0 * * * 0    -> P 1 =   = = =   = =    =     ok
//! mark_relocating  evacuator  small  P 0 0 0 * * * 0    -> P = 1   = = =   = =    =     ok
//! mark_copying     evacuator  large  P 1 0 0 0 * * 0    -> P = =   1 = =   = =    =     ok
//! end_copying      evacuator  large  P 1 0 1 0 * * 0    -> P = =   0 = =   = =    =     ok
//! finish_absent    evacuator  any    P 1 0 0 * * * 0    -> A - -   - - -   - -    given ok
//! finish_relocated evacuator  small  P 0 1 0 * * * 0    -> P 0 0   0 = 1   0 0    given ok
//! unmark           evacuator  any    P 1 0 * * * * 0    -> P 0 0   0 = =   = =    =     ok
//! unmark           evacuator  small  P 0 1 0 * * * 0    -> P 0 0   0 = =   = =    =     ok
//! end_reading      evacuator  any    P * * * * * * *    -> P = 0   0 = =   = =    =     ok
//! end_reading      evacuator  any    * - - - - - - -    -> = - -   - - -   - -    =     ok
//! claim_fetch      claimer    small  A - - - - - - -    -> F - -   - - -   - -    =     ok
//! claim_fetch      claimer    large  A - - - - - - -    -> F - -   - - -   - -    =     ok
//! confirm_fetch    waiter     any    F - - - - - - -    -> F - -   - - -   - -    =     ok
//! publish          claimer    any    F - - - - - - -    -> P 0 0   0 1 1   1 0    given ok
//! abandon_fetch    claimer    any    F - - - - - - -    -> A - -   - - -   - -    =     ok
//! pass_by          claimer    any    F - - - - - - -    -> A - -   - - -   - -    =     ok
//! pin              mutator    any    P * * * * * * <255 -> P 0 E|R = = c&f 0 +1   =     ok
//! pin              mutator    any    P * * * * * * 255  -> P = =   = = =   = =    =     full
//! pin_cold         mutator    any    P * * * * * * <255 -> P 0 E|R = = =   = +1   =     ok
//! pin_cold         mutator    any    P * * * * * * 255  -> P = =   = = =   = =    =     full
//! pin_at           mutator    small  P 0 0 0 * * * 0    -> P 0 0   0 = c&f 0 +1   given ok
//! pin_cold_at      mutator    small  P 0 0 0 * * * 0    -> P 0 0   0 = =   = +1   given ok
//! unpin            mutator    any    P * * * * * * 255  -> P = =   = = =   = =    =     full
//! unpin            mutator    any    P * * * * * * >0   -> P = =   = = =   = -1   =     ok
//! unpin_full       mutator    any    P * * * * * * >0   -> P = =   = = =   = -1   =     ok
//! vacate_from      owner      any    P 0 * * * * * *    -> V - -   - - -   - -    none  ok
//! vacate_from      claimer    any    F - - - - - - -    -> V - -   - - -   - -    none  ok
//! vacate           owner      any    A - - - - - - -    -> V - -   - - -   - -    none  ok
//! vacate           owner      any    V - - - - - - -    -> V - -   - - -   - -    none  ok
//! ```
//! Whoever changes a word that carries `E`, other than the evacuator, takes `E` away: the evacuator knows its mark by the exact word, and what
//! it no longer knows it can't take away.
#![forbid(unsafe_code)]

use crate::addr::{FarAddr, LargeId, ObjectAddr, SlotId};
use crate::sync::{AtomicU64, Ordering};
use std::fmt;

/// The state of one object, as a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word(u64);

const ABSENT: u64 = 1 << 0;
const EVACUATING: u64 = 1 << 1;
const COLD: u64 = 1 << 2;
const CLEAN: u64 = 1 << 3;
const RELOCATING: u64 = 1 << 4;
const COPYING: u64 = 1 << 5;
const FRESH: u64 = 1 << 6;
const PIN_SHIFT: u32 = 8;
const PIN_ONE: u64 = 1 << PIN_SHIFT;
const PIN_MASK: u64 = 0xff << PIN_SHIFT;
const ADDR_SHIFT: u32 = 16;

const FETCHING: u64 = 1 << 1;
const VACANT: u64 = 1 << 2;
const LARGE: u64 = 1 << 3;
const STAMP_SHIFT: u32 = 8;
const STAMP_MASK: u64 = 0xffff << STAMP_SHIFT;
const FAR_SHIFT: u32 = 24;

const READ_SLOW: u64 = ABSENT | EVACUATING | COLD;
const WRITE_SLOW: u64 = READ_SLOW | CLEAN | RELOCATING | COPYING;

/// When an object left, or was passed, on the clock of evacuated volume; and how many times in a row it had come back soon by then. The ghost memory of the
/// hotness policy. 14 bits of a step that counts on from 0 after the last, and 2 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(pub u16);

/// The most that a stamp says of how often an object had come back.
pub const MOST_RETURNS: u8 = 3;

const STEP_BITS: u32 = 14;
const STEP_MASK: u16 = (1 << STEP_BITS) - 1;

impl Stamp {
    /// At this step, not having come back.
    pub const fn at(step: u64) -> Self {
        Stamp(step as u16 & STEP_MASK)
    }

    /// At this time, having come back `returns` times in a row, or [`MOST_RETURNS`] times if that is less.
    pub fn after(self, returns: u8) -> Self {
        Stamp(self.0 & STEP_MASK | u16::from(returns.min(MOST_RETURNS)) << STEP_BITS)
    }

    /// Steps from `then` to this time.
    pub const fn steps_since(self, then: Stamp) -> u16 {
        self.0.wrapping_sub(then.0) & STEP_MASK
    }

    /// How many times in a row the object had come back.
    pub const fn returns(self) -> u8 {
        (self.0 >> STEP_BITS) as u8
    }
}

/// Where an absent object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FarPlace {
    /// One far object in one place.
    At(FarAddr),
    /// In pieces; the table of large objects knows where.
    Large(LargeId),
}

/// Whether an object's local copy is newer than the far one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// The far copy named in the header is valid.
    Clean,
    /// There is no valid far copy.
    Dirty,
}

/// Whether a new local copy starts as recently used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warmth {
    /// Counts as used.
    Hot,
    /// Has yet to be used again.
    Cold,
    /// Has yet to be used for what it was fetched for.
    Fresh,
}

/// What a word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A local copy exists.
    Present(ObjectAddr),
    /// No local copy exists, and nobody fetches one.
    Absent(FarPlace),
    /// Somebody is fetching it.
    Fetching(FarPlace),
    /// The slot belongs to no object.
    Vacant,
}

impl Word {
    /// A present object.
    pub fn present(addr: ObjectAddr, freshness: Freshness, warmth: Warmth) -> Self {
        let clean = if freshness == Freshness::Clean { CLEAN } else { 0 };
        let cold = match warmth {
            Warmth::Hot => 0,
            Warmth::Cold => COLD,
            Warmth::Fresh => COLD | FRESH,
        };
        Word((addr.get() as u64) << ADDR_SHIFT | clean | cold)
    }

    /// An absent object that nobody fetches.
    pub fn absent(place: FarPlace, stamp: Stamp) -> Self {
        let (bits, large) = match place {
            FarPlace::At(addr) => (addr.to_bits(), 0),
            FarPlace::Large(id) => (id.0, LARGE),
        };
        Word(bits << FAR_SHIFT | u64::from(stamp.0) << STAMP_SHIFT | large | ABSENT)
    }

    /// A slot without an object, in a list of such slots.
    pub fn vacant(next: SlotId) -> Self {
        Word(u64::from(next.0) << FAR_SHIFT | VACANT | ABSENT)
    }

    /// Present, hot, not evacuating: a reader may go on without a store.
    #[inline(always)]
    pub const fn is_fast_read(self) -> bool {
        self.0 & READ_SLOW == 0
    }

    /// As `is_fast_read`, and dirty already and not about to move: a writer may go on without a store.
    #[inline(always)]
    pub const fn is_fast_write(self) -> bool {
        self.0 & WRITE_SLOW == 0
    }

    /// The address field. Means something for a present object only.
    #[inline(always)]
    pub const fn addr(self) -> ObjectAddr {
        ObjectAddr::from_bits(self.0 >> ADDR_SHIFT)
    }

    /// What the word says.
    pub fn state(self) -> State {
        if self.0 & ABSENT == 0 {
            return State::Present(self.addr());
        }
        if self.0 & VACANT != 0 {
            return State::Vacant;
        }
        let bits = self.0 >> FAR_SHIFT;
        let place = if self.0 & LARGE != 0 { FarPlace::Large(LargeId(bits)) } else { FarPlace::At(FarAddr::from_bits(bits)) };
        if self.0 & FETCHING != 0 { State::Fetching(place) } else { State::Absent(place) }
    }

    /// The bits with `R` in place of `E`.
    const fn rescued(self) -> u64 {
        if self.0 & EVACUATING != 0 { self.0 & !EVACUATING | RELOCATING } else { self.0 }
    }

    /// One use more: of a fresh object the first, of another one that makes it hot.
    const fn used(self) -> Word {
        Word(if self.0 & FRESH != 0 { self.0 & !FRESH } else { self.0 & !COLD })
    }

    /// The bits with another address.
    fn moved(self, to: ObjectAddr) -> u64 {
        self.0 & ((1 << ADDR_SHIFT) - 1) | (to.get() as u64) << ADDR_SHIFT
    }

    /// Whether a local copy exists.
    #[inline]
    pub const fn is_present(self) -> bool {
        self.0 & ABSENT == 0
    }

    /// Whether a local copy exists at `addr`.
    #[inline]
    pub fn is_present_at(self, addr: ObjectAddr) -> bool {
        self.0 & ABSENT == 0 && self.addr() == addr
    }

    /// Present and marked for leaving the local heap.
    pub const fn is_evacuating(self) -> bool {
        self.0 & (ABSENT | EVACUATING) == EVACUATING
    }

    /// Present and marked for moving within the local heap.
    pub const fn is_relocating(self) -> bool {
        self.0 & (ABSENT | RELOCATING) == RELOCATING
    }

    /// Present and large, and the evacuator reads its bytes.
    pub const fn is_copying(self) -> bool {
        self.0 & (ABSENT | COPYING) == COPYING
    }

    /// The evacuator's marks on a present object.
    const fn marks(self) -> u64 {
        if self.0 & ABSENT != 0 { 0 } else { self.0 & (EVACUATING | RELOCATING | COPYING) }
    }

    /// Present and without any of the evacuator's marks.
    pub const fn is_at_rest(self) -> bool {
        self.0 & (ABSENT | EVACUATING | RELOCATING | COPYING) == 0
    }

    /// Present and used since the evacuator last took notice.
    pub const fn is_hot(self) -> bool {
        self.0 & (ABSENT | COLD) == 0
    }

    /// Present and its far copy valid.
    pub const fn is_clean(self) -> bool {
        self.0 & (ABSENT | CLEAN) == CLEAN
    }

    /// Pins that hold a present object (255: or more).
    pub const fn pins(self) -> u8 {
        if self.0 & ABSENT != 0 { 0 } else { (self.0 >> PIN_SHIFT) as u8 }
    }

    /// The same with a count of pins, for models that can't pin 255 times.
    #[cfg(all(test, farptr_loom))]
    pub(crate) const fn with_pins(self, pins: u8) -> Self {
        Word(self.0 & !PIN_MASK | (pins as u64) << PIN_SHIFT)
    }

    /// When an absent object was evacuated.
    pub const fn stamp(self) -> Stamp {
        Stamp((self.0 >> STAMP_SHIFT) as u16)
    }

    /// The next slot of the list a vacant slot is in.
    pub fn next_vacant(self) -> SlotId {
        debug_assert_eq!(self.state(), State::Vacant);
        SlotId((self.0 >> FAR_SHIFT) as u32)
    }

    /// The bits, for display and for tests.
    pub const fn to_bits(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut flags = String::new();
        if self.is_present() {
            for (bit, name) in [(EVACUATING, "E"), (COLD, "c"), (CLEAN, "K"), (RELOCATING, "R"), (COPYING, "C"), (FRESH, "f")] {
                flags.push_str(if self.0 & bit != 0 { name } else { "" });
            }
        }
        write!(f, "{:?} {flags} pins={} stamp={}", self.state(), self.pins(), self.stamp().0)
    }
}

/// What became of a transition: done, or the word had changed to what is returned.
pub type Outcome = Result<Word, Word>;

/// What became of a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum PinOutcome {
    /// The object is pinned; the word now.
    Pinned(Word),
    /// The count in the word is full; the overflow table must take it.
    Full,
    /// The word had changed to this.
    Changed(Word),
}

/// What became of an unpin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum UnpinOutcome {
    /// One pin fewer; the word now.
    Unpinned(Word),
    /// The count in the word is full; the overflow table must be asked first.
    Full,
}

/// The cell that holds a metadata word, at a stable address: the only pointer to its object.
#[derive(Debug)]
#[repr(transparent)]
pub struct Slot(AtomicU64);

const _: () = assert!(cfg!(farptr_loom) || size_of::<Slot>() == 8);

impl Slot {
    /// A slot that says `word`.
    pub fn new(word: Word) -> Self {
        Slot(AtomicU64::new(word.0))
    }

    /// The word now. Acquire: partner of every publication.
    #[inline(always)]
    pub fn load(&self) -> Word {
        Word(self.0.load(Ordering::Acquire))
    }

    /// Sets the word while nobody else knows of the slot's object (a slot just taken from the table). Release: partner of `load`.
    pub fn init(&self, word: Word) {
        #[cfg(not(farptr_loom))]
        self.0.store(word.0, Ordering::Release);
        // The evacuator's `end_reading` may still come, from a round over the object that had the slot before. Loom does not see that a store
        // can't come between what such an access reads and what it writes.
        #[cfg(farptr_loom)]
        self.0.swap(word.0, Ordering::Release);
    }

    #[inline]
    fn change(&self, from: Word, to: u64) -> Outcome {
        match self.0.compare_exchange(from.0, to, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(Word(to)),
            Err(now) => Err(Word(now)),
        }
    }

    /// Read of a present object that is cold or evacuating: counts as a use and rescues it.
    pub fn rescue(&self, from: Word) -> Outcome {
        debug_assert!(from.is_present());
        self.change(from, from.used().rescued())
    }

    /// Read that must not count as a use: rescues only.
    pub fn rescue_cold(&self, from: Word) -> Outcome {
        debug_assert!(from.is_present());
        self.change(from, from.rescued())
    }

    /// First write to a present object at rest: makes it dirty, and counts as a use. If it was clean, the caller must free the far copy that the
    /// header names.
    pub fn begin_write(&self, from: Word) -> Outcome {
        debug_assert!(from.is_at_rest());
        self.change(from, from.used().0 & !CLEAN)
    }

    /// Write to a large object: takes the evacuator's mark away. `C` stays until the evacuator has noticed.
    pub fn rescue_large(&self, from: Word) -> Outcome {
        debug_assert!(from.is_present());
        self.change(from, from.used().0 & !(EVACUATING | RELOCATING))
    }

    /// The writer of a marked object has copied it to `to` itself: present there, dirty, hot. If it was clean, the caller must free
    /// the far copy that the old header names. No pin is held, since the writer's borrow excludes them; a count that was leaked (a pin
    /// that was forgotten) ends here.
    pub fn self_relocate(&self, from: Word, to: ObjectAddr) -> Outcome {
        debug_assert!(from.marks() == RELOCATING);
        self.change(from, Word::present(to, Freshness::Dirty, Warmth::Hot).0)
    }

    /// The cleaner wants the far copy's space: makes a present, clean object dirty. The caller must free the far copy.
    pub fn disown_far_copy(&self, from: Word) -> Outcome {
        debug_assert!(from.is_clean() && !from.is_evacuating());
        self.change(from, from.0 & !CLEAN)
    }

    /// The cleaner has copied an absent object's far copy elsewhere.
    pub fn move_far(&self, from: FarAddr, to: FarAddr) -> Outcome {
        let now = self.load();
        if now.state() != State::Absent(FarPlace::At(from)) {
            return Err(now);
        }
        self.change(now, Word::absent(FarPlace::At(to), now.stamp()).0)
    }

    /// Evacuator: marks a cold object for leaving.
    pub fn mark_evacuating(&self, from: Word) -> Outcome {
        debug_assert!(from.is_at_rest() && from.pins() == 0);
        self.change(from, from.0 | EVACUATING)
    }

    /// Evacuator: marks a hot object for moving within the local heap.
    pub fn mark_relocating(&self, from: Word) -> Outcome {
        debug_assert!(from.is_at_rest() && from.pins() == 0);
        self.change(from, from.0 | RELOCATING)
    }

    /// Evacuator: begins to read a large object's bytes.
    pub fn mark_copying(&self, marked: Word) -> Outcome {
        debug_assert!(marked.marks() == EVACUATING && !marked.is_clean() && marked.pins() == 0);
        self.change(marked, marked.0 | COPYING)
    }

    /// Evacuator: has read a large object's bytes.
    pub fn end_copying(&self, copying: Word) -> Outcome {
        debug_assert!(copying.marks() == EVACUATING | COPYING && !copying.is_clean() && copying.pins() == 0);
        self.change(copying, copying.0 & !COPYING)
    }

    /// Evacuator: the object leaves; its far copy is at `place`.
    pub fn finish_absent(&self, marked: Word, place: FarPlace, stamp: Stamp) -> Outcome {
        debug_assert!(marked.marks() == EVACUATING && marked.pins() == 0);
        self.change(marked, Word::absent(place, stamp).0)
    }

    /// Evacuator: the object has been copied to `to`, and must earn its hot bit again.
    pub fn finish_relocated(&self, marked: Word, to: ObjectAddr) -> Outcome {
        debug_assert!(marked.marks() == RELOCATING && marked.pins() == 0);
        let freshness = if marked.is_clean() { Freshness::Clean } else { Freshness::Dirty };
        self.change(marked, Word::present(to, freshness, Warmth::Cold).0)
    }

    /// Evacuator: gives up on leaving, for an object whose word is still the marked one.
    pub fn unmark(&self, marked: Word) -> Outcome {
        debug_assert!(matches!(marked.marks() & !COPYING, EVACUATING) || marked.marks() == RELOCATING);
        debug_assert!(marked.pins() == 0);
        self.change(marked, marked.0 & !(EVACUATING | RELOCATING | COPYING))
    }

    /// Evacuator: its CAS has failed, and it does not read the bytes any more. Takes `R` and `C` away, wherever the word has got to: in
    /// words that are not present these bits mean nothing.
    pub fn end_reading(&self) -> Word {
        let keep = !(RELOCATING | COPYING);
        Word(self.0.fetch_and(keep, Ordering::AcqRel) & keep)
    }

    /// Takes the hot bit away, without marking. Failure means that somebody used it just now.
    pub fn cool(&self, from: Word) -> Outcome {
        debug_assert!(from.is_present() && !from.is_evacuating());
        self.change(from, from.0 | COLD)
    }

    /// Miss: claims the fetch.
    pub fn claim_fetch(&self, from: Word) -> Outcome {
        debug_assert!(matches!(from.state(), State::Absent(_)));
        self.change(from, from.0 | FETCHING)
    }

    /// Waiter: the fetch is still claimed, after the waiter has said that it waits. Changes nothing, and is ordered with the claimer's change of the word: see
    /// [`crate::memory`]'s `joined.rs`.
    pub fn confirm_fetch(&self, claimed: Word) -> Outcome {
        debug_assert!(matches!(claimed.state(), State::Fetching(_)));
        self.change(claimed, claimed.0)
    }

    /// Claimer: the object has arrived.
    pub fn publish(&self, claimed: Word, to: Word) -> Outcome {
        debug_assert!(matches!(claimed.state(), State::Fetching(_)) && to.is_present());
        self.change(claimed, to.0)
    }

    /// Claimer: the fetch has failed; the object is where it was.
    pub fn abandon_fetch(&self, claimed: Word) -> Outcome {
        debug_assert!(matches!(claimed.state(), State::Fetching(_)));
        self.change(claimed, claimed.0 & !FETCHING)
    }

    /// Claimer: the object has been looked at elsewhere, and is where it was, as if it had left now.
    pub fn pass_by(&self, claimed: Word, stamp: Stamp) -> Outcome {
        debug_assert!(matches!(claimed.state(), State::Fetching(_)));
        let kept = claimed.0 & !(FETCHING | STAMP_MASK);
        self.change(claimed, kept | u64::from(stamp.0) << STAMP_SHIFT)
    }

    /// Pins a present object where it is, and rescues it.
    pub fn pin(&self, from: Word) -> PinOutcome {
        debug_assert!(from.is_present());
        if from.0 & PIN_MASK == PIN_MASK {
            return PinOutcome::Full;
        }
        match self.change(from, from.used().rescued() + PIN_ONE) {
            Ok(word) => PinOutcome::Pinned(word),
            Err(word) => PinOutcome::Changed(word),
        }
    }

    /// As `pin`, and does not count as a use.
    pub fn pin_cold(&self, from: Word) -> PinOutcome {
        debug_assert!(from.is_present());
        if from.0 & PIN_MASK == PIN_MASK {
            return PinOutcome::Full;
        }
        match self.change(from, from.rescued() + PIN_ONE) {
            Ok(word) => PinOutcome::Pinned(word),
            Err(word) => PinOutcome::Changed(word),
        }
    }

    /// The mutator has copied a small object at rest, which nobody pins, to `to`, and pins it there.
    pub fn pin_at(&self, from: Word, to: ObjectAddr) -> Outcome {
        debug_assert!(from.is_at_rest() && from.pins() == 0);
        self.change(from, from.used().moved(to) + PIN_ONE)
    }

    /// As `pin_at`, and does not count as a use.
    pub fn pin_cold_at(&self, from: Word, to: ObjectAddr) -> Outcome {
        debug_assert!(from.is_at_rest() && from.pins() == 0);
        self.change(from, from.moved(to) + PIN_ONE)
    }

    /// Takes one pin away. The object is present: it is pinned.
    pub fn unpin(&self) -> UnpinOutcome {
        let mut word = self.load();
        loop {
            debug_assert!(word.pins() > 0, "unpin of an object that is not pinned");
            if word.0 & PIN_MASK == PIN_MASK {
                return UnpinOutcome::Full;
            }
            match self.change(word, word.0 - PIN_ONE) {
                Ok(now) => return UnpinOutcome::Unpinned(now),
                Err(now) => word = now,
            }
        }
    }

    /// Takes one pin away from a full count, while the caller holds the overflow table's lock and has found no entry there.
    pub fn unpin_full(&self) {
        let mut word = self.load();
        loop {
            // Others may have had the lock in between: the count need not be full any more.
            debug_assert!(word.pins() > 0, "unpin of an object that is not pinned");
            match self.change(word, word.0 - PIN_ONE) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// The owner drops the object. The word is unmarked or rescued if present, claimed by the owner if not.
    pub fn vacate_from(&self, from: Word) -> Outcome {
        debug_assert!(from.is_present() && !from.is_evacuating() || matches!(from.state(), State::Fetching(_)));
        self.change(from, Word::vacant(SlotId::NONE).0)
    }

    /// As `vacate_from`, whatever the word; for slots that are never present. Returns what it said.
    pub fn vacate(&self) -> Word {
        let was = Word(self.0.swap(Word::vacant(SlotId::NONE).0, Ordering::AcqRel));
        debug_assert!(matches!(was.state(), State::Absent(_) | State::Vacant));
        was
    }
}

#[cfg(all(test, not(farptr_loom)))]
mod table;
