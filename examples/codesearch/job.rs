//! The whole job in one store: index a tree, answer patterns, keep the figures.

use std::io::Write;
use std::time::{Duration, Instant};

use super::error::Result;
use super::index::Index;
use super::output::Printer;
use super::pattern::Pattern;
use super::progress::Progress;
use super::search::{Outcome, search};
use super::store::{Store, Usage};
use super::tree::Tree;

/// A tree that has been indexed in a store, and what searching it has cost so far.
pub struct Job<'s, S: Store> {
    store: &'s S,
    index: Index<S>,
    figures: Figures,
}

/// What the job has cost and found.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Matching lines over all patterns.
    pub matches: u64,
    /// Files indexed.
    pub files: u64,
    /// Bytes indexed.
    pub bytes: u64,
    /// Time to index.
    pub index_time: Duration,
    /// Time to answer all patterns, without the time it took to print.
    pub query_time: Duration,
    /// What the store had used when the index was complete.
    pub after_index: Usage,
    /// What the store has used by now.
    pub usage: Usage,
    /// Bytes of ordinary memory the index holds.
    pub heap_bytes: usize,
    /// How many of these are the table of files.
    pub file_table_bytes: usize,
    /// Trigrams in the index.
    pub trigrams: u64,
    /// Pairs of trigram and file in the index.
    pub postings: u64,
}

impl<'s, S: Store> Job<'s, S> {
    /// Indexes `tree` in `store`, `text_bytes` long.
    pub fn index(store: &'s S, tree: &Tree, text_bytes: u64) -> Result<Self> {
        let progress = Progress::index(text_bytes);
        let start = Instant::now();
        let index = Index::build(store, tree, &mut |step| progress.step(step))?;
        let usage = store.usage();
        let figures = Figures {
            files: index.survey().text_files,
            bytes: index.files().text_bytes(),
            index_time: start.elapsed(),
            after_index: usage,
            usage,
            heap_bytes: index.heap_bytes(),
            file_table_bytes: index.files().heap_bytes(),
            trigrams: index.postings().trigrams(),
            postings: index.postings().postings(),
            ..Figures::default()
        };
        Ok(Job { store, index, figures })
    }

    /// Searches for `pattern`, prints to `printer`, and says how long it took.
    pub fn answer<W: Write>(&mut self, pattern: &Pattern, printer: &mut Printer<W>) -> Result<(Outcome, Duration)> {
        let (start, written) = (Instant::now(), printer.writing());
        let outcome = search(&self.index, pattern, printer);
        let time = start.elapsed().saturating_sub(printer.writing() - written);
        // Whatever was found before a failure is still printed.
        let flushed = printer.flush();
        let outcome = outcome?;
        flushed?;
        self.figures.query_time += time;
        self.figures.matches += outcome.lines;
        self.figures.usage = self.store.usage();
        Ok((outcome, time))
    }

    /// The index.
    pub fn searched(&self) -> &Index<S> {
        &self.index
    }

    /// The figures so far.
    pub fn figures(&self) -> Figures {
        self.figures
    }
}
