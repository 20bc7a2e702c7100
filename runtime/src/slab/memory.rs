//! The bytes of one slab, shared between threads.
//!
//! The protocol is in the module's page; here is only what makes it sound. All access goes through [`SlabMemory::read`],
//! [`SlabMemory::write`] and [`SlabMemory::clear`]; each copies at most to the end of a stripe at a time, under that stripe's
//! lock.

use crossbeam_utils::CachePadded;
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use std::io;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Bytes under one lock: a far segment, so that a write-back takes one lock or two.
pub const STRIPE_BYTES: usize = 256 << 10;

/// Size and alignment of a huge page on the machines this runs on; a slab that can hold one starts at such a boundary.
const HUGE_PAGE: usize = 2 << 20;
/// The smallest page the kernel may hand out.
const PAGE: usize = 4096;

/// How much of a range is fetched ahead. The processor's own prefetcher sees the pattern by then.
#[cfg(target_arch = "x86_64")]
const PREFETCH_BYTES: usize = 1024;

/// An access was turned down by the check made under the stripe's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Denied;

/// One mapped slab.
pub(super) struct SlabMemory {
    map: MmapRaw,
    /// Where the slab starts in `map`.
    start: usize,
    bytes: usize,
    stripes: Box<[CachePadded<RwLock<()>>]>,
}

impl SlabMemory {
    /// Maps `bytes` (a multiple of the stripe) of zeroed memory, without pages yet: see [`populate`](Self::populate).
    pub(super) fn map(bytes: usize) -> io::Result<Self> {
        assert!(bytes > 0 && bytes.is_multiple_of(STRIPE_BYTES), "a slab is a whole number of stripes");
        // Room to start at a huge page's boundary. What is cut off is never touched and costs addresses only.
        let slack = if bytes >= HUGE_PAGE { HUGE_PAGE } else { 0 };
        let map = MmapRaw::from(MmapOptions::new().len(bytes + slack).map_anon()?);
        let start = if slack == 0 { 0 } else { map.as_mut_ptr().align_offset(HUGE_PAGE).min(slack) };
        if slack != 0 {
            // Huge pages make populating 5x cheaper and spare a random read its TLB miss. A kernel without them is fine.
            let _ = map.advise_range(Advice::HugePage, start, bytes);
        }
        let stripes = (0..bytes / STRIPE_BYTES).map(|_| CachePadded::new(RwLock::new(()))).collect();
        Ok(Self { map, start, bytes, stripes })
    }

    /// Makes the kernel give the slab all its pages now, so that it can't run out of them later.
    pub(super) fn populate(&self) -> io::Result<()> {
        match self.map.advise_range(Advice::PopulateWrite, self.start, self.bytes) {
            // Kernels before 5.14 don't know the advice.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                self.touch_all();
                Ok(())
            }
            other => other,
        }
    }

    /// Gives every page that has none a zeroed one by storing a zero at its start. For slabs nobody borrows.
    fn touch_all(&self) {
        for (index, stripe) in self.stripes.iter().enumerate() {
            let _exclusive = exclusive(stripe);
            for page in (0..STRIPE_BYTES).step_by(PAGE) {
                // SAFETY: `index` and `page` lie in the slab, so `at` gives a mapped address; the stripe's lock is held exclusively.
                unsafe { self.at(index * STRIPE_BYTES + page).write_volatile(0) };
            }
        }
    }

    /// Copies `into.len()` bytes from `offset` on. `allowed` is asked under each stripe's lock, before its bytes are touched.
    ///
    /// # Panics
    /// If the range is not within the slab: the store has checked it.
    #[inline]
    pub(super) fn read(&self, offset: usize, into: &mut [u8], allowed: impl Fn() -> bool) -> Result<(), Denied> {
        self.assert_holds(offset, into.len());
        let mut done = 0;
        while done < into.len() {
            let from = offset + done;
            let part = (into.len() - done).min(STRIPE_BYTES - from % STRIPE_BYTES);
            let _shared = shared(&self.stripes[from / STRIPE_BYTES]);
            if !allowed() {
                return Err(Denied);
            }
            let target = into[done..done + part].as_mut_ptr();
            // SAFETY: `from..from + part` lies in the slab (asserted above) and in the one stripe whose lock is held shared,
            // so nobody writes it meanwhile; `target` is valid for `part` bytes (sliced above) and, being a `&mut`, overlaps
            // no memory of this map, to which no Rust reference ever exists.
            unsafe { std::ptr::copy_nonoverlapping(self.at(from).cast_const(), target, part) };
            done += part;
        }
        Ok(())
    }

    /// Copies `bytes` to `offset` and on. As [`read`](Self::read) otherwise.
    #[inline]
    pub(super) fn write(&self, offset: usize, bytes: &[u8], allowed: impl Fn() -> bool) -> Result<(), Denied> {
        self.assert_holds(offset, bytes.len());
        let mut done = 0;
        while done < bytes.len() {
            let to = offset + done;
            let part = (bytes.len() - done).min(STRIPE_BYTES - to % STRIPE_BYTES);
            let _exclusive = exclusive(&self.stripes[to / STRIPE_BYTES]);
            if !allowed() {
                return Err(Denied);
            }
            let source = bytes[done..done + part].as_ptr();
            // SAFETY: `to..to + part` lies in the slab (asserted above) and in the one stripe whose lock is held exclusively,
            // so nobody else touches it meanwhile; `source` is valid for `part` bytes and overlaps no memory of this map, to
            // which no Rust reference ever exists.
            unsafe { std::ptr::copy_nonoverlapping(source, self.at(to), part) };
            done += part;
        }
        Ok(())
    }

    /// Asks the processor to fetch the first bytes of a range that will soon be read. Its own prefetcher follows with the rest.
    #[inline]
    pub(super) fn prefetch(&self, offset: usize, len: usize) {
        self.assert_holds(offset, len);
        #[cfg(target_arch = "x86_64")]
        for line in (0..len.min(PREFETCH_BYTES)).step_by(64) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a hint, which reads nothing and may name any address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.at(offset + line).cast_const().cast()) };
        }
    }

    /// Zeroes the slab, stripe by stripe, and keeps its pages.
    pub(super) fn clear(&self) {
        for (index, stripe) in self.stripes.iter().enumerate() {
            let _exclusive = exclusive(stripe);
            // SAFETY: stripe `index` lies in the slab, and its lock is held exclusively.
            unsafe { std::ptr::write_bytes(self.at(index * STRIPE_BYTES), 0, STRIPE_BYTES) };
        }
    }

    /// Zeroes the slab by giving its pages back to the kernel.
    pub(super) fn release(&self) {
        // All locks at once, in ascending order: giving back a part would split huge pages.
        let all: Vec<_> = self.stripes.iter().map(|stripe| exclusive(stripe)).collect();
        // SAFETY: all stripes are held exclusively, so nobody reads or writes the slab while its content becomes zero; no
        // Rust reference to it exists.
        let released = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, self.start, self.bytes) };
        drop(all);
        if released.is_err() {
            // Locked pages (mlockall) can't be given back; they can be zeroed.
            self.clear();
        }
    }

    #[inline]
    fn assert_holds(&self, offset: usize, len: usize) {
        assert!(offset <= self.bytes && len <= self.bytes - offset, "a range outside the slab got past the store's check");
    }

    /// Address of the slab's byte `offset`.
    #[inline]
    fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset < self.bytes);
        self.map.as_mut_ptr().wrapping_add(self.start + offset)
    }
}

// A poisoned lock guards nothing that a panic could have left half done: only plain bytes lie behind it.
#[inline]
fn shared(stripe: &RwLock<()>) -> RwLockReadGuard<'_, ()> {
    stripe.read().unwrap_or_else(PoisonError::into_inner)
}

#[inline]
fn exclusive(stripe: &RwLock<()>) -> RwLockWriteGuard<'_, ()> {
    stripe.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_over_two_stripes_comes_back_whole() {
        let slab = SlabMemory::map(4 * STRIPE_BYTES).expect("map");
        let sent: Vec<u8> = (0..STRIPE_BYTES + 1000).map(|i| (i % 251) as u8).collect();
        slab.write(STRIPE_BYTES - 500, &sent, || true).expect("write");
        let mut got = vec![0; sent.len()];
        slab.read(STRIPE_BYTES - 500, &mut got, || true).expect("read");
        assert_eq!(got, sent);
    }

    #[test]
    fn clear_and_release_both_zero() {
        for bytes in [STRIPE_BYTES, 2 * HUGE_PAGE] {
            let slab = SlabMemory::map(bytes).expect("map");
            slab.populate().expect("populate");
            for zero in [SlabMemory::clear, SlabMemory::release, |slab: &SlabMemory| {
                slab.clear();
                slab.touch_all();
            }] {
                slab.write(0, &vec![0xaa; bytes], || true).expect("write");
                zero(&slab);
                let mut got = vec![1; bytes];
                slab.read(0, &mut got, || true).expect("read");
                assert!(got.iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn a_denied_access_touches_nothing() {
        let slab = SlabMemory::map(STRIPE_BYTES).expect("map");
        assert_eq!(slab.write(0, &[1; 64], || false), Err(Denied));
        let mut got = [9; 64];
        assert_eq!(slab.read(0, &mut got, || false), Err(Denied));
        assert_eq!(got, [9; 64]);
        slab.read(0, &mut got, || true).expect("read");
        assert_eq!(got, [0; 64]);
    }

    /// A slab may be taken away while an access is between two stripes.
    #[test]
    fn an_access_is_checked_again_in_each_stripe_under_its_lock() {
        let slab = SlabMemory::map(2 * STRIPE_BYTES).expect("map");
        let locked = |stripe: usize| slab.stripes[stripe].try_write().is_err();
        let asked = std::cell::Cell::new(0);
        let once = || {
            assert!(locked(asked.get()), "asked without the lock of stripe {}", asked.get());
            asked.set(asked.get() + 1);
            asked.get() == 1
        };
        assert_eq!(slab.write(STRIPE_BYTES - 4, &[1; 8], once), Err(Denied));
        let mut got = [9; 8];
        slab.read(STRIPE_BYTES - 4, &mut got, || true).expect("read");
        assert_eq!(got, [1, 1, 1, 1, 0, 0, 0, 0]);
        asked.set(0);
        assert_eq!(slab.read(STRIPE_BYTES - 4, &mut [0; 8], once), Err(Denied));
    }

    #[test]
    #[should_panic(expected = "outside the slab")]
    fn a_range_past_the_end_panics_rather_than_reads() {
        let slab = SlabMemory::map(STRIPE_BYTES).expect("map");
        let _ = slab.read(STRIPE_BYTES - 1, &mut [0; 2], || true);
    }
}
