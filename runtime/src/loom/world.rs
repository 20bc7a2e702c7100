//! One object, the places it may lie in, and those who handle it.
//!
//! A place stands for a segment with this one object in it (and [`Evacuator::others`]); a far copy for a far segment.
#![forbid(unsafe_code)]

use super::saw;
use crate::addr::{FarAddr, ObjectAddr};
use crate::memory::pin::Overflow;
use crate::scope::{AccessHint, Registry, ThreadRecord};
use crate::steps::{self, Access, Claim, Fate, Mark, Plan};
use crate::sync::{AtomicU64, Ordering, yield_now};
use crate::word::{FarPlace, Freshness, Slot, Stamp, State, Warmth, Word};
use loom::cell::Cell as Bytes;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// Contents of the object at the start.
pub(super) const FIRST: u64 = 1;

/// What the next owner of freed memory writes there.
const POISON: u64 = u64::MAX;

/// Raw far address in the header of an object that was never fetched.
pub(super) const NO_FAR: u64 = 0;

const PLACES: usize = 5;
const FAR_COPIES: usize = 3;

/// Room for one local object.
pub(super) struct Place {
    pub(super) contents: Bytes<u64>,
    /// The raw far address in the header.
    far: Bytes<u64>,
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
    fn is_busy(&self) -> bool {
        self.settled.load(Ordering::Acquire) == 0
    }
}

/// Room for one far copy, and what has become of it.
pub(super) struct FarCopy {
    contents: Bytes<u64>,
    written: Cell<bool>,
    buried: Cell<u32>,
}

pub(super) struct World {
    pub(super) registry: Registry,
    pub(super) slot: Slot,
    pub(super) places: [Place; PLACES],
    pub(super) far: [FarCopy; FAR_COPIES],
    pub(super) pins: Overflow,
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

fn copy_at(far: FarAddr) -> usize {
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

    fn write_far(&self, copy: usize, contents: u64) {
        self.far[copy].contents.set(contents);
        self.far[copy].written.set(true);
    }

    fn bury(&self, far: FarAddr) {
        let copy = &self.far[copy_at(far)];
        copy.buried.set(copy.buried.get() + 1);
        assert_eq!(copy.buried.get(), 1, "{far:?} is buried once");
    }

    /// The place is free: the next allocation takes it.
    fn free(&self, place: usize) {
        self.places[place].fill(POISON, POISON);
    }

    fn header_far(&self, addr: ObjectAddr) -> u64 {
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

/// A thread with a clock of its own.
pub(super) struct Mutator {
    world: Rc<World>,
    record: Arc<ThreadRecord>,
    /// Where what it allocates lies, last one first. A copy that was made in vain gives its place back, which nobody has learnt of.
    spares: RefCell<Vec<usize>>,
}

impl Mutator {
    /// A mutator that allocates once, in the place `spare`.
    pub(super) fn new(world: &Rc<World>, spare: usize) -> Self {
        Mutator { world: Rc::clone(world), record: world.registry.register(), spares: RefCell::new(vec![spare]) }
    }

    /// Allocates once more, in the place `spare`.
    pub(super) fn and(self, spare: usize) -> Self {
        self.spares.borrow_mut().insert(0, spare);
        self
    }

    fn spare(&self) -> usize {
        *self.spares.borrow().last().expect("the model allows for more allocations")
    }

    /// What was allocated last is published.
    fn settle_spare(&self) {
        let spare = self.spares.borrow_mut().pop();
        self.world.places[spare.expect("filled before")].settle();
    }

    /// A scope around `body`.
    pub(super) fn scope<R>(&self, body: impl FnOnce() -> R) -> R {
        self.record.enter();
        let result = body();
        self.record.leave();
        result
    }

    /// Ends the scope and begins another.
    pub(super) fn refresh(&self) {
        self.record.refresh();
    }

    /// Brings the object in. Follows `Memory::bring_in` and `swap_in`.
    fn bring_in(&self, seen: Word) {
        match seen.state() {
            State::Absent(_) => {
                if let Ok(claimed) = self.world.slot.claim_fetch(seen) {
                    self.fetch(claimed);
                }
            }
            State::Fetching(_) => {
                saw("joined");
                yield_now();
            }
            State::Present(_) => {}
            State::Vacant => panic!("the object is alive: {seen:?}"),
        }
    }

    /// Fetches the object it has claimed. Follows `Memory::fetch` and `publish_fetched`.
    pub(super) fn fetch(&self, claimed: Word) {
        let State::Fetching(FarPlace::At(from)) = claimed.state() else { panic!("a claim: {claimed:?}") };
        saw("fetched");
        self.world.places[self.spare()].fill(self.world.far[copy_at(from)].contents.get(), from.to_bits());
        let to = Word::present(addr_of(self.spare()), Freshness::Clean, Warmth::Cold);
        self.world.slot.publish(claimed, to).expect("a claimed word is changed by its claimer only");
        self.settle_spare();
    }

    /// Where the object may be read until the scope ends. Follows `Handle::get` and `Memory::access_slow`.
    pub(super) fn readable(&self, hint: AccessHint) -> &Place {
        let World { slot, places, .. } = &*self.world;
        loop {
            let word = slot.load();
            let State::Present(addr) = word.state() else {
                self.bring_in(word);
                continue;
            };
            match steps::read(slot, word, hint) {
                Access::Granted => {
                    if word.is_evacuating() {
                        saw("rescued");
                    }
                    return &places[place_at(addr)];
                }
                Access::Again => {}
                other => panic!("a reader is told {other:?}"),
            }
        }
    }

    /// Reads the object in a scope that is open.
    pub(super) fn read(&self) -> u64 {
        self.readable(AccessHint::Normal).contents.get()
    }

    /// Where the object may be written until the scope ends. Follows `Handle::get_mut` and `Memory::access_slow`.
    pub(super) fn writable(&self) -> &Place {
        let World { slot, places, .. } = &*self.world;
        loop {
            let word = slot.load();
            let State::Present(addr) = word.state() else {
                self.bring_in(word);
                continue;
            };
            match steps::write(slot, word) {
                Access::Granted => return &places[place_at(addr)],
                Access::GrantedAndDirtied => {
                    self.world.bury(FarAddr::from_bits(self.world.header_far(addr)));
                    return &places[place_at(addr)];
                }
                Access::Again => {}
                // As `Memory::self_relocate`.
                Access::Move => {
                    let to = addr_of(self.spare());
                    self.world.places[self.spare()].fill(places[place_at(addr)].contents.get(), NO_FAR);
                    let Ok(dead) = steps::move_away(slot, word, to, || self.world.header_far(addr)) else { continue };
                    saw("moved by its writer");
                    if let Some(far) = dead {
                        self.world.bury(FarAddr::from_bits(far));
                    }
                    self.settle_spare();
                    return &places[place_at(to)];
                }
                Access::Wait => panic!("nobody waits for a small object"),
            }
        }
    }

    /// Writes the object in a scope that is open.
    pub(super) fn write(&self, contents: u64) {
        self.writable().contents.set(contents);
    }

    /// Moves the contents out and leaves the slot vacant. Follows `Memory::vacate`.
    pub(super) fn drop_object(&self) -> u64 {
        let World { slot, places, far, .. } = &*self.world;
        loop {
            self.record.enter();
            let word = slot.load();
            match word.state() {
                State::Present(_) if word.is_evacuating() => drop(slot.rescue_cold(word)),
                State::Present(addr) => {
                    let contents = places[place_at(addr)].contents.get();
                    if let Ok(dead) = steps::give_up(slot, word, || self.world.header_far(addr)) {
                        saw("dropped here");
                        if let Some(far) = dead {
                            self.world.bury(FarAddr::from_bits(far));
                        }
                        self.record.leave();
                        return contents;
                    }
                }
                State::Absent(FarPlace::At(from)) => {
                    self.record.leave();
                    let Ok(claimed) = slot.claim_fetch(word) else { continue };
                    let contents = far[copy_at(from)].contents.get();
                    slot.vacate_from(claimed).expect("a claimed word is changed by its claimer only");
                    saw("dropped far away");
                    self.world.bury(from);
                    return contents;
                }
                State::Fetching(_) => {
                    self.record.leave();
                    yield_now();
                    continue;
                }
                State::Absent(FarPlace::Large(_)) | State::Vacant => panic!("the object is small and alive: {word:?}"),
            }
            self.record.leave();
        }
    }
}

/// Whoever holds the evacuator's lock. Follows `evacuator/src/round.rs`, with one victim that holds the object, and `cleaner.rs`.
pub(super) struct Evacuator {
    world: Rc<World>,
    /// `Mercy::Spare`.
    pub(super) spares: bool,
    /// Objects in the victim beside the one at hand, which stay.
    pub(super) others: usize,
    /// Where it relocates to and writes back to, each used once.
    to: Vec<usize>,
    far: Vec<usize>,
    limbo: Vec<usize>,
    /// `SealedSegment::referred` of the victim that was put back.
    referred: bool,
}

impl Evacuator {
    /// With room for relocations in the places `to` and for write-back in the far copies `far`.
    pub(super) fn new(world: &Rc<World>, spares: bool, to: &[usize], far: &[usize]) -> Self {
        Evacuator {
            world: Rc::clone(world),
            spares,
            others: 0,
            to: to.to_vec(),
            far: far.to_vec(),
            limbo: Vec::new(),
            referred: false,
        }
    }

    /// One round, with the victim `at`.
    pub(super) fn round(&mut self, at: usize) {
        self.round_over(&[at], true);
    }

    /// A round whose grace period is given up, because a scope outlasts it.
    pub(super) fn round_without_grace(&mut self, at: usize) {
        self.round_over(&[at], false);
    }

    /// One round with these victims.
    pub(super) fn round_over(&mut self, victims: &[usize], patient: bool) {
        let world = Rc::clone(&self.world);
        let victims = victims.iter().filter(|at| !world.places[**at].is_busy());
        let marked: Vec<_> = victims.map(|at| (*at, steps::mark(&world.slot, addr_of(*at), self.spares))).collect();
        let mut grace = world.registry.begin_grace();
        let graceful = patient && grace.wait_until(Instant::now());
        if graceful {
            self.after_grace();
        }
        let settled: Vec<_> = marked.into_iter().map(|(at, mark)| self.finish(at, mark, graceful)).collect();
        for (at, left, relocated) in settled {
            match steps::fate(left, relocated, self.referred && !graceful) {
                Fate::PutBack { referred } => {
                    saw("put back");
                    self.referred = referred;
                }
                Fate::Limbo => self.limbo.push(at),
                Fate::Free => {
                    saw("freed at once");
                    world.free(at);
                }
            }
        }
    }

    /// How many objects are left in the victim, and whether one was relocated.
    fn finish(&mut self, at: usize, mark: Mark, graceful: bool) -> (usize, usize, bool) {
        let mut relocated = false;
        let stays = match mark {
            Mark::Gone => false,
            Mark::Stays => true,
            Mark::Marked(word) if graceful => !self.settle(at, word, &mut relocated),
            Mark::Marked(word) => steps::keep(&self.world.slot, word, addr_of(at)),
        };
        (at, self.others + usize::from(stays), relocated)
    }

    /// Whether the object has left its place. As `Round::settle`, `relocate`, `append` and `finish`.
    fn settle(&mut self, at: usize, word: Word, relocated: &mut bool) -> bool {
        let World { slot, places, far, .. } = &*self.world;
        let lost = || {
            saw("lost");
            !steps::lost(slot, addr_of(at))
        };
        match steps::plan(slot, word) {
            Plan::Lost => lost(),
            Plan::Relocate => {
                let to = self.to.pop().expect("the model allows for more relocations");
                places[to].fill(places[at].contents.get(), places[at].far.get());
                let finished = slot.finish_relocated(word, addr_of(to));
                places[to].settle();
                match finished {
                    Ok(_) => {
                        saw("relocated");
                        *relocated = true;
                        true
                    }
                    Err(_) => lost(),
                }
            }
            Plan::LetGo => {
                let place = FarPlace::At(FarAddr::from_bits(places[at].far.get()));
                match slot.finish_absent(word, place, Stamp(1)) {
                    Ok(_) => {
                        saw("let go");
                        true
                    }
                    Err(_) => lost(),
                }
            }
            Plan::WriteBack => {
                let copy = self.far.pop().expect("the model allows for more write-backs");
                far[copy].contents.set(places[at].contents.get());
                far[copy].written.set(true);
                match slot.finish_absent(word, FarPlace::At(far_of(copy)), Stamp(1)) {
                    Ok(_) => {
                        saw("written back");
                        true
                    }
                    Err(_) => {
                        self.world.bury(far_of(copy));
                        lost()
                    }
                }
            }
        }
    }

    fn after_grace(&mut self) {
        for place in self.limbo.drain(..) {
            saw("freed from limbo");
            self.world.free(place);
        }
    }

    /// As `round::sweep`, over the segment `at`.
    pub(super) fn sweep(&mut self, at: usize) {
        if self.world.slot.load().is_present_at(addr_of(at)) {
            saw("put back");
        } else if self.referred {
            self.limbo.push(at);
        } else {
            saw("swept");
            self.world.free(at);
        }
        self.free_limbo();
    }

    /// As `RoundState::free_limbo`.
    pub(super) fn free_limbo(&mut self) {
        if !self.limbo.is_empty() && self.world.registry.begin_grace().wait_until(Instant::now()) {
            self.after_grace();
        }
    }

    /// Moves the far copy `from` to `to`, if it is alive. As `cleaner::evacuate`, `claims` and the end of `pass`. If `from` is dead by then
    /// through the cleaner, its segment is written anew.
    pub(super) fn clean(&mut self, from: usize, to: usize) {
        let world = &*self.world;
        let far_in_header = |addr| Some(world.header_far(addr));
        let freed = match steps::claim(&world.slot, far_of(from), far_in_header) {
            Claim::Alive => {
                world.write_far(to, world.far[from].contents.get());
                let moved = world.slot.move_far(far_of(from), far_of(to)).is_ok();
                saw(if moved { "moved far" } else { "moved far in vain" });
                world.bury(far_of(if moved { from } else { to }));
                moved
            }
            Claim::Disowned => {
                saw("disowned");
                world.bury(far_of(from));
                true
            }
            Claim::None => false,
        };
        if freed {
            world.far[from].contents.set(POISON);
        }
    }
}
