//! The bytes of one slab, shared between threads.
//!
//! The protocol is in the module's page; here is only what makes it sound. All access goes through [`SlabMemory::read`],
//! [`SlabMemory::write`] and [`SlabMemory::clear`]; each copies at most to the end of a stripe at a time, under that stripe's
//! lock. The mapping behind a slab may be exchanged, under all its stripes' locks.
//!
//! # Bytes that another process may write
//! A mapping of a file is shared with the process at the other end, which may be hostile and write at any moment. So its bytes are never
//! behind a Rust reference, and are copied by code that the compiler doesn't see into ([`foreign`]): what such a copy brings may be
//! any bytes, even half old and half new, but they are then ordinary bytes of this process, which are checked before they are believed.

use super::export::LentMemory;
use super::foreign;
use super::mapping::Mapping;
use crate::sum::crc32c;
use crossbeam_utils::CachePadded;
use std::io;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Bytes under one lock: a far segment, so that a write-back takes one lock or two.
pub const STRIPE_BYTES: usize = 256 << 10;

/// The smallest page the kernel may hand out.
const PAGE: usize = 4096;

/// How much of a range is fetched ahead. The processor's own prefetcher sees the pattern sooner, but a page is over before it has caught up: with 64 reads of 4 KiB in flight over TCP, a server
/// that asks for all of the next answers 800 k/s, and 650 k/s if it asks for a quarter or half of it.
#[cfg(target_arch = "x86_64")]
const PREFETCH_BYTES: usize = PAGE;

/// An access was turned down by the check made under the stripe's lock, or there is no memory behind the slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Denied;

/// The bytes of one slab, with or without a mapping behind them.
pub(crate) struct SlabMemory {
    bytes: usize,
    /// The mapping's first byte; null without a mapping. Written only under all stripes' locks, so that under any one of them it stays.
    base: AtomicPtr<u8>,
    /// Keeps alive what `base` points to.
    mapping: Mutex<Option<Mapping>>,
    stripes: Box<[CachePadded<RwLock<()>>]>,
}

impl SlabMemory {
    /// A slab of `bytes` (a multiple of the stripe), without memory.
    pub(crate) fn new(bytes: usize) -> Self {
        assert!(bytes > 0 && bytes.is_multiple_of(STRIPE_BYTES), "a slab is a whole number of stripes");
        let stripes = (0..bytes / STRIPE_BYTES).map(|_| CachePadded::new(RwLock::new(()))).collect();
        Self { bytes, base: AtomicPtr::default(), mapping: Mutex::new(None), stripes }
    }

    /// Puts `mapping` behind the slab, in place of what was there.
    ///
    /// # Panics
    /// If it is not as long as the slab.
    pub(crate) fn install(&self, mapping: Mapping) {
        assert_eq!(mapping.len(), self.bytes, "a mapping of another length than the slab's");
        self.exchange(Some(mapping));
    }

    /// Whether there is memory behind it.
    pub(crate) fn is_mapped(&self) -> bool {
        !self.base.load(Ordering::Relaxed).is_null()
    }

    /// Takes the memory away; every access is denied from now on.
    pub(crate) fn remove(&self) {
        self.exchange(None);
    }

    fn exchange(&self, new: Option<Mapping>) {
        let mut mapping = self.mapping();
        let all = self.all_stripes();
        self.base.store(new.as_ref().map_or(std::ptr::null_mut(), Mapping::as_mut_ptr), Ordering::Relaxed);
        let old = std::mem::replace(&mut *mapping, new);
        drop(all);
        // Only now, when whoever gets a stripe's lock sees the new base.
        drop(old);
    }

    /// Makes the kernel give the slab all its pages now, so that it can't run out of them later.
    pub(crate) fn populate(&self) -> io::Result<()> {
        let mapping = self.mapping();
        let Some(mapping) = &*mapping else { return Ok(()) };
        match mapping.populate() {
            // Kernels before 5.14 don't know the advice.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                self.touch_all();
                Ok(())
            }
            other => other,
        }
    }

    /// Gives every page that has none a zeroed one by storing the byte at its start again, so that a slab with contents keeps them.
    fn touch_all(&self) {
        for (index, stripe) in self.stripes.iter().enumerate() {
            let _exclusive = exclusive(stripe);
            for page in (0..STRIPE_BYTES).step_by(PAGE) {
                let Some(at) = self.at(index * STRIPE_BYTES + page) else { return };
                // SAFETY: `index` and `page` lie in the slab, so `at` is a mapped address; the stripe's lock is held exclusively.
                unsafe { at.write_volatile(at.read_volatile()) };
            }
        }
    }

    /// All of it, to be reached by others. The caller sees to it that it stays mapped as long as they may. `None` if there is no memory behind the slab.
    pub(super) fn to_lend(&self) -> Option<LentMemory<'_>> {
        self.at(0).map(|start| LentMemory::new(start, self.bytes))
    }

    /// Copies `into.len()` bytes from `offset` on. `allowed` is asked under each stripe's lock, before its bytes are touched.
    ///
    /// # Panics
    /// If the range is not within the slab: the store has checked it.
    #[inline]
    pub(crate) fn read(&self, offset: usize, into: &mut [u8], allowed: impl Fn() -> bool) -> Result<(), Denied> {
        self.assert_holds(offset, into.len());
        let mut done = 0;
        while done < into.len() {
            let from = offset + done;
            let part = (into.len() - done).min(STRIPE_BYTES - from % STRIPE_BYTES);
            let _shared = shared(&self.stripes[from / STRIPE_BYTES]);
            let (true, Some(source)) = (allowed(), self.at(from)) else { return Err(Denied) };
            let target = into[done..done + part].as_mut_ptr();
            foreign::prefetch_copy(source.cast_const(), target, part);
            // SAFETY: `from..from + part` lies in the slab (asserted above) and in the one stripe whose lock is held shared, so nobody
            // in this process writes it or takes its mapping away meanwhile, and what other processes do is no concern of a foreign
            // copy; `target` is valid for `part` bytes (sliced above) and, being a `&mut`, overlaps no memory of this map, to which no
            // Rust reference ever exists.
            unsafe { foreign::copy(source.cast_const(), target, part) };
            done += part;
        }
        Ok(())
    }

    /// As [`read`](Self::read), and returns the CRC-32C of what is then in `into` behind its first `header` bytes.
    ///
    /// # Panics
    /// As there, and if there are fewer bytes than that.
    #[inline]
    pub(crate) fn read_summed(
        &self,
        offset: usize,
        into: &mut [u8],
        header: usize,
        allowed: impl Fn() -> bool,
    ) -> Result<u32, Denied> {
        self.assert_holds(offset, into.len());
        let stripe = offset / STRIPE_BYTES;
        if into.len() > STRIPE_BYTES - offset % STRIPE_BYTES {
            // An image lies in one stripe: this is somebody's mistake, or a hostile address.
            self.read(offset, into, allowed)?;
            return Ok(crc32c(&into[header..]));
        }
        let (head, rest) = into.split_at_mut(header);
        let _shared = shared(&self.stripes[stripe]);
        let (true, Some(source)) = (allowed(), self.at(offset)) else { return Err(Denied) };
        // SAFETY: as in `read`, for the one stripe that all of the range lies in; `head` and `rest` are one after the other as the bytes copied are.
        unsafe {
            foreign::copy(source.cast_const(), head.as_mut_ptr(), header);
            Ok(foreign::copy_summed(source.cast_const().add(header), rest.as_mut_ptr(), rest.len()))
        }
    }

    /// Copies `bytes` to `offset` and on. As [`read`](Self::read) otherwise.
    #[inline]
    pub(crate) fn write(&self, offset: usize, bytes: &[u8], allowed: impl Fn() -> bool) -> Result<(), Denied> {
        self.assert_holds(offset, bytes.len());
        let mut done = 0;
        while done < bytes.len() {
            let to = offset + done;
            let part = (bytes.len() - done).min(STRIPE_BYTES - to % STRIPE_BYTES);
            let _exclusive = exclusive(&self.stripes[to / STRIPE_BYTES]);
            let (true, Some(target)) = (allowed(), self.at(to)) else { return Err(Denied) };
            let source = bytes[done..done + part].as_ptr();
            // SAFETY: `to..to + part` lies in the slab (asserted above) and in the one stripe whose lock is held exclusively, so nobody
            // else in this process touches it or takes its mapping away meanwhile, and what other processes do is no concern of a foreign
            // copy; `source` is valid for `part` bytes and overlaps no memory of this map, to which no Rust reference ever exists.
            unsafe { foreign::copy(source, target, part) };
            done += part;
        }
        Ok(())
    }

    /// Asks the processor to fetch the first bytes of a range that will soon be read. Its own prefetcher follows with the rest.
    #[inline]
    pub(crate) fn prefetch(&self, offset: usize, len: usize) {
        self.assert_holds(offset, len);
        #[cfg(target_arch = "x86_64")]
        if let Some(start) = self.at(offset) {
            for line in (0..len.min(PREFETCH_BYTES)).step_by(64) {
                use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
                // SAFETY: a hint, which reads nothing and may name any address.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(line).cast_const().cast()) };
            }
        }
    }

    /// Zeroes the slab, stripe by stripe, and keeps its pages.
    pub(crate) fn clear(&self) {
        for (index, stripe) in self.stripes.iter().enumerate() {
            let _exclusive = exclusive(stripe);
            let Some(at) = self.at(index * STRIPE_BYTES) else { return };
            // SAFETY: stripe `index` lies in the slab, and its lock is held exclusively, so the mapping stays and nobody in this process
            // reads or writes it; no Rust reference to it exists.
            unsafe { foreign::zero(at, STRIPE_BYTES) };
        }
    }

    /// Zeroes the slab by giving its pages back to the kernel, where they are this process's alone.
    pub(crate) fn release(&self) {
        let mapping = self.mapping();
        let Some(mapping) = &*mapping else { return };
        // All locks at once, in ascending order: giving back a part would split huge pages.
        let all = self.all_stripes();
        // SAFETY: all stripes are held exclusively, so nobody reads or writes the slab while its content becomes zero; no Rust reference
        // to it exists.
        let released = unsafe { mapping.release() };
        drop(all);
        if released.is_err() {
            // Locked pages (mlockall) and shared ones can't be given back; they can be zeroed.
            self.clear();
        }
    }

    #[inline]
    fn assert_holds(&self, offset: usize, len: usize) {
        assert!(offset <= self.bytes && len <= self.bytes - offset, "a range outside the slab got past the store's check");
    }

    /// Address of the slab's byte `offset`, if there is memory behind the slab. It stays mapped while the caller holds the stripe's lock.
    #[inline]
    fn at(&self, offset: usize) -> Option<*mut u8> {
        debug_assert!(offset <= self.bytes);
        // Relaxed: it changes under all stripes' locks only, and the caller that uses the address holds one.
        let base = self.base.load(Ordering::Relaxed);
        if base.is_null() { None } else { Some(base.wrapping_add(offset)) }
    }

    fn mapping(&self) -> MutexGuard<'_, Option<Mapping>> {
        // No code that can panic runs while the mapping and `base` disagree.
        self.mapping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All stripes' locks, in ascending order.
    fn all_stripes(&self) -> Vec<RwLockWriteGuard<'_, ()>> {
        self.stripes.iter().map(|stripe| exclusive(stripe)).collect()
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
    use crate::slab::mapping::HUGE_PAGE;

    fn mapped(bytes: usize) -> SlabMemory {
        let slab = SlabMemory::new(bytes);
        slab.install(Mapping::private(bytes).expect("map"));
        slab
    }

    #[test]
    fn a_range_over_two_stripes_comes_back_whole() {
        let slab = mapped(4 * STRIPE_BYTES);
        let sent: Vec<u8> = (0..STRIPE_BYTES + 1000).map(|i| (i % 251) as u8).collect();
        slab.write(STRIPE_BYTES - 500, &sent, || true).expect("write");
        let mut got = vec![0; sent.len()];
        slab.read(STRIPE_BYTES - 500, &mut got, || true).expect("read");
        assert_eq!(got, sent);
    }

    #[test]
    fn clear_and_release_both_zero() {
        for bytes in [STRIPE_BYTES, 2 * HUGE_PAGE] {
            let slab = mapped(bytes);
            slab.populate().expect("populate");
            for zero in [SlabMemory::clear, SlabMemory::release] {
                slab.write(0, &vec![0xaa; bytes], || true).expect("write");
                zero(&slab);
                slab.touch_all();
                let mut got = vec![1; bytes];
                slab.read(0, &mut got, || true).expect("read");
                assert!(got.iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn touching_keeps_the_contents() {
        let slab = mapped(STRIPE_BYTES);
        slab.write(0, &[7; STRIPE_BYTES], || true).expect("write");
        slab.touch_all();
        let mut got = [0; STRIPE_BYTES];
        slab.read(0, &mut got, || true).expect("read");
        assert!(got.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn without_memory_every_access_is_denied() {
        let slab = mapped(STRIPE_BYTES);
        slab.write(0, &[1; 8], || true).expect("write");
        slab.remove();
        for again in 0..2 {
            assert_eq!(slab.read(0, &mut [0; 8], || true), Err(Denied));
            assert_eq!(slab.write(0, &[2; 8], || true), Err(Denied));
            slab.prefetch(0, 64);
            slab.clear();
            slab.release();
            slab.touch_all();
            slab.populate().expect("nothing to populate");
            if again == 0 {
                slab.remove();
            }
        }
        slab.install(Mapping::private(STRIPE_BYTES).expect("map"));
        let mut got = [1; 8];
        slab.read(0, &mut got, || true).expect("read");
        assert_eq!(got, [0; 8], "other memory than before");
    }

    #[test]
    fn a_denied_access_touches_nothing() {
        let slab = mapped(STRIPE_BYTES);
        assert_eq!(slab.write(0, &[1; 64], || false), Err(Denied));
        let mut got = [9; 64];
        assert_eq!(slab.read(0, &mut got, || false), Err(Denied));
        assert_eq!(got, [9; 64]);
        slab.read(0, &mut got, || true).expect("read");
        assert_eq!(got, [0; 64]);
    }

    #[test]
    fn a_read_that_is_summed_reads_the_same_and_sums_what_follows_the_header() {
        let slab = mapped(2 * STRIPE_BYTES);
        let sent: Vec<u8> = (0..2 * STRIPE_BYTES).map(|i| (i % 251) as u8).collect();
        slab.write(0, &sent, || true).expect("write");
        for (offset, len, header) in [(32, 4112, 16), (100, 16, 16), (1, 5000, 0), (STRIPE_BYTES - 700, 4112, 16)] {
            let mut got = vec![0; len];
            let sum = slab.read_summed(offset, &mut got, header, || true).expect("read");
            assert_eq!(got, sent[offset..offset + len]);
            assert_eq!(sum, crc32c(&got[header..]), "{len} bytes at {offset}");
            let mut denied = vec![9; len];
            assert_eq!(slab.read_summed(offset, &mut denied, header, || false), Err(Denied));
            assert!(denied.iter().all(|byte| *byte == 9));
        }
        slab.remove();
        assert_eq!(slab.read_summed(0, &mut [0; 64], 16, || true), Err(Denied));
    }

    /// A slab may be taken away while an access is between two stripes.
    #[test]
    fn an_access_is_checked_again_in_each_stripe_under_its_lock() {
        let slab = mapped(2 * STRIPE_BYTES);
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
        let slab = mapped(STRIPE_BYTES);
        let _ = slab.read(STRIPE_BYTES - 1, &mut [0; 2], || true);
    }
}
