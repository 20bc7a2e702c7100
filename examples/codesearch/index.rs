//! The index: the files, and for each trigram which files hold it.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::error::Result;
use super::files::FileTable;
use super::posting::{FileId, Postings};
use super::runs::{MergeProgress, PAIRS, Runs};
use super::store::Store;
use super::tree::{Reader, Reading, Survey, Tree};
use super::trigram::TrigramSet;

/// What can be searched.
pub struct Index<S: Store> {
    files: FileTable<S::Log>,
    postings: Postings<S::Log>,
    survey: Survey,
}

/// What indexing has to say on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexProgress {
    /// So many more bytes of files have been read.
    Read(usize),
    /// All files have been read; now the runs are merged.
    Merge(MergeProgress),
}

impl<S: Store> Index<S> {
    /// Indexes `tree` in `store`.
    pub fn build(store: &S, tree: &Tree, progress: &mut dyn FnMut(IndexProgress)) -> Result<Self> {
        Self::build_with(store, tree, PAIRS, progress)
    }

    /// The same with a buffer of `pairs`, so that tests reach many runs with few files.
    pub fn build_with(store: &S, tree: &Tree, pairs: usize, progress: &mut dyn FnMut(IndexProgress)) -> Result<Self> {
        let mut builder =
            Builder { files: FileTable::new(store)?, runs: Runs::new(store, pairs), set: TrigramSet::new(), progress };
        let survey = tree.read(&mut builder)?;
        let Builder { mut files, runs, progress, .. } = builder;
        files.shrink();
        let postings = runs.finish(|step| progress(IndexProgress::Merge(step)))?;
        Ok(Index { files, postings, survey })
    }

    /// The files.
    pub fn files(&self) -> &FileTable<S::Log> {
        &self.files
    }

    /// The posting lists.
    pub fn postings(&self) -> &Postings<S::Log> {
        &self.postings
    }

    /// What was met while the tree was read.
    pub fn survey(&self) -> &Survey {
        &self.survey
    }

    /// Bytes of ordinary memory the index holds beside its store.
    pub fn heap_bytes(&self) -> usize {
        self.files.heap_bytes() + self.postings.heap_bytes()
    }
}

struct Builder<'s, S: Store> {
    files: FileTable<S::Log>,
    runs: Runs<'s, S>,
    set: TrigramSet,
    progress: &'s mut dyn FnMut(IndexProgress),
}

impl<S: Store> Reader for Builder<'_, S> {
    fn text(&mut self, bytes: &[u8]) -> Result<()> {
        self.files.push_text(bytes)?;
        let file = self.files.next_id()?;
        // In pieces, so that the buffer of pairs never grows by more than a piece has bytes.
        for piece in bytes.chunks(PIECE_BYTES) {
            self.add_trigrams(piece, file)?;
        }
        (self.progress)(IndexProgress::Read(bytes.len()));
        Ok(())
    }

    fn end_file(&mut self, path: &Path, reading: &Reading) -> Result<()> {
        self.set.clear();
        self.files.next_id()?;
        match reading {
            Reading::Text => self.files.end_file(path.as_os_str().as_bytes()),
            Reading::NotText | Reading::Unreadable(_) => self.files.withdraw_file(),
        }
    }
}

/// Bytes between two looks at whether the buffer of pairs is full.
const PIECE_BYTES: usize = 4096;

impl<S: Store> Builder<'_, S> {
    fn add_trigrams(&mut self, piece: &[u8], file: FileId) -> Result<()> {
        let Builder { set, runs, .. } = self;
        set.feed(piece, |trigram| runs.push(trigram, file));
        if runs.is_full() { runs.make_room() } else { Ok(()) }
    }
}
