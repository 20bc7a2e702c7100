//! A scan leaves a hot set alone. How often a skewed load hits is in the evacuator's tests, where no thread's turn decides it.

mod common;

use common::{alone, memory, numbers, zeal_contradicts};
use farptr::{FarMemory, RemBox};

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
    // A new thread of the process makes the reserve larger until the heap has turned over, which a hot set of 40% of a small budget would pay for.
    let _alone = alone();
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
            assert_eq!(value.get(&scope)[0], number as u64);
            scope.refresh();
        }
    });
    assert!(left >= 0.95, "{left}");
}
