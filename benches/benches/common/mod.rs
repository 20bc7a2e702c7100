//! What the measurements of misses share.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Throughput};
use farptr::{Far, FarMemory};
use farptr_benches::floor::BareCopies;
use farptr_benches::reads::FarReads;
use std::time::{Duration, Instant};

/// Uniform random reads of boxes of `N` words, `data` bytes in all, one after the other; says how many missed.
pub(crate) fn far_reads<const N: usize>(group: &mut BenchmarkGroup<'_, WallTime>, mem: &FarMemory, data: usize)
where
    [u64; N]: Far,
{
    let bytes = N * 8;
    let mut reads = FarReads::<N>::fill(mem, data).expect("room for the objects");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(4)).sample_size(20);
    group.bench_function(BenchmarkId::new("uniform", "far, 25% local"), |b| {
        b.iter_custom(|turns| {
            let before = mem.stats().misses;
            let started = Instant::now();
            reads.read(turns).expect("reads");
            let took = started.elapsed();
            if turns > 100_000 {
                let missed = (mem.stats().misses - before) as f64 / turns as f64;
                eprintln!("  {bytes} bytes: {:.0} k/s, {:.1}% missed", turns as f64 / took.as_secs_f64() / 1e3, missed * 100.0);
            }
            took
        });
    });
}

/// Bare copies, one after the other.
pub(crate) fn bare_copies(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut copies: BareCopies<'_>) {
    group.bench_function(BenchmarkId::new("uniform", name), |b| b.iter(|| copies.copy()));
}
