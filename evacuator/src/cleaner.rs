//! The cleaner: makes far segments that are mostly dead wholly dead, by copying what is alive to the end of the log.
//!
//! A segment is read as a whole and walked image by image. Its bytes come from a server and prove nothing: a slot number is looked up, and an
//! image is alive only if that slot says "absent, at this very place" (or the header of the present object names the
//! place as its valid far copy). An image is then checked as at a swap-in before it is copied. So a wrong byte can hide an object from
//! the cleaner, never make one up: the segment then keeps some live bytes and is left alone from then on, and whoever derefs the
//! damaged object learns of it.
//!
//! An object that is present needs no copy: its far copy is disowned, and the next evacuation writes it.
//!
//! # When far memory is full
//! Write-back leaves [`kept_for_cleaning`](farptr_runtime::far::kept_for_cleaning) free segments to the cleaner. Before each round the cleaner makes as much room
//! as the round can write, or cleans [`VICTIMS_PER_CALL`] victims, whichever is less: a thread that runs a round itself must not wait long.
//!
//! **Room** is what can be copied to: the free segments, and the rest of the segment that the cleaner fills. A victim with `live` bytes alive costs
//! `live` bytes of room and the rest of a segment if that is too short for the next image (tail waste). It gives back a whole segment. So it gains
//! `segment - live - waste`.
//!
//! A segment is freed when its *last* image has been moved. An image whose object is being fetched can't be moved, because the fetch reads it. So a
//! victim with such an image is passed over if there are others, and if not it is **pending** afterwards: what is left in it is moved in the next pass, before anything
//! else. A fetch ends within a timeout, and then the object is present, whose copy is disowned, or absent again.
//!
//! # Why it goes on
//! This is the argument of log-structured memory (Rumble, Kejriwal and Ousterhout, FAST 2014, section 6.5: cleaning is free of deadlock if it frees as much as it
//! uses, and some segments are set aside for it), with a victim as the unit.
//!
//! 1. *An empty segment takes all that is alive in any one victim*, because it was in one segment. So a victim can be moved as a whole if there is a free
//!    segment, or if its live bytes fit the rest.
//! 2. *A pass is planned before anything is moved* (`Images::plan`), and takes no more free segments than planned, because each image goes where the plan says
//!    and images only become fewer. If the pass has several victims, or others are pending, the plan must leave one free segment. If it has one, it may take the last.
//! 3. *What is left in pending victims can always be moved later*. Either a free segment is left, which takes all of any one of them, or
//!    the victim was alone and took the last free segment, which then has as much space left as the victim has images left.
//! 4. *A victim that is emptied is free itself*. So the number of free segments comes back to what write-back left when the fetches have ended, and room grows by
//!    `segment - live - waste` for each victim. When it has grown by a segment, write-back has a segment.
//!
//! **Condition.** Room grows if a victim exists in which more is dead (tail waste of its own included) than its copies waste. With images of one size that is so as soon
//! as one image is dead: the copies pack as the originals did. With images of many sizes the largest of all victims of a pass are placed first and the smallest fill
//! the gaps, so a segment wastes less than the smallest image that did not fit. In any case a victim that is emptier than a
//! segment less its largest image gains. So far memory with images of at most `m` bytes can be filled to `1 - m / segment` of what is neither kept nor being
//! filled; [`charge`](farptr_runtime::far::charge) promises about that.
//!
//! The rest is conditions from outside: a write that fails costs its destination the rest of its segment, and a dead one waits in quarantine. As long as
//! fewer writes fail than segments are kept, the above holds; beyond that, until quarantines end. A segment that can't be read to its end keeps what it has.

use crate::far_log::{Batch, FarLog, Sealed, Search, Stream};
use crate::round;
use farptr_runtime::addr::{FAR_SEGMENT_BYTES, FarAddr, SlotId};
use farptr_runtime::far::image::{IMAGE_HEADER_BYTES, ImageHeader, image_bytes, verify};
use farptr_runtime::memory::Memory;
use farptr_runtime::steps::{self, Claim};
use farptr_runtime::transport::{IoBuf, Verb};
use farptr_runtime::word::{FarPlace, State};
use farptr_runtime::{Error, Result};
use std::sync::atomic::Ordering;

/// Far segments cleaned in one go: 1 MiB to read, and at most as much to write. What is alive in them is packed together, so more would pack better; but their
/// bytes are outside the local budget.
const SEGMENTS_PER_PASS: usize = 4;

/// Victims that one call cleans when far memory is full: up to 4 MiB to copy, which takes some milliseconds. At 95% alive that makes room for most of what a round
/// of a small heap writes.
pub const VICTIMS_PER_CALL: usize = 16;

/// Free segments that a pass needs to have the choice of its victims: one to copy to, and one that is left.
const FREE_FOR_A_PASS: usize = 2;

/// Victims in one pass that are passed over because an image is being fetched. Each was read for nothing. Where so many are held up, the others are too.
const PASSED_OVER: usize = 4;

struct Move {
    slot: SlotId,
    from: FarAddr,
    to: FarAddr,
    size: usize,
    batch: Batch,
}

/// Cleans until far memory is filled well enough and a round can write what it may have to, or nothing more can be gained. Returns the bytes of room gained.
///
/// # Errors
/// If nothing was gained because a server can't be reached or far memory is full.
pub fn clean(memory: &Memory, log: &mut FarLog) -> Result<usize> {
    log.reclaim(memory);
    let mut gained = 0;
    while log.wants_cleaning(memory) {
        if log.free_segments() < FREE_FOR_A_PASS {
            log.ask_again(memory);
        }
        match pass(memory, log, SEGMENTS_PER_PASS) {
            Ok(Pass { gained: 0, saved: 0, .. }) => break,
            Ok(pass) => gained += pass.gained,
            Err(error) => return if gained > 0 { Ok(gained) } else { Err(error) },
        }
    }
    if memory.far().lends() {
        return Ok(gained);
    }
    let needed = round::most_bytes(memory).max(log.wanted()) + FAR_SEGMENT_BYTES;
    let mut left = VICTIMS_PER_CALL;
    // As if nothing could be borrowed, because nothing could be when it was last tried.
    while left > 0 && log.room(memory).limited_bytes() < needed {
        log.ask_again(memory);
        match pass(memory, log, SEGMENTS_PER_PASS.min(left)) {
            Ok(Pass { victims: 0, .. }) => break,
            Ok(pass) => {
                left -= pass.victims.min(left);
                gained += pass.gained;
            }
            Err(error) => return if gained > 0 { Ok(gained) } else { Err(error) },
        }
    }
    Ok(gained)
}

/// Cleans the far segments in which most is dead, whether it pays or not.
///
/// # Errors
/// As for `clean`.
#[cfg(farptr_zeal)]
pub fn clean_something(memory: &Memory, log: &mut FarLog) -> Result<()> {
    log.reclaim(memory);
    pass(memory, log, SEGMENTS_PER_PASS).map(|_| ())
}

/// What a pass has achieved.
struct Pass {
    /// Victims of which something was moved, or nothing had to be.
    victims: usize,
    /// Bytes of room more than before.
    gained: usize,
    /// Bytes more than before that are alive or can be filled, of those in use. More than `gained` if a victim was emptied that is not free before its quarantine is over.
    saved: u64,
}

/// Cleans up to `most` victims, with one wait for the writes of all.
fn pass(memory: &Memory, log: &mut FarLog, most: usize) -> Result<Pass> {
    let (room, waste) = (log.cleaning_room(), log.wasted_bytes(memory));
    let (walks, failed) = choose(memory, log, most);
    let (mut moves, mut outcome) = (Vec::new(), failed.map_or(Ok(()), Err));
    let victims: Vec<Sealed> = walks.iter().map(|walk| walk.victim).collect();
    walks.iter().for_each(|walk| walk.disown(memory));
    let images = Images::of(memory, &walks);
    for (number, bin) in images.plan(log).into_iter().enumerate() {
        if number > 0 && outcome.is_ok() {
            outcome = log.open_next(memory, Stream::Clean);
        }
        for image in bin {
            if outcome.is_ok() {
                outcome = walks[image.walk].evacuate_image(memory, log, image.offset, image.header, &mut moves);
            }
        }
    }
    for walk in &walks {
        if let Some(offset) = walk.broken_at {
            damaged(memory, log, walk.victim, FarAddr::new(walk.victim.id, offset), "the cleaner found no image here");
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
    log.reclaim(memory);
    victims.iter().for_each(|victim| log.end_of_victim(memory, *victim));
    outcome.and(drained.error.map_or(Ok(()), Err))?;
    let gained = log.cleaning_room().saturating_sub(room);
    let saved = waste.saturating_sub(log.wasted_bytes(memory));
    // Not if something is left only because it is being fetched.
    if gained == 0 && saved == 0 && !victims.is_empty() && log.pending().is_empty() {
        log.end_in_vain(memory);
    }
    Ok(Pass { victims: victims.len(), gained, saved })
}

/// Chooses and reads the victims of a pass: the pending ones, then those with the least alive, as far as there is room for them. If reading failed, what was
/// read before, and why.
fn choose(memory: &Memory, log: &mut FarLog, most: usize) -> (Vec<Walk>, Option<Error>) {
    let (mut walks, mut passed_over) = (Vec::new(), Vec::new());
    let mut pending = log.pending().into_iter();
    let has_pending = pending.len() > 0;
    let mut search = Search::All;
    let failed = loop {
        if walks.len() == most {
            break None;
        }
        let (victim, is_pending) = match pending.next() {
            Some(victim) => (victim, true),
            None => match log.next_victim(memory, std::mem::replace(&mut search, Search::Known)) {
                Some(victim) => (victim, false),
                None => break None,
            },
        };
        let walk = match Walk::over(memory, victim) {
            Ok(walk) => walk,
            Err(error) => break Some(error),
        };
        if !is_pending && passed_over.len() < PASSED_OVER && walk.is_held_up(memory) {
            passed_over.push(walk);
            continue;
        }
        walks.push(walk);
        if !fits(memory, log, &walks, has_pending && !is_pending) {
            walks.pop();
            if !is_pending {
                log.put_back(victim);
                break None;
            }
        }
    };
    if walks.is_empty()
        && let Some(walk) = passed_over.into_iter().next()
    {
        walks.push(walk);
        if !fits(memory, log, &walks, has_pending) {
            walks.clear();
        }
    }
    (walks, failed)
}

/// Whether a pass may move what is alive in `walks`, by the second rule of the module's argument.
fn fits(memory: &Memory, log: &FarLog, walks: &[Walk], beside_pending: bool) -> bool {
    let images = Images::of(memory, walks);
    let kept = usize::from(beside_pending || walks.len() > 1);
    images.plan(log).len() - 1 <= log.free_segments().saturating_sub(kept)
}

/// An image that is alive.
#[derive(Debug, Clone, Copy)]
struct Image {
    /// Whose.
    walk: usize,
    offset: usize,
    header: ImageHeader,
}

impl Image {
    fn bytes(&self) -> usize {
        image_bytes(self.header.size as usize)
    }
}

/// What is alive in the victims of a pass, the largest first.
struct Images(Vec<Image>);

impl Images {
    fn of(memory: &Memory, walks: &[Walk]) -> Self {
        let alive = |number: usize, walk: &Walk| -> Vec<Image> {
            let image = |&(offset, header)| Image { walk: number, offset, header };
            walk.images.iter().filter(|(offset, header)| walk.is_alive(memory, *offset, *header)).map(image).collect()
        };
        let mut images: Vec<Image> = walks.iter().enumerate().flat_map(|(number, walk)| alive(number, walk)).collect();
        // Stable, so that images of one size stay in the order in which they were written.
        images.sort_by_key(|image| std::cmp::Reverse(image.header.size));
        Images(images)
    }

    /// Where each image goes: to the rest of the segment that the cleaner fills, or to the first, second, ... free one behind it. Into each goes the largest
    /// image that fits, again and again.
    fn plan(self, log: &FarLog) -> Vec<Vec<Image>> {
        let (mut bins, mut left, mut rest) = (Vec::new(), self.0, log.rest(Stream::Clean));
        loop {
            let (mut bin, mut others) = (Vec::new(), Vec::new());
            for image in left {
                if image.bytes() <= rest {
                    rest -= image.bytes();
                    bin.push(image);
                } else {
                    others.push(image);
                }
            }
            bins.push(bin);
            if others.is_empty() {
                return bins;
            }
            (left, rest) = (others, FAR_SEGMENT_BYTES);
        }
    }
}

/// A victim's bytes, and where in it the images are.
struct Walk {
    victim: Sealed,
    bytes: IoBuf,
    incarnation: u32,
    /// Offset and header of each.
    images: Vec<(usize, ImageHeader)>,
    /// Where no image was found, if the walk ended there.
    broken_at: Option<usize>,
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

impl Walk {
    /// Reads a segment and finds its images. Nothing is believed of them yet but where each ends.
    fn over(memory: &Memory, victim: Sealed) -> Result<Self> {
        let incarnation = memory.far().with_segment(victim.id, |_, segment| segment.incarnation())?;
        let read = read_segment(memory, victim)?;
        let bytes = read.as_slice();
        let (mut images, mut broken_at, mut offset) = (Vec::new(), None, 0);
        while offset < victim.used {
            let header = ImageHeader::from_bytes(&bytes[offset..]).filter(|header| header.incarnation == incarnation);
            let Some(header) = header.filter(|header| bytes.len() - offset >= IMAGE_HEADER_BYTES + header.size as usize) else {
                broken_at = Some(offset);
                break;
            };
            images.push((offset, header));
            offset += image_bytes(header.size as usize);
        }
        Ok(Walk { victim, bytes: read, incarnation, images, broken_at })
    }

    /// Whether an object of one of the images is being fetched from here.
    fn is_held_up(&self, memory: &Memory) -> bool {
        self.images.iter().any(|(offset, header)| {
            let here = FarPlace::At(FarAddr::new(self.victim.id, *offset));
            memory.slot_table().get(header.slot).is_some_and(|slot| slot.load().state() == State::Fetching(here))
        })
    }

    /// Whether the image has to be copied, as far as its slot says now. It can't become so later: only a round makes objects absent.
    fn is_alive(&self, memory: &Memory, offset: usize, header: ImageHeader) -> bool {
        let here = FarPlace::At(FarAddr::new(self.victim.id, offset));
        let state = memory.slot_table().get(header.slot).map(|slot| slot.load().state());
        matches!(state, Some(State::Absent(place) | State::Fetching(place)) if place == here)
    }

    /// Takes their far copies away from objects that are present.
    fn disown(&self, memory: &Memory) {
        for (offset, header) in &self.images {
            let is_present = memory.slot_table().get(header.slot).is_some_and(|slot| slot.load().is_present());
            if is_present {
                claims(memory, header.slot, FarAddr::new(self.victim.id, *offset), header.size as usize);
            }
        }
    }

    fn evacuate_image(
        &self,
        memory: &Memory,
        log: &mut FarLog,
        offset: usize,
        header: ImageHeader,
        moves: &mut Vec<Move>,
    ) -> Result<()> {
        let (from, size) = (FarAddr::new(self.victim.id, offset), header.size as usize);
        if !claims(memory, header.slot, from, size) {
            return Ok(());
        }
        let image = &self.bytes.as_slice()[offset..offset + IMAGE_HEADER_BYTES + size];
        match verify(header.slot, self.incarnation, from, image) {
            Ok(()) => {
                let contents = &image[IMAGE_HEADER_BYTES..];
                let (to, batch) = log.append(memory, Stream::Clean, header.slot, contents)?;
                moves.push(Move { slot: header.slot, from, to, size, batch });
            }
            Err(detail) => damaged(memory, log, self.victim, from, detail),
        }
        Ok(())
    }
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
