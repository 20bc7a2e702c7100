//! A scope that is forgotten outlives its thread: what was derefed in it stays where it is for ever, and nothing else does.
//!
//! Since the scope never ends, no object that was local then leaves again. That holds for the whole process, so this test has one to itself.
#![forbid(unsafe_code)]

use farptr::{Error, FarMemory, RemBox, RemHashMap, RemVec};
use std::time::{Duration, Instant};

const BUDGET: usize = 1 << 20;

/// How long an operation waits for memory: short, since here it waits in vain.
const TIMEOUT: Duration = Duration::from_millis(300);

type Value = [u64; 64];

/// References that no borrow checker ends any more: their owners and their scope are leaked.
struct Forever {
    value: &'static Value,
    element: &'static u64,
    entry: &'static Value,
    text: &'static str,
}

fn leak(mem: &FarMemory) -> Forever {
    let scope: &'static farptr::Scope = Box::leak(Box::new(farptr::scope()));
    let value: &'static RemBox<Value> = Box::leak(Box::new(RemBox::new_in([1; 64], mem)));
    let vec: &'static mut RemVec<u64> = Box::leak(Box::new(RemVec::new_in(mem)));
    vec.extend(0..100);
    let vec: &'static RemVec<u64> = vec;
    let map: &'static mut RemHashMap<u32, Value> = Box::leak(Box::new(RemHashMap::new_in(mem)));
    map.insert(3, [3; 64]);
    let map: &'static RemHashMap<u32, Value> = map;
    let text: &'static RemBox<str> = Box::leak(Box::new(RemBox::from_str_in("for ever", mem)));
    Forever {
        value: value.get(scope),
        element: vec.get(99, scope).unwrap(),
        entry: map.get(&3, scope).unwrap(),
        text: text.get(scope),
    }
}

fn check(forever: &Forever) {
    assert_eq!(*forever.value, [1; 64]);
    assert_eq!(*forever.element, 99);
    assert_eq!(*forever.entry, [3; 64]);
    assert_eq!(forever.text, "for ever");
}

#[test]
fn references_of_a_forgotten_scope_outlive_its_thread_and_evacuation_frees_nothing_under_them() {
    let mem = FarMemory::builder().local_budget(BUDGET).timeout(TIMEOUT).build().unwrap();
    let before: Vec<_> = (0..200).map(|n| RemBox::new_in([n; 64], &mem)).collect();
    mem.evacuate_all().unwrap();
    assert!(before.iter().all(|value| !value.is_local()), "without a scope all leaves");

    let forever = std::thread::scope(|threads| threads.spawn(|| leak(&mem)).join().unwrap());
    check(&forever);
    assert!(!farptr_runtime::scope::in_scope(), "the scope was the other thread's");

    // Asking for all of it to leave comes back, with everything where it was.
    let started = Instant::now();
    mem.evacuate_all().unwrap();
    check(&forever);
    assert!(started.elapsed() < Duration::from_secs(60));

    // Whoever needs more memory than is left gets an error, and so does everybody after.
    let mut more = Vec::new();
    let refused = loop {
        match RemBox::try_new_in([7u64; 64], &mem) {
            Ok(value) => more.push(value),
            Err(error) => break error,
        }
        assert!(more.len() < 2 * BUDGET / size_of::<Value>(), "more than the budget was handed out");
    };
    assert!(matches!(refused, Error::OutOfLocalMemory { .. }), "{refused:?}");
    assert!(matches!(before[0].try_with(|_| ()), Err(Error::OutOfLocalMemory { .. }) | Ok(())));
    check(&forever);
    assert!(mem.stats().local_used_bytes <= BUDGET as u64);

    // What is local can be used, from any thread, and what is dropped is gone.
    more.iter().for_each(|value| value.with(|value| assert_eq!(*value, [7; 64])));
    drop(more);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                drop(farptr::scope());
                check(&forever);
            });
        }
    });
    drop(before);
    assert!(mem.stats().lost_drops == 0 && mem.trim().is_ok());
    check(&forever);
}
