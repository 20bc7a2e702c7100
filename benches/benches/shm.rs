//! Memory that a `farmemd` on this machine lends and the borrower maps: misses and scans beside bare copies from a mapping like it. One thread.
//!
//! The bare copies are of the same bytes in the same order of places, from a memory file that is mapped and has all its pages: what no far memory on
//! shared memory can beat.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use farptr::{Far, FarMemory, RemBox, RemVec};
use farptr_server::{Config, Daemon};
use memmap2::MmapMut;
use std::hint::black_box;
use std::path::PathBuf;
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

/// A daemon, and how to borrow from it. Its socket goes with it.
fn daemon() -> (Daemon, String) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("shm-bench-{}", std::process::id()));
    let daemon = Daemon::start(Config::unix(path, 2 * DATA as u64)).expect("a server");
    let address = daemon.addresses()[0].to_string();
    (daemon, address)
}

/// A memory file, mapped, with all its pages.
fn mapped() -> MmapMut {
    let file = std::fs::File::from(rustix::fs::memfd_create("bench", rustix::fs::MemfdFlags::CLOEXEC).expect("a memory file"));
    file.set_len(DATA as u64).expect("its length");
    // SAFETY: the file has no name and no other user, so that nobody changes it or makes it shorter while it is mapped.
    let mut map = unsafe { MmapMut::map_mut(&file) }.expect("a mapping");
    map.fill(1);
    map
}

fn misses<const N: usize>(c: &mut Criterion, address: &str, source: &[u8])
where
    [u64; N]: Far,
{
    let bytes = N * 8;
    let count = DATA / bytes;
    let mem = FarMemory::builder().local_budget(DATA / 4).server(address).build().expect("a far memory");
    let boxes: Vec<_> = (0..count).map(|i| RemBox::new_in([i as u64; N], &mem)).collect();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut group = c.benchmark_group(format!("shm/miss/{bytes}"));
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
    let mut target = vec![0u8; bytes];
    group.bench_function(BenchmarkId::new("uniform", "bare copy from the mapping"), |b| {
        b.iter(|| {
            let i = random.below(count);
            target.copy_from_slice(&source[i * bytes..(i + 1) * bytes]);
            black_box(&mut target);
        });
    });
    group.finish();
}

fn scan(c: &mut Criterion, address: &str, source: &[u8]) {
    let mut group = c.benchmark_group("shm/scan");
    group.throughput(Throughput::Bytes(DATA as u64)).sample_size(10).measurement_time(Duration::from_secs(4));
    let mem = FarMemory::builder().local_budget(DATA / 10).server(address).build().expect("a far memory");
    let mut far = RemVec::new_in(&mem);
    far.extend(0..(DATA / 8) as u64);
    let expected = (0..(DATA / 8) as u64).sum::<u64>();
    group.bench_function("far, 10% local", |b| {
        b.iter(|| {
            let mut sum = 0u64;
            far.for_each_slice(.., |_, slice| sum += slice.iter().sum::<u64>());
            assert_eq!(sum, expected);
        });
    });
    drop(far);
    let mut target = vec![0u8; 16 << 10];
    group.bench_function("bare copy from the mapping, by 16 KiB", |b| {
        b.iter(|| {
            for part in source.chunks_exact(target.len()) {
                target.copy_from_slice(part);
                black_box(&mut target);
            }
        });
    });
    group.bench_function("bare copy from the mapping to memory as large", |b| {
        let mut all = vec![0u8; DATA];
        b.iter(|| {
            all.copy_from_slice(source);
            black_box(&mut all);
        });
    });
    group.finish();
}

fn shm(c: &mut Criterion) {
    let (_daemon, address) = daemon();
    let source = mapped();
    misses::<8>(c, &address, &source);
    misses::<512>(c, &address, &source);
    scan(c, &address, &source);
}

criterion_group!(benches, shm);
criterion_main!(benches);
