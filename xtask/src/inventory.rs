//! The unsafe inventory: which files hold `unsafe`, against the list in `docs/design.md`.
//!
//! The list stands between two lines `<!-- unsafe-files -->`; every path in backquotes there that ends in `.rs` counts.
//! What is unsafe is decided by tokens, so that comments and strings may use the word. Compile-fail tests don't count, since
//! they never become a program.
#![forbid(unsafe_code)]

use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const LIST: &str = "docs/design.md";
const MARKER: &str = "<!-- unsafe-files -->";

pub(crate) fn check(root: &Path) -> Result<(), String> {
    let design = fs::read_to_string(root.join(LIST)).map_err(|error| format!("can't read {LIST}: {error}"))?;
    let listed = listed_in(&design)?;
    let mut found = BTreeSet::new();
    scan(root, root, &mut found)?;
    let difference = difference(&listed, &found);
    if difference.is_empty() { Ok(()) } else { Err(difference) }
}

/// What is wrong, in one line; empty if nothing is.
fn difference(listed: &BTreeSet<String>, found: &BTreeSet<String>) -> String {
    let unlisted = found.difference(listed).map(|file| format!("{file} holds `unsafe`, and {LIST} doesn't list it"));
    let outdated = listed.difference(found).map(|file| format!("{LIST} lists {file}, which holds no `unsafe`, or isn't there"));
    unlisted.chain(outdated).collect::<Vec<_>>().join("; ")
}

fn listed_in(design: &str) -> Result<BTreeSet<String>, String> {
    let parts: Vec<&str> = design.split(MARKER).collect();
    let [_, list, _] = parts[..] else {
        return Err(format!("{LIST} should hold the list between two lines {MARKER}; it has {} of them", parts.len() - 1));
    };
    Ok(list.split('`').skip(1).step_by(2).filter(|path| path.ends_with(".rs")).map(str::to_owned).collect())
}

/// Adds the files below `folder` that hold `unsafe`, as paths from `root`.
fn scan(root: &Path, folder: &Path, found: &mut BTreeSet<String>) -> Result<(), String> {
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| format!("can't read {}: {error}", path.display());
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_symlink() || name.starts_with('.') || name == "target" || name == "compile_fail" {
            continue;
        }
        if path.is_dir() {
            scan(root, &path, found)?;
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
            let tokens: TokenStream = text.parse().map_err(|error| unreadable(&path, &error))?;
            if holds_unsafe(tokens) {
                found.insert(path.strip_prefix(root).unwrap_or(&path).display().to_string());
            }
        }
    }
    Ok(())
}

fn holds_unsafe(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => holds_unsafe(group.stream()),
        TokenTree::Ident(ident) => ident == "unsafe",
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unsafe_in(code: &str) -> bool {
        holds_unsafe(code.parse().unwrap())
    }

    #[test]
    fn only_code_is_unsafe() {
        assert!(unsafe_in("fn f() { if x { unsafe { g() } } }"));
        assert!(unsafe_in("unsafe impl Send for X {}"));
        assert!(unsafe_in("macro_rules! m { () => { unsafe fn f() {} } }"));
        assert!(unsafe_in("#[unsafe(no_mangle)] fn f() {}"));
        assert!(!unsafe_in("#![forbid(unsafe_code)] //! unsafe\n/// unsafe\nfn f() { /* unsafe */ g(\"unsafe {\"); }"));
    }

    #[test]
    fn the_list_is_between_the_markers() {
        let design = "`not/this.rs`\n<!-- unsafe-files -->\n| `a/b.rs` | maps memory by `mmap` |\n- `c.rs`\n<!-- unsafe-files -->\n`nor/this.rs`";
        assert_eq!(listed_in(design), Ok(["a/b.rs", "c.rs"].map(String::from).into()));
        assert!(listed_in("no list").unwrap_err().contains("has 0 of them"));
    }

    #[test]
    fn both_directions_count() {
        let set = |files: &[&str]| files.iter().map(|file| file.to_string()).collect::<BTreeSet<_>>();
        assert_eq!(difference(&set(&["a.rs"]), &set(&["a.rs"])), "");
        let said = difference(&set(&["a.rs", "b.rs"]), &set(&["b.rs", "c.rs"]));
        assert!(said.contains("c.rs holds `unsafe`") && said.contains("lists a.rs"), "{said}");
        assert!(!said.contains("b.rs"), "{said}");
    }

    #[test]
    fn every_file_of_the_workspace_can_be_read() {
        let root = crate::workspace_root();
        let mut found = BTreeSet::new();
        scan(&root, &root, &mut found).unwrap();
        assert!(found.contains("xtask/src/uring.rs"), "{found:?}");
        assert!(!found.contains("xtask/src/inventory.rs"), "{found:?}");
    }
}
