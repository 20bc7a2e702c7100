//! Fuzz targets: what is done with bytes that a fuzzer makes up, and what must hold then.
//!
//! A target is a function of bytes that returns or panics. libFuzzer runs it by the programs in `fuzz/libfuzzer`, which `cargo xtask fuzz`
//! builds; `tests/replay.rs` runs it on the inputs in `fuzz/corpus`, so that a regression shows in the ordinary suite. Same input, same
//! outcome: no target asks for the time, starts a thread or keeps anything for the next run. (Tokens of borrowers are random; no target
//! depends on their value.)
//!
//! Most targets turn the bytes into a sequence of operations and carry them out twice, on the product and on a model that is as simple
//! as can be: [`input`] says how. What the model says, and what it leaves open, is in each target's page.
//!
//! | target | input | must hold |
//! |---|---|---|
//! | [`frames`] | bytes on the wire | what decodes is what was encoded; where the stream is cut makes no difference, whatever is passed with slabs |
//! | [`server`] | what several clients send, and when, some of which pass keys | replies, slabs and keys are those of a model; nobody reaches another's slab |
//! | [`client`] | what a program asks, what a server answers, and when | each operation completes once; no tag, buffer, slab, key or file is lost or another's |
//! | [`heap`] | operations on objects of all sizes, a budget far too small | contents are the model's; the budget holds; nothing is left |
//! | [`map`] | operations on a map | as `std`'s |
//! | [`mod@vec`] | operations on a vector | as `std`'s |
//! | [`settings`] | a configuration file, variables | what is taken is in range and survives being written down; what isn't is explained |
#![forbid(unsafe_code)]

pub mod client;
pub mod frames;
pub mod heap;
pub mod input;
pub mod map;
pub mod server;
pub mod settings;
pub mod vec;

/// A target: its name, which is that of its program and of its folder of inputs, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 7] = [
    ("frames", frames::run),
    ("server", server::run),
    ("client", client::run),
    ("heap", heap::run),
    ("map", map::run),
    ("vec", vec::run),
    ("settings", settings::run),
];
