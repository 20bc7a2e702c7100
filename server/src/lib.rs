//! Placeholder; see docs/design.md.
