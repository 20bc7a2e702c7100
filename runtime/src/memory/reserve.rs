//! The reserve: why a deref in a scope does not fail by bad luck.
//!
//! A thread in a scope must not wait for evacuation: the grace period that would free memory waits for its scope. So it is served at once, if need be from
//! segments that are kept for this, or refused at once.
//!
//! # The rule
//! A thread's **holding** is the local memory that it has taken since its outermost scope began or was refreshed. Its **share** is a quarter of the heap divided by the
//! threads that have a scope open, at most 256 KiB ([`Heap::share`](crate::heap::Heap::share)). While its holding is below its share, an object that is no larger than a full chunk gets
//! room, for a fetch or for a writer's copy. A thread that took its part while fewer had a scope open keeps that until its scope ends; what the others may take beyond
//! their first deref is then what is left. So who takes more than a first deref leaves one to each thread that holds nothing.
//!
//! # Who does what
//! | who | when | does |
//! |---|---|---|
//! | anybody who can wait | takes local memory | leaves the reserve: [`Party::Mutator`], [`Party::Creator`] |
//! | thread in a scope | takes local memory | notes it in its holding; if those above must leave what is left, and it is below its share, takes from the reserve ([`Party::Scope`]), and is in debt |
//! | thread in debt | its next outermost scope would begin, or is refreshed | pays: runs rounds, or waits for another's, until the reserve has what the others may still take and a share besides; at most `timeout` |
//! | new thread | its first scope would begin | is counted, which makes the reserve larger, then pays |
//! | evacuator | a heap's worth of objects has left since the last new thread | lets the reserve shrink to what the threads there are need |
//!
//! # Why it is enough
//! Let `N` threads be counted. The reserve is kept as large as all `N` may take: their shares, and a first deref each. A thread that begins a scope has no debt, so what
//! it may take is there, and stays there: those who can wait don't touch it, and each other thread takes its own part at most before it pays. The evacuator has segments of its
//! own and no others. A thread that is not counted yet pays before its first scope, after it has been counted: whoever takes a segment later leaves the larger reserve, and whoever took one before
//! is seen, because both hold the heap's lock.
//!
//! **Threads come in groups.** Each is counted when it begins its first scope, and the others of its group may have theirs open by then and be waiting for it, at a barrier say: then nothing
//! can become free for it. So a new thread makes the reserve large enough for [`GROUP`] more, while the first of the group finds no scope open. What no thread comes for is cached in again
//! when the heap has turned over once, or an operation would fail for want of it.
//!
//! It holds only while payments succeed: a scope that outlasts `timeout` ends all evacuation. Then derefs go on until the reserve is used up, and the error after that names that scope's thread.
//! What a thread in a scope waits for besides memory is another's fetch. So **nobody waits for room while it has a claim**: see [`super::miss`].
//!
//! The model `loom::reserve` tries all orders of three threads.

use super::Memory;
use super::object::Origin;
use super::room::Waiting;
use crate::addr::ObjectAddr;
use crate::error::Error;
use crate::heap::{HEADER_BYTES, QueueKind};
use crate::scope::{self, Creditor, OpenScope};
use crate::sys;
use std::alloc::Layout;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// Threads that may follow a new one so closely that nothing can become free for them.
const GROUP: usize = 64;

/// What one thread has taken in one scope. Written by its thread.
#[derive(Debug, Default)]
pub(super) struct Holding {
    /// The clock of the scope.
    clock: AtomicU64,
    bytes: AtomicUsize,
}

impl Holding {
    /// Bytes taken in the scope of this clock. Of another thread: roughly.
    fn in_scope(&self, clock: u64) -> usize {
        // Acquire: partner of `add`; the bytes are those of this clock or of a later one.
        if self.clock.load(Ordering::Acquire) == clock { self.bytes.load(Ordering::Relaxed) } else { 0 }
    }

    fn add(&self, clock: u64, bytes: usize) {
        let before = self.in_scope(clock);
        self.bytes.store(before + bytes, Ordering::Relaxed);
        self.clock.store(clock, Ordering::Release);
    }
}

/// Bytes of the log that an object of `layout` takes.
fn footprint(layout: Layout) -> usize {
    let gap = layout.align().saturating_sub(HEADER_BYTES);
    gap + (HEADER_BYTES + layout.size()).next_multiple_of(HEADER_BYTES)
}

impl Memory {
    fn with_holding<R>(&self, thread: usize, f: impl Fn(&Holding) -> R) -> R {
        let known = self.holdings.read(|holdings| holdings.get(thread).and_then(Option::as_ref).map(|holding| f(holding)));
        known.unwrap_or_else(|| {
            let holding = self.holdings.update(|holdings| {
                if holdings.len() <= thread {
                    holdings.resize(thread + 1, None);
                }
                Arc::clone(holdings[thread].get_or_insert_default())
            });
            f(&holding)
        })
    }

    /// The calling thread has taken room for an object of `layout`. Counts if it is in a scope.
    #[inline]
    pub(super) fn note_taken(&self, layout: Layout) {
        if let Some(clock) = scope::current_clock() {
            self.with_holding(scope::thread_number(), |holding| holding.add(clock, footprint(layout)));
        }
    }

    /// What the calling thread holds, in the scope of this clock.
    fn held(&self, clock: u64) -> usize {
        self.with_holding(scope::thread_number(), |holding| holding.in_scope(clock))
    }

    /// Room out of the reserve, if the calling thread is in a scope and below its share.
    #[cold]
    pub(super) fn alloc_reserved(&self, kind: QueueKind, layout: Layout, origin: Origin) -> Option<ObjectAddr> {
        if matches!(origin, Origin::New) || !self.heap.is_reservable(layout) {
            return None;
        }
        let held = self.held(scope::current_clock()?);
        let first = held == 0;
        // There are no more open scopes than threads, so that they need not be counted every time.
        let share = |threads| held < self.heap.share(threads);
        if !share(self.threads.load(Ordering::Relaxed)) && !share(scope::count_open()) {
            return None;
        }
        let alloc = |leave| self.heap.alloc_reserved(kind, layout, &self.budget, leave).ok();
        let addr = if first {
            alloc(0)?
        } else {
            // Of those who may begin a scope, or have begun one, each finds its first deref whatever this one takes.
            let firsts_of_all = self.heap.first_derefs_of(self.kept_for());
            alloc(firsts_of_all).or_else(|| alloc(self.firsts_to_come(self.kept_for(), &scope::open_scopes())))?
        };
        scope::owe(self.weak.clone());
        self.counters.reserved.fetch_add(1, Ordering::Relaxed);
        Some(addr)
    }

    /// What of the reserve is for those of `threads` threads that hold nothing in a scope, and may have their first deref at any time.
    fn firsts_to_come(&self, threads: usize, open: &[OpenScope]) -> usize {
        let hold = open.iter().filter(|scope| self.held_in(scope) > 0).count();
        self.heap.first_derefs_of(threads.saturating_sub(hold))
    }

    /// The error of a thread in a scope that was refused.
    #[cold]
    pub(super) fn scope_exhausted(&self, needed: usize) -> Error {
        let (open, own) = (scope::open_scopes(), scope::thread_number());
        let holders = open.iter().filter(|scope| scope.number != own);
        let largest = holders.max_by_key(|scope| (scope.age >= self.timeout, self.held_in(scope)));
        let (held, share) = (scope::current_clock().map_or(0, |clock| self.held(clock)), self.heap.share(open.len()));
        let mut others = largest.map_or_else(String::new, |scope| format!("; {}", self.describe(scope)));
        if held < share && largest.is_none_or(|scope| scope.age < self.timeout) {
            others.push_str("; below the share what is new or larger than a chunk may be refused, and what comes after scopes that began when fewer were open: outside scopes it is waited for");
        }
        Error::ScopeExhausted { needed, held, share, budget: self.budget.limit(), others }
    }

    fn held_in(&self, scope: &OpenScope) -> usize {
        self.with_holding(scope.number, |holding| holding.in_scope(scope.clock))
    }

    fn describe(&self, scope: &OpenScope) -> String {
        let name = sys::thread_name(scope.tid).unwrap_or_else(|| "?".into());
        let age = scope.age.as_millis();
        let held = self.held_in(scope);
        format!(
            "thread {name:?} ({}) has a scope open, for at least {age} ms, in which it took {held} bytes of this far memory",
            scope.tid
        )
    }

    /// Names the scope for which evacuation has waited longest, if one holds it back now.
    pub fn overdue_scope(&self) -> Option<String> {
        let open = scope::open_scopes();
        let longest = open.iter().filter(|scope| !scope.age.is_zero()).max_by_key(|scope| scope.age)?;
        Some(format!("evacuation waits for a dereference scope: {}", self.describe(longest)))
    }

    /// Threads that the reserve is for.
    fn kept_for(&self) -> usize {
        let living = self.threads.load(Ordering::Relaxed);
        let more_may_come = self.evacuated.load(Ordering::Relaxed) < self.group_until.load(Ordering::Relaxed);
        if more_may_come { living + GROUP } else { living }
    }

    /// An operation would fail for want of memory, and all that can leave has left: what is kept for threads that may come is given up. Whether anything was.
    pub fn forget_group(&self) -> bool {
        let was_awaited = self.evacuated.load(Ordering::Relaxed) < self.group_until.swap(0, Ordering::Relaxed);
        self.shrink_reserve();
        was_awaited
    }

    /// Lets the reserve shrink if no more threads have come. For the evacuator, when it has made room.
    pub(super) fn shrink_reserve(&self) {
        self.heap.keep_for_scopes(self.kept_for());
    }

    /// Whether a scope has held evacuation back for longer than any operation waits.
    pub(super) fn is_overdue(&self) -> bool {
        scope::open_scopes().iter().any(|scope| scope.age >= self.timeout)
    }

    /// Whether the reserve has what those in scopes may still take, and a share for one more.
    fn is_made_up(&self) -> bool {
        let wanted = self.heap.reserve_for(self.kept_for());
        if self.heap.left_for_scopes(&self.budget) >= wanted {
            return true;
        }
        // What is held first, then what is left: the other way round, what is taken meanwhile would count as both. Nobody has more of the reserve than the largest share: the
        // rest was there for all.
        let open = scope::open_scopes();
        let held: usize = open.iter().map(|scope| self.held_in(scope).min(self.heap.share(1))).sum();
        let firsts = self.firsts_to_come(self.threads.load(Ordering::Relaxed), &open);
        let left = self.heap.left_for_scopes(&self.budget);
        left >= firsts && held + left >= wanted
    }
}

impl Creditor for Memory {
    fn threads(&self, living: usize) {
        if self.threads.swap(living, Ordering::Relaxed) < living {
            let turnover = self.evacuated.load(Ordering::Relaxed) + self.budget.limit() as u64;
            self.group_until.store(turnover, Ordering::Relaxed);
        }
        self.heap.keep_for_scopes(self.kept_for());
    }

    fn collect(&self) {
        if self.is_made_up() {
            return;
        }
        let deadline = Instant::now() + self.timeout;
        let mut waiting = Waiting::default();
        self.drop_spares();
        while !self.is_made_up() && Instant::now() < deadline {
            // A scope that has been waited for as long as anything is: from here on the reserve is what there is, and the evacuator's thread goes on trying.
            if self.is_overdue() {
                self.kick_if_low();
                return;
            }
            // An error is for the deref that then finds no room.
            if self.relieve(self.heap.segment_bytes(), &mut waiting).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holding_is_that_of_one_scope() {
        let holding = Holding::default();
        holding.add(1, 100);
        holding.add(1, 20);
        assert_eq!((holding.in_scope(1), holding.in_scope(3)), (120, 0));
        holding.add(3, 5);
        assert_eq!((holding.in_scope(1), holding.in_scope(3)), (0, 5));
    }
}
