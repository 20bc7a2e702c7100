//! A file that is mapped and read: what a program does whose data is larger than its memory and never changes.
#![expect(unsafe_code, reason = "nothing keeps others from changing a file that is mapped")]

use crate::Outcome;
use memmap2::Mmap;
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// A mapped file of 64-bit numbers.
pub(crate) struct MappedFile(Mmap);

impl MappedFile {
    /// Writes a file of `bytes` bytes that don't compress, to the disk.
    pub(crate) fn write(path: &Path, bytes: usize) -> Outcome {
        let mut file = BufWriter::new(File::create(path)?);
        for number in 0..bytes as u64 / 8 {
            file.write_all(&farptr_benches::random::word(number, 0).to_le_bytes())?;
        }
        // Pages that are still to be written can't be let go.
        Ok(file.into_inner()?.sync_all()?)
    }

    /// Has the system forget what it holds of a file, so that whoever maps it next is charged for what it reads.
    pub(crate) fn forget(path: &Path) -> Outcome {
        Ok(fadvise(File::open(path)?, 0, None, Advice::DontNeed)?)
    }

    pub(crate) fn open(path: &Path, bytes: usize) -> Outcome<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() < bytes as u64 {
            return Err(format!("{} is shorter than {bytes} bytes", path.display()).into());
        }
        // SAFETY: the file lies in a folder of this run's own, and nobody writes to it or makes it shorter after it was written.
        let map = unsafe { Mmap::map(&file) }?;
        Ok(MappedFile(map))
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0
            .chunks_exact(8)
            .fold(0, |sum: u64, bytes| sum.wrapping_add(u64::from_le_bytes(bytes.try_into().unwrap_or_default())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_summed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("numbers");
        MappedFile::write(&path, 8000).expect("a file");
        let sum = (0..1000).fold(0u64, |sum, i| sum.wrapping_add(farptr_benches::random::word(i, 0)));
        assert_eq!(MappedFile::open(&path, 8000).expect("a mapping").sum(), sum);
        assert!(MappedFile::open(&path, 8001).is_err());
    }
}
