//! Encoding and checking object images.
#![forbid(unsafe_code)]

use crate::addr::{FarAddr, SlotId};
use crate::sum::crc32c;

/// Bytes in front of the contents. As many as the local header's, so that an image can be read right into an object's place.
pub const IMAGE_HEADER_BYTES: usize = 16;

/// Bytes an object of `size` takes in a far segment.
pub const fn image_bytes(size: usize) -> usize {
    (IMAGE_HEADER_BYTES + size).next_multiple_of(crate::addr::FAR_UNIT)
}

/// What stands in front of the contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageHeader {
    /// The slot that owns the image.
    pub slot: SlotId,
    /// Bytes of the contents.
    pub size: u32,
    /// Which use of the far segment it was written in.
    pub incarnation: u32,
    /// See [`check`].
    pub check: u32,
}

impl ImageHeader {
    /// The 16 bytes.
    pub fn to_bytes(self) -> [u8; IMAGE_HEADER_BYTES] {
        let mut bytes = [0; IMAGE_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.slot.0.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.incarnation.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.check.to_le_bytes());
        bytes
    }

    /// From the first 16 bytes of `bytes`; `None` if there are fewer. Nothing is checked.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        Some(ImageHeader { slot: SlotId(word(0)?), size: word(4)?, incarnation: word(8)?, check: word(12)? })
    }
}

/// The checksum of an image: CRC-32C of the contents, xor a hash of everything else that must be right.
#[inline]
pub fn check(slot: SlotId, incarnation: u32, addr: FarAddr, contents: &[u8]) -> u32 {
    check_summed(slot, incarnation, addr, contents.len(), crc32c(contents))
}

/// As [`check`], of `size` bytes whose CRC-32C is known.
#[inline]
fn check_summed(slot: SlotId, incarnation: u32, addr: FarAddr, size: usize, crc: u32) -> u32 {
    let place = mix(addr.to_bits() ^ u64::from(slot.0) << 32 ^ (size as u64) << 40);
    let mixed = mix(place ^ u64::from(incarnation));
    crc ^ (mixed >> 32) as u32 ^ mixed as u32
}

/// The finaliser of MurmurHash3 (Austin Appleby, public domain): every input bit changes half of the output bits.
fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

/// Writes the image of `contents` to the start of `out`, which is at least [`image_bytes`] long. Padding is zeroed.
pub fn encode(slot: SlotId, incarnation: u32, addr: FarAddr, contents: &[u8], out: &mut [u8]) {
    let end = IMAGE_HEADER_BYTES + contents.len();
    out[IMAGE_HEADER_BYTES..end].copy_from_slice(contents);
    // The sum is taken of the copy: what is sent is what was summed, and it is in the cache now.
    let check = check(slot, incarnation, addr, &out[IMAGE_HEADER_BYTES..end]);
    let header = ImageHeader { slot, size: contents.len() as u32, incarnation, check };
    out[..IMAGE_HEADER_BYTES].copy_from_slice(&header.to_bytes());
    out[end..image_bytes(contents.len())].fill(0);
}

/// Checks an image that was read from `addr` against what it must be; `image` is header and contents, without padding.
pub fn verify(slot: SlotId, incarnation: u32, addr: FarAddr, image: &[u8]) -> Result<(), &'static str> {
    let contents = image.get(IMAGE_HEADER_BYTES..).unwrap_or_default();
    verify_summed(slot, incarnation, addr, image, crc32c(contents))
}

/// As [`verify`], if the CRC-32C of the contents is known.
pub fn verify_summed(slot: SlotId, incarnation: u32, addr: FarAddr, image: &[u8], crc: u32) -> Result<(), &'static str> {
    let header = ImageHeader::from_bytes(image).ok_or("the image is shorter than its header")?;
    let size = image.len() - IMAGE_HEADER_BYTES;
    if header.slot != slot {
        return Err("the image belongs to another object");
    }
    if header.size as usize != size {
        return Err("the image has another size");
    }
    if header.incarnation != incarnation {
        return Err("the image is from an earlier use of the far segment");
    }
    if header.check != check_summed(slot, incarnation, addr, size, crc) {
        return Err("the checksum does not fit the contents");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the reference implementation.
    #[test]
    fn mix_is_the_finaliser_of_murmur_hash() {
        assert_eq!([0, 1, u64::MAX].map(mix), [0, 0xb456_bcfc_34c2_cb2c, 0x64b5_720b_4b82_5f21]);
    }

    /// That of an image, reckoned apart from this code: all of what must be right goes in, and nothing is folded
    /// away. A damaged header is found by comparison first, so that no damage would tell.
    #[test]
    fn check_is_of_contents_slot_place_size_and_use() {
        let addr = FarAddr::from_bits(0x09_0a0b_0c0d);
        assert_eq!(check(SlotId(0x0102_0304), 0x0506_0708, addr, b"123456789"), 0xe2d1_cfa9);
    }
}
