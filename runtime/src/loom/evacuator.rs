//! What the evacuator and the cleaner do.
#![forbid(unsafe_code)]

use super::saw;
use super::world::{POISON, World, addr_of, far_of};
use crate::addr::FarAddr;
use crate::steps::{self, Claim, Fate, Mark, Plan};
use crate::word::{FarPlace, Stamp, Word};
use std::rc::Rc;
use std::time::Instant;

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
            // The flag matters without grace only; fewer accesses make fewer orders.
            let moved_out_of = !graceful && world.moved_out.is_noted(at);
            match steps::fate(left, relocated, steps::is_referred(self.referred, moved_out_of, graceful)) {
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
        } else if steps::is_referred(self.referred, self.world.moved_out.is_noted(at), false) {
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
