//! Images: what was changed, cut or swapped is found, and what was not is read back.
#![forbid(unsafe_code)]

use crate::config;
use farptr_runtime::addr::{FAR_SEGMENT_BYTES, FAR_UNIT, FarAddr, FarSegmentId, SlotId};
use farptr_runtime::far::image::{IMAGE_HEADER_BYTES, ImageHeader, encode, image_bytes, verify};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeSet;

#[derive(Debug, Clone)]
struct Image {
    slot: SlotId,
    incarnation: u32,
    addr: FarAddr,
    contents: Vec<u8>,
}

fn addr() -> impl Strategy<Value = FarAddr> {
    (0..1u32 << 26, 0..FAR_SEGMENT_BYTES / FAR_UNIT)
        .prop_map(|(segment, unit)| FarAddr::new(FarSegmentId(segment), unit * FAR_UNIT))
}

fn image() -> impl Strategy<Value = Image> {
    let byte = prop_oneof![Just(0u8), Just(0xff), any::<u8>()];
    (any::<u32>(), any::<u32>(), addr(), prop::collection::vec(byte, 0..120))
        .prop_map(|(slot, incarnation, addr, contents)| Image { slot: SlotId(slot), incarnation, addr, contents })
}

impl Image {
    /// Header and contents, without padding.
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![0xa5; image_bytes(self.contents.len()) + 16];
        encode(self.slot, self.incarnation, self.addr, &self.contents, &mut out);
        let end = IMAGE_HEADER_BYTES + self.contents.len();
        assert!(out[end..image_bytes(self.contents.len())].iter().all(|byte| *byte == 0), "padding is zero");
        assert!(out[image_bytes(self.contents.len())..].iter().all(|byte| *byte == 0xa5), "an image ends where it says");
        out.truncate(end);
        out
    }

    fn is_good(&self, bytes: &[u8]) -> bool {
        verify(self.slot, self.incarnation, self.addr, bytes).is_ok()
    }
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn every_flipped_bit_and_every_cut_is_found(image in image(), tail in prop::collection::vec(any::<u8>(), 1..20)) {
        let good = image.encode();
        prop_assert!(image.is_good(&good));
        prop_assert_eq!(&good[IMAGE_HEADER_BYTES..], &image.contents[..]);
        let header = ImageHeader::from_bytes(&good).unwrap();
        prop_assert_eq!((header.slot, header.size as usize, header.incarnation), (image.slot, image.contents.len(), image.incarnation));
        prop_assert_eq!(&header.to_bytes()[..], &good[..IMAGE_HEADER_BYTES]);
        let mut bad = good.clone();
        for bit in 0..bad.len() * 8 {
            bad[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!image.is_good(&bad), "bit {bit}");
            bad[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..good.len() {
            prop_assert!(!image.is_good(&good[..len]), "cut to {len}");
        }
        bad.extend(tail);
        prop_assert!(!image.is_good(&bad), "longer");
    }

    /// What CRC-32C finds for certain in so short a text: up to five flipped bits anywhere (Koopman, DSN 2002), and any burst of up to 32.
    #[test]
    fn few_flipped_bits_and_every_short_burst_are_found(
        image in image().prop_filter("no bits to flip", |image| !image.contents.is_empty()),
        flips in prop::collection::vec(prop::collection::vec(any::<Index>(), 1..6), 100),
        bursts in prop::collection::vec((any::<Index>(), 1..=u32::MAX), 100),
    ) {
        let good = image.encode();
        let bits = image.contents.len() * 8;
        for flip in flips {
            let distinct: BTreeSet<usize> = flip.iter().map(|index| index.index(bits)).collect();
            let mut bad = good.clone();
            distinct.iter().for_each(|bit| bad[IMAGE_HEADER_BYTES + bit / 8] ^= 1 << (bit % 8));
            prop_assert!(!image.is_good(&bad), "bits {distinct:?}");
        }
        for (first, burst) in bursts {
            let mut bad = good.clone();
            let first = first.index(bits);
            for bit in (0..32).filter(|bit| burst >> bit & 1 == 1 && first + bit < bits) {
                bad[IMAGE_HEADER_BYTES + (first + bit) / 8] ^= 1 << ((first + bit) % 8);
            }
            prop_assert!(bad == good || !image.is_good(&bad), "burst {burst:#x} at {first}");
        }
    }

    #[test]
    fn image_of_another_object_place_or_use_is_refused(image in image(), other in image()) {
        let good = image.encode();
        for slot in [other.slot.0, image.slot.0 ^ 1, image.slot.0.wrapping_add(1), 0].map(SlotId) {
            prop_assert_eq!(verify(slot, image.incarnation, image.addr, &good).is_ok(), slot == image.slot);
        }
        for incarnation in [other.incarnation, image.incarnation.wrapping_sub(1), 0] {
            prop_assert_eq!(verify(image.slot, incarnation, image.addr, &good).is_ok(), incarnation == image.incarnation);
        }
        // Everywhere else in its segment, and at its own offset in the segments around.
        let (segment, offset) = (image.addr.segment(), image.addr.offset());
        let here = (0..FAR_SEGMENT_BYTES).step_by(FAR_UNIT).map(|offset| FarAddr::new(segment, offset));
        let around = (0..26).map(|bit| FarAddr::new(FarSegmentId(segment.0 ^ 1 << bit), offset));
        for addr in here.chain(around).chain([other.addr]) {
            prop_assert_eq!(verify(image.slot, image.incarnation, addr, &good).is_ok(), addr == image.addr, "{:?}", addr);
        }
    }
}
