//! The files of the index: which text and which path belong to a file's number.

use std::ops::Range;

use super::error::{Failure, Result};
use super::posting::FileId;
use super::store::{ByteLog, ChunkBytes, Store};

/// Chunk of the text: a file of source text is about that long, and a larger chunk brings in neighbours nobody asked for.
const TEXT_CHUNK: ChunkBytes = ChunkBytes(16 * 1024);
/// Chunk of the paths, which are short and needed only for files that match.
const PATH_CHUNK: ChunkBytes = ChunkBytes(4 * 1024);

/// Where a file's text and path end; they begin where those of the file before it end.
#[derive(Debug, Clone, Copy)]
struct Ends {
    text: u64,
    path: u64,
}

/// All texts and all paths, each end to end in a log, and the local table of where one ends.
pub struct FileTable<L> {
    text: L,
    paths: L,
    ends: Vec<Ends>,
}

impl<L: ByteLog> FileTable<L> {
    /// No files yet.
    pub fn new<S: Store<Log = L>>(store: &S) -> Result<Self> {
        Ok(FileTable { text: store.log(TEXT_CHUNK)?, paths: store.log(PATH_CHUNK)?, ends: Vec::new() })
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of text of all files.
    pub fn text_bytes(&self) -> u64 {
        self.text.len() as u64
    }

    /// Bytes of ordinary memory it holds.
    pub fn heap_bytes(&self) -> usize {
        self.ends.capacity() * size_of::<Ends>()
    }

    /// The number the next file will have.
    pub fn next_id(&self) -> Result<FileId> {
        let id = u32::try_from(self.ends.len()).ok().filter(|&id| id < u32::MAX);
        id.map(FileId).ok_or(Failure::TooManyFiles { limit: u32::MAX - 1 })
    }

    /// Adds bytes to the text of the next file.
    pub fn push_text(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.text.append(bytes)?)
    }

    /// Ends the next file, whose text has been pushed.
    pub fn end_file(&mut self, path: &[u8]) -> Result<()> {
        self.paths.append(path)?;
        self.ends.push(Ends { text: self.text.len() as u64, path: self.paths.len() as u64 });
        Ok(())
    }

    /// Ends the next file as one without text: what was pushed of it is forgotten. Its number is used up, because postings
    /// may already name it.
    pub fn withdraw_file(&mut self) -> Result<()> {
        self.text.truncate(self.last_ends().text as usize)?;
        self.ends.push(Ends { text: self.text.len() as u64, path: self.paths.len() as u64 });
        Ok(())
    }

    /// Gives back memory kept for growth.
    pub fn shrink(&mut self) {
        self.ends.shrink_to_fit();
    }

    fn last_ends(&self) -> Ends {
        self.ends.last().copied().unwrap_or(Ends { text: 0, path: 0 })
    }

    fn ranges(&self, file: FileId) -> Result<(Range<usize>, Range<usize>)> {
        let number = file.0 as usize;
        let end = self.ends.get(number).ok_or(Failure::Damaged("a posting names a file that does not exist"))?;
        let start = if number == 0 { Ends { text: 0, path: 0 } } else { self.ends[number - 1] };
        Ok((start.text as usize..end.text as usize, start.path as usize..end.path as usize))
    }

    /// How many bytes of text `file` has.
    pub fn text_len(&self, file: FileId) -> Result<usize> {
        Ok(self.ranges(file)?.0.len())
    }

    /// Shows bytes `part` of the text of `file`, slice by slice.
    pub fn read_text(&self, file: FileId, part: Range<usize>, visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        let text = self.ranges(file)?.0;
        let part = text.start + part.start..text.start + part.end;
        debug_assert!(part.end <= text.end, "the part lies inside the file");
        Ok(self.text.read(part, visit)?)
    }

    /// Copies the path of `file` to `path`.
    pub fn read_path(&self, file: FileId, path: &mut Vec<u8>) -> Result<()> {
        path.clear();
        let range = self.ranges(file)?.1;
        Ok(self.paths.read(range, &mut |slice| path.extend_from_slice(slice))?)
    }
}
