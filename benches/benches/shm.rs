//! Memory that a `farmemd` on this machine lends and the borrower maps: misses and scans beside bare copies from a mapping like it. One thread.
//!
//! The bare copies are of the same bytes in the same order of places, from memory that is mapped and has all its pages: what no far memory on
//! shared memory can beat. To one place, which stays in the processor's cache; and to the next place of a log as large as the local budget each time, one ended before the next begins, which is what is
//! to be done with objects that are to stay. Once from huge pages, which slabs have where the kernel gives them, and once from a memory file as it comes, of small ones.

mod common;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use farptr::{Far, FarMemory};
use farptr_benches::floor::BareCopies;
use farptr_server::{Config, Daemon};
use memmap2::{Advice, MmapMut};
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

/// Data set in bytes.
const DATA: usize = 512 << 20;

/// What a bare scan copies at a time: a chunk of a `RemVec`.
const CHUNK: usize = 16 << 10;

/// A daemon, and how to borrow from it. Its socket goes with it.
fn daemon() -> (Daemon, String) {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("shm-bench-{}", std::process::id()));
    let daemon = Daemon::start(Config::unix(path, 2 * DATA as u64)).expect("a server");
    let address = daemon.addresses()[0].to_string();
    (daemon, address)
}

/// Memory with all its pages, huge ones if they can be had.
fn huge(bytes: usize) -> MmapMut {
    let mut map = MmapMut::map_anon(bytes).expect("a mapping");
    if let Err(error) = map.advise(Advice::HugePage) {
        eprintln!("no huge pages: {error}");
    }
    map.fill(1);
    map
}

/// A memory file, mapped, with all its pages.
fn file() -> MmapMut {
    let file = std::fs::File::from(rustix::fs::memfd_create("bench", rustix::fs::MemfdFlags::CLOEXEC).expect("a memory file"));
    file.set_len(DATA as u64).expect("its length");
    // SAFETY: the file has no name and no other user, so that nobody changes it or makes it shorter while it is mapped.
    let mut map = unsafe { MmapMut::map_mut(&file) }.expect("a mapping");
    map.fill(1);
    map
}

fn misses<const N: usize>(c: &mut Criterion, address: &str, sources: &[(&str, MmapMut)])
where
    [u64; N]: Far,
{
    let mem = FarMemory::builder().local_budget(DATA / 4).server(address).build().expect("a far memory");
    let mut group = c.benchmark_group(format!("shm/miss/{}", N * 8));
    common::far_reads::<N>(&mut group, &mem, DATA);
    for (name, source) in sources {
        common::bare_copies(&mut group, &format!("bare copy from {name}"), BareCopies::new(source, N * 8));
    }
    let mut log = huge(DATA / 4);
    common::bare_copies(
        &mut group,
        "bare copy from huge pages to a log as large as the budget",
        BareCopies::to_log(&sources[0].1, N * 8, &mut log),
    );
    group.finish();
}

fn scan(c: &mut Criterion, address: &str, source: &[u8]) {
    let mut group = c.benchmark_group("shm/scan");
    group.throughput(Throughput::Bytes(DATA as u64)).sample_size(10).measurement_time(Duration::from_secs(4));
    let mem = FarMemory::builder().local_budget(DATA / 10).server(address).build().expect("a far memory");
    let (far, expected) = farptr_benches::scan::fill(&mem, DATA).expect("room for the elements");
    group.bench_function("far, 10% local", |b| {
        b.iter(|| assert_eq!(farptr_benches::scan::sum_far(&far).expect("the chunks"), expected));
    });
    drop(far);
    let mut cached = vec![0u8; CHUNK];
    let mut log = huge(DATA / 10);
    let mut all = huge(DATA);
    let targets = [("the cache", &mut cached[..]), ("a log as large as the budget", &mut log), ("memory as large", &mut all)];
    for (name, target) in targets {
        let places = target.len() / CHUNK;
        for summed in [false, true] {
            let name = format!("bare copy to {name}{}", if summed { ", summed" } else { "" });
            group.bench_function(name, |b| {
                b.iter(|| {
                    for (number, chunk) in source.chunks_exact(CHUNK).enumerate() {
                        let place = &mut target[number % places * CHUNK..][..CHUNK];
                        place.copy_from_slice(chunk);
                        if summed {
                            black_box(sum(place));
                        } else {
                            black_box(place);
                        }
                    }
                });
            });
        }
    }
    group.finish();
}

/// The sum of a chunk's words.
fn sum(chunk: &[u8]) -> u64 {
    chunk.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes"))).fold(0, u64::wrapping_add)
}

fn shm(c: &mut Criterion) {
    let (_daemon, address) = daemon();
    let sources = [("huge pages", huge(DATA)), ("small pages", file())];
    misses::<8>(c, &address, &sources);
    misses::<512>(c, &address, &sources);
    scan(c, &address, &sources[0].1);
}

criterion_group!(benches, shm);
criterion_main!(benches);
