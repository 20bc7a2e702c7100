//! Iterators that give: entries moved out.
//!
//! An error is of one entry, because to move out takes no local memory. The next step goes on behind it, so that the others are not lost with it.
#![forbid(unsafe_code)]

use super::entries::Entries;
use super::iter::knows_its_length;
use super::table::Table;
use crate::Far;
use farptr_runtime::Result;
use std::fmt;
use std::iter::FusedIterator;
use std::mem;

/// The entries of a map, moved out. What is left is dropped with it. See [`RemHashMap::into_iter`](crate::RemHashMap#method.into_iter).
pub struct IntoIter<K: Far, V: Far> {
    entries: Entries<K, V>,
    next: usize,
    left: usize,
}

impl<K: Far, V: Far> IntoIter<K, V> {
    pub(super) fn new(entries: Entries<K, V>) -> Self {
        IntoIter { next: 0, left: entries.len(), entries }
    }
}

impl<K: Far, V: Far> Iterator for IntoIter<K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        let number = self.entries.next_in_use(self.next)?;
        self.next = number.index() + 1;
        self.left -= 1;
        Some(self.entries.take(number))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// The entries of a map, moved out. What is left is dropped with it. See [`RemHashMap::drain`](crate::RemHashMap::drain).
///
/// The map has given its entries to this value, so that it is empty whatever becomes of it; it gets their rows back when it is dropped.
pub struct Drain<'a, K: Far, V: Far> {
    iter: IntoIter<K, V>,
    home: &'a mut Entries<K, V>,
}

impl<'a, K: Far, V: Far> Drain<'a, K, V> {
    pub(super) fn new(table: &'a mut Table<K, V>) -> Self {
        Drain { iter: IntoIter::new(table.take_entries()), home: &mut table.entries }
    }
}

impl<K: Far, V: Far> Iterator for Drain<'_, K, V> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.iter.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.iter.size_hint()
    }
}

impl<K: Far, V: Far> Drop for Drain<'_, K, V> {
    fn drop(&mut self) {
        self.iter.entries.clear();
        mem::swap(self.home, &mut self.iter.entries);
    }
}

knows_its_length!(IntoIter [], Drain ['_]);
