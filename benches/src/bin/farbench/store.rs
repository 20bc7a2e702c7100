//! Stores of values by key, driven alike: what `hashmap` and `ycsb` are run on.

use crate::Outcome;
use farptr::{Far, FarMemory, RemHashMap};
use farptr_benches::random::{Random, object, word};
use std::collections::HashMap;
use std::hint::black_box;

/// Something that keeps a value of a fixed size for each key.
pub(crate) trait Store {
    /// Looks at first and last word of a value; says the last, which is the key.
    fn read(&mut self, key: u32) -> Outcome<Option<u64>>;

    /// Changes the first word of a value.
    fn update(&mut self, key: u32, to: u64) -> Outcome;

    /// Adds a value, or replaces it.
    fn insert(&mut self, key: u32) -> Outcome;

    /// What has to be known beside the figures of the operations since this was asked last.
    fn remark(&mut self) -> Option<String> {
        None
    }
}

/// Looks at both ends of a value.
pub(crate) fn look<const N: usize>(value: &[u64; N]) -> u64 {
    black_box(value[0]);
    value[N - 1]
}

/// A `HashMap` of std.
pub(crate) struct StdMap<const N: usize>(HashMap<u64, [u64; N]>);

impl<const N: usize> StdMap<N> {
    pub(crate) fn fill(count: usize) -> Self {
        StdMap((0..count as u64).map(|key| (key, object(key))).collect())
    }
}

impl<const N: usize> Store for StdMap<N> {
    fn read(&mut self, key: u32) -> Outcome<Option<u64>> {
        Ok(self.0.get(&u64::from(key)).map(look))
    }

    fn update(&mut self, key: u32, to: u64) -> Outcome {
        if let Some(value) = self.0.get_mut(&u64::from(key)) {
            value[0] = to;
        }
        Ok(())
    }

    fn insert(&mut self, key: u32) -> Outcome {
        self.0.insert(u64::from(key), object(u64::from(key)));
        Ok(())
    }
}

/// A `RemHashMap`.
pub(crate) struct FarMap<const N: usize>(RemHashMap<u64, [u64; N]>)
where
    [u64; N]: Far;

impl<const N: usize> FarMap<N>
where
    [u64; N]: Far,
{
    pub(crate) fn fill(mem: &FarMemory, count: usize) -> Outcome<Self> {
        let mut map = RemHashMap::new_in(mem);
        map.try_extend((0..count as u64).map(|key| (key, object(key))))?;
        Ok(FarMap(map))
    }
}

impl<const N: usize> Store for FarMap<N>
where
    [u64; N]: Far,
{
    fn read(&mut self, key: u32) -> Outcome<Option<u64>> {
        Ok(self.0.try_with(&u64::from(key), look)?)
    }

    fn update(&mut self, key: u32, to: u64) -> Outcome {
        self.0.try_with_mut(&u64::from(key), |value| value[0] = to)?;
        Ok(())
    }

    fn insert(&mut self, key: u32) -> Outcome {
        self.0.try_insert(u64::from(key), object(u64::from(key)))?;
        Ok(())
    }
}

/// Bytes of an entry with a value of `words` words, as far as it is data: key and value.
pub(crate) fn entry_bytes(words: usize) -> usize {
    8 + words * 8
}

/// A stream of reads and updates.
pub(crate) struct Driver {
    keys: Vec<u32>,
    at: usize,
    reads_percent: u32,
    random: Random,
}

impl Driver {
    /// Over these keys, again and again.
    pub(crate) fn new(keys: Vec<u32>, reads_percent: u32) -> Self {
        Driver { keys, at: 0, reads_percent, random: Random::seeded(99) }
    }

    /// Makes so many operations, and checks what is read.
    pub(crate) fn run(&mut self, store: &mut dyn Store, count: u64) -> Outcome<u64> {
        for _ in 0..count {
            let key = self.keys[self.at];
            self.at = if self.at + 1 == self.keys.len() { 0 } else { self.at + 1 };
            if self.reads_percent == 100 || self.random.below(100) < self.reads_percent as usize {
                assert_eq!(store.read(key)?, Some(u64::from(key)), "a value's last word is its key");
            } else {
                store.update(key, word(u64::from(key), self.at as u64))?;
            }
        }
        Ok(count)
    }
}

/// What a store says of a key that it has no value of.
#[cfg(test)]
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "alternatives"), expect(dead_code, reason = "only a cache makes values"))]
pub(crate) enum Missing {
    IsTold,
    IsMade,
}

/// Tests a store of 100 values, of keys from 0.
#[cfg(test)]
pub(crate) fn check(store: &mut dyn Store, missing: Missing) {
    assert_eq!(store.read(7).expect("a read"), Some(7));
    if missing == Missing::IsTold {
        assert_eq!(store.read(100).expect("a read"), None);
    }
    store.update(7, 1).expect("an update");
    store.insert(100).expect("an insert");
    assert_eq!(store.read(100).expect("a read"), Some(100));
    let mut driver = Driver::new((0..100).collect(), 50);
    assert_eq!(driver.run(store, 1000).expect("operations"), 1000);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_stores_do_the_same() {
        let mem = FarMemory::builder().local_budget(1 << 20).server("embedded:").build().expect("a far memory");
        check(&mut StdMap::<8>::fill(100), Missing::IsTold);
        check(&mut FarMap::<8>::fill(&mem, 100).expect("a map"), Missing::IsTold);
    }
}
