//! The cost of a hit: a hot object inside a scope, against `Box`.
//!
//! `l1`: 256 objects of 64 bytes (16 KiB), in order. `random`: 64 MiB of objects in random order, the indices prepared beforehand.
//! Each access reads one `u64`. `pin`: the same with a crossbeam-epoch pin per access, the reference that a scope is measured against.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use farptr::{FarMemory, RemBox, RemVec};
use farptr_benches::deref::{
    Object, sum_box, sum_by_table, sum_far, sum_pin_each, sum_scope_each, sum_vec, write_box, write_far,
};
use farptr_benches::random::order;
use std::hint::black_box;
use std::time::Duration;

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
        let table: Vec<&Object> = local.iter().map(|b| &**b).collect();
        let pointers: Vec<&&Object> = table.iter().collect();
        group.bench_function(BenchmarkId::new("read", "box by a table"), |b| {
            b.iter(|| sum_by_table(black_box(&pointers), &order))
        });
        drop(pointers);
        drop(table);
        let mut vec = RemVec::new_in(&mem);
        vec.extend((0..count).map(|i| [i as u64; 8]));
        sum_vec(&vec, &order);
        sum_vec(&vec, &order);
        group.bench_function(BenchmarkId::new("read", "far vec"), |b| b.iter(|| sum_vec(black_box(&vec), &order)));
        drop(vec);
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
