//! A far byte that is wrong is always found: every byte of the images of objects of all shapes, by every way in which they are read.
//!
//! One read at a time is damaged on its way (`farptr::faults`), so that each position starts from the same good image: the read must fail as `Corrupt`, and the next
//! one must succeed. What the check can't find is said in `farptr_runtime::far`.
#![forbid(unsafe_code)]

mod common;

use common::{assert_empty, block_on, numbers, zeal_contradicts};
use farptr::faults::{Damage, FaultPlan, Faults, Immediate, Kind};
use farptr::{Error, FarMemory, RemBox, RemHashMap, RemVec};

/// Bytes in front of an image's contents, and contents of a piece of a large object.
const HEADER: usize = farptr_runtime::far::image::IMAGE_HEADER_BYTES;
const PIECE: usize = farptr_runtime::far::PIECE_BYTES;

fn memory(faults: &Faults) -> FarMemory {
    let builder = FarMemory::builder().local_budget(1 << 20).server("embedded:").faults(faults);
    builder.without_evacuation_thread().build().expect("a far memory")
}

fn contents(len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31) ^ (i >> 8)) as u8).collect()
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Blocking,
    Awaited,
}

fn read(far: &RemBox<[u8]>, expected: &[u8], way: Way) -> Result<(), Error> {
    let look = |far: &[u8]| assert!(far == expected, "WRONG DATA");
    match way {
        Way::Blocking => far.try_with(look),
        Way::Awaited => block_on(far.with_async(look)),
    }
}

/// Flips a bit of byte `byte` of image number `before` of what is read next.
#[track_caller]
fn flip_is_found(faults: &Faults, far: &RemBox<[u8]>, expected: &[u8], way: Way, before: usize, byte: usize) {
    for _ in 0..before {
        faults.damage_next_read(Damage::None);
    }
    faults.damage_next_read(Damage::Flip { byte, mask: 1 << (byte % 8) });
    let outcome = read(far, expected, way);
    assert!(matches!(outcome, Err(Error::Corrupt { .. })), "byte {byte} of image {before} ({way:?}): {outcome:?}");
    assert_eq!(faults.ordered_damage(), 0, "fewer reads than images");
}

#[test]
fn every_byte_of_small_images_is_checked_whichever_way_they_are_read() {
    for (immediate, way) in
        [(Immediate::Hidden, Way::Blocking), (Immediate::Hidden, Way::Awaited), (Immediate::Faulty, Way::Blocking)]
    {
        let faults = Faults::new(FaultPlan { immediate, ..FaultPlan::new(1) });
        for len in [1, 15, 16, 100, 3000] {
            // One for each, so that nothing is dead that the cleaner would read.
            let mem = memory(&faults);
            let expected = contents(len);
            let far = RemBox::from_slice_in(&expected, &mem);
            mem.evacuate_all().expect("evacuation");
            for byte in 0..HEADER + len {
                flip_is_found(&faults, &far, &expected, way, 0, byte);
            }
            read(&far, &expected, way).expect("undamaged");
            drop(far);
            assert_empty(&mem);
        }
        assert!(faults.count(Kind::FlippedRead) > 3000);
    }
}

#[test]
fn every_piece_of_a_large_object_is_checked() {
    let faults = Faults::new(FaultPlan::new(1));
    let mem = memory(&faults);
    let expected = contents(2 * PIECE + 5000);
    let far = RemBox::from_slice_in(&expected, &mem);
    mem.evacuate_all().expect("evacuation");
    for (piece, len) in [PIECE, PIECE, 5000].into_iter().enumerate() {
        // The first and last bytes one by one; between them some hundred places. That a check of so many bytes holds for each is CRC's theorem.
        let places = (0..64).chain((64..HEADER + len).step_by(463)).chain(HEADER + len - 16..HEADER + len);
        for byte in places {
            flip_is_found(&faults, &far, &expected, Way::Blocking, piece, byte);
        }
        for byte in [0, 5, HEADER - 1, HEADER, HEADER + len / 2, HEADER + len - 1] {
            flip_is_found(&faults, &far, &expected, Way::Awaited, piece, byte);
        }
    }
    read(&far, &expected, Way::Blocking).expect("undamaged");
    drop(far);
    assert_empty(&mem);
}

#[test]
fn zeros_other_places_and_short_reads_are_found_in_all_containers() {
    let faults = Faults::new(FaultPlan::new(3));
    let mem = memory(&faults);
    let boxes: Vec<_> = (0..200).map(|i| RemBox::from_slice_in(&contents(100 + i), &mem)).collect();
    let mut map = RemHashMap::new_in(&mem);
    let mut vec = RemVec::new_in(&mem);
    for n in 0..200u64 {
        map.insert(n, [n; 20]);
        vec.extend([n; 500]);
    }
    for damage in
        [Damage::Zero, Damage::Misplaced, Damage::Short { bytes: 40 }, Damage::Short { bytes: 15 }, Damage::Short { bytes: 0 }]
    {
        mem.evacuate_all().expect("evacuation");
        let mut found = [0; 3];
        for (n, far) in boxes.iter().enumerate() {
            let outcomes = [
                {
                    faults.damage_next_read(damage);
                    far.try_with(|far| assert!(far == contents(100 + n), "WRONG DATA"))
                },
                {
                    faults.damage_next_read(damage);
                    map.try_with(&(n as u64), |far| assert!(*far == [n as u64; 20], "WRONG DATA")).map(drop)
                },
                {
                    faults.damage_next_read(damage);
                    vec.try_with(n * 500, |far| assert!(*far == n as u64, "WRONG DATA")).map(drop)
                },
            ];
            for (found, outcome) in found.iter_mut().zip(outcomes) {
                match outcome {
                    // Nothing was read, or what was there before was the right bytes of an earlier use of the place.
                    Ok(()) => {}
                    Err(Error::Corrupt { .. }) => *found += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            // What hits left over is not for the next object's read.
            faults.cancel_damage();
        }
        assert!(found[0] > 100 && found[1] > 50 && found[2] > 10, "{damage:?}: {found:?}");
    }
    drop((boxes, map, vec));
    assert_empty(&mem);
}

#[test]
fn chunks_that_a_long_scan_reads_past_local_memory_are_checked() {
    if zeal_contradicts("chunks_that_a_long_scan_reads_past_local_memory_are_checked", "memory is never full") {
        return;
    }
    for immediate in [Immediate::Hidden, Immediate::Faulty] {
        let faults = Faults::new(FaultPlan { immediate, ..FaultPlan::new(1) });
        let mem = memory(&faults);
        let mut vec = RemVec::with_chunk_bytes_in(2048, &mem);
        vec.extend(0..(4 << 17) as u64);
        let scan = || {
            let mut sum = 0u64;
            vec.try_for_each_slice(.., |first, slice| {
                assert!(slice[0] == first as u64, "WRONG DATA");
                sum += slice.len() as u64;
            })?;
            Ok::<_, Error>(sum)
        };
        scan().expect("undamaged");
        assert!(mem.stats().bypassed_objects > 1000, "what is scanned here is read past local memory");
        // The first four chunks are used as anything else is.
        for (before, byte) in (8..24).zip((0..HEADER + 2048).step_by(131)) {
            (0..before).for_each(|_| faults.damage_next_read(Damage::None));
            faults.damage_next_read(Damage::Flip { byte, mask: 1 << (byte % 8) });
            let outcome = scan();
            assert!(matches!(outcome, Err(Error::Corrupt { .. })), "byte {byte} ({immediate:?}): {outcome:?}");
            assert_eq!(faults.ordered_damage(), 0, "fewer reads than images");
            assert_eq!(scan().expect("undamaged"), 4 << 17);
        }
        drop(vec);
        assert_empty(&mem);
    }
}

/// Where misses are copies from mapped memory; over others nothing is passed.
#[test]
fn objects_that_are_passed_are_checked() {
    if zeal_contradicts("objects_that_are_passed_are_checked", "memory is never full") {
        return;
    }
    for immediate in [Immediate::Hidden, Immediate::Faulty] {
        let faults = Faults::new(FaultPlan { immediate, ..FaultPlan::new(1) });
        let mem = memory(&faults);
        let expected = contents(700);
        let objects: Vec<_> = (0..8 << 10).map(|_| RemBox::from_slice_in(&expected, &mem)).collect();
        let mut next = numbers(3);
        let mut look = || objects[next() as usize % objects.len()].try_with(|far| assert!(far == &expected[..], "WRONG DATA"));
        let passed = || mem.stats().bypassed_objects;
        (0..20_000).for_each(|_| look().expect("undamaged"));
        assert_eq!(passed() > 0, immediate == Immediate::Faulty, "{immediate:?}");
        let (mut found, before) = (0, passed());
        for byte in (0..HEADER + expected.len()).chain(0..HEADER + expected.len()) {
            faults.damage_next_read(Damage::Flip { byte, mask: 1 << (byte % 8) });
            while faults.ordered_damage() > 0 {
                match look() {
                    Err(Error::Corrupt { .. }) => found += 1,
                    outcome => outcome.expect("undamaged"),
                }
            }
            look().expect("undamaged");
        }
        assert_eq!(found, 2 * (HEADER + expected.len()), "{immediate:?}");
        assert_eq!(passed() > before, immediate == Immediate::Faulty, "{immediate:?}");
        drop(objects);
        assert_empty(&mem);
    }
}
