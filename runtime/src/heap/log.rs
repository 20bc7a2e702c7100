//! Allocation from the log, and the segments' way from free to sealed and back.

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

#[derive(Debug, Default)]
struct Segments {
    /// Committed and charged.
    free: Vec<SegmentId>,
    /// Neither; lowest number last, so that huge pages fill up from below.
    uncommitted: Vec<SegmentId>,
    transient: VecDeque<SealedSegment>,
    young: VecDeque<SealedSegment>,
    main: VecDeque<SealedSegment>,
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
    segments: Mutex<Segments>,
    /// Busy objects of each segment.
    busy: Box<[AtomicU32]>,
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

    /// A heap for a budget of `limit` bytes and `shards` allocation shards (the evacuator's own comes on top). `reserve` segments are
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
            shards: (0..shards + 1).map(|_| CachePadded::default()).collect(),
            segments: Mutex::new(Segments {
                uncommitted: (0..count as u32).rev().map(SegmentId).collect(),
                ..Segments::default()
            }),
            busy: (0..count).map(|_| AtomicU32::new(0)).collect(),
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

    /// Whether objects of `layout` get a mapping of their own.
    pub fn is_large(&self, layout: Layout) -> bool {
        let (_, end) = place(0, layout);
        end > self.segment_bytes / 2 || layout.size() > super::MAX_SMALL
    }

    /// The shard for a thread.
    pub fn shard_for(&self, thread: usize) -> usize {
        thread % (self.shards.len() - 1)
    }

    /// The evacuator's own shard.
    pub fn evacuator_shard(&self) -> usize {
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
        let mut shard = lock(&self.shards[shard]);
        let head = shard.head(kind);
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
        let open = head.insert(self.take_segment(budget, party)?);
        self.begin(open.id);
        Ok(open.bump(layout).expect("a small object fits an empty segment"))
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
        let available = self.available(&segments, budget);
        self.low.store(available <= self.watermarks.low, Ordering::Relaxed);
        self.roomy.store(available > self.watermarks.roomy(), Ordering::Relaxed);
        if available <= self.floor(party) {
            return Err(NoRoom);
        }
        if let Some(id) = segments.free.pop() {
            return Ok(self.open(id));
        }
        let id = segments.uncommitted.pop().ok_or(NoRoom)?;
        if !budget.try_charge(Party::Evacuator, self.segment_bytes) {
            segments.uncommitted.push(id);
            return Err(NoRoom);
        }
        self.committed.fetch_add(1, Ordering::Relaxed);
        Ok(self.open(id))
    }

    /// Segments that `party` must leave.
    fn floor(&self, party: Party) -> usize {
        match party {
            Party::Evacuator => 0,
            Party::Mutator => self.mutators_leave,
            // New objects leave some for swap-ins. Below the low watermark, so that it does not cost anything as long as evacuation keeps up.
            Party::Creator => self.mutators_leave + ((self.watermarks.low - self.reserve) / 2).min(self.capacity() / 32).max(1),
        }
    }

    /// Whether `party` could open a segment now.
    pub fn has_room_for(&self, party: Party, budget: &Budget) -> bool {
        self.available_segments(budget) > self.floor(party)
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
        lock(&self.segments).queue(kind).push_back(SealedSegment { id: open.id, used, kind, referred: false });
    }

    /// Seals every open segment that holds something, so that its objects can become victims.
    pub fn seal_all(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            for kind in [QueueKind::Transient, QueueKind::Young, QueueKind::Main] {
                if let Some(open) = shard.head(kind).take() {
                    self.seal(open, kind);
                }
            }
        }
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
        let mut segments = lock(&self.segments);
        segments.free.push(id);
        if segments.free.len() > self.watermarks.roomy() {
            self.roomy.store(true, Ordering::Relaxed);
        }
    }

    /// Gives up to `bytes` of free committed segments back to kernel and budget, for tables or large objects; keeps the evacuator's
    /// reserve. Returns the bytes given.
    pub fn give_back(&self, bytes: usize, budget: &Budget) -> usize {
        let mut segments = lock(&self.segments);
        let mut given = 0;
        while given < bytes && segments.free.len() > self.reserve {
            let Some(id) = segments.free.pop() else { break };
            if !self.decommit(id) {
                segments.free.push(id);
                break;
            }
            segments.uncommitted.push(id);
            given += self.segment_bytes;
        }
        self.committed.fetch_sub(given / self.segment_bytes, Ordering::Relaxed);
        budget.release(given);
        given
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

    /// The watermarks.
    pub fn watermarks(&self) -> Watermarks {
        self.watermarks
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
        (offset < self.arena.len()).then(|| SegmentId((offset / self.segment_bytes) as u32))
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
