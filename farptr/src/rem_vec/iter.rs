//! Iterators over a vector.
#![forbid(unsafe_code)]

use super::RemVec;
use crate::{Far, Scope};
use farptr_runtime::Result;
use std::iter::FusedIterator;

/// References to the elements, in order. Ends at the first error. See [`RemVec::iter`].
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
            Err(error) => {
                // What is not there now is asked for once. More of it would be in vain: the scope holds what has been lent already.
                self.next = self.vec.len();
                Some(Err(error))
            }
        }
    }
}

impl<T: Far> FusedIterator for Iter<'_, T> {}

impl<T: Far> RemVec<T> {
    /// References to all elements, which all live as long as the scope: what they fetch stays until it ends, a chunk for each.
    ///
    /// So this is for vectors of which no more is far than a scope may surely fetch: a thread's share, which is a quarter of the local budget divided by the threads that
    /// have a scope open, and at most 256 KiB. Beyond it elements come while memory is there, then one `ScopeExhausted`, and after any error the
    /// iterator has ended. Of any length: [`walk`](RemVec::walk), [`for_each_slice`](RemVec::for_each_slice).
    pub fn iter<'a>(&'a self, scope: &'a Scope) -> Iter<'a, T> {
        Iter { vec: self, scope, slice: [].iter(), next: 0 }
    }
}
