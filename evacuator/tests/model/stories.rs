//! Mistakes that the random runs found, each as the shortest script that shows it.
#![forbid(unsafe_code)]

use crate::lender::{Done, Order, Trouble};
use crate::objects::Action;
use crate::world::{Setting, Step, World};
use farptr_evacuator::round::Mercy;
use farptr_runtime::far::PIECE_BYTES;
use farptr_runtime::scope::AccessHint;
use std::alloc::Layout;

/// A round takes a sixteenth of the budget: more than the objects of any story.
const SETTING: Setting =
    Setting { budget: 32 << 20, slab_segments: 1, far_capacity: 64 << 20, order: Order::NewestFirst, is_immediate: false };

/// Objects whose far copies fill so many far segments exactly.
fn new(far_segments: usize, count: u8) -> Step {
    let layout = Layout::from_size_align(far_segments * 4 * PIECE_BYTES, 8).unwrap();
    Step::Act(Action::New { layout, count, seed: 7 })
}

fn play(steps: impl IntoIterator<Item = Step>, troubles: u32) {
    let _turn = crate::turn();
    let world = World::new(SETTING);
    for step in steps {
        world.step(&step);
        world.check(true);
    }
    assert_eq!(world.troubles(), troubles);
    world.finish(|_| ());
}

/// Three objects, a far segment each. The session takes the first one's write and is dead when the second one's comes; the third one's
/// got a new session, with which the first write was forgotten. What nobody hears of counts as arrived: the first object was lost.
#[test]
fn write_in_flight_on_a_session_that_died_has_not_arrived() {
    let dead = Step::Trouble(1, Trouble::DeadOnSubmit(Done::Nothing));
    play([new(1, 3), dead, Step::Round(Mercy::None)], 1);
}

/// Two objects of three far segments. For the first one's third segment there is no slab, so its first segment is dead, and was free, and was
/// filled and sent for the second object while the first write to it was in flight.
#[test]
fn segment_is_not_used_again_while_a_write_to_it_is_in_flight() {
    play([new(3, 1), new(3, 1), Step::Trouble(2, Trouble::NoSlab), Step::Round(Mercy::None)], 1);
}

/// Between two pieces of a large object the log waits for a server. A writer that came then waited as well, for as long.
#[test]
fn writer_of_a_large_object_does_not_wait_for_a_server() {
    let write = Action::Write { at: 0, count: 1, from: 100, seed: 3, hint: AccessHint::Normal };
    play([new(3, 1), Step::Between(0, write), Step::Round(Mercy::None)], 0);
}

/// So many far segments, in each of which a write fails behind `count` objects of `size` bytes, and the cleaner after that.
fn clean_behind_failures(segments: u32, size: usize, count: u8) {
    let new = |count| Step::Act(Action::New { layout: Layout::from_size_align(size, 8).unwrap(), count, seed: 7 });
    let leave = || [Step::Seal, Step::Round(Mercy::None)];
    let fails = || Step::Trouble(0, Trouble::Fails(Done::Nothing));
    let one = || [new(count)].into_iter().chain(leave()).chain([new(1), fails()]).chain(leave());
    play((0..segments).flat_map(|_| one()).chain([Step::Clean]), segments);
}

/// A victim that is emptied is in quarantine, not free. The cleaner took that for no gain, and left the others as they were.
#[test]
fn what_goes_into_quarantine_is_a_gain() {
    clean_behind_failures(12, 8 << 10, 1);
}

/// As many victims as fit one free segment went into quarantine, and then none was free: the cleaner stopped, though the lender would have lent more.
#[test]
fn cleaner_borrows_a_segment_to_copy_to() {
    clean_behind_failures(24, 32 << 10, 2);
}
