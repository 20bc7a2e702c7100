//! What the refusals in `compile_fail` must not refuse as well. Nothing runs but `main`: that it compiles is the test.
#![forbid(unsafe_code)]
#![deny(warnings)]
#![allow(dead_code)]

use farptr::rem_hash_map::{Drain, Entry, IntoIter, PinnedValue, PinnedValueMut, ValueMut};
use farptr::{Far, FarMemory, Pinned, PinnedMut, RemBox, RemHashMap, RemVec, Scope, ShardTask};
use std::cell::Cell;
use std::marker::PhantomData;
use std::rc::Rc;

fn is_send<T: Send>(_: &T) {}
fn are_send<T: Send>() {}
fn are_sync<T: Sync>() {}

/// Several references at a time, of one scope: shared ones of one owner, exclusive ones of different owners.
fn many_references(boxes: &mut [RemBox<u64>; 2], vec: &RemVec<u64>, map: &mut RemHashMap<u32, u64>) -> u64 {
    let mut scope = farptr::scope();
    let [first, second] = boxes;
    std::mem::swap(first.get_mut(&scope), second.get_mut(&scope));
    let both = (first.get(&scope), first.get(&scope));
    let elements = (vec.get(0, &scope), vec.slice_at(0, &scope), vec.iter(&scope));
    let entries = (map.get(&1, &scope), map.keys(&scope), map.values(&scope));
    let sum = both.0 + both.1 + elements.0.unwrap_or(&0) + entries.0.unwrap_or(&0);
    // All of them have had their last use.
    scope.refresh();
    map.insert(1, sum);
    let [mut least, mut most] = [u64::MAX, 0];
    for value in map.values_mut(&scope) {
        let value = value.unwrap();
        (least, most) = (least.min(*value), most.max(*value));
    }
    drop(scope);
    most - least
}

/// A reference lives as long as the shorter of owner and scope, and may be returned and kept that long.
fn longest<'a>(boxes: &'a [RemBox<str>], scope: &'a Scope) -> Option<&'a str> {
    boxes.iter().map(|text| text.get(scope)).max_by_key(|text| text.len())
}

/// All values at a time, for writing.
fn all_for_writing<'a>(map: &'a mut RemHashMap<u32, u64>, scope: &'a Scope) -> Vec<&'a mut u64> {
    map.values_mut(scope).map(Result::unwrap).collect()
}

/// The reference to an entry's value lives as long as the borrow of the map.
fn count<'a>(map: &'a mut RemHashMap<u32, u64>, scope: &'a Scope) -> &'a mut u64 {
    match map.entry(1) {
        Entry::Occupied(entry) => entry.into_mut(scope),
        Entry::Vacant(entry) => entry.insert(0).into_mut(scope),
    }
}

/// A reference goes to other threads while the scope stays on its own.
fn read_by_others(value: &RemBox<u64>) {
    let scope = farptr::scope();
    let reference = value.get(&scope);
    std::thread::scope(|threads| {
        threads.spawn(|| println!("{reference}"));
        threads.spawn(|| println!("{}", value.get(&farptr::scope())));
    });
}

/// Shorter borrows are taken where longer ones are offered.
fn shorter<'short, 'long: 'short>(
    pins: (Pinned<'long, u64>, PinnedMut<'long, u64>),
    iter: farptr::vec::Iter<'long, u64>,
    value: ValueMut<'long, u32, u64>,
) -> (Pinned<'short, u64>, PinnedMut<'short, u64>, farptr::vec::Iter<'short, u64>, ValueMut<'short, u32, u64>) {
    (pins.0, pins.1, iter, value)
}

/// May be sent, and not shared.
#[derive(Far)]
struct Own(u32, PhantomData<Cell<u8>>);

fn auto_traits() {
    are_send::<(FarMemory, RemBox<Own>, RemVec<Own>, RemHashMap<Own, Own>, IntoIter<Own, Own>, Drain<'_, Own, Own>)>();
    are_sync::<(FarMemory, RemBox<str>, RemVec<u8>, RemHashMap<u8, u8>)>();
    are_send::<(Pinned<'_, u64>, PinnedMut<'_, Own>, PinnedValue<'_, u8, u8>, PinnedValueMut<'_, u8, Own>)>();
    are_send::<(Entry<'_, u8, Own>, ValueMut<'_, u8, Own>, ShardTask<u64>)>();
    are_sync::<(Pinned<'_, u64>, PinnedMut<'_, u64>, ValueMut<'_, u8, u8>)>();
}

/// The async forms may move between the threads of an executor, and a pin across its awaits.
fn futures(value: &mut RemBox<u64>, own: &mut RemBox<Own>, vec: &RemVec<u64>, text: &RemBox<str>) {
    is_send(&value.with_async(|value| *value));
    is_send(&value.with_mut_async(|value| *value += 1));
    is_send(&value.pin_async());
    is_send(&own.pin_mut_async());
    is_send(&own.with_mut_async(|own| own.0));
    is_send(&vec.with_async(0, |value| *value));
    is_send(&async {
        let pin = text.pin_async().await?;
        std::future::ready(()).await;
        Ok::<usize, farptr::Error>(pin.len())
    });
    // The result of a closure need not be `Send`.
    is_send(&async { value.with_async(|value| drop(Rc::new(*value))).await });
}

/// On a thread of its own a future may hold a scope across an await, and what a shard runs need not be `Send`.
fn on_a_shard(mem: &FarMemory, value: RemBox<u64>) -> farptr::Result<ShardTask<u64>> {
    mem.spawn(0, move || async move {
        let scope = farptr::scope();
        let reference = value.get(&scope);
        let count = Rc::new(*reference);
        std::future::ready(()).await;
        *reference + *count
    })
}

/// Owners of owners.
#[derive(Far)]
struct Tree {
    label: RemBox<str>,
    weights: RemBox<[f32]>,
    children: Option<RemBox<[Option<RemBox<u8>>; 4]>>,
    left: Option<RemBox<Tree>>,
}

fn nested(mem: &FarMemory, tree: Tree) -> RemVec<RemBox<Tree>> {
    let mut vec = RemVec::new_in(mem);
    vec.push(RemBox::new_in(tree, mem));
    let mut map: RemHashMap<u32, RemBox<RemBox<Tree>>> = RemHashMap::new_in(mem);
    map.extend(vec.pop().map(|tree| (1, RemBox::new_in(tree, mem))));
    vec.extend(map.into_iter().map(|entry| entry.unwrap().1.into_inner()));
    vec
}

/// A closure that is called once may give away what it owns.
fn called_once(value: &RemBox<u64>, vec: &mut RemVec<u64>, owned: String) -> (String, Option<Vec<u64>>) {
    let more = vec![1, 2];
    (value.with(move |_| owned), vec.with_mut(0, move |_| more))
}

fn main() {}
