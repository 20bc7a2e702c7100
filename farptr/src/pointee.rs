//! What a far pointer must know besides the slot in order to make a reference: the length, for slices and strings.

use crate::Far;
use std::alloc::Layout;

/// Types a [`RemBox`](crate::RemBox) can own: sized ones, slices and `str`.
///
/// # Safety
/// `layout` is the layout of the value that `from_raw` makes of the same metadata, and `from_raw` keeps the address.
pub unsafe trait FarPointee: Far {
    /// `()` for sized types, the length otherwise.
    type Meta: Copy + Send + Sync + Unpin + std::fmt::Debug;

    /// Size and alignment of the contents.
    fn layout(meta: Self::Meta) -> Layout;

    /// A pointer to the contents at `address`.
    fn from_raw(address: *mut u8, meta: Self::Meta) -> *mut Self;
}

// SAFETY: a sized type has one layout, and a thin pointer is an address.
unsafe impl<T: Far> FarPointee for T {
    type Meta = ();

    #[inline(always)]
    fn layout((): ()) -> Layout {
        Layout::new::<T>()
    }

    #[inline(always)]
    fn from_raw(address: *mut u8, (): ()) -> *mut T {
        address.cast()
    }
}

// SAFETY: a slice's metadata is its length.
unsafe impl<T: Far> FarPointee for [T] {
    type Meta = usize;

    #[inline]
    fn layout(len: usize) -> Layout {
        Layout::array::<T>(len).expect("the slice existed, so its size is a size")
    }

    #[inline]
    fn from_raw(address: *mut u8, len: usize) -> *mut [T] {
        std::ptr::slice_from_raw_parts_mut(address.cast(), len)
    }
}

// SAFETY: a string's metadata is its length in bytes.
unsafe impl FarPointee for str {
    type Meta = usize;

    #[inline]
    fn layout(len: usize) -> Layout {
        Layout::array::<u8>(len).expect("the string existed, so its size is a size")
    }

    #[inline]
    fn from_raw(address: *mut u8, len: usize) -> *mut str {
        std::ptr::slice_from_raw_parts_mut(address, len) as *mut str
    }
}
