//! Resident memory, as the kernel counts it: the budget and 32 MiB, at any time.
//!
//! A process of its own, with one test, so that nothing else is counted. The server is another process, but for the last part.

mod common;

use common::{Farmemd, numbers, zeal_contradicts};
use farptr::{FarMemory, RemBox, RemVec};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// What the process may use beside the budget: write buffers, sessions, the allocator's own, stacks.
const BESIDE: u64 = 32 * MIB;

/// A line of `/proc/self/status`, in bytes.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("a line of that name");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Runs `work` and returns the most resident memory that was seen meanwhile, less what `except` says at that moment.
fn peak_during(except: impl Fn() -> u64 + Sync, work: impl FnOnce()) -> u64 {
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let sampler = threads.spawn(|| {
            let mut peak = 0;
            while !done.load(Ordering::Relaxed) {
                // Before, since it may grow in between.
                let except = except();
                peak = peak.max(status("VmRSS").saturating_sub(except));
                std::thread::sleep(Duration::from_millis(5));
            }
            peak
        });
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        let peak = sampler.join().expect("the sampler does not panic");
        worked.map_or_else(|panic| std::panic::resume_unwind(panic), |()| peak)
    })
}

/// Small objects, vectors and large objects of `bytes` in all, made, read, overwritten and replaced by several threads.
fn exercise(mem: &FarMemory, bytes: u64) {
    const THREADS: u64 = 3;
    let share = bytes / THREADS;
    std::thread::scope(|threads| {
        for thread in 0..THREADS {
            threads.spawn(move || {
                let mut next = numbers(thread + 1);
                let mut boxes: Vec<RemBox<[u64]>> = Vec::new();
                let mut made = 0;
                while made < share / 2 {
                    // 32 B to 4 KiB; one in 64 of 128 KiB to 1 MiB.
                    let len = if next().is_multiple_of(64) { (128 << 10) + next() % (896 << 10) } else { 32 << (next() % 8) } / 8;
                    let len = if len * 8 > mem.stats().local_budget_bytes / 32 { 4096 / 8 } else { len };
                    boxes.push(RemBox::from_slice_in(&vec![made; len as usize], mem));
                    made += len * 8;
                }
                let mut vec = RemVec::new_in(mem);
                (0..share / 2 / 8).for_each(|n| vec.push(n));
                for _ in 0..boxes.len() {
                    let n = next() as usize % boxes.len();
                    match next() % 4 {
                        0 => boxes[n] = RemBox::from_slice_in(&vec![0; boxes[n].len()], mem),
                        1 => boxes[n].with_mut(|value| value[0] += 1),
                        _ => drop(boxes[n].with(|value| value[0])),
                    }
                    if next().is_multiple_of(16) {
                        let n = next() % vec.len() as u64;
                        vec.with_mut(n as usize, |value| *value += 1).expect("in bounds");
                    }
                }
                vec.for_each_slice_mut(.., |_, slice| slice.fill(1));
            });
        }
    });
}

#[test]
fn resident_memory_stays_within_the_budget_and_32_mib() {
    if zeal_contradicts(
        "resident_memory_stays_within_the_budget_and_32_mib",
        "it would move gigabytes several times to measure what zeal does not change",
    ) {
        return;
    }
    if cfg!(farptr_tsan) {
        let why = "SKIPPED: resident_memory_stays_within_the_budget_and_32_mib: it would measure ThreadSanitizer's own memory";
        writeln!(std::io::stderr(), "{why}").expect("standard error takes a line");
        return;
    }
    let server = Farmemd::start("2GiB");
    for (budget, times) in [(8 * MIB, 20), (64 * MIB, 10)] {
        let baseline = status("VmRSS");
        let mem = server.memory(budget as usize);
        let peak = peak_during(|| 0, || exercise(&mem, budget * times));
        let stats = mem.stats();
        println!(
            "tcp: budget {budget}, before {baseline}, peak {peak}: {} beside the budget",
            (peak - baseline) as i64 - budget as i64
        );
        assert!(stats.evacuated_objects > 1000 && stats.far_borrowed_bytes > budget, "{stats:?}");
        assert!(
            peak - baseline <= budget + BESIDE,
            "{peak} bytes resident, {baseline} before, for a budget of {budget}: {stats:?}"
        );
    }
    // Of all the time since the process began: what the sampler missed, and the baseline, are in it.
    let (most, limit) = (status("VmHWM"), 64 * MIB + BESIDE);
    println!("tcp: at most {most} resident");
    assert!(most <= limit, "{most} bytes resident at most, {limit} allowed");

    for (budget, times) in [(8 * MIB, 20), (64 * MIB, 4)] {
        let baseline = status("VmRSS");
        let mem = FarMemory::builder().local_budget(budget as usize).build().expect("a far memory");
        let peak = peak_during(|| mem.embedded_resident_bytes(), || exercise(&mem, budget * times));
        println!("embedded: budget {budget}, before {baseline}, peak {peak}");
        assert!(
            peak.saturating_sub(baseline) <= budget + BESIDE,
            "{peak} bytes resident beside the slabs, {baseline} before, for {budget}"
        );
    }
}
