//! Search source text by a trigram index in far memory: see `codesearch --help`, and the module `farptr_examples::codesearch`
//! for how it works.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    farptr_examples::codesearch::program::run(std::env::args_os())
}
