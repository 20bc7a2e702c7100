//! Placeholder; see docs/design.md.

mod far;

pub use far::Far;
pub use farptr_derive::Far;
