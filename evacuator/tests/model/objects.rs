//! All objects of the model, and what a mutator may do with them.
#![forbid(unsafe_code)]

use crate::lender::Lender;
use crate::object::{Object, Seen};
use farptr_runtime::Error;
use farptr_runtime::addr::{FAR_SEGMENT_BYTES, FarSegmentId};
use farptr_runtime::budget::Party;
use farptr_runtime::heap::LargeObject;
use farptr_runtime::memory::Memory;
use farptr_runtime::scope::AccessHint;
use farptr_runtime::slot::SLOTS_PER_BLOCK;
use std::alloc::Layout;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most bytes of contents: several times the local budget.
const MOST_BYTES: usize = 5 << 20;

/// Free blocks of slots that the slot table keeps, at most.
const SPARE_BLOCKS: usize = 16;

const PAGE: usize = 4096;

/// What a mutator does. An object is named by its number modulo how many there are.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    New { layout: Layout, count: u8, seed: u64 },
    Read { at: u16, count: u16, hint: AccessHint },
    Write { at: u16, count: u16, from: u16, seed: u64, hint: AccessHint },
    Take { at: u16 },
    GiveUp { at: u16, count: u16 },
    Pin { at: u16, count: u16 },
    Unpin { at: u16 },
}

/// The objects of one memory.
#[derive(Debug)]
pub(crate) struct Objects {
    memory: Arc<Memory>,
    lender: Arc<Lender>,
    live: Vec<Object>,
}

/// Some bytes that look like no others.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        bytes.extend((state ^ state >> 29).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

impl Objects {
    pub(crate) fn new(memory: &Arc<Memory>, lender: &Arc<Lender>) -> Self {
        Objects { memory: Arc::clone(memory), lender: Arc::clone(lender), live: Vec::new() }
    }

    fn bytes(&self) -> usize {
        self.live.iter().map(Object::len).sum()
    }

    fn pinned_bytes(&self) -> usize {
        // What is pinned keeps its segment, whatever its own size.
        let segment = self.memory.heap().segment_bytes();
        self.live.iter().filter(|object| object.pins() > 0).map(|object| object.len().max(segment)).sum()
    }

    /// Whether local memory may run out though everything works.
    pub(crate) fn may_run_short(&self) -> bool {
        // What is kept for scopes depends on how many threads other tests have.
        let heap = self.memory.heap();
        let kept = heap.floor(Party::Mutator) * heap.segment_bytes();
        self.lender.is_full() || self.pinned_bytes() > self.memory.budget().limit().saturating_sub(2 * kept) / 8
    }

    fn numbers(&self, at: u16, count: u16) -> impl Iterator<Item = usize> + use<> {
        let len = self.live.len();
        (0..usize::from(count).min(len)).map(move |step| (usize::from(at) + step) % len)
    }

    /// Does it. `between`: while a round is under way, which can't make room then.
    pub(crate) fn act(&mut self, action: &Action, between: bool) {
        let struck = self.lender.struck();
        if let Err(error) = self.attempt(action) {
            let is_struck = self.lender.struck() > struck;
            let is_fair = match error {
                Error::Transport { .. } => is_struck,
                Error::Corrupt { .. } => is_struck && self.lender.has_garbled(),
                Error::OutOfLocalMemory { .. } | Error::ScopeExhausted { .. } => between || is_struck || self.may_run_short(),
                Error::FarMemoryFull { .. } => self.lender.is_full(),
                _ => false,
            };
            assert!(is_fair, "{action:?}: {error}; {:?}", self.memory.stats());
        }
    }

    fn attempt(&mut self, action: &Action) -> Result<(), Error> {
        match *action {
            Action::New { layout, count, seed } => {
                for number in 0..u64::from(count) {
                    if self.bytes() + layout.size() > MOST_BYTES {
                        break;
                    }
                    let value = bytes(seed.wrapping_add(number << 17), layout.size());
                    self.live.push(Object::new(&self.memory, layout, value)?);
                }
            }
            Action::Read { at, count, hint } => {
                for number in self.numbers(at, count) {
                    self.live[number].read(&self.memory, hint)?;
                }
            }
            Action::Write { at, count, from, seed, hint } => {
                for number in self.numbers(at, count) {
                    let object = &mut self.live[number];
                    // A pin for reading borrows the object: nobody writes it.
                    if object.pins() == 0 {
                        let offset = usize::from(from) % (object.len() + 1);
                        object.write(&self.memory, offset, &bytes(seed, 1 + from as usize % 300), hint)?;
                    }
                }
            }
            Action::Take { at } => {
                for number in self.numbers(at, 1) {
                    self.live[number].take(&self.memory)?;
                    self.live.swap_remove(number).free();
                }
            }
            Action::GiveUp { at, count } => {
                for _ in 0..usize::from(count).min(self.live.len()) {
                    let number = usize::from(at) % self.live.len();
                    // With its pins, if it has any: those that were forgotten end with the object.
                    self.live.swap_remove(number).give_up(&self.memory);
                }
            }
            Action::Pin { at, count } => {
                for number in self.numbers(at, 1) {
                    for _ in 0..count {
                        self.live[number].pin(&self.memory)?;
                    }
                }
            }
            Action::Unpin { at } => self.unpin(usize::from(at)),
        }
        Ok(())
    }

    /// Takes all pins off the first pinned object from `at` on.
    fn unpin(&mut self, at: usize) {
        let len = self.live.len();
        let pinned = (0..len).map(|step| (at + step) % len).find(|number| self.live[*number].pins() > 0);
        if let Some(number) = pinned {
            while self.live[number].pins() > 0 {
                self.live[number].unpin(&self.memory);
            }
        }
    }

    pub(crate) fn give_all_up(&mut self) {
        for object in self.live.drain(..) {
            object.give_up(&self.memory);
        }
    }

    /// Whoever calls the lender may wait for it, and must not have a writer wait as well.
    pub(crate) fn assert_none_is_copied(&self) {
        let copied = self.live.iter().find(|object| object.word().is_copying());
        assert!(copied.is_none(), "a server is waited for while {:?}", copied.map(Object::word));
    }

    /// Every object that is not pinned is absent.
    pub(crate) fn assert_all_have_left(&self) {
        for object in &self.live {
            assert_eq!(object.word().is_present(), object.pins() > 0, "{:?}", object.word());
        }
    }

    /// The books: what the objects account for is what memory and lender say, to the byte. With `bytes`, every copy of every object is read.
    pub(crate) fn check(&self, bytes: bool) {
        self.lender.calmly(|| {
            let seen: Vec<Seen> = self.live.iter().map(|object| object.look(&self.memory, bytes)).collect();
            self.check_far(&seen);
            self.check_local(&seen);
        });
    }

    fn check_far(&self, seen: &[Seen]) {
        let far = self.memory.far();
        let mut by_segment: BTreeMap<FarSegmentId, usize> = BTreeMap::new();
        let mut ranges: Vec<(u64, usize)> = Vec::new();
        for (addr, bytes) in seen.iter().flat_map(|seen| &seen.images) {
            *by_segment.entry(addr.segment()).or_default() += bytes;
            assert!(addr.offset() + bytes <= FAR_SEGMENT_BYTES, "{addr:?}");
            ranges.push((addr.to_bits() * 16, *bytes));
        }
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 as u64 <= pair[1].0), "images overlap");
        for (segment, bytes) in &by_segment {
            assert_eq!(far.with_segment(*segment, |_, segment| segment.live_bytes()).unwrap(), *bytes, "{segment:?}");
        }
        assert_eq!(far.live_bytes(), by_segment.values().sum::<usize>() as u64, "far bytes that nobody refers to");
        assert_eq!(self.memory.large_fars().len(), seen.iter().filter(|seen| seen.has_pieces).count());
        assert!(by_segment.len() as u64 * FAR_SEGMENT_BYTES as u64 <= far.used_bytes());
        assert!(far.used_bytes() <= far.borrowed_bytes());
        assert_eq!(far.borrowed_bytes(), self.lender.lent_bytes());
    }

    fn check_local(&self, seen: &[Seen]) {
        let (memory, budget) = (&self.memory, self.memory.budget());
        assert!(budget.used() <= budget.limit());
        let present_large: Vec<usize> = self
            .live
            .iter()
            .zip(seen)
            .filter(|(object, seen)| seen.is_present && memory.is_large(object.layout()))
            .map(|(object, _)| LargeObject::footprint(object.layout()))
            .collect();
        assert_eq!(memory.large_objects().len(), present_large.len());
        let blocks: BTreeSet<u32> =
            seen.iter().flat_map(|seen| &seen.slots).map(|slot| slot.0 / SLOTS_PER_BLOCK as u32).collect();
        let spares = memory.spares().bytes();
        assert!(
            spares <= budget.limit() / 16 && (spares == 0 || !present_large.is_empty()),
            "{spares} bytes for large objects to come"
        );
        let rest = budget.used() - memory.heap().committed_bytes() - present_large.iter().sum::<usize>() - spares;
        assert!(rest.is_multiple_of(PAGE) && (blocks.len()..=blocks.len() + SPARE_BLOCKS).contains(&(rest / PAGE)), "{rest}");
    }
}
