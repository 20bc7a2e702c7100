//! The rate of misses: uniform random reads over a data set of which a quarter fits the local budget. Embedded server, one thread.
//!
//! Beside each, the bare copy of as many bytes from random places of as large a mapping: what no far memory can beat.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use farptr::{Far, FarMemory, RemBox};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Data set in bytes.
const DATA: usize = 512 << 20;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * bound as u64) >> 32) as usize
    }
}

fn reads<const N: usize>(c: &mut Criterion)
where
    [u64; N]: Far,
{
    let bytes = N * 8;
    let count = DATA / bytes;
    let mem = FarMemory::builder().local_budget(DATA / 4).build().expect("a far memory");
    let boxes: Vec<_> = (0..count).map(|i| RemBox::new_in([i as u64; N], &mem)).collect();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut group = c.benchmark_group(format!("miss/{bytes}"));
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(4)).sample_size(20);
    group.bench_function(BenchmarkId::new("uniform", "far, 25% local"), |b| {
        b.iter_custom(|turns| {
            let before = mem.stats().misses;
            let started = Instant::now();
            for _ in 0..turns {
                let i = random.below(count);
                assert_eq!(boxes[i].try_with(|value| value[N - 1]).expect("a read"), i as u64);
            }
            let took = started.elapsed();
            if turns > 100_000 {
                let missed = (mem.stats().misses - before) as f64 / turns as f64;
                eprintln!("  {bytes} bytes: {:.0} k/s, {:.1}% missed", turns as f64 / took.as_secs_f64() / 1e3, missed * 100.0);
            }
            took
        });
    });
    drop(boxes);
    let source = vec![1u64; DATA / 8];
    let mut target = [0u64; N];
    group.bench_function(BenchmarkId::new("uniform", "bare copy"), |b| {
        b.iter(|| {
            let i = random.below(count);
            target.copy_from_slice(&source[i * N..(i + 1) * N]);
            black_box(&mut target);
        });
    });
    group.finish();
}

fn miss(c: &mut Criterion) {
    reads::<8>(c);
    reads::<512>(c);
}

criterion_group!(benches, miss);
criterion_main!(benches);
