//! Far memories in front of servers with particular faults: the stories of bugs that torture found.
#![forbid(unsafe_code)]

mod common;

use common::{assert_empty, numbers};
use farptr::faults::{Damage, FaultPlan, Faults, Kind, Rates};
use farptr::{Error, FarMemory, RemBox};
use std::future::Future;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

fn faults(seed: u64, rates: Rates) -> Faults {
    Faults::new(FaultPlan { rates, ..FaultPlan::new(seed) })
}

fn memory(faults: &Faults) -> FarMemory {
    let builder =
        FarMemory::builder().local_budget(1 << 20).server("embedded:").timeout(Duration::from_millis(500)).faults(faults);
    builder.without_evacuation_thread().build().expect("a far memory")
}

/// Writes, sends away and overwrites under faults; afterwards everything is as it was written last.
fn nothing_is_lost(seed: u64, rates: Rates, kind: Kind) -> u64 {
    let faults = faults(seed, rates);
    let mem = memory(&faults);
    let mut next = numbers(seed);
    faults.stop();
    let mut model = vec![0u64; 1200];
    let mut boxes: Vec<_> = model.iter().map(|n| RemBox::new_in([*n; 128], &mem)).collect();
    faults.resume();
    for _ in 0..4000 {
        let i = next() as usize % boxes.len();
        let n = next();
        match boxes[i].try_with_mut(|far| {
            assert!(*far == [model[i]; 128], "WRONG DATA, seed {seed}");
            *far = [n; 128];
        }) {
            Ok(()) => model[i] = n,
            Err(error) => assert!(matches!(error, Error::Transport { .. }), "seed {seed}: {error}"),
        }
    }
    faults.stop();
    for (far, n) in boxes.iter().zip(&model) {
        // A session that died while it was idle costs an error.
        let outcome = (0..100)
            .map(|_| far.try_with(|far| assert!(*far == [*n; 128], "WRONG DATA, seed {seed}")))
            .find(|outcome| !matches!(outcome, Err(Error::Transport { .. })));
        assert!(matches!(outcome, Some(Ok(()))), "seed {seed}: {outcome:?}");
    }
    drop(boxes);
    assert_empty(&mem);
    faults.count(kind)
}

/// A writer of the far log whose session had failed was replaced before it had said which batches were lost; they counted as arrived.
#[test]
fn batches_that_die_with_their_session_have_not_arrived() {
    let happened: u64 = (1..12).map(|seed| nothing_is_lost(seed, Rates::NONE.with(Kind::Reset, 1500), Kind::Reset)).sum();
    assert!(happened > 100, "{happened}");
}

/// A far segment was used again while a write that had been reported as timed out was still on its way to it.
#[test]
fn late_writes_overwrite_nothing() {
    let rates = Rates::NONE.with(Kind::LateWrite, 2500);
    let happened: u64 = (1..12).map(|seed| nothing_is_lost(seed, rates, Kind::LateWrite)).sum();
    assert!(happened > 100, "{happened}");
}

/// Writes that arrive in part, before their session dies.
#[test]
fn torn_writes_have_not_arrived() {
    let happened: u64 = (1..9).map(|seed| nothing_is_lost(seed, Rates::NONE.with(Kind::TornWrite, 1500), Kind::TornWrite)).sum();
    assert!(happened > 50, "{happened}");
}

/// A lane polled only sessions with something in flight. One that was busy all the same was never polled, and stayed busy.
#[test]
fn a_lane_goes_on_after_its_session_was_busy() {
    let faults = faults(5, Rates::NONE.with(Kind::Busy, 5000));
    let mem = memory(&faults);
    faults.stop();
    let boxes: Vec<_> = (0..300u64).map(|n| RemBox::new_in([n; 64], &mem)).collect();
    mem.evacuate_all().expect("evacuation");
    faults.resume();
    for (n, far) in boxes.iter().enumerate() {
        let started = Instant::now();
        let mut future = std::pin::pin!(far.with_async(|far| assert!(*far == [n as u64; 64], "WRONG DATA")));
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match future.as_mut().poll(&mut context) {
                Poll::Ready(outcome) => break outcome.expect("busy is not an error"),
                Poll::Pending => assert!(started.elapsed() < Duration::from_secs(30), "box {n}: a read that never ends"),
            }
            std::thread::yield_now();
        }
    }
    assert!(faults.count(Kind::Busy) > 50);
}

/// The last error of a fetch is everybody's: futures that joined one that failed are told, and may try again.
#[test]
fn all_who_wait_for_a_fetch_that_fails_are_told() {
    let faults = faults(6, Rates::NONE.with(Kind::LostRequest, Rates::ALWAYS));
    let mem = memory(&faults);
    faults.stop();
    let far = RemBox::new_in([7u64; 64], &mem);
    mem.evacuate_all().expect("evacuation");
    faults.resume();
    let mut waiting: Vec<_> = (0..8).map(|_| Some(Box::pin(far.with_async(|far| far[0])))).collect();
    let started = Instant::now();
    let (mut context, mut told) = (Context::from_waker(Waker::noop()), 0);
    while told < 8 {
        assert!(started.elapsed() < Duration::from_secs(30), "{told} of 8 were told");
        for place in &mut waiting {
            if let Some(Poll::Ready(outcome)) = place.as_mut().map(|future| future.as_mut().poll(&mut context)) {
                assert!(matches!(outcome, Err(Error::Transport { .. })), "{outcome:?}");
                (told, *place) = (told + 1, None);
            }
        }
        std::thread::yield_now();
    }
    drop(waiting);
    faults.stop();
    assert_eq!(far.with(|far| far[0]), 7);
}

/// Incarnations began anew with each slab, so an image from before the slab was returned and lent again could pass for the new one.
#[test]
fn an_image_from_before_its_slab_was_returned_is_found_out() {
    let faults = faults(1, Rates::NONE);
    let mem = memory(&faults);
    for round in 0..4u64 {
        // The same slot, size and place each time; a server that does not zero its slabs still has the image of the time before.
        let far = RemBox::new_in([round; 64], &mem);
        mem.evacuate_all().expect("evacuation");
        faults.damage_next_read(Damage::Stale);
        let outcome = far.try_with(|far| far[0]);
        assert!(matches!(outcome, Err(Error::Corrupt { .. })), "round {round}: {outcome:?}");
        assert_eq!(far.try_with(|far| far[0]).expect("undamaged"), round);
        drop(far);
        assert_empty(&mem);
    }
    assert_eq!(faults.count(Kind::StaleRead), 4);
}

/// The cleaner buried a present object's far copy by the size that the image in far memory claimed.
#[test]
fn a_wrong_size_that_the_cleaner_reads_does_no_harm() {
    for trial in 0..24 {
        let faults = faults(trial as u64, Rates::NONE);
        let mem = memory(&faults);
        let boxes: Vec<_> = (0..2400u64).map(|n| RemBox::new_in([n; 250], &mem)).collect();
        mem.evacuate_all().expect("evacuation");
        // One in six is kept; of these half are read, so that they are present and clean.
        let kept: Vec<_> = boxes.into_iter().enumerate().filter(|(n, _)| n % 6 < 1).collect();
        for (n, far) in kept.iter().step_by(2) {
            far.with(|far| assert_eq!(far[0], *n as u64));
        }
        // Sizes of images all over the segments that the cleaner reads next.
        for segment in 0..8 {
            let image = (trial * 5 + segment * 11) % 120;
            faults.damage_next_read(Damage::Flip { byte: image * 2016 + 4, mask: 0x30 });
        }
        mem.evacuate_all().expect("evacuation");
        faults.cancel_damage();
        for (n, far) in &kept {
            far.with(|far| assert!(*far == [*n as u64; 250], "WRONG DATA"));
        }
        drop(kept);
        assert_empty(&mem);
    }
}
