//! Placeholder; see docs/design.md.

#[expect(dead_code, reason = "FarMemory's builder is its user")]
mod config;
mod far;

pub use far::Far;
pub use farptr_derive::Far;
