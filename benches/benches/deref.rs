//! The cost of a hit: a hot object inside a scope, against `Box`.
//!
//! `l1`: 256 objects of 64 bytes (16 KiB), in order. `random`: 64 MiB of objects in random order, the indices prepared beforehand.
//! Each access reads one `u64`. `pin`: the same with a crossbeam-epoch pin per access, the reference that a scope is measured against.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use farptr::{FarMemory, RemBox};
use std::hint::black_box;
use std::time::Duration;

type Object = [u64; 8];

fn order(count: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for i in (1..count).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(i, (state % (i as u64 + 1)) as usize);
    }
    order
}

/// Kept out of line so that its instructions can be looked at.
#[inline(never)]
fn sum_far(boxes: &[RemBox<Object>], order: &[u32]) -> u64 {
    let scope = farptr::scope();
    order.iter().fold(0, |sum, i| sum.wrapping_add(boxes[*i as usize].get(&scope)[0]))
}

#[inline(never)]
fn sum_box(boxes: &[Box<Object>], order: &[u32]) -> u64 {
    order.iter().fold(0, |sum, i| sum.wrapping_add(boxes[*i as usize][0]))
}

#[inline(never)]
fn sum_scope_each(boxes: &[RemBox<Object>], order: &[u32]) -> u64 {
    order.iter().fold(0, |sum, i| sum.wrapping_add(boxes[*i as usize].get(&farptr::scope())[0]))
}

#[inline(never)]
fn sum_pin_each(boxes: &[Box<Object>], order: &[u32]) -> u64 {
    order.iter().fold(0, |sum, i| {
        let _guard = crossbeam_epoch::pin();
        sum.wrapping_add(boxes[*i as usize][0])
    })
}

#[inline(never)]
fn write_far(boxes: &mut [RemBox<Object>], order: &[u32]) {
    let scope = farptr::scope();
    order.iter().for_each(|i| boxes[*i as usize].get_mut(&scope)[0] += 1);
}

#[inline(never)]
fn write_box(boxes: &mut [Box<Object>], order: &[u32]) {
    order.iter().for_each(|i| boxes[*i as usize][0] += 1);
}

fn deref(c: &mut Criterion) {
    let mem = FarMemory::builder().local_budget(512 << 20).build().expect("a far memory of 512 MiB");
    for (name, count, order) in [("l1", 256, (0..256).collect()), ("random", 1 << 20, order(1 << 20))] {
        let mut far: Vec<_> = (0..count).map(|i| RemBox::new_in([i as u64; 8], &mem)).collect();
        let mut local: Vec<_> = (0..count).map(|i| Box::new([i as u64; 8])).collect();
        // The first two uses make an object hot and dirty.
        write_far(&mut far, &order);
        write_far(&mut far, &order);
        let mut group = c.benchmark_group(format!("deref/{name}"));
        group
            .throughput(Throughput::Elements(count as u64))
            .measurement_time(Duration::from_secs(2))
            .warm_up_time(Duration::from_millis(500));
        group.bench_function(BenchmarkId::new("read", "box"), |b| b.iter(|| sum_box(black_box(&local), &order)));
        group.bench_function(BenchmarkId::new("read", "far"), |b| b.iter(|| sum_far(black_box(&far), &order)));
        group.bench_function(BenchmarkId::new("read", "far, a scope each"), |b| {
            b.iter(|| sum_scope_each(black_box(&far), &order))
        });
        group.bench_function(BenchmarkId::new("read", "box, a crossbeam pin each"), |b| {
            b.iter(|| sum_pin_each(black_box(&local), &order))
        });
        group.bench_function(BenchmarkId::new("write", "box"), |b| b.iter(|| write_box(black_box(&mut local), &order)));
        group.bench_function(BenchmarkId::new("write", "far"), |b| b.iter(|| write_far(black_box(&mut far), &order)));
        group.finish();
    }
}

criterion_group!(benches, deref);
criterion_main!(benches);
