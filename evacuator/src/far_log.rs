//! The far log: which far segments are in use, and the ones being filled.
//!
//! # States of a far segment
//! *Free*: nothing in it is alive, nobody fills it. *Open*: a stream fills it from its start, through a buffer here. *Sealed*: full;
//! images in it die one by one, until it is free again or the cleaner empties it. Two streams fill segments: one for
//! write-back, one for the cleaner, so that objects that have lived long lie together and are seldom copied again.
//!
//! # Writing
//! [`FarLog::append`] puts an image into a stream's buffer and says where it will be. [`FarLog::flush`] sends buffers as one write each, and
//! [`FarLog::drain`] waits for all writes; several are in flight at a time. Each append names its **batch**; after `drain` it is
//! known which batches arrived. Images of a batch that did not are given up by the caller, with `bury`.
//!
//! # Writes that fail
//! Two writes to one place are never under way at the same time, for nothing would order them: a segment is not used again while a write to it is in
//! flight, even if all that was in it is dead. And a write whose answer did not come may take effect later: its bytes may wait in the buffers of a
//! connection that has been given up, behind a server that was stopped for a while. If the place had been written anew, an old image would overwrite one
//! that counts as safe. So a segment in which a write failed is closed at that place, and when it is dead it is put in *quarantine* for longer than
//! such bytes can be expected to lie around (`QUARANTINE`) before it is free. Should they come later still, the incarnation tells, and a read says `Corrupt`.
//!
//! # When no server lends more
//! Write-back takes a free segment only while more than `kept_for_cleaning` are left, so that the cleaner always has one to copy to. [`FarLog::room`] says
//! what write-back can append now; a round sends away as much and keeps the rest ([`round`](crate::round)). The cleaner makes new room ([`cleaner`](crate::cleaner)).
#![forbid(unsafe_code)]

use farptr_runtime::ablations::FarLogWrites;
use farptr_runtime::addr::{FAR_SEGMENT_BYTES, FarAddr, FarSegmentId, SlotId};
use farptr_runtime::far::image::{self, image_bytes};
use farptr_runtime::far::{kept_for_cleaning, unblock, wait_for};
use farptr_runtime::memory::Memory;
use farptr_runtime::transport::{Completion, IoBuf, Op, PoolBuf, Session, Submit, Token, Verb};
use farptr_runtime::{Error, Result, TransportError};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// What an image is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Evacuation.
    WriteBack,
    /// The cleaner.
    Clean,
}

/// Images that are sent together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Batch(u64);

/// Writes in flight to one server. Each is up to 256 KiB in a buffer of its own, outside the local budget.
const MAX_WRITES: usize = 4;

/// One search for victims finds at least so many, and at least this part of all segments: a search looks at every sealed segment, which must cost little beside
/// cleaning those that it finds.
const LEAST_CANDIDATES: usize = 16;
const CANDIDATES_SHARE: usize = 64;

/// How long a dead segment in which a write failed is not used again, in timeouts of the memory. After four a TCP session gives its connection up; as many
/// again for the server to come to the end of what that connection held.
const QUARANTINE: u32 = 8;

#[derive(Debug)]
struct Open {
    id: FarSegmentId,
    incarnation: u32,
    /// Bytes of the segment that have been sent.
    sent: usize,
    /// What comes behind them.
    buffer: PoolBuf,
    batch: Batch,
}

impl Open {
    fn used(&self) -> usize {
        self.sent + self.buffer.len()
    }
}

/// A full far segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Which.
    pub id: FarSegmentId,
    /// Bytes from its start that hold images.
    pub used: usize,
}

/// Room is kept for a large object up to this part of the local budget.
const WANTED_SHARE: usize = 8;

/// Tail waste of a segment that makes it a victim even if nothing in it is dead. It is packed better among images of other sizes.
const MOST_WASTE: usize = FAR_SEGMENT_BYTES / 16;

/// Whether cleaning a segment may gain anything.
fn is_worth_it(live: usize, used: usize) -> bool {
    live < used || FAR_SEGMENT_BYTES - live >= MOST_WASTE
}

/// Which segments may be the next victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// All. Nothing has been appended since the last `drain`.
    All,
    /// Those that the last search found.
    Known,
}

/// What one stream can append without another free segment being found: an exact account, if images are appended in the order in which they are taken.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// More than anyone asks for: a server may lend more.
    unlimited: bool,
    /// Bytes left in the segment that is being filled.
    rest: usize,
    /// Free segments behind it.
    segments: usize,
}

impl Room {
    /// Whether an object of `size` bytes, or a piece, can be appended next. It is then.
    pub fn take(&mut self, size: usize) -> bool {
        let bytes = image_bytes(size);
        if self.unlimited {
            return true;
        }
        if bytes > self.rest {
            if self.segments == 0 {
                return false;
            }
            self.segments -= 1;
            self.rest = FAR_SEGMENT_BYTES;
        }
        self.rest -= bytes;
        true
    }

    /// Takes `bytes` away, or all there is, for somebody else. Returns what was taken.
    pub fn keep(&mut self, bytes: usize) -> Room {
        let mut kept = Room { rest: 0, segments: bytes.div_ceil(FAR_SEGMENT_BYTES).min(self.segments), ..*self };
        self.segments -= kept.segments;
        if bytes > kept.segments * FAR_SEGMENT_BYTES {
            kept.rest = std::mem::take(&mut self.rest);
        }
        kept
    }

    /// With what was taken away by `keep`.
    pub fn with(self, kept: Room) -> Room {
        Room { rest: self.rest.max(kept.rest), segments: self.segments + kept.segments, ..self }
    }

    /// Whether there is any limit.
    pub fn is_limited(&self) -> bool {
        !self.unlimited
    }

    /// Bytes without more being borrowed, tail waste not deducted.
    pub fn limited_bytes(&self) -> usize {
        self.rest + self.segments * FAR_SEGMENT_BYTES
    }
}

/// The far log of one memory.
#[derive(Default)]
pub struct FarLog {
    free: BTreeSet<FarSegmentId>,
    open: [Option<Open>; 2],
    sealed: BTreeMap<FarSegmentId, usize>,
    /// Far segments of each borrowed slab.
    slabs: BTreeMap<usize, usize>,
    /// Segments the cleaner could not read to the end. They are left alone.
    damaged: BTreeSet<FarSegmentId>,
    /// Victims in which an image was left that could not be moved, because its object was being fetched.
    pending: BTreeSet<FarSegmentId>,
    /// Sealed segments with much that is dead, the emptiest last.
    candidates: Vec<FarSegmentId>,
    /// Bytes alive and bytes appended when a search for victims was last in vain.
    nothing_found: Option<(u64, u64)>,
    writers: Vec<Option<Box<dyn Session>>>,
    appended_bytes: u64,
    /// Segments sealed since then. Slots do not say yet that their images are there, so they can't be cleaned.
    just_sealed: Vec<FarSegmentId>,
    /// Room that a large object waits for.
    wanted: usize,
    next_batch: u64,
    /// Writes in flight, and where each begins.
    writing: BTreeMap<Batch, (FarSegmentId, usize)>,
    /// Segments found dead while a write to them was in flight.
    dead_too_early: Vec<FarSegmentId>,
    /// Segments in which a write failed that may still take effect, and since when.
    doubtful: BTreeMap<FarSegmentId, Instant>,
    /// Those that are dead, and when they may be used again.
    quarantine: BTreeMap<FarSegmentId, Instant>,
    failed: BTreeMap<Batch, (FarSegmentId, usize)>,
    first_error: Option<Error>,
}

impl FarLog {
    /// Puts the image of an object into a stream, and says where it will be and with which batch it is sent. It counts as alive from now on.
    ///
    /// # Errors
    /// If there is no room in far memory, or a server can't be reached. Nothing was appended then.
    pub fn append(&mut self, memory: &Memory, stream: Stream, slot: SlotId, contents: &[u8]) -> Result<(FarAddr, Batch)> {
        self.make_room(memory, stream, contents.len())?;
        let bytes = image_bytes(contents.len());
        let open = self.open[stream as usize].as_mut().expect("a segment was opened just now");
        let addr = FarAddr::new(open.id, open.used());
        image::encode(slot, open.incarnation, addr, contents, open.buffer.grow(bytes));
        memory.far().revive(addr, bytes);
        self.appended_bytes += bytes as u64;
        let batch = open.batch;
        if memory.ablations().far_log == FarLogWrites::EachObject {
            self.write_now(memory, stream);
        }
        Ok((addr, batch))
    }

    /// Sends what a stream holds and waits until it is written, so that it may be sent more before it is drained: what fails is closed at once.
    #[cold]
    fn write_now(&mut self, memory: &Memory, stream: Stream) {
        self.flush_stream(memory, stream);
        self.wait_for_all(memory);
        for (id, offset) in self.failed.values().copied().collect::<Vec<_>>() {
            self.close(memory, id, offset);
        }
    }

    /// Waits until every write has ended.
    fn wait_for_all(&mut self, memory: &Memory) {
        for number in 0..self.writers.len() {
            while self.writers[number].as_ref().is_some_and(|session| session.in_flight() > 0) {
                self.wait(memory, number);
            }
        }
    }

    /// Sees to it that the image of an object of `size` bytes can be appended next, without waiting for a server.
    ///
    /// # Errors
    /// As for `append`.
    pub fn make_room(&mut self, memory: &Memory, stream: Stream, size: usize) -> Result<()> {
        let bytes = image_bytes(size);
        assert!(bytes <= FAR_SEGMENT_BYTES, "what is appended is a small object or a piece of a large one");
        if self.open[stream as usize].as_ref().is_none_or(|open| open.used() + bytes > FAR_SEGMENT_BYTES) {
            self.open_next(memory, stream)?;
        }
        Ok(())
    }

    /// Seals the segment that a stream fills, and opens the next.
    ///
    /// # Errors
    /// As for `append`.
    pub fn open_next(&mut self, memory: &Memory, stream: Stream) -> Result<()> {
        let id = self.take_free(memory, stream)?;
        self.seal(memory, stream);
        let incarnation = memory.far().begin_use(id)?;
        memory.far().count_used_segments(1);
        let batch = self.new_batch();
        self.open[stream as usize] = Some(Open { id, incarnation, sent: 0, buffer: memory.buffers().take(), batch });
        Ok(())
    }

    fn new_batch(&mut self) -> Batch {
        self.next_batch += 1;
        Batch(self.next_batch)
    }

    fn take_free(&mut self, memory: &Memory, stream: Stream) -> Result<FarSegmentId> {
        self.reclaim(memory);
        self.end_quarantines();
        let kept = |log: &Self| match stream {
            Stream::WriteBack => log.kept(),
            Stream::Clean => 0,
        };
        while self.free.len() <= kept(self) {
            self.borrow(memory)?;
        }
        Ok(self.free.pop_first().expect("there are more than are kept"))
    }

    /// Borrows a slab.
    fn borrow(&mut self, memory: &Memory) -> Result<()> {
        if memory.far().has_just_refused() {
            return Err(memory.far().full_error());
        }
        let (slab, segments) = memory.far().borrow_slab()?;
        self.add_slab(slab, segments);
        Ok(())
    }

    fn add_slab(&mut self, slab: usize, segments: usize) {
        self.slabs.insert(slab, segments);
        self.free.extend((0..segments).map(|index| FarSegmentId::new(slab, index)));
    }

    /// Free segments that are for the cleaner.
    fn kept(&self) -> usize {
        kept_for_cleaning(self.slabs.values().sum())
    }

    /// What write-back can append now.
    pub fn room(&mut self, memory: &Memory) -> Room {
        self.reclaim(memory);
        self.end_quarantines();
        Room {
            unlimited: !memory.far().is_full(),
            rest: self.rest(Stream::WriteBack),
            segments: self.free.len().saturating_sub(self.kept()),
        }
    }

    /// Bytes left in the segment that a stream fills.
    pub fn rest(&self, stream: Stream) -> usize {
        self.open[stream as usize].as_ref().map_or(0, |open| FAR_SEGMENT_BYTES - open.used())
    }

    /// Asks for more memory, if it is time to ask again.
    pub fn ask_again(&mut self, memory: &Memory) {
        if !memory.far().has_just_refused() {
            // If it is refused again, that is known from now on.
            let _ = self.borrow(memory);
        }
    }

    /// A large object needs `bytes` of room at a time. They are kept for it in the next rounds.
    pub fn want(&mut self, memory: &Memory, bytes: usize) {
        // Small objects wait meanwhile, in local memory.
        self.wanted = self.wanted.max(bytes.min(memory.budget().limit() / WANTED_SHARE));
    }

    /// What large objects wait for.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// As `wanted`, of which less is left with each call: the object may have gone, and if it has not it says so again.
    pub fn take_wanted(&mut self) -> usize {
        let wanted = self.wanted;
        self.wanted = if wanted < FAR_SEGMENT_BYTES { 0 } else { wanted - wanted / 8 };
        wanted
    }

    fn seal(&mut self, memory: &Memory, stream: Stream) {
        self.flush_stream(memory, stream);
        if let Some(open) = self.open[stream as usize].take() {
            self.sealed.insert(open.id, open.used());
            self.just_sealed.push(open.id);
            self.free_if_dead(memory, open.id);
        }
    }

    /// Sends what the buffers hold. At most once between two [`drain`](Self::drain)s: a write that fails cuts off its segment where it began, and what had been
    /// sent behind it would be lost to the cleaner.
    pub fn flush(&mut self, memory: &Memory) {
        self.flush_stream(memory, Stream::WriteBack);
        self.flush_stream(memory, Stream::Clean);
    }

    fn flush_stream(&mut self, memory: &Memory, stream: Stream) {
        if self.open[stream as usize].as_ref().is_none_or(|open| open.buffer.is_empty()) {
            return;
        }
        let (batch, empty) = (self.new_batch(), memory.buffers().take());
        let open = self.open[stream as usize].as_mut().expect("looked at just now");
        let (id, offset, sending) = (open.id, open.sent, open.batch);
        let bytes = std::mem::replace(&mut open.buffer, empty);
        open.sent += bytes.len();
        open.batch = batch;
        self.writing.insert(sending, (id, offset));
        if let Err(error) = self.write(memory, id, offset, bytes, sending) {
            // It never left.
            self.fail(sending, error);
        }
    }

    /// A write has ended badly. Returns its segment.
    fn fail(&mut self, batch: Batch, error: Error) -> Option<FarSegmentId> {
        let place = self.writing.remove(&batch)?;
        self.failed.insert(batch, place);
        self.first_error.get_or_insert(error);
        Some(place.0)
    }

    fn write(&mut self, memory: &Memory, id: FarSegmentId, offset: usize, bytes: PoolBuf, batch: Batch) -> Result<()> {
        let (number, at, _) = memory.far().locate(FarAddr::new(id, offset))?;
        let server = &memory.far().servers()[number];
        if let Some(lent) = server.immediate() {
            lent.write_at(at, bytes.as_slice()).map_err(|cause| server.error(cause))?;
            self.writing.remove(&batch);
            return Ok(());
        }
        self.writers.resize_with(memory.far().servers().len(), || None);
        let mut op = Op { token: Token(batch.0), verb: Verb::Write, at, buf: IoBuf::from(bytes) };
        loop {
            let session = match &mut self.writers[number] {
                Some(session) if session.failure().is_none() => session,
                // What it had in flight is lost, and which batches that are it has still to say.
                Some(session) if session.in_flight() > 0 => {
                    self.wait(memory, number);
                    continue;
                }
                writer => writer.insert(server.session()?),
            };
            if session.in_flight() < MAX_WRITES {
                match session.submit(op) {
                    Submit::Accepted => return Ok(()),
                    Submit::Busy(back) => op = back,
                    Submit::Failed(_, cause) => return Err(server.error(cause)),
                }
                if session.in_flight() == 0 {
                    unblock(&mut **session, &mut Vec::new());
                    continue;
                }
            }
            self.wait(memory, number);
        }
    }

    /// Waits until a write to server `number` has ended.
    fn wait(&mut self, memory: &Memory, number: usize) {
        let mut done = Vec::new();
        if let Some(session) = &mut self.writers[number] {
            wait_for(&mut **session, &mut done);
        }
        for Completion { token, result, .. } in done {
            let batch = Batch(token.0);
            match result {
                Ok(()) => drop(self.writing.remove(&batch)),
                Err(cause) => {
                    if let Some(id) = self.fail(batch, memory.far().servers()[number].error(cause)) {
                        self.doubtful.insert(id, Instant::now());
                    }
                }
            }
        }
    }

    /// Sends everything and waits until every write has ended. Which batches failed is known until the next `drain`; the first
    /// reason, if any, is returned.
    pub fn drain(&mut self, memory: &Memory) -> Drained {
        self.flush(memory);
        self.wait_for_all(memory);
        // A session that went without a word took its completions along.
        for batch in self.writing.keys().copied().collect::<Vec<_>>() {
            debug_assert!(false, "a session ended without completing what it had in flight");
            let cause = TransportError::Lost("the session ended without an answer".into());
            self.fail(batch, Error::transport(memory.far().server_names(), cause));
        }
        let failed = std::mem::take(&mut self.failed);
        for (id, offset) in failed.values() {
            self.close(memory, *id, *offset);
        }
        for id in std::mem::take(&mut self.dead_too_early) {
            self.free_if_dead(memory, id);
        }
        if !self.just_sealed.is_empty() {
            // They can be victims from now on, which a search in vain did not look at.
            self.just_sealed.clear();
            self.nothing_found = None;
        }
        Drained { failed, error: self.first_error.take() }
    }

    /// What begins at `offset` of a segment did not arrive: it ends there, for the cleaner, and is not filled any further. Nothing was written behind, since
    /// each segment has one write in flight at a time.
    fn close(&mut self, memory: &Memory, id: FarSegmentId, offset: usize) {
        for stream in [Stream::WriteBack, Stream::Clean] {
            if self.open[stream as usize].as_ref().is_some_and(|open| open.id == id) {
                self.seal(memory, stream);
            }
        }
        if let Some(used) = self.sealed.get_mut(&id) {
            *used = offset.min(*used);
        }
    }

    fn free_if_dead(&mut self, memory: &Memory, id: FarSegmentId) {
        let live = memory.far().with_segment(id, |_, segment| segment.live_bytes()).unwrap_or(0);
        if live > 0 || !self.sealed.contains_key(&id) {
            return;
        }
        if self.writing.values().any(|(writing, _)| *writing == id) {
            self.dead_too_early.push(id);
            return;
        }
        self.sealed.remove(&id);
        self.damaged.remove(&id);
        self.pending.remove(&id);
        memory.far().count_used_segments(-1);
        match self.doubtful.remove(&id) {
            Some(since) => drop(self.quarantine.insert(id, since + memory.timeout() * QUARANTINE)),
            None => drop(self.free.insert(id)),
        }
    }

    fn end_quarantines(&mut self) {
        if self.quarantine.is_empty() {
            return;
        }
        let now = Instant::now();
        let free = &mut self.free;
        self.quarantine.retain(|id, until| {
            let stays = *until > now;
            if !stays {
                free.insert(*id);
            }
            stays
        });
    }

    /// Frees the sealed segments in which the last image has died.
    pub fn reclaim(&mut self, memory: &Memory) {
        for (slab, segments) in memory.far().take_ahead() {
            self.add_slab(slab, segments);
        }
        for id in memory.far().take_emptied() {
            self.free_if_dead(memory, id);
        }
    }

    /// Whether so much of the used far memory is dead that cleaning pays: used more than 1.3 times live, by at least four segments. It keeps
    /// a program that overwrites its data for ever below 1.5 times its live bytes; at this filling a random overwriting load
    /// copies about two bytes for each byte written (Rosenblum and Ousterhout, SOSP 1991, figure 3).
    pub fn wants_cleaning(&self, memory: &Memory) -> bool {
        let (used, live) = (memory.far().used_bytes(), memory.far().live_bytes());
        used > live + live * 3 / 10 + 4 * FAR_SEGMENT_BYTES as u64
    }

    /// Bytes that the cleaner can copy to: free segments, and the rest of the segment that it fills.
    pub fn cleaning_room(&self) -> usize {
        self.free.len() * FAR_SEGMENT_BYTES + self.rest(Stream::Clean)
    }

    /// Bytes of the used segments that are dead, tail waste included: all but what is alive and what can still be filled.
    pub fn wasted_bytes(&self, memory: &Memory) -> u64 {
        let rest = self.rest(Stream::WriteBack) + self.rest(Stream::Clean);
        memory.far().used_bytes().saturating_sub(memory.far().live_bytes() + rest as u64)
    }

    fn live(memory: &Memory, id: FarSegmentId) -> usize {
        memory.far().with_segment(id, |_, segment| segment.live_bytes()).unwrap_or(0)
    }

    /// Free segments, those that are kept for the cleaner included.
    pub fn free_segments(&self) -> usize {
        self.free.len()
    }

    /// The victims in which something was left.
    pub fn pending(&self) -> Vec<Sealed> {
        self.pending.iter().filter_map(|id| Some(Sealed { id: *id, used: *self.sealed.get(id)? })).collect()
    }

    fn may_be_victim(&self, id: FarSegmentId) -> bool {
        !self.damaged.contains(&id) && !self.pending.contains(&id) && !self.just_sealed.contains(&id)
    }

    /// The next victim that is not pending: one of those with the least alive. `None` if nothing is dead in any, or nothing has changed since that was so. A
    /// pass searches for its first one only: those that are found then are enough for all, and each is found once.
    pub fn next_victim(&mut self, memory: &Memory, search: Search) -> Option<Sealed> {
        loop {
            while let Some(id) = self.candidates.pop() {
                if let Some(&used) = self.sealed.get(&id)
                    && self.may_be_victim(id)
                    && is_worth_it(Self::live(memory, id), used)
                {
                    return Some(Sealed { id, used });
                }
            }
            let now = (memory.far().live_bytes(), self.appended_bytes);
            if search == Search::Known || self.nothing_found == Some(now) {
                return None;
            }
            let most = (self.sealed.len() / CANDIDATES_SHARE).max(LEAST_CANDIDATES);
            self.candidates = self.emptiest(memory, most).into_iter().rev().map(|sealed| sealed.id).collect();
            if self.candidates.is_empty() && !self.seal_what_is_partly_dead(memory) {
                self.nothing_found = Some(now);
                return None;
            }
        }
    }

    /// A victim that there is no room for in this pass.
    pub fn put_back(&mut self, victim: Sealed) {
        self.candidates.push(victim.id);
    }

    /// Seals the segments that are being filled and hold dead images, so that they can be cleaned. Whether there are any. Nothing has been appended since the
    /// last `drain`.
    fn seal_what_is_partly_dead(&mut self, memory: &Memory) -> bool {
        let mut any = false;
        for stream in [Stream::WriteBack, Stream::Clean] {
            if self.open[stream as usize].as_ref().is_some_and(|open| Self::live(memory, open.id) < open.used()) {
                self.seal(memory, stream);
                any = true;
            }
        }
        self.just_sealed.clear();
        any
    }

    /// A pass has ended that began with `victim`. It is pending if something alive is left in it.
    pub fn end_of_victim(&mut self, memory: &Memory, victim: Sealed) {
        if self.sealed.contains_key(&victim.id) && !self.damaged.contains(&victim.id) && Self::live(memory, victim.id) > 0 {
            self.pending.insert(victim.id);
        } else {
            self.pending.remove(&victim.id);
        }
    }

    /// A pass has gained nothing: as if it had found nothing.
    pub fn end_in_vain(&mut self, memory: &Memory) {
        self.candidates.clear();
        self.nothing_found = Some((memory.far().live_bytes(), self.appended_bytes));
    }

    /// The `most` sealed segments with the least alive in them, emptiest first, of those that may gain anything.
    pub fn emptiest(&self, memory: &Memory, most: usize) -> Vec<Sealed> {
        let live = |id: FarSegmentId| Self::live(memory, id);
        let mut sealed: Vec<(usize, Sealed)> = self
            .sealed
            .iter()
            .filter(|(id, _)| self.may_be_victim(**id))
            .map(|(&id, &used)| (live(id), Sealed { id, used }))
            .filter(|(live, sealed)| is_worth_it(*live, sealed.used))
            .collect();
        let most = most.min(sealed.len());
        if most > 0 {
            sealed.select_nth_unstable_by_key(most - 1, |(live, _)| *live);
        }
        sealed.truncate(most);
        sealed.sort_unstable_by_key(|(live, _)| *live);
        sealed.into_iter().map(|(_, sealed)| sealed).collect()
    }

    /// The cleaner could not read a segment to its end.
    pub fn set_damaged(&mut self, id: FarSegmentId) {
        self.damaged.insert(id);
    }

    /// Returns slabs in which every segment is free.
    ///
    /// # Errors
    /// If a server can't be told; the slab is given up all the same.
    pub fn return_free_slabs(&mut self, memory: &Memory) -> Result<()> {
        self.reclaim(memory);
        for stream in [Stream::WriteBack, Stream::Clean] {
            let dead = |open: &Open| memory.far().with_segment(open.id, |_, segment| segment.live_bytes()).unwrap_or(0) == 0;
            if self.open[stream as usize].as_ref().is_some_and(dead) {
                self.seal(memory, stream);
            }
        }
        let mut outcome = Ok(());
        for (slab, segments) in self.slabs.clone() {
            let ids = (0..segments).map(|index| FarSegmentId::new(slab, index));
            // Unless nothing is left to use, the cleaner needs a free one: the next borrower might take this slab for good.
            let of_slab = ids.clone().filter(|id| self.free.contains(id)).count();
            let is_used = !self.sealed.is_empty() || self.open.iter().any(Option::is_some);
            if is_used && self.free.len() == of_slab {
                continue;
            }
            // Those in quarantine as well: what comes late for a slab that is not lent any more is refused.
            if ids.clone().all(|id| self.free.contains(&id) || self.quarantine.contains_key(&id)) {
                ids.for_each(|id| {
                    self.free.remove(&id);
                    self.quarantine.remove(&id);
                });
                self.slabs.remove(&slab);
                outcome = outcome.and(memory.far().return_slab(slab));
            }
        }
        outcome
    }
}

/// What became of the writes.
#[derive(Debug)]
#[must_use]
pub struct Drained {
    failed: BTreeMap<Batch, (FarSegmentId, usize)>,
    /// The first reason, if any failed.
    pub error: Option<Error>,
}

impl Drained {
    /// Whether the images of `batch` have arrived.
    pub fn arrived(&self, batch: Batch) -> bool {
        !self.failed.contains_key(&batch)
    }
}

impl std::fmt::Debug for FarLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FarLog")
            .field("free", &self.free.len())
            .field("sealed", &self.sealed.len())
            .field("slabs", &self.slabs.len())
            .finish_non_exhaustive()
    }
}
