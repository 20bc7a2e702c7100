//! Buffers for the largest operations, at addresses that stay what they are.
//!
//! They are for write-back and cleaning, which use a handful over and over. A general allocator falls to pieces under buffers of 256 KiB that one thread takes and another
//! frees (with glibc up to 32 MiB of resident memory), and a device wants to know the memory it moves bytes from: see [`LocalMemory`](super::LocalMemory).

use super::MAX_OP_BYTES;
use crate::arena::{Arena, PAGE};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Room for a number of buffers, which costs memory only as far as they are used.
#[derive(Debug)]
pub struct BufferPool {
    arena: Arena,
    /// Indices of those that nobody has; the last one given back first, because it is in the cache.
    free: Mutex<Vec<usize>>,
}

impl BufferPool {
    /// Room for `count` buffers.
    pub fn new(count: usize) -> io::Result<Arc<Self>> {
        let arena = Arena::reserve(count * MAX_OP_BYTES, PAGE)?;
        Ok(Arc::new(Self { arena, free: Mutex::new((0..count).rev().collect()) }))
    }

    /// The addresses of all its buffers.
    pub fn range(&self) -> Range<usize> {
        self.arena.base()..self.arena.base() + self.arena.len()
    }

    /// An empty buffer. When all are taken it is memory of its own.
    pub fn take(self: &Arc<Self>) -> PoolBuf {
        let place = match self.free().pop() {
            Some(index) => Place::Pooled { pool: Arc::clone(self), index },
            None => Place::Own(vec![0; MAX_OP_BYTES].into_boxed_slice()),
        };
        PoolBuf { place, len: 0 }
    }

    fn free(&self) -> MutexGuard<'_, Vec<usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer of up to [`MAX_OP_BYTES`]. Given back when dropped.
pub struct PoolBuf {
    place: Place,
    len: usize,
}

enum Place {
    /// `index` is not in the pool's list as long as this exists.
    Pooled {
        pool: Arc<BufferPool>,
        index: usize,
    },
    Own(Box<[u8]>),
}

impl PoolBuf {
    /// Bytes in use.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte is in use.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes `len` more bytes into use, which are zero, and returns them.
    ///
    /// # Panics
    /// If that would be more than [`MAX_OP_BYTES`].
    pub fn grow(&mut self, len: usize) -> &mut [u8] {
        let start = self.len;
        assert!(len <= MAX_OP_BYTES - start, "a buffer has room for one operation");
        self.len += len;
        let new = &mut self.as_mut_slice()[start..];
        new.fill(0);
        new
    }

    /// The bytes in use.
    pub fn as_slice(&self) -> &[u8] {
        match &self.place {
            Place::Own(bytes) => &bytes[..self.len],
            Place::Pooled { pool, index } => {
                // SAFETY: the arena is mapped as long as `pool` exists and zeroed at first, so its bytes are initialised; buffer `index` lies in it, and only this value, which
                // has the index, touches it. `len` is at most the buffer's length.
                unsafe { std::slice::from_raw_parts(start_of(pool, *index), self.len) }
            }
        }
    }

    /// The bytes in use.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        match &mut self.place {
            Place::Own(bytes) => &mut bytes[..self.len],
            Place::Pooled { pool, index } => {
                // SAFETY: as in `as_slice`, and `&mut self` makes the access unique.
                unsafe { std::slice::from_raw_parts_mut(start_of(pool, *index).cast_mut(), self.len) }
            }
        }
    }
}

fn start_of(pool: &BufferPool, index: usize) -> *const u8 {
    std::ptr::with_exposed_provenance(pool.arena.base() + index * MAX_OP_BYTES)
}

impl Drop for PoolBuf {
    fn drop(&mut self) {
        if let Place::Pooled { pool, index } = &self.place {
            pool.free().push(*index);
        }
    }
}

impl fmt::Debug for PoolBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolBuf({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_their_owners_alone_and_come_again() {
        let pool = BufferPool::new(2).expect("address space");
        let mut bufs: Vec<_> = (0..3).map(|_| pool.take()).collect();
        for (number, buf) in bufs.iter_mut().enumerate() {
            assert!(buf.is_empty());
            buf.grow(MAX_OP_BYTES).fill(number as u8 + 1);
        }
        for (number, buf) in bufs.iter().enumerate() {
            assert!(buf.as_slice().iter().all(|byte| *byte == number as u8 + 1));
        }
        let lies_in_pool = |buf: &PoolBuf| pool.range().contains(&buf.as_slice().as_ptr().addr());
        assert_eq!(bufs.iter().map(lies_in_pool).collect::<Vec<_>>(), [true, true, false]);
        let last = bufs[1].as_slice().as_ptr();
        bufs.truncate(1);
        let mut again = pool.take();
        assert_eq!(again.grow(3), [0; 3], "no old bytes");
        assert_eq!(again.as_slice().as_ptr(), last, "the one that was given back");
        assert_eq!(again.len(), 3);
    }

    #[test]
    #[should_panic(expected = "room for one operation")]
    fn a_buffer_ends() {
        let mut buf = BufferPool::new(1).expect("address space").take();
        buf.grow(MAX_OP_BYTES - 1);
        buf.grow(2);
    }
}
