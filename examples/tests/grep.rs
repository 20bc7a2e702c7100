//! `codesearch` finds what grep finds.
#![forbid(unsafe_code)]

mod common;

use std::path::{Path, PathBuf};

use common::{ChunkedStore, Folder, assert_same_lines, bytes_tree, found, grep, sorted_lines, utf8_tree};
use farptr_examples::codesearch::index::Index;
use farptr_examples::codesearch::pattern::{Case, Pattern, Syntax};
use farptr_examples::codesearch::tree::Tree;

/// Small, so that even small trees become many runs.
const PAIRS: usize = 3000;

fn index(folder: &Path) -> Index<ChunkedStore> {
    let tree = Tree::open(folder.to_owned()).expect("the folder is there");
    Index::build_with(&ChunkedStore::default(), &tree, PAIRS, &mut |_| ()).expect("index the tree")
}

/// Patterns that mean the same to the crate `regex` and to `grep -E`.
const REGEXES: [&str; 37] = [
    "error",
    "fn",
    "x",
    "",
    "^",
    "$",
    "^$",
    "^error",
    "error$",
    "^error.*end$",
    ".",
    "..*",
    "unsafe|struct",
    "unsafe|x|segment",
    "(foo|bar)_?(bar|foo)",
    "foo.bar",
    r"foo\.bar",
    r"foo_bar\(\)",
    "[a-z]+_[a-z]+",
    "[Ee]rror",
    "0x[0-9a-f]{4}",
    "(un)?safe;",
    "(error::){2}",
    "(error|buffer){2,}",
    "e{0}rror",
    "er{2}or",
    "er{1,3}or",
    "(slab)*segment",
    "(slab)+segment",
    "sl?ab",
    r"\bfn\b",
    r"\Bor\b",
    r"a\\b",
    "buffer.*slab.*42",
    r"\w+::\w+",
    r"\s42\s",
    "no such text anywhere",
];

/// The same, with characters that are not ASCII.
const UNICODE: [&str; 9] =
    ["naïve", "stra.e", "日本", "日.語", "[äöüÜ]n", "^日本語", "naïve|straße", "(日本語)+", "[^ -~\t\r]{3}"];

const LITERALS: [&str; 8] = ["foo.bar", "[a-z]+", "a\\b", "foo_bar()", "", "error", "日本語", "::"];

#[test]
fn regexes_find_what_grep_finds() {
    let folder = utf8_tree("regexes");
    let index = index(folder.path());
    assert!(index.postings().blocks().block_count() > 10, "the tree is large enough for several blocks");
    for regex in REGEXES.iter().chain(&UNICODE) {
        for (case, flags) in [(Case::Sensitive, "-E"), (Case::Insensitive, "-Ei")] {
            let Some(theirs) = grep("C.UTF-8", folder.path(), &[flags, "-e", regex]) else { return };
            let pattern = Pattern::new(regex, Syntax::Regex, case).expect("a regex");
            assert_same_lines(&format!("{flags} {regex}"), &found(&index, &pattern), &theirs);
        }
    }
}

/// Without regard to case `[^a-z]` excludes the Kelvin sign and the long s for the crate `regex`, which folds them to k and s as
/// Unicode has it; grep does not. So this is compared with regard to case only.
#[test]
fn a_negated_class_finds_what_grep_finds() {
    let folder = utf8_tree("negated");
    let Some(theirs) = grep("C.UTF-8", folder.path(), &["-E", "-e", "[^a-z]error[^a-z]"]) else { return };
    let pattern = Pattern::new("[^a-z]error[^a-z]", Syntax::Regex, Case::Sensitive).expect("a regex");
    assert!(!theirs.is_empty());
    assert_same_lines("[^a-z]error[^a-z]", &found(&index(folder.path()), &pattern), &theirs);
}

#[test]
fn literals_find_what_grep_finds() {
    let folder = utf8_tree("literals");
    let index = index(folder.path());
    for literal in LITERALS {
        for (case, flags) in [(Case::Sensitive, "-F"), (Case::Insensitive, "-Fi")] {
            let Some(theirs) = grep("C.UTF-8", folder.path(), &[flags, "-e", literal]) else { return };
            let pattern = Pattern::new(literal, Syntax::Literal, case).expect("any text is a literal");
            assert_same_lines(&format!("{flags} {literal}"), &found(&index, &pattern), &theirs);
        }
    }
}

#[test]
fn several_lines_in_a_pattern_are_alternatives() {
    let folder = utf8_tree("alternatives");
    let index = index(folder.path());
    for (syntax, flag, text) in
        [(Syntax::Regex, "-E", "^fn\nslab$"), (Syntax::Literal, "-F", "foo.bar\n[a-z]+"), (Syntax::Regex, "-E", "no such\n")]
    {
        let Some(theirs) = grep("C.UTF-8", folder.path(), &[flag, "-e", text]) else { return };
        let pattern = Pattern::new(text, syntax, Case::Sensitive).expect("a pattern");
        assert_same_lines(text, &found(&index, &pattern), &theirs);
    }
}

#[test]
fn text_that_is_not_utf8_is_text() {
    let folder = bytes_tree("bytes");
    let index = index(folder.path());
    for regex in REGEXES.iter().chain(&["caf.", "fn caf..$", "e[^a-z]r", "or?o", "f.n"]) {
        for (case, flags) in [(Case::Sensitive, "-E"), (Case::Insensitive, "-Ei")] {
            let Some(theirs) = grep("C", folder.path(), &[flags, "-e", regex]) else { return };
            let pattern = Pattern::new(&format!("(?-u){regex}"), Syntax::Regex, case).expect("a regex of bytes");
            assert_same_lines(&format!("{flags} {regex}"), &found(&index, &pattern), &theirs);
        }
    }
}

#[test]
fn a_byte_that_is_not_utf8_is_found_by_its_value() {
    let folder = bytes_tree("value");
    let pattern = Pattern::new(r"(?-u)caf\xe9 err", Syntax::Regex, Case::Sensitive).expect("a regex of bytes");
    let path = folder.path().join("latin1");
    let expected = [path.as_os_str().as_encoded_bytes(), b":1:caf\xe9 error\n"].concat();
    assert_eq!(found(&index(folder.path()), &pattern), [expected]);
}

#[test]
fn a_file_with_a_nul_byte_anywhere_is_skipped_whole() {
    let folder = Folder::new("nul");
    folder.write("early", b"error\0\nerror\n");
    folder.write("late", [b"error\n".repeat(100_000), b"\0".to_vec()].concat());
    folder.write("text", b"error\n");
    let index = index(folder.path());
    assert_eq!((index.survey().text_files, index.survey().not_text), (1, 2));
    assert_eq!(index.files().text_bytes(), 6, "nothing is kept of a file that turned out not to be text");
    let pattern = Pattern::new("error", Syntax::Regex, Case::Sensitive).expect("a regex");
    assert_eq!(found(&index, &pattern).len(), 1);
}

#[test]
fn real_sources_give_what_grep_gives() {
    let Some(crates) = some_crates(6 << 20) else {
        eprintln!("SKIPPED: no crate sources in cargo's registry; nothing real to compare on");
        return;
    };
    for folder in crates {
        let index = index(&folder);
        for regex in ["unsafe impl", r"fn \w+\(", "^use ", r"TODO|FIXME", "[0-9]{4}-[0-9]{2}", "^$", r"#\[(cfg|test)", "->.*\\{$"]
        {
            for (case, flags) in [(Case::Sensitive, "-E"), (Case::Insensitive, "-Ei")] {
                let Some(theirs) = grep("C", &folder, &[flags, "-e", regex]) else { return };
                let pattern = Pattern::new(&format!("(?-u){regex}"), Syntax::Regex, case).expect("a regex of bytes");
                assert_same_lines(&format!("{flags} {regex} in {}", folder.display()), &found(&index, &pattern), &theirs);
            }
        }
    }
}

/// Folders of unpacked crates, the first by name, until they hold about `bytes`.
fn some_crates(bytes: u64) -> Option<Vec<PathBuf>> {
    let tree = Tree::of_crate_sources(|name| std::env::var_os(name)).ok()?;
    let registry = std::fs::read_dir(tree.root()).ok()?.flatten().map(|entry| entry.path()).find(|path| path.is_dir())?;
    let mut crates: Vec<PathBuf> = std::fs::read_dir(registry).ok()?.flatten().map(|entry| entry.path()).collect();
    crates.sort();
    let mut sum = 0;
    let size = |folder: &Path| -> u64 {
        walkdir::WalkDir::new(folder).into_iter().flatten().filter_map(|entry| entry.metadata().ok()).map(|data| data.len()).sum()
    };
    crates.retain(|folder| {
        let wanted = sum < bytes;
        sum += if wanted { size(folder) } else { 0 };
        wanted
    });
    (!crates.is_empty()).then_some(crates)
}

#[test]
fn the_program_prints_what_grep_prints() {
    let folder = utf8_tree("program");
    let Some(theirs) = grep("C.UTF-8", folder.path(), &["-E", "-e", "error|日本"]) else { return };
    let output = common::codesearch().arg("error|日本").arg(folder.path()).output().expect("run codesearch");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_same_lines("error|日本", &sorted_lines(&output.stdout), &theirs);
    assert!(said.contains("hit ratio"), "the summary is on stderr: {said}");
}
