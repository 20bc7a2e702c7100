//! The entry API: one place of a map, looked up once.
//!
//! As in `std`, but for one thing: what `std` returns as `&mut V` is a [`ValueMut`] here, a value one deref away. That deref needs a scope, or
//! a closure, and can fail apart from the insertion:
//! ```
//! # let mem = farptr::FarMemory::builder().local_budget(1 << 20).build()?;
//! # let mut counts = farptr::RemHashMap::new_in(&mem);
//! for word in ["far", "near", "far"] {
//!     counts.entry(word.len()).or_insert(0u32).with_mut(|count| *count += 1);
//! }
//! let scope = farptr::scope();
//! *counts.entry(3).or_default().into_mut(&scope) += 5;
//! assert_eq!(counts.get(&3, &scope), Some(&7));
//! # Ok::<(), farptr::Error>(())
//! ```
#![forbid(unsafe_code)]

use super::entries::Entries;
use super::hash::StoredHash;
use super::ok;
use super::row::EntryNumber;
use super::table::Table;
use super::write::value_of;
use crate::{Far, Scope};
use farptr_runtime::Result;
use std::fmt;
use std::mem;

/// The place of a key in a map, taken or not. See [`RemHashMap::entry`](crate::RemHashMap::entry).
#[derive(Debug)]
pub enum Entry<'a, K: Far, V: Far> {
    /// The key is there.
    Occupied(OccupiedEntry<'a, K, V>),
    /// The key is not there.
    Vacant(VacantEntry<'a, K, V>),
}

impl<'a, K: Far, V: Far> Entry<'a, K, V> {
    pub(super) fn new(table: &'a mut Table<K, V>, hash: StoredHash, key: K, found: Option<EntryNumber>) -> Self {
        match found {
            Some(number) => Entry::Occupied(OccupiedEntry { table, number, key }),
            None => Entry::Vacant(VacantEntry { table, hash, key }),
        }
    }

    /// The key that was looked up. Equal to the one in the map, if one is.
    pub fn key(&self) -> &K {
        match self {
            Entry::Occupied(entry) => entry.key(),
            Entry::Vacant(entry) => entry.key(),
        }
    }

    /// The value, `default` if there was none.
    ///
    /// # Panics
    /// If that can't be inserted: see [`try_or_insert`](Self::try_or_insert).
    #[track_caller]
    pub fn or_insert(self, default: V) -> ValueMut<'a, K, V> {
        ok(self.try_or_insert(default))
    }

    /// The value, `default` if there was none.
    ///
    /// # Errors
    /// As [`RemHashMap::try_insert`](crate::RemHashMap::try_insert).
    pub fn try_or_insert(self, default: V) -> Result<ValueMut<'a, K, V>> {
        match self {
            Entry::Occupied(entry) => Ok(entry.into_value()),
            Entry::Vacant(entry) => entry.try_insert(default),
        }
    }

    /// The value, what `default` returns if there was none.
    ///
    /// # Panics
    /// If that can't be inserted: see [`try_or_insert_with`](Self::try_or_insert_with).
    #[track_caller]
    pub fn or_insert_with(self, default: impl FnOnce() -> V) -> ValueMut<'a, K, V> {
        ok(self.try_or_insert_with(default))
    }

    /// The value, what `default` returns if there was none.
    ///
    /// # Errors
    /// As [`RemHashMap::try_insert`](crate::RemHashMap::try_insert).
    pub fn try_or_insert_with(self, default: impl FnOnce() -> V) -> Result<ValueMut<'a, K, V>> {
        self.try_or_insert_with_key(|_| default())
    }

    /// The value, what `default` makes of the key if there was none.
    ///
    /// # Panics
    /// If that can't be inserted: see [`try_or_insert_with_key`](Self::try_or_insert_with_key).
    #[track_caller]
    pub fn or_insert_with_key(self, default: impl FnOnce(&K) -> V) -> ValueMut<'a, K, V> {
        ok(self.try_or_insert_with_key(default))
    }

    /// The value, what `default` makes of the key if there was none.
    ///
    /// # Errors
    /// As [`RemHashMap::try_insert`](crate::RemHashMap::try_insert).
    pub fn try_or_insert_with_key(self, default: impl FnOnce(&K) -> V) -> Result<ValueMut<'a, K, V>> {
        match self {
            Entry::Occupied(entry) => Ok(entry.into_value()),
            Entry::Vacant(entry) => {
                let value = default(&entry.key);
                entry.try_insert(value)
            }
        }
    }

    /// The value, `V::default()` if there was none.
    ///
    /// # Panics
    /// If that can't be inserted: see [`try_or_default`](Self::try_or_default).
    #[track_caller]
    pub fn or_default(self) -> ValueMut<'a, K, V>
    where
        V: Default,
    {
        ok(self.try_or_default())
    }

    /// The value, `V::default()` if there was none.
    ///
    /// # Errors
    /// As [`RemHashMap::try_insert`](crate::RemHashMap::try_insert).
    pub fn try_or_default(self) -> Result<ValueMut<'a, K, V>>
    where
        V: Default,
    {
        self.try_or_insert_with(V::default)
    }

    /// Calls `f` with the value, if there is one, in a scope of its own.
    ///
    /// # Panics
    /// If it can't be had: see [`try_and_modify`](Self::try_and_modify).
    #[must_use]
    #[track_caller]
    pub fn and_modify(self, f: impl FnOnce(&mut V)) -> Self {
        ok(self.try_and_modify(f))
    }

    /// Calls `f` with the value, if there is one, in a scope of its own.
    ///
    /// # Errors
    /// As [`RemHashMap::try_with`](crate::RemHashMap::try_with).
    pub fn try_and_modify(mut self, f: impl FnOnce(&mut V)) -> Result<Self> {
        if let Entry::Occupied(entry) = &mut self {
            entry.try_with_mut(f)?;
        }
        Ok(self)
    }
}

/// The place of a key that is in the map.
pub struct OccupiedEntry<'a, K: Far, V: Far> {
    table: &'a mut Table<K, V>,
    number: EntryNumber,
    /// The one that was looked up.
    key: K,
}

impl<'a, K: Far, V: Far> OccupiedEntry<'a, K, V> {
    /// The key that was looked up. Equal to the one in the map.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// The value, for as long as the map was borrowed.
    pub fn into_value(self) -> ValueMut<'a, K, V> {
        ValueMut { entries: &mut self.table.entries, number: self.number }
    }

    /// The value, for as long as this entry is borrowed: derefs are its methods.
    pub fn value(&mut self) -> ValueMut<'_, K, V> {
        ValueMut { entries: &mut self.table.entries, number: self.number }
    }

    /// A reference to the value.
    ///
    /// # Panics
    /// If it can't be had: see [`try_get`](Self::try_get).
    #[track_caller]
    pub fn get<'b>(&'b self, scope: &'b Scope) -> &'b V {
        ok(self.try_get(scope))
    }

    /// A reference to the value.
    ///
    /// # Errors
    /// As [`RemHashMap::try_get`](crate::RemHashMap::try_get).
    pub fn try_get<'b>(&'b self, scope: &'b Scope) -> Result<&'b V> {
        self.table.entries.get(self.number, scope).map(|(_, value)| value)
    }

    /// A reference to the value for writing.
    ///
    /// # Panics
    /// If it can't be had: see [`try_get_mut`](Self::try_get_mut).
    #[track_caller]
    pub fn get_mut<'b>(&'b mut self, scope: &'b Scope) -> &'b mut V {
        ok(self.try_get_mut(scope))
    }

    /// A reference to the value for writing.
    ///
    /// # Errors
    /// As [`RemHashMap::try_get`](crate::RemHashMap::try_get).
    pub fn try_get_mut<'b>(&'b mut self, scope: &'b Scope) -> Result<&'b mut V> {
        self.value().try_into_mut(scope)
    }

    /// A reference to the value for writing, for as long as the map was borrowed.
    ///
    /// # Panics
    /// If it can't be had: see [`try_into_mut`](Self::try_into_mut).
    #[track_caller]
    pub fn into_mut(self, scope: &'a Scope) -> &'a mut V {
        ok(self.try_into_mut(scope))
    }

    /// A reference to the value for writing, for as long as the map was borrowed.
    ///
    /// # Errors
    /// As [`RemHashMap::try_get`](crate::RemHashMap::try_get).
    pub fn try_into_mut(self, scope: &'a Scope) -> Result<&'a mut V> {
        self.into_value().try_into_mut(scope)
    }

    /// Calls `f` with the value, in a scope of its own.
    ///
    /// # Panics
    /// If it can't be had: see [`try_with`](Self::try_with).
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&V) -> R) -> R {
        ok(self.try_with(f))
    }

    /// Calls `f` with the value, in a scope of its own.
    ///
    /// # Errors
    /// As [`RemHashMap::try_with`](crate::RemHashMap::try_with).
    pub fn try_with<R>(&self, f: impl FnOnce(&V) -> R) -> Result<R> {
        self.table.entries.with(self.number, |(_, value)| f(value))
    }

    /// Calls `f` with the value for writing, in a scope of its own.
    ///
    /// # Panics
    /// If it can't be had: see [`try_with_mut`](Self::try_with_mut).
    #[track_caller]
    pub fn with_mut<R>(&mut self, f: impl FnOnce(&mut V) -> R) -> R {
        ok(self.try_with_mut(f))
    }

    /// Calls `f` with the value for writing, in a scope of its own.
    ///
    /// # Errors
    /// As [`RemHashMap::try_with`](crate::RemHashMap::try_with).
    pub fn try_with_mut<R>(&mut self, f: impl FnOnce(&mut V) -> R) -> Result<R> {
        self.value().try_with_mut(f)
    }

    /// Puts another value in place of the one there, and returns that.
    ///
    /// # Panics
    /// If it can't be had: see [`try_insert`](Self::try_insert).
    #[track_caller]
    pub fn insert(&mut self, value: V) -> V {
        ok(self.try_insert(value))
    }

    /// Puts another value in place of the one there, and returns that.
    ///
    /// # Errors
    /// As [`RemHashMap::try_with`](crate::RemHashMap::try_with); `value` is dropped then.
    pub fn try_insert(&mut self, value: V) -> Result<V> {
        self.try_with_mut(|place| mem::replace(place, value))
    }

    /// Removes the entry, and returns its value.
    ///
    /// # Panics
    /// If it can't be had: see [`try_remove`](Self::try_remove).
    #[track_caller]
    pub fn remove(self) -> V {
        ok(self.try_remove())
    }

    /// Removes the entry, and returns its value.
    ///
    /// # Errors
    /// As [`RemHashMap::try_with`](crate::RemHashMap::try_with); the map is as it was.
    pub fn try_remove(self) -> Result<V> {
        self.try_remove_entry().map(value_of)
    }

    /// Removes the entry, and returns the key that was in the map and its value.
    ///
    /// # Panics
    /// If it can't be had: see [`try_remove_entry`](Self::try_remove_entry).
    #[track_caller]
    pub fn remove_entry(self) -> (K, V) {
        ok(self.try_remove_entry())
    }

    /// Removes the entry, and returns the key that was in the map and its value.
    ///
    /// # Errors
    /// As [`RemHashMap::try_with`](crate::RemHashMap::try_with); the map is as it was.
    pub fn try_remove_entry(self) -> Result<(K, V)> {
        let OccupiedEntry { table, number, key } = self;
        // Now, for its `Drop` may panic, and what is taken out must not be lost in that.
        drop(key);
        table.take(number)
    }
}

impl<K: Far + fmt::Debug, V: Far> fmt::Debug for OccupiedEntry<'_, K, V> {
    /// Does not fetch the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OccupiedEntry").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The place of a key that is not in the map.
pub struct VacantEntry<'a, K: Far, V: Far> {
    table: &'a mut Table<K, V>,
    hash: StoredHash,
    key: K,
}

impl<'a, K: Far, V: Far> VacantEntry<'a, K, V> {
    /// The key that was looked up.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// The key that was looked up, back.
    pub fn into_key(self) -> K {
        self.key
    }

    /// Puts a value under the key.
    ///
    /// # Panics
    /// If that fails: see [`try_insert`](Self::try_insert).
    #[track_caller]
    pub fn insert(self, value: V) -> ValueMut<'a, K, V> {
        ok(self.try_insert(value))
    }

    /// Puts a value under the key.
    ///
    /// # Errors
    /// As [`RemHashMap::try_insert`](crate::RemHashMap::try_insert).
    pub fn try_insert(self, value: V) -> Result<ValueMut<'a, K, V>> {
        let number = self.table.insert_new(self.hash, self.key, value)?;
        Ok(ValueMut { entries: &mut self.table.entries, number })
    }
}

impl<K: Far + fmt::Debug, V: Far> fmt::Debug for VacantEntry<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VacantEntry").field(&self.key).finish()
    }
}

/// A value of a map, a deref away: what `std` has a `&mut V` for.
pub struct ValueMut<'a, K: Far, V: Far> {
    entries: &'a mut Entries<K, V>,
    number: EntryNumber,
}

impl<'a, K: Far, V: Far> ValueMut<'a, K, V> {
    /// A reference for writing.
    ///
    /// # Panics
    /// If it can't be had: see [`try_into_mut`](Self::try_into_mut).
    #[track_caller]
    pub fn into_mut(self, scope: &'a Scope) -> &'a mut V {
        ok(self.try_into_mut(scope))
    }

    /// A reference for writing.
    ///
    /// # Errors
    /// As [`RemHashMap::try_get`](crate::RemHashMap::try_get).
    pub fn try_into_mut(self, scope: &'a Scope) -> Result<&'a mut V> {
        self.entries.get_mut(self.number, scope).map(|(_, value)| value)
    }

    /// Calls `f` with the value, in a scope of its own.
    ///
    /// # Panics
    /// If it can't be had: see [`try_with`](Self::try_with).
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&V) -> R) -> R {
        ok(self.try_with(f))
    }

    /// Calls `f` with the value, in a scope of its own.
    ///
    /// # Errors
    /// As [`RemHashMap::try_with`](crate::RemHashMap::try_with).
    pub fn try_with<R>(&self, f: impl FnOnce(&V) -> R) -> Result<R> {
        self.entries.with(self.number, |(_, value)| f(value))
    }

    /// Calls `f` with the value for writing, in a scope of its own.
    ///
    /// # Panics
    /// If it can't be had: see [`try_with_mut`](Self::try_with_mut).
    #[track_caller]
    pub fn with_mut<R>(&mut self, f: impl FnOnce(&mut V) -> R) -> R {
        ok(self.try_with_mut(f))
    }

    /// Calls `f` with the value for writing, in a scope of its own.
    ///
    /// # Errors
    /// As [`RemHashMap::try_with`](crate::RemHashMap::try_with).
    pub fn try_with_mut<R>(&mut self, f: impl FnOnce(&mut V) -> R) -> Result<R> {
        self.entries.with_mut(self.number, |(_, value)| f(value))
    }
}

impl<K: Far, V: Far> fmt::Debug for ValueMut<'_, K, V> {
    /// Does not fetch the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValueMut").finish_non_exhaustive()
    }
}
