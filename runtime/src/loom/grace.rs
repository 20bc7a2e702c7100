//! Scopes against grace periods: who could have missed a mark is waited for, and what it did is seen.
//!
//! The mark is a flag, the object one cell. A mutator uses the object only if it sees no mark.
#![forbid(unsafe_code)]

use super::{check, saw};
use crate::scope::{Registry, ThreadRecord};
use crate::sync::{AtomicU64, Ordering};
use loom::cell::Cell as Bytes;
use loom::thread;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

struct Marked {
    registry: Registry,
    mark: AtomicU64,
    bytes: Bytes<u64>,
}

impl Marked {
    fn new() -> Rc<Self> {
        Rc::new(Marked { registry: Registry::new(), mark: AtomicU64::new(0), bytes: Bytes::new(0) })
    }

    /// What a mutator does in a scope. Relaxed: what orders it with the mark are the fences.
    fn use_unless_marked(&self) {
        if self.mark.load(Ordering::Relaxed) == 0 {
            saw("used");
            self.bytes.set(self.bytes.get() + 1);
        } else {
            saw("kept away");
        }
    }

    fn one_scope(&self, record: &ThreadRecord) {
        record.enter();
        self.use_unless_marked();
        record.leave();
    }

    /// What the evacuator does: after the grace period the bytes are its own.
    fn evacuate(&self) {
        self.mark.store(1, Ordering::Relaxed);
        assert!(self.registry.begin_grace().wait_until(Instant::now()));
        self.bytes.set(u64::MAX);
    }
}

#[test]
fn scope_that_missed_the_mark_is_waited_for() {
    check(3, &["used", "kept away"], || {
        let marked = Marked::new();
        let record = marked.registry.register();
        let its = Rc::clone(&marked);
        let mutator = thread::spawn(move || its.one_scope(&record));
        marked.evacuate();
        mutator.join().unwrap();
    });
}

#[test]
fn writes_of_a_scope_are_seen_also_when_the_next_one_is_open() {
    check(3, &["used", "kept away"], || {
        let marked = Marked::new();
        let record = marked.registry.register();
        let its = Rc::clone(&marked);
        let mutator = thread::spawn(move || {
            its.one_scope(&record);
            its.one_scope(&record);
        });
        marked.evacuate();
        mutator.join().unwrap();
    });
}

#[test]
fn refresh_is_an_end_and_a_beginning() {
    check(3, &["used", "kept away"], || {
        let marked = Marked::new();
        let record = marked.registry.register();
        let its = Rc::clone(&marked);
        let mutator = thread::spawn(move || {
            record.enter();
            its.use_unless_marked();
            record.refresh();
            its.use_unless_marked();
            record.leave();
        });
        marked.evacuate();
        mutator.join().unwrap();
    });
}

#[test]
fn thread_that_registers_late_sees_the_mark_or_is_waited_for() {
    check(3, &["used", "kept away"], || {
        let marked = Marked::new();
        let its = Rc::clone(&marked);
        let mutator = thread::spawn(move || its.one_scope(&its.registry.register()));
        marked.evacuate();
        mutator.join().unwrap();
    });
}

/// Two mutators and the evacuator; the second may get the first one's record. Each has bytes of its own, since scopes do not order mutators.
#[test]
fn record_serves_one_thread_after_another() {
    check(2, &["used", "kept away", "same record"], || {
        let marked = Marked::new();
        let firsts = Rc::new(Cell::new(0));
        let mutator = |bytes: &Rc<Bytes<u64>>| {
            let (its, firsts, bytes) = (Rc::clone(&marked), Rc::clone(&firsts), Rc::clone(bytes));
            thread::spawn(move || {
                let record = its.registry.register();
                if record.number() == 0 && firsts.replace(1) == 1 {
                    saw("same record");
                }
                record.enter();
                if its.mark.load(Ordering::Relaxed) == 0 {
                    saw("used");
                    bytes.set(1);
                } else {
                    saw("kept away");
                }
                record.leave();
                its.registry.release(record);
            })
        };
        let bytes = [Rc::new(Bytes::new(0)), Rc::new(Bytes::new(0))];
        let threads = [mutator(&bytes[0]), mutator(&bytes[1])];
        marked.evacuate();
        bytes.iter().for_each(|bytes| bytes.set(2));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
