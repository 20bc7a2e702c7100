//! The rate of misses: uniform random reads over a data set of which a quarter fits the local budget. Embedded server, one thread.
//!
//! Beside each, the bare copy of as many bytes from random places of as large a mapping: what no far memory can beat.

mod common;

use criterion::{Criterion, criterion_group, criterion_main};
use farptr::{Far, FarMemory};
use farptr_benches::floor::BareCopies;

/// Data set in bytes.
const DATA: usize = 512 << 20;

fn reads<const N: usize>(c: &mut Criterion)
where
    [u64; N]: Far,
{
    let mem = FarMemory::builder().local_budget(DATA / 4).build().expect("a far memory");
    let mut group = c.benchmark_group(format!("miss/{}", N * 8));
    common::far_reads::<N>(&mut group, &mem, DATA);
    let source = vec![1; DATA];
    common::bare_copies(&mut group, "bare copy", BareCopies::new(&source, N * 8));
    group.finish();
}

fn miss(c: &mut Criterion) {
    reads::<8>(c);
    reads::<512>(c);
}

criterion_group!(benches, miss);
criterion_main!(benches);
