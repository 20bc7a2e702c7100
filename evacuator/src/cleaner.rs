//! The cleaner: makes far segments that are mostly dead wholly dead, by copying what is alive to the end of the log.
//!
//! A segment is read as a whole and walked image by image. Its bytes come from a server and prove nothing: a slot number is looked up, and an
//! image is alive only if that slot says "absent, at this very place" (or the header of the present object names the
//! place as its valid far copy). An image is then checked as at a swap-in before it is copied. So a wrong byte can hide an object from
//! the cleaner, never make one up: the segment then keeps some live bytes and is left alone from then on, and whoever derefs the
//! damaged object learns of it.
//!
//! An object that is present needs no copy: its far copy is disowned, and the next evacuation writes it.

use crate::far_log::{Batch, FarLog, Sealed, Stream};
use farptr_runtime::addr::{FarAddr, SlotId};
use farptr_runtime::far::image::{IMAGE_HEADER_BYTES, ImageHeader, image_bytes, verify};
use farptr_runtime::memory::Memory;
use farptr_runtime::steps::{self, Claim};
use farptr_runtime::transport::{IoBuf, Verb};
use farptr_runtime::{Error, Result};
use std::sync::atomic::Ordering;

/// Far segments cleaned in one go: 2 MiB to read, and at most as much to write.
const SEGMENTS_PER_PASS: usize = 8;

struct Move {
    slot: SlotId,
    from: FarAddr,
    to: FarAddr,
    size: usize,
    batch: Batch,
}

/// Cleans until far memory is filled well enough, or nothing more can be gained.
///
/// # Errors
/// If a server can't be reached or far memory is full. What was moved before is moved.
pub fn clean(memory: &Memory, log: &mut FarLog) -> Result<()> {
    log.reclaim(memory);
    while log.wants_cleaning(memory) {
        let used = memory.far().used_bytes();
        pass(memory, log)?;
        log.reclaim(memory);
        if memory.far().used_bytes() >= used {
            break;
        }
    }
    Ok(())
}

/// Cleans the far segments in which most is dead, whether it pays or not.
///
/// # Errors
/// As for `clean`.
#[cfg(farptr_zeal)]
pub fn clean_something(memory: &Memory, log: &mut FarLog) -> Result<()> {
    log.reclaim(memory);
    let cleaned = pass(memory, log);
    log.reclaim(memory);
    cleaned
}

fn pass(memory: &Memory, log: &mut FarLog) -> Result<()> {
    let mut moves = Vec::new();
    let mut outcome = Ok(());
    for sealed in log.emptiest(memory, SEGMENTS_PER_PASS) {
        outcome = read_segment(memory, sealed).and_then(|bytes| evacuate(memory, log, sealed, bytes.as_slice(), &mut moves));
        if outcome.is_err() {
            break;
        }
    }
    let drained = log.drain(memory);
    for Move { slot, from, to, size, batch } in moves {
        let moved = drained.arrived(batch) && memory.slot_table().get(slot).is_some_and(|slot| slot.move_far(from, to).is_ok());
        memory.far().bury(if moved { from } else { to }, image_bytes(size));
        if moved {
            memory.counters().cleaned_bytes.fetch_add(image_bytes(size) as u64, Ordering::Relaxed);
        }
    }
    outcome.and(drained.error.map_or(Ok(()), Err))
}

/// Reads a segment.
fn read_segment(memory: &Memory, sealed: Sealed) -> Result<IoBuf> {
    let mut bytes = memory.buffers().take();
    bytes.grow(sealed.used);
    let (server, at, _) = memory.far().locate(FarAddr::new(sealed.id, 0))?;
    let server = &memory.far().servers()[server];
    if let Some(lent) = server.immediate() {
        lent.read_at(at, bytes.as_mut_slice()).map_err(|cause| server.error(cause))?;
        return Ok(bytes.into());
    }
    server.transfer(Verb::Read, at, bytes.into())
}

/// Appends the live images of a segment to the cleaner's stream.
fn evacuate(memory: &Memory, log: &mut FarLog, sealed: Sealed, bytes: &[u8], moves: &mut Vec<Move>) -> Result<()> {
    let incarnation = memory.far().with_segment(sealed.id, |_, segment| segment.incarnation())?;
    let mut offset = 0;
    while offset < sealed.used {
        let from = FarAddr::new(sealed.id, offset);
        let rest = &bytes[offset..];
        let header = ImageHeader::from_bytes(rest).filter(|header| header.incarnation == incarnation);
        let image = header.and_then(|header| Some((header, rest.get(..IMAGE_HEADER_BYTES + header.size as usize)?)));
        let Some((header, image)) = image else {
            damaged(memory, log, sealed, from, "the cleaner found no image here");
            return Ok(());
        };
        if claims(memory, header.slot, from, header.size as usize) {
            match verify(header.slot, incarnation, from, image) {
                Ok(()) => {
                    let contents = &image[IMAGE_HEADER_BYTES..];
                    let (to, batch) = log.append(memory, Stream::Clean, header.slot, contents)?;
                    moves.push(Move { slot: header.slot, from, to, size: contents.len(), batch });
                }
                Err(detail) => damaged(memory, log, sealed, from, detail),
            }
        }
        offset += image_bytes(header.size as usize);
    }
    Ok(())
}

fn damaged(memory: &Memory, log: &mut FarLog, sealed: Sealed, at: FarAddr, detail: &'static str) {
    let error: Error = memory.corrupt(at, detail);
    tracing::error!(%error, "a far segment is damaged and is not cleaned any more");
    log.set_damaged(sealed.id);
}

/// Whether the image at `from` is alive and must be copied. A present object's is disowned instead, if it is as large as the image says: a wrong
/// size would bury more or less than was alive.
fn claims(memory: &Memory, slot: SlotId, from: FarAddr, size: usize) -> bool {
    let Some(slot) = memory.slot_table().get(slot) else { return false };
    let far_in_header = |addr| {
        // SAFETY: the cleaner runs under the evacuator's lock, and the word was loaded just now.
        unsafe { memory.header_of_present(addr) }.filter(|header| header.size() == size).map(|header| header.far())
    };
    match steps::claim(slot, from, far_in_header) {
        Claim::Alive => true,
        Claim::Disowned => {
            memory.far().bury(from, image_bytes(size));
            false
        }
        Claim::None => false,
    }
}
