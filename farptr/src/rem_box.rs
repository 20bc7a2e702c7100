//! [`RemBox`]: a value that may be far away.

use crate::memory::FarMemory;
use crate::object::{self, Handle, Nests};
use crate::pin::{Pinned, PinnedMut};
use crate::pointee::FarPointee;
use crate::{Far, Scope, ok};
use farptr_runtime::memory::Memory;
use farptr_runtime::{Result, forked};
use std::fmt;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};

/// Nests a value in far memory, as `Box` owns one on the heap.
///
/// The value is local or far, and moves between the two by itself. [`get`](RemBox::get) and [`get_mut`](RemBox::get_mut) give
/// references that borrow the box and a [`Scope`]; a value that is far is swapped in first. A `RemBox<T>` is 8 bytes (16 for slices and
/// strings), its value takes 24 bytes besides itself.
///
/// Unlike `Box` it does not implement `Deref`: a deref can fail, and needs a scope. Methods that panic on failure have a `try_` twin.
///
/// **Long chains.** Dropping a box drops what its value owns, a call for each, as with `Box`. A list of tens of thousands of nodes overflows the stack, which ends the process. Take such a list apart in a loop:
/// `while let Some(node) = rest { rest = node.into_inner().next; }`, as in the example of [`Cursor`](crate::Cursor).
///
/// ```
/// use farptr::{FarMemory, RemBox};
///
/// let mem = FarMemory::builder().local_budget(4 << 20).build()?;
/// let mut greeting = RemBox::new_in([b'h', b'i'], &mem);
/// {
///     let scope = farptr::scope();
///     greeting.get_mut(&scope)[1] = b'o';
/// }
/// assert_eq!(greeting.with(|value| *value), *b"ho");
/// # Ok::<(), farptr::Error>(())
/// ```
pub struct RemBox<T: ?Sized + FarPointee> {
    pub(crate) handle: Handle<T>,
    _owns: PhantomData<T>,
}

// SAFETY: a `RemBox<T>` owns its `T` and hands out `&T` and `&mut T` by the rules of borrowing, like a `Box<T>`; slots, heap and evacuator
// are made for any thread.
unsafe impl<T: ?Sized + FarPointee + Send> Send for RemBox<T> {}
// SAFETY: as above; through `&RemBox<T>` one gets `&T` only.
unsafe impl<T: ?Sized + FarPointee + Sync> Sync for RemBox<T> {}

// SAFETY: a slot pointer and a length: plain data that does not change through `&` and does not point to ordinary heap memory. Slots do
// not move.
unsafe impl<T: ?Sized + FarPointee> Far for RemBox<T> {}

impl<T: Far> RemBox<T> {
    /// Puts `value` into far memory: at first locally.
    ///
    /// # Panics
    /// If it does not fit the local budget: see [`try_new_in`](RemBox::try_new_in).
    #[track_caller]
    pub fn new_in(value: T, memory: &FarMemory) -> Self {
        ok(Self::try_new_in(value, memory))
    }

    /// As [`new_in`](RemBox::new_in); waits for evacuation if need be.
    ///
    /// # Errors
    /// `OutOfLocalMemory`, `ScopeExhausted`, `FarMemoryFull`; an alignment above 4096 is `CapacityOverflow`. `value` is dropped then.
    pub fn try_new_in(value: T, memory: &FarMemory) -> Result<Self> {
        let slot = object::create(memory.core(), value)?;
        // SAFETY: the slot holds the value, and is the new box's alone.
        Ok(unsafe { Self::from_handle(Handle::new(slot, ())) })
    }

    /// The value, moved out.
    ///
    /// # Panics
    /// If it can't be fetched: see [`try_into_inner`](RemBox::try_into_inner).
    #[track_caller]
    pub fn into_inner(self) -> T {
        match self.try_into_inner() {
            Ok(value) => value,
            Err((_, error)) => crate::failed(&error),
        }
    }

    /// The value, moved out; takes no local memory.
    ///
    /// # Errors
    /// If it can't be fetched, the box comes back with the reason.
    pub fn try_into_inner(self) -> Result<T, (Self, farptr_runtime::Error)> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: `self` owns the object and is gone after success; the room fits a `T`.
        if let Err(error) = unsafe { self.handle.take(value.as_mut_ptr().cast()) } {
            return Err((self, error));
        }
        let this = ManuallyDrop::new(self);
        // SAFETY: `take` has left the slot vacant; it is not used again, `this` is not dropped.
        unsafe { Memory::free_slot(this.handle.slot) };
        // SAFETY: `take` succeeded, so the value is here.
        Ok(unsafe { value.assume_init() })
    }
}

impl<T: Far + Copy> RemBox<[T]> {
    /// A copy of `slice` in far memory.
    ///
    /// # Panics
    /// If it does not fit the local budget: see [`try_from_slice_in`](RemBox::try_from_slice_in).
    #[track_caller]
    pub fn from_slice_in(slice: &[T], memory: &FarMemory) -> Self {
        ok(Self::try_from_slice_in(slice, memory))
    }

    /// A copy of `slice` in far memory.
    ///
    /// # Errors
    /// `OutOfLocalMemory`, `ScopeExhausted`.
    pub fn try_from_slice_in(slice: &[T], memory: &FarMemory) -> Result<Self> {
        let slot = object::create_with(memory.core(), <[T]>::layout(slice.len()), |to| {
            // SAFETY: `to` is room for as many elements, aligned and exclusive; `T: Copy`.
            unsafe { to.cast::<T>().copy_from_nonoverlapping(slice.as_ptr(), slice.len()) };
        })?;
        // SAFETY: the slot holds as many elements.
        Ok(unsafe { Self::from_handle(Handle::new(slot, slice.len())) })
    }
}

impl<T: Far> RemBox<[T]> {
    /// How many elements. Costs nothing: the length is in the box.
    pub fn len(&self) -> usize {
        self.handle.meta
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl RemBox<str> {
    /// A copy of `text` in far memory.
    ///
    /// # Panics
    /// If it does not fit the local budget: see [`try_from_str_in`](RemBox::try_from_str_in).
    #[track_caller]
    pub fn from_str_in(text: &str, memory: &FarMemory) -> Self {
        ok(Self::try_from_str_in(text, memory))
    }

    /// A copy of `text` in far memory.
    ///
    /// # Errors
    /// `OutOfLocalMemory`, `ScopeExhausted`.
    pub fn try_from_str_in(text: &str, memory: &FarMemory) -> Result<Self> {
        let slot = object::create_with(memory.core(), str::layout(text.len()), |to| {
            // SAFETY: `to` is room for as many bytes, exclusive.
            unsafe { to.copy_from_nonoverlapping(text.as_ptr(), text.len()) };
        })?;
        // SAFETY: the slot holds the bytes of a `str`.
        Ok(unsafe { Self::from_handle(Handle::new(slot, text.len())) })
    }

    /// Length in bytes. Costs nothing: the length is in the box.
    pub fn len(&self) -> usize {
        self.handle.meta
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: ?Sized + FarPointee> RemBox<T> {
    /// # Safety
    /// The handle's slot holds a `T` of its metadata, and belongs to nobody else.
    unsafe fn from_handle(handle: Handle<T>) -> Self {
        RemBox { handle, _owns: PhantomData }
    }

    /// A reference to the value, swapped in if it is far. Costs about a nanosecond over `Box` if it is local.
    ///
    /// # Panics
    /// If the value can't be had: see [`try_get`](RemBox::try_get).
    #[inline]
    #[track_caller]
    pub fn get<'a>(&'a self, scope: &'a Scope) -> &'a T {
        match self.try_get(scope) {
            Ok(value) => value,
            Err(error) => crate::failed(&error),
        }
    }

    /// A reference to the value, swapped in if it is far.
    ///
    /// # Errors
    /// `ScopeExhausted` if the scope's references hold too much of the local budget; `Transport` and `Corrupt` if the value can't be
    /// fetched.
    #[inline(always)]
    pub fn try_get<'a>(&'a self, scope: &'a Scope) -> Result<&'a T> {
        // SAFETY: `&self` is borrowed for `'a`: no `&mut` from this box, and it is not dropped.
        unsafe { self.handle.get(scope) }
    }

    /// A reference for writing, swapped in if it is far.
    ///
    /// # Panics
    /// If the value can't be had: see [`try_get_mut`](RemBox::try_get_mut).
    #[inline]
    #[track_caller]
    pub fn get_mut<'a>(&'a mut self, scope: &'a Scope) -> &'a mut T {
        match self.try_get_mut(scope) {
            Ok(value) => value,
            Err(error) => crate::failed(&error),
        }
    }

    /// A reference for writing, swapped in if it is far.
    ///
    /// # Errors
    /// As [`try_get`](RemBox::try_get).
    #[inline(always)]
    pub fn try_get_mut<'a>(&'a mut self, scope: &'a Scope) -> Result<&'a mut T> {
        // SAFETY: `&mut self` is borrowed for `'a`: no other reference from this box.
        unsafe { self.handle.get_mut(scope) }
    }

    /// Calls `f` with the value, in a scope of its own. Waits for local memory if need be.
    ///
    /// Where `f` needs local memory itself, to insert into a map say, it can't wait for it: its scope keeps evacuation from going on. Copy out what is needed, and insert afterwards. (A value that
    /// may own far objects is pinned instead, without a scope.)
    ///
    /// # Panics
    /// If the value can't be had: see [`try_with`](RemBox::try_with).
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        ok(self.try_with(f))
    }

    /// Calls `f` with the value, in a scope of its own. Waits for local memory if need be.
    ///
    /// A far value may be read without being swapped in, and is far afterwards as before: when local memory is full, hardly anything that is read is read again soon, nobody has asked for this value
    /// lately, and its bytes are mapped in this process. [`Stats::bypassed_objects`](crate::Stats::bypassed_objects) counts these.
    ///
    /// # Errors
    /// `OutOfLocalMemory` if none is freed in time, or if a scope has kept evacuation from going on for longer than the timeout already; `Transport` and `Corrupt` if the value can't be fetched.
    pub fn try_with<R>(&self, f: impl FnOnce(&T) -> R) -> Result<R> {
        // SAFETY: `&self` is borrowed during the call.
        unsafe { self.handle.look(Nests::of::<T>(), f) }
    }

    /// Calls `f` with the value for writing, in a scope of its own. Waits for local memory if need be.
    ///
    /// # Panics
    /// If the value can't be had: see [`try_with_mut`](RemBox::try_with_mut).
    #[track_caller]
    pub fn with_mut<R>(&mut self, f: impl FnOnce(&mut T) -> R) -> R {
        ok(self.try_with_mut(f))
    }

    /// Calls `f` with the value for writing, in a scope of its own. Waits for local memory if need be.
    ///
    /// # Errors
    /// As [`try_with`](RemBox::try_with).
    pub fn try_with_mut<R>(&mut self, f: impl FnOnce(&mut T) -> R) -> Result<R> {
        // SAFETY: `&mut self` is borrowed during the call.
        unsafe { self.handle.with_mut(Nests::of::<T>(), f) }
    }

    /// Holds the value locally without a scope, for long reads: it does not move until the pin is dropped. Pinned memory can't be
    /// evacuated, so pin little. A pin keeps a segment of local memory, a 64th of the
    /// budget, which it shares with other pins; with a third of the budget pinned all else goes on, beyond it closures may find no room, since evacuation, scopes and slots need their part too.
    ///
    /// # Panics
    /// If the value can't be had: see [`try_pin`](RemBox::try_pin).
    #[track_caller]
    pub fn pin(&self) -> Pinned<'_, T> {
        ok(self.try_pin())
    }

    /// Holds the value locally without a scope.
    ///
    /// # Errors
    /// As [`try_with`](RemBox::try_with).
    pub fn try_pin(&self) -> Result<Pinned<'_, T>> {
        self.handle.pin()?;
        // SAFETY: pinned just now; `&self` is borrowed as long as the pin.
        Ok(unsafe { Pinned::new(self.handle) })
    }

    /// Holds the value locally without a scope, for writing.
    ///
    /// # Panics
    /// If the value can't be had: see [`try_pin_mut`](RemBox::try_pin_mut).
    #[track_caller]
    pub fn pin_mut(&mut self) -> PinnedMut<'_, T> {
        ok(self.try_pin_mut())
    }

    /// Holds the value locally without a scope, for writing.
    ///
    /// # Errors
    /// As [`try_with`](RemBox::try_with).
    pub fn try_pin_mut(&mut self) -> Result<PinnedMut<'_, T>> {
        // SAFETY: `&mut self` is borrowed as long as the pin.
        unsafe {
            self.handle.pin_mut()?;
            Ok(PinnedMut::new(self.handle))
        }
    }

    /// As [`try_pin`](RemBox::try_pin), without blocking the thread: while the value is on its way, the executor runs other tasks. Works
    /// on any executor. A value that is local is pinned at once.
    ///
    /// # Errors
    /// As [`try_with`](RemBox::try_with).
    pub async fn pin_async(&self) -> Result<Pinned<'_, T>> {
        self.handle.pin_async().await?;
        // SAFETY: pinned just now; `&self` is borrowed as long as the pin.
        Ok(unsafe { Pinned::new(self.handle) })
    }

    /// As [`try_pin_mut`](RemBox::try_pin_mut), without blocking the thread.
    ///
    /// # Errors
    /// As [`try_with`](RemBox::try_with).
    pub async fn pin_mut_async(&mut self) -> Result<PinnedMut<'_, T>> {
        // SAFETY: `&mut self` is borrowed as long as the future and the pin.
        unsafe {
            self.handle.pin_mut_async().await?;
            Ok(PinnedMut::new(self.handle))
        }
    }

    /// Calls `f` with the value once it is local, without blocking the thread.
    ///
    /// # Errors
    /// As [`try_with`](RemBox::try_with).
    pub async fn with_async<R>(&self, f: impl FnOnce(&T) -> R) -> Result<R> {
        // SAFETY: `&self` is borrowed as long as the future.
        unsafe { self.handle.with_async(Nests::of::<T>(), f).await }
    }

    /// Calls `f` with the value for writing once it is local, without blocking the thread.
    ///
    /// # Errors
    /// As [`try_with`](RemBox::try_with).
    pub async fn with_mut_async<R>(&mut self, f: impl FnOnce(&mut T) -> R) -> Result<R> {
        // SAFETY: `&mut self` is borrowed as long as the future.
        unsafe { self.handle.with_mut_async(Nests::of::<T>(), f).await }
    }

    /// Whether a local copy exists now. A hint: another moment it may be otherwise.
    pub fn is_local(&self) -> bool {
        self.handle.slot().load().is_present()
    }
}

impl<T: ?Sized + FarPointee> Drop for RemBox<T> {
    /// Drops the value, wherever it is: a far one that has something to drop is fetched, into ordinary memory. If that fails, what it owns is
    /// leaked and counted in `Stats::lost_drops`. A long chain of boxes is to be taken apart first: see [`RemBox`].
    fn drop(&mut self) {
        struct FreeSlot<T: ?Sized + FarPointee>(Handle<T>);
        impl<T: ?Sized + FarPointee> Drop for FreeSlot<T> {
            fn drop(&mut self) {
                // SAFETY: the slot is vacant after `release`, also if a panicking `Drop` of the contents brought us here.
                unsafe { Memory::free_slot(self.0.slot) };
            }
        }
        if forked::is_child() {
            return;
        }
        let slot = FreeSlot(self.handle);
        // SAFETY: the box owns the object, and is going away.
        unsafe { slot.0.release() };
    }
}

impl<T: ?Sized + FarPointee + fmt::Debug> fmt::Debug for RemBox<T> {
    /// The value, as `Box` prints it, if it is local. A far one is not fetched, and printed as `RemBox(far)`. Does not count as a use.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = Scope::enter_non_temporal();
        match self.is_local().then(|| self.try_get(&scope)) {
            Some(Ok(value)) => value.fmt(f),
            _ => f.write_str("RemBox(far)"),
        }
    }
}
