//! What can end a search, each in one line that says what to do.

use std::io;
use std::path::PathBuf;

/// Result of a step of the search.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why the program can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The folder to index can't be used.
    #[error("{}: {cause}; give a folder that exists and that you may read (patterns come first: codesearch PATTERN DIR)", path.display())]
    Tree {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        cause: String,
    },
    /// The folder holds nothing to index.
    #[error("{}: no text to index in it ({files} files, {not_text} of them not text, {unreadable} unreadable); give a folder with source text", path.display())]
    NoText {
        /// The folder.
        path: PathBuf,
        /// Files found.
        files: u64,
        /// Files with NUL bytes.
        not_text: u64,
        /// Files that could not be read.
        unreadable: u64,
    },
    /// More files than a file number can tell apart.
    #[error("more than {limit} files; index a smaller folder")]
    TooManyFiles {
        /// The limit.
        limit: u32,
    },
    /// A pattern is not a regular expression.
    #[error("invalid regex '{pattern}': {why}; write \\ before a special character, or search for it as it stands with -F")]
    Pattern {
        /// The pattern as given.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A setting on the command line is wrong.
    #[error("{0}")]
    Setting(String),
    /// Where the text lies failed.
    #[error("{0}")]
    Store(#[from] super::store::StoreError),
    /// What was read back is not what was written.
    #[error("the index is damaged: {0}; this is a bug or faulty memory, run it again")]
    Damaged(&'static str),
    /// Results could not be written.
    #[error("can't write the results: {0}")]
    Output(#[source] io::Error),
    /// The run in far memory and the run in ordinary memory found different lines.
    #[error(
        "far memory gave {far} matching lines and ordinary memory {local}; if the folder did not change meanwhile, this is a bug"
    )]
    Differs {
        /// Matching lines found in far memory.
        far: u64,
        /// Matching lines found in ordinary memory.
        local: u64,
    },
}

impl Failure {
    /// The reader of the results went away (`codesearch ... | head`), which is its right and not worth a message.
    pub fn is_reader_gone(&self) -> bool {
        matches!(self, Failure::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe)
    }
}
