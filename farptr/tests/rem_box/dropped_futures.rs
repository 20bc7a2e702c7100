//! Futures that are dropped while they wait for local memory: what they waited for is as it was.

use crate::common::value::{Value, Wide, live};
use crate::common::{assert_empty, assert_released, block_on};
use farptr::{FarMemory, RemBox, RemVec};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

/// Polls a future some times, and drops it. Whether it was still waiting.
fn begun(future: impl Future, polls: u32) -> bool {
    let mut future = pin!(future);
    (0..polls).all(|_| future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending())
}

#[test]
fn future_dropped_while_it_waits_leaves_its_value_as_it_was() {
    // Short, since somebody waits in vain: the one who fills the memory.
    let mem = FarMemory::builder().local_budget(1 << 20).timeout(Duration::from_millis(200)).build().unwrap();
    let mut values: Vec<RemBox<Wide>> = (0..40).map(|id| RemBox::new_in(Wide::new(id), &mem)).collect();
    let mut vec: RemVec<Wide> = RemVec::with_chunk_bytes_in(size_of::<Wide>(), &mem);
    vec.extend((0..40).map(Wide::new));
    mem.evacuate_all().unwrap();

    let ballast: Vec<RemBox<[u8]>> = (0..1000).map(|_| RemBox::from_slice_in(&[7; 2000], &mem)).collect();
    let pins: Vec<_> = ballast.iter().map_while(|ballast| ballast.try_pin().ok()).collect();
    assert!(pins.len() < ballast.len(), "all of it fits");
    let mut waited = 0;
    for (n, value) in values.iter_mut().enumerate() {
        let polls = 1 + n as u32 % 3;
        waited += u32::from(match n % 5 {
            0 => begun(value.with_async(Wide::id), polls),
            1 => begun(value.with_mut_async(|value| value.rename(99)), polls),
            2 => begun(value.pin_async(), polls),
            3 => begun(value.pin_mut_async(), polls),
            _ => begun(vec.with_async(n, Wide::id), polls),
        });
    }
    assert!(waited > 20, "{waited} futures waited");
    drop(pins);

    assert_released(&mem);
    for (id, value) in values.iter_mut().enumerate() {
        // One that got through has done what it was to do.
        let now = block_on(value.with_async(Wide::id)).unwrap();
        assert!(now == id as u64 || id % 5 == 1 && now == 99, "{now} is not {id}");
        block_on(value.with_mut_async(|value| value.rename(7))).unwrap();
        assert_eq!(vec.with(id, Wide::id), Some(id as u64));
    }
    assert_released(&mem);
    assert!(values.iter().all(|value| !value.is_local() && value.with(Wide::id) == 7));
    drop((values, vec, ballast));
    assert_eq!((live(), mem.stats().lost_drops), (0, 0));
    assert_empty(&mem);
}
