//! Cursors: steps from one far object to the next, holding only the current one.
//!
//! # Why a cursor may let go of what it came through
//! A cursor borrows its root for `'a`. A step calls the user's closure with the current object, and the closure returns a reference to a box. It is good for any lifetime that the current
//! object's reference may have ("`for<'x>`"), so the box is one that the current object owns, or one that lives for ever. The step copies
//! the box's [`Handle`], pins what it holds, and only then lets the current object go.
//!
//! Afterwards the cursor has no reference to the object that it came from. That object may leave and move, which leaves the bytes of its box as they are and does not touch the slot that
//! they name. What could end the next object is a change of that box, or its drop:
//! - [`Cursor`]: the root is borrowed, shared, for `'a`. All that it owns, over any number of boxes, can be changed or dropped through `&mut` to it only, because contents are `Far`: nothing
//!   in them changes through `&`. So for all of `'a` each object under the root stays, and nobody writes it. It is what a chain of pins
//!   from the root to the current object would prove, each `&'a`; the cursor keeps the last one.
//! - [`CursorMut`]: the root is borrowed exclusively for `'a`, and the cursor is the only one who has the borrow. It hands out references to
//!   the current object only, and a step needs `&mut self`, so none is left of the object before. Objects above the current one
//!   can't be reached any more, and so can't be dropped with what is under them.
//!
//! A panic in the closure, or an error of the pin, leaves the cursor where it was.

use crate::object::Handle;
use crate::pin::{Pinned, PinnedMut};
use crate::pointee::FarPointee;
use crate::{RemBox, ok};
use farptr_runtime::Result;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Goes from far object to far object for reading, and holds the current one only: along a list of any length, or down a tree.
///
/// The current object is pinned; the cursor derefs to it. No scope is open between the steps, so what is done there may wait for memory, and a cursor
/// may be kept across an await. A reference to the current object ends with the next step, by the compiler.
///
/// ```
/// use farptr::{Cursor, Far, FarMemory, RemBox};
///
/// #[derive(Far)]
/// struct Node {
///     value: u64,
///     next: Option<RemBox<Node>>,
/// }
///
/// let mem = FarMemory::builder().local_budget(2 << 20).build()?;
/// let mut head = RemBox::new_in(Node { value: 0, next: None }, &mem);
/// for value in 1..100_000 {
///     head = RemBox::new_in(Node { value, next: Some(head) }, &mem); // about 5 MB, with 2 MiB local
/// }
/// let mut at = Cursor::try_new(&head)?;
/// let mut sum = at.value;
/// while at.try_step(|node| node.next.as_ref())? {
///     sum += at.value;
/// }
/// assert_eq!(sum, 4_999_950_000);
/// drop(at);
///
/// // The list's own drop would go down it, a call for each node, and overflow the stack.
/// let mut rest = Some(head);
/// while let Some(node) = rest {
///     rest = node.into_inner().next;
/// }
/// # Ok::<(), farptr::Error>(())
/// ```
pub struct Cursor<'a, T: ?Sized + FarPointee> {
    at: Pinned<'a, T>,
}

impl<'a, T: ?Sized + FarPointee> Cursor<'a, T> {
    /// A cursor at the value of `root`. Waits for local memory if need be.
    ///
    /// # Panics
    /// If the value can't be had: see [`try_new`](Cursor::try_new).
    #[track_caller]
    pub fn new(root: &'a RemBox<T>) -> Self {
        ok(Self::try_new(root))
    }

    /// A cursor at the value of `root`. Waits for local memory if need be.
    ///
    /// # Errors
    /// As [`RemBox::try_with`].
    pub fn try_new(root: &'a RemBox<T>) -> Result<Self> {
        root.try_pin().map(Self::from)
    }

    /// Goes to the box that `next` finds in the current object. If it finds none the cursor stays, and the answer is `false`. Waits for local memory if need be.
    ///
    /// # Panics
    /// If the value can't be had: see [`try_step`](Cursor::try_step).
    #[track_caller]
    pub fn step(&mut self, next: impl for<'x> FnOnce(&'x T) -> Option<&'x RemBox<T>>) -> bool {
        ok(self.try_step(next))
    }

    /// Goes to the box that `next` finds in the current object. If it finds none the cursor stays, and the answer is `false`. Waits for local memory if need be.
    ///
    /// # Errors
    /// As [`RemBox::try_with`]; the cursor stays.
    pub fn try_step(&mut self, next: impl for<'x> FnOnce(&'x T) -> Option<&'x RemBox<T>>) -> Result<bool> {
        let Some(next) = follow(&self.at, next)? else { return Ok(false) };
        self.at = next;
        Ok(true)
    }

    /// As [`try_step`](Cursor::try_step), without blocking the thread. Works on any executor.
    ///
    /// # Errors
    /// As [`RemBox::try_with`]; the cursor stays.
    pub async fn step_async(&mut self, next: impl for<'x> FnOnce(&'x T) -> Option<&'x RemBox<T>>) -> Result<bool> {
        let Some(next) = next(&self.at).map(|next| next.handle) else { return Ok(false) };
        next.pin_async().await?;
        // SAFETY: pinned just now. A box of the current object, or one that lives for ever: see the module.
        self.at = unsafe { Pinned::new(next) };
        Ok(true)
    }

    /// As [`step`](Cursor::step), to a value of any type: another cursor.
    ///
    /// # Panics
    /// If the value can't be had: see [`try_branch`](Cursor::try_branch).
    #[track_caller]
    pub fn branch<U: ?Sized + FarPointee>(
        &self,
        next: impl for<'x> FnOnce(&'x T) -> Option<&'x RemBox<U>>,
    ) -> Option<Cursor<'a, U>> {
        ok(self.try_branch(next))
    }

    /// As [`try_step`](Cursor::try_step), to a value of any type: another cursor. This one stays, and the other one does not need it.
    ///
    /// # Errors
    /// As [`RemBox::try_with`].
    pub fn try_branch<U: ?Sized + FarPointee>(
        &self,
        next: impl for<'x> FnOnce(&'x T) -> Option<&'x RemBox<U>>,
    ) -> Result<Option<Cursor<'a, U>>> {
        Ok(follow(&self.at, next)?.map(Cursor::from))
    }
}

/// A pin of the box that `next` finds in a pinned object.
fn follow<'a, T: ?Sized + FarPointee, U: ?Sized + FarPointee>(
    at: &Pinned<'a, T>,
    next: impl for<'x> FnOnce(&'x T) -> Option<&'x RemBox<U>>,
) -> Result<Option<Pinned<'a, U>>> {
    let Some(next) = next(at) else { return Ok(None) };
    let next: Handle<U> = next.handle;
    next.pin()?;
    // SAFETY: pinned just now. A box of the object at `at`, whose owner is borrowed for `'a`, or one that lives for ever: see the module.
    Ok(Some(unsafe { Pinned::new(next) }))
}

/// A pin of a box is where a cursor may begin as well.
impl<'a, T: ?Sized + FarPointee> From<Pinned<'a, T>> for Cursor<'a, T> {
    fn from(at: Pinned<'a, T>) -> Self {
        Cursor { at }
    }
}

impl<T: ?Sized + FarPointee> Deref for Cursor<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.at
    }
}

impl<T: ?Sized + FarPointee + fmt::Debug> fmt::Debug for Cursor<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// As [`Cursor`], for writing. Each object that it stands on is dirty from then on, and written back later.
///
/// ```
/// use farptr::{CursorMut, Far, FarMemory, RemBox};
///
/// #[derive(Far)]
/// struct Node {
///     value: u64,
///     next: Option<RemBox<Node>>,
/// }
///
/// let mem = FarMemory::builder().local_budget(2 << 20).build()?;
/// let tail = RemBox::new_in(Node { value: 1, next: None }, &mem);
/// let mut head = RemBox::new_in(Node { value: 3, next: Some(tail) }, &mem);
/// let mut at = CursorMut::try_new(&mut head)?;
/// at.value += 1;
/// while at.try_step(|node| node.next.as_mut())? {}
/// at.next = Some(RemBox::new_in(Node { value: 0, next: None }, &mem)); // appended
/// drop(at);
/// assert_eq!(head.with(|node| node.value), 4);
/// # Ok::<(), farptr::Error>(())
/// ```
pub struct CursorMut<'a, T: ?Sized + FarPointee> {
    at: PinnedMut<'a, T>,
}

impl<'a, T: ?Sized + FarPointee> CursorMut<'a, T> {
    /// A cursor at the value of `root`. Waits for local memory if need be.
    ///
    /// # Panics
    /// If the value can't be had: see [`try_new`](CursorMut::try_new).
    #[track_caller]
    pub fn new(root: &'a mut RemBox<T>) -> Self {
        ok(Self::try_new(root))
    }

    /// A cursor at the value of `root`. Waits for local memory if need be.
    ///
    /// # Errors
    /// As [`RemBox::try_with`].
    pub fn try_new(root: &'a mut RemBox<T>) -> Result<Self> {
        root.try_pin_mut().map(Self::from)
    }

    /// Goes to the box that `next` finds in the current object. If it finds none the cursor stays, and the answer is `false`. Waits for local memory if need be.
    ///
    /// # Panics
    /// If the value can't be had: see [`try_step`](CursorMut::try_step).
    #[track_caller]
    pub fn step(&mut self, next: impl for<'x> FnOnce(&'x mut T) -> Option<&'x mut RemBox<T>>) -> bool {
        ok(self.try_step(next))
    }

    /// Goes to the box that `next` finds in the current object. If it finds none the cursor stays, and the answer is `false`. Waits for local memory if need be.
    ///
    /// # Errors
    /// As [`RemBox::try_with`]; the cursor stays.
    pub fn try_step(&mut self, next: impl for<'x> FnOnce(&'x mut T) -> Option<&'x mut RemBox<T>>) -> Result<bool> {
        let Some(next) = next(&mut self.at).map(|next| next.handle) else { return Ok(false) };
        // SAFETY: a box of the current object, whose root this cursor has borrowed exclusively for `'a`, or one that lives for ever and was given away: see the
        // module. The current object is not looked at again.
        self.at = unsafe {
            next.pin_mut()?;
            PinnedMut::new(next)
        };
        Ok(true)
    }

    /// As [`try_step`](CursorMut::try_step), without blocking the thread. Works on any executor.
    ///
    /// # Errors
    /// As [`RemBox::try_with`]; the cursor stays.
    pub async fn step_async(&mut self, next: impl for<'x> FnOnce(&'x mut T) -> Option<&'x mut RemBox<T>>) -> Result<bool> {
        let Some(next) = next(&mut self.at).map(|next| next.handle) else { return Ok(false) };
        // SAFETY: as in `try_step`. The future has borrowed the cursor, so nobody looks at the current object meanwhile.
        self.at = unsafe {
            next.pin_mut_async().await?;
            PinnedMut::new(next)
        };
        Ok(true)
    }

    /// As [`step`](CursorMut::step), to a value of any type: another cursor, in the place of this one.
    ///
    /// # Panics
    /// If the value can't be had: see [`try_into_branch`](CursorMut::try_into_branch).
    #[track_caller]
    pub fn into_branch<U: ?Sized + FarPointee>(
        self,
        next: impl for<'x> FnOnce(&'x mut T) -> Option<&'x mut RemBox<U>>,
    ) -> Option<CursorMut<'a, U>> {
        ok(self.try_into_branch(next))
    }

    /// As [`try_step`](CursorMut::try_step), to a value of any type: another cursor, in the place of this one.
    ///
    /// # Errors
    /// As [`RemBox::try_with`].
    pub fn try_into_branch<U: ?Sized + FarPointee>(
        mut self,
        next: impl for<'x> FnOnce(&'x mut T) -> Option<&'x mut RemBox<U>>,
    ) -> Result<Option<CursorMut<'a, U>>> {
        let Some(next) = next(&mut self.at).map(|next| next.handle) else { return Ok(None) };
        // SAFETY: as in `try_step`; this cursor ends here.
        let at = unsafe {
            next.pin_mut()?;
            PinnedMut::new(next)
        };
        Ok(Some(CursorMut { at }))
    }
}

/// A pin of a box is where a cursor may begin as well.
impl<'a, T: ?Sized + FarPointee> From<PinnedMut<'a, T>> for CursorMut<'a, T> {
    fn from(at: PinnedMut<'a, T>) -> Self {
        CursorMut { at }
    }
}

impl<T: ?Sized + FarPointee> Deref for CursorMut<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.at
    }
}

impl<T: ?Sized + FarPointee> DerefMut for CursorMut<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.at
    }
}

impl<T: ?Sized + FarPointee + fmt::Debug> fmt::Debug for CursorMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
