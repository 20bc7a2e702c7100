//! The index: from a key's hash to the numbers of entries that may be meant.
#![forbid(unsafe_code)]

use super::charged::Charged;
use super::hash::StoredHash;
use super::row::{EntryNumber, MAX_ENTRIES};
use super::too_many;
use farptr_runtime::Result;
use farptr_runtime::memory::Memory;
use hashbrown::{HashTable, TryReserveError};
use std::sync::Arc;

/// When the index has no bucket left, though one in this many that it may use is not in use but was, it is put in order instead of doubled.
/// So its buckets take 12 bytes an entry at most (5 * 16/7 * 32/31), and putting it in order moves 32 entries for each that comes.
const CHURN: usize = 32;

/// Entry numbers by hash. It keeps no hashes: who owns the entries says what they are.
pub(super) struct Index {
    numbers: HashTable<EntryNumber, Charged>,
}

impl Index {
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        Index { numbers: HashTable::new_in(Charged::new(memory)) }
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// How many entries it can hold before it must grow.
    pub(super) fn capacity(&self) -> usize {
        self.numbers.capacity()
    }

    /// Makes room for `additional` more. On an error nothing has changed.
    #[inline]
    pub(super) fn reserve(&mut self, additional: usize, hash_of: impl Fn(EntryNumber) -> StoredHash) -> Result<()> {
        let free = self.numbers.capacity() - self.numbers.len();
        if additional <= free { Ok(()) } else { self.grow(additional, hash_of) }
    }

    #[cold]
    fn grow(&mut self, additional: usize, hash_of: impl Fn(EntryNumber) -> StoredHash) -> Result<()> {
        let wanted = self.numbers.len().saturating_add(additional);
        if wanted > MAX_ENTRIES {
            return Err(too_many(wanted));
        }
        let full = self.numbers.num_buckets() / 8 * 7;
        if wanted > full / 2 && wanted <= full - full / CHURN {
            // Not full, but many buckets stand for entries that were removed. hashbrown would double.
            return self.rebuild(full, hash_of);
        }
        self.allocate(additional, |number| hash_of(*number).for_index())
    }

    /// Lets hashbrown make room for `additional` more, and pays for it.
    fn allocate(&mut self, additional: usize, hasher: impl Fn(&EntryNumber) -> u64) -> Result<()> {
        let layout = match self.numbers.try_reserve(additional, &hasher) {
            // Many had been removed: it has been put in order in place.
            Ok(()) => return Ok(()),
            Err(TryReserveError::CapacityOverflow) => return Err(too_many(self.numbers.len().saturating_add(additional))),
            Err(TryReserveError::AllocError { layout }) => layout,
        };
        self.numbers.allocator().pay(layout.size())?;
        // The outcome is told by whether the money was spent.
        let _ = self.numbers.try_reserve(additional, &hasher);
        self.numbers.allocator().settle()
    }

    /// Moves all entries to a new table with room for `capacity`.
    fn rebuild(&mut self, capacity: usize, hash_of: impl Fn(EntryNumber) -> StoredHash) -> Result<()> {
        let mut fresh = Index::new(Arc::clone(self.numbers.allocator().memory()));
        fresh.allocate(capacity, |number| hash_of(*number).for_index())?;
        for number in &self.numbers {
            fresh.insert(hash_of(*number), *number, &hash_of);
        }
        *self = fresh;
        Ok(())
    }

    /// The first entry of `hash` for which `is_it` holds.
    #[inline]
    pub(super) fn find(&self, hash: StoredHash, mut is_it: impl FnMut(EntryNumber) -> bool) -> Option<EntryNumber> {
        self.numbers.find(hash.for_index(), |number| is_it(*number)).copied()
    }

    /// Adds an entry that is not there. Room has been reserved.
    pub(super) fn insert(&mut self, hash: StoredHash, number: EntryNumber, hash_of: impl Fn(EntryNumber) -> StoredHash) {
        debug_assert!(self.numbers.len() < self.numbers.capacity(), "room is reserved before an entry is made");
        self.numbers.insert_unique(hash.for_index(), number, |number| hash_of(*number).for_index());
    }

    /// Removes an entry.
    pub(super) fn remove(&mut self, hash: StoredHash, number: EntryNumber) {
        let entry = self.numbers.find_entry(hash.for_index(), |other| *other == number);
        entry.expect("every entry in use is in the index under its noted hash").remove();
    }

    /// The entry of `hash` has another number.
    pub(super) fn renumber(&mut self, hash: StoredHash, from: EntryNumber, to: EntryNumber) {
        let number = self.numbers.find_mut(hash.for_index(), |other| *other == from);
        *number.expect("every entry in use is in the index under its noted hash") = to;
    }

    /// Forgets all entries and keeps the room.
    pub(super) fn clear(&mut self) {
        self.numbers.clear();
    }

    /// Gives back room that its entries do not need.
    pub(super) fn shrink(&mut self, hash_of: impl Fn(EntryNumber) -> StoredHash) -> Result<()> {
        let (len, buckets) = (self.numbers.len(), self.numbers.num_buckets());
        // Of half as many buckets, 7 in 8 may be used. With so few buckets hashbrown has its own rules, and it is about bytes.
        let worthwhile = if buckets >= 16 { len <= buckets / 16 * 7 } else { len == 0 && buckets > 0 };
        if !worthwhile {
            return Ok(());
        }
        // Not by hashbrown's `shrink_to_fit`, which aborts the process if it can't allocate.
        self.rebuild(len, hash_of)
    }
}
