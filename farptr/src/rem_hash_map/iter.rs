//! Iterators over references in one scope.
//!
//! A step may fail, and then the iterator has ended. What it has lent stays local until the scope ends, so if the scope is exhausted, each
//! further step would be in vain as well.
#![forbid(unsafe_code)]

use super::entries::{AllMut, Entries};
use crate::{Far, Scope};
use farptr_runtime::Result;
use std::fmt;
use std::iter::FusedIterator;

/// References to all keys and values of a map. See [`RemHashMap::iter`](crate::RemHashMap::iter).
pub struct Iter<'a, K: Far, V: Far> {
    entries: &'a Entries<K, V>,
    next: usize,
    left: usize,
    scope: &'a Scope,
}

impl<'a, K: Far, V: Far> Iter<'a, K, V> {
    pub(super) fn new(entries: &'a Entries<K, V>, scope: &'a Scope) -> Self {
        Iter { entries, next: 0, left: entries.len(), scope }
    }
}

impl<'a, K: Far, V: Far> Iterator for Iter<'a, K, V> {
    type Item = Result<(&'a K, &'a V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let number = self.entries.next_in_use(self.next)?;
        self.next = number.index() + 1;
        self.left -= 1;
        let entry = self.entries.get(number, self.scope);
        if entry.is_err() {
            (self.next, self.left) = (usize::MAX, 0);
        }
        Some(entry.map(|(key, value)| (key, value)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<K: Far, V: Far> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Iter { ..*self }
    }
}

/// References for writing to all values of a map. See [`RemHashMap::iter_mut`](crate::RemHashMap::iter_mut).
pub struct IterMut<'a, K: Far, V: Far> {
    all: AllMut<'a, K, V>,
    left: usize,
}

impl<'a, K: Far, V: Far> IterMut<'a, K, V> {
    pub(super) fn new(entries: &'a mut Entries<K, V>, scope: &'a Scope) -> Self {
        IterMut { left: entries.len(), all: entries.all_mut(scope) }
    }
}

impl<'a, K: Far, V: Far> Iterator for IterMut<'a, K, V> {
    type Item = Result<(&'a K, &'a mut V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.all.next()?;
        self.left = if entry.is_ok() { self.left - 1 } else { 0 };
        Some(entry.map(|(key, value)| (&*key, value)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// References to all keys of a map. See [`RemHashMap::keys`](crate::RemHashMap::keys).
pub struct Keys<'a, K: Far, V: Far>(pub(super) Iter<'a, K, V>);

impl<'a, K: Far, V: Far> Iterator for Keys<'a, K, V> {
    type Item = Result<&'a K>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map(|(key, _)| key))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<K: Far, V: Far> Clone for Keys<'_, K, V> {
    fn clone(&self) -> Self {
        Keys(self.0.clone())
    }
}

/// References to all values of a map. See [`RemHashMap::values`](crate::RemHashMap::values).
pub struct Values<'a, K: Far, V: Far>(pub(super) Iter<'a, K, V>);

impl<'a, K: Far, V: Far> Iterator for Values<'a, K, V> {
    type Item = Result<&'a V>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map(|(_, value)| value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<K: Far, V: Far> Clone for Values<'_, K, V> {
    fn clone(&self) -> Self {
        Values(self.0.clone())
    }
}

/// References for writing to all values of a map. See [`RemHashMap::values_mut`](crate::RemHashMap::values_mut).
pub struct ValuesMut<'a, K: Far, V: Far>(pub(super) IterMut<'a, K, V>);

impl<'a, K: Far, V: Far> Iterator for ValuesMut<'a, K, V> {
    type Item = Result<&'a mut V>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map(|(_, value)| value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

/// What all of them, and the owning ones, have by knowing how many entries are left.
macro_rules! knows_its_length {
    ($($name:ident [$($life:lifetime)?]),+) => {$(
        impl<K: $crate::Far, V: $crate::Far> ExactSizeIterator for $name<$($life,)? K, V> {}
        impl<K: $crate::Far, V: $crate::Far> FusedIterator for $name<$($life,)? K, V> {}
        impl<K: $crate::Far, V: $crate::Far> fmt::Debug for $name<$($life,)? K, V> {
            /// Does not fetch the entries.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("left", &self.len()).finish_non_exhaustive()
            }
        }
    )+};
}
pub(super) use knows_its_length;

knows_its_length!(Iter ['_], IterMut ['_], Keys ['_], Values ['_], ValuesMut ['_]);
