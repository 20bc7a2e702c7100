//! One object behind one slot: what the smart pointer and the collections have in common.
//!
//! A [`Handle`] is a slot and the metadata of what it holds. It owns nothing by itself: `RemBox` and the collections decide when contents are dropped and
//! slots freed. Its methods are where references to far objects come from, so this is where their validity is argued.
//!
//! # What holds an object while a closure has it
//! A closure gets its reference in a scope of its own, which is cheapest. But a scope keeps the thread from waiting for memory, and a closure whose object owns
//! far objects will deref these. So outside any scope such an object is pinned instead ([`Nests`]): what the closure nests can wait in its turn, and holds
//! one object a level. The same holds for closures over slices, which often fill other collections. Inside a scope a pin would change nothing: that scope keeps the thread from
//! waiting anyway.

use crate::pointee::FarPointee;
use farptr_runtime::forked;
use farptr_runtime::memory::{Bypass, Intent, Memory, Origin, Route};
use farptr_runtime::scope::{AccessHint, Hinted, Scope, in_scope};
use farptr_runtime::steps;
use farptr_runtime::word::Slot;
use farptr_runtime::{Error, Result};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// How often an object that left between being brought in and being derefed is brought in again without a scope. More than once is
/// rare: it had just come.
const TRIES_WITHOUT_SCOPE: u32 = 4;

/// A slot, and what it holds.
pub(crate) struct Handle<T: ?Sized + FarPointee> {
    pub(crate) slot: NonNull<Slot>,
    pub(crate) meta: T::Meta,
}

// SAFETY: a slot's address and a length. What may be done with the contents on which thread is decided by the owners, which have their own
// `Send` and `Sync`; futures that hold a handle across an await hold the owner's borrow as well.
unsafe impl<T: ?Sized + FarPointee> Send for Handle<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + FarPointee> Sync for Handle<T> {}

impl<T: ?Sized + FarPointee> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized + FarPointee> Copy for Handle<T> {}

impl<T: ?Sized + FarPointee> Handle<T> {
    /// # Safety
    /// For the life of the handle's uses: `slot` is in use and holds an initialised `T` of `meta` (or is being fetched).
    #[inline(always)]
    pub(crate) const unsafe fn new(slot: NonNull<Slot>, meta: T::Meta) -> Self {
        Handle { slot, meta }
    }

    #[inline(always)]
    pub(crate) fn slot(&self) -> &Slot {
        // SAFETY: the contract of `new`: the slot is in use, so its table is mapped.
        unsafe { self.slot.as_ref() }
    }

    pub(crate) fn layout(&self) -> Layout {
        T::layout(self.meta)
    }

    pub(crate) fn memory(&self) -> &Memory {
        // SAFETY: the contract of `new`: the slot is in use.
        unsafe { Memory::of(self.slot) }
    }

    /// A reference for reading.
    ///
    /// # Safety
    /// No `&mut` to the contents exists or is made during `'a`, and the object is not given up during `'a`: the caller ties `'a` to a borrow of
    /// the owner.
    #[inline(always)]
    pub(crate) unsafe fn get<'a>(&self, _scope: &'a Scope) -> Result<&'a T> {
        let word = self.slot().load();
        let addr = if word.is_fast_read() { word.addr() } else { self.access(Intent::Read)? };
        // SAFETY: the slot said "present at `addr`, not evacuating" inside the scope, so the object stays readable there until the scope
        // ends or is refreshed, both of which need the scope's borrow to be over. It holds a `T` of `meta`; nobody writes it, by contract.
        Ok(unsafe { &*T::from_raw(addr.get() as *mut u8, self.meta) })
    }

    /// Where the contents are, for reading: `get` for callers that know better than the metadata how much of them they may look at.
    ///
    /// # Safety
    /// As for `get`.
    #[inline(always)]
    pub(crate) unsafe fn start(slot: NonNull<Slot>, _scope: &Scope, slow: impl FnOnce() -> Self) -> Result<*mut u8> {
        // SAFETY: the slot is in use, by the contract of the handle that `slow` would make.
        let word = unsafe { slot.as_ref() }.load();
        let addr = if word.is_fast_read() { word.addr() } else { slow().access(Intent::Read)? };
        Ok(addr.get() as *mut u8)
    }

    /// As `start`, for writing.
    ///
    /// # Safety
    /// As for `get_mut`.
    #[inline(always)]
    pub(crate) unsafe fn start_mut(slot: NonNull<Slot>, _scope: &Scope, slow: impl FnOnce() -> Self) -> Result<*mut u8> {
        // SAFETY: as in `start`.
        let word = unsafe { slot.as_ref() }.load();
        let addr = if word.is_fast_write() { word.addr() } else { slow().access(Intent::Write)? };
        Ok(addr.get() as *mut u8)
    }

    /// A reference for writing; the object is dirty from now on.
    ///
    /// # Safety
    /// No other reference to the contents exists or is made during `'a`, and the object is not given up during `'a`.
    #[inline(always)]
    #[expect(
        clippy::mut_from_ref,
        reason = "the contents are the owner's, whom the caller has borrowed exclusively; the scope only bounds the time"
    )]
    pub(crate) unsafe fn get_mut<'a>(&self, _scope: &'a Scope) -> Result<&'a mut T> {
        let word = self.slot().load();
        let addr = if word.is_fast_write() { word.addr() } else { self.access(Intent::Write)? };
        // SAFETY: as in `get`; and the evacuator reads the contents only after a grace period that waits for this scope, or when the
        // word carries a mark, which it did not.
        Ok(unsafe { &mut *T::from_raw(addr.get() as *mut u8, self.meta) })
    }

    // By value: a handle on the caller's stack need not be written to memory for the sake of this call.
    #[cold]
    #[inline(never)]
    fn access(self, intent: Intent) -> Result<farptr_runtime::addr::ObjectAddr> {
        self.memory().access_slow(self.slot(), self.layout(), intent)
    }

    /// Calls `f` with the contents, in a scope of its own or pinned, by what they own. Outside a scope it can wait for memory.
    ///
    /// # Safety
    /// As for `get`, during the call.
    pub(crate) unsafe fn with<R>(&self, nests: Nests, f: impl FnOnce(&T) -> R) -> Result<R> {
        if nests.prefers_pin() {
            let contents = self.pin()?;
            let _pin = Unpin(*self);
            // SAFETY: pinned until `f` has returned or unwound; nobody writes meanwhile, by contract.
            return Ok(f(unsafe { contents.as_ref() }));
        }
        // SAFETY: passed on.
        let (_scope, contents) = unsafe { self.enter(Intent::Read)? };
        // SAFETY: a reference that `get` made in the scope, which is open until `f` has returned or unwound.
        Ok(f(unsafe { contents.as_ref() }))
    }

    /// As `with`, past the local heap if that is the way now: for callers that don't look at the object again themselves. Then there is no scope around `f`.
    ///
    /// # Safety
    /// As for `with`.
    pub(crate) unsafe fn look<R>(&self, nests: Nests, f: impl FnOnce(&T) -> R) -> Result<R> {
        // SAFETY: passed on.
        match unsafe { self.look_past(f)? } {
            Ok(result) => Ok(result),
            // SAFETY: passed on.
            Err(f) => unsafe { self.with(nests, f) },
        }
    }

    /// As `look`, past the local heap or not at all: then `f` comes back.
    ///
    /// # Safety
    /// As for `with`.
    #[inline]
    pub(crate) unsafe fn look_past<R, F: FnOnce(&T) -> R>(&self, f: F) -> Result<Result<R, F>> {
        if self.slot().load().is_present() {
            return Ok(Err(f));
        }
        Ok(match self.memory().pass(self.slot(), self.layout())? {
            // SAFETY: as in `scan_past`.
            Some(passed) => Ok(f(unsafe { &*T::from_raw(passed.contents().as_ptr().cast_mut(), self.meta) })),
            None => Err(f),
        })
    }

    /// As `with`, for writing.
    ///
    /// # Safety
    /// As for `get_mut`, during the call.
    pub(crate) unsafe fn with_mut<R>(&self, nests: Nests, f: impl FnOnce(&mut T) -> R) -> Result<R> {
        if nests.prefers_pin() {
            // SAFETY: passed on.
            let mut contents = unsafe { self.pin_mut()? };
            let _pin = Unpin(*self);
            // SAFETY: pinned for writing until `f` has returned or unwound; no other reference exists, by contract.
            return Ok(f(unsafe { contents.as_mut() }));
        }
        // SAFETY: passed on.
        let (_scope, mut contents) = unsafe { self.enter(Intent::Write)? };
        // SAFETY: as in `with`, and made by `get_mut`.
        Ok(f(unsafe { contents.as_mut() }))
    }

    /// As `with`, for scans: the swap-in and the use do not count for the hotness policy. What `f` does besides does.
    ///
    /// # Safety
    /// As for `with`.
    pub(crate) unsafe fn scan<R>(&self, nests: Nests, f: impl FnOnce(&T) -> R) -> Result<R> {
        let scan = Hinted::new(AccessHint::NonTemporal);
        let f = |contents: &T| {
            let _own = Hinted::new(scan.previous());
            f(contents)
        };
        // SAFETY: passed on.
        unsafe { self.with(nests, f) }
    }

    /// As `scan`, past the local heap if `bypass` says so.
    ///
    /// # Safety
    /// As for `with`.
    pub(crate) unsafe fn scan_past<R>(&self, nests: Nests, bypass: &mut Bypass<'_>, f: impl FnOnce(&T) -> R) -> Result<R> {
        match bypass.read(self.slot(), self.layout())? {
            // SAFETY: the bytes are those of this object as they were written back, aligned for it, and stay while `f` runs. Nobody writes the object
            // meanwhile, by contract, so they are its contents: a `T` of `meta`, which is `Far`, so that `f` can't write through the reference either.
            // They are forgotten, not dropped.
            Route::Past(contents) => Ok(f(unsafe { &*T::from_raw(contents.as_ptr().cast_mut(), self.meta) })),
            // SAFETY: passed on.
            Route::ThroughHeap(AccessHint::NonTemporal) => unsafe { self.scan(nests, f) },
            // SAFETY: passed on.
            Route::ThroughHeap(AccessHint::Normal) => unsafe { self.with(nests, f) },
        }
    }

    /// As `scan`, for writing.
    ///
    /// # Safety
    /// As for `with_mut`.
    pub(crate) unsafe fn scan_mut<R>(&self, nests: Nests, f: impl FnOnce(&mut T) -> R) -> Result<R> {
        let scan = Hinted::new(AccessHint::NonTemporal);
        let f = |contents: &mut T| {
            let _own = Hinted::new(scan.previous());
            f(contents)
        };
        // SAFETY: passed on.
        unsafe { self.with_mut(nests, f) }
    }

    /// A scope, and where the contents are in it.
    ///
    /// # Safety
    /// As for `get` or `get_mut`, by the intent, for `'a` being the life of the scope.
    #[inline]
    unsafe fn enter(&self, intent: Intent) -> Result<(Scope, NonNull<T>)> {
        let mut tries = if in_scope() { 0 } else { TRIES_WITHOUT_SCOPE };
        loop {
            let scope = Scope::enter();
            if tries > 0 && !self.slot().load().is_present() {
                let hint = scope.hint();
                drop(scope);
                tries -= 1;
                self.memory().prepare(self.slot(), self.layout(), hint)?;
                continue;
            }
            // SAFETY: passed on.
            match unsafe { self.deref(intent, &scope) } {
                Err(Error::ScopeExhausted { .. }) if tries > 0 => {
                    drop(scope);
                    tries -= 1;
                    self.memory().wait_for_room()?;
                }
                contents => return contents.map(|contents| (scope, contents)),
            }
        }
    }

    /// `get` or `get_mut`, by the intent.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn deref(&self, intent: Intent, scope: &Scope) -> Result<NonNull<T>> {
        // SAFETY: passed on.
        unsafe {
            match intent {
                Intent::Read => self.get(scope).map(NonNull::from),
                Intent::Write => self.get_mut(scope).map(NonNull::from),
            }
        }
    }

    /// Says that the uses so far count for nothing.
    pub(crate) fn cool(&self) {
        let _ = steps::cool(self.slot(), self.slot().load());
    }

    /// Brings the object in and pins it for reading. The address is good until `unpin`.
    pub(crate) fn pin(&self) -> Result<NonNull<T>> {
        self.memory().pin(self.slot(), self.layout())?;
        Ok(self.pinned())
    }

    /// Brings the object in, makes it dirty and pins it.
    ///
    /// # Safety
    /// As for `get_mut`, until `unpin`.
    pub(crate) unsafe fn pin_mut(&self) -> Result<NonNull<T>> {
        forked::check()?;
        // SAFETY: passed on.
        let (scope, _) = unsafe { self.enter(Intent::Write)? };
        self.pin_writable(&scope);
        // Not the address before: the pin may have moved the object.
        Ok(self.pinned())
    }

    /// Pins an object in the scope in which it was made writable, which is still open: see `farptr_runtime::word`, step 3 of a round.
    fn pin_writable(&self, _scope: &Scope) {
        let pinned = self.memory().try_pin_present(self.slot());
        debug_assert!(pinned, "an object stays present in the scope in which it was derefed");
    }

    /// As `with`, without blocking the thread.
    ///
    /// # Safety
    /// As for `with`, as long as the future.
    pub(crate) async unsafe fn with_async<R>(&self, nests: Nests, f: impl FnOnce(&T) -> R) -> Result<R> {
        if nests.prefers_pin() {
            self.pin_async().await?;
            let _pin = Unpin(*self);
            // SAFETY: as in `with`.
            return Ok(f(unsafe { self.pinned().as_ref() }));
        }
        // SAFETY: passed on.
        let (_scope, contents) = unsafe { self.enter_async(Intent::Read).await? };
        // SAFETY: as in `with`.
        Ok(f(unsafe { contents.as_ref() }))
    }

    /// As `with_mut`, without blocking the thread.
    ///
    /// # Safety
    /// As for `with_mut`, as long as the future.
    pub(crate) async unsafe fn with_mut_async<R>(&self, nests: Nests, f: impl FnOnce(&mut T) -> R) -> Result<R> {
        if nests.prefers_pin() {
            // SAFETY: passed on.
            unsafe { self.pin_mut_async().await? };
            let _pin = Unpin(*self);
            // SAFETY: as in `with_mut`.
            return Ok(f(unsafe { self.pinned().as_mut() }));
        }
        // SAFETY: passed on.
        let (_scope, mut contents) = unsafe { self.enter_async(Intent::Write).await? };
        // SAFETY: as in `with_mut`.
        Ok(f(unsafe { contents.as_mut() }))
    }

    /// As `enter`, without blocking the thread.
    ///
    /// # Safety
    /// As for `enter`.
    async unsafe fn enter_async(&self, intent: Intent) -> Result<(Scope, NonNull<T>)> {
        loop {
            if !self.slot().load().is_present() {
                self.bring_in().await?;
            }
            {
                let scope = Scope::enter();
                if !self.slot().load().is_present() {
                    continue;
                }
                // SAFETY: passed on.
                match unsafe { self.deref(intent, &scope) } {
                    Err(Error::ScopeExhausted { .. }) => {}
                    contents => return contents.map(|contents| (scope, contents)),
                }
            }
            self.memory().room_async().await?;
        }
    }

    async fn bring_in(&self) -> Result<()> {
        self.memory().bring_in_async(self.slot(), self.layout(), AccessHint::Normal).await
    }

    /// As `pin`, without blocking the thread.
    pub(crate) async fn pin_async(&self) -> Result<()> {
        while !self.memory().try_pin_present(self.slot()) {
            self.bring_in().await?;
        }
        Ok(())
    }

    /// As `pin_mut`, without blocking the thread.
    ///
    /// # Safety
    /// As for `pin_mut`.
    pub(crate) async unsafe fn pin_mut_async(&self) -> Result<()> {
        forked::check()?;
        // SAFETY: passed on; the address is not kept.
        let (scope, _) = unsafe { self.enter_async(Intent::Write).await? };
        self.pin_writable(&scope);
        Ok(())
    }

    /// Where a pinned object is.
    pub(crate) fn pinned(&self) -> NonNull<T> {
        let addr = self.slot().load().addr();
        // Object addresses are never zero.
        NonNull::new(T::from_raw(addr.get() as *mut u8, self.meta)).expect("object addresses are not null")
    }

    pub(crate) fn unpin(&self) {
        self.memory().unpin(self.slot());
    }

    /// Moves the contents out and frees the slot.
    ///
    /// # Errors
    /// If they can't be fetched; nothing has changed then.
    ///
    /// # Safety
    /// The caller owns the object, no reference to it is left, and the handle is not used again after success. `to` is valid for writes of the layout.
    pub(crate) unsafe fn take(&self, to: *mut u8) -> Result<()> {
        // SAFETY: passed on.
        unsafe { self.memory().take_object(self.slot(), self.layout(), to) }
    }

    /// Drops the contents, wherever they are, and leaves the slot vacant.
    ///
    /// Contents whose bytes can't be fetched can't be dropped: what they own is leaked, and counted in `Stats::lost_drops`.
    ///
    /// # Safety
    /// The caller owns the object, no reference to it is left, and the contents are not used again.
    pub(crate) unsafe fn release(&self) {
        let layout = self.layout();
        if !needs_drop::<T>() {
            // SAFETY: passed on.
            return unsafe { self.memory().release_object(self.slot(), layout) };
        }
        let room = Room::new(layout);
        // SAFETY: passed on; the room has the layout.
        if let Err(error) = unsafe { self.take(room.start()) } {
            tracing::error!(%error, "the contents of a far object can't be fetched, so what they own is leaked");
            self.memory().count_lost_drop();
            // SAFETY: passed on: given up without having been dropped.
            unsafe { self.memory().release_object(self.slot(), layout) };
            return;
        }
        // SAFETY: the contents were moved here whole, aligned by the layout, and are nowhere else any more. The room is freed even if
        // their `Drop` panics.
        unsafe { std::ptr::drop_in_place(T::from_raw(room.start(), self.meta)) };
    }
}

/// Gives a pin back, also when a closure unwinds.
pub(crate) struct Unpin<T: ?Sized + FarPointee>(pub(crate) Handle<T>);

impl<T: ?Sized + FarPointee> Drop for Unpin<T> {
    fn drop(&mut self) {
        self.0.unpin();
    }
}

/// Whether a closure is likely to use other far objects while it has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nests {
    Nothing,
    FarObjects,
}

impl Nests {
    /// By the type of the contents; for chunks, of their elements: those that own far objects will have them derefed. Contents without anything to drop own none.
    #[inline(always)]
    pub(crate) const fn of<T: ?Sized>() -> Self {
        if needs_drop::<T>() { Nests::FarObjects } else { Nests::Nothing }
    }

    /// Whether a closure's object is better pinned than used in a scope: see the module.
    #[inline(always)]
    fn prefers_pin(self) -> bool {
        self == Nests::FarObjects && !in_scope()
    }
}

/// Whether contents of the type have anything to drop; for slices, their elements.
pub(crate) const fn needs_drop<T: ?Sized>() -> bool {
    std::mem::needs_drop::<T>()
}

/// Ordinary memory of a given layout.
struct Room {
    start: NonNull<u8>,
    layout: Layout,
}

impl Room {
    fn new(layout: Layout) -> Self {
        if layout.size() == 0 {
            let start = NonNull::new(std::ptr::without_provenance_mut(layout.align())).expect("an alignment is not zero");
            return Room { start, layout };
        }
        // SAFETY: the size is not zero.
        let start = unsafe { alloc(layout) };
        Room { start: NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)), layout }
    }

    fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.layout.size() > 0 {
            // SAFETY: allocated in `new` with this layout.
            unsafe { dealloc(self.start.as_ptr(), self.layout) };
        }
    }
}

/// Puts `value` into a new object of `memory`, in a new slot.
pub(crate) fn create<T: FarPointee<Meta = ()>>(memory: &std::sync::Arc<Memory>, value: T) -> Result<NonNull<Slot>> {
    let value = MaybeUninit::new(value);
    let made = create_with(memory, Layout::new::<T>(), |to| {
        // SAFETY: `to` is room for a `T`, aligned and exclusive; the value is forgotten here (`MaybeUninit`) and dropped by its new owner.
        unsafe { to.cast::<T>().copy_from_nonoverlapping(value.as_ptr(), 1) };
    });
    if made.is_err() {
        // SAFETY: the value was not moved: `create_with` failed before it called back.
        drop(unsafe { value.assume_init() });
    }
    made
}

/// Makes an object of `layout`, lets `fill` initialise it, and returns its slot. If there is no room, `fill` has not been called.
pub(crate) fn create_with(memory: &std::sync::Arc<Memory>, layout: Layout, fill: impl FnOnce(*mut u8)) -> Result<NonNull<Slot>> {
    let slot = memory.alloc_slot()?;
    // SAFETY: just allocated, so in use.
    match create_in(memory, unsafe { slot.as_ref() }, layout, fill) {
        Ok(()) => Ok(slot),
        Err(error) => {
            // SAFETY: allocated above, still vacant, known to nobody.
            unsafe { Memory::free_slot(slot) };
            Err(error)
        }
    }
}

/// Makes an object of `layout` in `slot`, which is vacant, the caller's and of `memory`, and lets `fill` initialise it. If there is no room,
/// `fill` has not been called.
pub(crate) fn create_in(memory: &Memory, slot: &Slot, layout: Layout, fill: impl FnOnce(*mut u8)) -> Result<()> {
    let id = memory.slot_table().id_of(slot);
    let object = memory.new_object(id, layout, Origin::New)?;
    fill(object.addr().get() as *mut u8);
    object.publish(slot);
    Ok(())
}
