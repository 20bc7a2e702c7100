//! [`RemHashMap`]: making one, and its size. Reading is in `read.rs`, changing in `write.rs`.
#![forbid(unsafe_code)]

use super::hash::StoredHash;
use super::ok;
use super::table::Table;
use crate::{Far, FarMemory};
use farptr_runtime::Result;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};

/// A hash map whose keys and values live in far memory.
///
/// As `std::collections::HashMap`, with differences where far memory makes them:
/// - What can fail has a form named `try_...` that returns a `Result`, and one that panics.
/// - A reference borrows a [`Scope`](crate::Scope) as well as the map: [`get`](Self::get), [`get_mut`](Self::get_mut), [`iter`](Self::iter). Without a scope
///   one works by closures: [`with`](Self::with), [`with_mut`](Self::with_mut), [`for_each`](Self::for_each); these can wait for local memory, which
///   inside a scope is an error (`ScopeExhausted`).
/// - Key and value of an entry are one far object; looking a key up fetches one object, or, for a key that is not there, none.
///
/// Local stays an index of at most 24 bytes an entry, which counts against the local budget: see the [module](crate::rem_hash_map). The map is not
/// `Far` itself: keep it beside the far data, not in it.
///
/// ```
/// use farptr::{FarMemory, RemHashMap};
///
/// let mem = FarMemory::builder().local_budget(4 << 20).build()?;
/// let mut pages = RemHashMap::new_in(&mem);
/// for id in 0..10_000u64 {
///     pages.insert(id, [id as u8; 512]); // 5 MB and more
/// }
/// pages.with_mut(&7, |page| page[0] = 1);
/// assert_eq!(pages.with(&7, |page| page[0]), Some(1));
/// {
///     let scope = farptr::scope();
///     assert_eq!(pages.get(&9, &scope), Some(&[9; 512]));
/// }
/// pages.entry(10_000).or_insert([0; 512]).with_mut(|page| page[1] += 1);
/// assert_eq!(pages.remove(&10_000).map(|page| page[1]), Some(1));
/// # Ok::<(), farptr::Error>(())
/// ```
///
/// References borrow the map, and the scope:
///
/// ```compile_fail,E0502
/// # let mem = farptr::FarMemory::builder().local_budget(4 << 20).build()?;
/// # let mut map = farptr::RemHashMap::<u32, u32>::new_in(&mem);
/// let scope = farptr::scope();
/// let value = map.get(&1, &scope);
/// map.insert(2, 2);
/// println!("{value:?}");
/// # Ok::<(), farptr::Error>(())
/// ```
/// ```compile_fail,E0505
/// # let mem = farptr::FarMemory::builder().local_budget(4 << 20).build()?;
/// # let mut map = farptr::RemHashMap::<u32, u32>::new_in(&mem);
/// let scope = farptr::scope();
/// let value = map.entry(1).or_default().into_mut(&scope);
/// drop(scope);
/// *value += 1;
/// # Ok::<(), farptr::Error>(())
/// ```
/// ```compile_fail,E0499
/// # let mem = farptr::FarMemory::builder().local_budget(4 << 20).build()?;
/// # let mut map = farptr::RemHashMap::<u32, u32>::new_in(&mem);
/// let mut pin = map.pin_mut(&1).unwrap();
/// map.with_mut(&1, |value| *value += 1);
/// *pin += 1;
/// # Ok::<(), farptr::Error>(())
/// ```
pub struct RemHashMap<K: Far, V: Far, S = RandomState> {
    pub(super) table: Table<K, V>,
    hasher: S,
}

impl<K: Far, V: Far> RemHashMap<K, V> {
    /// An empty map. Takes no memory until something is inserted.
    pub fn new_in(memory: &FarMemory) -> Self {
        Self::with_hasher_in(RandomState::new(), memory)
    }

    /// An empty map whose index has room for `capacity` entries.
    ///
    /// # Panics
    /// If there is no room: see [`try_with_capacity_in`](Self::try_with_capacity_in).
    #[track_caller]
    pub fn with_capacity_in(capacity: usize, memory: &FarMemory) -> Self {
        ok(Self::try_with_capacity_in(capacity, memory))
    }

    /// An empty map whose index has room for `capacity` entries.
    ///
    /// # Errors
    /// As [`try_reserve`](Self::try_reserve).
    pub fn try_with_capacity_in(capacity: usize, memory: &FarMemory) -> Result<Self> {
        Self::try_with_capacity_and_hasher_in(capacity, RandomState::new(), memory)
    }
}

impl<K: Far, V: Far, S> RemHashMap<K, V, S> {
    /// An empty map that hashes keys by `hasher`. Takes no memory until something is inserted.
    pub fn with_hasher_in(hasher: S, memory: &FarMemory) -> Self {
        RemHashMap { table: Table::new(memory.core()), hasher }
    }

    /// An empty map that hashes keys by `hasher`, and whose index has room for `capacity` entries.
    ///
    /// # Panics
    /// If there is no room: see [`try_with_capacity_and_hasher_in`](Self::try_with_capacity_and_hasher_in).
    #[track_caller]
    pub fn with_capacity_and_hasher_in(capacity: usize, hasher: S, memory: &FarMemory) -> Self {
        ok(Self::try_with_capacity_and_hasher_in(capacity, hasher, memory))
    }

    /// An empty map that hashes keys by `hasher`, and whose index has room for `capacity` entries.
    ///
    /// # Errors
    /// As [`try_reserve`](Self::try_reserve).
    pub fn try_with_capacity_and_hasher_in(capacity: usize, hasher: S, memory: &FarMemory) -> Result<Self> {
        let mut map = Self::with_hasher_in(hasher, memory);
        map.table.reserve(capacity)?;
        Ok(map)
    }

    /// What hashes the keys.
    pub fn hasher(&self) -> &S {
        &self.hasher
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries the index can hold before it grows. Entries themselves take memory one by one.
    pub fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// Drops all entries; far ones are fetched only if they have something to drop. Keeps the tables for reuse.
    pub fn clear(&mut self) {
        self.table.clear();
    }
}

impl<K: Far + Eq + Hash, V: Far, S: BuildHasher> RemHashMap<K, V, S> {
    /// Makes room in the index for `additional` more entries, so that it does not grow meanwhile.
    ///
    /// # Panics
    /// If there is no room: see [`try_reserve`](Self::try_reserve).
    #[track_caller]
    pub fn reserve(&mut self, additional: usize) {
        ok(self.try_reserve(additional));
    }

    /// Makes room in the index for `additional` more entries, so that it does not grow meanwhile.
    ///
    /// # Errors
    /// `OutOfLocalMemory` if the local budget can't hold the index, or, inside a scope, `ScopeExhausted`; `CapacityOverflow` for more than
    /// 2^32 - 1 entries. The map is as it was.
    pub fn try_reserve(&mut self, additional: usize) -> Result<()> {
        self.table.reserve(additional)
    }

    /// Gives back local memory that the entries do not need. Entries that have no company left in their row move to another: they are fetched, if
    /// they are far.
    ///
    /// # Panics
    /// If one can't be fetched: see [`try_shrink_to_fit`](Self::try_shrink_to_fit).
    #[track_caller]
    pub fn shrink_to_fit(&mut self) {
        ok(self.try_shrink_to_fit());
    }

    /// Gives back local memory that the entries do not need. Entries that have no company left in their row move to another: they are fetched, if
    /// they are far.
    ///
    /// # Errors
    /// As [`try_with`](Self::try_with), if an entry can't be fetched, and as [`try_reserve`](Self::try_reserve), if there is no room for a smaller index
    /// beside the present one. What could be given back has been.
    pub fn try_shrink_to_fit(&mut self) -> Result<()> {
        self.table.shrink()
    }

    #[inline]
    pub(super) fn hash_of<Q: Hash + ?Sized>(&self, key: &Q) -> StoredHash {
        StoredHash::of(&self.hasher, key)
    }
}

impl<K: Far, V: Far, S> fmt::Debug for RemHashMap<K, V, S> {
    /// Does not fetch the entries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemHashMap").field("len", &self.len()).field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}
