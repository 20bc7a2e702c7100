//! A sequential sum over a `RemVec<u64>` of which a part fits the local budget. Embedded server, one thread.
//!
//! Beside it the sum over a `Vec` of the same size, the ceiling, and a copy of it through a buffer of one chunk, which is what a scan of data that is
//! elsewhere can't do without.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use farptr::{FarMemory, RemVec};
use std::hint::black_box;
use std::time::Duration;

/// Data set in bytes.
const DATA: usize = 512 << 20;

fn scan(c: &mut Criterion) {
    let mut group = c.benchmark_group("scan");
    group.throughput(Throughput::Bytes(DATA as u64)).sample_size(10).measurement_time(Duration::from_secs(4));
    for percent in [10, 25, 50] {
        let mem = FarMemory::builder().local_budget(DATA / 100 * percent).build().expect("a far memory");
        let mut far = RemVec::new_in(&mem);
        far.extend(0..(DATA / 8) as u64);
        let expected = (0..(DATA / 8) as u64).sum::<u64>();
        group.bench_function(BenchmarkId::new("far", format!("{percent}% local")), |b| {
            b.iter(|| {
                let mut sum = 0u64;
                far.for_each_slice(.., |_, slice| sum += slice.iter().sum::<u64>());
                assert_eq!(sum, expected);
            });
        });
    }
    let local: Vec<u64> = (0..(DATA / 8) as u64).collect();
    group.bench_function("vec", |b| b.iter(|| black_box(&local).iter().sum::<u64>()));
    let mut buffer = vec![0u64; 2048];
    group.bench_function("vec, copied by 16 KiB", |b| {
        b.iter(|| {
            local.chunks_exact(2048).fold(0u64, |sum, chunk| {
                buffer.copy_from_slice(chunk);
                sum + black_box(&buffer).iter().sum::<u64>()
            })
        });
    });
    group.finish();
}

criterion_group!(benches, scan);
criterion_main!(benches);
