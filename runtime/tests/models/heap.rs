//! The local log against a list of ranges.
//!
//! The model knows of each segment what was allocated in it, in order, and in which state it is. From that it says which allocation may fail, what
//! a victim's headers must be, and which segment comes next from a queue. Contents are patterns, which show an overlap.

use crate::config;
use farptr_runtime::addr::{ObjectAddr, SlotId};
use farptr_runtime::budget::{Budget, Party};
use farptr_runtime::heap::{HEADER_BYTES, Heap, MAX_SMALL, ObjectHeader, QueueKind, SealedSegment, SegmentId};
use proptest::prelude::*;
use proptest::sample::Index;
use std::alloc::Layout;
use std::collections::{BTreeMap, VecDeque};

const SHARDS: usize = 2;
const RESERVE: usize = 2;
/// The head that the reserve is served from; its segments queue with the young ones, or with the transient ones if all in them are.
const RESERVED: (usize, usize) = (SHARDS + 1, 1);
const KINDS: [QueueKind; 3] = [QueueKind::Transient, QueueKind::Young, QueueKind::Main];

#[derive(Debug, Clone)]
enum Op {
    Alloc {
        shard: usize,
        kind: QueueKind,
        layout: Layout,
        party: Party,
    },
    /// An object in the making is done, or given up.
    Settle {
        which: Index,
        is_kept: bool,
    },
    SealAll,
    /// A victim is taken and looked at; busy ones go back at once.
    Take {
        kind: QueueKind,
    },
    PutBack {
        which: Index,
        referred: bool,
    },
    /// A victim's objects leave, and it is free.
    Free {
        which: Index,
    },
    /// Every segment that nothing busy is in is emptied.
    EmptyAll,
    GiveBackAll,
    /// The budget is charged for something else, at the expense of free segments.
    Charge {
        bytes: usize,
        party: Party,
    },
    Release,
    /// So many threads may open scopes.
    KeepForScopes {
        threads: usize,
    },
}

fn layout() -> impl Strategy<Value = Layout> {
    let size = prop_oneof![3 => 0..65usize, 3 => 65..1500usize, 1 => Just(0usize), 2 => 1500..9000usize, 1 => 9000..66_000usize];
    (size, prop_oneof![3 => 0..6u32, 1 => 6..13u32]).prop_map(|(size, align)| Layout::from_size_align(size, 1 << align).unwrap())
}

fn kind() -> impl Strategy<Value = QueueKind> {
    prop_oneof![Just(QueueKind::Young), Just(QueueKind::Main), Just(QueueKind::Transient)]
}

fn op() -> impl Strategy<Value = Op> {
    let party = || prop_oneof![4 => Just(Party::Evacuator), 2 => Just(Party::Mutator), 2 => Just(Party::Creator), 3 => Just(Party::Scope)];
    prop_oneof![
        24 => (0..SHARDS + 1, kind(), layout(), party())
            .prop_map(|(shard, kind, layout, party)| Op::Alloc { shard, kind, layout, party }),
        16 => (any::<Index>(), prop::bool::weighted(0.85)).prop_map(|(which, is_kept)| Op::Settle { which, is_kept }),
        1 => Just(Op::SealAll),
        4 => kind().prop_map(|kind| Op::Take { kind }),
        2 => (any::<Index>(), any::<bool>()).prop_map(|(which, referred)| Op::PutBack { which, referred }),
        3 => any::<Index>().prop_map(|which| Op::Free { which }),
        2 => Just(Op::EmptyAll),
        1 => Just(Op::GiveBackAll),
        2 => (prop_oneof![6 => 0..60_000usize, 1 => any::<usize>()], party()).prop_map(|(bytes, party)| Op::Charge { bytes, party }),
        1 => (0..12usize).prop_map(|threads| Op::KeepForScopes { threads }),
        2 => Just(Op::Release),
    ]
}

/// One allocation. `kept` once it is settled: whether a header of an object is left.
#[derive(Debug, Clone, Copy)]
struct Placed {
    addr: ObjectAddr,
    layout: Layout,
    number: u32,
    kept: Option<bool>,
}

impl Placed {
    fn header(&self) -> ObjectHeader {
        ObjectHeader::new(SlotId(self.number), self.layout, u64::from(self.number) * 3)
    }

    fn start(&self) -> usize {
        self.addr.get() - HEADER_BYTES
    }

    /// Where the next header may begin.
    fn end(&self) -> usize {
        (self.addr.get() + self.layout.size()).next_multiple_of(HEADER_BYTES)
    }

    fn fill(&self) {
        // SAFETY: room that the heap handed out just now, for this layout.
        unsafe { std::ptr::write_bytes(self.addr.get() as *mut u8, self.number as u8, self.layout.size()) };
    }

    fn assert_filled(&self) {
        // SAFETY: room of this layout in a segment that the model has not freed; nobody else writes there.
        let contents = unsafe { std::slice::from_raw_parts(self.addr.get() as *const u8, self.layout.size()) };
        assert!(contents.iter().all(|byte| *byte == self.number as u8), "somebody wrote over {self:?}");
    }
}

struct Model {
    heap: Heap,
    budget: Budget,
    objects: BTreeMap<SegmentId, Vec<Placed>>,
    open: BTreeMap<(usize, usize), SegmentId>,
    sealed: [VecDeque<SealedSegment>; 3],
    taken: Vec<SealedSegment>,
    /// Free and committed; which ones is the heap's business.
    free: usize,
    kept_for_scopes: usize,
    /// Whether all that was put into the reserve's open segment leaves first.
    is_transient: bool,
    /// Taken out of what is kept by threads in scopes and by the evacuator, and not made up for.
    drawn: usize,
    lent: usize,
    /// Objects in the making.
    busy: Vec<(SegmentId, usize)>,
    charged: Vec<usize>,
    next: u32,
}

fn index_of(kind: QueueKind) -> usize {
    KINDS.iter().position(|other| *other == kind).unwrap()
}

impl Model {
    fn new(limit: usize) -> Self {
        let segment = Heap::segment_bytes_for(limit);
        Model {
            heap: Heap::new(limit, SHARDS, RESERVE).unwrap(),
            budget: Budget::new(limit, RESERVE * segment),
            objects: BTreeMap::new(),
            open: BTreeMap::new(),
            sealed: Default::default(),
            taken: Vec::new(),
            free: 0,
            kept_for_scopes: 0,
            is_transient: false,
            drawn: 0,
            lent: 0,
            busy: Vec::new(),
            charged: Vec::new(),
            next: 0,
        }
    }

    fn committed(&self) -> usize {
        self.objects.len() + self.free
    }

    fn available(&self) -> usize {
        let uncommitted = self.heap.capacity() - self.committed();
        self.free + uncommitted.min((self.budget.limit() - self.budget.used()) / self.heap.segment_bytes())
    }

    fn floor(&self, party: Party) -> usize {
        match party {
            Party::Evacuator | Party::Scope => 0,
            Party::Mutator => RESERVE + self.kept_for_scopes,
            // One in 32 is left to swap-ins.
            Party::Creator => RESERVE + self.kept_for_scopes + (self.heap.capacity() / 32).max(1),
        }
    }

    /// Whether `party` may take one of so many available segments: threads in scopes as many as are kept for them, the evacuator as many as its reserve, below what the others leave.
    fn may_take(&mut self, available: usize, party: Party) -> bool {
        if available > self.floor(Party::Mutator) {
            (self.drawn, self.lent) = (0, 0);
        }
        let below = available <= self.floor(Party::Mutator);
        match party {
            Party::Evacuator => available > 0 && (!below || self.lent < RESERVE),
            Party::Scope => !below || self.drawn < self.kept_for_scopes && available > RESERVE.saturating_sub(self.lent),
            Party::Mutator | Party::Creator => available > self.floor(party),
        }
    }

    fn alloc(&mut self, shard: usize, kind: QueueKind, layout: Layout, party: Party) {
        let is_reserved = party == Party::Scope;
        if is_reserved && !self.heap.is_reservable(layout) {
            return;
        }
        let head = if is_reserved { RESERVED } else { (shard, index_of(kind)) };
        let available = self.available();
        let before = self.open.get(&head).copied();
        let outcome = match is_reserved {
            true => self.heap.alloc_reserved(kind, layout, &self.budget, 0),
            false => self.heap.alloc(shard, kind, layout, &self.budget, party),
        };
        let Ok(addr) = outcome else {
            assert!(!self.may_take(available, party), "{party:?} could have had one of {available} segments");
            self.seal(head);
            return;
        };
        let segment = self.heap.segment_of(addr).unwrap();
        let placed = Placed { addr, layout, number: self.next + 1, kept: None };
        self.next += 1;
        if before != Some(segment) {
            assert!(self.may_take(available, party), "{party:?} took one of the last {available} segments");
            if available <= self.floor(Party::Mutator) {
                self.drawn += usize::from(is_reserved);
                self.lent += usize::from(!is_reserved);
            }
            assert!(!self.objects.contains_key(&segment), "{segment:?} is in use");
            if let Some(old) = before {
                let end = self.base(old) + self.heap.segment_bytes();
                let slack = layout.size().next_multiple_of(HEADER_BYTES) + layout.align().max(HEADER_BYTES) + HEADER_BYTES;
                assert!(self.end_of(old) + slack > end, "{layout:?} would have fit");
            }
            self.seal(head);
            self.free = self.free.saturating_sub(1);
            self.objects.insert(segment, Vec::new());
            self.open.insert(head, segment);
        }
        if is_reserved {
            self.is_transient = kind == QueueKind::Transient && (before != Some(segment) || self.is_transient);
        }
        assert!(addr.get().is_multiple_of(layout.align().max(16)), "{placed:?}");
        let base = placed.start() / self.heap.segment_bytes() * self.heap.segment_bytes();
        assert!(placed.start() >= self.end_of(segment) && placed.end() <= base + self.heap.segment_bytes(), "{placed:?}");
        placed.fill();
        let objects = self.objects.get_mut(&segment).unwrap();
        self.busy.push((segment, objects.len()));
        objects.push(placed);
    }

    /// First address of a segment, which begins at a multiple of its size.
    fn base(&self, segment: SegmentId) -> usize {
        let objects = &self.objects[&segment];
        let bytes = self.heap.segment_bytes();
        objects.first().map_or(0, |first| first.start() / bytes * bytes)
    }

    fn end_of(&self, segment: SegmentId) -> usize {
        self.objects[&segment].last().map_or(0, Placed::end)
    }

    fn seal(&mut self, head: (usize, usize)) {
        if let Some(id) = self.open.remove(&head) {
            let used = self.end_of(id) - self.base(id);
            let queue = if head == RESERVED && self.is_transient { index_of(QueueKind::Transient) } else { head.1 };
            self.sealed[queue].push_back(SealedSegment { id, used, kind: KINDS[queue], referred: false });
        }
    }

    fn seal_all(&mut self) {
        self.heap.seal_all();
        self.seal(RESERVED);
        (0..SHARDS + 1).for_each(|shard| (0..KINDS.len()).for_each(|kind| self.seal((shard, kind))));
    }

    fn take_all(&mut self) {
        for kind in KINDS {
            (0..self.heap.sealed(kind)).for_each(|_| self.take(kind));
        }
    }

    fn settle(&mut self, which: usize, is_kept: bool) {
        let (segment, number) = self.busy.swap_remove(which);
        let placed = &mut self.objects.get_mut(&segment).unwrap()[number];
        placed.kept = Some(is_kept);
        let header = if is_kept { placed.header() } else { ObjectHeader::filler(HEADER_BYTES + placed.layout.size()) };
        // SAFETY: the 16 bytes before a busy object's contents are its allocator's.
        unsafe { header.write(placed.addr) };
        self.heap.settle(placed.addr);
    }

    fn is_busy(&self, segment: SegmentId) -> bool {
        self.objects[&segment].iter().any(|placed| placed.kept.is_none())
    }

    fn take(&mut self, kind: QueueKind) {
        let taken = self.heap.take_sealed(kind);
        assert_eq!(taken, self.sealed[index_of(kind)].pop_front());
        let Some(segment) = taken else { return };
        assert_eq!(self.heap.is_busy(segment.id), self.is_busy(segment.id));
        if self.is_busy(segment.id) {
            self.heap.put_back(segment);
            self.sealed[index_of(kind)].push_back(segment);
            return;
        }
        self.look(segment);
        self.taken.push(segment);
    }

    /// The headers of a victim are those of the objects, in order, and their contents are whole.
    fn look(&self, segment: SealedSegment) {
        // SAFETY: taken, not busy, and put back or freed only later.
        let found: Vec<_> = unsafe { self.heap.objects(&segment) }.collect();
        let expected: Vec<_> = self.kept(segment.id).map(|placed| (placed.addr, placed.header())).collect();
        assert_eq!(found, expected);
        self.kept(segment.id).for_each(Placed::assert_filled);
    }

    fn kept(&self, segment: SegmentId) -> impl Iterator<Item = &Placed> {
        self.objects[&segment].iter().filter(|placed| placed.kept == Some(true))
    }

    fn free(&mut self, segment: SegmentId) {
        self.objects.remove(&segment);
        self.free += 1;
        (self.drawn, self.lent) = if self.drawn > 0 { (self.drawn - 1, self.lent) } else { (0, self.lent.saturating_sub(1)) };
        // SAFETY: the model has forgotten its objects.
        unsafe { self.heap.free(segment) };
    }

    /// All that is free, as segments or not at all yet, may be charged but for what `party` must leave.
    fn charge(&mut self, bytes: usize, party: Party) {
        let segment = self.heap.segment_bytes();
        let chargeable = self.budget.limit() - self.budget.used();
        let most = (chargeable + self.free * segment).saturating_sub(self.floor(party) * segment);
        let charged = self.heap.try_charge(bytes, &self.budget, party);
        assert_eq!(charged, bytes <= most, "{bytes} of {most} bytes");
        if charged {
            self.charged.push(bytes);
            self.free -= bytes.saturating_sub(chargeable).div_ceil(segment);
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Alloc { shard, kind, layout, party } if !self.heap.is_large(layout) => self.alloc(shard, kind, layout, party),
            Op::Alloc { layout, .. } => {
                let end = layout.align().max(HEADER_BYTES) + layout.size().next_multiple_of(HEADER_BYTES);
                assert!(end > self.heap.segment_bytes() / 2 || layout.size() > MAX_SMALL, "{layout:?}");
            }
            Op::Settle { which, is_kept } if !self.busy.is_empty() => self.settle(which.index(self.busy.len()), is_kept),
            Op::SealAll => self.seal_all(),
            Op::EmptyAll => {
                self.seal_all();
                self.take_all();
                for segment in std::mem::take(&mut self.taken) {
                    self.free(segment.id);
                }
            }
            Op::Take { kind } => self.take(kind),
            Op::PutBack { which, referred } if !self.taken.is_empty() => {
                let segment = self.taken.swap_remove(which.index(self.taken.len()));
                let segment = SealedSegment { referred, kind: QueueKind::Main, ..segment };
                self.heap.put_back(segment);
                self.sealed[index_of(QueueKind::Main)].push_back(segment);
            }
            Op::Free { which } if !self.taken.is_empty() => {
                let segment = self.taken.swap_remove(which.index(self.taken.len()));
                self.free(segment.id);
            }
            Op::Settle { .. } | Op::PutBack { .. } | Op::Free { .. } => {}
            Op::GiveBackAll => {
                self.heap.give_back_all(&self.budget);
                self.free = 0;
            }
            Op::Charge { bytes, party } => self.charge(bytes, party),
            Op::KeepForScopes { threads } => {
                self.heap.keep_for_scopes(threads);
                self.kept_for_scopes = (self.heap.segments_for(self.heap.reserve_for(threads)) + 1).min(self.heap.capacity() / 2);
            }
            Op::Release => {
                if let Some(bytes) = self.charged.pop() {
                    self.budget.release(bytes);
                }
            }
        }
        self.check();
    }

    fn check(&mut self) {
        let committed = self.committed() * self.heap.segment_bytes();
        assert_eq!(self.heap.committed_bytes(), committed);
        assert_eq!(self.budget.used(), committed + self.charged.iter().sum::<usize>());
        assert!(self.budget.used() <= self.budget.limit());
        assert_eq!(self.heap.available_segments(&self.budget), self.available());
        for party in [Party::Creator, Party::Mutator, Party::Evacuator, Party::Scope] {
            assert_eq!(self.heap.has_room_for(party, &self.budget), self.may_take(self.available(), party), "{party:?}");
        }
        for kind in KINDS {
            assert_eq!(self.heap.sealed(kind), self.sealed[index_of(kind)].len());
        }
    }

    /// Everything is settled, every segment looked at and freed, and nothing is left.
    fn finish(mut self) {
        while !self.busy.is_empty() {
            self.settle(0, true);
        }
        self.apply(&Op::SealAll);
        self.take_all();
        for segment in std::mem::take(&mut self.taken) {
            self.look(segment);
            self.free(segment.id);
        }
        assert!(self.objects.is_empty(), "segments that are in no queue: {:?}", self.objects.keys());
        self.heap.give_back_all(&self.budget);
        self.charged.iter().for_each(|bytes| self.budget.release(*bytes));
        assert_eq!((self.budget.used(), self.heap.committed_bytes()), (0, 0));
    }
}

proptest! {
    #![proptest_config(config(250))]

    #[test]
    fn log_holds_what_was_allocated_and_stays_within_the_budget(
        limit in prop_oneof![3 => Just(160usize << 10), 1 => Just(700usize << 10), 1 => Just(9usize << 20)],
        ops in prop::collection::vec(op(), 1..300),
    ) {
        let mut model = Model::new(limit);
        ops.iter().for_each(|op| model.apply(op));
        model.finish();
    }
}
