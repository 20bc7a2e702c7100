//! Panics point to the line of the program that called, in every form that panics.

mod common;

use common::Farmemd;
use farptr::{Cursor, CursorMut, RemBox, RemHashMap, RemVec};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// The file of this thread's last panic.
    static PANICKED_IN: RefCell<String> = const { RefCell::new(String::new()) };
}

/// `form` panics, and says that it was here.
fn points_here<R>(name: &str, form: impl FnOnce() -> R) {
    PANICKED_IN.take();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(form()))).is_err(), "{name} does not fail without its server");
    assert_eq!(PANICKED_IN.take(), file!(), "{name}");
}

/// Takes local memory until there is none.
fn for_ever(mut form: impl FnMut()) {
    loop {
        form();
    }
}

#[test]
fn panics_point_to_the_caller() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICKED_IN.set(info.location().map_or_else(String::new, |location| location.file().to_owned()));
        default(info);
    }));
    let mut server = Farmemd::start("64MiB");
    let mem = server.memory(1 << 20);
    let new_vec = || {
        let mut vec = RemVec::new_in(&mem);
        vec.extend_from_slice(&[7_u64; 100_000]);
        vec
    };
    let new_map = || {
        (0..20_u64).map(|key| (key, [key; 100])).fold(RemHashMap::new_in(&mem), |mut map, (key, value)| {
            map.insert(key, value);
            map
        })
    };
    let new_box = || RemBox::new_in([7_u64; 100], &mem);
    let (mut value, mut moved, mut vec, mut map, mut popped) = (new_box(), Some(new_box()), new_vec(), new_map(), new_vec());
    let (mut kept, mut more, mut texts, mut slices) = (Vec::new(), RemHashMap::new_in(&mem), Vec::new(), Vec::new());
    mem.evacuate_all().unwrap();
    server.kill();

    points_here("RemBox::get", || value.get(&farptr::scope())[0]);
    points_here("RemBox::get_mut", || value.get_mut(&farptr::scope())[0] = 1);
    points_here("RemBox::with", || value.with(|_| ()));
    points_here("RemBox::with_mut", || value.with_mut(|_| ()));
    points_here("RemBox::pin", || value.pin());
    points_here("RemBox::pin_mut", || value.pin_mut());
    points_here("RemBox::into_inner", || moved.take().unwrap().into_inner());
    points_here("Cursor::new", || Cursor::new(&value));
    points_here("CursorMut::new", || CursorMut::new(&mut value));

    points_here("RemVec::get", || vec.get(5, &farptr::scope()).copied());
    points_here("RemVec::get_mut", || vec.get_mut(5, &farptr::scope()).copied());
    points_here("RemVec::with", || vec.with(5, |_| ()));
    points_here("RemVec::with_mut", || vec.with_mut(5, |_| ()));
    points_here("RemVec::get_copied", || vec.get_copied(5));
    points_here("RemVec::pin", || vec.pin(5));
    points_here("RemVec::for_each_slice", || vec.for_each_slice(.., |_, _| ()));
    points_here("RemVec::for_each_slice_mut", || vec.for_each_slice_mut(.., |_, _| ()));
    points_here("RemVec::for_each_slice, out of bounds", || vec.for_each_slice(..200_000, |_, _| ()));
    points_here("RemVec::swap_remove", || vec.swap_remove(5));
    points_here("RemVec::swap_remove, out of bounds", || vec.swap_remove(200_000));
    points_here("RemVec::pop", || popped.pop());

    points_here("RemHashMap::get", || map.get(&5, &farptr::scope()).copied());
    points_here("RemHashMap::get_mut", || map.get_mut(&5, &farptr::scope()).copied());
    points_here("RemHashMap::get_key_value", || map.get_key_value(&5, &farptr::scope()).map(|(key, _)| *key));
    points_here("RemHashMap::contains_key", || map.contains_key(&5));
    points_here("RemHashMap::with", || map.with(&5, |_| ()));
    points_here("RemHashMap::with_mut", || map.with_mut(&5, |_| ()));
    points_here("RemHashMap::get_cloned", || map.get_cloned(&5));
    points_here("RemHashMap::pin", || map.pin(&5));
    points_here("RemHashMap::pin_mut", || map.pin_mut(&5));
    points_here("RemHashMap::for_each", || map.for_each(|_, _| ()));
    points_here("RemHashMap::for_each_mut", || map.for_each_mut(|_, _| ()));
    points_here("RemHashMap::retain", || map.retain(|_, _| true));
    points_here("RemHashMap::retain_mut", || map.retain_mut(|_, _| true));
    points_here("RemHashMap::entry", || map.entry(5));
    points_here("RemHashMap::insert of what is there", || map.insert(5, [0; 100]));
    points_here("RemHashMap::remove", || map.remove(&5));
    points_here("RemHashMap::remove_entry", || map.remove_entry(&5));

    points_here("RemBox::new_in", || for_ever(|| kept.push(new_box_in(&mem))));
    kept.clear();
    points_here("RemBox::from_str_in", || for_ever(|| texts.push(RemBox::from_str_in(&"far".repeat(300), &mem))));
    texts.clear();
    points_here("RemBox::from_slice_in", || for_ever(|| slices.push(RemBox::from_slice_in(&[7_u64; 100], &mem))));
    slices.clear();
    points_here("RemVec::push", || for_ever(|| vec.push(7)));
    points_here("RemVec::extend", || vec.extend(0..1 << 20));
    points_here("RemVec::extend_from_slice", || vec.extend_from_slice(&vec![7; 1 << 20]));
    points_here("RemVec::reserve", || vec.reserve(1 << 30));
    points_here("RemHashMap::extend", || more.extend((0..20_000).map(|key| (key, [key; 100]))));
    points_here("RemHashMap::reserve", || more.reserve(1 << 30));
}

fn new_box_in(mem: &farptr::FarMemory) -> RemBox<[u64; 100]> {
    RemBox::new_in([7; 100], mem)
}
