//! What a lender's slabs lie in, if borrowers on the same machine may map them.
//!
//! Who is passed a file can map all of it, for as long as it likes. So each slab has a file of its own, and gets another once one that was
//! passed comes back: what its borrower still maps is then memory that nobody else has. Only where all slabs lie in one file or device, which
//! can't be had otherwise, a borrower is given more than its slabs; such a lender has one borrower at a time.
#![forbid(unsafe_code)]

use super::mapping::{HUGE_PAGE, Mapping};
use super::store::SlabError;
use bytesize::ByteSize;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the memory that a lender shares comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// A memory file for each slab, sealed so that nobody can make it shorter.
    Memfd,
    /// A file without a name for each slab, in this folder of a file system in memory: `/dev/shm`, or a hugetlbfs mount.
    Folder(PathBuf),
    /// This file or device (`/dev/dax0.0`), slab after slab. Its one borrower at a time may touch all of it.
    Whole(PathBuf),
}

impl Backing {
    /// What `path` is good for: a folder holds files, anything else is one.
    pub fn at(path: &Path) -> Self {
        if path.is_dir() { Backing::Folder(path.to_owned()) } else { Backing::Whole(path.to_owned()) }
    }
}

/// What a borrower that may map slabs is passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// A file for each slab.
    Each,
    /// The same file for all of them; slab `n` starts at `n` times the size of a slab.
    Whole,
}

/// A backing in use.
#[derive(Debug)]
pub(super) struct Files {
    source: Source,
    slab_bytes: u64,
}

/// What new slabs are cut from.
#[derive(Debug)]
enum Source {
    Memfd,
    Folder(PathBuf),
    Whole(Arc<File>),
}

/// Where one slab lies.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) file: Arc<File>,
    pub(super) offset: u64,
}

impl Files {
    pub(super) fn new(backing: Backing, slab_bytes: u32, capacity: u64) -> Result<Self, SlabError> {
        let source = match backing {
            Backing::Memfd => Source::Memfd,
            Backing::Folder(folder) => Source::Folder(folder),
            Backing::Whole(path) => Source::Whole(Arc::new(open_whole(&path, capacity)?)),
        };
        Ok(Self { source, slab_bytes: slab_bytes.into() })
    }

    pub(super) fn sharing(&self) -> Sharing {
        match self.source {
            Source::Memfd | Source::Folder(_) => Sharing::Each,
            Source::Whole(_) => Sharing::Whole,
        }
    }

    /// Where slab `index` is to lie. A file of its own is new and zero, and has all its memory.
    pub(super) fn place(&self, index: u32) -> io::Result<Place> {
        let file = match &self.source {
            Source::Whole(whole) => {
                return Ok(Place { file: Arc::clone(whole), offset: u64::from(index) * self.slab_bytes });
            }
            Source::Folder(folder) => tempfile::tempfile_in(folder)?,
            Source::Memfd => memory_file()?,
        };
        file.set_len(self.slab_bytes)?;
        // Before it has pages, which would have to be copied. What has none afterwards gets small ones.
        if self.slab_bytes >= HUGE_PAGE as u64
            && let Ok(mapping) = Mapping::shared(&file, 0, self.slab_bytes as usize)
        {
            mapping.make_huge_pages();
        }
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.slab_bytes)?;
        if let Source::Memfd = self.source {
            rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        }
        Ok(Place { file: Arc::new(file), offset: 0 })
    }
}

impl Place {
    /// Gives the memory back to the system, also if a borrower still maps it: it then finds zeroes there, in memory that it is charged for.
    pub(super) fn discard(self, len: u32) -> io::Result<()> {
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&*self.file, how, self.offset, len.into())?)
    }
}

/// A file without a name in the system's memory.
fn memory_file() -> io::Result<File> {
    const NAME: &str = "farptr-slab";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 don't know the last flag.
        Err(Errno::INVAL) => Ok(rustix::fs::memfd_create(NAME, flags)?.into()),
        made => Ok(made?.into()),
    }
}

fn open_whole(path: &Path, capacity: u64) -> Result<File, SlabError> {
    let bad = |why: String| SlabError::Config(format!("can't lend from {}: {why}", path.display()));
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| bad(error.to_string()))?;
    let known = file.metadata().map_err(|error| bad(error.to_string()))?;
    if known.file_type().is_char_device() {
        // A device doesn't say how long it is; mapping it does.
        return Ok(file);
    }
    if !known.is_file() {
        return Err(bad("it is neither a file nor a device that can be mapped".into()));
    }
    if known.len() < capacity {
        let size = |bytes: u64| ByteSize(bytes).display().iec().to_string();
        return Err(bad(format!(
            "it has {}, and {} are to be lent; lend less or make it longer",
            size(known.len()),
            size(capacity)
        )));
    }
    // What it says it has may be holes.
    rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, capacity).map_err(|error| bad(error.to_string()))?;
    Ok(file)
}
