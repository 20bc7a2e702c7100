//! Merges posting logs into one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::error::Result;
use super::posting::{Block, EntryPosition, Postings, PostingsWriter};
use super::store::{ByteLog, Store};
use super::trigram::Trigram;

/// Reads a posting log from its first entry to its last, holding one block of it.
struct Cursor<'p, L> {
    postings: &'p Postings<L>,
    block: Block,
    next_block: usize,
    position: EntryPosition,
}

impl<'p, L: ByteLog> Cursor<'p, L> {
    fn new(postings: &'p Postings<L>) -> Result<Self> {
        let mut cursor = Cursor { postings, block: Block::default(), next_block: 0, position: EntryPosition::default() };
        cursor.load()?;
        Ok(cursor)
    }

    fn load(&mut self) -> Result<bool> {
        if self.next_block == self.postings.blocks().block_count() {
            return Ok(false);
        }
        self.postings.read_block(self.next_block, &mut self.block)?;
        self.next_block += 1;
        self.position = EntryPosition::default();
        Ok(true)
    }

    /// The trigram of the entry it stands on; `None` after the last one.
    fn trigram(&mut self) -> Result<Option<Trigram>> {
        if self.next_block == 0 {
            return Ok(None);
        }
        loop {
            if let Some(entry) = self.block.entries_from(self.position)?.next_entry()? {
                return Ok(Some(entry.trigram));
            }
            if !self.load()? {
                return Ok(None);
            }
        }
    }

    /// Writes the entry it stands on to `out` and steps to the next.
    fn copy_entry(&mut self, out: &mut PostingsWriter<L>) -> Result<()> {
        let mut entries = self.block.entries_from(self.position)?;
        if let Some(entry) = entries.next_entry()? {
            let mut written = Ok(());
            entry.for_each_file(|file| {
                if written.is_ok() {
                    written = out.push(entry.trigram, file);
                }
            })?;
            written?;
        }
        self.position = entries.position();
        Ok(())
    }
}

/// Merges `parts`, in which each trigram's files come before those of the next part, into one log of `store`. `progress` hears
/// of each block that has been read.
pub fn merge<S: Store>(store: &S, parts: &[&Postings<S::Log>], mut progress: impl FnMut()) -> Result<Postings<S::Log>> {
    let mut out = PostingsWriter::new(store)?;
    let mut cursors = parts.iter().map(|part| Cursor::new(part)).collect::<Result<Vec<_>>>()?;
    // The least trigram first, and for the same trigram the earlier part, which has the lower files.
    let mut heads = BinaryHeap::with_capacity(cursors.len());
    for (part, cursor) in cursors.iter_mut().enumerate() {
        if let Some(trigram) = cursor.trigram()? {
            heads.push(Reverse((trigram, part)));
            progress();
        }
    }
    while let Some(Reverse((_, part))) = heads.pop() {
        let cursor = &mut cursors[part];
        let before = cursor.next_block;
        cursor.copy_entry(&mut out)?;
        heads.extend(cursor.trigram()?.map(|trigram| Reverse((trigram, part))));
        if cursor.next_block != before {
            progress();
        }
    }
    out.finish()
}
