//! Boxes against a model, with a heap so small that evacuation runs all the time.

#[path = "../common/mod.rs"]
mod common;
mod dropped_futures;
mod model;
mod nested;
mod panics;
mod passed;

use common::{assert_empty, churn, memory, numbers};
use farptr::{Far, RemBox};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

#[test]
fn value_survives_the_way_there_and_back() {
    let mem = memory(1 << 20);
    let mut value = RemBox::new_in([7u64; 8], &mem);
    mem.evacuate_all().unwrap();
    assert!(!value.is_local());
    assert_eq!(value.with(|v| *v), [7; 8]);
    assert!(value.is_local() || cfg!(farptr_zeal), "under zeal it may leave at once");
    value.with_mut(|v| v[3] = 9);
    mem.evacuate_all().unwrap();
    assert!(!value.is_local());
    assert_eq!(value.into_inner(), [7, 7, 7, 9, 7, 7, 7, 7]);
    assert_empty(&mem);
}

#[test]
fn ten_times_the_budget_of_random_reads_and_writes_agrees_with_a_model() {
    let mem = memory(1 << 20);
    let mut next = numbers(1);
    let count = 40_000;
    let mut model: Vec<u64> = (0..count).collect();
    let mut boxes: Vec<RemBox<[u64; 32]>> = model.iter().map(|n| RemBox::new_in([*n; 32], &mem)).collect();
    for _ in 0..400_000 {
        let i = next() as usize % boxes.len();
        match next() % 4 {
            0 => {
                let n = next();
                model[i] = n;
                boxes[i].with_mut(|v| *v = [n; 32]);
            }
            1 => {
                boxes[i] = RemBox::new_in([model[i] + 1; 32], &mem);
                model[i] += 1;
            }
            _ => boxes[i].with(|v| assert_eq!(*v, [model[i]; 32])),
        }
    }
    let stats = mem.stats();
    assert!(stats.misses > 100_000 && stats.local_used_bytes <= 1 << 20, "{stats:?}");
    assert!(stats.far_used_bytes <= stats.far_live_bytes * 3 / 2 + (2 << 20), "{stats:?}");
    for (value, expected) in boxes.iter().zip(&model) {
        value.with(|v| assert_eq!(*v, [*expected; 32]));
    }
    drop(boxes);
    assert_empty(&mem);
}

static DROPS: AtomicUsize = AtomicUsize::new(0);

#[derive(Far)]
struct Node {
    value: u64,
    next: Option<RemBox<Node>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        assert!(self.value < 5000);
        DROPS.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn contents_are_dropped_once_wherever_they_are() {
    let mem = memory(1 << 20);
    let mut list: Vec<RemBox<Node>> = Vec::new();
    for value in 0..1000 {
        let inner = RemBox::new_in(Node { value: value + 1000, next: None }, &mem);
        list.push(RemBox::new_in(Node { value, next: Some(inner) }, &mem));
    }
    mem.evacuate_all().unwrap();
    for value in &list[..100] {
        value.with(|node| assert!(node.next.as_ref().unwrap().with(|inner| inner.value == node.value + 1000)));
    }
    drop(list);
    assert_eq!(DROPS.load(Ordering::Relaxed), 2000);
    assert_empty(&mem);
}

#[test]
fn slices_strings_and_large_objects() {
    let mem = memory(4 << 20);
    let mut next = numbers(3);
    let mut large: Vec<RemBox<[u8]>> = Vec::new();
    let mut model: Vec<Vec<u8>> = Vec::new();
    for _ in 0..30 {
        let bytes: Vec<u8> = (0..next() % 1_000_000 + 1).map(|i| (i ^ next()) as u8).collect();
        large.push(RemBox::from_slice_in(&bytes, &mem));
        model.push(bytes);
    }
    let text = RemBox::from_str_in("häuser", &mem);
    for _ in 0..300 {
        let i = next() as usize % large.len();
        if next().is_multiple_of(2) {
            let at = next() as usize % model[i].len();
            model[i][at] = !model[i][at];
            large[i].with_mut(|bytes| bytes[at] = !bytes[at]);
        }
        large[i].with(|bytes| assert!(bytes == model[i]));
    }
    mem.evacuate_all().unwrap();
    assert_eq!(text.with(str::to_owned), "häuser");
    for (bytes, expected) in large.iter().zip(&model) {
        bytes.with(|bytes| assert!(bytes == expected));
    }
    drop((large, text));
    assert_empty(&mem);
}

#[test]
fn over_aligned_and_zero_sized_values() {
    #[derive(Far, Clone, Copy, PartialEq, Debug)]
    #[repr(align(4096))]
    struct Page(u8);
    #[derive(Far, Clone, Copy, PartialEq, Debug)]
    #[repr(align(64))]
    struct Line(u64);
    let mem = memory(2 << 20);
    let pages: Vec<_> = (0..500u32).map(|i| RemBox::new_in(Page(i as u8), &mem)).collect();
    let lines: Vec<_> = (0..5000u64).map(|i| RemBox::new_in(Line(i), &mem)).collect();
    let units: Vec<_> = (0..5000).map(|_| RemBox::new_in((), &mem)).collect();
    mem.evacuate_all().unwrap();
    for (i, page) in pages.iter().enumerate() {
        page.with(|page| assert!(page.0 == i as u8 && std::hint::black_box(std::ptr::from_ref(page)).is_aligned()));
    }
    for (i, line) in lines.iter().enumerate() {
        line.with(|line| assert!(line.0 == i as u64 && std::hint::black_box(std::ptr::from_ref(line)).is_aligned()));
    }
    units.iter().for_each(|unit| unit.with(|()| ()));
    drop((pages, lines, units));
    assert_empty(&mem);
}

#[test]
fn scope_that_holds_too_much_is_exhausted_and_a_refreshed_one_is_not() {
    let mem = memory(1 << 20);
    let boxes: Vec<_> = (0..2000).map(|i| RemBox::new_in([i as u64; 128], &mem)).collect();
    let mut scope = farptr::scope();
    let mut held = Vec::new();
    let error = boxes.iter().find_map(|b| match b.try_get(&scope) {
        Ok(value) => {
            held.push(value);
            None
        }
        Err(error) => Some(error),
    });
    assert!(matches!(error, Some(farptr::Error::ScopeExhausted { .. })), "{error:?}");
    assert!(held.iter().enumerate().all(|(i, value)| **value == [i as u64; 128]));
    drop(held);
    for (i, b) in boxes.iter().enumerate() {
        assert_eq!(scope.refresh(), farptr::Refreshed::Anew);
        let value = *b.get(&scope);
        assert_eq!(value, [i as u64; 128]);
    }
}

/// A thread that only reads meets no lock: the scope's clock and the word are all that order its reads behind the evacuator's copying, and the next use of the old
/// place behind its reads. ThreadSanitizer watches the bytes; for it the readers must not be ordered in any other way, so their counts are relaxed.
#[test]
fn threads_read_what_is_relocated_all_the_time() {
    const READERS: usize = 2;
    const PASSES: u64 = 60;
    let mem = memory(1 << 20);
    let boxes: Vec<_> = (0..64u64).map(|i| RemBox::new_in([i; 16], &mem)).collect();
    let turns = [const { AtomicU64::new(0) }; READERS];
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for turns in &turns {
            let (boxes, done) = (&boxes, &done);
            threads.spawn(move || {
                let _done = Done(done);
                while !done.load(Ordering::Relaxed) {
                    for (i, value) in boxes.iter().enumerate() {
                        value.with(|value| assert_eq!(*value, [i as u64; 16]));
                    }
                    turns.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Also if a check fails here: the readers must end.
        let _done = Done(&done);
        for pass in 0..PASSES {
            // Each reader has used each value twice since it was relocated last: they are hot, and will be relocated.
            let before = turns.each_ref().map(|turns| turns.load(Ordering::Relaxed));
            for (turns, before) in turns.iter().zip(before) {
                while turns.load(Ordering::Relaxed) < before + 3 {
                    assert!(!done.load(Ordering::Relaxed), "a reader has failed in pass {pass}");
                    std::thread::yield_now();
                }
            }
            churn(&mem);
        }
    });
    assert!(mem.stats().relocated_objects > PASSES, "{:?}", mem.stats());
    drop(boxes);
    assert_empty(&mem);
}

/// Says when it is dropped that all shall end.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn threads_share_boxes_under_constant_evacuation() {
    let mem = memory(1 << 20);
    let boxes: Vec<_> = (0..20_000u64).map(|i| RemBox::new_in([i; 16], &mem)).collect();
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let (boxes, mem) = (&boxes, &mem);
            threads.spawn(move || {
                let mut next = numbers(thread + 10);
                let mut own: Vec<(RemBox<[u64; 16]>, u64)> = Vec::new();
                for _ in 0..50_000 {
                    let i = next() % boxes.len() as u64;
                    boxes[i as usize].with(|v| assert_eq!(*v, [i; 16]));
                    if own.len() < 2000 {
                        own.push((RemBox::new_in([i; 16], mem), i));
                    }
                    let at = next() as usize % own.len();
                    let (value, expected) = &mut own[at];
                    value.with_mut(|v| {
                        assert_eq!(*v, [*expected; 16]);
                        *v = [i; 16];
                    });
                    *expected = i;
                    if next().is_multiple_of(16) {
                        own.swap_remove(at);
                    }
                }
            });
        }
    });
    drop(boxes);
    assert_empty(&mem);
}

#[test]
fn pins_hold_and_count_beyond_a_byte() {
    let mem = memory(1 << 20);
    let mut value = RemBox::new_in([5u64; 64], &mem);
    let address = {
        let pins: Vec<_> = (0..1000).map(|_| value.pin()).collect();
        let address = std::ptr::from_ref::<[u64; 64]>(&pins[0]) as usize;
        mem.evacuate_all().unwrap();
        assert!(pins.iter().all(|pin| std::ptr::from_ref::<[u64; 64]>(pin) as usize == address && **pin == [5; 64]));
        address
    };
    {
        let mut pin = value.pin_mut();
        mem.evacuate_all().unwrap();
        assert_eq!(std::ptr::from_ref::<[u64; 64]>(&pin) as usize, address);
        pin[0] = 6;
    }
    mem.evacuate_all().unwrap();
    assert!(!value.is_local());
    assert_eq!(value.with(|v| v[0]), 6);
}

#[test]
fn objects_of_every_size_from_a_piece_to_a_large_one() {
    // With a budget this large a segment of the local heap is larger than one of far memory, and than what one operation may move.
    let mem = memory(64 << 20);
    let mut next = numbers(7);
    let sizes: Vec<usize> = (0..200).map(|i| (i % 20 + 1) * (32 << 10) + [0, 1, 16][i % 3] - 16).collect();
    let mut boxes: Vec<(RemBox<[u8]>, u8)> = Vec::new();
    for (i, size) in sizes.iter().enumerate() {
        boxes.push((RemBox::from_slice_in(&vec![i as u8; *size], &mem), i as u8));
    }
    for _ in 0..3 {
        mem.evacuate_all().unwrap();
        for (value, byte) in &mut boxes {
            assert!(!value.is_local());
            value.with(|bytes| assert!(bytes.iter().all(|b| b == byte)));
            if next().is_multiple_of(2) {
                *byte = byte.wrapping_add(1);
                value.with_mut(|bytes| bytes.fill(*byte));
            }
        }
    }
    drop(boxes);
    assert_empty(&mem);
}
