//! Sums over all of a vector, in order.

use farptr::{FarMemory, RemVec};
use std::hint::black_box;

/// Elements of one chunk of a `RemVec<u64>`: 16 KiB.
const CHUNK: usize = 2048;

/// A `RemVec` of `data` bytes with the numbers from 0, and their sum.
///
/// # Errors
/// If far memory has no room for it.
pub fn fill(mem: &FarMemory, data: usize) -> farptr::Result<(RemVec<u64>, u64)> {
    let count = (data / 8) as u64;
    let mut far = RemVec::new_in(mem);
    far.try_extend(0..count)?;
    Ok((far, (0..count).sum()))
}

/// The sum, by slices.
///
/// # Errors
/// If a chunk can't be had.
pub fn sum_far(far: &RemVec<u64>) -> farptr::Result<u64> {
    let mut sum = 0u64;
    far.try_for_each_slice(.., |_, slice| sum += slice.iter().sum::<u64>())?;
    Ok(sum)
}

/// The sum over ordinary memory: the ceiling.
pub fn sum_local(local: &[u64]) -> u64 {
    black_box(local).iter().fold(0, |sum, number| sum.wrapping_add(*number))
}

/// The same through a buffer of one chunk, which is what a scan of data that is elsewhere can't do without.
pub fn sum_copied(local: &[u64]) -> u64 {
    let mut buffer = [0u64; CHUNK];
    local.chunks(CHUNK).fold(0u64, |sum, chunk| {
        let part = &mut buffer[..chunk.len()];
        part.copy_from_slice(chunk);
        sum + black_box(&*part).iter().sum::<u64>()
    })
}
