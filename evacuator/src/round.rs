//! One round of evacuation, by the protocol of [`farptr_runtime::word`].
//!
//! 1. `choose`: takes victim segments from their queues and marks their objects; picks large objects in proportion.
//! 2. One grace period. Its end also frees the segments in limbo since the round before.
//! 3. `settle`: relocates hot objects, lets clean cold ones go, appends dirty cold ones to the far log.
//! 4. The far log is drained; what has arrived lets go of its local copy.
//! 5. Segments with nothing left are free, or in limbo if something was relocated out of them; the others go back to their queue.
//!
//! # When far memory is nearly full
//! The far log says how much it can take now ([`FarLog::room`]). While marking, dirty cold objects are counted against that. Those beyond it are marked for
//! moving instead of leaving: they are put together in other segments, so that the clean ones among them leave and their segments become free. Otherwise each local segment
//! would keep a dirty object or two, and nothing would ever be free for clean copies. A segment in which nearly everything would have to be moved is
//! left alone. What a round has gained is what it freed less what it filled ([`Outcome::is_progress`]).
//!
//! A round ends in bounded time: the grace period has a deadline, and so has every write. What could not be finished is unmarked and
//! stays where it is.

use crate::far_log::{Batch, FarLog, Room, Stream};
use crate::large::LargeRound;
use crate::victims;
use farptr_runtime::ablations::Policy;
use farptr_runtime::addr::{FarAddr, ObjectAddr};
use farptr_runtime::budget::Party;
use farptr_runtime::far::image::image_bytes;
use farptr_runtime::heap::{HEADER_BYTES, ObjectHeader, QueueKind, SealedSegment, SegmentId};
use farptr_runtime::memory::{Memory, Young};
use farptr_runtime::scope::{begin_grace, in_scope};
use farptr_runtime::steps::{self, Fate, Mark, Plan};
use farptr_runtime::word::{FarPlace, Slot, State, Word};
use farptr_runtime::{Error, poison, sys};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Bytes of victims in a round: enough that one grace period (about 10 us) costs little beside the copying, little enough that the round's slots
/// and words stay in the second-level cache between marking and finishing.
const ROUND_BYTES: usize = 2 << 20;

/// A round takes at most this part of the heap.
const ROUND_SHARE: usize = 16;

/// How long a round waits for scopes. A scope that lasts longer is a program's mistake or a very long read; the round is given up.
pub const GRACE_LIMIT: Duration = Duration::from_millis(500);

/// How many objects ahead slots are prefetched: a dependent load from memory takes 100-250 ns, handling an object 10-20.
const PREFETCH: usize = 12;

/// A segment of which more than this many eighths would have to be moved is left alone when far memory is short: copying seven eighths of a segment to gain
/// one is the most that is worth it.
const MOST_MOVED_EIGHTHS: usize = 7;

/// Segments that a round looks at for each victim that it may take, at most, when far memory is short.
const LOOKS_PER_VICTIM: usize = 4;

/// Whether hot objects are spared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mercy {
    /// Hot objects are relocated.
    Spare,
    /// The last rounds freed nothing: hot objects leave as well.
    None,
    /// All objects are relocated. Large ones as for `Spare`.
    #[cfg(farptr_zeal)]
    Keep,
}

/// What a round has achieved.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Segments freed, those included that come out of limbo.
    pub freed_segments: usize,
    /// Bytes of large objects freed.
    pub freed_large: usize,
    /// Free segments opened for relocated objects.
    pub opened_segments: usize,
    /// Bytes of a local segment.
    pub segment_bytes: usize,
    /// Bytes of far memory that the cleaner has made room for before the round.
    pub gained_far: usize,
    /// Whether dirty objects were kept because the far log has no room for them now.
    pub short_of_far: bool,
    /// Victims looked at.
    pub victims: usize,
    /// Whether the grace period was given up.
    pub scopes_too_long: bool,
    /// Why write-back failed, if it did.
    pub error: Option<Error>,
}

impl Outcome {
    /// Whether anything was freed: then hot objects can go on being spared, also if as much was filled with them.
    pub fn has_freed(&self) -> bool {
        self.freed_segments > 0 || self.freed_large > 0
    }

    /// Whether more was freed than relocated objects took. Otherwise a thread could wait for ever for rounds that only move what can't leave.
    pub fn is_progress(&self) -> bool {
        self.freed_segments * self.segment_bytes + self.freed_large > self.opened_segments * self.segment_bytes
    }

    /// Whether a round more may free something although this one did not: the cleaner has gained room for dirty objects to leave.
    pub fn is_hopeful(&self) -> bool {
        self.is_progress() || self.gained_far > 0
    }
}

struct Victim {
    segment: SealedSegment,
    /// Objects that were there.
    found: usize,
    /// Objects that are still there.
    left: usize,
    /// An object was relocated: readers may hold references to its old place.
    relocated: bool,
}

struct Marked<'m> {
    slot: &'m Slot,
    word: Word,
    addr: ObjectAddr,
    header: ObjectHeader,
    victim: usize,
}

struct Written<'m> {
    slot: &'m Slot,
    word: Word,
    addr: FarAddr,
    batch: Batch,
    size: usize,
    victim: usize,
}

/// What is kept from one round to the next.
#[derive(Debug, Default)]
pub struct RoundState {
    limbo: Vec<SegmentId>,
    /// Places that objects were relocated from since the last grace period, which readers may still look at: to be poisoned.
    #[cfg(farptr_zeal)]
    left_behind: Vec<(ObjectAddr, usize)>,
    /// The segment that objects were last relocated to.
    target: Option<SegmentId>,
    /// Part of the next large object's turn that has been earned, in bytes.
    pub(crate) large_credit: usize,
}

impl RoundState {
    /// Whether segments wait for a grace period.
    pub fn has_limbo(&self) -> bool {
        !self.limbo.is_empty()
    }

    /// Frees the segments in limbo, after a grace period of their own. Returns how many. None in a scope of the calling thread, which no grace period
    /// that it waits for would outlast.
    pub fn free_limbo(&mut self, memory: &Memory) -> usize {
        if self.limbo.is_empty() || in_scope() || !begin_grace().wait_until(Instant::now() + GRACE_LIMIT) {
            return 0;
        }
        self.after_grace(memory)
    }

    /// As `free_limbo`, for what was left behind in other segments as well. False if a scope outlasted `patience`.
    #[cfg(farptr_zeal)]
    pub(crate) fn settle_limbo(&mut self, memory: &Memory, patience: Duration) -> bool {
        if self.limbo.is_empty() && self.left_behind.is_empty() {
            return true;
        }
        let over = begin_grace().wait_until(Instant::now() + patience);
        if over {
            self.after_grace(memory);
        }
        over
    }

    /// A grace period that began after the last round has ended.
    fn after_grace(&mut self, memory: &Memory) -> usize {
        #[cfg(farptr_zeal)]
        for (addr, size) in self.left_behind.drain(..) {
            // SAFETY: an object moved away from here, and every scope in which it could be read here has ended. Its segment is in limbo or was
            // put back as one that is referred to, so it has not been freed since; the header is left alone.
            unsafe { poison::given_up(addr.get(), size) };
        }
        let freed = self.limbo.len();
        for id in self.limbo.drain(..) {
            // SAFETY: every object of the segment had left it when it was put here (relocated, absent or dead). References to relocated
            // objects' old places were held by scopes that were open then, all of which have ended.
            unsafe { memory.heap().free(id) };
        }
        freed
    }
}

/// A round under way.
pub struct Round<'m> {
    memory: &'m Memory,
    mercy: Mercy,
    victims: Vec<Victim>,
    marked: Vec<Marked<'m>>,
    written: Vec<Written<'m>>,
    outcome: Outcome,
    evacuated: u64,
    relocated: u64,
    evacuated_bytes: usize,
    /// What the far log can take.
    room: Room,
    /// The segment that objects were last relocated to.
    target: Option<SegmentId>,
    young: Young,
    #[cfg(farptr_zeal)]
    left_behind: Vec<(ObjectAddr, usize)>,
}

/// Runs one round, which waits for scopes no longer than `patience`. The caller holds the evacuator's lock and no scope.
pub fn run(memory: &Memory, state: &mut RoundState, log: &mut FarLog, mercy: Mercy, patience: Duration) -> Outcome {
    memory.counters().rounds.fetch_add(1, Ordering::Relaxed);
    let mut room = log.room(memory);
    // A large object needs much room at a time, which small ones would use up bit by bit.
    let kept_for_large = room.keep(log.take_wanted());
    let mut round = Round {
        memory,
        mercy,
        victims: Vec::new(),
        marked: Vec::new(),
        written: Vec::new(),
        outcome: Outcome { segment_bytes: memory.heap().segment_bytes(), ..Outcome::default() },
        evacuated: 0,
        relocated: 0,
        evacuated_bytes: 0,
        room,
        target: state.target,
        young: Young::default(),
        #[cfg(farptr_zeal)]
        left_behind: Vec::new(),
    };
    round.choose();
    let segment_bytes = round.victims.len() * memory.heap().segment_bytes();
    let mut large = LargeRound::choose(memory, state, mercy, segment_bytes, round.room.with(kept_for_large));
    if let Some(bytes) = large.refused {
        round.outcome.short_of_far = true;
        log.want(memory, bytes);
    }
    round.outcome.victims = round.victims.len() + large.len();
    if begin_grace().wait_until(Instant::now() + patience) {
        round.outcome.freed_segments += state.after_grace(memory);
        round.settle(log);
        large.copy(log);
        let drained = log.drain(memory);
        round.finish(&drained);
        round.outcome.freed_large = large.finish(&drained);
        round.outcome.error = round.outcome.error.take().or(large.error).or(drained.error);
    } else {
        round.outcome.scopes_too_long = true;
        round.unmark_all();
        large.unmark_all();
    }
    round.close(state)
}

/// Bytes of objects that one round looks at, at least a segment.
pub(crate) fn most_bytes(memory: &Memory) -> usize {
    let heap = memory.heap();
    let segment = heap.segment_bytes();
    (ROUND_BYTES / segment).min(heap.capacity() / ROUND_SHARE).max(1) * segment
}

impl<'m> Round<'m> {
    fn choose(&mut self) {
        let heap = self.memory.heap();
        let most = most_bytes(self.memory) / heap.segment_bytes();
        // Kept aside while the others are looked through: a thread that lost its processor in the middle of a swap-in would otherwise hide them.
        let mut aside = Vec::new();
        let mut looks_left = most * LOOKS_PER_VICTIM;
        while self.victims.len() < most
            && looks_left > 0
            && let Some(segment) = victims::next(self.memory, self.mercy)
        {
            if heap.is_busy(segment.id) {
                aside.push(segment);
            } else if self.is_not_worth_it(&segment) {
                aside.push(segment);
                looks_left -= 1;
            } else {
                self.mark_segment(segment);
            }
        }
        aside.into_iter().for_each(|segment| heap.put_back(segment));
    }

    /// Whether nearly all of a segment, which is not busy, is dirty objects that can't leave now.
    fn is_not_worth_it(&mut self, segment: &SealedSegment) -> bool {
        if !self.room.is_limited() {
            return false;
        }
        let (mut room, mut kept) = (self.room, 0);
        // SAFETY: taken from its queue, not busy since, and neither freed nor put back while this is looked at.
        for (addr, header) in unsafe { self.memory.heap().objects(segment) } {
            let Some(slot) = self.memory.slot_table().get(header.slot()) else { continue };
            let word = slot.load();
            if word.is_present_at(addr) && !word.is_clean() && !room.take(header.size()) {
                kept += HEADER_BYTES + header.size();
            }
        }
        let is_not_worth_it = kept * 8 > self.memory.heap().segment_bytes() * MOST_MOVED_EIGHTHS;
        self.outcome.short_of_far |= is_not_worth_it;
        is_not_worth_it
    }

    fn mark_segment(&mut self, segment: SealedSegment) {
        let heap = self.memory.heap();
        let table = self.memory.slot_table();
        let victim = self.victims.len();
        let mut left = 0;
        let spares_hot = self.memory.ablations().policy != Policy::ArrivalOrder;
        // SAFETY: taken from its queue, not busy since, and neither freed nor put back before `close`.
        let mut ahead = unsafe { heap.objects(&segment) };
        let mut ahead_by = 0;
        // SAFETY: as above.
        for (addr, header) in unsafe { heap.objects(&segment) } {
            while ahead_by < PREFETCH {
                let Some((_, header)) = ahead.next() else { break };
                if let Some(slot) = table.get(header.slot()) {
                    sys::prefetch_line(std::ptr::from_ref(slot) as usize);
                }
                ahead_by += 1;
            }
            ahead_by -= 1;
            let Some(slot) = table.get(header.slot()) else { continue };
            let mut can_leave = None;
            let room = &mut self.room;
            let spares = |word: Word| match self.mercy {
                Mercy::Spare if spares_hot && word.is_hot() => true,
                #[cfg(farptr_zeal)]
                Mercy::Keep => true,
                Mercy::Spare | Mercy::None => !word.is_clean() && !*can_leave.get_or_insert_with(|| room.take(header.size())),
            };
            let marked = steps::mark_as(slot, addr, spares);
            self.outcome.short_of_far |= can_leave == Some(false);
            match marked {
                Mark::Marked(word) => {
                    left += 1;
                    if segment.kind == QueueKind::Young {
                        self.young.count(header.far() != 0, word.is_hot());
                    }
                    self.marked.push(Marked { slot, word, addr, header, victim });
                }
                Mark::Stays => left += 1,
                Mark::Gone => {}
            }
        }
        self.victims.push(Victim { segment, found: left, left, relocated: false });
    }

    /// After the grace period.
    fn settle(&mut self, log: &mut FarLog) {
        let stamp = self.memory.ghost_now();
        for marked in std::mem::take(&mut self.marked) {
            let Marked { slot, word, addr, header, victim } = marked;
            match steps::plan(slot, word) {
                Plan::Lost => self.lost(slot, addr, victim),
                Plan::Relocate => self.relocate(marked),
                Plan::LetGo => {
                    let place = FarPlace::At(FarAddr::from_bits(header.far()));
                    match slot.finish_absent(word, place, stamp) {
                        Ok(_) => self.gone(victim, addr, header.size()),
                        Err(_) => self.lost(slot, addr, victim),
                    }
                }
                Plan::WriteBack if self.outcome.error.is_some() => self.keep(slot, word, addr, victim),
                Plan::WriteBack => self.append(log, marked),
            }
        }
    }

    fn relocate(&mut self, marked: Marked<'m>) {
        let Marked { slot, word, addr, header, victim } = marked;
        let heap = self.memory.heap();
        let (layout, survivors) = (header.layout(), QueueKind::of_survivors(self.memory.ablations().policy));
        let room = heap.alloc(heap.evacuator_shard(), survivors, layout, self.memory.budget(), Party::Evacuator);
        let Ok(to) = room else {
            self.keep(slot, word, addr, victim);
            return;
        };
        let target = heap.segment_of(to);
        if self.target != target {
            self.outcome.opened_segments += 1;
            self.target = target;
        }
        // SAFETY: the old contents: the slot said "relocating, here" after the grace period, so nobody writes them until the word
        // changes to say otherwise and this CAS fails; a writer that meets the mark copies them itself. They stay mapped, since this
        // round has the segment. The new contents and header: busy, just allocated here. They do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(addr.get() as *const u8, to.get() as *mut u8, layout.size());
            header.write(to);
        }
        let finished = slot.finish_relocated(word, to);
        heap.settle(to);
        match finished {
            Ok(_) => {
                self.relocated += 1;
                self.victims[victim].left -= 1;
                self.victims[victim].relocated = true;
                #[cfg(farptr_zeal)]
                self.left_behind.push((addr, layout.size()));
            }
            Err(_) => self.lost(slot, addr, victim),
        }
    }

    fn append(&mut self, log: &mut FarLog, marked: Marked<'m>) {
        let Marked { slot, word, addr, header, victim } = marked;
        // SAFETY: as in `relocate`: present here and marked after the grace period, so not written while this slice is read. (A reader that
        // rescues it leaves `R`, which makes writers keep away until this round has ended.)
        let contents = unsafe {
            let first = addr.get() as *const u8;
            sys::freeze(first, header.size());
            std::slice::from_raw_parts(first, header.size())
        };
        match log.append(self.memory, Stream::WriteBack, header.slot(), contents) {
            Ok((far, batch)) => self.written.push(Written { slot, word, addr: far, batch, size: header.size(), victim }),
            Err(error) => {
                self.outcome.error = Some(error);
                self.keep(slot, word, addr, victim);
            }
        }
    }

    /// After the far log was drained.
    fn finish(&mut self, drained: &crate::far_log::Drained) {
        let stamp = self.memory.ghost_now();
        let counters = self.memory.counters();
        let (mut objects, mut bytes) = (0, 0);
        for Written { slot, word, addr, batch, size, victim } in std::mem::take(&mut self.written) {
            let local = word.addr();
            if !drained.arrived(batch) {
                self.memory.far().bury(addr, image_bytes(size));
                self.keep(slot, word, local, victim);
                continue;
            }
            match slot.finish_absent(word, FarPlace::At(addr), stamp) {
                Ok(_) => {
                    objects += 1;
                    bytes += image_bytes(size) as u64;
                    self.gone(victim, local, size);
                }
                Err(_) => {
                    self.memory.far().bury(addr, image_bytes(size));
                    self.lost(slot, local, victim);
                }
            }
        }
        counters.written_back.fetch_add(objects, Ordering::Relaxed);
        counters.written_back_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The object has left the local heap, in which it was at `addr`.
    fn gone(&mut self, victim: usize, addr: ObjectAddr, size: usize) {
        // SAFETY: absent, and marked before the grace period: whoever has a reference met the mark, and the word would have changed. Its
        // segment is this round's until `close`. The header is left alone, for those who walk the segment later.
        unsafe { poison::given_up(addr.get(), size) };
        self.victims[victim].left -= 1;
        self.evacuated += 1;
        self.evacuated_bytes += size + HEADER_BYTES;
    }

    /// Somebody came first: a mutator rescued, moved or dropped the object.
    fn lost(&mut self, slot: &Slot, addr: ObjectAddr, victim: usize) {
        if !steps::lost(slot, addr) {
            self.victims[victim].left -= 1;
        }
    }

    /// The object stays, because it could not be brought away.
    fn keep(&mut self, slot: &Slot, word: Word, addr: ObjectAddr, victim: usize) {
        if !steps::keep(slot, word, addr) {
            self.victims[victim].left -= 1;
        }
    }

    fn unmark_all(&mut self) {
        for Marked { slot, word, addr, victim, .. } in std::mem::take(&mut self.marked) {
            self.keep(slot, word, addr, victim);
        }
    }

    fn close(mut self, state: &mut RoundState) -> Outcome {
        #[cfg(farptr_zeal)]
        state.left_behind.append(&mut self.left_behind);
        state.target = self.target;
        let heap = self.memory.heap();
        let survivors = QueueKind::of_survivors(self.memory.ablations().policy);
        for Victim { segment, found, left, relocated } in self.victims {
            let moved_out_of = heap.pins().was_moved_out_of(segment.id);
            let referred = steps::is_referred(segment.referred, moved_out_of, !self.outcome.scopes_too_long);
            match steps::fate(left, relocated, referred) {
                Fate::PutBack { referred } => {
                    // What a mutator kept from leaving is used, and will be relocated. Until then it keeps a segment that is empty but for it: so it goes first in the next round. Once: it may be
                    // pinned.
                    let is_rest = left < found && segment.kind != QueueKind::Transient;
                    let kind = if is_rest { QueueKind::Transient } else { survivors };
                    heap.put_back(SealedSegment { kind, referred, ..segment });
                }
                Fate::Limbo => state.limbo.push(segment.id),
                Fate::Free => {
                    self.outcome.freed_segments += 1;
                    // SAFETY: not busy since it was taken, and every object in it was found dead or has left. Nobody holds a reference:
                    // dead ones have no owner, absent ones passed a grace period after their mark and were not rescued, and none was
                    // relocated by this round, or by one that no grace period has followed. One that its writer moved has had no reader
                    // since: the writer's borrow was exclusive. One that a pin moved has passed a grace period since: `is_referred`.
                    unsafe { heap.free(segment.id) };
                }
            }
        }
        let counters = self.memory.counters();
        counters.evacuated.fetch_add(self.evacuated, Ordering::Relaxed);
        counters.relocated.fetch_add(self.relocated, Ordering::Relaxed);
        self.memory.advance_ghost_clock(self.evacuated_bytes);
        self.memory.learn(self.young);
        self.outcome
    }
}

/// Frees the sealed segments in which everything is dead, and those in limbo, without moving anything. Returns how many.
pub fn sweep(memory: &Memory, state: &mut RoundState) -> usize {
    let heap = memory.heap();
    heap.seal_all();
    let mut freed = 0;
    for kind in [QueueKind::Transient, QueueKind::Young, QueueKind::Main] {
        for _ in 0..heap.sealed(kind) {
            let Some(segment) = heap.take_sealed(kind) else { break };
            let is_alive = |(addr, header): (ObjectAddr, ObjectHeader)| {
                let slot = memory.slot_table().get(header.slot());
                slot.is_some_and(|slot| matches!(slot.load().state(), State::Present(at) if at == addr))
            };
            // SAFETY: taken from its queue and not busy; put back or freed only below.
            if heap.is_busy(segment.id) || unsafe { heap.objects(&segment) }.any(is_alive) {
                heap.put_back(segment);
            } else if steps::is_referred(segment.referred, heap.pins().was_moved_out_of(segment.id), false) {
                state.limbo.push(segment.id);
            } else {
                freed += 1;
                // SAFETY: everything in it is dead, without owner or moved by its writer, and nothing is busy. What the evacuator
                // relocated out of it has seen a grace period since, and no pin has moved anything out of it.
                unsafe { heap.free(segment.id) };
            }
        }
    }
    freed + state.free_limbo(memory)
}

/// The error of a round that freed nothing, if that is why memory is short.
pub fn reason(outcome: Outcome, memory: &Memory, bytes: usize) -> Error {
    outcome.error.unwrap_or_else(|| memory.out_of_local(bytes, memory.why_nothing_leaves(bytes)))
}
