//! From bytes to operations.
#![forbid(unsafe_code)]

use arbitrary::{Arbitrary, Unstructured};

/// Takes one operation after the other off the input until it is used up, and carries each out; no more than `most`.
///
/// One after the other, rather than as a vector, so that a change of one byte leaves the operations before it as they are, and
/// cutting the input off cuts off operations: what a fuzzer does to bytes then means something.
pub fn each<'a, T: Arbitrary<'a>>(input: &mut Unstructured<'a>, most: usize, mut carry_out: impl FnMut(T)) {
    for _ in 0..most {
        match next(input) {
            Some(op) => carry_out(op),
            None => return,
        }
    }
}

/// The next operation, if there is input left for one.
pub fn next<'a, T: Arbitrary<'a>>(input: &mut Unstructured<'a>) -> Option<T> {
    // Without this, nothing would be read as zeros without end.
    if input.is_empty() { None } else { T::arbitrary(input).ok() }
}

/// Byte `i` of what was made from `seed`. No two pieces of one content are alike, and no two contents.
#[inline]
pub fn byte(seed: u32, i: usize) -> u8 {
    ((i as u64 + 1).wrapping_mul(u64::from(seed) << 8 | 0x9d) >> 7) as u8 ^ (i >> 13) as u8
}

/// `len` bytes made from `seed`.
pub fn bytes(seed: u32, len: usize) -> Vec<u8> {
    (0..len).map(|i| byte(seed, i)).collect()
}

/// A length, most often at an edge of something: an operation's limit, a stripe, nothing.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Length {
    /// Up to 255.
    Short(u8),
    /// Up to 65535.
    Middle(u16),
    /// 256 KiB, give or take a little.
    Around256K(i8),
    /// Anything.
    Any(u32),
}

impl Length {
    /// As a number.
    pub fn get(self) -> u32 {
        match self {
            Length::Short(len) => len.into(),
            Length::Middle(len) => len.into(),
            Length::Around256K(more) => (256u32 << 10).wrapping_add_signed(more.into()),
            Length::Any(len) => len,
        }
    }
}
