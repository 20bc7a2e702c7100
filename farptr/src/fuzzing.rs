//! Doors for the fuzz targets of this repository, and for nobody else: what is here may change or go at any time.
#![forbid(unsafe_code)]

pub use crate::config::fuzzing::{Checked, settings};
use crate::{FarMemory, Result};
use std::time::Duration;

/// A far memory over an embedded lender of at most `far_capacity` bytes, without any thread: rounds run when the caller needs room, and the
/// same operations have the same outcome every time.
///
/// # Errors
/// As [`Builder::build`](crate::Builder::build).
pub fn memory(local_budget: usize, far_capacity: u64) -> Result<FarMemory> {
    FarMemory::without_threads(local_budget, far_capacity, Duration::from_secs(5))
}

/// From now on what is read for the first time is passed, as where reads are spread over much more than fits, which a short run has no time to show.
pub fn pass_first_reads(memory: &FarMemory) {
    memory.pass_first_reads();
}

/// Runs one round of evacuation, as a thread does that is short of memory; whether it freed anything. None is run inside a scope of the caller, which
/// a round would wait for.
pub fn round(memory: &FarMemory) -> bool {
    memory.run_round()
}
