//! The local side of an operation in flight.

use super::PoolBuf;
use std::fmt;
use std::ptr::NonNull;

/// Exclusive ownership of a range of initialised bytes, for as long as the value exists.
///
/// Bytes of its own, a buffer of a pool, or a loan of bytes elsewhere (an object's place in the local heap) that nobody else
/// touches until the loan is dropped.
pub struct IoBuf(Repr);

enum Repr {
    Owned(Vec<u8>),
    Pooled(PoolBuf),
    Loan { ptr: NonNull<u8>, len: usize },
}

// SAFETY: all forms are exclusive ownership of plain bytes, `Loan` by the contract of `IoBuf::loan`; where the owner runs
// makes no difference to bytes.
unsafe impl Send for IoBuf {}

impl IoBuf {
    /// A loan of `len` bytes at `ptr`.
    ///
    /// # Safety
    /// From this call until the value is dropped, the bytes are mapped and initialised, and nobody else reads or writes them.
    pub unsafe fn loan(ptr: NonNull<u8>, len: usize) -> Self {
        IoBuf(Repr::Loan { ptr, len })
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Owned(bytes) => bytes.len(),
            Repr::Pooled(buf) => buf.len(),
            Repr::Loan { len, .. } => *len,
        }
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Owned(bytes) => bytes,
            Repr::Pooled(buf) => buf.as_slice(),
            // SAFETY: the contract of `loan`: mapped, initialised and exclusive while `self` exists.
            Repr::Loan { ptr, len } => unsafe { std::slice::from_raw_parts(ptr.as_ptr(), *len) },
        }
    }

    /// The bytes, to be filled.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Repr::Owned(bytes) => bytes,
            Repr::Pooled(buf) => buf.as_mut_slice(),
            // SAFETY: as in `as_slice`, and `&mut self` makes the access unique.
            Repr::Loan { ptr, len } => unsafe { std::slice::from_raw_parts_mut(ptr.as_ptr(), *len) },
        }
    }

    /// The bytes as a vector: the very one if owned, with its capacity; otherwise a copy.
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Repr::Owned(bytes) => bytes,
            Repr::Pooled(_) | Repr::Loan { .. } => self.as_slice().into(),
        }
    }
}

impl From<Vec<u8>> for IoBuf {
    fn from(bytes: Vec<u8>) -> Self {
        IoBuf(Repr::Owned(bytes))
    }
}

impl From<PoolBuf> for IoBuf {
    fn from(buf: PoolBuf) -> Self {
        IoBuf(Repr::Pooled(buf))
    }
}

impl fmt::Debug for IoBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IoBuf({} bytes)", self.len())
    }
}
