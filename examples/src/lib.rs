//! Runnable examples live beside this crate; start with `codesearch`.
