//! What mutators do.
#![forbid(unsafe_code)]

use super::saw;
use super::world::{NO_FAR, Place, World, addr_of, copy_at, place_at};
use crate::addr::FarAddr;
use crate::scope::{AccessHint, ThreadRecord};
use crate::steps::{self, Access};
use crate::sync::yield_now;
use crate::word::{FarPlace, Freshness, State, Warmth, Word};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

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
        let to = Word::present(addr_of(self.spare()), Freshness::Clean, Warmth::Fresh);
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

    /// Pins the object among others that are pinned, if it is at rest. Follows `Memory::pin_in_head`.
    pub(super) fn pin_elsewhere(&self) -> bool {
        self.scope(|| self.pin_elsewhere_in_scope())
    }

    /// As above, in a scope that is open.
    pub(super) fn pin_elsewhere_in_scope(&self) -> bool {
        let World { slot, places, moved_out, .. } = &*self.world;
        let word = slot.load();
        let State::Present(old) = word.state() else { return false };
        if !word.is_at_rest() || word.pins() > 0 {
            return false;
        }
        let from = place_at(old);
        places[self.spare()].fill(places[from].contents.get(), places[from].far.get());
        let to = addr_of(self.spare());
        let moved = steps::pin_moved(slot, word, to, AccessHint::Normal, || moved_out.note(from));
        if moved.is_ok() {
            saw("moved by a pin");
            self.settle_spare();
        }
        moved.is_ok()
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
