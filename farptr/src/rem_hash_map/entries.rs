//! Entries: keys and values in far memory, by number.
//!
//! # What must stay true
//! 1. Each slot below `used` is vacant or holds a `(K, V)`. To deref a vacant one panics, and touches nothing.
//! 2. `&self` gives only `&(K, V)`, and `&mut self` is needed for `&mut (K, V)` and for giving an entry up. So a borrow of the entries is a
//!    borrow of every key and value, and the contracts of [`Handle`] hold for any number whatever.
//! 3. The vacant slots below `used` are in the list of free numbers, each once. Only that no slot is lost depends on it.
//!
//! No method calls the user's code between two changes that belong together.

use super::charged::{charged_vec, release_vec};
use super::hash::StoredHash;
use super::row::{EntryNumber, MAX_ENTRIES, Row, first_of, rows_for};
use super::too_many;
use crate::object::{self, Handle, Nests};
use crate::pin::{Pinned, PinnedMut};
use crate::{Far, Scope};
use farptr_runtime::Result;
use farptr_runtime::memory::{Memory, Origin};
use farptr_runtime::word::{Slot, State};
use std::alloc::Layout;
use std::marker::PhantomData;
use std::mem::{self, MaybeUninit};
use std::ptr::NonNull;
use std::sync::Arc;

/// Rows in the first directory.
const FIRST_DIRECTORY: usize = 4;

/// Far keys and values, by number.
pub(super) struct Entries<K: Far, V: Far> {
    rows: Vec<Row>,
    /// Rows that the vector was charged for.
    directory: usize,
    /// Entries below this number have been in use.
    used: usize,
    /// The first free number below `used`, or none.
    free: EntryNumber,
    len: usize,
    memory: Arc<Memory>,
    _own: PhantomData<(K, V)>,
}

impl<K: Far, V: Far> Entries<K, V> {
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        Entries { rows: Vec::new(), directory: 0, used: 0, free: EntryNumber::NONE, len: 0, memory, _own: PhantomData }
    }

    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// How many entries are in use.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn slot(&self, number: EntryNumber) -> &Slot {
        let (row, offset) = number.place();
        &self.rows[row].slots()[offset]
    }

    #[inline]
    fn note(&self, number: EntryNumber) -> u32 {
        let (row, offset) = number.place();
        self.rows[row].note(offset)
    }

    fn set_note(&mut self, number: EntryNumber, note: u32) {
        let (row, offset) = number.place();
        self.rows[row].set_note(offset, note);
    }

    fn is_vacant(&self, number: EntryNumber) -> bool {
        self.slot(number).load().state() == State::Vacant
    }

    /// The noted hash of an entry in use.
    #[inline]
    pub(super) fn hash(&self, number: EntryNumber) -> StoredHash {
        StoredHash::from_bits(self.note(number))
    }

    #[inline]
    fn handle(&self, number: EntryNumber) -> Handle<(K, V)> {
        assert!(number.index() < self.used, "entry numbers come from these entries");
        // SAFETY: below `used`, so the slot holds a `(K, V)` or is vacant, in which case using the handle panics; but to give the object up,
        // which checks before.
        unsafe { Handle::new(NonNull::from(self.slot(number)), ()) }
    }

    /// The first entry in use whose index is `from` or more.
    pub(super) fn next_in_use(&self, from: usize) -> Option<EntryNumber> {
        (from..self.used).map(EntryNumber::new).find(|number| !self.is_vacant(*number))
    }

    /// A reference for reading.
    #[inline]
    pub(super) fn get<'a>(&'a self, number: EntryNumber, scope: &'a Scope) -> Result<&'a (K, V)> {
        // SAFETY: `&self` is borrowed for `'a`: see 2 above.
        unsafe { self.handle(number).get(scope) }
    }

    /// A reference for writing.
    #[inline]
    pub(super) fn get_mut<'a>(&'a mut self, number: EntryNumber, scope: &'a Scope) -> Result<&'a mut (K, V)> {
        // SAFETY: `&mut self` is borrowed for `'a`: see 2 above.
        unsafe { self.handle(number).get_mut(scope) }
    }

    /// Calls `f` with an entry, in a scope of its own or on a pinned entry.
    pub(super) fn with<R>(&self, number: EntryNumber, f: impl FnOnce(&(K, V)) -> R) -> Result<R> {
        // SAFETY: `&self` is borrowed during the call.
        unsafe { self.handle(number).with(Nests::of::<(K, V)>(), f) }
    }

    /// As `with`, past the local heap if that is the way now: for callers that don't look at the entry again themselves.
    pub(super) fn look<R>(&self, number: EntryNumber, f: impl FnOnce(&(K, V)) -> R) -> Result<R> {
        // SAFETY: as in `with`.
        unsafe { self.handle(number).look(Nests::of::<(K, V)>(), f) }
    }

    /// Calls `f` with an entry for writing, in a scope of its own or on a pinned entry.
    pub(super) fn with_mut<R>(&mut self, number: EntryNumber, f: impl FnOnce(&mut (K, V)) -> R) -> Result<R> {
        // SAFETY: `&mut self` is borrowed during the call.
        unsafe { self.handle(number).with_mut(Nests::of::<(K, V)>(), f) }
    }

    /// As `with`, for scans: the entry's swap-in and use do not count for the hotness policy. What `f` does besides does.
    pub(super) fn scan<R>(&self, number: EntryNumber, f: impl FnOnce(&(K, V)) -> R) -> Result<R> {
        // SAFETY: as in `with`.
        unsafe { self.handle(number).scan(Nests::of::<(K, V)>(), f) }
    }

    /// As `with_mut`, for scans.
    pub(super) fn scan_mut<R>(&mut self, number: EntryNumber, f: impl FnOnce(&mut (K, V)) -> R) -> Result<R> {
        // SAFETY: as in `with_mut`.
        unsafe { self.handle(number).scan_mut(Nests::of::<(K, V)>(), f) }
    }

    /// References for writing to all entries, one after the other.
    pub(super) fn all_mut<'a>(&'a mut self, scope: &'a Scope) -> AllMut<'a, K, V> {
        AllMut { entries: self, next: 0, scope, _exclusive: PhantomData }
    }

    /// Holds an entry for reading.
    pub(super) fn pin(&self, number: EntryNumber) -> Result<Pinned<'_, (K, V)>> {
        let handle = self.handle(number);
        handle.pin()?;
        // SAFETY: pinned just now; `&self` is borrowed as long as the pin.
        Ok(unsafe { Pinned::new(handle) })
    }

    /// Holds an entry for writing.
    pub(super) fn pin_mut(&mut self, number: EntryNumber) -> Result<PinnedMut<'_, (K, V)>> {
        let handle = self.handle(number);
        // SAFETY: `&mut self` is borrowed as long as the pin.
        unsafe {
            handle.pin_mut()?;
            Ok(PinnedMut::new(handle))
        }
    }

    /// Makes an entry. On an error key and value are dropped, and nothing has changed.
    pub(super) fn insert(&mut self, hash: StoredHash, key: K, value: V) -> Result<EntryNumber> {
        let number = match self.free {
            EntryNumber::NONE => self.fresh()?,
            free => free,
        };
        let slot = self.slot(number);
        object::create_in(&self.memory, slot, Layout::new::<(K, V)>(), move |to| {
            // SAFETY: `to` is room for a `(K, V)`, aligned and exclusive.
            unsafe { to.cast::<(K, V)>().write((key, value)) };
        })?;
        if number.index() == self.used {
            self.used += 1;
        } else {
            self.free = EntryNumber::from_bits(self.note(number));
        }
        self.set_note(number, hash.to_bits());
        self.len += 1;
        Ok(number)
    }

    /// A number never used before, with a slot.
    fn fresh(&mut self) -> Result<EntryNumber> {
        if self.used == MAX_ENTRIES {
            return Err(too_many(self.used + 1));
        }
        if self.used == first_of(self.rows.len()) {
            if self.rows.len() == self.directory {
                self.resize_directory((2 * self.directory).max(FIRST_DIRECTORY))?;
            }
            self.rows.push(Row::new(&self.memory, self.rows.len())?);
        }
        Ok(EntryNumber::new(self.used))
    }

    /// Gives the directory room for `rows` rows, which holds those there are.
    fn resize_directory(&mut self, rows: usize) -> Result<()> {
        let mut vec = charged_vec(&self.memory, rows)?;
        vec.append(&mut self.rows);
        let old = mem::replace(&mut self.rows, vec);
        release_vec(&self.memory, old, mem::replace(&mut self.directory, rows));
        Ok(())
    }

    /// Moves an entry out. On an error nothing has changed.
    pub(super) fn take(&mut self, number: EntryNumber) -> Result<(K, V)> {
        assert!(!self.is_vacant(number), "an entry that is taken is in use");
        let mut entry = MaybeUninit::<(K, V)>::uninit();
        // SAFETY: in use, and `&mut self` says that no reference is left; the room fits. The slot is vacant after success, and free below.
        unsafe { self.handle(number).take(entry.as_mut_ptr().cast())? };
        self.set_free(number);
        // SAFETY: `take` succeeded.
        Ok(unsafe { entry.assume_init() })
    }

    /// Drops an entry, wherever it is.
    pub(super) fn discard(&mut self, number: EntryNumber) {
        assert!(!self.is_vacant(number), "an entry that is dropped is in use");
        let handle = self.handle(number);
        // Before the contents' `Drop`, which may panic: the slot is vacant then, too.
        self.set_free(number);
        // SAFETY: in use, and `&mut self` says that no reference is left.
        unsafe { handle.release() };
    }

    /// Puts a number into the list of free ones.
    fn set_free(&mut self, number: EntryNumber) {
        self.set_note(number, self.free.to_bits());
        self.free = number;
        self.len -= 1;
    }

    /// Drops all entries, and keeps the rows. If a `Drop` panics, the others are dropped nevertheless.
    pub(super) fn clear(&mut self) {
        struct Sweep<'a, K: Far, V: Far> {
            entries: &'a mut Entries<K, V>,
            next: usize,
        }
        impl<K: Far, V: Far> Sweep<'_, K, V> {
            fn go_on(&mut self) {
                while let Some(number) = self.entries.next_in_use(self.next) {
                    self.next = number.index() + 1;
                    self.entries.discard(number);
                }
            }
        }
        impl<K: Far, V: Far> Drop for Sweep<'_, K, V> {
            fn drop(&mut self) {
                self.go_on();
                self.entries.used = 0;
                self.entries.free = EntryNumber::NONE;
            }
        }
        Sweep { entries: self, next: 0 }.go_on();
    }

    /// Moves entries to lower numbers until those in use are the first ones, and gives the rows behind them back. Tells `moved` of each that it
    /// moved. If one can't be fetched, those before it have been moved.
    pub(super) fn compact(&mut self, mut moved: impl FnMut(StoredHash, EntryNumber, EntryNumber)) -> Result<()> {
        let result = self.move_down(&mut moved);
        while self.used > 0 && self.is_vacant(EntryNumber::new(self.used - 1)) {
            self.used -= 1;
        }
        self.free = EntryNumber::NONE;
        for number in (0..self.used).rev().map(EntryNumber::new) {
            if self.is_vacant(number) {
                self.set_note(number, self.free.to_bits());
                self.free = number;
            }
        }
        self.free_rows(rows_for(self.used));
        if result.is_ok() && self.directory > self.rows.len() {
            self.resize_directory(self.rows.len())?;
        }
        result
    }

    fn move_down(&mut self, moved: &mut impl FnMut(StoredHash, EntryNumber, EntryNumber)) -> Result<()> {
        let (mut to, mut from) = (0, self.len);
        while let Some(number) = self.next_in_use(from) {
            while !self.is_vacant(EntryNumber::new(to)) {
                to += 1;
            }
            let (hash, place) = (self.hash(number), EntryNumber::new(to));
            self.relocate(number, place)?;
            self.set_note(place, hash.to_bits());
            moved(hash, number, place);
            from = number.index() + 1;
        }
        Ok(())
    }

    /// Moves an entry's object to another slot, which is vacant. Afterwards `from` is vacant. On an error nothing has changed.
    fn relocate(&mut self, from: EntryNumber, to: EntryNumber) -> Result<()> {
        assert!(!self.is_vacant(from) && self.is_vacant(to));
        let (handle, slot) = (self.handle(from), self.slot(to));
        let object = self.memory.new_object(self.memory.slot_table().id_of(slot), handle.layout(), Origin::New)?;
        // SAFETY: `from` is in use and `&mut self` says that no reference is left; the new object's room is exclusive and of the layout. The handle
        // is not used again.
        unsafe { handle.take(object.addr().get() as *mut u8)? };
        object.publish(slot);
        Ok(())
    }

    /// Gives back all rows but the first `keep`. None of their entries is in use.
    fn free_rows(&mut self, keep: usize) {
        debug_assert!(self.used <= first_of(keep));
        while self.rows.len() > keep {
            let Some(row) = self.rows.pop() else { return };
            // SAFETY: it was number `len` of this memory, of which `self.memory` is a count; its slots are at `used` or above, so vacant or
            // never used.
            unsafe { row.free(&self.memory, self.rows.len()) };
        }
    }
}

impl<K: Far, V: Far> Drop for Entries<K, V> {
    /// Drops all entries, each wherever it is; those that have nothing to drop are not fetched.
    fn drop(&mut self) {
        struct Rows<'a, K: Far, V: Far>(&'a mut Entries<K, V>);
        impl<K: Far, V: Far> Drop for Rows<'_, K, V> {
            fn drop(&mut self) {
                self.0.free_rows(0);
                release_vec(&self.0.memory, mem::take(&mut self.0.rows), self.0.directory);
            }
        }
        if self.memory.leave_to_parent() {
            return;
        }
        // A guard, for a `Drop` of the contents may panic.
        Rows(self).0.clear();
    }
}

/// See [`Entries::all_mut`].
pub(super) struct AllMut<'a, K: Far, V: Far> {
    entries: &'a Entries<K, V>,
    next: usize,
    scope: &'a Scope,
    /// What `entries` was made of.
    _exclusive: PhantomData<&'a mut Entries<K, V>>,
}

impl<'a, K: Far, V: Far> Iterator for AllMut<'a, K, V> {
    type Item = Result<&'a mut (K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let number = self.entries.next_in_use(self.next)?;
        self.next = number.index() + 1;
        // SAFETY: the entries are borrowed exclusively for `'a`, this value uses them for nothing else, and comes by each entry once. What it
        // returns is far from the entries' own memory, which stays readable.
        let entry = unsafe { self.entries.handle(number).get_mut(self.scope) };
        if entry.is_err() {
            // The first error is the end: see `iter.rs`.
            self.next = usize::MAX;
        }
        Some(entry)
    }
}
