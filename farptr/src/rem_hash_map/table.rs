//! Entries and the index to them, which agree: every entry in use is in the index once, under its noted hash.
#![forbid(unsafe_code)]

use super::entries::Entries;
use super::hash::StoredHash;
use super::index::Index;
use super::row::EntryNumber;
use crate::{Far, Scope};
use farptr_runtime::memory::Memory;
use farptr_runtime::{Error, Result};
use std::sync::Arc;

/// A map without its hasher.
pub(super) struct Table<K: Far, V: Far> {
    index: Index,
    pub(super) entries: Entries<K, V>,
}

impl<K: Far, V: Far> Table<K, V> {
    pub(super) fn new(memory: &Arc<Memory>) -> Self {
        Table { index: Index::new(Arc::clone(memory)), entries: Entries::new(Arc::clone(memory)) }
    }

    pub(super) fn len(&self) -> usize {
        debug_assert_eq!(self.index.len(), self.entries.len());
        self.index.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.index.capacity()
    }

    pub(super) fn reserve(&mut self, additional: usize) -> Result<()> {
        let entries = &self.entries;
        self.index.reserve(additional, |number| entries.hash(number))
    }

    /// The entry of `hash` whose key `is_key` accepts. May wait for memory if the caller is outside any scope.
    pub(super) fn find(&self, hash: StoredHash, mut is_key: impl FnMut(&K) -> bool) -> Result<Option<EntryNumber>> {
        let mut failure: Option<Error> = None;
        let found = self.index.find(hash, |number| {
            self.entries.hash(number) == hash
                && self.entries.with(number, |(key, _)| is_key(key)).unwrap_or_else(|error| {
                    failure = Some(error);
                    true
                })
        });
        failure.map_or(Ok(found), Err)
    }

    /// As `find`, and calls `f` with the entry at once.
    pub(super) fn find_with<R>(
        &self,
        hash: StoredHash,
        mut is_key: impl FnMut(&K) -> bool,
        f: impl FnOnce(&(K, V)) -> R,
    ) -> Result<Option<R>> {
        let mut f = Some(f);
        let mut found = None;
        self.index.find(hash, |number| {
            if self.entries.hash(number) != hash {
                return false;
            }
            let here = self.entries.look(number, |entry| if is_key(&entry.0) { f.take().map(|f| f(entry)) } else { None });
            found = here.transpose();
            found.is_some()
        });
        found.transpose()
    }

    /// As `find`, in the caller's scope.
    pub(super) fn find_in<'a>(
        &'a self,
        hash: StoredHash,
        scope: &'a Scope,
        mut is_key: impl FnMut(&K) -> bool,
    ) -> Result<Option<(EntryNumber, &'a (K, V))>> {
        let mut found = None;
        self.index.find(hash, |number| {
            if self.entries.hash(number) != hash {
                return false;
            }
            let entry = self.entries.get(number, scope);
            let stop = entry.as_ref().map_or(true, |(key, _)| is_key(key));
            if stop {
                found = Some(entry.map(|entry| (number, entry)));
            }
            stop
        });
        found.transpose()
    }

    /// Makes an entry whose key is not there yet. On an error key and value are dropped.
    pub(super) fn insert_new(&mut self, hash: StoredHash, key: K, value: V) -> Result<EntryNumber> {
        self.reserve(1)?;
        let number = self.entries.insert(hash, key, value)?;
        let entries = &self.entries;
        self.index.insert(hash, number, |number| entries.hash(number));
        Ok(number)
    }

    /// Moves an entry out. On an error nothing has changed.
    pub(super) fn take(&mut self, number: EntryNumber) -> Result<(K, V)> {
        let hash = self.entries.hash(number);
        let entry = self.entries.take(number)?;
        self.index.remove(hash, number);
        Ok(entry)
    }

    /// Drops an entry.
    pub(super) fn discard(&mut self, number: EntryNumber) {
        self.index.remove(self.entries.hash(number), number);
        self.entries.discard(number);
    }

    /// Keeps the entries that `keep` says, which is given these entries and a number.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut Entries<K, V>, EntryNumber) -> Result<bool>) -> Result<()> {
        let mut next = 0;
        while let Some(number) = self.entries.next_in_use(next) {
            next = number.index() + 1;
            if !keep(&mut self.entries, number)? {
                self.discard(number);
            }
        }
        Ok(())
    }

    /// Drops all entries and keeps the tables.
    pub(super) fn clear(&mut self) {
        self.index.clear();
        self.entries.clear();
    }

    /// All entries, which are not in the map any more; the index keeps its room.
    pub(super) fn take_entries(&mut self) -> Entries<K, V> {
        self.index.clear();
        let none = Entries::new(Arc::clone(self.entries.memory()));
        std::mem::replace(&mut self.entries, none)
    }

    pub(super) fn shrink(&mut self) -> Result<()> {
        let compacted = self.entries.compact(|hash, from, to| self.index.renumber(hash, from, to));
        let entries = &self.entries;
        self.index.shrink(|number| entries.hash(number)).and(compacted)
    }
}
