//! What an object may take in far memory: its promise.
//!
//! Every object that exists may have to leave, so far memory must have room for all of them, wherever they are now. Each object is charged the bytes
//! of its image and its part of the **tail waste**: the bytes at the end of a far segment that the next image does not fit.
//!
//! Two bounds go into the charge of an image of `s` bytes, in segments of `S` bytes:
//! - Images of one size: `floor(S / s)` of them fit a segment, so each takes `S / floor(S / s)`.
//! - Images of many sizes, in random order: the image that does not fit is met with a probability in proportion to its size, and wastes half its
//!   size on average. So each image wastes `s / S` times `s / 2`.
//!
//! The charge is the larger of the two. An order of sizes that was made up to waste more is possible; the part of local memory that may be promised on top
//! of far memory takes that.
#![forbid(unsafe_code)]

use super::LargeFar;
use super::image::image_bytes;
use crate::addr::FAR_SEGMENT_BYTES;

/// Bytes that an object of `size` bytes is charged, which is a small one or a piece of a large one.
#[inline]
pub fn charge(size: usize) -> u64 {
    // 32 bits divide several times as fast.
    let (image, segment) = (image_bytes(size) as u32, FAR_SEGMENT_BYTES as u32);
    let of_one_size = segment / (segment / image);
    let of_many_sizes = image + (u64::from(image) * u64::from(image) / (2 * FAR_SEGMENT_BYTES as u64)) as u32;
    u64::from(of_one_size.max(of_many_sizes))
}

/// Bytes that a large object of `size` bytes is charged.
#[cold]
pub fn charge_large(size: usize) -> u64 {
    LargeFar::cuts(size).map(|(_, len)| charge(len)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::far::PIECE_BYTES;

    #[test]
    fn a_segment_full_of_one_size_is_charged_no_more_than_a_segment_and_an_eighth() {
        for size in 1..=PIECE_BYTES {
            let fit = FAR_SEGMENT_BYTES / image_bytes(size);
            let charged = charge(size) * fit as u64;
            assert!(charge(size) >= image_bytes(size) as u64);
            assert!(charged + fit as u64 > FAR_SEGMENT_BYTES as u64 && charged <= FAR_SEGMENT_BYTES as u64 * 9 / 8, "{size}");
        }
        assert_eq!(charge(4096), FAR_SEGMENT_BYTES as u64 / 63);
    }
}
