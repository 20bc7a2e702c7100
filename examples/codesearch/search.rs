//! Answers a pattern: asks the index for the files that may match, reads those, and matches their lines.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use super::error::Result;
use super::index::Index;
use super::lines::{Found, LineMatcher};
use super::output::Sink;
use super::pattern::Pattern;
use super::plan::Plan;
use super::posting::{Block, FileId};
use super::store::Store;
use super::trigram::Trigram;

/// Bytes of text read between two times that found lines are handed on.
const PIECE_BYTES: usize = 64 * 1024;

/// What a search found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Lines that match.
    pub lines: u64,
    /// Files they are in.
    pub files: u64,
    /// Files that had to be read.
    pub files_read: u64,
}

/// Searches for `pattern` and hands the lines to `sink`, in order.
pub fn search<S: Store>(index: &Index<S>, pattern: &Pattern, sink: &mut dyn Sink) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut found = Found::default();
    let mut path = Vec::new();
    let mut matcher = LineMatcher::new(pattern.regex());
    for file in files_that_may_match(index, pattern.plan())?.iter() {
        let text = index.files().text_len(file)?;
        // An empty file has no lines.
        if text == 0 {
            continue;
        }
        outcome.files_read += 1;
        let before = outcome.lines;
        for start in (0..text).step_by(PIECE_BYTES) {
            let end = text.min(start + PIECE_BYTES);
            index.files().read_text(file, start..end, &mut |slice| matcher.feed(slice, &mut found))?;
            if end == text {
                matcher.finish(&mut found);
            }
            for (number, line) in found.iter() {
                if outcome.lines == before {
                    index.files().read_path(file, &mut path)?;
                }
                outcome.lines += 1;
                sink.line(&path, number, line)?;
            }
            found.clear();
        }
        if outcome.lines > before {
            outcome.files += 1;
            sink.end_file(&path, outcome.lines - before)?;
        }
    }
    Ok(outcome)
}

/// The files that `plan` can't exclude.
pub fn files_that_may_match<S: Store>(index: &Index<S>, plan: &Plan) -> Result<FileSet> {
    Evaluation { index, lists: HashMap::new(), block: Block::default() }.files(plan)
}

struct Evaluation<'i, S: Store> {
    index: &'i Index<S>,
    /// Lists that have been read: alternatives share many trigrams.
    lists: HashMap<Trigram, Rc<FileSet>>,
    block: Block,
}

impl<S: Store> Evaluation<'_, S> {
    fn files(&mut self, plan: &Plan) -> Result<FileSet> {
        let count = self.index.files().len();
        match plan {
            Plan::All => Ok(FileSet::full(count)),
            Plan::None => Ok(FileSet::none(count)),
            Plan::Has(trigram) => Ok(self.list(*trigram)?.as_ref().clone()),
            Plan::Or(parts) => {
                let mut files = FileSet::none(count);
                for part in parts {
                    files.add(&self.files(part)?);
                }
                Ok(files)
            }
            Plan::And(parts) => {
                let mut files = FileSet::full(count);
                for (asked, part) in parts.iter().enumerate() {
                    // Another list costs about what reading a file costs. Once fewer files are left than lists have been read,
                    // reading on can at most double the cost, and rarely saves as much.
                    if files.len() <= asked {
                        break;
                    }
                    match part {
                        Plan::Has(trigram) => files.keep(&*self.list(*trigram)?),
                        part => files.keep(&self.files(part)?),
                    }
                }
                Ok(files)
            }
        }
    }

    fn list(&mut self, trigram: Trigram) -> Result<Rc<FileSet>> {
        let entry = match self.lists.entry(trigram) {
            Entry::Occupied(list) => return Ok(list.get().clone()),
            Entry::Vacant(entry) => entry,
        };
        let mut files = FileSet::none(self.index.files().len());
        self.index.postings().look_up(trigram, &mut self.block, |file| files.insert(file))?;
        Ok(entry.insert(Rc::new(files)).clone())
    }
}

/// A set of files, a bit for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSet {
    bits: Vec<u64>,
}

impl FileSet {
    /// No file of `count`.
    pub fn none(count: usize) -> Self {
        FileSet { bits: vec![0; count.div_ceil(64)] }
    }

    /// All files of `count`.
    pub fn full(count: usize) -> Self {
        let mut bits = vec![u64::MAX; count.div_ceil(64)];
        if let Some(last) = bits.last_mut()
            && !count.is_multiple_of(64)
        {
            *last = (1 << (count % 64)) - 1;
        }
        FileSet { bits }
    }

    /// Adds a file. One that does not exist is ignored.
    pub fn insert(&mut self, file: FileId) {
        if let Some(word) = self.bits.get_mut(file.0 as usize / 64) {
            *word |= 1 << (file.0 % 64);
        }
    }

    /// True if `file` is in the set.
    pub fn contains(&self, file: FileId) -> bool {
        self.bits.get(file.0 as usize / 64).is_some_and(|word| word >> (file.0 % 64) & 1 == 1)
    }

    /// How many files are in the set.
    pub fn len(&self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// True if no file is in the set.
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|&word| word == 0)
    }

    /// Adds the files of `other`.
    pub fn add(&mut self, other: &FileSet) {
        self.bits.iter_mut().zip(&other.bits).for_each(|(word, other)| *word |= other);
    }

    /// Keeps only files that are in `other`, too.
    pub fn keep(&mut self, other: &FileSet) {
        self.bits.iter_mut().zip(&other.bits).for_each(|(word, other)| *word &= other);
    }

    /// The files, in order.
    pub fn iter(&self) -> impl Iterator<Item = FileId> + '_ {
        self.bits.iter().enumerate().flat_map(|(group, &word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| FileId(group as u32 * 64 + bit))
        })
    }
}
