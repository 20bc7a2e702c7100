//! What unused local memory looks like to the checking configurations; in others nothing of this is compiled in.
//!
//! Under `--cfg farptr_zeal` memory that is handed out holds [`HANDED_OUT`] until its contents are written, and what is given up holds [`GIVEN_UP`]:
//! who reads through a stale reference reads values that no test writes, pointers that no machine has, and lengths that no object has.
//!
//! Under `--cfg farptr_asan` AddressSanitizer, which by itself takes all of an arena for one allocation, is told as well. A byte is *forbidden* from the moment
//! its arena is reserved until it is handed out, and from the moment it is given up until it is handed out again; the first access to a
//! forbidden byte is reported with the stack of who makes it, be it a read or a write. The sanitizer keeps its notes by eights of bytes and
//! objects lie at multiples of 16, so an object's end is forbidden with it.

/// Objects take multiples of this, headers included.
#[cfg(farptr_asan)]
const GRAIN: usize = crate::heap::HEADER_BYTES;

/// Of a byte that nobody has written since it was handed out.
pub const HANDED_OUT: u8 = 0xa5;

/// Of a byte of an object that has left, moved or died.
pub const GIVEN_UP: u8 = 0xdd;

/// `len` bytes from `first` are about to be somebody's.
///
/// # Safety
/// They are mapped, and the caller's alone.
#[inline(always)]
pub unsafe fn handed_out(first: usize, len: usize) {
    #[cfg(farptr_asan)]
    asan::allow(first, len);
    #[cfg(farptr_zeal)]
    // SAFETY: by contract.
    unsafe {
        std::ptr::write_bytes(first as *mut u8, HANDED_OUT, len);
    }
    let _ = (first, len);
}

/// `len` bytes from `first`, the contents of one object or a whole segment, were somebody's.
///
/// # Safety
/// They are mapped, nobody refers to them, and nobody else writes them.
#[inline(always)]
pub unsafe fn given_up(first: usize, len: usize) {
    #[cfg(farptr_zeal)]
    {
        // Parts of a segment have been given up before.
        #[cfg(farptr_asan)]
        asan::allow(first, len);
        // SAFETY: by contract.
        unsafe { std::ptr::write_bytes(first as *mut u8, GIVEN_UP, len) };
    }
    #[cfg(farptr_asan)]
    asan::forbid(first, len.next_multiple_of(GRAIN));
    let _ = (first, len);
}

/// `len` bytes from `first` are mapped, and nobody's yet.
#[inline(always)]
pub(crate) fn reserved(first: usize, len: usize) {
    #[cfg(farptr_asan)]
    asan::forbid(first, len);
    let _ = (first, len);
}

/// Of `len` bytes from `first`, which are mapped, those from `inner` to `end` are somebody's and the others nobody's.
#[inline(always)]
pub(crate) fn bounded(first: usize, len: usize, inner: usize, end: usize) {
    reserved(first, len);
    #[cfg(farptr_asan)]
    asan::allow(inner, end - inner);
    let _ = (inner, end);
}

/// `len` bytes from `first` are about to be unmapped: what is mapped there next is not ours to forbid.
#[inline(always)]
pub(crate) fn unmapped(first: usize, len: usize) {
    #[cfg(farptr_asan)]
    asan::allow(first, len);
    let _ = (first, len);
}

#[cfg(farptr_asan)]
pub use asan::is_forbidden;

/// The sanitizer's interface, which its runtime library brings.
#[cfg(farptr_asan)]
mod asan {
    use std::ffi::{c_int, c_void};

    unsafe extern "C" {
        fn __asan_poison_memory_region(first: *const c_void, len: usize);
        fn __asan_unpoison_memory_region(first: *const c_void, len: usize);
        fn __asan_address_is_poisoned(addr: *const c_void) -> c_int;
    }

    pub(super) fn forbid(first: usize, len: usize) {
        // SAFETY: changes the sanitizer's notes about a range of addresses, whatever they are; no byte of ours.
        unsafe { __asan_poison_memory_region(first as *const c_void, len) };
    }

    pub(super) fn allow(first: usize, len: usize) {
        // SAFETY: as in `forbid`.
        unsafe { __asan_unpoison_memory_region(first as *const c_void, len) };
    }

    /// Whether AddressSanitizer would report an access to the byte at `addr`.
    pub fn is_forbidden(addr: usize) -> bool {
        // SAFETY: reads the sanitizer's notes.
        unsafe { __asan_address_is_poisoned(addr as *const c_void) != 0 }
    }
}
