//! Large objects: the writer takes the mark away and waits until the evacuator has copied the piece that it is at.
//!
//! The evacuator's sequence is that of `evacuator/src/large.rs` (`copy_pieces`, `give_up`, `finish_one`), which can't run here for its table,
//! slots and log: over two pieces, and with a far copy that is never read. What a mutator does is [`steps`].
#![forbid(unsafe_code)]

use super::{check, saw};
use crate::addr::{LargeId, ObjectAddr};
use crate::scope::{AccessHint, Registry, ThreadRecord};
use crate::steps::{self, Access, Mark};
use crate::sync::yield_now;
use crate::word::{FarPlace, Freshness, Slot, Stamp, State, Warmth, Word};
use loom::cell::Cell as Bytes;
use loom::thread;
use std::rc::Rc;
use std::time::Instant;

const PIECES: usize = 2;

struct Large {
    registry: Registry,
    slot: Slot,
    pieces: [Bytes<u64>; PIECES],
}

fn addr() -> ObjectAddr {
    ObjectAddr::new(4096)
}

impl Large {
    fn new(warmth: Warmth) -> Rc<Self> {
        Rc::new(Large {
            registry: Registry::new(),
            slot: Slot::new(Word::present(addr(), Freshness::Dirty, warmth)),
            pieces: std::array::from_fn(|_| Bytes::new(1)),
        })
    }

    /// Marks, waits, copies, lets go. Afterwards the mapping is gone if the object is.
    fn evacuate(&self) {
        let marked = steps::mark(&self.slot, addr(), false);
        assert!(self.registry.begin_grace().wait_until(Instant::now()));
        let Mark::Marked(word) = marked else { return };
        let finished = self.copy_pieces(word).and_then(|(word, copy)| {
            let left = self.slot.finish_absent(word, FarPlace::Large(LargeId(1)), Stamp(1));
            left.map(|_| copy).map_err(|_| word)
        });
        match finished {
            Ok(copy) => {
                saw("left");
                assert_eq!(copy[0], copy[1], "the far copy is of one moment");
                self.pieces.iter().for_each(|piece| piece.set(u64::MAX));
            }
            Err(word) => {
                saw("given up");
                let _ = steps::keep(&self.slot, word, addr());
            }
        }
    }

    /// The word to finish from and the copy, or the word last known.
    fn copy_pieces(&self, mut marked: Word) -> Result<(Word, [u64; PIECES]), Word> {
        let mut copy = [0; PIECES];
        for (number, (to, piece)) in copy.iter_mut().zip(&self.pieces).enumerate() {
            let Ok(copying) = self.slot.mark_copying(marked) else {
                if number > 0 {
                    saw("stopped between pieces");
                }
                return Err(marked);
            };
            *to = piece.get();
            marked = self.slot.end_copying(copying).map_err(|_| copying)?;
        }
        Ok((marked, copy))
    }

    /// A whole read or write in one scope; nothing if the object has left.
    fn access(&self, record: &ThreadRecord, write: Option<u64>) {
        record.enter();
        loop {
            let word = self.slot.load();
            let State::Present(_) = word.state() else {
                saw("too late");
                break;
            };
            let step = match write {
                Some(_) => steps::write_large(&self.slot, word),
                None => steps::read(&self.slot, word, AccessHint::Normal),
            };
            match (step, write) {
                (Access::Granted, Some(value)) => {
                    self.pieces.iter().for_each(|piece| piece.set(value));
                    break;
                }
                (Access::Granted, None) => {
                    assert_eq!(self.pieces[0].get(), self.pieces[1].get());
                    break;
                }
                (Access::Again, _) => {}
                (Access::Wait, Some(_)) => {
                    saw("waited");
                    yield_now();
                }
                other => panic!("a large dirty object: {other:?}"),
            }
        }
        record.leave();
    }

    fn check_end(&self) {
        let word = self.slot.load();
        assert!(!word.is_evacuating() && !word.is_relocating() && !word.is_copying(), "marked at the end: {word:?}");
    }
}

fn against(warmth: Warmth, accesses: &'static [Option<u64>]) {
    let large = Large::new(warmth);
    let (its, record) = (Rc::clone(&large), large.registry.register());
    let mutator = thread::spawn(move || accesses.iter().for_each(|write| its.access(&record, *write)));
    large.evacuate();
    mutator.join().unwrap();
    large.check_end();
}

#[test]
fn writer_waits_until_the_evacuator_stops_reading() {
    check(3, &["left", "given up", "stopped between pieces", "waited", "too late"], || against(Warmth::Cold, &[Some(2)]));
}

#[test]
fn writer_of_a_hot_object_writes_twice() {
    check(3, &["left", "given up", "waited", "too late"], || against(Warmth::Hot, &[Some(2), Some(3)]));
}

#[test]
fn object_rescued_by_a_read_is_not_written_while_it_is_copied() {
    check(3, &["left", "given up", "stopped between pieces", "waited", "too late"], || against(Warmth::Cold, &[None, Some(2)]));
}

/// A rescuing reader beside; then a writer that the program orders after it.
#[test]
fn reader_and_writer_in_two_threads() {
    check(2, &["left", "given up", "waited", "too late"], || {
        let large = Large::new(Warmth::Cold);
        let records = [large.registry.register(), large.registry.register()];
        let its = Rc::clone(&large);
        let mutators = thread::spawn(move || {
            let [first, second] = records;
            let reads = Rc::clone(&its);
            thread::spawn(move || reads.access(&first, None)).join().unwrap();
            its.access(&second, Some(2));
        });
        large.evacuate();
        mutators.join().unwrap();
        large.check_end();
    });
}
