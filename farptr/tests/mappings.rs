//! How many of the system's mappings a far memory takes. Alone in its process, since it counts them all.
#![forbid(unsafe_code)]

use farptr::{FarMemory, RemBox};

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").expect("a list of mappings").lines().count()
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("a count of pages");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
}

/// Each large object had a mapping. The kernel merges neighbours, and each object that went from between two others made two mappings of one. With 11 GiB of objects of 66 KB the process
/// came to the 65,530 that it may have. From then on `munmap` failed, which was ignored, so that what was dropped stayed in memory; threads
/// could not be started, and the program's own allocations failed.
#[test]
fn large_objects_that_come_and_go_take_few_mappings() {
    if cfg!(any(farptr_zeal, farptr_asan)) {
        return eprintln!("SKIPPED: in such a configuration each large object has a mapping, to find uses of what has gone");
    }
    let mem = FarMemory::builder().local_budget(256 << 20).server("embedded:").build().expect("a far memory");
    let before = mappings();
    let few = |when: &str| {
        let now = mappings();
        assert!(now < before + 100, "{when}: {now} mappings, {before} before");
    };
    let data = vec![7u8; 66_000];
    let mut boxes: Vec<_> = (0..3000).map(|_| Some(RemBox::from_slice_in(&data, &mem))).collect();
    few("filled");
    let (used, held) = (mem.stats().local_used_bytes, resident());
    boxes.iter_mut().step_by(2).for_each(|object| *object = None);
    mem.trim().expect("trimmed");
    few("every other one dropped");
    let dropped = 1500 * data.len();
    let (released, given_back) = (used - mem.stats().local_used_bytes, held.saturating_sub(resident()));
    assert!(released >= dropped as u64, "{released} bytes of {dropped} are in the budget again");
    assert!(given_back >= dropped * 9 / 10, "{given_back} bytes of {dropped} are the system's again");
    // Sizes that no hole fits.
    let data = vec![9u8; 140_000];
    let more: Vec<_> = (0..500).map(|_| RemBox::from_slice_in(&data, &mem)).collect();
    few("larger ones made");
    assert!(more.iter().all(|object| object.with(|bytes| *bytes == data[..])));
    assert!(boxes.iter().flatten().all(|object| object.with(|bytes| bytes.iter().all(|byte| *byte == 7))));
}
