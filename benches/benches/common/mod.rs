//! What the measurements of misses share.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Throughput};
use farptr::{Far, FarMemory, RemBox};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// A small generator of numbers (xorshift64).
struct Random(u64);

impl Random {
    fn new() -> Self {
        Random(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * bound as u64) >> 32) as usize
    }
}

/// Uniform random reads of boxes of `N` words, `data` bytes in all, one after the other; says how many missed.
pub(crate) fn far_reads<const N: usize>(group: &mut BenchmarkGroup<'_, WallTime>, mem: &FarMemory, data: usize)
where
    [u64; N]: Far,
{
    let bytes = N * 8;
    let count = data / bytes;
    let boxes: Vec<_> = (0..count).map(|i| RemBox::new_in([i as u64; N], mem)).collect();
    let mut random = Random::new();
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
}

/// Copies of `bytes` bytes from uniform random places of `source` to one place.
pub(crate) fn bare_copies(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, source: &[u8], bytes: usize) {
    let mut random = Random::new();
    let mut target = vec![0u8; bytes];
    group.bench_function(BenchmarkId::new("uniform", name), |b| {
        b.iter(|| {
            let at = random.below(source.len() / bytes) * bytes;
            target.copy_from_slice(&source[at..at + bytes]);
            black_box(&mut target);
        });
    });
}
