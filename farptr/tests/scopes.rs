//! What safe code may do to scopes, pins and drops, however odd, and what must hold nevertheless.

mod common;

use common::{alone, assert_empty, memory, numbers};
use farptr::{Error, Far, FarMemory, RemBox, RemVec};
use farptr_runtime::scope::{AccessHint, Hinted};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, OnceLock};
use std::time::{Duration, Instant};

/// Evacuates all the time, and fills what becomes free with other values, while `body` runs.
fn under_pressure(mem: &FarMemory, body: impl FnOnce()) {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    let running = Barrier::new(2);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut values = Vec::new();
            running.wait();
            while !stop.load(Ordering::Relaxed) {
                values.extend(RemBox::try_new_in([u64::MAX; 64], mem));
                if values.len() > 4000 {
                    values.clear();
                }
            }
        });
        running.wait();
        let _stop = Stop(&stop);
        body();
    });
}

/// Long enough for everything local to be evacuated and overwritten, if nothing held it.
const HELD: Duration = Duration::from_millis(20);

fn far_values(mem: &FarMemory, count: u64) -> Vec<RemBox<[u64; 64]>> {
    let values = (0..count).map(|n| RemBox::new_in([n; 64], mem)).collect();
    mem.evacuate_all().unwrap();
    values
}

/// Makes most of the values local, waiting for memory, as it can't be waited for inside a scope. As in a scan, so that they leave before all others.
fn bring_in(values: &[RemBox<[u64; 64]>]) {
    let _scan = Hinted::new(AccessHint::NonTemporal);
    values.iter().for_each(|value| value.with(|_| ()));
}

#[test]
fn refresh_of_a_nested_scope_keeps_the_outer_ones_references() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let values = far_values(&mem, 64);
    under_pressure(&mem, || {
        for _ in 0..10 {
            bring_in(&values);
            let outer = farptr::scope_non_temporal();
            let held: Vec<_> = values.iter().map_while(|value| value.try_get(&outer).ok()).collect();
            let until = Instant::now() + HELD;
            while Instant::now() < until {
                let mut inner = farptr::scope();
                inner.refresh();
                drop(inner);
                std::thread::yield_now();
                for (n, value) in held.iter().enumerate() {
                    assert_eq!(**value, [n as u64; 64]);
                }
            }
            assert!(!held.is_empty());
            drop(held);
            drop(outer);
        }
    });
}

#[test]
fn scopes_may_end_in_any_order() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let values = far_values(&mem, 64);
    under_pressure(&mem, || {
        for _ in 0..10 {
            bring_in(&values);
            let first = farptr::scope();
            let mut second = farptr::scope_non_temporal();
            let _ = values[0].try_get(&first);
            drop(first);
            let held: Vec<_> = values.iter().map_while(|value| value.try_get(&second).ok()).collect();
            let until = Instant::now() + HELD;
            while Instant::now() < until {
                std::thread::yield_now();
                for (n, value) in held.iter().enumerate() {
                    assert_eq!(**value, [n as u64; 64]);
                }
            }
            assert!(!held.is_empty());
            second.refresh();
        }
    });
}

#[test]
fn a_hint_ends_with_the_scopes_whatever_their_order() {
    let _alone = alone();
    let first = farptr::scope_non_temporal();
    let second = farptr::scope();
    drop(first);
    drop(second);
    assert_eq!(farptr::scope().hint(), AccessHint::Normal);
}

#[test]
fn evacuating_everything_from_within_a_scope_comes_back() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let value = RemBox::new_in([1u64; 64], &mem);
    let scope = farptr::scope();
    let reference = value.get(&scope);
    let started = Instant::now();
    mem.evacuate_all().unwrap();
    // It waits for nothing; its timeout would be five seconds.
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(*reference, [1; 64]);
    assert!(value.is_local());
    drop(scope);
    mem.evacuate_all().unwrap();
    assert!(!value.is_local());
}

#[test]
fn a_panic_in_a_closure_ends_its_scope_and_its_borrow() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let mut value = RemBox::new_in([1u64; 64], &mem);
    let mut vec = RemVec::new_in(&mem);
    vec.extend(0..10_000u64);
    mem.evacuate_all().unwrap();
    let unwound = [
        catch_unwind(AssertUnwindSafe(|| value.with(|_| panic!("in with")))).is_err(),
        catch_unwind(AssertUnwindSafe(|| {
            value.with_mut(|value| {
                value[0] = 2;
                panic!("in with_mut")
            })
        }))
        .is_err(),
        catch_unwind(AssertUnwindSafe(|| vec.for_each_slice(.., |_, _| panic!("in for_each_slice")))).is_err(),
        catch_unwind(AssertUnwindSafe(|| {
            let _pin = value.pin_mut();
            panic!("with a pin")
        }))
        .is_err(),
    ];
    assert_eq!(unwound, [true; 4]);
    assert!(!farptr_runtime::scope::in_scope());
    mem.evacuate_all().unwrap();
    assert!(!value.is_local());
    assert!(value.with(|value| value[..2] == [2, 1]));
    assert_eq!(vec.with(9_999, |n| *n), Some(9_999));
    drop((value, vec));
    assert_empty(&mem);
}

#[test]
fn forgotten_pins_hold_neither_the_next_object_of_the_slot_nor_a_writer() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let mut value = RemBox::new_in([1u64; 64], &mem);
    (0..300).for_each(|_| std::mem::forget(value.pin()));
    std::mem::forget(value.pin_mut());
    value.with_mut(|value| value[0] = 2);
    mem.evacuate_all().unwrap();
    assert!(value.is_local() && value.with(|value| value[0] == 2));
    drop(value);
    // A slot that was given back is the next to be taken.
    let value = RemBox::new_in([3u64; 64], &mem);
    drop((0..300).map(|_| value.pin()).collect::<Vec<_>>());
    mem.evacuate_all().unwrap();
    assert!(!value.is_local());
    assert_eq!(value.with(|value| value[0]), 3);
    drop(value);
    assert_empty(&mem);
}

static RUNNING: OnceLock<FarMemory> = OnceLock::new();
static DROPPED: AtomicUsize = AtomicUsize::new(0);

/// Uses far memory in its `Drop`.
#[derive(Far)]
struct Busy {
    others: RemBox<[u64]>,
    next: Option<RemBox<Busy>>,
}

impl Busy {
    fn new(next: Option<RemBox<Busy>>, mem: &FarMemory) -> Self {
        Busy { others: RemBox::from_slice_in(&std::array::from_fn::<u64, 200, _>(|i| i as u64), mem), next }
    }
}

impl Busy {
    fn work(&self) -> Result<bool, Error> {
        let mem = RUNNING.get().unwrap();
        let mut copy = RemVec::new_in(mem);
        copy.try_extend_from_slice(&self.others.try_with(<[u64]>::to_vec)?)?;
        let more: Vec<_> = (0..20).map(|n| RemBox::try_new_in([n; 64], mem)).collect::<Result<_, _>>()?;
        let next = self.next.as_ref().map_or(Ok(200), |next| next.try_with(|next| next.others.len()))?;
        Ok(next == 200 && copy.try_pop()? == Some(199) && more.iter().enumerate().all(|(n, v)| v.with(|v| v[63] == n as u64)))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        match self.work() {
            Ok(true) => DROPPED.fetch_add(1, Ordering::Relaxed),
            wrong => panic!("{wrong:?}"),
        };
    }
}

#[test]
fn a_drop_may_use_far_memory() {
    let _alone = alone();
    let mem = RUNNING.get_or_init(|| memory(1 << 20));
    let mut chain: Option<RemBox<Busy>> = None;
    for _ in 0..300 {
        chain = Some(RemBox::new_in(Busy::new(chain, mem), mem));
    }
    let mut vec = RemVec::with_chunk_bytes_in(1024, mem);
    (0..300).for_each(|_| vec.push(Busy::new(None, mem)));
    mem.evacuate_all().unwrap();
    drop(chain);
    vec.truncate(111);
    drop(vec);
    assert_eq!(DROPPED.load(Ordering::Relaxed), 600);
    assert_empty(mem);
}

static COUNTED: AtomicUsize = AtomicUsize::new(0);

#[derive(Far)]
struct Counted(#[expect(dead_code, reason = "owned, to be dropped")] RemBox<u64>);

impl Drop for Counted {
    fn drop(&mut self) {
        COUNTED.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_vector_dropped_where_no_local_memory_can_be_had_drops_its_elements() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let mut far = RemVec::with_chunk_bytes_in(512, &mem);
    (0..1000).for_each(|n| far.push(Counted(RemBox::new_in(n, &mem))));
    mem.evacuate_all().unwrap();
    let values = far_values(&mem, 4000);
    let scope = farptr::scope();
    let held: Vec<_> = values.iter().map_while(|value| value.try_get(&scope).ok()).collect();
    assert!(matches!(values[held.len()].try_get(&scope), Err(Error::ScopeExhausted { .. })));
    drop(far);
    assert_eq!((COUNTED.load(Ordering::Relaxed), mem.stats().lost_drops), (1000, 0));
    assert!(held.iter().enumerate().all(|(n, value)| **value == [n as u64; 64]));
    drop(held);
    drop(scope);
    drop(values);
    assert_empty(&mem);
}

#[test]
fn room_for_any_number_of_nothings() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let mut units = RemVec::new_in(&mem);
    units.push(());
    units.try_reserve(usize::MAX - 1).unwrap();
    assert_eq!(units.capacity(), usize::MAX);
    units.push(());
    assert_eq!(units.len(), 2);
}

#[test]
fn interleaved_tasks_of_one_thread_keep_their_references() {
    let _alone = alone();
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    /// Gives way once.
    fn pause() -> impl Future<Output = ()> {
        let mut paused = false;
        std::future::poll_fn(move |_| if std::mem::replace(&mut paused, true) { Poll::Ready(()) } else { Poll::Pending })
    }
    let mem = memory(1 << 20);
    let values = far_values(&mem, 64);
    let (values, reads) = (&values, &Cell::new(0));
    under_pressure(&mem, || {
        bring_in(values);
        let mut tasks: Vec<Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
        for seed in 1..9 {
            tasks.push(Box::pin(async move {
                let mut next = numbers(seed);
                for _ in 0..10 {
                    let mut scope = farptr::scope_non_temporal();
                    for _ in 0..next() % 4 {
                        let n = next() % 64;
                        let Ok(value) = values[n as usize].try_get(&scope) else { break };
                        let until = Instant::now() + Duration::from_millis(next() % 10);
                        while Instant::now() < until {
                            pause().await;
                            assert_eq!(*value, [n; 64]);
                            reads.set(reads.get() + 1);
                        }
                        scope.refresh();
                    }
                    drop(scope);
                    pause().await;
                }
            }));
        }
        while !tasks.is_empty() {
            tasks.retain_mut(|task| task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
    });
    assert!(reads.get() > 1000 && !farptr_runtime::scope::in_scope());
}
