//! What unused local memory looks like to the checking configurations; in others nothing of this is compiled in.
//!
//! Under `--cfg farptr_zeal` memory that is handed out holds [`HANDED_OUT`] until its contents are written, and what is given up holds [`GIVEN_UP`]:
//! who reads through a stale reference reads values that no test writes, pointers that no machine has, and lengths that no object has.

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
    #[cfg(farptr_zeal)]
    // SAFETY: by contract.
    unsafe {
        std::ptr::write_bytes(first as *mut u8, HANDED_OUT, len);
    }
    let _ = (first, len);
}

/// `len` bytes from `first` were somebody's.
///
/// # Safety
/// They are mapped, nobody refers to them, and nobody else writes them.
#[inline(always)]
pub unsafe fn given_up(first: usize, len: usize) {
    #[cfg(farptr_zeal)]
    // SAFETY: by contract.
    unsafe {
        std::ptr::write_bytes(first as *mut u8, GIVEN_UP, len);
    }
    let _ = (first, len);
}
