//! What a lender promises its borrowers that a model on one thread does not show; the rest is in `tests/models/slab.rs`.
#![forbid(unsafe_code)]

use super::*;
use crate::transport::{SlabId, SlabPos};
use std::sync::atomic::{AtomicBool, Ordering};

const SLAB: u32 = 4 * STRIPE_BYTES as u32;

fn store(slabs: u64, supply: Supply) -> SlabStore {
    SlabStore::new(SlabStoreConfig { capacity: slabs * u64::from(SLAB), slab_bytes: SLAB, supply }).expect("store")
}

fn at(slab: SlabId, offset: u32) -> SlabPos {
    SlabPos { slab, offset }
}

#[test]
fn settings_that_make_no_store_are_refused_with_a_remedy() {
    for (capacity, slab_bytes, remedy) in [
        (1 << 30, 0, "multiple of"),
        (1 << 30, 1000, "multiple of"),
        (0, SLAB, "at least"),
        (u64::from(SLAB) - 1, SLAB, "at least"),
        (u64::MAX, STRIPE_BYTES as u32, "lend less"),
    ] {
        let error = SlabStore::new(SlabStoreConfig { capacity, slab_bytes, supply: Supply::OnDemand }).expect_err("refused");
        assert!(error.to_string().contains(remedy), "{error}");
    }
}

/// A hostile borrower's connections are served by different threads; it may do to one range what it likes, and its bytes
/// must still never be seen by the slab's next borrower.
#[test]
fn no_byte_written_during_a_return_survives_it() {
    let store = store(1, Supply::Upfront);
    for _ in 0..50 {
        let hostile = store.register();
        let slab = store.lend(hostile).expect("lend");
        let (started, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let bytes = vec![0xbb; STRIPE_BYTES];
                let mut offset = 0;
                while !stop.load(Ordering::Relaxed) {
                    let _ = store.write(hostile, at(slab, offset), &bytes);
                    started.store(true, Ordering::Relaxed);
                    offset = (offset + 4096) % (SLAB - STRIPE_BYTES as u32);
                }
            });
            while !started.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            store.take_back(hostile, slab).expect("return");
            let next = store.register();
            let slab = store.lend(next).expect("lend");
            let mut got = vec![1; SLAB as usize];
            store.read(next, at(slab, 0), &mut got).expect("read");
            assert!(got.iter().all(|byte| *byte == 0), "the next borrower sees a byte of the last one");
            store.take_back(next, slab).expect("return");
            stop.store(true, Ordering::Relaxed);
            writer.join().expect("writer");
        });
    }
}

/// KiB of huge pages in the mapping that `address` lies in, by what the kernel says.
fn huge_pages_at(address: usize) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/smaps").expect("the kernel says what is mapped");
    let is_in = |line: &str| {
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let bound = |hex| usize::from_str_radix(hex, 16).ok();
        Some((bound(start)?..bound(end)?).contains(&address))
    };
    let mut lines = maps.lines().skip_while(|line| is_in(line) != Some(true));
    let huge = lines.find_map(|line| line.strip_prefix("ShmemPmdMapped:")).expect("a field of it");
    huge.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// A borrower's random reads of memory files took twice as long as of its own memory: each looked a page of 4 KiB up.
#[test]
fn lender_and_borrower_have_huge_pages_behind_a_memory_file() {
    use super::mapping::{HUGE_PAGE, Mapping};
    use super::memory::SlabMemory;
    let slab_bytes = 2 * HUGE_PAGE as u32;
    let config = SlabStoreConfig { capacity: slab_bytes.into(), slab_bytes, supply: Supply::Shared(Backing::Memfd) };
    let store = SlabStore::new(config).expect("store");
    let (_, file) = store.lend_file(store.register()).expect("a slab");
    let mapping = Mapping::shared(&file.expect("its file"), 0, slab_bytes as usize).expect("a mapping");
    let address = mapping.as_mut_ptr() as usize;
    assert!(address.is_multiple_of(HUGE_PAGE));
    let borrowed = SlabMemory::new(slab_bytes as usize);
    borrowed.install(mapping);
    borrowed.populate().expect("populate");
    let huge = huge_pages_at(address);
    if huge == 0 && !gives_huge_pages() {
        eprintln!("SKIPPED: the kernel has no huge pages for memory files: older than 6.1, told to deny them, or none are free");
        return;
    }
    assert!(huge > 0, "no huge page behind a memory file");
    let mut bytes = vec![1; slab_bytes as usize];
    borrowed.read(0, &mut bytes, || true).expect("read");
    assert!(bytes.iter().all(|byte| *byte == 0), "a slab is lent zeroed");
}

/// Whether a memory file can be given a huge page now.
fn gives_huge_pages() -> bool {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let version: Vec<u32> = read("/proc/sys/kernel/osrelease").split('.').map_while(|part| part.parse().ok()).collect();
    let allowed = read("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
    // Free memory by size, in powers of two pages; a huge page is 2^9.
    let free = |line: &str| line.split_whitespace().skip(4 + 9).any(|count| count != "0");
    version >= vec![6, 1] && !allowed.is_empty() && !allowed.contains("[deny]") && read("/proc/buddyinfo").lines().any(free)
}
