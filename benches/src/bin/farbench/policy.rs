//! Policies that say what stays local, on a trace of objects of one size: how many misses could not have been avoided, or by what.

use lru::LruCache;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::num::NonZeroUsize;

/// Misses in the second half of a trace, of a cache of `capacity` objects that evicts the least recently used.
pub(crate) fn lru(trace: &[u32], capacity: NonZeroUsize) -> usize {
    let mut cache = LruCache::new(capacity);
    misses(trace, |key| {
        let hit = cache.get(&key).is_some();
        if !hit {
            cache.put(key, ());
        }
        hit
    })
}

/// Of S3-FIFO, exact and by objects (Yang et al., SOSP 2023): a small queue of a tenth, a main queue, a ghost queue as long as the main one,
/// counters up to 3.
pub(crate) fn s3_fifo(trace: &[u32], capacity: NonZeroUsize) -> usize {
    let mut cache = S3Fifo::new(capacity.get());
    misses(trace, |key| cache.access(key))
}

/// Of Belady's: evicts what is needed last. Nothing that fetches on demand can do better.
pub(crate) fn belady(trace: &[u32], capacity: NonZeroUsize) -> usize {
    let mut next = vec![usize::MAX; trace.len()];
    let mut last: HashMap<u32, usize> = HashMap::new();
    for (at, key) in trace.iter().enumerate().rev() {
        if let Some(later) = last.insert(*key, at) {
            next[at] = later;
        }
    }
    // Objects that are present, by when they are needed next. Those that never are needed again come last, and are told apart by their keys.
    let mut present: HashMap<u32, usize> = HashMap::new();
    let mut by_next: BTreeSet<(usize, u32)> = BTreeSet::new();
    let mut at = 0;
    misses(trace, |key| {
        let needed = next[at];
        at += 1;
        let was = present.insert(key, needed);
        if let Some(was) = was {
            by_next.remove(&(was, key));
        }
        by_next.insert((needed, key));
        if present.len() > capacity.get()
            && let Some((_, evicted)) = by_next.pop_last()
        {
            present.remove(&evicted);
        }
        was.is_some()
    })
}

/// The first half of the trace only warms up.
fn misses(trace: &[u32], mut access: impl FnMut(u32) -> bool) -> usize {
    let warm = trace.len() / 2;
    trace.iter().enumerate().filter(|(at, key)| !access(**key) && *at >= warm).count()
}

struct S3Fifo {
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    /// Keys of what left the small queue unused, with those that are still ghosts.
    ghost: VecDeque<u32>,
    ghosts: HashSet<u32>,
    uses: HashMap<u32, u8>,
    capacity: usize,
    small_capacity: usize,
}

impl S3Fifo {
    fn new(capacity: usize) -> Self {
        S3Fifo {
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghost: VecDeque::new(),
            ghosts: HashSet::new(),
            uses: HashMap::new(),
            capacity,
            small_capacity: (capacity / 10).max(1),
        }
    }

    fn access(&mut self, key: u32) -> bool {
        if let Some(uses) = self.uses.get_mut(&key) {
            *uses = (*uses + 1).min(3);
            return true;
        }
        while self.small.len() + self.main.len() >= self.capacity {
            if self.small.len() >= self.small_capacity || self.main.is_empty() {
                self.evict_small();
            } else {
                self.evict_main();
            }
        }
        let queue = if self.ghosts.remove(&key) { &mut self.main } else { &mut self.small };
        queue.push_back(key);
        self.uses.insert(key, 0);
        false
    }

    fn evict_small(&mut self) {
        while let Some(key) = self.small.pop_front() {
            if self.uses.get(&key).is_some_and(|uses| *uses > 1) {
                self.uses.insert(key, 0);
                self.main.push_back(key);
                continue;
            }
            self.uses.remove(&key);
            self.ghosts.insert(key);
            self.ghost.push_back(key);
            while self.ghost.len() > self.capacity - self.small_capacity {
                if let Some(gone) = self.ghost.pop_front() {
                    self.ghosts.remove(&gone);
                }
            }
            return;
        }
    }

    fn evict_main(&mut self) {
        while let Some(key) = self.main.pop_front() {
            match self.uses.get_mut(&key) {
                Some(uses) if *uses > 0 => {
                    *uses -= 1;
                    self.main.push_back(key);
                }
                _ => {
                    self.uses.remove(&key);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farptr_benches::random::zipf;

    const FIVE: NonZeroUsize = NonZeroUsize::new(5).expect("not zero");

    #[test]
    fn a_loop_larger_than_the_cache_defeats_lru_and_not_belady() {
        let trace: Vec<u32> = (0..600).map(|at| at % 6).collect();
        assert_eq!(lru(&trace, FIVE), 300);
        // Of six objects five can stay: one miss in five accesses, or fewer.
        assert!((40..=61).contains(&belady(&trace, FIVE)), "{}", belady(&trace, FIVE));
    }

    #[test]
    fn what_fits_never_misses_again() {
        let trace: Vec<u32> = (0..100).map(|at| at % 5).collect();
        for policy in [lru, s3_fifo, belady] {
            assert_eq!(policy(&trace, FIVE), 0);
        }
    }

    #[test]
    fn on_a_skewed_load_belady_beats_s3_fifo_and_that_beats_lru() {
        let trace = zipf(1000, 1.0, 20_000, 3);
        let capacity = NonZeroUsize::new(100).expect("not zero");
        let [lru, s3_fifo, belady] = [lru, s3_fifo, belady].map(|policy| policy(&trace, capacity));
        assert!(belady < s3_fifo && s3_fifo < lru, "{belady} {s3_fifo} {lru}");
    }
}
