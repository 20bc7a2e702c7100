//! The 32 bits of a key's hash that a map keeps.
#![forbid(unsafe_code)]

use std::hash::{BuildHasher, Hash};

/// 2^64 divided by the golden ratio, odd: products with it spread what differs in few bits (Knuth, The Art of Computer Programming, 6.4).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// 32 bits made of a key's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredHash(u32);

impl StoredHash {
    /// The hash of `key`. Calls the user's code.
    #[inline]
    pub(super) fn of<Q: Hash + ?Sized>(hasher: &impl BuildHasher, key: &Q) -> Self {
        // The upper half of a product depends on all bits of the factor: hashers that differ in few bits, like the identity, are served too.
        StoredHash((hasher.hash_one(key).wrapping_mul(SPREAD) >> 32) as u32)
    }

    pub(super) const fn from_bits(bits: u32) -> Self {
        StoredHash(bits)
    }

    pub(super) const fn to_bits(self) -> u32 {
        self.0
    }

    /// 64 bits for the index, which takes a bucket from the lower and a tag from the upper ones.
    #[inline]
    pub(super) const fn for_index(self) -> u64 {
        let product = (self.0 as u64).wrapping_mul(SPREAD);
        product ^ product >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::{BuildHasherDefault, Hasher};

    #[derive(Default)]
    struct Identity(u64);

    impl Hasher for Identity {
        fn finish(&self) -> u64 {
            self.0
        }
        fn write(&mut self, _: &[u8]) {
            unreachable!("only u64 is hashed here")
        }
        fn write_u64(&mut self, n: u64) {
            self.0 = n;
        }
    }

    #[test]
    fn hasher_that_changes_few_bits_still_fills_buckets_and_tags_evenly() {
        let hasher = BuildHasherDefault::<Identity>::default();
        let families: [fn(u64) -> u64; 5] = [|n| n, |n| n << 32, |n| n << 40, |n| n << 32 | n, |n| n * 4096];
        for (family, key) in families.iter().enumerate() {
            let hashes: Vec<_> = (0..1u64 << 12).map(|n| StoredHash::of(&hasher, &key(n))).collect();
            let stored: HashSet<u32> = hashes.iter().map(|hash| hash.to_bits()).collect();
            let buckets: HashSet<u64> = hashes.iter().map(|hash| hash.for_index() % (1 << 12)).collect();
            let tags: HashSet<u64> = hashes.iter().map(|hash| hash.for_index() >> 57).collect();
            // 4096 balls thrown at random into as many buckets fill 2589 of them.
            assert!(stored.len() > 4000 && buckets.len() > 2000, "family {family}: {} {}", stored.len(), buckets.len());
            assert!(tags.len() > 100, "family {family}: {}", tags.len());
        }
    }
}
