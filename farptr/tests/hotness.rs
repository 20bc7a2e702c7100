//! What stays local: a scan leaves a hot set alone, and a skewed load misses about as little as under exact LRU.

mod common;

use common::{memory, numbers, zeal_contradicts};
use farptr::{FarMemory, RemBox};
use std::collections::{BTreeMap, HashMap};

const BUDGET: usize = 4 << 20;

type Value = RemBox<[u64]>;

/// What an object takes locally: contents, header, slot, rounding.
fn footprint(value: &Value) -> usize {
    (value.len() * 8).next_multiple_of(16) + 16 + 8
}

/// Objects of 256 B to 1 KiB, `bytes` of local memory in all.
fn values(mem: &FarMemory, bytes: usize, seed: u64) -> Vec<Value> {
    let mut next = numbers(seed);
    let mut values = Vec::new();
    let mut taken = 0;
    while taken < bytes {
        let value = RemBox::from_slice_in(&vec![values.len() as u64; (32 + next() % 97) as usize], mem);
        taken += footprint(&value);
        values.push(value);
    }
    values
}

fn touch(value: &Value, number: usize) {
    value.with(|value| assert_eq!(value[0], number as u64));
}

fn local_share(values: &[Value]) -> f64 {
    values.iter().filter(|value| value.is_local()).count() as f64 / values.len() as f64
}

/// How much of a hot set of 40% of the budget is local after one pass over ten times the budget.
fn left_of_a_hot_set(scan: impl FnOnce(&[Value])) -> f64 {
    let mem = memory(BUDGET);
    let cold = values(&mem, 10 * BUDGET, 1);
    let hot = values(&mem, BUDGET * 2 / 5, 2);
    let mut next = numbers(3);
    // Read until it has settled: every object some twenty times, at random.
    for _ in 0..20 * hot.len() {
        let number = next() as usize % hot.len();
        touch(&hot[number], number);
    }
    assert!(local_share(&hot) > 0.99, "the hot set is local: {}", local_share(&hot));
    scan(&cold);
    let left = local_share(&hot);
    println!("left of the hot set: {left:.3}; {:?}", mem.stats());
    left
}

#[test]
fn a_scan_leaves_most_of_the_hot_set_local() {
    if zeal_contradicts("a_scan_leaves_most_of_the_hot_set_local", "it measures what stays local, and nothing does") {
        return;
    }
    let left = left_of_a_hot_set(|cold| cold.iter().enumerate().for_each(|(number, value)| touch(value, number)));
    assert!(left >= 0.8, "{left}");
}

#[test]
fn a_non_temporal_scan_leaves_the_hot_set_local() {
    if zeal_contradicts("a_non_temporal_scan_leaves_the_hot_set_local", "it measures what stays local, and nothing does") {
        return;
    }
    let left = left_of_a_hot_set(|cold| {
        let mut scope = farptr::scope_non_temporal();
        for (number, value) in cold.iter().enumerate() {
            loop {
                match value.try_get(&scope) {
                    Ok(value) => break assert_eq!(value[0], number as u64),
                    Err(farptr::Error::ScopeExhausted { .. }) => scope.refresh(),
                    Err(error) => panic!("{error}"),
                }
            }
            scope.refresh();
        }
    });
    assert!(left >= 0.95, "{left}");
}

/// Exact LRU over objects of given sizes.
struct Lru {
    capacity: usize,
    used: usize,
    clock: u64,
    last: HashMap<usize, u64>,
    by_age: BTreeMap<u64, usize>,
}

impl Lru {
    fn new(capacity: usize) -> Self {
        Lru { capacity, used: 0, clock: 0, last: HashMap::new(), by_age: BTreeMap::new() }
    }

    /// Whether it was there.
    fn touch(&mut self, number: usize, size: impl Fn(usize) -> usize) -> bool {
        self.clock += 1;
        let before = self.last.insert(number, self.clock);
        self.by_age.insert(self.clock, number);
        if let Some(before) = before {
            self.by_age.remove(&before);
            return true;
        }
        self.used += size(number);
        while self.used > self.capacity {
            let (_, oldest) = self.by_age.pop_first().expect("something is in it");
            self.last.remove(&oldest);
            self.used -= size(oldest);
        }
        false
    }
}

/// Numbers by Zipf's law with exponent 1, spread over the objects in no order.
fn zipf(count: usize, seed: u64) -> impl FnMut() -> usize {
    let mut sums: Vec<f64> = (1..=count)
        .scan(0.0, |sum, rank| {
            *sum += 1.0 / rank as f64;
            Some(*sum)
        })
        .collect();
    let total = sums[count - 1];
    sums.iter_mut().for_each(|sum| *sum /= total);
    let mut next = numbers(seed);
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        order.swap(i, next() as usize % (i + 1));
    }
    move || {
        let at = (next() >> 11) as f64 / (1u64 << 53) as f64;
        order[sums.partition_point(|sum| *sum < at).min(count - 1)]
    }
}

fn hit_ratios(local_percent: usize) -> (f64, f64) {
    let mem = memory(BUDGET);
    let values = values(&mem, BUDGET * 100 / local_percent, 5);
    let mut lru = Lru::new(BUDGET);
    let mut draw = zipf(values.len(), 6);
    let size = |number: usize| footprint(&values[number]);
    for _ in 0..3 * values.len() {
        let number = draw();
        touch(&values[number], number);
        lru.touch(number, size);
    }
    let steps = 10 * values.len();
    let before = mem.stats().misses;
    let mut hits = 0;
    for _ in 0..steps {
        let number = draw();
        touch(&values[number], number);
        hits += u32::from(lru.touch(number, size));
    }
    let ours = 1.0 - (mem.stats().misses - before) as f64 / steps as f64;
    (ours, f64::from(hits) / steps as f64)
}

#[test]
fn a_skewed_load_hits_about_as_often_as_under_exact_lru() {
    if zeal_contradicts("a_skewed_load_hits_about_as_often_as_under_exact_lru", "it measures what stays local, and nothing does")
    {
        return;
    }
    for local_percent in [10, 25] {
        let (ours, lru) = hit_ratios(local_percent);
        println!("{local_percent}% local: {ours:.4}, LRU of the same bytes {lru:.4}");
        assert!(ours >= lru - 0.02, "{local_percent}% local: {ours} against {lru}");
    }
}
