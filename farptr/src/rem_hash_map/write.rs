//! Changing a map.
#![forbid(unsafe_code)]

use super::entry::Entry;
use super::into_iter::{Drain, IntoIter};
use super::iter::{IterMut, ValuesMut};
use super::{PinnedValueMut, RemHashMap, ok};
use crate::{Far, Scope};
use farptr_runtime::Result;
use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};
use std::mem;

impl<K: Far + Eq + Hash, V: Far, S: BuildHasher> RemHashMap<K, V, S> {
    /// Puts a value under `key`, and returns the one that was there. The key that was there stays.
    ///
    /// # Panics
    /// If that fails: see [`try_insert`](Self::try_insert).
    #[track_caller]
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        ok(self.try_insert(key, value))
    }

    /// Puts a value under `key`, and returns the one that was there. The key that was there stays.
    ///
    /// # Errors
    /// `OutOfLocalMemory`, or, inside a scope, perhaps `ScopeExhausted`, if the local budget has no room for the entry or for the tables (the index doubles at a time:
    /// `with_capacity_in` makes it as large as it must be at once); `FarMemoryFull` if far memory has none for a new entry;
    /// `CapacityOverflow` for more than 2^32 - 1 entries or an alignment above 4096; `Transport` and `Corrupt` if an entry of the key's hash can't be
    /// fetched. `key` and `value` are dropped then, and the map is as it was.
    pub fn try_insert(&mut self, key: K, value: V) -> Result<Option<V>> {
        let hash = self.hash_of(&key);
        match self.table.find(hash, |other| *other == key)? {
            Some(number) => {
                // Now, for its `Drop` may panic, and what was replaced must not be lost in that.
                drop(key);
                let old = self.table.entries.with_mut(number, |(_, place)| mem::replace(place, value))?;
                Ok(Some(old))
            }
            None => self.table.insert_new(hash, key, value).map(|_| None),
        }
    }

    /// A reference for writing to the value of `key`, swapped in if it is far.
    ///
    /// # Panics
    /// If it can't be had: see [`try_get_mut`](Self::try_get_mut).
    #[track_caller]
    pub fn get_mut<'a, Q>(&'a mut self, key: &Q, scope: &'a Scope) -> Option<&'a mut V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        ok(self.try_get_mut(key, scope))
    }

    /// A reference for writing to the value of `key`, swapped in if it is far.
    ///
    /// # Errors
    /// As [`try_get`](Self::try_get).
    pub fn try_get_mut<'a, Q>(&'a mut self, key: &Q, scope: &'a Scope) -> Result<Option<&'a mut V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let found = self.table.find_in(self.hash_of(key), scope, |other| other.borrow() == key)?;
        let Some((number, _)) = found else { return Ok(None) };
        self.table.entries.get_mut(number, scope).map(|(_, value)| Some(value))
    }

    /// Calls `f` with the value of `key` for writing, in a scope of its own.
    ///
    /// # Panics
    /// If it can't be had: see [`try_with_mut`](Self::try_with_mut).
    #[track_caller]
    pub fn with_mut<Q, R>(&mut self, key: &Q, f: impl FnOnce(&mut V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        ok(self.try_with_mut(key, f))
    }

    /// Calls `f` with the value of `key` for writing, in a scope of its own. Waits for local memory if need be. `None` if the key is not there.
    ///
    /// # Errors
    /// As [`try_with`](Self::try_with).
    pub fn try_with_mut<Q, R>(&mut self, key: &Q, f: impl FnOnce(&mut V) -> R) -> Result<Option<R>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let found = self.table.find(self.hash_of(key), |other| other.borrow() == key)?;
        found.map(|number| self.table.entries.with_mut(number, |(_, value)| f(value))).transpose()
    }

    /// Holds the value of `key` locally without a scope, for writing.
    ///
    /// # Panics
    /// If it can't be had: see [`try_pin_mut`](Self::try_pin_mut).
    #[track_caller]
    pub fn pin_mut<Q>(&mut self, key: &Q) -> Option<PinnedValueMut<'_, K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        ok(self.try_pin_mut(key))
    }

    /// Holds the value of `key` locally without a scope, for writing.
    ///
    /// # Errors
    /// As [`try_with`](Self::try_with).
    pub fn try_pin_mut<Q>(&mut self, key: &Q) -> Result<Option<PinnedValueMut<'_, K, V>>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let found = self.table.find(self.hash_of(key), |other| other.borrow() == key)?;
        found.map(|number| self.table.entries.pin_mut(number).map(PinnedValueMut::new)).transpose()
    }

    /// Removes `key`, and returns its value.
    ///
    /// # Panics
    /// If that fails: see [`try_remove`](Self::try_remove).
    #[track_caller]
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        ok(self.try_remove(key))
    }

    /// Removes `key`, and returns its value.
    ///
    /// # Errors
    /// As [`try_with`](Self::try_with); the map is as it was.
    pub fn try_remove<Q>(&mut self, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Ok(self.try_remove_entry(key)?.map(value_of))
    }

    /// Removes `key`, and returns the key that was in the map and its value.
    ///
    /// # Panics
    /// If that fails: see [`try_remove_entry`](Self::try_remove_entry).
    #[track_caller]
    pub fn remove_entry<Q>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        ok(self.try_remove_entry(key))
    }

    /// Removes `key`, and returns the key that was in the map and its value.
    ///
    /// # Errors
    /// As [`try_with`](Self::try_with); the map is as it was.
    pub fn try_remove_entry<Q>(&mut self, key: &Q) -> Result<Option<(K, V)>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let found = self.table.find(self.hash_of(key), |other| other.borrow() == key)?;
        found.map(|number| self.table.take(number)).transpose()
    }

    /// The place of `key`, taken or not.
    ///
    /// # Panics
    /// If an entry can't be fetched: see [`try_entry`](Self::try_entry).
    #[track_caller]
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        ok(self.try_entry(key))
    }

    /// The place of `key`, taken or not.
    ///
    /// # Errors
    /// As [`try_with`](Self::try_with); `key` is dropped then.
    pub fn try_entry(&mut self, key: K) -> Result<Entry<'_, K, V>> {
        let hash = self.hash_of(&key);
        let found = self.table.find(hash, |other| *other == key)?;
        Ok(Entry::new(&mut self.table, hash, key, found))
    }

    /// Inserts all of `iter`.
    ///
    /// # Errors
    /// As [`try_insert`](Self::try_insert); what came before is in the map.
    pub fn try_extend(&mut self, iter: impl IntoIterator<Item = (K, V)>) -> Result<()> {
        let iter = iter.into_iter();
        // As std does: all of them may be new, or, if there are entries, half. It is a guess, so that it can't be had is no error yet.
        let hint = iter.size_hint().0;
        let _ = self.try_reserve(if self.is_empty() { hint } else { hint.div_ceil(2) });
        for (key, value) in iter {
            self.try_insert(key, value)?;
        }
        Ok(())
    }
}

/// The value of an entry; the key is dropped first, so that the value is not lost if its `Drop` panics.
pub(super) fn value_of<K, V>((key, value): (K, V)) -> V {
    drop(key);
    value
}

impl<K: Far + Eq + Hash, V: Far, S: BuildHasher> Extend<(K, V)> for RemHashMap<K, V, S> {
    /// # Panics
    /// If one can't be inserted: see [`try_extend`](RemHashMap::try_extend).
    #[track_caller]
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, iter: I) {
        ok(self.try_extend(iter));
    }
}

impl<'a, K: Far + Eq + Hash + Copy, V: Far + Copy, S: BuildHasher> Extend<(&'a K, &'a V)> for RemHashMap<K, V, S> {
    /// # Panics
    /// If one can't be inserted: see [`try_extend`](RemHashMap::try_extend).
    #[track_caller]
    fn extend<I: IntoIterator<Item = (&'a K, &'a V)>>(&mut self, iter: I) {
        ok(self.try_extend(iter.into_iter().map(|(key, value)| (*key, *value))));
    }
}

impl<K: Far, V: Far, S> RemHashMap<K, V, S> {
    /// Calls `f` with each key, and its value for writing.
    ///
    /// # Panics
    /// If an entry can't be had: see [`try_for_each_mut`](Self::try_for_each_mut).
    #[track_caller]
    pub fn for_each_mut(&mut self, f: impl FnMut(&K, &mut V)) {
        ok(self.try_for_each_mut(f));
    }

    /// Calls `f` with each key, and its value for writing, each in a scope of its own and non-temporal. All entries are written back later, so if `f`
    /// changes few, look first with [`for_each`](Self::for_each).
    ///
    /// # Errors
    /// As [`try_with`](Self::try_with); ends at the first.
    pub fn try_for_each_mut(&mut self, mut f: impl FnMut(&K, &mut V)) -> Result<()> {
        let entries = &mut self.table.entries;
        let mut next = 0;
        while let Some(number) = entries.next_in_use(next) {
            next = number.index() + 1;
            entries.scan_mut(number, |(key, value)| f(key, value))?;
        }
        Ok(())
    }

    /// Keeps the entries for which `keep` holds, and drops the others.
    ///
    /// # Panics
    /// If an entry can't be had: see [`try_retain`](Self::try_retain).
    #[track_caller]
    pub fn retain(&mut self, keep: impl FnMut(&K, &V) -> bool) {
        ok(self.try_retain(keep));
    }

    /// Keeps the entries for which `keep` holds, and drops the others.
    ///
    /// `keep` reads, unlike that of `std`'s map: writing would make every entry dirty, and the whole map would be written back. As with
    /// `Vec`, [`retain_mut`](Self::retain_mut) writes.
    ///
    /// # Errors
    /// As [`try_with`](Self::try_with); ends at the first. Entries before it have been dealt with, the others are there.
    pub fn try_retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) -> Result<()> {
        self.table.retain(|entries, number| entries.scan(number, |(key, value)| keep(key, value)))
    }

    /// As [`retain`](Self::retain); `keep` may change the values.
    ///
    /// # Panics
    /// If an entry can't be had: see [`try_retain_mut`](Self::try_retain_mut).
    #[track_caller]
    pub fn retain_mut(&mut self, keep: impl FnMut(&K, &mut V) -> bool) {
        ok(self.try_retain_mut(keep));
    }

    /// As [`try_retain`](Self::try_retain); `keep` may change the values.
    ///
    /// # Errors
    /// As [`try_retain`](Self::try_retain).
    pub fn try_retain_mut(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) -> Result<()> {
        self.table.retain(|entries, number| entries.scan_mut(number, |(key, value)| keep(key, value)))
    }

    /// As [`iter`](Self::iter), values for writing.
    pub fn iter_mut<'a>(&'a mut self, scope: &'a Scope) -> IterMut<'a, K, V> {
        IterMut::new(&mut self.table.entries, scope)
    }

    /// As [`values`](Self::values), for writing.
    pub fn values_mut<'a>(&'a mut self, scope: &'a Scope) -> ValuesMut<'a, K, V> {
        ValuesMut(self.iter_mut(scope))
    }

    /// Moves all entries out, one by one. The map is empty from now on, and keeps its tables; what is left of the iterator is dropped with it.
    pub fn drain(&mut self) -> Drain<'_, K, V> {
        Drain::new(&mut self.table)
    }
}

impl<K: Far, V: Far, S> IntoIterator for RemHashMap<K, V, S> {
    type Item = Result<(K, V)>;
    type IntoIter = IntoIter<K, V>;

    /// Moves all entries out, one by one, fetching those that are far into ordinary memory. One that can't be fetched is an `Err`, and passed over; it
    /// is dropped with the iterator.
    fn into_iter(mut self) -> IntoIter<K, V> {
        IntoIter::new(self.table.take_entries())
    }
}
