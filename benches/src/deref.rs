//! Derefs of what is present, against what else a program would hold: each sums the first word of objects in a given order.
//!
//! All are kept out of line, so that their instructions can be looked at and counted.

use farptr::{RemBox, RemVec};
use std::sync::Arc;

/// What is looked at: 64 bytes.
pub type Object = [u64; 8];

/// Derefs of `RemBox` in one scope.
#[inline(never)]
pub fn sum_far(boxes: &[RemBox<Object>], order: &[u32]) -> u64 {
    let scope = farptr::scope();
    order.iter().fold(0, |sum, i| sum.wrapping_add(boxes[*i as usize].get(&scope)[0]))
}

/// Derefs of `Box`.
#[inline(never)]
pub fn sum_box(boxes: &[Box<Object>], order: &[u32]) -> u64 {
    order.iter().fold(0, |sum, i| sum.wrapping_add(boxes[*i as usize][0]))
}

/// Derefs of `Arc`.
#[inline(never)]
pub fn sum_arc(boxes: &[Arc<Object>], order: &[u32]) -> u64 {
    order.iter().fold(0, |sum, i| sum.wrapping_add(boxes[*i as usize][0]))
}

/// Elements of a `Vec`, by index.
#[inline(never)]
pub fn sum_index(objects: &[Object], order: &[u32]) -> u64 {
    order.iter().fold(0, |sum, i| sum.wrapping_add(objects[*i as usize][0]))
}

/// Three dependent loads, as behind a far pointer (pointer, table, object), and nothing else: the floor for a pointer that can be moved while its object can
/// be moved, too.
#[inline(never)]
pub fn sum_by_table(pointers: &[&&Object], order: &[u32]) -> u64 {
    order.iter().fold(0, |sum, i| sum.wrapping_add(pointers[*i as usize][0]))
}

/// Elements of a `RemVec` in one scope.
#[inline(never)]
pub fn sum_vec(far: &RemVec<Object>, order: &[u32]) -> u64 {
    let scope = farptr::scope();
    order.iter().fold(0, |sum, i| sum.wrapping_add(far.get(*i as usize, &scope).expect("an index in bounds")[0]))
}

/// Derefs of `RemBox`, each in a scope of its own.
#[inline(never)]
pub fn sum_scope_each(boxes: &[RemBox<Object>], order: &[u32]) -> u64 {
    order.iter().fold(0, |sum, i| sum.wrapping_add(boxes[*i as usize].get(&farptr::scope())[0]))
}

/// Derefs of `Box`, each under a pin of crossbeam-epoch: the reference that a scope is measured against.
#[inline(never)]
pub fn sum_pin_each(boxes: &[Box<Object>], order: &[u32]) -> u64 {
    order.iter().fold(0, |sum, i| {
        let _guard = crossbeam_epoch::pin();
        sum.wrapping_add(boxes[*i as usize][0])
    })
}

/// Writes through `RemBox` in one scope.
#[inline(never)]
pub fn write_far(boxes: &mut [RemBox<Object>], order: &[u32]) {
    let scope = farptr::scope();
    order.iter().for_each(|i| boxes[*i as usize].get_mut(&scope)[0] += 1);
}

/// Writes through `Box`.
#[inline(never)]
pub fn write_box(boxes: &mut [Box<Object>], order: &[u32]) {
    order.iter().for_each(|i| boxes[*i as usize][0] += 1);
}
