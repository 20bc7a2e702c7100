//! Pinned values: references that need no scope.
#![forbid(unsafe_code)]

use crate::Far;
use crate::pin::{Pinned, PinnedMut};
use std::fmt;
use std::ops::{Deref, DerefMut};

/// A value of a [`RemHashMap`](crate::RemHashMap) held in local memory for reading, with its key, until this is dropped. May be held across an await.
pub struct PinnedValue<'a, K: Far, V: Far>(Pinned<'a, (K, V)>);

impl<'a, K: Far, V: Far> PinnedValue<'a, K, V> {
    pub(super) fn new(entry: Pinned<'a, (K, V)>) -> Self {
        PinnedValue(entry)
    }

    /// The key that is in the map.
    pub fn key(&self) -> &K {
        &self.0.0
    }
}

impl<K: Far, V: Far> Deref for PinnedValue<'_, K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.0.1
    }
}

impl<K: Far, V: Far + fmt::Debug> fmt::Debug for PinnedValue<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A value of a [`RemHashMap`](crate::RemHashMap) held in local memory for writing, with its key, until this is dropped. May be held across an await.
pub struct PinnedValueMut<'a, K: Far, V: Far>(PinnedMut<'a, (K, V)>);

impl<'a, K: Far, V: Far> PinnedValueMut<'a, K, V> {
    pub(super) fn new(entry: PinnedMut<'a, (K, V)>) -> Self {
        PinnedValueMut(entry)
    }

    /// The key that is in the map.
    pub fn key(&self) -> &K {
        &self.0.0
    }
}

impl<K: Far, V: Far> Deref for PinnedValueMut<'_, K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.0.1
    }
}

impl<K: Far, V: Far> DerefMut for PinnedValueMut<'_, K, V> {
    fn deref_mut(&mut self) -> &mut V {
        &mut self.0.1
    }
}

impl<K: Far, V: Far + fmt::Debug> fmt::Debug for PinnedValueMut<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
