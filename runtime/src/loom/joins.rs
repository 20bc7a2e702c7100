//! Waiting for a fetch that another has claimed, and for a session. What runs is the code itself ([`crate::memory::joined`], the word's transitions, [`crate::far::sessions`]); the
//! fetch is left out. Loom knows no time: a wake-up that is lost leaves a thread asleep for ever, which loom reports.
#![forbid(unsafe_code)]

use super::{check, saw};
use crate::addr::{FarAddr, FarSegmentId, ObjectAddr, SlotId};
use crate::far::sessions::Sessions;
use crate::memory::joined::{Joined, Sleeper};
use crate::memory::wakers::wake_all;
use crate::sync::{current, park_timeout};
use crate::word::{FarPlace, Freshness, Slot, Stamp, State, Warmth, Word};
use loom::thread;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

const FOR_EVER: Duration = Duration::MAX;
const ID: SlotId = SlotId(7);

struct World {
    slot: Slot,
    joined: Joined,
}

impl World {
    fn new() -> Rc<Self> {
        let slot = Slot::new(Word::vacant(SlotId::NONE));
        slot.init(Word::absent(FarPlace::At(FarAddr::new(FarSegmentId::new(0, 0), 0)), Stamp(0)));
        Rc::new(World { slot, joined: Joined::default() })
    }

    fn claim(&self) -> Word {
        self.slot.claim_fetch(self.slot.load()).expect("nobody else has it")
    }

    /// Follows `Memory::join_fetch` and `sleep_until_told`.
    fn join(&self) {
        let place = self.joined.register(ID, Waker::from(Arc::new(Sleeper(current()))), None);
        let claimed = self.slot.load();
        if !matches!(claimed.state(), State::Fetching(_)) || self.slot.confirm_fetch(claimed).is_err() {
            return saw("need not sleep");
        }
        while !place.is_told() {
            saw("slept");
            park_timeout(FOR_EVER);
        }
    }

    fn publish(&self, claimed: Word) {
        let to = Word::present(ObjectAddr::new(1 << 12), Freshness::Clean, Warmth::Fresh);
        self.slot.publish(claimed, to).expect("a claimed word is changed by its claimer only");
    }

    /// Follows `Memory::give_back`.
    fn give_back(&self, claimed: Word) {
        self.slot.abandon_fetch(claimed).expect("a claimed word is changed by its claimer only");
        self.joined.tell(ID);
    }

    /// Brings the object in, or waits for who does. Follows `Memory::bring_in`.
    fn prepare(&self) {
        loop {
            let word = self.slot.load();
            match word.state() {
                State::Present(_) => return,
                State::Fetching(_) => self.join(),
                _ => {
                    if let Ok(claimed) = self.slot.claim_fetch(word) {
                        self.publish(claimed);
                        self.joined.tell(ID);
                    }
                }
            }
        }
    }
}

#[test]
fn waiter_is_told_of_the_end_of_a_fetch() {
    check(4, &["need not sleep", "slept"], || {
        let world = World::new();
        let claimed = world.claim();
        let waiter = thread::spawn({
            let world = Rc::clone(&world);
            move || world.join()
        });
        world.publish(claimed);
        world.joined.tell(ID);
        waiter.join().unwrap();
    });
}

/// As a lane does, which holds its lock when the fetch ends.
#[test]
fn waiter_is_told_by_whoever_took_its_waker() {
    check(4, &["need not sleep", "slept"], || {
        let world = World::new();
        let claimed = world.claim();
        let waiter = thread::spawn({
            let world = Rc::clone(&world);
            move || world.join()
        });
        world.publish(claimed);
        wake_all(world.joined.take(ID));
        waiter.join().unwrap();
    });
}

/// The claim is given back, and another claims the same word: the second end is told, too, and the words' bits are the same.
#[test]
fn two_waiters_and_a_fetch_that_fails() {
    check(2, &["need not sleep", "slept"], || {
        let world = World::new();
        let claimed = world.claim();
        let waiters = [(); 2].map(|()| {
            let world = Rc::clone(&world);
            thread::spawn(move || world.prepare())
        });
        world.give_back(claimed);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert!(world.slot.load().is_present());
    });
}

/// One session for three threads, of whom one finds it broken.
#[test]
fn session_goes_to_a_thread_that_waits() {
    check(2, &["an idle session", "none yet"], || {
        let sessions = Rc::new(Sessions::<u32>::default());
        let use_one = |sessions: &Sessions<u32>, breaks: bool| {
            let (permit, session) = sessions.take(FOR_EVER).expect("patience without end");
            saw(if session.is_some() { "an idle session" } else { "none yet" });
            if !breaks {
                permit.give_back(session.unwrap_or(0));
            }
        };
        let others = [false, true].map(|breaks| {
            let sessions = Rc::clone(&sessions);
            thread::spawn(move || use_one(&sessions, breaks))
        });
        use_one(&sessions, false);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert!(sessions.take(Duration::ZERO).is_some(), "the permit is back");
    });
}
