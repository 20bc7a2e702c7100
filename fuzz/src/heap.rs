//! One far memory with far too little local memory: objects of all sizes come, are read and written, pinned, looked at in scopes, and go.
//!
//! The model is what each object was last given. Contents are always right; local memory in use never exceeds the budget; an operation fails only for a
//! reason that the model knows (a scope or a pin holds memory back, far memory is small, the object is as large as the budget); and when
//! everything has been dropped nothing is left, here or far away.
#![forbid(unsafe_code)]

mod thing;

use crate::input;
use arbitrary::{Arbitrary, Unstructured};
use farptr::{Error, FarMemory};
use thing::{Made, Thing};

/// Local budget in bytes: the least there is.
pub(crate) const BUDGET: usize = 1 << 20;
/// Far memory in bytes, where it is scarce: a few slabs.
const LITTLE: u64 = 3 << 20;
/// Far memory in bytes, where it isn't.
pub(crate) const PLENTY: u64 = 1 << 34;
/// Objects at a time, groups of small ones counted as one.
const PLACES: usize = 12;
const MOST_OPS: usize = 300;
/// Scopes and pins within each other.
const MOST_NESTED: usize = 6;

#[derive(Debug, Arbitrary)]
enum Op {
    /// Takes the place of what was there.
    New {
        at: u8,
        made: Made,
    },
    /// Twice makes it hot.
    Read {
        at: u8,
        twice: bool,
    },
    Write {
        at: u8,
        seed: u8,
    },
    Drop {
        at: u8,
    },
    /// Moves the contents out.
    Take {
        at: u8,
    },
    /// What follows, to the matching `Leave`, happens while an object is pinned.
    Pin {
        at: u8,
        write: Option<u8>,
    },
    /// What follows, to the matching `Leave`, happens in a scope that has looked at an object.
    Scope {
        at: u8,
        non_temporal: bool,
    },
    Leave,
    Round,
    EvacuateAll,
    Trim,
}

pub(crate) struct World {
    pub(crate) mem: FarMemory,
    places: Vec<Option<Thing>>,
    ops: usize,
    scopes: usize,
    pins: usize,
    far_is_scarce: bool,
    /// Something failed, as it may; what could not be brought in for its drop is lost.
    failed: bool,
}

/// Runs the target on one input.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let first = input.arbitrary().unwrap_or(0u8);
    let far_is_scarce = first % 4 == 3;
    let mem = memory(if far_is_scarce { LITTLE } else { PLENTY }, first);
    let places = (0..PLACES).map(|_| None).collect();
    let mut world = World { mem, places, ops: 0, scopes: 0, pins: 0, far_is_scarce, failed: false };
    while !input.is_empty() && world.ops < MOST_OPS {
        world.interpret(&mut input, 0);
    }
    // What was lost on the way out shows when it comes back.
    world.carry_out(Op::EvacuateAll);
    for thing in std::mem::take(&mut world.places).into_iter().flatten() {
        let checked = thing.check();
        world.judge(checked, thing.bytes());
    }
    assert_nothing_left(&world.mem, world.failed);
}

/// The memory of a run. The upper half of what the first byte of the input may be has objects passed.
pub(crate) fn memory(far_capacity: u64, first: u8) -> FarMemory {
    let memory = farptr::fuzzing::memory(BUDGET, far_capacity).expect("an embedded memory");
    if first > u8::MAX / 2 {
        farptr::fuzzing::pass_first_reads(&memory);
    }
    memory
}

/// All objects are gone, and so is what they took up.
pub(crate) fn assert_nothing_left(mem: &FarMemory, may_have_lost: bool) {
    mem.trim().expect("an embedded lender takes slabs back");
    let stats = mem.stats();
    if may_have_lost && stats.lost_drops > 0 {
        return;
    }
    assert_eq!(stats.lost_drops, 0, "{stats:?}");
    assert_eq!((stats.local_used_bytes, stats.far_live_bytes, stats.far_borrowed_bytes), (0, 0, 0), "{stats:?}");
}

/// What holds at any time.
pub(crate) fn assert_in_bounds(mem: &FarMemory) {
    let stats = mem.stats();
    assert!(stats.local_used_bytes <= stats.local_budget_bytes, "{stats:?}");
    assert!(stats.far_live_bytes <= stats.far_used_bytes && stats.far_used_bytes <= stats.far_borrowed_bytes, "{stats:?}");
}

impl World {
    /// Carries out operations until one leaves this level.
    fn interpret(&mut self, input: &mut Unstructured<'_>, depth: usize) {
        while self.ops < MOST_OPS
            && let Some(op) = input::next::<Op>(input)
        {
            self.ops += 1;
            match op {
                Op::Leave if depth > 0 => return,
                Op::Pin { at, write } if depth < MOST_NESTED => self.pin(at, write, input, depth),
                Op::Scope { at, non_temporal } if depth < MOST_NESTED => self.scope(at, non_temporal, input, depth),
                op => self.carry_out(op),
            }
            assert_in_bounds(&self.mem);
        }
    }

    fn carry_out(&mut self, op: Op) {
        match op {
            Op::New { at, made } => {
                let thing = Thing::make(made, &self.mem);
                if let Some(thing) = self.judge(thing, made.bytes()) {
                    self.places[usize::from(at) % PLACES] = Some(thing);
                }
            }
            Op::Read { at, twice } => {
                if let Some(thing) = &self.places[usize::from(at) % PLACES] {
                    let checked = if twice { thing.check().and_then(|()| thing.check()) } else { thing.check() };
                    let bytes = thing.bytes();
                    self.judge(checked, bytes);
                }
            }
            Op::Write { at, seed } => {
                if let Some(thing) = &mut self.places[usize::from(at) % PLACES] {
                    let (written, bytes) = (thing.write(seed), thing.bytes());
                    self.judge(written, bytes);
                }
            }
            Op::Drop { at } => self.places[usize::from(at) % PLACES] = None,
            Op::Take { at } => {
                if let Some(thing) = self.places[usize::from(at) % PLACES].take() {
                    let bytes = thing.bytes();
                    let taken = thing.take();
                    self.judge(taken, bytes);
                }
            }
            Op::Round => {
                farptr::fuzzing::round(&self.mem);
            }
            Op::EvacuateAll => {
                let evacuated = self.mem.evacuate_all();
                self.judge(evacuated, 0);
            }
            Op::Trim => self.mem.trim().expect("an embedded lender takes slabs back"),
            Op::Pin { .. } | Op::Scope { .. } | Op::Leave => {}
        }
    }

    fn pin(&mut self, at: u8, write: Option<u8>, input: &mut Unstructured<'_>, depth: usize) {
        let at = usize::from(at) % PLACES;
        let Some(mut thing) = self.places[at].take() else { return };
        let bytes = thing.bytes();
        self.pins += 1;
        let pinned = thing.while_pinned(write, || self.interpret(input, depth + 1));
        self.judge(pinned, bytes);
        self.pins -= 1;
        self.places[at] = Some(thing);
    }

    fn scope(&mut self, at: u8, non_temporal: bool, input: &mut Unstructured<'_>, depth: usize) {
        let at = usize::from(at) % PLACES;
        let thing = self.places[at].take();
        self.scopes += 1;
        let scope = if non_temporal { farptr::scope_non_temporal() } else { farptr::scope() };
        let seen = match &thing {
            Some(thing) => thing.while_seen(&scope, || self.interpret(input, depth + 1)),
            None => {
                self.interpret(input, depth + 1);
                Ok(())
            }
        };
        self.judge(seen, thing.as_ref().map_or(0, Thing::bytes));
        drop(scope);
        self.scopes -= 1;
        if thing.is_some() {
            self.places[at] = thing;
        }
    }

    /// Passes success on, and failure if there is a reason for it.
    fn judge<T>(&mut self, went: Result<T, Error>, bytes: usize) -> Option<T> {
        let error = match went {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        self.failed = true;
        let allowed = match error {
            Error::ScopeExhausted { .. } => self.scopes > 0,
            Error::FarMemoryFull { .. } => self.far_is_scarce,
            Error::OutOfLocalMemory { .. } => self.scopes > 0 || self.pins > 0 || self.far_is_scarce || bytes > BUDGET / 4,
            _ => false,
        };
        assert!(allowed, "no reason to fail with {bytes} bytes, {} scopes, {} pins: {error}", self.scopes, self.pins);
        None
    }
}
