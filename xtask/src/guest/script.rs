//! What a guest runs, as a script for its shell.
#![forbid(unsafe_code)]

use crate::invocation::quoted;
use std::path::Path;

/// Variables that a guest's command is given as they are here: those that tests are told things by, and those without which it might not start or speak differently.
const PASSED_ON: [&str; 9] =
    ["FARPTR_", "RUST_", "PROPTEST_", "LOOM_", "PATH=", "LD_LIBRARY_PATH=", "CARGO_MANIFEST_DIR=", "LANG=", "LC_ALL="];

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Script {
    /// A line of shell.
    Line(String),
    /// A program and its arguments.
    Words(Vec<String>),
}

impl Script {
    /// The script, for a shell that becomes the command: so its status, and the signals it is sent, are the command's.
    pub(crate) fn text(&self, variables: impl Iterator<Item = (String, String)>, folder: &Path) -> String {
        let mut text = String::new();
        for (name, value) in variables {
            text += &format!("export {name}={}\n", quoted(&value));
        }
        text += &format!("cd {} || exit 126\n", quoted(&folder.display().to_string()));
        match self {
            // A shell with -c becomes the last command of its line, where it is a simple one.
            Script::Line(line) => text + &format!("exec /bin/sh -c {}\n", quoted(line)),
            Script::Words(words) => {
                let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
                text + &format!("exec {}\n", words.join(" "))
            }
        }
    }
}

/// Of the variables here those that are passed on.
pub(crate) fn passed_on(variables: impl Iterator<Item = (String, String)>) -> impl Iterator<Item = (String, String)> {
    variables.filter(|(name, _)| PASSED_ON.iter().any(|known| format!("{name}=").starts_with(known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words_and_lines_are_shell() {
        let words = Script::Words(vec!["/a b/test".into(), "it's".into(), "--exact".into()]);
        let variables = [("RUST_LOG".to_owned(), "a b".to_owned())];
        assert_eq!(
            words.text(variables.into_iter(), Path::new("/w")),
            "export RUST_LOG='a b'\ncd /w || exit 126\nexec '/a b/test' 'it'\\''s' --exact\n"
        );
        let line = Script::Line("a | b".into());
        assert_eq!(line.text(std::iter::empty(), Path::new("/w x")), "cd '/w x' || exit 126\nexec /bin/sh -c 'a | b'\n");
    }

    #[test]
    fn only_known_variables_go_into_a_guest() {
        let variables =
            ["FARPTR_ZEAL", "RUST_BACKTRACE", "PATH", "PATHS", "HOME", "TMPDIR", "CARGO_REGISTRY_TOKEN", "CARGO_MANIFEST_DIR"];
        let variables = variables.iter().map(|name| ((*name).to_owned(), String::new()));
        let passed: Vec<String> = passed_on(variables).map(|(name, _)| name).collect();
        assert_eq!(passed, ["FARPTR_ZEAL", "RUST_BACKTRACE", "PATH", "CARGO_MANIFEST_DIR"]);
    }
}
