//! Benchmarks of farptr: `benches/` by criterion, one part at a time; `src/bin/farbench` all of it side by side with its limits and alternatives.
//!
//! What both measure is here, so that there is one of it.
#![forbid(unsafe_code)]

pub mod deref;
pub mod floor;
pub mod random;
pub mod reads;
pub mod scan;
