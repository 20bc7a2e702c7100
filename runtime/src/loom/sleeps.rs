//! Going to sleep against being woken: alarms, and the end of a turn. Loom knows no time: a sleep ends by a wake-up or not at all.
#![forbid(unsafe_code)]

use super::{check, saw};
use crate::alarm::Alarm;
use crate::sync::{AtomicU64, Ordering, yield_now};
use crate::turns::Turns;
use loom::thread;
use std::rc::Rc;
use std::time::Duration;

const FOR_EVER: Duration = Duration::MAX;

/// Looks for `pieces` of work and sleeps until it has found them all. Follows `Evacuator::serve`.
fn serve(alarm: &Alarm, work: &[AtomicU64]) {
    alarm.attach();
    loop {
        alarm.look();
        // As the heap's flag that it is low.
        if work.iter().all(|piece| piece.load(Ordering::Relaxed) == 1) {
            return;
        }
        saw("went to sleep");
        alarm.sleep(FOR_EVER);
    }
}

fn rings_against_sleep(ringers: usize) {
    let alarm = Rc::new(Alarm::default());
    let work: Rc<Vec<_>> = Rc::new((0..ringers).map(|_| AtomicU64::new(0)).collect());
    let sleeper = thread::spawn({
        let (alarm, work) = (Rc::clone(&alarm), Rc::clone(&work));
        move || serve(&alarm, &work)
    });
    let ring = |alarm: &Alarm, work: &[AtomicU64], n: usize| {
        work[n].store(1, Ordering::Relaxed);
        alarm.ring();
    };
    let others: Vec<_> = (1..ringers)
        .map(|n| {
            let (alarm, work) = (Rc::clone(&alarm), Rc::clone(&work));
            thread::spawn(move || ring(&alarm, &work, n))
        })
        .collect();
    ring(&alarm, &work, 0);
    others.into_iter().for_each(|other| other.join().unwrap());
    sleeper.join().unwrap();
}

/// The sleeper is just starting, looking, or going to sleep.
#[test]
fn ring_is_not_lost_to_going_to_sleep() {
    check(4, &["went to sleep"], || rings_against_sleep(1));
}

/// The second finds the sleeper rung by the first, which may be for a look that has begun already.
#[test]
fn two_rings_are_not_lost() {
    check(2, &["went to sleep"], || rings_against_sleep(2));
}

/// Takes one unit of room, or a turn of its own, which frees nothing, or waits for the end of another's. Follows `Memory::make_room` and
/// `Evacuator::relieve`.
fn wait_for_room(turns: &Turns<()>, room: &AtomicU64) {
    loop {
        let units = room.load(Ordering::Acquire);
        if units > 0 && room.compare_exchange(units, units - 1, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return;
        }
        match turns.try_take() {
            Some(turn) => {
                saw("took a turn of its own");
                turn.end_quietly();
                yield_now();
            }
            None => {
                saw("waited for a turn to end");
                turns.wait(FOR_EVER);
            }
        }
    }
}

/// The turn ends between the waiter's look whether there is one and its going to sleep, or before, or after.
#[test]
fn waiter_for_room_is_told_of_the_end_of_a_turn() {
    check(5, &["took a turn of its own", "waited for a turn to end"], || {
        let (turns, room) = (Rc::new(Turns::<()>::default()), Rc::new(AtomicU64::new(0)));
        let waiter = thread::spawn({
            let (turns, room) = (Rc::clone(&turns), Rc::clone(&room));
            move || wait_for_room(&turns, &room)
        });
        let turn = turns.take();
        room.store(1, Ordering::Release);
        drop(turn);
        waiter.join().unwrap();
    });
}

/// Whoever waits is told, not one of them.
#[test]
fn two_wait_for_the_end_of_a_turn() {
    check(2, &["nothing to wait for", "waited"], || {
        let (turns, room) = (Rc::new(Turns::<()>::default()), Rc::new(AtomicU64::new(0)));
        let turn = turns.take();
        let waiters = [(); 2].map(|()| {
            let (turns, room) = (Rc::clone(&turns), Rc::clone(&room));
            thread::spawn(move || {
                if room.load(Ordering::Acquire) > 0 {
                    return saw("nothing to wait for");
                }
                turns.wait(FOR_EVER);
                assert_eq!(room.load(Ordering::Acquire), 2, "the turn is over");
                saw("waited");
            })
        });
        room.store(2, Ordering::Release);
        drop(turn);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}
