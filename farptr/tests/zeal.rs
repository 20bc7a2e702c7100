//! Zeal itself: that it happens, that both fates do, and that what it gives up reads as such. Empty but under `--cfg farptr_zeal`.
//!
//! The first few hundred legal points of a thread are all due, those after them often, and each test has a thread of its own: what
//! happens does not depend on chance.
#![cfg(farptr_zeal)]

mod common;

use common::{alone, block_on, memory};
use farptr::{FarMemory, RemBox};
use farptr_runtime::scope::zeal::{Pass, passes};

const VALUE: [u64; 16] = [7; 16];

/// Where the value is, brought in if need be.
fn place(value: &RemBox<[u64; 16]>) -> *const [u64; 16] {
    let scope = farptr::scope();
    std::ptr::from_ref(value.get(&scope))
}

/// Whether all that was at `place` reads as given up.
#[cfg(not(farptr_asan))]
fn is_given_up(place: *const [u64; 16]) -> bool {
    // SAFETY: not a reference but a look at a page of the local heap, which stays mapped as long as the far memory of the caller; any bytes are
    // bytes. Nobody else uses that far memory meanwhile.
    let bytes = unsafe { place.cast::<[u8; 128]>().read_volatile() };
    bytes == [farptr_runtime::poison::GIVEN_UP; 128]
}

/// Whether AddressSanitizer would report any use of what was at `place`.
#[cfg(farptr_asan)]
fn is_given_up(place: *const [u64; 16]) -> bool {
    (0..128).all(|n| farptr_runtime::poison::is_forbidden(place.addr() + n))
}

/// Uses `value` until `happened` says so, at most for the points that are all due.
fn until(value: &RemBox<[u64; 16]>, mut happened: impl FnMut(*const [u64; 16]) -> bool) -> bool {
    (0..100).any(|_| {
        let before = place(value);
        happened(before)
    })
}

#[test]
fn objects_leave_and_move_and_the_far_log_is_cleaned() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let mut value = RemBox::new_in(VALUE, &mem);
    // Dead images, for the cleaner to have something to do.
    for n in 0..200 {
        value.with_mut(|value| value[0] = n);
    }
    for pass in [Pass::LetGo, Pass::Relocate, Pass::Clean] {
        assert!(passes(pass) > 10, "{pass:?}: {}", passes(pass));
    }
    let stats = mem.stats();
    assert!(stats.evacuated_objects > 50 && stats.relocated_objects > 20, "{stats:?}");
    assert!(value.with(|value| value[..2] == [199, 7]));
}

#[test]
fn the_place_of_an_object_that_has_left_is_poisoned() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let value = RemBox::new_in(VALUE, &mem);
    assert!(until(&value, |before| !value.is_local() && is_given_up(before)));
}

#[test]
fn the_place_that_an_object_was_relocated_from_is_poisoned() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let value = RemBox::new_in(VALUE, &mem);
    let relocated = || mem.stats().relocated_objects;
    let mut count = relocated();
    assert!(until(&value, |before| {
        let moved = std::mem::replace(&mut count, relocated()) < count;
        moved && value.is_local() && is_given_up(before)
    }));
}

#[test]
fn the_place_of_a_dropped_object_is_poisoned() {
    let _alone = alone();
    let mem = memory(1 << 20);
    for _ in 0..10 {
        let value = RemBox::new_in(VALUE, &mem);
        let before = place(&value);
        drop(value);
        assert!(is_given_up(before));
    }
}

/// Runs passes that have nothing to do with what a test holds.
fn points(mem: &FarMemory, count: u32) {
    for n in 0..count {
        drop(RemBox::new_in(n, mem));
    }
}

#[test]
fn what_is_pinned_stays_where_it_is() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let mut value = RemBox::new_in(VALUE, &mem);
    let pin = value.pin();
    let before = std::ptr::from_ref(&*pin);
    points(&mem, 100);
    assert!(std::ptr::eq(before, &*pin) && *pin == VALUE);
    drop(pin);
    let mut pin = value.pin_mut();
    pin[3] = 1;
    let before = std::ptr::from_ref(&*pin);
    points(&mem, 100);
    pin[4] = 2;
    assert!(std::ptr::eq(before, &*pin));
    drop(pin);
    assert!(value.with(|value| value[2..6] == [7, 1, 2, 7]));
}

/// Between the scope in which an object was made writable and its pin there is no moment at which it could leave: it would be written without
/// anybody's knowledge. Half of the legal points that there would be let go of everything.
#[test]
fn an_object_is_pinned_for_writing_before_its_scope_ends() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let mut value = RemBox::new_in(VALUE, &mem);
    for n in 0..40 {
        let mut pin = value.pin_mut();
        pin[3] = n;
        drop(pin);
        let mut pin = block_on(value.pin_mut_async()).unwrap();
        pin[4] = n;
        drop(pin);
        assert!(value.with(|value| value[2..6] == [7, n, n, 7]));
    }
    assert!(mem.stats().evacuated_objects > 40, "it leaves whenever it may: {:?}", mem.stats());
}

#[test]
fn what_a_scope_protects_stays_where_it_is() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let value = RemBox::new_in(VALUE, &mem);
    let scope = farptr::scope();
    let reference = value.get(&scope);
    // Another thread's points; they give up after a moment each, and rest.
    std::thread::scope(|threads| {
        threads.spawn(|| points(&mem, 300));
    });
    assert_eq!(*reference, VALUE);
}

#[test]
fn refresh_is_a_legal_point() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let value = RemBox::new_in(VALUE, &mem);
    let mut scope = farptr::scope();
    let left = (0..100).filter(|_| {
        assert_eq!(*value.get(&scope), VALUE);
        scope.refresh();
        !value.is_local()
    });
    assert!(left.count() > 20);
    // Inside another scope it is none.
    let reference = value.get(&scope);
    (0..100).for_each(|_| drop(farptr::scope().refresh()));
    assert!(value.is_local());
    assert_eq!(*reference, VALUE);
}
