//! A range of addresses with memory behind it: this process's own, or a file's that other processes map as well.
//!
//! Nothing here reads or writes what is mapped; [`SlabMemory`](super::memory::SlabMemory) does.

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Size and alignment of a huge page on the machines this runs on; private memory that can hold one starts at such a boundary.
pub(super) const HUGE_PAGE: usize = 2 << 20;

/// Mapped memory. Unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    map: MmapRaw,
    /// Where in `map` it starts.
    start: usize,
    len: usize,
    shared: bool,
}

impl Mapping {
    /// Zeroed memory of this process alone, without pages yet.
    pub(crate) fn private(len: usize) -> io::Result<Self> {
        let mapping = Self::anonymous(len)?;
        mapping.ask_for_huge_pages();
        Ok(mapping)
    }

    fn anonymous(len: usize) -> io::Result<Self> {
        // Room to start at a huge page's boundary. What is cut off is never touched and costs addresses only.
        let slack = if len >= HUGE_PAGE { HUGE_PAGE } else { 0 };
        let map = MmapRaw::from(MmapOptions::new().len(len + slack).map_anon()?);
        let start = if slack == 0 { 0 } else { map.as_mut_ptr().align_offset(HUGE_PAGE).min(slack) };
        Ok(Self { map, start, len, shared: false })
    }

    /// `len` bytes of `file` from `offset` on, shared with whoever else maps them. That the file has these bytes, and keeps them, is for the
    /// caller to see to: where it has not, an access ends the process.
    pub(crate) fn shared(file: &File, offset: u64, len: usize) -> io::Result<Self> {
        let map = MmapOptions::new().offset(offset).len(len).map_raw(file)?;
        let mut mapping = Self { map, start: 0, len, shared: true };
        if len >= HUGE_PAGE && offset.is_multiple_of(HUGE_PAGE as u64) && mapping.as_mut_ptr().align_offset(HUGE_PAGE) != 0 {
            // The kernel aligns hugetlbfs and devices by itself, as they need it; it leaves memory files where they can't have huge pages.
            if let Some(aligned) = Self::shared_at_huge_page(file, offset, len) {
                mapping = aligned;
            }
        }
        mapping.ask_for_huge_pages();
        Ok(mapping)
    }

    fn shared_at_huge_page(file: &File, offset: u64, len: usize) -> Option<Self> {
        let mut mapping = Self::anonymous(len).ok()?;
        let at = mapping.as_mut_ptr().cast();
        let (access, how) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
        // SAFETY: `len` bytes from `at` on lie in the mapping just made, which nobody else knows of: nothing that is in use is replaced.
        let mapped = unsafe { libc::mmap(at, len, access, how, file.as_raw_fd(), libc::off_t::try_from(offset).ok()?) };
        if mapped == libc::MAP_FAILED {
            // The addresses may be free now, and somebody else's next: they can't be given back by unmapping them.
            std::mem::forget(mapping);
            return None;
        }
        mapping.shared = true;
        Some(mapping)
    }

    /// Puts huge pages behind a memory file that has no pages yet, where the kernel is new enough (6.1) and has some left. It does so for who asks,
    /// whatever it would do by itself, and sooner than it makes as many small ones: 13 to 40 ms for 64 MiB against 45.
    pub(super) fn make_huge_pages(&self) {
        for page in (0..self.len).step_by(HUGE_PAGE) {
            // The kernel gathers small pages in a huge one, but makes none of nothing.
            let _ = self.map.advise_range(Advice::PopulateWrite, self.start + page, 1);
        }
        // SAFETY: the range is this mapping. What is read and written through it stays the same; only the pages behind it are others.
        let _ = unsafe { libc::madvise(self.as_mut_ptr().cast(), self.len, libc::MADV_COLLAPSE) };
    }

    /// Huge pages make populating 5x cheaper and spare a random read its TLB miss. A kernel or a file without them is fine.
    fn ask_for_huge_pages(&self) {
        if self.len >= HUGE_PAGE {
            let _ = self.map.advise_range(Advice::HugePage, self.start, self.len);
        }
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first byte.
    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr().wrapping_add(self.start)
    }

    /// Makes the kernel give it all its pages now.
    pub(super) fn populate(&self) -> io::Result<()> {
        self.map.advise_range(Advice::PopulateWrite, self.start, self.len)
    }

    /// Gives the pages back to the kernel; what is read afterwards is zero. Shared memory is refused, since others would still have it.
    ///
    /// # Safety
    /// Nobody reads or writes the memory meanwhile, or holds a reference to it.
    pub(super) unsafe fn release(&self) -> io::Result<()> {
        if self.shared {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // SAFETY: the caller's promise: the content becomes zero under nobody.
        unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, self.start, self.len) }
    }
}
