//! The slabs a far memory has borrowed, and what is alive in their segments.
#![forbid(unsafe_code)]

use super::Server;
use crate::addr::{FAR_SEGMENT_BYTES, FarAddr, FarSegmentId, MAX_SEGMENTS_PER_SLAB, MAX_SLABS};
use crate::error::{Error, Result, TransportError};
use crate::rcu::Rcu;
use crate::transport::{SlabId, SlabPos};
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Pause between two questions for more memory after every server has said that it lends no more. Each question is a round trip to each server; other
/// borrowers return slabs once in a while.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Pause after a server could not be asked. Longer, because a question to a dead server may take a timeout.
const ASK_THE_DEAD_AGAIN: Duration = Duration::from_secs(10);

/// What is known of one far segment. 8 bytes for 256 KiB of far memory.
#[derive(Debug, Default)]
pub struct FarSegment {
    live: AtomicU32,
    incarnation: AtomicU32,
}

impl FarSegment {
    /// Bytes of images that are alive.
    pub fn live_bytes(&self) -> usize {
        self.live.load(Ordering::Relaxed) as usize
    }

    /// Which use of the segment this is.
    pub fn incarnation(&self) -> u32 {
        self.incarnation.load(Ordering::Acquire)
    }
}

/// A borrowed slab.
#[derive(Debug)]
pub struct Slab {
    /// Index of its server in [`FarSpace::servers`].
    pub server: usize,
    /// The server's name for it.
    pub id: SlabId,
    /// Its far segments.
    pub segments: Box<[FarSegment]>,
}

type Table = Vec<Option<Arc<Slab>>>;

/// All borrowed slabs. Looked up at every miss, changed when a slab is borrowed or returned: readers take no lock, the table
/// is replaced as a whole.
#[derive(Debug)]
pub struct FarSpace {
    servers: Box<[Server]>,
    /// Most bytes to borrow.
    capacity: u64,
    table: Rcu<Table>,
    live_bytes: AtomicU64,
    borrowed_bytes: AtomicU64,
    used_segments: AtomicU64,
    /// Uses of segments begun so far, from a number that no other process is likely to have begun with.
    incarnations: AtomicU32,
    /// Segments whose last image has died, for the far log to look at.
    emptied: Mutex<Vec<FarSegmentId>>,
    lending: Mutex<Lending>,
    /// Slabs that were borrowed before write-back needed them, with their number of segments. Held while a server is asked, so that one thread asks at a time.
    ahead: Mutex<Vec<(usize, usize)>>,
    promised: CachePadded<AtomicU64>,
}

/// The last answers of the servers.
#[derive(Debug, Default)]
struct Lending {
    /// When all of them last refused. `None` if one has lent since, or has been given a slab back.
    refused: Option<Instant>,
    /// When one could last not be asked.
    failed: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Free far segments that write-back leaves to the cleaner when `segments` are borrowed. The cleaner needs one to go on (see its module doc). A second one is for
/// victims that are held up by a fetch; more let it clean several victims between two waits for a server.
pub fn kept_for_cleaning(segments: usize) -> usize {
    let least = if segments < 16 { 1 } else { 2 };
    (segments / 128).clamp(least, 8)
}

/// A look-up that found no slab: the far address is not one of ours.
fn unknown(segment: FarSegmentId) -> Error {
    Error::Corrupt {
        server: "unknown server".into(),
        segment: segment.0,
        offset: 0,
        detail: "the far address names no borrowed slab",
    }
}

impl FarSpace {
    /// A far space with nothing borrowed yet, that borrows at most `capacity` bytes.
    pub fn new(servers: Vec<Server>, capacity: u64) -> Self {
        FarSpace {
            capacity,
            servers: servers.into_boxed_slice(),
            table: Rcu::new(Vec::new()),
            live_bytes: AtomicU64::new(0),
            borrowed_bytes: AtomicU64::new(0),
            used_segments: AtomicU64::new(0),
            incarnations: AtomicU32::new(getrandom::u32().unwrap_or(0)),
            emptied: Mutex::new(Vec::new()),
            lending: Mutex::default(),
            ahead: Mutex::default(),
            promised: CachePadded::default(),
        }
    }

    /// The servers.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Whether all lent memory is mapped in this process, so that a fetch is a copy.
    pub fn is_mapped(&self) -> bool {
        self.servers.iter().all(|server| server.immediate().is_some())
    }

    /// Their addresses, for messages.
    pub fn server_names(&self) -> String {
        self.servers.iter().map(Server::name).collect::<Vec<_>>().join(", ")
    }

    /// Looks a far segment up and hands it to `f`.
    #[inline]
    pub fn with_segment<R>(&self, id: FarSegmentId, f: impl FnOnce(&Slab, &FarSegment) -> R) -> Result<R> {
        self.table.read(|table| {
            let slab = table.get(id.slab()).and_then(Option::as_ref);
            match slab.and_then(|slab| Some((slab, slab.segments.get(id.index())?))) {
                Some((slab, segment)) => Ok(f(slab, segment)),
                None => Err(unknown(id)),
            }
        })
    }

    /// The server, the place in its memory and the incarnation for a far address.
    #[inline]
    pub fn locate(&self, addr: FarAddr) -> Result<(usize, SlabPos, u32)> {
        self.with_segment(addr.segment(), |slab, segment| {
            let offset = addr.segment().index() * FAR_SEGMENT_BYTES + addr.offset();
            (slab.server, SlabPos { slab: slab.id, offset: offset as u32 }, segment.incarnation())
        })
    }

    /// A segment is used from its start, again or for the first time; returns its incarnation, which no other use of any segment of this memory has (until
    /// 2^32 segments have been filled: a pebibyte). So what an earlier use left behind is known, also after the slab was returned and lent again, by a server that
    /// did not zero it, and also if another process had it before. Only the far log does this, when nothing in the segment is alive.
    ///
    /// # Errors
    /// `Corrupt` if the segment is not ours.
    pub fn begin_use(&self, id: FarSegmentId) -> Result<u32> {
        self.with_segment(id, |_, segment| {
            debug_assert_eq!(segment.live_bytes(), 0);
            let incarnation = self.incarnations.fetch_add(1, Ordering::Relaxed);
            segment.incarnation.store(incarnation, Ordering::Release);
            incarnation
        })
    }

    /// An image of `bytes` bytes at `addr` is alive.
    pub fn revive(&self, addr: FarAddr, bytes: usize) {
        self.live_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let found = self.with_segment(addr.segment(), |_, segment| segment.live.fetch_add(bytes as u32, Ordering::AcqRel));
        debug_assert!(found.is_ok());
    }

    /// The image of `bytes` bytes at `addr` is dead.
    pub fn bury(&self, addr: FarAddr, bytes: usize) {
        self.live_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        let found = self.with_segment(addr.segment(), |_, segment| segment.live.fetch_sub(bytes as u32, Ordering::AcqRel));
        debug_assert!(found.as_ref().is_ok_and(|before| *before as usize >= bytes));
        if found.is_ok_and(|before| before as usize == bytes) {
            self.emptied.lock().unwrap_or_else(PoisonError::into_inner).push(addr.segment());
        }
    }

    /// The segments whose last image has died since the last call. More may have been written to them since.
    pub fn take_emptied(&self) -> Vec<FarSegmentId> {
        std::mem::take(&mut *self.emptied.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Bytes of live images.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Relaxed)
    }

    /// The far log has begun to use a segment (+1), or has none of its bytes left alive (-1).
    pub fn count_used_segments(&self, change: i64) {
        self.used_segments.fetch_add(change as u64, Ordering::Relaxed);
    }

    /// Bytes of far segments that hold something.
    pub fn used_bytes(&self) -> u64 {
        self.used_segments.load(Ordering::Relaxed) * FAR_SEGMENT_BYTES as u64
    }

    /// Bytes of borrowed slabs.
    pub fn borrowed_bytes(&self) -> u64 {
        self.borrowed_bytes.load(Ordering::Relaxed)
    }

    /// What all existing objects may take in far memory: see [`charge`](super::charge).
    pub fn promised_bytes(&self) -> u64 {
        self.promised.load(Ordering::Relaxed)
    }

    /// An object promises to take `bytes`. Returns the sum of all promises.
    pub fn promise(&self, bytes: u64) -> u64 {
        // Relaxed: a sum that orders nothing.
        self.promised.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// A promise ends.
    pub fn end_promise(&self, bytes: u64) {
        let before = self.promised.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "more promises end than were made");
    }

    /// Bytes of what is borrowed that images may take: without the segments that are kept for the cleaner, and without the two that are being filled.
    pub fn usable_bytes(&self) -> u64 {
        let segments = self.borrowed_bytes() as usize / FAR_SEGMENT_BYTES;
        (segments.saturating_sub(kept_for_cleaning(segments) + 2) * FAR_SEGMENT_BYTES) as u64
    }

    /// Whether every server refused when it was last asked for more.
    pub fn is_full(&self) -> bool {
        lock(&self.lending).refused.is_some()
    }

    /// Whether the last question for more memory was answered with a slab, or none was asked.
    pub fn lends(&self) -> bool {
        let lending = lock(&self.lending);
        lending.refused.is_none() && lending.failed.is_none()
    }

    /// Whether every server refused so lately that it is too early to ask again.
    pub fn has_just_refused(&self) -> bool {
        lock(&self.lending).refused.is_some_and(|at| at.elapsed() < ASK_AGAIN)
    }

    /// The error for far memory that is full.
    #[cold]
    pub fn full_error(&self) -> Error {
        Error::FarMemoryFull {
            far_bytes: self.borrowed_bytes(),
            servers: self.server_names(),
            promised_bytes: self.promised_bytes(),
            usable_bytes: self.usable_bytes(),
        }
    }

    /// Borrows a slab for the far log to take later ([`take_ahead`](Self::take_ahead)). False if nobody knows now whether there is one: another thread is asking, or
    /// a server could lately not be asked.
    ///
    /// # Errors
    /// `FarMemoryFull` if no server lends more.
    pub fn borrow_ahead(&self) -> Result<bool> {
        let Ok(mut ahead) = self.ahead.try_lock() else { return Ok(false) };
        if self.has_just_refused() {
            return Err(self.full_error());
        }
        if lock(&self.lending).failed.is_some_and(|at| at.elapsed() < ASK_THE_DEAD_AGAIN) {
            return Ok(false);
        }
        match self.borrow_slab() {
            Ok(slab) => {
                ahead.push(slab);
                Ok(true)
            }
            Err(full @ Error::FarMemoryFull { .. }) => Err(full),
            // Write-back will say so, if it comes to that.
            Err(_) => Ok(false),
        }
    }

    /// The slabs that were borrowed ahead, and how many far segments each has. They are the far log's from now on.
    pub fn take_ahead(&self) -> Vec<(usize, usize)> {
        std::mem::take(&mut *lock(&self.ahead))
    }

    /// Borrows a slab from the server that lends and has lent least, and returns its number and how many far segments it has.
    pub fn borrow_slab(&self) -> Result<(usize, usize)> {
        let borrowed = self.ask_for_slab();
        let mut lending = lock(&self.lending);
        match &borrowed {
            Ok(_) => *lending = Lending::default(),
            Err(Error::FarMemoryFull { .. }) => *lending = Lending { refused: Some(Instant::now()), failed: None },
            Err(_) => *lending = Lending { refused: None, failed: Some(Instant::now()) },
        }
        borrowed
    }

    fn ask_for_slab(&self) -> Result<(usize, usize)> {
        let mut lent = vec![0u64; self.servers.len()];
        self.table.read(|table| {
            for slab in table.iter().flatten() {
                lent[slab.server] += slab.segments.len() as u64;
            }
        });
        let mut order: Vec<usize> = (0..self.servers.len()).collect();
        order.sort_by_key(|server| lent[*server]);
        let mut failure = None;
        for server in order {
            let more = u64::from(self.servers[server].transport().slab_bytes());
            if self.borrowed_bytes() + more > self.capacity {
                continue;
            }
            match self.servers[server].transport().borrow_slab() {
                Ok(id) => {
                    return self.add(server, id).inspect_err(|_| {
                        // It can't be used here; the reason to tell is the first one.
                        let _ = self.servers[server].transport().return_slab(id);
                    });
                }
                // Full is expected in the end; anything else is what the user must hear of.
                Err(TransportError::Full { .. }) => {}
                Err(cause) => failure = Some(Error::transport(self.servers[server].name(), cause)),
            }
        }
        Err(failure.unwrap_or_else(|| self.full_error()))
    }

    fn add(&self, server: usize, id: SlabId) -> Result<(usize, usize)> {
        let segments = self.servers[server].transport().slab_bytes() as usize / FAR_SEGMENT_BYTES;
        let segments = segments.min(MAX_SEGMENTS_PER_SLAB);
        let slab = Slab { server, id, segments: (0..segments).map(|_| FarSegment::default()).collect() };
        let number = self.table.update(|table| {
            let number = table.iter().position(Option::is_none).unwrap_or(table.len());
            if number == MAX_SLABS {
                let limit = MAX_SLABS as u64;
                return Err(Error::CapacityOverflow { what: "far memory (in slabs)", asked: limit + 1, limit });
            }
            if number == table.len() {
                table.push(None);
            }
            table[number] = Some(Arc::new(slab));
            Ok(number)
        })?;
        self.borrowed_bytes.fetch_add((segments * FAR_SEGMENT_BYTES) as u64, Ordering::Relaxed);
        Ok((number, segments))
    }

    /// Returns slab `number`, in which nothing is alive, to its server.
    pub fn return_slab(&self, number: usize) -> Result<()> {
        let slab = self.table.update(|table| table.get_mut(number).and_then(Option::take));
        let Some(slab) = slab else { return Ok(()) };
        self.borrowed_bytes.fetch_sub((slab.segments.len() * FAR_SEGMENT_BYTES) as u64, Ordering::Relaxed);
        lock(&self.lending).refused = None;
        let server = &self.servers[slab.server];
        server.transport().return_slab(slab.id).map_err(|cause| Error::transport(server.name(), cause))
    }
}
