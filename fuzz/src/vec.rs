//! Operations on a [`RemVec`] and on a `Vec`, with far too little local memory: elements that are plain, and elements that own far objects.
#![forbid(unsafe_code)]

use crate::heap::{PLENTY, assert_in_bounds, assert_nothing_left, memory};
use crate::input;
use arbitrary::{Arbitrary, Unstructured};
use farptr::{Far, FarMemory, RemBox, RemVec};
use std::fmt::Debug;

const MOST_OPS: usize = 300;
/// Elements at a time: several times the budget of the larger ones.
const MOST_ELEMENTS: usize = 6000;

#[derive(Debug, Arbitrary)]
enum Op {
    Push {
        seed: u8,
    },
    Pop,
    Extend {
        count: u16,
        seed: u8,
    },
    Truncate {
        len: u16,
    },
    SwapRemove {
        at: u16,
    },
    /// Twice makes it hot.
    Read {
        at: u16,
        twice: bool,
    },
    ReadInScope {
        at: u16,
    },
    Write {
        at: u16,
        seed: u8,
    },
    Slices {
        from: u16,
        to: u16,
        write: Option<u8>,
    },
    SliceAt {
        at: u16,
        write: Option<u8>,
    },
    /// All elements, in one scope.
    Iterate,
    Reserve {
        more: u16,
    },
    Clear,
    Round,
    EvacuateAll,
    Trim,
}

/// An element, and what stands for it in the model.
trait Element: Far + Sized {
    type Model: Clone + PartialEq + Debug;
    fn model(seed: u32) -> Self::Model;
    fn make(model: &Self::Model, mem: &FarMemory) -> Self;
    fn assert_is(&self, model: &Self::Model);
}

impl Element for u64 {
    type Model = u64;
    fn model(seed: u32) -> u64 {
        u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
    fn make(model: &u64, _mem: &FarMemory) -> u64 {
        *model
    }
    fn assert_is(&self, model: &u64) {
        assert_eq!(self, model);
    }
}

/// A plain element of an odd size.
impl Element for [u8; 333] {
    type Model = u32;
    fn model(seed: u32) -> u32 {
        seed
    }
    fn make(model: &u32, _mem: &FarMemory) -> Self {
        std::array::from_fn(|i| input::byte(*model, i))
    }
    fn assert_is(&self, model: &u32) {
        assert!(self.iter().enumerate().all(|(i, byte)| *byte == input::byte(*model, i)));
    }
}

impl Element for RemBox<u64> {
    type Model = u64;
    fn model(seed: u32) -> u64 {
        seed.into()
    }
    fn make(model: &u64, mem: &FarMemory) -> Self {
        RemBox::new_in(*model, mem)
    }
    fn assert_is(&self, model: &u64) {
        self.with(|value| assert_eq!(value, model));
    }
}

/// Nothing at all, many times.
impl Element for () {
    type Model = ();
    fn model(_seed: u32) {}
    fn make((): &(), _mem: &FarMemory) {}
    fn assert_is(&self, (): &()) {}
}

/// Runs the target on one input.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let [kind, chunk]: [u8; 2] = input.arbitrary().unwrap_or_default();
    let chunk_bytes = usize::from(chunk) * 16;
    match kind % 4 {
        0 => run_with::<u64>(&mut input, kind, chunk_bytes),
        1 => run_with::<[u8; 333]>(&mut input, kind, chunk_bytes),
        2 => run_with::<RemBox<u64>>(&mut input, kind, chunk_bytes),
        _ => run_with::<()>(&mut input, kind, chunk_bytes),
    }
}

fn run_with<T: Element>(input: &mut Unstructured<'_>, first: u8, chunk_bytes: usize) {
    let mem = memory(PLENTY, first);
    let mut world: World<'_, T> =
        World { mem: &mem, far: RemVec::with_chunk_bytes_in(chunk_bytes, &mem), model: Vec::new(), made: 0 };
    input::each(input, MOST_OPS, |op| {
        world.carry_out(op);
        assert_eq!((world.far.len(), world.far.is_empty()), (world.model.len(), world.model.is_empty()));
        assert!(world.far.capacity() >= world.far.len());
        assert_in_bounds(&mem);
    });
    world.compare();
    drop(world);
    assert_nothing_left(&mem, false);
}

struct World<'m, T: Element> {
    mem: &'m FarMemory,
    far: RemVec<T>,
    model: Vec<T::Model>,
    made: u32,
}

impl<T: Element> World<'_, T> {
    fn model(&mut self, seed: u8) -> T::Model {
        self.made += 1;
        T::model(self.made << 8 | u32::from(seed))
    }

    fn carry_out(&mut self, op: Op) {
        let len = self.model.len();
        let index = |at: u16| if len == 0 { None } else { Some(usize::from(at) % len) };
        match op {
            Op::Push { seed } if len < MOST_ELEMENTS => {
                let model = self.model(seed);
                self.far.push(T::make(&model, self.mem));
                self.model.push(model);
            }
            Op::Pop => match (self.far.pop(), self.model.pop()) {
                (Some(far), Some(model)) => far.assert_is(&model),
                (far, model) => assert!(far.is_none() && model.is_none()),
            },
            Op::Extend { count, seed } => {
                let count = usize::from(count % 2048).min(MOST_ELEMENTS - len);
                let more: Vec<T::Model> = (0..count).map(|_| self.model(seed)).collect();
                self.far.try_extend(more.iter().map(|model| T::make(model, self.mem))).expect("room for elements");
                self.model.extend(more);
            }
            Op::Truncate { len } => {
                self.far.truncate(len.into());
                self.model.truncate(len.into());
            }
            Op::SwapRemove { at } => {
                if let Some(at) = index(at) {
                    self.far.swap_remove(at).assert_is(&self.model.swap_remove(at));
                }
            }
            Op::Read { at, twice } => {
                // Beyond the end as well.
                let at = usize::from(at) % (len + 2);
                for _ in 0..=u8::from(twice) {
                    let read = self.far.with(at, |far| far.assert_is(&self.model[at]));
                    assert_eq!(read.is_some(), at < len);
                }
            }
            Op::ReadInScope { at } => {
                let (scope, at) = (farptr::scope(), usize::from(at) % (len + 2));
                match self.far.try_get(at, &scope) {
                    Ok(Some(far)) => {
                        drop(self.mem.evacuate_all());
                        std::hint::black_box(far);
                    }
                    Ok(None) => assert!(at >= len),
                    Err(error) => assert!(matches!(error, farptr::Error::ScopeExhausted { .. }), "{error}"),
                }
            }
            Op::Write { at, seed } => {
                if let Some(at) = index(at) {
                    let model = self.model(seed);
                    let new = T::make(&model, self.mem);
                    let old = self.far.with_mut(at, |far| std::mem::replace(far, new)).expect("an element");
                    old.assert_is(&std::mem::replace(&mut self.model[at], model));
                }
            }
            Op::Slices { from, to, write } => self.slices(usize::from(from) % (len + 1), usize::from(to) % (len + 1), write),
            Op::SliceAt { at, write } => {
                if let Some(at) = index(at) {
                    self.slice_at(at, write);
                }
            }
            Op::Iterate => self.iterate(),
            Op::Reserve { more } => {
                self.far.reserve(usize::from(more % 1024));
                assert!(self.far.capacity() >= len + usize::from(more % 1024));
            }
            Op::Clear => {
                self.far.clear();
                self.model.clear();
            }
            Op::Round => {
                farptr::fuzzing::round(self.mem);
            }
            Op::EvacuateAll => self.mem.evacuate_all().expect("far memory has room"),
            Op::Trim => self.mem.trim().expect("an embedded lender takes slabs back"),
            Op::Push { .. } => {}
        }
    }

    fn slices(&mut self, from: usize, to: usize, write: Option<u8>) {
        let range = from.min(to)..from.max(to);
        let mut next = range.start;
        let Some(seed) = write else {
            self.far.for_each_slice(range.clone(), |first, slice| {
                assert!(first == next && !slice.is_empty());
                slice.iter().zip(&self.model[first..]).for_each(|(far, model)| far.assert_is(model));
                next += slice.len();
            });
            return assert_eq!(next, range.end);
        };
        // Made before, since making may need room.
        let models: Vec<T::Model> = range.clone().map(|_| self.model(seed)).collect();
        let mut new: Vec<T> = models.iter().map(|model| T::make(model, self.mem)).collect();
        self.far.for_each_slice_mut(range.clone(), |first, slice| {
            assert!(first == next && !slice.is_empty());
            slice.swap_with_slice(&mut new[first - range.start..][..slice.len()]);
            next += slice.len();
        });
        assert_eq!(next, range.end);
        let old: Vec<_> = self.model.splice(range, models).collect();
        new.iter().zip(&old).for_each(|(far, model)| far.assert_is(model));
    }

    fn slice_at(&mut self, at: usize, write: Option<u8>) {
        let Some(seed) = write else {
            let scope = farptr::scope();
            return match self.far.try_slice_at(at, &scope) {
                // What the elements own is looked at elsewhere: in this scope it may not come in.
                Ok(slice) => assert!(!slice.is_empty() && slice.len() <= self.model.len() - at),
                Err(error) => assert!(matches!(error, farptr::Error::ScopeExhausted { .. }), "{error}"),
            };
        };
        let model = self.model(seed);
        let new = T::make(&model, self.mem);
        let scope = farptr::scope();
        let old = match self.far.try_slice_at_mut(at, &scope) {
            Ok(slice) => std::mem::replace(&mut slice[0], new),
            Err(error) => return assert!(matches!(error, farptr::Error::ScopeExhausted { .. }), "{error}"),
        };
        drop(scope);
        old.assert_is(&std::mem::replace(&mut self.model[at], model));
    }

    fn iterate(&self) {
        // One scope may see more than fits, and an iterator says so again and again.
        let scope = farptr::scope_non_temporal();
        let mut seen = 0;
        for element in self.far.iter(&scope) {
            match element {
                Ok(_) => seen += 1,
                Err(error) => return assert!(matches!(error, farptr::Error::ScopeExhausted { .. }), "{error}"),
            }
        }
        assert_eq!(seen, self.model.len());
    }

    fn compare(&self) {
        // What was lost on the way out shows when it comes back.
        self.mem.evacuate_all().expect("far memory has room");
        self.model.iter().enumerate().for_each(|(i, model)| {
            self.far.with(i, |far| far.assert_is(model)).expect("an element");
        });
    }
}
