//! The reserve: whoever begins a scope finds its share, whatever others take and whenever they come. Protocol: `crate::memory`, `reserve.rs`.
//!
//! Registry, clocks, grace periods and the count of threads are the real ones. The heap is a number of pieces under a lock, each a thread's whole share; [`Bank::left`] and the
//! floor of those who can wait follow `Heap::may_take`, and [`Bank::is_made_up`] follows `Memory::is_made_up`.
#![forbid(unsafe_code)]

use super::{check, saw};
use crate::scope::{Creditor, Registry, ThreadRecord};
use crate::sync::{Mutex, MutexGuard};
use loom::thread;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Instant;

#[derive(Debug)]
struct Pieces {
    free: usize,
    /// Taken, by whomever: what a grace period that begins now makes free.
    taken: usize,
    /// Kept for threads in scopes: one for each that is counted.
    kept: usize,
    /// Scopes that hold a piece, by their thread's number and clock.
    held: Vec<(usize, u64)>,
}

#[derive(Debug)]
struct Bank {
    pieces: Mutex<Pieces>,
}

impl Bank {
    fn new(free: usize) -> Arc<Self> {
        Arc::new(Bank { pieces: Mutex::new(Pieces { free, taken: 0, kept: 0, held: Vec::new() }) })
    }

    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody who can wait takes all that may be taken.
    fn take_what_is_not_kept(&self) {
        let mut pieces = self.lock();
        let more = pieces.free.saturating_sub(pieces.kept);
        pieces.free -= more;
        pieces.taken += more;
    }

    /// A thread takes its share in its scope, which is open.
    fn take_share(&self, record: &ThreadRecord) {
        let mut pieces = self.lock();
        assert!(pieces.free > 0, "a thread below its share finds room");
        pieces.free -= 1;
        pieces.taken += 1;
        pieces.held.push((record.number(), record.now()));
    }

    /// What is local when a grace period begins is free when it has ended.
    fn round(&self, registry: &Registry) {
        let victims = std::mem::take(&mut self.lock().taken);
        assert!(registry.begin_grace().wait_until(Instant::now()));
        self.lock().free += victims;
    }

    fn is_made_up(&self, registry: &Registry) -> bool {
        let open = registry.open_scopes();
        let held = open.iter().filter(|scope| self.lock().held.contains(&(scope.number, scope.clock))).count();
        let pieces = self.lock();
        held + pieces.free >= pieces.kept
    }

    fn pay(&self, registry: &Registry) {
        while !self.is_made_up(registry) {
            saw("paid");
            self.round(registry);
            // What is missing may be another payer's victims.
            thread::yield_now();
        }
    }

    fn one_scope(&self, record: &ThreadRecord) {
        record.enter();
        self.take_share(record);
        record.leave();
    }
}

impl Creditor for Bank {
    fn threads(&self, living: usize) {
        self.lock().kept = living;
    }

    fn collect(&self) {}
}

fn bank(registry: &Registry, free: usize) -> Arc<Bank> {
    let bank = Bank::new(free);
    let weak: Weak<Bank> = Arc::downgrade(&bank);
    registry.add_creditor(weak);
    bank
}

#[test]
fn a_thread_that_has_paid_finds_its_share_again() {
    check(2, &["paid"], || {
        let registry = Arc::new(Registry::new());
        let bank = bank(&registry, 3);
        let records = [registry.register(), registry.register()];
        let threads = records.map(|record| {
            let (bank, registry) = (Arc::clone(&bank), Arc::clone(&registry));
            thread::spawn(move || {
                bank.one_scope(&record);
                bank.pay(&registry);
                bank.one_scope(&record);
            })
        });
        bank.take_what_is_not_kept();
        threads.map(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_new_thread_finds_a_share_that_those_who_can_wait_have_not_taken_meanwhile() {
    check(2, &["paid"], || {
        let registry = Arc::new(Registry::new());
        let bank = bank(&registry, 3);
        let record = registry.register();
        let threads = [
            thread::spawn({
                let bank = Arc::clone(&bank);
                move || bank.one_scope(&record)
            }),
            thread::spawn({
                let (bank, registry) = (Arc::clone(&bank), Arc::clone(&registry));
                move || {
                    let record = registry.register();
                    bank.pay(&registry);
                    bank.one_scope(&record);
                }
            }),
        ];
        bank.take_what_is_not_kept();
        thread::yield_now();
        bank.take_what_is_not_kept();
        threads.map(|thread| thread.join().unwrap());
    });
}
