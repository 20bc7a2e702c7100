//! Every input of the corpora, run through its target without a fuzzer: what has been found stays found.
#![forbid(unsafe_code)]

use farptr_fuzz::TARGETS;
use std::fs;
use std::path::{Path, PathBuf};

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// Runs a target on all its inputs, in the order of their names, and says on which it is: a panic's message tells the file.
fn replay(name: &str) {
    let (_, run) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target");
    let mut files: Vec<_> = fs::read_dir(corpus(name)).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() > 10, "{name}: a corpus of {} inputs tests nothing", files.len());
    for file in &files {
        println!("{}", file.display());
        run(&fs::read(file).expect("an input"));
    }
}

macro_rules! replay {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$(stringify!($target)),*];
            assert!(TARGETS.iter().map(|(name, _)| *name).eq(replayed));
        }
    };
}

replay!(frames server client heap map vec settings);
