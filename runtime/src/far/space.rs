//! The slabs a far memory has borrowed, and what is alive in their segments.
#![forbid(unsafe_code)]

use super::Server;
use crate::addr::{FAR_SEGMENT_BYTES, FarAddr, FarSegmentId, MAX_SEGMENTS_PER_SLAB, MAX_SLABS};
use crate::error::{Error, Result, TransportError};
use crate::rcu::Rcu;
use crate::transport::{SlabId, SlabPos};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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

    /// Borrows a slab from the server that lends and has lent least, and returns its number and how many far segments it has.
    pub fn borrow_slab(&self) -> Result<(usize, usize)> {
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
        Err(failure.unwrap_or_else(|| Error::FarMemoryFull { far_bytes: self.borrowed_bytes(), servers: self.server_names() }))
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
        let server = &self.servers[slab.server];
        server.transport().return_slab(slab.id).map_err(|cause| Error::transport(server.name(), cause))
    }
}
