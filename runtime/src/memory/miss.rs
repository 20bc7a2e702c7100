//! Swap-in: claim, fetch, check, publish.
//!
//! **Nobody waits for room while it has a claim.** Others may be waiting for that fetch in scopes, and the memory is freed only when these end. So a thread
//! that finds no room gives its claim back, waits, and claims anew with the room in its hands. Between claim and publication there is only the fetch itself,
//! which ends within the time an operation may take.

use super::joined::{Place, Sleeper};
use super::lane::DRIVER_PATIENCE;
use super::{Memory, NewObject, Origin, is_ghost};
use crate::ablations::{Misses, Policy};
use crate::addr::{FarAddr, LargeId, SlotId};
use crate::error::{Error, Result};
use crate::far::image::{self, IMAGE_HEADER_BYTES};
use crate::far::{LargeFar, PIECE_BYTES};
use crate::heap::{HEADER_BYTES, MAX_SMALL, QueueKind};
use crate::scope::AccessHint;
use crate::transport::{IoBuf, Progress, Verb};
use crate::word::{FarPlace, Freshness, Slot, Stamp, State, Warmth, Word};
use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

const _: () = assert!(MAX_SMALL <= PIECE_BYTES, "the far copy of a small object is one piece");
const _: () = assert!(HEADER_BYTES == IMAGE_HEADER_BYTES, "an image is read right into an object's place");

/// Spinning for another's fetch, as long as a copy from mapped memory takes. Then the processor is offered to who may need it to end that fetch: two threads that miss the same objects over
/// TCP, with the server on the same two processors, read 52 k/s when they spun for 2000 turns, and 154 k/s so.
const SPINS_FOR_FETCH: u32 = 64;

/// How long the few threads that may spin give way to others for another's fetch, before they sleep: about as long as a miss by message takes on a local network.
const YIELDS_FOR_FETCH: Duration = Duration::from_micros(50);

/// Time between two looks of the one sleeping thread that helps the fetches of futures on.
const HELP_INTERVAL: Duration = Duration::from_micros(50);

/// Spinning for the next piece of a large object, before the thread sleeps between looks.
const SPIN_FOR_PIECES: Duration = Duration::from_micros(300);

impl Memory {
    /// One step towards a local copy of an object whose word was `seen`, not present. The caller looks at the word again.
    pub(super) fn bring_in(&self, slot: &Slot, seen: Word, layout: Layout, hint: AccessHint) -> Result<()> {
        #[cfg(farptr_zeal)]
        self.legal_point();
        match seen.state() {
            State::Absent(_) => match slot.claim_fetch(seen) {
                Ok(claimed) => self.swap_in(slot, seen, claimed, layout, hint),
                Err(_) => Ok(()),
            },
            State::Fetching(place) => {
                if self.ablations().misses == Misses::Apart {
                    // Whoever claimed it may have been done meanwhile, and the place be another's: then it is an error that is dropped.
                    drop(self.fetch_apart(place, self.slots.id_of(slot), layout.size()));
                }
                self.join_fetch(slot)
            }
            State::Present(_) => Ok(()),
            State::Vacant => unreachable!("a pointer's slot is in use as long as the pointer lives"),
        }
    }

    /// What the policy makes of an object that comes in now.
    fn origin(&self, claimed: Word, place: FarPlace, hint: AccessHint) -> Origin {
        let kind = match hint {
            AccessHint::NonTemporal => QueueKind::Transient,
            AccessHint::Normal if is_ghost(self.ghost_now(), claimed.stamp()) => QueueKind::of_survivors(self.ablations().policy),
            AccessHint::Normal => QueueKind::Young,
        };
        let far = match place {
            FarPlace::At(addr) => addr.to_bits(),
            FarPlace::Large(large) => large.0,
        };
        Origin::Fetched { kind, far }
    }

    /// Finds room for an object that was claimed from `seen`, fetches it and publishes it. If another claims it while this waits for room, that one fetches it. On an error the claim is given back.
    fn swap_in(&self, slot: &Slot, seen: Word, claimed: Word, layout: Layout, hint: AccessHint) -> Result<()> {
        let State::Fetching(place) = claimed.state() else { unreachable!("a claimed word says that it is being fetched") };
        let room = self.try_fetch_room(slot, claimed, place, layout, hint);
        if let Ok(Some(object)) = room {
            return self.fetch(slot, claimed, place, object, layout);
        }
        self.give_back(slot, claimed);
        room?;
        let object = self.new_object(self.slots.id_of(slot), layout, self.origin(claimed, place, hint))?;
        match slot.claim_fetch(seen) {
            Ok(claimed) => self.fetch(slot, claimed, place, object, layout),
            Err(_) => Ok(()),
        }
    }

    /// Fetches a claimed object, blocking.
    fn fetch(&self, slot: &Slot, claimed: Word, place: FarPlace, object: NewObject<'_>, layout: Layout) -> Result<()> {
        if matches!(place, FarPlace::Large(_)) && !self.is_immediate(place) {
            self.fetch_pieces(slot, claimed, object, layout)
        } else {
            self.fetch_into(slot, claimed, place, object, layout)
        }
    }

    /// Room for a claimed object, if there is some now.
    pub(super) fn try_fetch_room(
        &self,
        slot: &Slot,
        claimed: Word,
        place: FarPlace,
        layout: Layout,
        hint: AccessHint,
    ) -> Result<Option<NewObject<'_>>> {
        self.try_new_object(self.slots.id_of(slot), layout, self.origin(claimed, place, hint))
    }

    /// Whether the bytes at `place` are mapped here, so that fetching them is a copy.
    pub(super) fn is_immediate(&self, place: FarPlace) -> bool {
        let FarPlace::At(addr) = place else { return self.far.is_mapped() };
        // An address that is nobody's is for the fetch to report.
        self.far.locate(addr).map_or(true, |(server, ..)| self.far.servers()[server].immediate().is_some())
    }

    /// Fetches a claimed object into its room and publishes it. On an error the claim is given back.
    pub(super) fn fetch_into(
        &self,
        slot: &Slot,
        claimed: Word,
        place: FarPlace,
        mut object: NewObject<'_>,
        layout: Layout,
    ) -> Result<()> {
        let fetched = match (place, self.is_large(layout)) {
            (FarPlace::At(addr), false) => self.fetch_image(addr, self.slots.id_of(slot), object.image_mut()),
            (FarPlace::Large(large), true) => self.fetch_large(large, object.image_mut()),
            _ => unreachable!("an object of one layout is small or large for as long as it lives"),
        };
        match fetched {
            Ok(()) => {
                self.publish_fetched(slot, claimed, object, layout);
                self.joined.tell(self.slots.id_of(slot));
            }
            Err(_) => {
                drop(object);
                self.give_back(slot, claimed);
            }
        }
        fetched
    }

    /// Makes a fetched object visible. The claim is the caller's, who tells those that wait for its end.
    pub(crate) fn publish_fetched(&self, slot: &Slot, claimed: Word, object: NewObject<'_>, layout: Layout) {
        let warmth = if self.ablations().policy == Policy::Clock { Warmth::Hot } else { Warmth::Fresh };
        let published = object.settle(|addr| slot.publish(claimed, Word::present(addr, Freshness::Clean, warmth)).map(drop));
        debug_assert!(published.is_ok(), "a claimed word is changed by its claimer only");
        self.count_miss(layout);
    }

    /// An object of `layout` was fetched.
    #[inline]
    pub(super) fn count_miss(&self, layout: Layout) {
        self.counters.misses.fetch_add(1, Ordering::Relaxed);
        self.counters.swapped_in_bytes.fetch_add(layout.size() as u64, Ordering::Relaxed);
    }

    /// Fetches an object's bytes into ordinary memory, behind room for a header.
    pub(super) fn fetch_apart(&self, place: FarPlace, slot: SlotId, size: usize) -> Result<Vec<u8>> {
        let mut image = vec![0; HEADER_BYTES + size];
        match place {
            FarPlace::At(addr) => self.fetch_image(addr, slot, &mut image)?,
            FarPlace::Large(large) => self.fetch_large(large, &mut image)?,
        }
        Ok(image)
    }

    /// Reads and checks the image at `addr`, header and contents without padding.
    ///
    /// # Errors
    /// Of the transport; `Corrupt` if the bytes are not those that were written.
    pub fn fetch_image(&self, addr: FarAddr, slot: SlotId, image: &mut [u8]) -> Result<()> {
        let (server, at, incarnation) = self.far.locate(addr)?;
        let server = &self.far.servers()[server];
        let verified = match server.immediate() {
            Some(lent) => {
                let crc = lent.read_summed(at, image, IMAGE_HEADER_BYTES).map_err(|cause| server.error(cause))?;
                image::verify_summed(slot, incarnation, addr, image, crc)
            }
            None => {
                // SAFETY: the slice is borrowed exclusively until this function returns, and the loan ends before: `transfer` hands the
                // buffer back or drops it, and a session does not touch a buffer after its operation has completed.
                let loan = unsafe { IoBuf::loan(NonNull::from(&mut image[0]), image.len()) };
                drop(server.transfer(Verb::Read, at, loan)?);
                image::verify(slot, incarnation, addr, image)
            }
        };
        verified.map_err(|detail| self.corrupt(addr, detail))
    }

    /// The error for an image that is not what was written.
    #[cold]
    pub fn corrupt(&self, addr: FarAddr, detail: &'static str) -> Error {
        let server = self
            .far
            .locate(addr)
            .map_or_else(|_| "unknown server".into(), |(server, ..)| self.far.servers()[server].name().into());
        Error::Corrupt { server, segment: addr.segment().0, offset: addr.offset() as u32, detail }
    }

    /// Reads the pieces of a large object into `image`: room for a header, then the contents. They do not move meanwhile, or if one does, the cleaner has
    /// left a valid image behind: its segment is not used again before the piece's slot says where it went, and a piece that fails its check is looked up
    /// again.
    ///
    /// Each is read right into its place, the last first: its header lies where the end of the piece before it comes next.
    #[cold]
    fn fetch_large(&self, large: LargeId, image: &mut [u8]) -> Result<()> {
        let size = image.len() - IMAGE_HEADER_BYTES;
        let far = self.large_fars.get(large).filter(|far| far.size == size).ok_or_else(|| self.lost_large())?;
        for (number, piece) in far.pieces.iter().enumerate().rev() {
            let (offset, len) = LargeFar::cut(size, number);
            self.fetch_piece(*piece, &mut image[offset..offset + IMAGE_HEADER_BYTES + len])?;
        }
        Ok(())
    }

    fn fetch_piece(&self, piece: SlotId, image: &mut [u8]) -> Result<()> {
        loop {
            let word = self.slots.slot(piece).load();
            let State::Absent(FarPlace::At(addr)) = word.state() else { return Err(self.lost_large()) };
            match self.fetch_image(addr, piece, image) {
                // The cleaner moved the piece between the look and the read.
                Err(_) if self.slots.slot(piece).load() != word => {}
                result => return result,
            }
        }
    }

    /// As `fetch_into` for a large object that is not mapped: its pieces are asked for together, as if it were awaited.
    #[cold]
    fn fetch_pieces(&self, slot: &Slot, claimed: Word, object: NewObject<'_>, layout: Layout) -> Result<()> {
        let lane = self.lane();
        let ending = lane.begin(|reads| reads.begin(self, slot, claimed, object, layout));
        let mut quiet_since = Instant::now();
        // Each read has an end, at the latest by its timeout.
        loop {
            let now = Instant::now();
            if lane.drive(self, now) == Progress::Moved {
                quiet_since = now;
            }
            if let Some(result) = ending.result() {
                return result;
            }
            if now - quiet_since > SPIN_FOR_PIECES {
                std::thread::sleep(Duration::from_micros(50));
            } else {
                // A server on the same machine may need the processor.
                crate::sync::yield_now();
            }
        }
    }

    /// Waits until the fetch that another thread or task has claimed has ended, well or not: see [`super::joined`]. The caller looks at the word again.
    ///
    /// # Errors
    /// `Timeout` if it has not ended after the time that any operation may take.
    pub(super) fn join_fetch(&self, slot: &Slot) -> Result<()> {
        let is_fetching = || matches!(slot.load().state(), State::Fetching(_));
        for _ in 0..SPINS_FOR_FETCH {
            if !is_fetching() {
                return Ok(());
            }
            crate::sync::spin_loop();
        }
        let started = Instant::now();
        if let Some(_spinning) = self.spinners.try_spin() {
            while started.elapsed() < YIELDS_FOR_FETCH {
                crate::sync::yield_now();
                if !is_fetching() {
                    return Ok(());
                }
            }
        }
        let waker = Waker::from(Arc::new(Sleeper(crate::sync::current())));
        let place = self.joined.register(self.slots.id_of(slot), waker, None);
        let claimed = slot.load();
        if !matches!(claimed.state(), State::Fetching(_)) || slot.confirm_fetch(claimed).is_err() {
            return Ok(());
        }
        self.sleep_until_told(&place, started)
    }

    /// Sleeps, and helps the fetches of futures on if nobody else does.
    fn sleep_until_told(&self, place: &Place<'_>, started: Instant) -> Result<()> {
        loop {
            let role = self.joined.try_help().filter(|_| self.help_fetches());
            let is_looked_after = role.is_some() || self.tick(None);
            if place.is_told() {
                return Ok(());
            }
            let waited = started.elapsed();
            let Some(left) = self.timeout.checked_sub(waited).filter(|left| !left.is_zero()) else {
                return Err(self.fetch_timeout(waited));
            };
            crate::sync::park_timeout(match (&role, is_looked_after) {
                (Some(_), _) => left.min(HELP_INTERVAL),
                (None, true) => left,
                // The system gives no thread for the ticker.
                (None, false) => left.min(DRIVER_PATIENCE),
            });
        }
    }

    /// Gives a claim back, and tells whoever waits for it.
    pub(super) fn give_back(&self, slot: &Slot, claimed: Word) {
        give_back_quietly(slot, claimed);
        self.joined.tell(self.slots.id_of(slot));
    }

    /// Lets a claimed object go as if it had left now, and tells whoever waits for it.
    pub(super) fn pass_by(&self, slot: &Slot, claimed: Word, stamp: Stamp) {
        let let_go = slot.pass_by(claimed, stamp);
        debug_assert!(let_go.is_ok(), "a claimed word is changed by its claimer only");
        self.joined.tell(self.slots.id_of(slot));
    }
}

/// Gives a claim back. The caller tells those that wait for its end.
pub(super) fn give_back_quietly(slot: &Slot, claimed: Word) {
    let given_back = slot.abandon_fetch(claimed);
    debug_assert!(given_back.is_ok(), "a claimed word is changed by its claimer only");
}
