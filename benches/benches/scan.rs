//! A sequential sum over a `RemVec<u64>` of which a part fits the local budget. Embedded server, one thread.
//!
//! Beside it the sum over a `Vec` of the same size, the ceiling, and a copy of it through a buffer of one chunk, which is what a scan of data that is
//! elsewhere can't do without.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use farptr::FarMemory;
use farptr_benches::scan;
use std::time::Duration;

/// Data set in bytes.
const DATA: usize = 512 << 20;

fn scans(c: &mut Criterion) {
    let mut group = c.benchmark_group("scan");
    group.throughput(Throughput::Bytes(DATA as u64)).sample_size(10).measurement_time(Duration::from_secs(4));
    for percent in [10, 25, 50] {
        let mem = FarMemory::builder().local_budget(DATA / 100 * percent).build().expect("a far memory");
        let (far, expected) = scan::fill(&mem, DATA).expect("room for the elements");
        group.bench_function(BenchmarkId::new("far", format!("{percent}% local")), |b| {
            b.iter(|| assert_eq!(scan::sum_far(&far).expect("the chunks"), expected));
        });
    }
    let local: Vec<u64> = (0..(DATA / 8) as u64).collect();
    group.bench_function("vec", |b| b.iter(|| scan::sum_local(&local)));
    group.bench_function("vec, copied by 16 KiB", |b| b.iter(|| scan::sum_copied(&local)));
    group.finish();
}

criterion_group!(benches, scans);
criterion_main!(benches);
