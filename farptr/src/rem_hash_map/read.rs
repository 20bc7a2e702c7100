//! Reading a map.
#![forbid(unsafe_code)]

use super::iter::{Iter, Keys, Values};
use super::{PinnedValue, RemHashMap, ok};
use crate::{Far, Scope};
use farptr_runtime::Result;
use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

impl<K: Far + Eq + Hash, V: Far, S: BuildHasher> RemHashMap<K, V, S> {
    /// A reference to the value of `key`, swapped in if it is far.
    ///
    /// # Panics
    /// If it can't be had: see [`try_get`](Self::try_get).
    #[inline]
    #[track_caller]
    pub fn get<'a, Q>(&'a self, key: &Q, scope: &'a Scope) -> Option<&'a V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        ok(self.try_get(key, scope))
    }

    /// A reference to the value of `key`, swapped in if it is far.
    ///
    /// # Errors
    /// `ScopeExhausted` if the scope's references hold too much of the local budget; `Transport` and `Corrupt` if an entry can't be fetched.
    #[inline]
    pub fn try_get<'a, Q>(&'a self, key: &Q, scope: &'a Scope) -> Result<Option<&'a V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        Ok(self.try_get_key_value(key, scope)?.map(|(_, value)| value))
    }

    /// References to the key that is in the map, and its value.
    ///
    /// # Panics
    /// If they can't be had: see [`try_get_key_value`](Self::try_get_key_value).
    #[track_caller]
    pub fn get_key_value<'a, Q>(&'a self, key: &Q, scope: &'a Scope) -> Option<(&'a K, &'a V)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        ok(self.try_get_key_value(key, scope))
    }

    /// References to the key that is in the map, and its value.
    ///
    /// # Errors
    /// As [`try_get`](Self::try_get).
    #[inline]
    pub fn try_get_key_value<'a, Q>(&'a self, key: &Q, scope: &'a Scope) -> Result<Option<(&'a K, &'a V)>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let found = self.table.find_in(self.hash_of(key), scope, |other| other.borrow() == key)?;
        Ok(found.map(|(_, (key, value))| (key, value)))
    }

    /// Whether `key` is there. Fetches an entry only if it has the key's hash.
    ///
    /// # Panics
    /// If that can't be fetched: see [`try_contains_key`](Self::try_contains_key).
    #[track_caller]
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        ok(self.try_contains_key(key))
    }

    /// Whether `key` is there. Fetches an entry only if it has the key's hash.
    ///
    /// # Errors
    /// As [`try_with`](Self::try_with).
    pub fn try_contains_key<Q>(&self, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        // Brought in: who asks this usually asks for the value next.
        Ok(self.table.find(self.hash_of(key), |other| other.borrow() == key)?.is_some())
    }

    /// Calls `f` with the value of `key`, in a scope of its own. Waits for local memory if need be. What `f` itself does in that scope can't wait: see
    /// [`RemBox::with`](crate::RemBox::with).
    ///
    /// # Panics
    /// If it can't be had: see [`try_with`](Self::try_with).
    #[track_caller]
    pub fn with<Q, R>(&self, key: &Q, f: impl FnOnce(&V) -> R) -> Option<R>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        ok(self.try_with(key, f))
    }

    /// Calls `f` with the value of `key`, in a scope of its own. Waits for local memory if need be. `None` if the key is not there.
    ///
    /// A far entry may be read without being swapped in, as by [`RemBox::try_with`](crate::RemBox::try_with).
    ///
    /// # Errors
    /// `OutOfLocalMemory` if none is freed in time, or, inside another scope, `ScopeExhausted`; `Transport` and `Corrupt` if an entry can't be
    /// fetched.
    pub fn try_with<Q, R>(&self, key: &Q, f: impl FnOnce(&V) -> R) -> Result<Option<R>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.table.find_with(self.hash_of(key), |other| other.borrow() == key, |(_, value)| f(value))
    }

    /// A clone of the value of `key`.
    ///
    /// # Panics
    /// If it can't be had: see [`try_get_cloned`](Self::try_get_cloned).
    #[track_caller]
    pub fn get_cloned<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        ok(self.try_get_cloned(key))
    }

    /// A clone of the value of `key`.
    ///
    /// # Errors
    /// As [`try_with`](Self::try_with).
    pub fn try_get_cloned<Q>(&self, key: &Q) -> Result<Option<V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
        V: Clone,
    {
        self.try_with(key, V::clone)
    }

    /// Holds the value of `key` locally without a scope: it may be kept across an await. Pinned memory can't be evacuated, so pin little: see
    /// [`RemBox::pin`](crate::RemBox::pin).
    ///
    /// # Panics
    /// If it can't be had: see [`try_pin`](Self::try_pin).
    #[track_caller]
    pub fn pin<Q>(&self, key: &Q) -> Option<PinnedValue<'_, K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        ok(self.try_pin(key))
    }

    /// Holds the value of `key` locally without a scope.
    ///
    /// # Errors
    /// As [`try_with`](Self::try_with).
    pub fn try_pin<Q>(&self, key: &Q) -> Result<Option<PinnedValue<'_, K, V>>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let found = self.table.find(self.hash_of(key), |other| other.borrow() == key)?;
        found.map(|number| self.table.entries.pin(number).map(PinnedValue::new)).transpose()
    }
}

impl<K: Far, V: Far, S> RemHashMap<K, V, S> {
    /// Calls `f` with each key and value, each in a scope of its own and non-temporal: for maps of any size.
    ///
    /// # Panics
    /// If an entry can't be had: see [`try_for_each`](Self::try_for_each).
    #[track_caller]
    pub fn for_each(&self, f: impl FnMut(&K, &V)) {
        ok(self.try_for_each(f));
    }

    /// Calls `f` with each key and value, in no particular order, each in a scope of its own and non-temporal: for maps of any size.
    ///
    /// # Errors
    /// As [`try_with`](Self::try_with); ends at the first.
    pub fn try_for_each(&self, mut f: impl FnMut(&K, &V)) -> Result<()> {
        let entries = &self.table.entries;
        let mut next = 0;
        while let Some(number) = entries.next_in_use(next) {
            next = number.index() + 1;
            entries.scan(number, |(key, value)| f(key, value))?;
        }
        Ok(())
    }

    /// References to all keys and values, in no particular order, which all live as long as the scope: what they fetch stays until it ends.
    ///
    /// So this is for maps of which no more is far than a scope may surely fetch: a thread's share, which is a quarter of the local budget divided by the threads that
    /// have a scope open, and at most 256 KiB. Beyond it entries come while memory is there, then one `ScopeExhausted`, and after any error the iterator
    /// has ended. Of any size: [`walk`](Self::walk), [`for_each`](Self::for_each).
    pub fn iter<'a>(&'a self, scope: &'a Scope) -> Iter<'a, K, V> {
        Iter::new(&self.table.entries, scope)
    }

    /// As [`iter`](Self::iter), keys only.
    pub fn keys<'a>(&'a self, scope: &'a Scope) -> Keys<'a, K, V> {
        Keys(self.iter(scope))
    }

    /// As [`iter`](Self::iter), values only.
    pub fn values<'a>(&'a self, scope: &'a Scope) -> Values<'a, K, V> {
        Values(self.iter(scope))
    }
}
