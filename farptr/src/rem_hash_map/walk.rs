//! Walks: lending iterators that hold one entry at a time.
//!
//! Each step pins the entry, and the compiler sees to it that the pin is gone before the next step. Why a pin and not a scope: `rem_vec/walk.rs`.
#![forbid(unsafe_code)]

use super::entries::Entries;
use super::row::EntryNumber;
use super::{PinnedValue, PinnedValueMut, RemHashMap, ok};
use crate::Far;
use farptr_runtime::Result;
use farptr_runtime::scope::{AccessHint, Hinted};
use std::fmt;

/// How far a walk has come.
struct Position {
    next: usize,
    left: usize,
}

impl Position {
    fn step<K: Far, V: Far>(&mut self, entries: &Entries<K, V>) -> Option<EntryNumber> {
        let number = entries.next_in_use(self.next)?;
        self.next = number.index() + 1;
        self.left -= 1;
        Some(number)
    }
}

/// The entries of a map, one pinned at a time. See [`RemHashMap::walk`].
pub struct Walk<'a, K: Far, V: Far> {
    entries: &'a Entries<K, V>,
    position: Position,
}

impl<K: Far, V: Far> Walk<'_, K, V> {
    /// The next value, with its key; `None` at the end. Waits for local memory if need be.
    ///
    /// # Panics
    /// If it can't be had: see [`try_next`](Walk::try_next).
    #[expect(clippy::should_implement_trait, reason = "an `Iterator` can't lend")]
    #[track_caller]
    pub fn next(&mut self) -> Option<PinnedValue<'_, K, V>> {
        ok(self.try_next())
    }

    /// The next value, with its key; `None` at the end. Waits for local memory if need be.
    ///
    /// # Errors
    /// As [`try_with`](RemHashMap::try_with). The next call goes on behind the entry that could not be had.
    pub fn try_next(&mut self) -> Result<Option<PinnedValue<'_, K, V>>> {
        let Some(number) = self.position.step(self.entries) else { return Ok(None) };
        let _scan = Hinted::new(AccessHint::NonTemporal);
        self.entries.pin(number).map(|entry| Some(PinnedValue::new(entry)))
    }
}

impl<K: Far, V: Far> fmt::Debug for Walk<'_, K, V> {
    /// Does not fetch the entries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walk").field("left", &self.position.left).finish_non_exhaustive()
    }
}

/// The entries of a map for writing, one pinned at a time. See [`RemHashMap::walk_mut`].
pub struct WalkMut<'a, K: Far, V: Far> {
    entries: &'a mut Entries<K, V>,
    position: Position,
}

impl<K: Far, V: Far> WalkMut<'_, K, V> {
    /// The next value, with its key; `None` at the end. Waits for local memory if need be.
    ///
    /// # Panics
    /// If it can't be had: see [`try_next`](WalkMut::try_next).
    #[expect(clippy::should_implement_trait, reason = "an `Iterator` can't lend")]
    #[track_caller]
    pub fn next(&mut self) -> Option<PinnedValueMut<'_, K, V>> {
        ok(self.try_next())
    }

    /// The next value, with its key; `None` at the end. Waits for local memory if need be.
    ///
    /// # Errors
    /// As [`Walk::try_next`].
    pub fn try_next(&mut self) -> Result<Option<PinnedValueMut<'_, K, V>>> {
        let Some(number) = self.position.step(self.entries) else { return Ok(None) };
        let _scan = Hinted::new(AccessHint::NonTemporal);
        self.entries.pin_mut(number).map(|entry| Some(PinnedValueMut::new(entry)))
    }
}

impl<K: Far, V: Far> fmt::Debug for WalkMut<'_, K, V> {
    /// Does not fetch the entries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalkMut").field("left", &self.position.left).finish_non_exhaustive()
    }
}

impl<K: Far, V: Far, S> RemHashMap<K, V, S> {
    /// Goes through all entries, in no particular order, and holds one at a time, so any map passes: a lending iterator.
    ///
    /// Each entry is pinned, non-temporally, until its value is dropped, which is before the next step. No scope is open in the loop, so what its body derefs may wait for memory.
    /// Inside a scope, nothing that was fetched since it began can leave, entries that were let go included: there a long walk ends in
    /// `ScopeExhausted`.
    ///
    /// ```
    /// # use farptr::{FarMemory, RemHashMap};
    /// # let mem = FarMemory::builder().local_budget(2 << 20).build()?;
    /// let mut map: RemHashMap<u32, [u64; 64]> = RemHashMap::new_in(&mem);
    /// map.extend((0..10_000).map(|key| (key, [1; 64]))); // 5 MB, with 2 MiB local
    /// let (mut sum, mut walk) = (0, map.walk());
    /// while let Some(value) = walk.try_next()? {
    ///     sum += u64::from(*value.key()) * value[63];
    /// }
    /// assert_eq!(sum, 49_995_000);
    /// # Ok::<(), farptr::Error>(())
    /// ```
    pub fn walk(&self) -> Walk<'_, K, V> {
        Walk { position: Position { next: 0, left: self.len() }, entries: &self.table.entries }
    }

    /// As [`walk`](Self::walk), for writing. All entries that it comes to are written back later, so if few change, look first.
    pub fn walk_mut(&mut self) -> WalkMut<'_, K, V> {
        WalkMut { position: Position { next: 0, left: self.len() }, entries: &mut self.table.entries }
    }
}
