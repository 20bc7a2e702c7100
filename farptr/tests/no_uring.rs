//! What works where io_uring is forbidden, as in many containers: everything but shards. `cargo xtask test` runs these under such a filter and
//! says so by `FARPTR_TEST_NO_URING`; elsewhere they show that nothing else depends on io_uring being there.

mod common;

use common::{assert_empty, memory, numbers};
use farptr::{Error, FarMemory, RemBox, RemHashMap, RemVec};
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

/// Whether this is the step that forbids io_uring; then it must have.
fn is_forbidden() -> bool {
    let forbidden = std::env::var_os("FARPTR_TEST_NO_URING").is_some();
    if forbidden {
        assert!(farptr_runtime::sys::probe_io_uring().is_err(), "FARPTR_TEST_NO_URING is set, but io_uring is there");
    }
    forbidden
}

/// An executor of one future that knows nothing of glommio: the thread sleeps until it is woken.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        std::thread::park();
    }
}

#[cfg(not(feature = "shards"))]
#[test]
fn shards_are_refused_with_a_reason_where_they_are_not_built_in() {
    let error = FarMemory::builder().local_budget(1 << 20).shards(1).build().unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    assert!(error.to_string().contains("feature `shards`"), "{error}");
}

#[cfg(feature = "shards")]
#[test]
fn shards_are_refused_with_a_reason_where_there_is_no_uring() {
    let built = FarMemory::builder().local_budget(1 << 20).shards(1).build();
    if let Err(missing) = farptr_runtime::sys::probe_io_uring() {
        let error = built.unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
        let said = error.to_string();
        assert!(said.contains("io_uring") && said.contains("shards") && !said.contains('\n'), "{said}");
        assert!(said.contains(&missing), "it names the cause: {said}");
    } else {
        assert!(!is_forbidden());
        built.unwrap();
    }
    // Without shards there is nothing to refuse, and spawning says what is missing.
    let mem = memory(1 << 20);
    let error = mem.spawn(0, || async {}).map(drop).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
}

#[test]
fn blocking_forms_work_with_no_uring() {
    is_forbidden();
    let mem = memory(1 << 20);
    let mut next = numbers(1);
    let mut boxes: Vec<_> = (0..5000u64).map(|n| RemBox::new_in([n; 64], &mem)).collect();
    let mut vec = RemVec::new_in(&mem);
    vec.extend(0..200_000u64);
    let mut map = RemHashMap::new_in(&mem);
    for n in 0..5000u64 {
        map.insert(n, [n; 32]);
    }
    let large = RemBox::from_slice_in(&[7u8; 300_000], &mem);
    for _ in 0..20_000 {
        let n = next() % 5000;
        boxes[n as usize].with_mut(|value| value[1] += 1);
        assert_eq!(vec.with(n as usize, |value| *value), Some(n));
        assert_eq!(map.with(&n, |value| value[31]), Some(n));
    }
    assert_eq!(large.with(|bytes| bytes.iter().map(|b| u64::from(*b)).sum::<u64>()), 2_100_000);
    assert!(mem.stats().misses > 10_000, "{:?}", mem.stats());
    drop((boxes, vec, map, large));
    assert_empty(&mem);
}

#[test]
fn async_forms_work_on_any_executor_with_no_uring() {
    is_forbidden();
    let mem = memory(1 << 20);
    let mut boxes: Vec<_> = (0..4000u64).map(|n| RemBox::new_in([n; 64], &mem)).collect();
    let mut vec = RemVec::new_in(&mem);
    vec.extend(0..100_000u64);
    mem.evacuate_all().unwrap();
    block_on(async {
        for (n, value) in boxes.iter_mut().enumerate() {
            value.with_mut_async(|value| value[0] += 1).await.unwrap();
            assert_eq!(value.pin_async().await.unwrap()[..2], [n as u64 + 1, n as u64]);
        }
        assert_eq!(vec.with_async(77_777, |n| *n).await.unwrap(), Some(77_777));
    });
    drop((boxes, vec));
    assert_empty(&mem);
}
