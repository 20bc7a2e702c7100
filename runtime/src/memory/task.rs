//! The async side of a miss: futures that bring objects in.
#![forbid(unsafe_code)]

use super::Memory;
use super::joined::Place;
use super::lane::Flight;
use super::reads::Reads;
use crate::budget::Party;
use crate::error::Result;
use crate::forked;
use crate::heap::LargeObject;
use crate::scope::{AccessHint, in_scope};
use crate::word::{FarPlace, Slot, State, Word};
use std::alloc::Layout;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

/// Polls in which a future that waits for another thread's fetch, or for memory, asks to be polled again at once. Later it waits for ticks.
const EAGER_POLLS: u32 = 200;

/// Numbers for futures, so that a lane knows its driver.
static FUTURES: AtomicU64 = AtomicU64::new(1);

/// Brings an object in. Resolves when the object was present, which it may no longer be when the caller looks.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct BringIn<'a> {
    memory: &'a Memory,
    slot: &'a Slot,
    layout: Layout,
    hint: AccessHint,
    who: u64,
    flight: Option<Flight<Reads>>,
    polls: u32,
    started: Option<Instant>,
    /// Its place among those that wait for others' fetches, and since when it has seen this fetch or a next one.
    joined: Option<Place<'a>>,
    joined_since: Option<Instant>,
}

impl Memory {
    /// Brings an object in, without blocking the thread. The claim and the bytes on their way survive the future.
    pub fn bring_in_async<'a>(&'a self, slot: &'a Slot, layout: Layout, hint: AccessHint) -> BringIn<'a> {
        let who = FUTURES.fetch_add(1, Ordering::Relaxed);
        BringIn { memory: self, slot, layout, hint, who, flight: None, polls: 0, started: None, joined: None, joined_since: None }
    }

    /// Waits until `ready` says yes, at most for the memory's timeout.
    ///
    /// # Errors
    /// `OutOfLocalMemory` after that time.
    pub async fn room_async(&self) -> Result<()> {
        let started = Instant::now();
        std::future::poll_fn(|context| {
            forked::check()?;
            if self.heap.has_room_for(Party::Mutator, &self.budget) {
                return Poll::Ready(Ok(()));
            }
            if in_scope() {
                return Poll::Ready(Err(self.refused_in_scope(self.heap.segment_bytes())));
            }
            if self.assist() {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.want(self.heap.segment_bytes());
            if started.elapsed() > self.timeout {
                return Poll::Ready(Err(self.too_late(self.heap.segment_bytes())));
            }
            self.tick(Some(context.waker()));
            Poll::Pending
        })
        .await
    }
}

impl BringIn<'_> {
    /// A look at the word; `None` if it must be looked at again.
    fn step(&mut self, context: &mut Context<'_>) -> Option<Poll<Result<()>>> {
        if let Some(flight) = &mut self.flight {
            let memory = self.memory;
            let poll = flight.poll(memory, Instant::now, context.waker(), |waker| memory.tick(waker));
            if poll.is_ready() {
                self.flight = None;
            }
            return Some(poll);
        }
        // Told, or polled for another reason.
        if self.joined.take().is_some_and(|place| place.is_told()) {
            self.joined_since = None;
        }
        let word = self.slot.load();
        match word.state() {
            State::Present(_) => Some(Poll::Ready(Ok(()))),
            State::Absent(place) => self.begin(place, word, context),
            State::Fetching(_) => {
                let lane = self.memory.lane();
                let id = self.memory.slots.id_of(self.slot);
                match lane.find(|reads| reads.find(id)) {
                    Some(ending) => {
                        self.flight = Some(Flight::new(lane, ending, self.who));
                        None
                    }
                    None => Some(self.join(context, word)),
                }
            }
            State::Vacant => unreachable!("a pointer's slot is in use as long as the pointer lives"),
        }
    }

    fn begin(&mut self, place: FarPlace, word: Word, context: &mut Context<'_>) -> Option<Poll<Result<()>>> {
        let claimed = self.slot.claim_fetch(word).ok()?;
        let memory = self.memory;
        match memory.try_fetch_room(self.slot, claimed, place, self.layout, self.hint) {
            Ok(Some(object)) if memory.is_immediate(place) => {
                Some(Poll::Ready(memory.fetch_into(self.slot, claimed, place, object, self.layout)))
            }
            Ok(Some(object)) => {
                let lane = memory.lane();
                let ending = lane.begin(|reads| reads.begin(memory, self.slot, claimed, object, self.layout));
                self.flight = Some(Flight::new(lane, ending, self.who));
                None
            }
            Ok(None) => {
                memory.give_back(self.slot, claimed);
                // As for the blocking forms: what would make room waits for this thread's scope.
                if in_scope() {
                    return Some(Poll::Ready(Err(memory.refused_in_scope(self.layout.size()))));
                }
                // A round of one's own is over before the evacuator's thread would have been given a processor.
                if memory.assist() {
                    return None;
                }
                memory.want(LargeObject::footprint(self.layout));
                Some(self.wait(context))
            }
            Err(error) => {
                memory.give_back(self.slot, claimed);
                Some(Poll::Ready(Err(error)))
            }
        }
    }

    /// Waits until the fetch that `claimed` says is another's has ended: see [`super::joined`]. Fails after the timeout.
    fn join(&mut self, context: &mut Context<'_>, claimed: Word) -> Poll<Result<()>> {
        let memory = self.memory;
        let since = *self.joined_since.get_or_insert_with(Instant::now);
        if since.elapsed() > memory.timeout {
            return Poll::Ready(Err(memory.fetch_timeout(since.elapsed())));
        }
        self.polls = self.polls.saturating_add(1);
        if self.polls < EAGER_POLLS {
            memory.help_fetches();
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Anew with each poll: the task may have another waker now.
        let deadline = since.checked_add(memory.timeout);
        self.joined = Some(memory.joined.register(memory.slots.id_of(self.slot), context.waker().clone(), deadline));
        if self.slot.confirm_fetch(claimed).is_err() || !memory.tick(None) {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Waits for memory, at most for the timeout.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let started = *self.started.get_or_insert_with(Instant::now);
        self.polls = self.polls.saturating_add(1);
        if started.elapsed() > self.memory.timeout {
            return Poll::Ready(Err(self.memory.too_late(self.layout.size())));
        }
        if self.polls < EAGER_POLLS {
            self.memory.help_fetches();
            context.waker().wake_by_ref();
        } else {
            self.memory.tick(Some(context.waker()));
        }
        Poll::Pending
    }
}

impl Future for BringIn<'_> {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        forked::check()?;
        #[cfg(farptr_zeal)]
        this.memory.legal_point();
        loop {
            if let Some(poll) = this.step(context) {
                return poll;
            }
        }
    }
}

impl Drop for BringIn<'_> {
    /// The fetch goes on without the future: somebody must look after it.
    fn drop(&mut self) {
        if forked::is_child() {
            // Both would tell others that it is over, under locks.
            std::mem::forget((self.flight.take(), self.joined.take()));
        }
        if self.flight.take().is_some() {
            self.memory.tick(None);
        }
    }
}
