//! Code search in far memory: a tree of source text, indexed by trigrams, searched by regular expressions.
//!
//! # What it shows
//! The text, the paths and the posting lists lie in far memory; a program with a local budget of a fraction of its data
//! indexes and searches it, and prints what `grep -rnI` prints. The same job is then done with everything in ordinary memory,
//! so that the price can be seen.
//!
//! # How it works
//! The method is Russ Cox's: *Regular Expression Matching with a Trigram Index, or How Google Code Search Worked* (January
//! 2012), <https://swtch.com/~rsc/regexp/regexp4.html>. A regex is turned into a boolean question about trigrams, strings of
//! three bytes ([`plan`]). The index knows which files hold which trigram ([`posting`]). Only files for which the answer is
//! yes are read and matched, line by line ([`search`]). The question may let through files that don't match; it never loses
//! one that does.
//!
//! # What lies where
//! | data | where | in ordinary memory, beside the local budget |
//! |---|---|---|
//! | text of all files, end to end | one far log, in chunks of 16 KiB | 16 bytes a file ([`files::FileTable`]) |
//! | paths, end to end | one far log, in chunks of 4 KiB | in the same 16 bytes |
//! | posting lists, delta-coded, in sorted blocks of 4 KiB | one far log, a block a chunk | 4 bytes a block ([`posting::BlockIndex`]) |
//! | runs: partial posting lists while indexing | one far log each, likewise | 4 bytes a block |
//!
//! The index is built as an external sort: (trigram, file) pairs gather in a buffer of 4 MiB ([`runs`]); a full buffer is
//! sorted and written to far memory as a run; at the end the runs are merged ([`merge`]) and dropped, which gives their far
//! memory back. So ordinary heap use is bounded, however large the tree: the pair buffer, the set of one file's trigrams
//! (2 MiB), some read buffers, and what the last column says: 0.2% of the text of crates.
//!
//! # Layers, each using only those above it
//! [`store`], [`far`], [`error`], [`trigram`], [`posting`], [`merge`], [`runs`], [`files`], [`tree`], [`index`], [`strings`], [`plan`],
//! [`pattern`], [`lines`], [`output`], [`search`], [`progress`], [`job`], [`report`], [`cli`], [`program`].

pub mod cli;
pub mod error;
pub mod far;
pub mod files;
pub mod index;
pub mod job;
pub mod lines;
pub mod merge;
pub mod output;
pub mod pattern;
pub mod plan;
pub mod posting;
pub mod program;
pub mod progress;
pub mod report;
pub mod runs;
pub mod search;
pub mod store;
pub mod strings;
pub mod tree;
pub mod trigram;
