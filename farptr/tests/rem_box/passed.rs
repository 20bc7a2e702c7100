//! Reads spread over more than fits go past local memory, and nobody can tell but by the counters.

use crate::common::{self, assert_empty, counted, numbers, zeal_contradicts};
use farptr::{Error, Far, FarMemory, RemBox, RemHashMap, RemVec};
use std::cell::Cell;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};

const BUDGET: usize = 4 << 20;

/// Objects of 512 bytes, eight times as many as fit.
const COUNT: usize = 8 * BUDGET / 512;

fn memory() -> FarMemory {
    common::memory(BUDGET)
}

fn boxes(mem: &FarMemory) -> Vec<RemBox<[u64; 64]>> {
    (0..COUNT as u64).map(|number| RemBox::new_in([number; 64], mem)).collect()
}

fn read(boxes: &[RemBox<[u64; 64]>], number: usize) {
    try_read(boxes, number).unwrap();
}

fn try_read(boxes: &[RemBox<[u64; 64]>], number: usize) -> Result<(), Error> {
    boxes[number].try_with(|object| assert_eq!([object[0], object[63]], [number as u64; 2]))
}

/// In the closure of an object that is local there is a scope, in which a small heap may have no room for another.
fn in_closure(read: Result<(), Error>) {
    assert!(matches!(read, Ok(()) | Err(Error::ScopeExhausted { .. })), "{read:?}");
}

/// Reads everywhere until it is known that hardly anything is read again soon.
fn spread(boxes: &[RemBox<[u64; 64]>]) {
    let mut next = numbers(3);
    (0..2 * COUNT).for_each(|_| read(boxes, next() as usize % COUNT));
}

#[test]
fn reads_everywhere_leave_what_is_local() {
    if zeal_contradicts("reads_everywhere_leave_what_is_local", "nothing stays local") {
        return;
    }
    let mem = memory();
    let boxes = boxes(&mem);
    spread(&boxes);
    let (evacuated, mut next) = (mem.stats().evacuated_objects, numbers(4));
    let (missed, past) = counted(&mem, || (0..COUNT).for_each(|_| read(&boxes, next() as usize % COUNT)));
    assert!(past > missed * 9 / 10 && past < missed * 31 / 32, "{past} of {missed}: some are a sample");
    let evacuated = mem.stats().evacuated_objects - evacuated;
    assert!(evacuated <= missed - past + COUNT as u64 / 8, "{evacuated} objects left for {} that came", missed - past);
    drop(boxes);
    assert_empty(&mem);
}

/// At most so many of 400 are a sample, one in 16 of them on average, which is passed where others get a place. It is another one when enough has left or been passed only.
const MOST_SAMPLED: u64 = 50;

/// Reads a quarter of what fits, again and again: how many of 400 missed each time, and how many of these were passed.
fn again_and_again(mem: &FarMemory, boxes: &[RemBox<[u64; 64]>]) -> [(u64, u64); 8] {
    std::array::from_fn(|_| counted(mem, || (0..400).for_each(|number| read(boxes, number * 7))))
}

#[test]
fn what_is_read_again_gets_a_place() {
    if zeal_contradicts("what_is_read_again_gets_a_place", "nothing stays local") {
        return;
    }
    let mem = memory();
    let boxes = boxes(&mem);
    spread(&boxes);
    // Of reads everywhere those that come back are no more likely to come back again.
    let turns = again_and_again(&mem, &boxes);
    let past = |turn: usize| turns[turn].1;
    assert!(past(0) > 200 && past(1) > 200, "{turns:?}");
    assert!(past(3) < 100, "came back three times in a row: {turns:?}");
    assert!(turns[7].0 <= MOST_SAMPLED, "{turns:?}");
}

#[test]
fn what_comes_back_once_gets_a_place_where_some_is_read_more_than_the_rest() {
    let test = "what_comes_back_once_gets_a_place_where_some_is_read_more_than_the_rest";
    if zeal_contradicts(test, "nothing stays local") {
        return;
    }
    let mem = memory();
    let boxes = boxes(&mem);
    spread(&boxes);
    let mut next = numbers(10);
    for group in 0..40 {
        for _ in 0..2000 {
            read(&boxes, next() as usize % COUNT);
            read(&boxes, (group * 300 + next() as usize % 300) % COUNT);
        }
    }
    let turns = again_and_again(&mem, &boxes);
    assert!(turns[0].1 > 100, "{turns:?}");
    assert!(turns[1].1 <= turns[1].0 / 4, "came back once: {turns:?}");
    assert!(turns[7].0 <= MOST_SAMPLED, "{turns:?}");
}

#[test]
fn reads_of_what_is_used_again_soon_are_swapped_in() {
    if zeal_contradicts("reads_of_what_is_used_again_soon_are_swapped_in", "nothing stays local") {
        return;
    }
    let mem = memory();
    let boxes = boxes(&mem);
    let twice = |from: usize| (from..from + COUNT).for_each(|turn| (0..2).for_each(|_| read(&boxes, turn * 5 % COUNT)));
    spread(&boxes);
    // Some of it tells that things have changed.
    twice(0);
    assert_eq!(counted(&mem, || twice(COUNT)).1, 0, "each is read twice in a row");
}

#[test]
fn where_memory_is_free_reads_bring_in() {
    if zeal_contradicts("where_memory_is_free_reads_bring_in", "nothing stays local") {
        return;
    }
    let mem = memory();
    let mut boxes = boxes(&mem);
    spread(&boxes);
    boxes.truncate(COUNT / 32);
    mem.evacuate_all().unwrap();
    let all = || (0..boxes.len()).for_each(|number| read(&boxes, number));
    assert_eq!(counted(&mem, all), (boxes.len() as u64, 0));
    assert_eq!(counted(&mem, all), (0, 0));
}

#[test]
fn new_objects_are_not_taken_for_objects_that_nobody_reads() {
    if zeal_contradicts("new_objects_are_not_taken_for_objects_that_nobody_reads", "nothing stays local") {
        return;
    }
    let mem = memory();
    let mut boxes = boxes(&mem);
    let mut next = numbers(7);
    let (_, past) = counted(&mem, || {
        for turn in 0..3 * COUNT {
            boxes[turn % COUNT] = RemBox::new_in([(turn % COUNT) as u64; 64], &mem);
            if turn % 4 == 0 {
                read(&boxes, next() as usize % COUNT);
            }
        }
    });
    assert_eq!(past, 0, "most of what is young is new");
}

#[test]
fn closures_may_panic_and_read_others_and_the_same_again() {
    let mem = memory();
    let boxes = boxes(&mem);
    spread(&boxes);
    let mut next = numbers(5);
    let inner = Cell::new(0);
    let (_, past) = counted(&mem, || {
        for _ in 0..2000 {
            let number = next() as usize % COUNT;
            let ends = catch_unwind(AssertUnwindSafe(|| {
                boxes[number].with(|object| {
                    let other = object[0] as usize * 3 % COUNT;
                    in_closure(try_read(&boxes, other));
                    in_closure(try_read(&boxes, number));
                    inner.set(inner.get() + 1);
                    if object[0].is_multiple_of(3) {
                        std::panic::resume_unwind(Box::new("enough"));
                    }
                    assert_eq!(object[63], number as u64);
                });
            }));
            assert_eq!(ends.is_err(), number.is_multiple_of(3));
        }
    });
    assert_eq!(inner.get(), 2000);
    assert!(cfg!(farptr_zeal) || past > 1000, "{past}");
    drop(boxes);
    assert_empty(&mem);
}

#[test]
fn values_are_aligned_own_what_they_own_and_are_as_last_written() {
    #[derive(Far)]
    #[repr(align(256))]
    struct Wide(u64, RemBox<u64>, u64);
    let mem = memory();
    let mut wides: Vec<_> =
        (0..COUNT as u64).map(|number| RemBox::new_in(Wide(number, RemBox::new_in(!number, &mem), 0), &mem)).collect();
    let mut next = numbers(6);
    let (_, past) = counted(&mem, || {
        for turn in 0..4 * COUNT {
            let number = next() as usize % COUNT;
            let write = turn % 16 == 0;
            wides[number].with(|wide| {
                // The compiler takes a reference's address for aligned.
                assert_eq!(black_box(std::ptr::from_ref(wide)) as usize % 256, 0);
                assert_eq!(wide.0, number as u64);
                assert_eq!(wide.2 % 1000, if wide.2 == 0 { 0 } else { number as u64 % 1000 });
                if turn % 64 == 0 {
                    in_closure(wide.1.try_with(|own| assert_eq!(*own, !(number as u64))));
                }
            });
            if write {
                let written = turn as u64 * 1000 + number as u64 % 1000;
                wides[number].with_mut(|wide| wide.2 = written);
                wides[number].with(|wide| assert_eq!(wide.2, written));
            }
        }
    });
    assert!(cfg!(farptr_zeal) || past > COUNT as u64 / 2, "{past}");
    drop(wides);
    assert_empty(&mem);
}

#[test]
fn threads_read_the_same_objects() {
    let mem = memory();
    let boxes = boxes(&mem);
    spread(&boxes);
    std::thread::scope(|threads| {
        for _ in 0..3 {
            // In one order, so that they meet.
            threads.spawn(|| {
                let mut next = numbers(8);
                (0..COUNT).for_each(|_| read(&boxes, next() as usize % COUNT));
            });
        }
        threads.spawn(|| (0..20).for_each(|_| mem.evacuate_all().unwrap()));
    });
    drop(boxes);
    assert_empty(&mem);
}

#[test]
fn elements_of_vectors_and_values_of_maps_are_passed_too() {
    if zeal_contradicts("elements_of_vectors_and_values_of_maps_are_passed_too", "nothing stays local") {
        return;
    }
    let mem = memory();
    let mut vec = RemVec::with_chunk_bytes_in(512, &mem);
    vec.extend(0..(4 * BUDGET / 8) as u64);
    let mut next = numbers(9);
    let mut elements = |reads: usize| {
        (0..reads).for_each(|_| {
            let at = next() as usize % vec.len();
            assert_eq!(vec.with(at, |element| *element), Some(at as u64));
        });
    };
    elements(2 * COUNT);
    let (missed, past) = counted(&mem, || elements(COUNT));
    assert!(past > missed / 4, "{past} of {missed} chunks");
    drop(vec);
    let mem = memory();
    let mut map = RemHashMap::new_in(&mem);
    map.try_extend((0..COUNT as u64 / 2).map(|key| (key, [key; 62]))).unwrap();
    let mut next = numbers(10);
    let mut values = |reads: usize| {
        (0..reads).for_each(|_| {
            let key = next() % (COUNT as u64 / 2);
            assert_eq!(map.with(&key, |value| value[61]), Some(key));
        });
    };
    values(2 * COUNT);
    let (missed, past) = counted(&mem, || values(COUNT));
    assert!(past > missed / 4, "{past} of {missed} entries");
}
