//! A program that overwrites its data for ever does not use up far memory: at most one and a half times what it keeps, at any time.

mod common;

use common::{assert_empty, memory, numbers};
use farptr::{FarMemory, RemBox};

const MIB: u64 = 1 << 20;

const BUDGET: u64 = 4 * MIB;

const LIVE: u64 = 40 * MIB;

/// Beside one and a half times the live bytes. Of used far segments: the two that are being filled, and the four that may be dead without
/// being worth a pass of the cleaner (see `FarLog::wants_cleaning`); 256 KiB each. Of borrowed memory, which comes in slabs, one slab
/// more: this budget borrows by the MiB.
const USED_SLACK: u64 = 6 << 18;
const BORROWED_SLACK: u64 = USED_SLACK + MIB;

/// Far memory used and borrowed at most, in parts of what the program held at that moment.
#[derive(Debug, Default)]
struct Most {
    used: f64,
    borrowed: f64,
}

impl Most {
    fn look(&mut self, mem: &FarMemory, live: u64) {
        let stats = mem.stats();
        let part = |bytes: u64, slack: u64| bytes.saturating_sub(slack) as f64 / live as f64;
        self.used = self.used.max(part(stats.far_used_bytes, USED_SLACK));
        self.borrowed = self.borrowed.max(part(stats.far_borrowed_bytes, BORROWED_SLACK));
    }
}

/// A size between 32 B and 64 KiB, each power of two as likely as the others; one in 400 objects is large.
fn size(next: &mut impl FnMut() -> u64) -> usize {
    if next().is_multiple_of(400) {
        return (100 << 10) + (next() % (150 << 10)) as usize;
    }
    let power = 5 + next() % 11;
    ((1 << power) + next() % (1 << power)) as usize
}

#[test]
fn overwriting_for_ever_takes_at_most_one_and_a_half_times_what_is_alive() {
    let mem = memory(BUDGET as usize);
    let mut next = numbers(11);
    let mut values: Vec<RemBox<[u8]>> = Vec::new();
    let mut live = 0;
    while live < LIVE {
        let size = size(&mut next);
        values.push(RemBox::from_slice_in(&vec![1; size], &mem));
        live += size as u64;
    }
    let mut most = Most::default();
    let mut written = 0;
    let mut step = 0u64;
    while written < 20 * LIVE {
        let number = next() as usize % values.len();
        let old = values[number].len();
        if next().is_multiple_of(2) {
            values[number].with_mut(|bytes| bytes.fill(step as u8));
            written += old as u64;
        } else {
            let size = size(&mut next);
            values[number] = RemBox::from_slice_in(&vec![step as u8; size], &mem);
            live = live + size as u64 - old as u64;
            written += size as u64;
        }
        step += 1;
        if step.is_multiple_of(64) {
            most.look(&mem, live);
        }
    }
    let stats = mem.stats();
    println!("most: {most:?}; {stats:?}");
    assert!(stats.written_back_bytes > 15 * LIVE, "nearly all of it went to far memory: {stats:?}");
    assert!(most.used <= 1.5 && most.borrowed <= 1.5, "{most:?}; {stats:?}");
    drop(values);
    assert_empty(&mem);
}
