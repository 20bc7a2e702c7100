//! Pinned objects: references that need no scope.

use crate::object::Handle;
use crate::pointee::FarPointee;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};

/// A far object held in local memory for reading, until this is dropped. May be held across an await.
pub struct Pinned<'a, T: ?Sized + FarPointee> {
    handle: Handle<T>,
    _owner: PhantomData<&'a T>,
}

// SAFETY: it is a `&'a T` with a count to give back, which any thread may do.
unsafe impl<T: ?Sized + FarPointee + Sync> Send for Pinned<'_, T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + FarPointee + Sync> Sync for Pinned<'_, T> {}

impl<T: ?Sized + FarPointee> Pinned<'_, T> {
    /// # Safety
    /// The caller has pinned the object, gives the pin to this value, and ties `'a` to a shared borrow of the owner.
    pub(crate) unsafe fn new(handle: Handle<T>) -> Self {
        Pinned { handle, _owner: PhantomData }
    }
}

impl<T: ?Sized + FarPointee> Deref for Pinned<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: pinned, so present and at this address until `self` is dropped; the owner is borrowed, so nobody writes.
        unsafe { self.handle.pinned().as_ref() }
    }
}

impl<T: ?Sized + FarPointee> Drop for Pinned<'_, T> {
    fn drop(&mut self) {
        self.handle.unpin();
    }
}

impl<T: ?Sized + FarPointee + fmt::Debug> fmt::Debug for Pinned<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A far object held in local memory for writing, until this is dropped. May be held across an await.
pub struct PinnedMut<'a, T: ?Sized + FarPointee> {
    handle: Handle<T>,
    _owner: PhantomData<&'a mut T>,
}

// SAFETY: it is a `&'a mut T` with a count to give back.
unsafe impl<T: ?Sized + FarPointee + Send> Send for PinnedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + FarPointee + Sync> Sync for PinnedMut<'_, T> {}

impl<T: ?Sized + FarPointee> PinnedMut<'_, T> {
    /// # Safety
    /// The caller has pinned the object for writing, gives the pin to this value, and ties `'a` to an exclusive borrow of the owner.
    pub(crate) unsafe fn new(handle: Handle<T>) -> Self {
        PinnedMut { handle, _owner: PhantomData }
    }

    /// The same pin, with another borrow of the owner.
    ///
    /// # Safety
    /// The owner is borrowed exclusively for `'b`, and used for nothing else as long as what is returned exists.
    pub(crate) unsafe fn with_owner<'b>(self) -> PinnedMut<'b, T> {
        let this = ManuallyDrop::new(self);
        PinnedMut { handle: this.handle, _owner: PhantomData }
    }
}

impl<T: ?Sized + FarPointee> Deref for PinnedMut<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: pinned, so present and at this address until `self` is dropped; the owner is borrowed exclusively by `self`.
        unsafe { self.handle.pinned().as_ref() }
    }
}

impl<T: ?Sized + FarPointee> DerefMut for PinnedMut<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`; it was made dirty when it was pinned, and the evacuator does not touch pinned objects.
        unsafe { self.handle.pinned().as_mut() }
    }
}

impl<T: ?Sized + FarPointee> Drop for PinnedMut<'_, T> {
    fn drop(&mut self) {
        self.handle.unpin();
    }
}

impl<T: ?Sized + FarPointee + fmt::Debug> fmt::Debug for PinnedMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
