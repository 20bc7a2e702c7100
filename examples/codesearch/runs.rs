//! Sorts (trigram, file) pairs in far memory.
//!
//! Pairs gather in a buffer. A full buffer is sorted and becomes a run, a posting log in far memory. Runs are merged [`FAN_IN`]
//! at a time, and only with runs of their own level, so that a pair is rewritten once a level and the number of levels grows
//! with the logarithm of the tree. Files come in order, so that a run's files come before the next run's, for each trigram.

use super::error::Result;
use super::merge::merge;
use super::posting::{FileId, Postings, PostingsWriter};
use super::store::Store;
use super::trigram::Trigram;

/// Pairs in the buffer: 4 MiB, enough for about 200 files of source text in a run.
pub const PAIRS: usize = 512 * 1024;
/// Runs merged at once. Each costs a block of ordinary heap while it is merged.
pub const FAN_IN: usize = 64;

/// A pair, in one word so that sorting is fast: the trigram above the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pair(u64);

impl Pair {
    fn new(trigram: Trigram, file: FileId) -> Self {
        Pair(u64::from(trigram.number()) << 32 | u64::from(file.0))
    }

    fn trigram(self) -> Trigram {
        Trigram::from_number((self.0 >> 32) as u32).expect("a pair is made of a trigram")
    }

    fn file(self) -> FileId {
        FileId(self.0 as u32)
    }
}

struct Run<S: Store> {
    level: u32,
    postings: Postings<S::Log>,
}

/// Takes pairs in the order of their files and gives one posting log.
pub struct Runs<'s, S: Store> {
    store: &'s S,
    buffer: Vec<Pair>,
    capacity: usize,
    runs: Vec<Run<S>>,
}

impl<'s, S: Store> Runs<'s, S> {
    /// Nothing yet. `capacity` is how many pairs it buffers, [`PAIRS`] outside tests.
    pub fn new(store: &'s S, capacity: usize) -> Self {
        Runs { store, buffer: Vec::with_capacity(capacity), capacity, runs: Vec::new() }
    }

    /// True if it is time for [`Runs::make_room`]. Pairs pushed regardless make the buffer grow.
    pub fn is_full(&self) -> bool {
        self.buffer.len() >= self.capacity
    }

    /// Adds a pair, which has not been added before.
    pub fn push(&mut self, trigram: Trigram, file: FileId) {
        self.buffer.push(Pair::new(trigram, file));
    }

    /// Empties the buffer into a run, and merges runs that have become many.
    pub fn make_room(&mut self) -> Result<()> {
        self.end_run()?;
        while let Some(level) = self.runs.last().map(|run| run.level) {
            let same = self.runs.iter().rev().take_while(|run| run.level == level).count();
            if same < FAN_IN {
                break;
            }
            self.merge_last(same, level + 1, &mut || ())?;
        }
        Ok(())
    }

    /// Merges all into one posting log. `progress` hears how many blocks there are to read and then of each one read.
    pub fn finish(mut self, mut progress: impl FnMut(MergeProgress)) -> Result<Postings<S::Log>> {
        self.end_run()?;
        self.buffer = Vec::new();
        let blocks = self.runs.iter().map(|run| run.postings.blocks().block_count()).sum();
        progress(MergeProgress::Blocks(blocks));
        while self.runs.len() > 1 {
            // The youngest runs are the smallest, so merging them first rewrites least.
            let last = self.runs.len().min(FAN_IN);
            let level = self.runs[self.runs.len() - last].level + 1;
            self.merge_last(last, level, &mut || progress(MergeProgress::BlockRead))?;
        }
        match self.runs.pop() {
            Some(run) => Ok(run.postings),
            None => PostingsWriter::new(self.store)?.finish(),
        }
    }

    fn end_run(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.buffer.sort_unstable();
        let mut out = PostingsWriter::new(self.store)?;
        for pair in self.buffer.drain(..) {
            out.push(pair.trigram(), pair.file())?;
        }
        self.runs.push(Run { level: 0, postings: out.finish()? });
        Ok(())
    }

    fn merge_last(&mut self, count: usize, level: u32, progress: &mut dyn FnMut()) -> Result<()> {
        let first = self.runs.len() - count;
        let parts: Vec<_> = self.runs[first..].iter().map(|run| &run.postings).collect();
        let postings = merge(self.store, &parts, progress)?;
        self.runs.truncate(first);
        self.runs.push(Run { level, postings });
        Ok(())
    }
}

/// What the last merge has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeProgress {
    /// So many blocks will be read.
    Blocks(usize),
    /// One was.
    BlockRead,
}
