//! Iterators over a vector.
#![forbid(unsafe_code)]

use super::RemVec;
use crate::{Far, Scope};
use farptr_runtime::Result;

/// References to the elements, in order. See [`RemVec::iter`].
#[derive(Debug)]
pub struct Iter<'a, T: Far> {
    vec: &'a RemVec<T>,
    scope: &'a Scope,
    slice: std::slice::Iter<'a, T>,
    /// Of the first element behind `slice`.
    next: usize,
}

impl<'a, T: Far> Iterator for Iter<'a, T> {
    type Item = Result<&'a T>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(element) = self.slice.next() {
            return Some(Ok(element));
        }
        match self.vec.try_slice_at(self.next, self.scope) {
            Ok(slice) => {
                self.next += slice.len();
                self.slice = slice.iter();
                self.slice.next().map(Ok)
            }
            Err(error) => Some(Err(error)),
        }
    }
}

impl<T: Far> RemVec<T> {
    /// References to all elements. They all borrow one scope, so a vector larger than the local budget exhausts it; for
    /// those use [`for_each_slice`](RemVec::for_each_slice). An error is given again by the next call: stop at the first.
    pub fn iter<'a>(&'a self, scope: &'a Scope) -> Iter<'a, T> {
        Iter { vec: self, scope, slice: [].iter(), next: 0 }
    }
}
