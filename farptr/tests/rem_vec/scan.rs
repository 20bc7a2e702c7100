//! Scans of more than fits read past local memory, and nobody can tell but by the counters.

use crate::common::{assert_empty, counted, memory, numbers, zeal_contradicts};
use farptr::{Far, FarMemory, RemBox, RemVec};
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};

const BUDGET: usize = 4 << 20;

/// Bytes of the chunks here.
const CHUNK: usize = 2048;

/// Numbers from 0, `bytes` of them.
fn filled(mem: &FarMemory, bytes: usize) -> RemVec<u64> {
    let mut vec = RemVec::with_chunk_bytes_in(CHUNK, mem);
    vec.extend(0..(bytes / 8) as u64);
    vec
}

fn scan(vec: &RemVec<u64>) {
    let mut next = 0;
    vec.for_each_slice(.., |first, slice| {
        assert_eq!(first as u64, next);
        assert!(slice.iter().enumerate().all(|(at, number)| *number == next + at as u64));
        next += slice.len() as u64;
    });
    assert_eq!(next, vec.len() as u64);
}

#[test]
fn a_scan_of_more_than_fits_leaves_what_is_local() {
    if zeal_contradicts("a_scan_of_more_than_fits_leaves_what_is_local", "nothing stays local") {
        return;
    }
    let mem = memory(BUDGET);
    let vec = filled(&mem, 10 * BUDGET);
    let chunks = (10 * BUDGET / CHUNK) as u64;
    for _ in 0..3 {
        let before = mem.stats();
        let (missed, past) = counted(&mem, || scan(&vec));
        assert!(missed < chunks - 100, "what is local is hit by the next scan: {missed} of {chunks} missed");
        assert!((missed / 40..missed / 20).contains(&(missed - past)), "one in 32 is swapped in: {past} of {missed} are not");
        let moved = mem.stats().evacuated_objects - before.evacuated_objects;
        assert!(moved < chunks / 10, "{moved} of {chunks} chunks were evacuated");
    }
    drop(vec);
    assert_empty(&mem);
}

#[test]
fn where_memory_is_free_a_scan_brings_in() {
    if zeal_contradicts("where_memory_is_free_a_scan_brings_in", "nothing stays local") {
        return;
    }
    let mem = memory(BUDGET);
    let vec = filled(&mem, BUDGET / 4);
    let chunks = (BUDGET / 4 / CHUNK) as u64;
    // It was full once.
    drop(filled(&mem, 4 * BUDGET));
    mem.evacuate_all().unwrap();
    assert_eq!(counted(&mem, || scan(&vec)), (chunks, 0));
    assert_eq!(counted(&mem, || scan(&vec)), (0, 0));
}

#[test]
fn what_is_scanned_again_and_again_replaces_what_nobody_uses() {
    if zeal_contradicts("what_is_scanned_again_and_again_replaces_what_nobody_uses", "nothing stays local") {
        return;
    }
    let mem = memory(BUDGET);
    let small = filled(&mem, BUDGET / 4);
    let _unused = filled(&mem, 4 * BUDGET);
    let first = counted(&mem, || scan(&small)).0;
    assert!(first > 100, "it had left: {first}");
    for _ in 0..200 {
        scan(&small);
    }
    let last = counted(&mem, || scan(&small)).0;
    assert!(last * 4 < first, "{last} chunks of {first} still miss");
}

#[test]
fn short_ranges_are_swapped_in() {
    let mem = memory(BUDGET);
    let vec = filled(&mem, 4 * BUDGET);
    let mut next = numbers(5);
    let (missed, past) = counted(&mem, || {
        for _ in 0..1000 {
            let from = next() as usize % (vec.len() - CHUNK);
            vec.for_each_slice(from..from + 3 * CHUNK / 8, |first, slice| assert_eq!(slice[0], first as u64));
        }
    });
    assert!(missed > 1000);
    assert_eq!(past, 0);
}

#[test]
fn short_ranges_that_are_used_again_stay() {
    if zeal_contradicts("short_ranges_that_are_used_again_stay", "nothing stays local") {
        return;
    }
    let mem = memory(BUDGET);
    let vec = filled(&mem, 8 * BUDGET);
    let mut next = numbers(9);
    let look = |chunk: usize| {
        let from = chunk * CHUNK / 8;
        vec.for_each_slice(from..from + 2 * CHUNK / 8, |first, slice| assert_eq!(slice[0], first as u64));
    };
    let mut missed = 0;
    for turn in 0..8000 {
        // A fifth of the budget, again and again, among ranges from everywhere.
        missed += if turn < 4000 {
            look(turn % 100);
            0
        } else {
            counted(&mem, || look(turn % 100)).0
        };
        look(next() as usize % (vec.len() / (CHUNK / 8) - 2));
    }
    assert!(missed < 4000 * 2 / 10, "{missed} of 8000 chunks that are used all the time");
}

#[test]
fn scans_meet_themselves_and_may_end_early() {
    let mem = memory(BUDGET);
    let vec = filled(&mem, 4 * BUDGET);
    let mut inner = 0;
    vec.for_each_slice(.., |first, slice| {
        let ends = catch_unwind(AssertUnwindSafe(|| {
            if first % 4096 == 0 {
                // The same chunk, and others, with a buffer of their own.
                let end = (first + 8 * slice.len()).min(vec.len());
                vec.for_each_slice(first..end, |at, slice| {
                    inner += 1;
                    assert_eq!(slice[0], at as u64);
                    if at > first + 6 * slice.len() {
                        std::panic::resume_unwind(Box::new("enough"));
                    }
                });
            }
        }));
        assert!(ends.is_ok() || inner > 0);
        assert_eq!((slice[0], slice[slice.len() - 1]), (first as u64, (first + slice.len() - 1) as u64));
    });
    assert!(inner > 100);
    scan(&vec);
    drop(vec);
    assert_empty(&mem);
}

#[test]
fn threads_scan_one_vector() {
    let mem = memory(BUDGET);
    let vec = filled(&mem, 4 * BUDGET);
    std::thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| (0..5).for_each(|_| scan(&vec)));
        }
        threads.spawn(|| (0..20).for_each(|_| mem.evacuate_all().unwrap()));
    });
}

#[test]
fn elements_are_aligned_and_own_what_they_own() {
    #[derive(Far)]
    #[repr(align(256))]
    struct Wide(u64, RemBox<u64>);
    let mem = memory(BUDGET);
    let count = 6 * BUDGET as u64 / 256;
    let mut vec = RemVec::with_chunk_bytes_in(CHUNK, &mem);
    for number in 0..count {
        vec.push(Wide(number, RemBox::new_in(!number, &mem)));
    }
    // Buffers at many addresses.
    let mut between = Vec::new();
    for turn in 0..16 {
        between.push(vec![1u8; 2400 + 80 * turn]);
        let (_, past) = counted(&mem, || {
            vec.for_each_slice(.., |first, slice| {
                // The compiler takes a slice's address for aligned.
                assert_eq!(black_box(slice.as_ptr()) as usize % align_of::<Wide>(), 0);
                for (at, wide) in slice.iter().enumerate() {
                    let number = (first + at) as u64;
                    assert_eq!(wide.0, number);
                    if number.is_multiple_of(64) {
                        wide.1.with(|own| assert_eq!(*own, !number));
                    }
                }
            });
        });
        assert!(cfg!(farptr_zeal) || past > 100, "{past}");
    }
    drop(vec);
    assert_empty(&mem);
}

#[test]
fn a_scan_in_a_scope_needs_no_room_for_all_of_it() {
    if zeal_contradicts("a_scan_in_a_scope_needs_no_room_for_all_of_it", "memory is never full") {
        return;
    }
    let mem = memory(BUDGET);
    let vec = filled(&mem, 20 * BUDGET);
    let _scope = farptr::scope();
    scan(&vec);
}
