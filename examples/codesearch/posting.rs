//! Posting lists: for each trigram the files that hold it, compressed, in blocks.
//!
//! # Format
//! A posting log is a row of blocks of [`BLOCK_BYTES`], sorted by trigram and then by file. A block can be read on its own:
//! ```text
//! block   := used: u16 little-endian, entries, zeroes up to BLOCK_BYTES     `used` counts itself and the entries
//! entry   := trigram: varint, length: varint, files: length bytes           trigram: less the one of the entry before it,
//! files   := first: varint, (gap - 1: varint)*                              the first of a block as it is
//! varint  := groups of 7 bits, lowest first, high bit set on all but the last
//! ```
//! A list that doesn't fit a block goes on in the next one, as an entry with the same trigram.
//!
//! The local part is the first trigram of each block, 4 bytes for every 4 KiB: to look a trigram up is a binary search there
//! and then, for nearly every trigram, one block of far memory.

use super::error::{Failure, Result};
use super::store::{ByteLog, ChunkBytes, Store};
use super::trigram::Trigram;

/// Bytes of a block, and so of a chunk of a posting log: a lookup swaps in one block and nothing else.
pub const BLOCK_BYTES: usize = 4096;
const USED_BYTES: usize = 2;
/// The longest an entry's head (trigram, length) and one more file can be.
const ENTRY_HEAD_MAX: usize = 4 + 2;
const FILE_MAX: usize = 5;

/// A file of the index, by the order in which it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// Appends `value` to `out`.
pub fn put_varint(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a value off the front of `bytes`; `None` if there is none, or it would not fit.
pub fn take_varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for shift in [0, 7, 14, 21, 28] {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let group = u32::from(byte & 0x7f);
        if group.leading_zeros() < shift {
            return None;
        }
        value |= group << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The first trigram of each block of a posting log.
#[derive(Debug, Default, Clone)]
pub struct BlockIndex {
    first: Vec<Trigram>,
}

impl BlockIndex {
    /// The blocks in which `trigram` may be.
    pub fn blocks_of(&self, trigram: Trigram) -> std::ops::Range<usize> {
        let start = self.first.partition_point(|&first| first < trigram).saturating_sub(1);
        let end = self.first.partition_point(|&first| first <= trigram);
        start.min(end)..end
    }

    /// How many blocks there are.
    pub fn block_count(&self) -> usize {
        self.first.len()
    }

    /// Bytes of memory it holds.
    pub fn heap_bytes(&self) -> usize {
        self.first.capacity() * size_of::<Trigram>()
    }
}

/// A posting log and what of it is local.
#[derive(Debug)]
pub struct Postings<L> {
    log: L,
    blocks: BlockIndex,
    trigrams: u64,
    postings: u64,
}

impl<L: ByteLog> Postings<L> {
    /// How many different trigrams there are.
    pub fn trigrams(&self) -> u64 {
        self.trigrams
    }

    /// How many pairs of trigram and file there are.
    pub fn postings(&self) -> u64 {
        self.postings
    }

    /// Bytes of ordinary memory it holds.
    pub fn heap_bytes(&self) -> usize {
        self.blocks.heap_bytes()
    }

    /// The local part.
    pub fn blocks(&self) -> &BlockIndex {
        &self.blocks
    }

    /// Copies block `number` to `block`.
    pub fn read_block(&self, number: usize, block: &mut Block) -> Result<()> {
        let at = number * BLOCK_BYTES;
        block.bytes.clear();
        self.log.read(at..at + BLOCK_BYTES, &mut |slice| block.bytes.extend_from_slice(slice))?;
        Ok(())
    }

    /// Tells `visit` every file that holds `trigram`, in order.
    pub fn look_up(&self, trigram: Trigram, block: &mut Block, mut visit: impl FnMut(FileId)) -> Result<()> {
        for number in self.blocks.blocks_of(trigram) {
            self.read_block(number, block)?;
            let mut entries = block.entries()?;
            while let Some(entry) = entries.next_entry()? {
                if entry.trigram > trigram {
                    return Ok(());
                }
                if entry.trigram == trigram {
                    entry.for_each_file(&mut visit)?;
                }
            }
        }
        Ok(())
    }
}

/// One block, copied out of its log.
#[derive(Debug, Default, Clone)]
pub struct Block {
    bytes: Vec<u8>,
}

impl Block {
    /// A block of these bytes, which may come from anywhere.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Block { bytes }
    }

    /// Its entries, from the first one on.
    pub fn entries(&self) -> Result<Entries<'_>> {
        self.entries_from(EntryPosition::default())
    }

    /// Its entries, from `position` on.
    pub fn entries_from(&self, position: EntryPosition) -> Result<Entries<'_>> {
        let used = match self.bytes.first_chunk() {
            Some(&used) => usize::from(u16::from_le_bytes(used)),
            None => 0,
        };
        let start = USED_BYTES + position.offset;
        let rest = self.bytes.get(start..used).ok_or(Failure::Damaged("a posting block's length is wrong"))?;
        Ok(Entries { rest, length: used - USED_BYTES, trigram: position.trigram })
    }
}

/// Where in a block to go on.
#[derive(Debug, Default, Clone, Copy)]
pub struct EntryPosition {
    offset: usize,
    trigram: u32,
}

/// The entries of a block.
#[derive(Debug)]
pub struct Entries<'b> {
    rest: &'b [u8],
    length: usize,
    trigram: u32,
}

impl<'b> Entries<'b> {
    /// The next entry.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'b>>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let entry = self.decode().ok_or(Failure::Damaged("a posting block's entry is cut short"))?;
        Ok(Some(entry))
    }

    fn decode(&mut self) -> Option<Entry<'b>> {
        let number = self.trigram.checked_add(take_varint(&mut self.rest)?)?;
        let trigram = Trigram::from_number(number)?;
        let length = take_varint(&mut self.rest)? as usize;
        let (files, rest) = self.rest.split_at_checked(length)?;
        (self.rest, self.trigram) = (rest, number);
        Some(Entry { trigram, files })
    }

    /// Where the next entry begins.
    pub fn position(&self) -> EntryPosition {
        EntryPosition { offset: self.length - self.rest.len(), trigram: self.trigram }
    }
}

/// A trigram and the files, or some of the files, that hold it.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'b> {
    /// The trigram.
    pub trigram: Trigram,
    files: &'b [u8],
}

impl Entry<'_> {
    /// Tells `visit` each file.
    pub fn for_each_file(&self, mut visit: impl FnMut(FileId)) -> Result<()> {
        let mut rest = self.files;
        let mut next = 0u32;
        while !rest.is_empty() {
            let file = take_varint(&mut rest)
                .and_then(|gap| next.checked_add(gap))
                .filter(|&file| file < u32::MAX)
                .ok_or(Failure::Damaged("a posting list is cut short"))?;
            visit(FileId(file));
            next = file + 1;
        }
        Ok(())
    }
}

/// Writes a posting log, from pairs that come sorted by trigram and then by file, without repetitions.
pub struct PostingsWriter<L> {
    out: Postings<L>,
    block: Vec<u8>,
    /// Trigram of the last entry in `block`.
    block_trigram: u32,
    current: Option<Trigram>,
    files: Vec<u8>,
    next_file: u32,
}

impl<L: ByteLog> PostingsWriter<L> {
    /// Writes to a new log of `store`.
    pub fn new<S: Store<Log = L>>(store: &S) -> Result<Self> {
        let out = Postings { log: store.log(ChunkBytes(BLOCK_BYTES))?, blocks: BlockIndex::default(), trigrams: 0, postings: 0 };
        Ok(PostingsWriter {
            out,
            block: Vec::with_capacity(BLOCK_BYTES),
            block_trigram: 0,
            current: None,
            files: Vec::new(),
            next_file: 0,
        })
    }

    /// Writes that `file` holds `trigram`.
    pub fn push(&mut self, trigram: Trigram, file: FileId) -> Result<()> {
        if self.current != Some(trigram) {
            debug_assert!(self.current < Some(trigram), "pairs must come sorted by trigram");
            self.end_entry()?;
            self.current = Some(trigram);
            self.out.trigrams += 1;
        }
        debug_assert!(file.0 >= self.next_file, "the files of a trigram must come sorted");
        if self.used() + ENTRY_HEAD_MAX + self.files.len() + FILE_MAX > BLOCK_BYTES {
            self.end_entry()?;
            self.end_block()?;
        }
        put_varint(file.0 - self.next_file, &mut self.files);
        self.next_file = file.0 + 1;
        self.out.postings += 1;
        Ok(())
    }

    /// Writes what is left.
    pub fn finish(mut self) -> Result<Postings<L>> {
        self.end_entry()?;
        self.end_block()?;
        self.out.blocks.first.shrink_to_fit();
        Ok(self.out)
    }

    fn used(&self) -> usize {
        self.block.len().max(USED_BYTES)
    }

    fn end_entry(&mut self) -> Result<()> {
        let Some(trigram) = self.current.filter(|_| !self.files.is_empty()) else { return Ok(()) };
        if self.block.is_empty() {
            self.block.extend_from_slice(&[0; USED_BYTES]);
            self.out.blocks.first.push(trigram);
        }
        put_varint(trigram.number() - self.block_trigram, &mut self.block);
        put_varint(self.files.len() as u32, &mut self.block);
        self.block.append(&mut self.files);
        self.block_trigram = trigram.number();
        self.next_file = 0;
        Ok(())
    }

    fn end_block(&mut self) -> Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let used = u16::try_from(self.block.len()).expect("a block is shorter than 64 KiB");
        self.block[..USED_BYTES].copy_from_slice(&used.to_le_bytes());
        self.block.resize(BLOCK_BYTES, 0);
        self.out.log.append(&self.block)?;
        self.block.clear();
        self.block_trigram = 0;
        Ok(())
    }
}
