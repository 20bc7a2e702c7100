//! What the examples are made of. Each example's `main.rs` only reads its command line and reports; the rest is a library,
//! so that tests reach the parts as well as the program.
#![forbid(unsafe_code)]

#[path = "../codesearch/mod.rs"]
pub mod codesearch;
