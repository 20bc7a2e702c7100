//! What writes can't be taken for something that writes a wider type: the narrower one would be read elsewhere.
//!
//! Types in far memory have no lifetimes of their own, so the wider and the narrower are signatures.

use farptr::rem_hash_map::{IterMut, PinnedValueMut, ValueMut, ValuesMut};
use farptr::{PinnedMut, RemBox, RemVec};
use std::marker::PhantomData;

type Any = PhantomData<for<'x> fn(&'x u8)>;
type Static = PhantomData<fn(&'static u8)>;

fn pin<'a>(narrow: PinnedMut<'a, Any>) -> PinnedMut<'a, Static> {
    narrow
}

fn pinned_value<'a>(narrow: PinnedValueMut<'a, u8, Any>) -> PinnedValueMut<'a, u8, Static> {
    narrow
}

fn value<'a>(narrow: ValueMut<'a, u8, Any>) -> ValueMut<'a, u8, Static> {
    narrow
}

fn iterator<'a>(narrow: IterMut<'a, u8, Any>) -> IterMut<'a, u8, Static> {
    narrow
}

fn values<'a>(narrow: ValuesMut<'a, u8, Any>) -> ValuesMut<'a, u8, Static> {
    narrow
}

fn reference_to_a_box<'a>(narrow: &'a mut RemBox<Any>) -> &'a mut RemBox<Static> {
    narrow
}

fn reference_to_a_vector<'a>(narrow: &'a mut RemVec<Any>) -> &'a mut RemVec<Static> {
    narrow
}

fn main() {}
