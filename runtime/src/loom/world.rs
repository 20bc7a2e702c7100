//! One object, and the places it may lie in.
//!
//! A place stands for a segment with this one object in it (and [`Evacuator::others`](super::evacuator::Evacuator)); a far copy for a far segment.
#![forbid(unsafe_code)]

use crate::addr::{FarAddr, ObjectAddr};
use crate::heap::pins::MovedOut;
use crate::memory::pin::Overflow;
use crate::scope::Registry;
use crate::sync::{AtomicU64, Ordering};
use crate::word::{FarPlace, Freshness, Slot, Stamp, State, Warmth, Word};
use loom::cell::Cell as Bytes;
use std::cell::Cell;
use std::rc::Rc;

/// Contents of the object at the start.
pub(super) const FIRST: u64 = 1;

/// What the next owner of freed memory writes there.
pub(super) const POISON: u64 = u64::MAX;

/// Raw far address in the header of an object that was never fetched.
pub(super) const NO_FAR: u64 = 0;

const PLACES: usize = 5;
const FAR_COPIES: usize = 3;

/// Room for one local object.
pub(super) struct Place {
    pub(super) contents: Bytes<u64>,
    /// The raw far address in the header.
    pub(super) far: Bytes<u64>,
    /// Not zero once the object in it is settled: until then its segment is busy, and no victim.
    settled: AtomicU64,
}

impl Place {
    pub(super) fn fill(&self, contents: u64, far: u64) {
        self.contents.set(contents);
        self.far.set(far);
    }

    /// As `Heap::settle`.
    pub(super) fn settle(&self) {
        self.settled.store(1, Ordering::Release);
    }

    /// As `Heap::is_busy`.
    pub(super) fn is_busy(&self) -> bool {
        self.settled.load(Ordering::Acquire) == 0
    }
}

/// Room for one far copy, and what has become of it.
pub(super) struct FarCopy {
    pub(super) contents: Bytes<u64>,
    pub(super) written: Cell<bool>,
    buried: Cell<u32>,
}

pub(super) struct World {
    pub(super) registry: Registry,
    pub(super) slot: Slot,
    pub(super) places: [Place; PLACES],
    pub(super) far: [FarCopy; FAR_COPIES],
    pub(super) pins: Overflow,
    pub(super) moved_out: MovedOut,
}

pub(super) fn addr_of(place: usize) -> ObjectAddr {
    ObjectAddr::new((place + 1) * 16)
}

pub(super) fn place_at(addr: ObjectAddr) -> usize {
    addr.get() / 16 - 1
}

pub(super) fn far_of(copy: usize) -> FarAddr {
    FarAddr::from_bits(copy as u64 + 1)
}

pub(super) fn copy_at(far: FarAddr) -> usize {
    far.to_bits() as usize - 1
}

impl World {
    fn new(word: Word) -> Rc<Self> {
        Rc::new(World {
            registry: Registry::new(),
            slot: Slot::new(word),
            places: std::array::from_fn(|_| Place {
                contents: Bytes::new(POISON),
                far: Bytes::new(POISON),
                settled: AtomicU64::new(0),
            }),
            far: std::array::from_fn(|_| FarCopy {
                contents: Bytes::new(POISON),
                written: Cell::new(false),
                buried: Cell::new(0),
            }),
            pins: Overflow::default(),
            moved_out: MovedOut::new(PLACES),
        })
    }

    /// The object lies in place 0; if clean, its far copy is copy 0.
    pub(super) fn with_present(freshness: Freshness, warmth: Warmth) -> Rc<Self> {
        let world = World::new(Word::present(addr_of(0), freshness, warmth));
        let clean = freshness == Freshness::Clean;
        world.places[0].fill(FIRST, if clean { far_of(0).to_bits() } else { NO_FAR });
        world.places[0].settle();
        if clean {
            world.write_far(0, FIRST);
        }
        world
    }

    /// The object is absent, its far copy is copy 0.
    pub(super) fn with_absent() -> Rc<Self> {
        let world = World::new(Word::absent(FarPlace::At(far_of(0)), Stamp(0)));
        world.write_far(0, FIRST);
        world
    }

    /// The object lies dirty in place 0, under `pins` pins.
    pub(super) fn with_pins(pins: u8) -> Rc<Self> {
        let world = World::new(Word::present(addr_of(0), Freshness::Dirty, Warmth::Hot).with_pins(pins));
        world.places[0].fill(FIRST, NO_FAR);
        world.places[0].settle();
        world
    }

    pub(super) fn write_far(&self, copy: usize, contents: u64) {
        self.far[copy].contents.set(contents);
        self.far[copy].written.set(true);
    }

    pub(super) fn bury(&self, far: FarAddr) {
        let copy = &self.far[copy_at(far)];
        copy.buried.set(copy.buried.get() + 1);
        assert_eq!(copy.buried.get(), 1, "{far:?} is buried once");
    }

    /// The place is free: the next allocation takes it.
    pub(super) fn free(&self, place: usize) {
        self.places[place].fill(POISON, POISON);
    }

    pub(super) fn header_far(&self, addr: ObjectAddr) -> u64 {
        self.places[place_at(addr)].far.get()
    }

    /// After all threads: the object has these contents (`None`: it was dropped), no mark is left, and every far copy that is not
    /// its valid one has been buried once.
    pub(super) fn check_end(&self, contents: Option<u64>) {
        let word = self.slot.load();
        let (found, valid) = match word.state() {
            State::Present(addr) => {
                assert!(!word.is_evacuating() && !word.is_relocating() && !word.is_copying(), "marked at the end: {word:?}");
                let valid = word.is_clean().then(|| FarAddr::from_bits(self.header_far(addr)));
                (Some(self.places[place_at(addr)].contents.get()), valid)
            }
            State::Absent(FarPlace::At(far)) => (Some(self.far[copy_at(far)].contents.get()), Some(far)),
            State::Vacant => (None, None),
            State::Absent(FarPlace::Large(_)) | State::Fetching(_) => panic!("at the end: {word:?}"),
        };
        assert_eq!(found, contents, "contents at the end, under {word:?}");
        for (copy, FarCopy { contents: bytes, written, buried }) in self.far.iter().enumerate() {
            let valid = valid == Some(far_of(copy));
            assert!(!valid || written.get(), "the far copy was written");
            if valid {
                assert_eq!(Some(bytes.get()), contents, "contents of the valid far copy");
            }
            assert_eq!(buried.get(), u32::from(written.get() && !valid), "burials of far copy {copy}, under {word:?}");
        }
    }
}
