//! A table whose entries come to exist a row at a time, at stable addresses.
//!
//! A store that lends as much as the machine has may name a million slabs, of which it lends a few: a table of all of them would take more
//! memory than what is lent.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::OnceLock;

/// Entries in a row: a few pages of them.
const ROW: usize = 256;

/// Room for `len` entries, none of which exists at first.
pub(crate) struct Rows<T> {
    rows: Box<[OnceLock<Box<[T]>>]>,
    len: usize,
}

impl<T: Default> Rows<T> {
    pub(crate) fn new(len: usize) -> Self {
        Rows { rows: (0..len.div_ceil(ROW)).map(|_| OnceLock::new()).collect(), len }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Entry `index`, if it exists.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.rows.get(index / ROW)?.get()?.get(index % ROW)
    }

    /// Entry `index`, which from now on exists.
    ///
    /// # Panics
    /// If there is no room for it.
    pub(crate) fn get_or_make(&self, index: usize) -> &T {
        let first = index - index % ROW;
        let row = self.rows[index / ROW].get_or_init(|| (first..self.len.min(first + ROW)).map(|_| T::default()).collect());
        &row[index % ROW]
    }

    /// The entries that exist, with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let made = self.rows.iter().enumerate().filter_map(|(number, row)| Some((number * ROW, row.get()?)));
        made.flat_map(|(first, row)| row.iter().enumerate().map(move |(index, entry)| (first + index, entry)))
    }
}

impl<T> fmt::Debug for Rows<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn entries_exist_once_asked_for_and_stay_where_they_are() {
        let rows: Rows<AtomicUsize> = Rows::new(2 * ROW + 3);
        assert!(rows.get(0).is_none() && rows.iter().next().is_none());
        rows.get_or_make(2 * ROW + 2).store(7, Ordering::Relaxed);
        assert!(rows.get(0).is_none() && rows.get(2 * ROW + 3).is_none() && rows.get(usize::MAX).is_none());
        rows.get_or_make(0);
        assert_eq!(rows.get(2 * ROW + 2).map(|entry| entry.load(Ordering::Relaxed)), Some(7));
        let numbers: Vec<_> = rows.iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, (0..ROW).chain(2 * ROW..2 * ROW + 3).collect::<Vec<_>>());
    }

    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn there_is_no_entry_behind_the_last() {
        Rows::<u8>::new(3).get_or_make(3);
    }
}
