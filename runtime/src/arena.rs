//! Reserved ranges of address space that are given pages as they are touched.

use crate::ablations::Pages;
use memmap2::{Advice, MmapMut, MmapOptions, UncheckedAdvice};
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Range;

/// Size of a transparent huge page where it matters (x86-64 and arm64 with 4 KiB pages).
pub const HUGE_PAGE: usize = 2 << 20;

/// Smallest page.
pub const PAGE: usize = 4096;

/// As `MADV_DONTNEED`, for memory that may be locked (`asm-generic/mman-common.h`).
const MADV_DONTNEED_LOCKED: libc::c_int = 24;

/// A private, zeroed range of memory at a fixed address. It costs address space only until it is touched.
///
/// The arena hands out addresses, not references: who writes where is its owner's protocol. The mapping lives as long as the value.
#[derive(Debug)]
pub struct Arena {
    /// Until it is unmapped.
    map: ManuallyDrop<MmapMut>,
    base: usize,
    len: usize,
}

impl Arena {
    /// Reserves `len` bytes at a multiple of `align` (a power of two, at least a page).
    pub fn reserve(len: usize, align: usize) -> io::Result<Self> {
        debug_assert!(align.is_power_of_two() && align >= PAGE);
        let len = len.next_multiple_of(PAGE);
        let slack = if align == PAGE { 0 } else { align };
        let mut map = MmapOptions::new().len(len + slack).no_reserve_swap().map_anon()?;
        let base = (map.as_mut_ptr() as usize).next_multiple_of(align);
        Ok(Arena { map: ManuallyDrop::new(map), base, len })
    }

    /// First address.
    #[inline]
    pub fn base(&self) -> usize {
        self.base
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn offset(&self, range: &Range<usize>) -> usize {
        assert!(range.start <= range.end && range.end <= self.len, "range {range:?} lies in the arena of {} bytes", self.len);
        self.base - self.map.as_ptr() as usize + range.start
    }

    /// Asks for huge pages in `range` (offsets from the base). The kernel may decline; nothing depends on it.
    pub fn advise_huge(&self, range: Range<usize>) {
        let offset = self.offset(&range);
        let _ = self.map.advise_range(Advice::HugePage, offset, range.len());
    }

    /// As `advise_huge`, or tells the kernel not to.
    pub fn advise(&self, range: Range<usize>, pages: Pages) {
        match pages {
            Pages::Huge => self.advise_huge(range),
            Pages::Small => {
                let offset = self.offset(&range);
                let _ = self.map.advise_range(Advice::NoHugePage, offset, range.len());
            }
        }
    }

    /// Gives the pages of `range` back to the kernel; reading it yields zeros afterwards.
    ///
    /// # Errors
    /// If the kernel does not take them: the contents are as they were, or partly zeros.
    ///
    /// # Safety
    /// Nobody holds a Rust reference into the range, and nobody relies on its contents. (Atomic words of slots may still be read: they
    /// are then zero, which is no object's word.)
    pub unsafe fn decommit(&self, range: Range<usize>) -> io::Result<()> {
        let offset = self.offset(&range);
        // SAFETY: DONTNEED on a private anonymous mapping replaces pages by zero pages; by this function's contract nobody relies on
        // what was there. The range was checked to lie in the mapping.
        let given = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, range.len()) };
        given.or_else(|error| {
            // Locked memory (`mlockall`) is refused under that name. Linux 5.18 has another for it.
            let first = self.map.as_ptr().wrapping_add(offset).cast_mut().cast();
            // SAFETY: as above, it does the same.
            match unsafe { libc::madvise(first, range.len(), MADV_DONTNEED_LOCKED) } {
                0 => Ok(()),
                _ => Err(error),
            }
        })
    }

    /// Unmaps it.
    ///
    /// # Errors
    /// The arena, as it was, if the kernel refuses: to unmap a part of what it has merged takes one mapping more, of which there may be too many.
    pub fn unmap(self) -> Result<(), (Self, io::Error)> {
        match self.try_unmap() {
            Ok(()) => {
                // It is gone: not once more.
                std::mem::forget(self);
                Ok(())
            }
            Err(error) => Err((self, error)),
        }
    }

    /// Whoever calls this does not use the arena any more if it succeeds.
    fn try_unmap(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping, which was made by `reserve` and is unmapped nowhere else: `map` is never dropped. The arena hands out addresses only, so no
        // reference is known here; its owners use it no more, because they give it up or drop it.
        match unsafe { libc::munmap(self.map.as_ptr().cast_mut().cast(), self.map.len()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if let Err(error) = self.try_unmap() {
            // SAFETY: whoever drops the arena uses it no more.
            let given = unsafe { self.decommit(0..self.len) };
            let pages = if given.is_ok() { "its pages are free" } else { "nor does it take its pages back" };
            tracing::warn!(%error, bytes = self.len, "the system does not unmap a range of addresses; {pages}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arena_is_aligned_zeroed_and_zero_again_after_decommit() {
        let arena = Arena::reserve(3 * HUGE_PAGE, HUGE_PAGE).unwrap();
        assert_eq!(arena.base() % HUGE_PAGE, 0);
        let word = (arena.base() + HUGE_PAGE) as *mut u64;
        // SAFETY: the address lies in the arena, is aligned, and only this test uses it.
        unsafe {
            assert_eq!(word.read(), 0);
            word.write(7);
            assert_eq!(word.read(), 7);
            arena.decommit(HUGE_PAGE..2 * HUGE_PAGE).unwrap();
            assert_eq!(word.read(), 0);
        }
    }

    #[test]
    #[should_panic(expected = "lies in the arena")]
    fn range_past_the_end_is_refused() {
        let arena = Arena::reserve(PAGE, PAGE).unwrap();
        arena.advise_huge(0..2 * PAGE);
    }
}
