//! Allocation from the log, and the segments' way from free to sealed and back.

use super::pins::SegmentPins;
use super::segment::{Objects, Open, QueueKind, SealedSegment, SegmentId, place};
use crate::ablations::{Ablations, Marks, Pages};
use crate::addr::ObjectAddr;
use crate::arena::{Arena, HUGE_PAGE};
use crate::budget::{Budget, Party};
use crate::poison;
use crate::transport::LocalMemory;
use crossbeam_utils::CachePadded;
use std::alloc::Layout;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of the smallest and the largest segment. Smaller ones would be full of headers of large objects; larger ones make rounds
/// long without making anything cheaper.
const SEGMENT_RANGE: (usize, usize) = (16 << 10, 1 << 20);

/// Segments the budget is divided into, where the range above allows.
const SEGMENTS_PER_BUDGET: usize = 64;

/// Evacuation's lead in a large heap: about a millisecond of misses.
const LEAD_BYTES: usize = 4 << 20;

/// The reserve for scopes has room for this much for each thread, or for a quarter of the heap for all of them.
const SCOPE_SHARE: usize = 256 << 10;

/// All shares together are at most this part of the heap.
const SCOPE_PART: usize = 4;

/// The first deref of each thread's scope is served whatever the others hold, up to this part of the heap for all threads together. More would not fit the half of the segments that
/// scopes may have.
const FIRST_DEREFS_PART: usize = 6;

/// Bytes of the largest object that the reserve serves, unless a segment is too small for several of these: a full chunk of a `RemVec`.
const MOST_RESERVED: usize = 16 << 10;

/// The reserve serves objects of at most this part of a segment, so that little of a segment is left over at its end.
const RESERVED_PART: usize = 7;

/// Local memory is short; the caller makes room or gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

#[derive(Debug, Default)]
struct Shard {
    transient: Option<Open>,
    young: Option<Open>,
    main: Option<Open>,
}

impl Shard {
    fn head(&mut self, kind: QueueKind) -> &mut Option<Open> {
        match kind {
            QueueKind::Transient => &mut self.transient,
            QueueKind::Young => &mut self.young,
            QueueKind::Main => &mut self.main,
        }
    }
}

/// The head that the reserve is served from.
#[derive(Debug, Default)]
struct Reserved {
    open: Option<Open>,
    /// Whether everything in it was fetched under a non-temporal hint, so that it leaves first.
    is_transient: bool,
}

impl Reserved {
    fn kind(&self) -> QueueKind {
        if self.is_transient { QueueKind::Transient } else { QueueKind::Young }
    }
}

#[derive(Debug, Default)]
struct Segments {
    /// Committed and charged.
    free: Vec<SegmentId>,
    /// Neither; lowest number last, so that huge pages fill up from below.
    uncommitted: Vec<SegmentId>,
    /// Segments that threads in scopes have taken out of the reserve, and that nothing has become free for since.
    drawn: usize,
    /// The same of the evacuator.
    lent: usize,
    transient: VecDeque<SealedSegment>,
    young: VecDeque<SealedSegment>,
    main: VecDeque<SealedSegment>,
    /// The pin head that was sealed last before it was full.
    pin_rest: Option<SegmentId>,
}

impl Segments {
    fn queue(&mut self, kind: QueueKind) -> &mut VecDeque<SealedSegment> {
        match kind {
            QueueKind::Transient => &mut self.transient,
            QueueKind::Young => &mut self.young,
            QueueKind::Main => &mut self.main,
        }
    }
}

/// The log of one far memory.
pub struct Heap {
    arena: Arena,
    segment_bytes: usize,
    /// Segments that only the evacuator may take, and that are kept when others are given back.
    reserve: usize,
    /// Segments that mutators leave: the reserve.
    mutators_leave: usize,
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    /// Where threads in scopes get room when all else is used up: one head for all, because one for each shard and queue would be a fifth of the heap.
    reserved: Mutex<Reserved>,
    /// Segments kept for threads in scopes: follows from how many threads may open one.
    kept_for_scopes: AtomicUsize,
    segments: Mutex<Segments>,
    /// Busy objects of each segment.
    busy: Box<[AtomicU32]>,
    pins: SegmentPins,
    /// Committed segments in all, free ones included.
    committed: AtomicUsize,
    /// Whether fewer segments than the low watermark are left.
    low: AtomicBool,
    /// See `is_roomy`.
    roomy: AtomicBool,
    watermarks: Watermarks,
    /// Who is told before pages are given back.
    known_to: Vec<Arc<dyn LocalMemory>>,
}

/// How many free segments make evacuation start, and how many let it stop.
#[derive(Debug, Clone, Copy)]
pub struct Watermarks {
    /// It starts when no more than these are left.
    pub low: usize,
    /// It stops when these are there.
    pub high: usize,
}

impl Watermarks {
    /// Above the reserve a lead, and twice that. Free memory is memory that caches nothing; but the evacuator needs a lead: of a segment for each shard, which may all be
    /// opened at a time, of two rounds, and of what is taken until its thread has been woken. A large heap needs no more than that, a small one has a sixteenth.
    fn for_heap(capacity: usize, reserve: usize, lead: usize) -> Self {
        let lead = lead.min(capacity / 16).max(1);
        Watermarks { low: reserve + lead, high: reserve + 2 * lead }
    }

    /// More than this is never left by evacuation alone.
    fn roomy(self) -> usize {
        self.high + (self.high - self.low)
    }

    /// AIFM's, above the reserve as well.
    fn aifm(capacity: usize, reserve: usize) -> Self {
        let low = reserve + (capacity * 12 / 100).max(1);
        Watermarks { low, high: (reserve + capacity * 22 / 100).max(low + 1) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The log's own code does not panic while it holds these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Heap {
    /// Segment size for a budget of `limit` bytes.
    pub fn segment_bytes_for(limit: usize) -> usize {
        let (smallest, largest) = SEGMENT_RANGE;
        let wanted = (limit / SEGMENTS_PER_BUDGET).max(1);
        (1usize << wanted.ilog2()).clamp(smallest, largest)
    }

    /// A heap for a budget of `limit` bytes and `shards` allocation shards (the evacuator's own and that of the pin head come on top). `reserve` segments are
    /// for the evacuator only.
    pub fn new(limit: usize, shards: usize, reserve: usize) -> io::Result<Self> {
        let segment_bytes = Self::segment_bytes_for(limit);
        let count = limit / segment_bytes;
        let arena = Arena::reserve(count * segment_bytes, HUGE_PAGE)?;
        arena.advise_huge(0..arena.len());
        poison::reserved(arena.base(), arena.len());
        Ok(Heap {
            arena,
            segment_bytes,
            reserve,
            mutators_leave: reserve,
            shards: (0..shards + 2).map(|_| CachePadded::default()).collect(),
            reserved: Mutex::default(),
            kept_for_scopes: AtomicUsize::new(0),
            segments: Mutex::new(Segments {
                uncommitted: (0..count as u32).rev().map(SegmentId).collect(),
                ..Segments::default()
            }),
            busy: (0..count).map(|_| AtomicU32::new(0)).collect(),
            pins: SegmentPins::new(count),
            committed: AtomicUsize::new(0),
            low: AtomicBool::new(false),
            roomy: AtomicBool::new(true),
            watermarks: Watermarks::for_heap(count, reserve, (LEAD_BYTES / segment_bytes).max(shards)),
            known_to: Vec::new(),
        })
    }

    /// Turns off what is to be off, before anything is allocated.
    pub fn ablate(&mut self, ablations: Ablations) {
        if ablations.marks == Marks::Aifm {
            let (capacity, reserve) = (self.capacity(), self.reserve);
            self.watermarks = Watermarks::aifm(capacity, reserve);
            self.mutators_leave = reserve.max(capacity * 3 / 100);
        }
        if ablations.pages == Pages::Small {
            self.arena.advise(0..self.arena.len(), Pages::Small);
        }
    }

    /// Tells a device of the log's memory: objects will be read right into their places.
    pub fn attach(&mut self, to: Arc<dyn LocalMemory>) {
        to.attach(self.arena.base()..self.arena.base() + self.arena.len(), self.segment_bytes);
        self.known_to.push(to);
    }

    /// Bytes of a segment.
    pub fn segment_bytes(&self) -> usize {
        self.segment_bytes
    }

    /// Segments the arena has.
    pub fn capacity(&self) -> usize {
        self.arena.len() / self.segment_bytes
    }

    /// The share of a thread in a scope when `open` threads have one: bytes of local memory that it may take until the scope ends or is refreshed.
    pub fn share(&self, open: usize) -> usize {
        SCOPE_SHARE.min(self.arena.len() / SCOPE_PART / open.max(1))
    }

    /// Whether an object of `layout` may come out of the reserve: whether it is no larger than a full chunk of a `RemVec`.
    pub fn is_reservable(&self, layout: Layout) -> bool {
        layout.size() <= MOST_RESERVED.min(self.segment_bytes / RESERVED_PART)
    }

    /// Bytes that threads in scopes may take out of the reserve, if `threads` threads may open one.
    pub fn reserve_for(&self, threads: usize) -> usize {
        threads.saturating_mul(SCOPE_SHARE).min(self.arena.len() / SCOPE_PART) + self.first_derefs_of(threads)
    }

    /// What of the reserve is for the first derefs of `threads` threads.
    pub fn first_derefs_of(&self, threads: usize) -> usize {
        let first = MOST_RESERVED.min(self.segment_bytes / RESERVED_PART) + super::HEADER_BYTES;
        threads.saturating_mul(first).min(self.arena.len() / FIRST_DEREFS_PART)
    }

    /// Segments in which `bytes` of reservable objects find room, whatever their sizes.
    pub fn segments_for(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.usable(self.segment_bytes))
    }

    /// From now on `threads` threads may open scopes: the reserve is as large as that needs. It fills as evacuation frees segments.
    pub fn keep_for_scopes(&self, threads: usize) {
        let segments = self.kept_segments_for(threads);
        // Under the lock, so that whoever takes a segment later leaves what is kept from now on.
        let _segments = lock(&self.segments);
        self.kept_for_scopes.store(segments, Ordering::Relaxed);
    }

    /// One more than the reserve needs: its head may be sealed with a rest that is lost.
    fn kept_segments_for(&self, threads: usize) -> usize {
        (self.segments_for(self.reserve_for(threads)) + 1).min(self.capacity() / 2)
    }

    /// Whether objects of `layout` get a mapping of their own.
    pub fn is_large(&self, layout: Layout) -> bool {
        let (_, end) = place(0, layout);
        end > self.segment_bytes / 2 || layout.size() > super::MAX_SMALL
    }

    /// The shard for a thread.
    pub fn shard_for(&self, thread: usize) -> usize {
        thread % (self.shards.len() - 2)
    }

    /// The evacuator's own shard.
    pub fn evacuator_shard(&self) -> usize {
        self.shards.len() - 2
    }

    /// The shard of the pin head: the segment that is filled with objects that were moved in order to be pinned.
    pub fn pin_shard(&self) -> usize {
        self.shards.len() - 1
    }

    /// Allocates room for a small object. It is busy until `settle` is called.
    pub fn alloc(
        &self,
        shard: usize,
        kind: QueueKind,
        layout: Layout,
        budget: &Budget,
        party: Party,
    ) -> Result<ObjectAddr, NoRoom> {
        debug_assert!(!self.is_large(layout));
        let mut heads = lock(&self.shards[shard]);
        let head = heads.head(kind);
        if shard == self.pin_shard() {
            return self.alloc_in(head, kind, layout, || {
                let open = self.reopen_pin_rest(layout).map_or_else(|| self.take_segment(budget, party), Ok)?;
                self.pins.open_head(open.id);
                Ok(open)
            });
        }
        self.alloc_in(head, kind, layout, || self.take_segment(budget, party))
    }

    /// Allocates in the open segment of `head`. If it is full, it is sealed, and `take` has the next one.
    #[inline]
    fn alloc_in(
        &self,
        head: &mut Option<Open>,
        kind: QueueKind,
        layout: Layout,
        take: impl FnOnce() -> Result<Open, NoRoom>,
    ) -> Result<ObjectAddr, NoRoom> {
        if let Some(open) = head
            && let Some(addr) = open.bump(layout)
        {
            self.begin(open.id);
            return Ok(addr);
        }
        // Sealed even if no other can be opened: it may be what the evacuator finds something to free in.
        if let Some(full) = head.take() {
            self.seal(full, kind);
        }
        let open = head.insert(take()?);
        self.begin(open.id);
        Ok(open.bump(layout).expect("a small object fits an empty segment"))
    }

    /// Allocates room for an object that is reservable, out of the reserve. It is busy until `settle` is called. There is one head whatever the object's `kind`, which says only when its
    /// segment's turn comes.
    ///
    /// # Errors
    /// If no more than `leave` bytes of the reserve would be left, or none is.
    pub fn alloc_reserved(&self, kind: QueueKind, layout: Layout, budget: &Budget, leave: usize) -> Result<ObjectAddr, NoRoom> {
        debug_assert!(self.is_reservable(layout) && !self.is_large(layout));
        let mut reserved = lock(&self.reserved);
        if leave > 0 && self.left_beside(&reserved, budget) < leave + layout.size() + layout.align() + super::HEADER_BYTES {
            return Err(NoRoom);
        }
        let (queue, is_transient) = (reserved.kind(), kind == QueueKind::Transient);
        let before = reserved.open.as_ref().map(|open| open.id);
        let addr = self.alloc_in(&mut reserved.open, queue, layout, || self.take_segment(budget, Party::Scope))?;
        let is_new = before != reserved.open.as_ref().map(|open| open.id);
        reserved.is_transient = is_transient && (is_new || reserved.is_transient);
        Ok(addr)
    }

    /// An object of the segment is busy. Under the head's lock, so before the segment can be sealed.
    fn begin(&self, id: SegmentId) {
        self.busy[id.0 as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The busy object at `addr` has its final header, and is published or given up. Release: partner of `is_busy`.
    pub fn settle(&self, addr: ObjectAddr) {
        let id = self.segment_of(addr).expect("small objects lie in the log");
        self.busy[id.0 as usize].fetch_sub(1, Ordering::Release);
    }

    /// Whether an object of the segment is busy. Acquire: if not, its headers may be read.
    pub fn is_busy(&self, id: SegmentId) -> bool {
        self.busy[id.0 as usize].load(Ordering::Acquire) != 0
    }

    fn open(&self, id: SegmentId) -> Open {
        let base = self.base_of(id);
        Open { id, base, cursor: base, end: base + self.segment_bytes }
    }

    fn base_of(&self, id: SegmentId) -> usize {
        self.arena.base() + id.0 as usize * self.segment_bytes
    }

    fn take_segment(&self, budget: &Budget, party: Party) -> Result<Open, NoRoom> {
        let mut segments = lock(&self.segments);
        let (available, watermarks) = (self.available(&segments, budget), self.watermarks());
        self.low.store(available <= watermarks.low, Ordering::Relaxed);
        self.roomy.store(available > watermarks.roomy(), Ordering::Relaxed);
        if !self.may_take(&mut segments, available, party) {
            return Err(NoRoom);
        }
        let id = match segments.free.pop() {
            Some(id) => id,
            None => self.commit(&mut segments, budget)?,
        };
        if available <= self.floor(Party::Mutator) {
            match party {
                Party::Scope => segments.drawn += 1,
                Party::Evacuator => segments.lent += 1,
                Party::Mutator | Party::Creator => {}
            }
        }
        Ok(self.open(id))
    }

    fn commit(&self, segments: &mut Segments, budget: &Budget) -> Result<SegmentId, NoRoom> {
        let id = segments.uncommitted.pop().ok_or(NoRoom)?;
        if !budget.try_charge(Party::Evacuator, self.segment_bytes) {
            segments.uncommitted.push(id);
            return Err(NoRoom);
        }
        self.committed.fetch_add(1, Ordering::Relaxed);
        Ok(id)
    }

    /// Whether `party` may take a segment when so many are available. Below the floor of those who can wait, threads in scopes and the evacuator have a number of segments each, so that
    /// neither gets what is kept for the other.
    fn may_take(&self, segments: &mut Segments, available: usize, party: Party) -> bool {
        if available > self.floor(Party::Mutator) {
            (segments.drawn, segments.lent) = (0, 0);
            return party != Party::Creator || available > self.floor(Party::Creator);
        }
        match party {
            Party::Evacuator => available > 0 && segments.lent < self.mutators_leave,
            Party::Scope => self.left(segments, available) > 0,
            Party::Mutator | Party::Creator => false,
        }
    }

    /// Segments that threads in scopes may still take, if no more are available than the floor of the others.
    fn left(&self, segments: &Segments, available: usize) -> usize {
        let evacuators = self.mutators_leave.saturating_sub(segments.lent);
        self.kept_for_scopes().saturating_sub(segments.drawn).min(available.saturating_sub(evacuators))
    }

    /// Segments that `party` must leave. What the two that need not leave any may take below the others' floor: see `may_take`.
    pub fn floor(&self, party: Party) -> usize {
        self.floor_with(party, self.kept_for_scopes())
    }

    /// What `floor` is at least, however few threads there are.
    pub fn lowest_floor(&self, party: Party) -> usize {
        self.floor_with(party, 0)
    }

    fn floor_with(&self, party: Party, kept_for_scopes: usize) -> usize {
        let mutators_leave = self.mutators_leave + kept_for_scopes;
        match party {
            Party::Evacuator | Party::Scope => 0,
            Party::Mutator => mutators_leave,
            // New objects leave some for swap-ins. Below the low watermark, so that it does not cost anything as long as evacuation keeps up.
            Party::Creator => mutators_leave + ((self.watermarks.low - self.reserve) / 2).min(self.capacity() / 32).max(1),
        }
    }

    fn kept_for_scopes(&self) -> usize {
        self.kept_for_scopes.load(Ordering::Relaxed)
    }

    /// Takes `bytes` of the budget for something else than segments, at the expense of free segments. False if `party` would not leave what it must.
    pub fn try_charge(&self, bytes: usize, budget: &Budget, party: Party) -> bool {
        let mut segments = lock(&self.segments);
        let free = segments.free.len() * self.segment_bytes + budget.free_for(Party::Evacuator);
        if free < (self.floor(party) * self.segment_bytes).saturating_add(bytes) {
            return false;
        }
        self.give_back(&mut segments, bytes.saturating_sub(budget.free_for(Party::Evacuator)), budget);
        // Another thread may give something back meanwhile, but what is taken is taken under this lock.
        budget.try_charge(Party::Evacuator, bytes)
    }

    /// Whether `party` could open a segment now.
    pub fn has_room_for(&self, party: Party, budget: &Budget) -> bool {
        let mut segments = lock(&self.segments);
        let available = self.available(&segments, budget);
        self.may_take(&mut segments, available, party)
    }

    /// Bytes of reservable objects, whatever their sizes, for which the reserve has room now.
    pub fn left_for_scopes(&self, budget: &Budget) -> usize {
        self.left_beside(&lock(&self.reserved), budget)
    }

    fn left_beside(&self, reserved: &Reserved, budget: &Budget) -> usize {
        let rest = reserved.open.as_ref().map_or(0, |open| open.end - open.cursor);
        let segments = lock(&self.segments);
        let available = self.available(&segments, budget);
        let left = if available > self.floor(Party::Mutator) { self.kept_for_scopes() } else { self.left(&segments, available) };
        self.usable(self.segment_bytes) * left + self.usable(rest)
    }

    /// What of `bytes` of a segment is certainly of use: reservable objects leave a gap at its end that is smaller than the largest of them.
    fn usable(&self, bytes: usize) -> usize {
        bytes.saturating_sub(self.segment_bytes / RESERVED_PART + super::HEADER_BYTES)
    }

    fn available(&self, segments: &Segments, budget: &Budget) -> usize {
        let chargeable = budget.free_for(Party::Evacuator) / self.segment_bytes;
        segments.free.len() + segments.uncommitted.len().min(chargeable)
    }

    /// Segments that could be opened now, by the evacuator.
    pub fn available_segments(&self, budget: &Budget) -> usize {
        self.available(&lock(&self.segments), budget)
    }

    fn seal(&self, open: Open, kind: QueueKind) {
        let used = open.cursor - open.base;
        let mut segments = lock(&self.segments);
        if self.pins.close_head(open.id) {
            segments.pin_rest = Some(open.id);
        }
        segments.queue(kind).push_back(SealedSegment { id: open.id, used, kind, referred: false });
    }

    /// Seals every open segment that holds something, so that its objects can become victims.
    pub fn seal_all(&self) {
        {
            let mut reserved = lock(&self.reserved);
            if let Some(open) = reserved.open.take() {
                self.seal(open, reserved.kind());
            }
        }
        for shard in &self.shards {
            let mut shard = lock(shard);
            for kind in [QueueKind::Transient, QueueKind::Young, QueueKind::Main] {
                if let Some(open) = shard.head(kind).take() {
                    self.seal(open, kind);
                }
            }
        }
    }

    /// Goes on with a pin head that was sealed before it was full, if it still holds pinned objects: it will not be freed for now, and a new one would be a
    /// segment more that is not. Under the lock of the pin head, so nobody else opens one.
    fn reopen_pin_rest(&self, layout: Layout) -> Option<Open> {
        let mut segments = lock(&self.segments);
        let id = segments.pin_rest.take().filter(|id| self.pins.holds_some(*id))?;
        // Not there while the evacuator has it: then it is forgotten.
        let (queue, at) = [QueueKind::Transient, QueueKind::Young, QueueKind::Main].into_iter().find_map(|kind| {
            let at = segments.queue(kind).iter().position(|sealed| sealed.id == id)?;
            Some((kind, at))
        })?;
        let sealed = segments.queue(queue)[at];
        let open = Open { cursor: self.base_of(id) + sealed.used, ..self.open(id) };
        if place(open.cursor, layout).1 > open.end {
            return None;
        }
        segments.queue(queue).remove(at);
        if sealed.referred {
            // The next seal would forget it; the flag lasts longer than is needed, which costs nothing.
            self.pins.note_move_out_of(id);
        }
        Some(open)
    }

    /// Sealed segments of a queue.
    pub fn sealed(&self, kind: QueueKind) -> usize {
        lock(&self.segments).queue(kind).len()
    }

    /// Takes the oldest sealed segment of a queue. Only the evacuator does.
    pub fn take_sealed(&self, kind: QueueKind) -> Option<SealedSegment> {
        lock(&self.segments).queue(kind).pop_front()
    }

    /// Puts a victim that still holds objects back, as the youngest of its queue.
    pub fn put_back(&self, segment: SealedSegment) {
        lock(&self.segments).queue(segment.kind).push_back(segment);
    }

    /// The objects of a victim.
    ///
    /// # Safety
    /// `segment` was taken by `take_sealed`, `is_busy` has said no since, and it is neither put back nor freed while the iterator is used.
    pub unsafe fn objects(&self, segment: &SealedSegment) -> Objects {
        // SAFETY: the caller keeps the segment, and a sealed segment that is not busy stays so: nothing is allocated in it.
        unsafe { Objects::new(self.base_of(segment.id), segment.used) }
    }

    /// Frees a segment.
    ///
    /// # Safety
    /// No object in it is present, busy or referred to by anybody.
    pub unsafe fn free(&self, id: SegmentId) {
        // SAFETY: by contract nobody refers to any of its bytes, and it is in no queue.
        unsafe { poison::given_up(self.base_of(id), self.segment_bytes) };
        self.pins.reset(id);
        let mut segments = lock(&self.segments);
        segments.free.push(id);
        // Makes up for what threads in scopes have drawn first: the evacuator can also do without.
        if segments.drawn > 0 {
            segments.drawn -= 1;
        } else {
            segments.lent = segments.lent.saturating_sub(1);
        }
        if segments.free.len() > self.watermarks().roomy() {
            self.roomy.store(true, Ordering::Relaxed);
        }
    }

    /// Which segments hold pinned objects.
    #[inline]
    pub fn pins(&self) -> &SegmentPins {
        &self.pins
    }

    /// The object at `addr` has got its first pin. Nothing for large objects.
    pub fn pinned(&self, addr: ObjectAddr) {
        if let Some(id) = self.segment_of(addr) {
            self.pins.add(id);
        }
    }

    /// The object at `addr` has given its last pin back. Nothing for large objects.
    pub fn unpinned(&self, addr: ObjectAddr) {
        if let Some(id) = self.segment_of(addr) {
            self.pins.remove(id);
        }
    }

    /// Gives at least `bytes` of free committed segments back to kernel and budget, as far as there are any.
    fn give_back(&self, segments: &mut Segments, bytes: usize, budget: &Budget) {
        let mut given = 0;
        while given < bytes
            && let Some(id) = segments.free.pop()
        {
            if !self.decommit(id) {
                segments.free.push(id);
                break;
            }
            segments.uncommitted.push(id);
            given += self.segment_bytes;
        }
        self.committed.fetch_sub(given / self.segment_bytes, Ordering::Relaxed);
        budget.release(given);
    }

    /// Gives all free segments back.
    pub fn give_back_all(&self, budget: &Budget) {
        let mut segments = lock(&self.segments);
        let free = std::mem::take(&mut segments.free);
        let (given, refused): (Vec<_>, Vec<_>) = free.into_iter().partition(|id| self.decommit(*id));
        self.committed.fetch_sub(given.len(), Ordering::Relaxed);
        budget.release(given.len() * self.segment_bytes);
        segments.uncommitted.extend(given);
        segments.free.extend(refused);
    }

    /// Gives a segment's pages back. False if the system does not take them: the segment stays committed, and may be used.
    #[must_use]
    fn decommit(&self, id: SegmentId) -> bool {
        let start = id.0 as usize * self.segment_bytes;
        for device in &self.known_to {
            device.give_back(self.base_of(id)..self.base_of(id) + self.segment_bytes);
        }
        // SAFETY: the segment is free: by the contract of `free` nobody refers to its bytes.
        let given = unsafe { self.arena.decommit(start..start + self.segment_bytes) };
        if let Err(error) = &given {
            tracing::warn!(%error, "the system does not take back a segment; it stays charged to the budget");
        }
        given.is_ok()
    }

    /// Bytes of committed segments, free ones included.
    pub fn committed_bytes(&self) -> usize {
        self.committed.load(Ordering::Relaxed) * self.segment_bytes
    }

    /// Whether the low watermark was reached when a segment was last opened.
    #[inline]
    pub fn is_low(&self) -> bool {
        self.low.load(Ordering::Relaxed)
    }

    /// Whether more is free than evacuation leaves behind, its last round included, so that an object more takes its place from nobody. As it was when a segment was last opened
    /// or freed.
    #[inline]
    pub fn is_roomy(&self) -> bool {
        self.roomy.load(Ordering::Relaxed)
    }

    /// Evacuation has caught up, for now.
    pub fn clear_low(&self) {
        self.low.store(false, Ordering::Relaxed);
    }

    /// The watermarks, with room above what is kept for scopes for half of evacuation's lead at least.
    pub fn watermarks(&self) -> Watermarks {
        let Watermarks { low, high } = self.watermarks;
        let lead = low - self.reserve;
        let raised = low.max(self.mutators_leave + self.kept_for_scopes() + lead.div_ceil(2));
        Watermarks { low: raised, high: raised + (high - low) }
    }

    /// Of the header, because the contents of a zero-sized object at a segment's end begin where the next segment does.
    #[inline]
    fn offset_of_header(&self, addr: ObjectAddr) -> usize {
        (addr.get() - super::HEADER_BYTES).wrapping_sub(self.arena.base())
    }

    /// Whether `addr` lies in the log.
    #[inline]
    pub fn contains(&self, addr: ObjectAddr) -> bool {
        self.offset_of_header(addr) < self.arena.len()
    }

    /// Where `addr` lies, for the evacuator's bookkeeping.
    pub fn segment_of(&self, addr: ObjectAddr) -> Option<SegmentId> {
        let offset = self.offset_of_header(addr);
        // A power of two: no division.
        (offset < self.arena.len()).then(|| SegmentId((offset >> self.segment_bytes.trailing_zeros()) as u32))
    }
}

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").field("arena", &self.arena).field("segment_bytes", &self.segment_bytes).finish_non_exhaustive()
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        poison::unmapped(self.arena.base(), self.arena.len());
    }
}
