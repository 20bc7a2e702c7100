//! The tree to index: which files are read, and which of them are text.
//!
//! As `grep -rI` has it: every regular file below the folder, hidden ones too; links are not followed, except the folder
//! itself. A file with a NUL byte is not text and is skipped. (grep decides that for each buffer it reads, and may have printed
//! lines from before the first NUL; here such a file is skipped whole.) A file that is not UTF-8 is text like any other.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::error::{Failure, Result};

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// A folder whose files can be read.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

/// How a file was read.
#[derive(Debug)]
pub enum Reading {
    /// It is text, and has been shown to its end.
    Text,
    /// It holds a NUL byte. Some of what comes before may have been shown.
    NotText,
    /// It can't be read. Some of it may have been shown.
    Unreadable(io::Error),
}

/// What a walk over the tree met.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// Files that are text.
    pub text_files: u64,
    /// Their bytes.
    pub text_bytes: u64,
    /// Files that are not text.
    pub not_text: u64,
    /// One of them.
    pub first_not_text: Option<PathBuf>,
    /// Files and folders that can't be read.
    pub unreadable: u64,
    /// One of them, and why.
    pub first_unreadable: Option<(PathBuf, String)>,
}

impl Survey {
    /// Files seen.
    pub fn files(&self) -> u64 {
        self.text_files + self.not_text + self.unreadable
    }

    fn meet(&mut self, path: &Path, bytes: u64, reading: Reading) {
        match reading {
            Reading::Text => {
                self.text_files += 1;
                self.text_bytes += bytes;
            }
            Reading::NotText => {
                self.not_text += 1;
                self.first_not_text.get_or_insert_with(|| path.to_owned());
            }
            Reading::Unreadable(cause) => self.fail(path, cause.to_string()),
        }
    }

    fn fail(&mut self, path: &Path, cause: String) {
        self.unreadable += 1;
        self.first_unreadable.get_or_insert_with(|| (path.to_owned(), cause));
    }
}

/// Who is shown the files.
pub trait Reader {
    /// More text of the file that is being read.
    fn text(&mut self, bytes: &[u8]) -> Result<()>;

    /// The file has been read, this way.
    fn end_file(&mut self, path: &Path, reading: &Reading) -> Result<()>;
}

impl Tree {
    /// The tree at `root`, which must be a folder that can be listed.
    pub fn open(root: PathBuf) -> Result<Self> {
        match std::fs::read_dir(&root) {
            Ok(_) => Ok(Tree { root }),
            Err(cause) => Err(Failure::Tree { path: root, cause: plain(&cause) }),
        }
    }

    /// The sources of the crates that cargo has unpacked on this machine: `$CARGO_HOME/registry/src`, or
    /// `~/.cargo/registry/src`.
    pub fn of_crate_sources(environment: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let set = |name| environment(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
        let homes = [set("CARGO_HOME"), set("HOME").map(|home| home.join(".cargo"))];
        let folders = || homes.iter().flatten().map(|home| home.join("registry/src"));
        match folders().find(|folder| folder.is_dir()) {
            Some(folder) => Tree::open(folder),
            None => Err(Failure::Setting(format!(
                "no crate sources to index: {} not there; name a folder: codesearch PATTERN DIR",
                folders().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(" and ")
            ))),
        }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Reads every file, in the order of their names, and tells what it met. An error of `reader` ends the walk.
    pub fn read(&self, reader: &mut dyn Reader) -> Result<Survey> {
        let mut survey = Survey::default();
        let mut buffer = vec![0; READ_BYTES];
        for entry in WalkDir::new(&self.root).sort_by_file_name() {
            match entry {
                Ok(entry) if entry.file_type().is_file() => {
                    let mut bytes = 0;
                    let reading = read_file(entry.path(), &mut buffer, &mut |part| {
                        bytes += part.len() as u64;
                        reader.text(part)
                    })?;
                    reader.end_file(entry.path(), &reading)?;
                    survey.meet(entry.path(), bytes, reading);
                }
                Ok(_) => (),
                Err(error) => {
                    let path = error.path().unwrap_or(&self.root).to_owned();
                    let cause = error.io_error().map_or_else(|| error.to_string(), plain);
                    survey.fail(&path, cause);
                }
            }
        }
        Ok(survey)
    }
}

fn read_file(path: &Path, buffer: &mut [u8], show: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<Reading> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(cause) => return Ok(Reading::Unreadable(cause)),
    };
    loop {
        let part = match file.read(buffer) {
            Ok(0) => return Ok(Reading::Text),
            Ok(count) => &buffer[..count],
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
            Err(cause) => return Ok(Reading::Unreadable(cause)),
        };
        if memchr::memchr(0, part).is_some() {
            return Ok(Reading::NotText);
        }
        show(part)?;
    }
}

/// What the operating system said, without its number.
fn plain(cause: &io::Error) -> String {
    let text = cause.to_string();
    match text.split_once(" (os error") {
        Some((said, _)) => said.to_owned(),
        None => text,
    }
}
