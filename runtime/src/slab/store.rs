//! A lender's pool of slabs: who has borrowed which, and access for those who have.
#![forbid(unsafe_code)]

use super::backing::{Backing, Files, Place, Sharing};
use super::export::{Export, Lease, MemoryKey};
use super::mapping::Mapping;
use super::memory::{STRIPE_BYTES, SlabMemory};
use super::rows::Rows;
use crate::error::TransportError;
use crate::transport::{SlabId, SlabPos};
use bytesize::ByteSize;
use std::fs::File;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// A borrower, as its lender knows it. Never used twice by one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BorrowerId(u64);

/// Owner of a slab that nobody has borrowed; `BorrowerId`s start at 1.
const NOBODY: u64 = 0;

/// How long `lend` waits for a slab that another thread is zeroing. Zeroing takes milliseconds.
const SCRUB_WAIT: Duration = Duration::from_secs(5);

/// When the memory of slabs is taken from the system, and whether others may map it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Supply {
    /// All of it when the store is made, for good.
    Upfront,
    /// A slab's when it is borrowed, until it is returned.
    OnDemand,
    /// All of it when the store is made, in files that borrowers on this machine may map.
    Shared(Backing),
}

/// What a store lends.
#[derive(Debug, Clone)]
pub struct SlabStoreConfig {
    /// Bytes to lend at most; rounded down to whole slabs.
    pub capacity: u64,
    /// Bytes of a slab: a multiple of [`STRIPE_BYTES`].
    pub slab_bytes: u32,
    /// When the memory is taken.
    pub supply: Supply,
}

/// Why the store turned a request down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlabError {
    /// All slabs are lent.
    #[error("all {capacity} bytes are lent")]
    Full {
        /// Bytes the store lends at most.
        capacity: u64,
    },
    /// The caller has not borrowed this slab.
    #[error("slab {} is not the borrower's", .slab.0)]
    NotYours {
        /// The slab named.
        slab: SlabId,
    },
    /// The range does not lie in a slab.
    #[error("range {offset}+{len} ends past a slab's {slab_bytes} bytes")]
    Range {
        /// Its first byte.
        offset: u32,
        /// Its length in bytes.
        len: usize,
        /// Size of a slab in bytes.
        slab_bytes: u32,
    },
    /// The settings make no store.
    #[error("{0}")]
    Config(String),
    /// The system has no memory for a slab.
    #[error("the system gives no memory for a slab of {slab_bytes} bytes: {reason}; lend less or free memory on this machine")]
    NoMemory {
        /// Size of a slab in bytes.
        slab_bytes: u32,
        /// In the system's words.
        reason: String,
    },
}

impl From<SlabError> for TransportError {
    fn from(error: SlabError) -> Self {
        match error {
            SlabError::Full { capacity } => TransportError::Full { capacity },
            SlabError::NoMemory { .. } => TransportError::System(error.to_string()),
            _ => TransportError::Refused(error.to_string()),
        }
    }
}

/// A lender's slabs. Shared by all threads.
pub struct SlabStore {
    slabs: Rows<Slab>,
    slab_bytes: u32,
    /// A slab's memory is there only while it is lent.
    on_demand: bool,
    /// What shared slabs lie in.
    files: Option<Files>,
    ledger: Mutex<Ledger>,
    scrubbed: Condvar,
    dirtied: Condvar,
    next_borrower: AtomicU64,
    resident: AtomicUsize,
}

#[derive(Default)]
struct Slab {
    /// [`NOBODY`] or a `BorrowerId`. Written under the ledger's lock; read under a stripe's lock (see the module's page).
    owner: AtomicU64,
    memory: OnceLock<SlabMemory>,
    /// Where a shared slab lies.
    shared: Mutex<Option<Shared>>,
    /// By what its borrower reaches it, if it does so without the lender.
    lease: Mutex<Option<Lease>>,
}

/// The file of a shared slab.
struct Shared {
    place: Place,
    /// A borrower has been given the file, and may map it for ever.
    passed: bool,
}

impl Slab {
    fn shared(&self) -> MutexGuard<'_, Option<Shared>> {
        // No code that can panic runs while it is half changed.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lease(&self) -> MutexGuard<'_, Option<Lease>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which slabs are in which state; those in neither list, and below `unused`, are lent or being zeroed.
struct Ledger {
    /// All from here on have never been lent.
    unused: u32,
    clean: Vec<SlabId>,
    dirty: Vec<SlabId>,
    /// Returned, and without memory: when they were to be given new memory, the system had none.
    bare: Vec<SlabId>,
    scrubbing: usize,
    lent: usize,
}

impl SlabStore {
    /// Makes a store. Unless memory is taken [`Supply::OnDemand`], this takes all of it, at about 10 GB/s with huge pages and 3 GB/s without.
    pub fn new(config: SlabStoreConfig) -> Result<Self, SlabError> {
        let SlabStoreConfig { capacity, slab_bytes, supply } = config;
        let size = |bytes: u64| ByteSize(bytes).display().iec();
        if slab_bytes == 0 || !(slab_bytes as usize).is_multiple_of(STRIPE_BYTES) {
            return Err(SlabError::Config(format!(
                "a slab of {slab_bytes} bytes can't be; give a multiple of {}",
                size(STRIPE_BYTES as u64)
            )));
        }
        let count = capacity / u64::from(slab_bytes);
        if count == 0 {
            return Err(SlabError::Config(format!(
                "a capacity of {capacity} bytes holds no slab; give at least {} or smaller slabs",
                size(u64::from(slab_bytes))
            )));
        }
        let Ok(count) = u32::try_from(count) else {
            return Err(SlabError::Config(format!(
                "a capacity of {} is too many slabs of {}; lend less or make slabs larger",
                size(capacity),
                size(u64::from(slab_bytes))
            )));
        };
        let on_demand = supply == Supply::OnDemand;
        let files = match supply {
            Supply::Upfront | Supply::OnDemand => None,
            Supply::Shared(backing) => Some(Files::new(backing, slab_bytes, u64::from(count) * u64::from(slab_bytes))?),
        };
        let store = Self {
            slabs: Rows::new(count as usize),
            slab_bytes,
            on_demand,
            files,
            ledger: Mutex::new(Ledger {
                unused: 0,
                clean: Vec::new(),
                dirty: Vec::new(),
                bare: Vec::new(),
                scrubbing: 0,
                lent: 0,
            }),
            scrubbed: Condvar::new(),
            dirtied: Condvar::new(),
            next_borrower: AtomicU64::new(NOBODY + 1),
            resident: AtomicUsize::new(0),
        };
        if !on_demand {
            for index in 0..count {
                store.supply(SlabId(index))?;
            }
        }
        Ok(store)
    }

    /// Size in bytes of every slab.
    pub fn slab_bytes(&self) -> u32 {
        self.slab_bytes
    }

    /// Bytes it lends at most.
    pub fn capacity(&self) -> u64 {
        self.slabs.len() as u64 * u64::from(self.slab_bytes)
    }

    /// Bytes lent now.
    pub fn lent_bytes(&self) -> u64 {
        self.ledger().lent as u64 * u64::from(self.slab_bytes)
    }

    /// Bytes of memory the slabs take up in this process now.
    pub fn resident_bytes(&self) -> usize {
        self.resident.load(Ordering::Relaxed)
    }

    /// Names a new borrower.
    pub fn register(&self) -> BorrowerId {
        BorrowerId(self.next_borrower.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether borrowers on this machine may map slabs, and by which files.
    pub fn sharing(&self) -> Option<Sharing> {
        self.files.as_ref().map(Files::sharing)
    }

    /// Lends a zeroed slab.
    pub fn lend(&self, to: BorrowerId) -> Result<SlabId, SlabError> {
        self.lend_by(to, |_| None::<()>).map(|(id, _)| id)
    }

    /// Lends a zeroed slab to a borrower that may map it, with the file that it lies in. `None` where memory isn't shared.
    pub fn lend_file(&self, to: BorrowerId) -> Result<(SlabId, Option<Arc<File>>), SlabError> {
        self.lend_by(to, |slab| {
            let mut shared = slab.shared();
            shared.as_mut().map(|shared| {
                shared.passed = true;
                Arc::clone(&shared.place.file)
            })
        })
    }

    /// Lends a zeroed slab to a borrower that reaches it by itself, in the way of `export`, with the key to it.
    pub fn lend_exported(&self, to: BorrowerId, export: &dyn Export) -> Result<(SlabId, MemoryKey), SlabError> {
        let mut refused = None;
        let (id, key) = self.lend_by(to, |slab| {
            let memory = slab.memory.get()?.to_lend()?;
            match export.export(to, &memory) {
                Ok((lease, key)) => {
                    *slab.lease() = Some(lease);
                    Some(key)
                }
                Err(error) => {
                    refused = Some(error);
                    None
                }
            }
        })?;
        if let Some(key) = key {
            return Ok((id, key));
        }
        self.take_back(to, id)?;
        let reason = refused.map_or_else(|| "it has no memory".into(), |error| error.to_string());
        Err(SlabError::NoMemory { slab_bytes: self.slab_bytes, reason })
    }

    /// Lends a slab, of which `take` takes something before it has its owner, who could already return it.
    fn lend_by<T>(&self, to: BorrowerId, take: impl FnOnce(&Slab) -> Option<T>) -> Result<(SlabId, Option<T>), SlabError> {
        let id = self.take_clean()?;
        if self.on_demand
            && let Err(error) = self.supply(id)
        {
            self.ledger().clean.push(id);
            return Err(error);
        }
        let slab = self.slab(id);
        let taken = take(slab);
        let mut ledger = self.ledger();
        // Release: whoever learns the slab's name and then sees this owner sees the memory supplied above.
        slab.owner.store(to.0, Ordering::Release);
        ledger.lent += 1;
        Ok((id, taken))
    }

    /// Takes a slab back from its borrower.
    pub fn take_back(&self, from: BorrowerId, id: SlabId) -> Result<(), SlabError> {
        {
            let mut ledger = self.ledger();
            let slab = self.slabs.get(id.0 as usize).ok_or(SlabError::NotYours { slab: id })?;
            if slab.owner.load(Ordering::Relaxed) != from.0 {
                return Err(SlabError::NotYours { slab: id });
            }
            self.disown(&mut ledger, id);
        }
        self.put_away(&[id]);
        Ok(())
    }

    /// Takes back all of a borrower's slabs; returns how many.
    pub fn take_back_all(&self, from: BorrowerId) -> usize {
        let mut taken = Vec::new();
        {
            let mut ledger = self.ledger();
            for (index, slab) in self.slabs.iter() {
                if slab.owner.load(Ordering::Relaxed) == from.0 {
                    self.disown(&mut ledger, SlabId(index as u32));
                    taken.push(SlabId(index as u32));
                }
            }
        }
        self.put_away(&taken);
        taken.len()
    }

    /// Zeroes one returned slab, if there is one, so that the next `lend` need not. Takes milliseconds.
    pub fn scrub_one(&self) -> bool {
        let id = {
            let mut ledger = self.ledger();
            let Some(id) = ledger.dirty.pop() else { return false };
            ledger.scrubbing += 1;
            id
        };
        let scrubbed = self.scrub(id);
        let mut ledger = self.ledger();
        ledger.scrubbing -= 1;
        match scrubbed {
            Ok(()) => ledger.clean.push(id),
            Err(error) => {
                tracing::error!(%error, "a returned slab can't be lent again for now");
                ledger.bare.push(id);
            }
        }
        self.scrubbed.notify_one();
        true
    }

    /// Sleeps until a slab is to be zeroed or [`wake_scrubber`](Self::wake_scrubber) is called, at most for `at_most`.
    pub fn wait_dirty(&self, at_most: Duration) {
        let ledger = self.ledger();
        if ledger.dirty.is_empty() {
            drop(self.dirtied.wait_timeout(ledger, at_most));
        }
    }

    /// Ends a [`wait_dirty`](Self::wait_dirty) that has begun.
    pub fn wake_scrubber(&self) {
        // With the lock, so that it doesn't fall between another thread's look at the list and its sleep.
        let _ledger = self.ledger();
        self.dirtied.notify_all();
    }

    /// Reads `into.len()` bytes at `at` for `who`.
    #[inline]
    pub fn read(&self, who: BorrowerId, at: SlabPos, into: &mut [u8]) -> Result<(), SlabError> {
        let (slab, memory) = self.find(who, at, into.len())?;
        // Relaxed: the stripe's lock, held here, orders it against returns; `lend` against the access that it allows.
        memory
            .read(at.offset as usize, into, || slab.owner.load(Ordering::Relaxed) == who.0)
            .map_err(|_| SlabError::NotYours { slab: at.slab })
    }

    /// As `read`, and returns the CRC-32C of what is then in `into` behind its first `header` bytes.
    #[inline]
    pub fn read_summed(&self, who: BorrowerId, at: SlabPos, into: &mut [u8], header: usize) -> Result<u32, SlabError> {
        let (slab, memory) = self.find(who, at, into.len())?;
        memory
            .read_summed(at.offset as usize, into, header, || slab.owner.load(Ordering::Relaxed) == who.0)
            .map_err(|_| SlabError::NotYours { slab: at.slab })
    }

    /// Says that `len` bytes at `at` will soon be read, if they are `who`'s to read.
    #[inline]
    pub fn prefetch(&self, who: BorrowerId, at: SlabPos, len: usize) {
        if let Ok((_, memory)) = self.find(who, at, len) {
            memory.prefetch(at.offset as usize, len);
        }
    }

    /// Writes `bytes` at `at` for `who`.
    #[inline]
    pub fn write(&self, who: BorrowerId, at: SlabPos, bytes: &[u8]) -> Result<(), SlabError> {
        let (slab, memory) = self.find(who, at, bytes.len())?;
        memory
            .write(at.offset as usize, bytes, || slab.owner.load(Ordering::Relaxed) == who.0)
            .map_err(|_| SlabError::NotYours { slab: at.slab })
    }

    /// Checks that `who` may access `len` bytes at `at`, without touching them.
    #[inline]
    pub fn check(&self, who: BorrowerId, at: SlabPos, len: usize) -> Result<(), SlabError> {
        self.find(who, at, len).map(|_| ())
    }

    #[inline]
    fn find(&self, who: BorrowerId, at: SlabPos, len: usize) -> Result<(&Slab, &SlabMemory), SlabError> {
        let not_yours = SlabError::NotYours { slab: at.slab };
        let Some(slab) = self.slabs.get(at.slab.0 as usize) else { return Err(not_yours) };
        // Acquire: pairs with `lend`.
        if slab.owner.load(Ordering::Acquire) != who.0 {
            return Err(not_yours);
        }
        let Some(memory) = slab.memory.get() else { return Err(not_yours) };
        if at.offset > self.slab_bytes || len > (self.slab_bytes - at.offset) as usize {
            return Err(SlabError::Range { offset: at.offset, len, slab_bytes: self.slab_bytes });
        }
        Ok((slab, memory))
    }

    /// Takes a clean slab off its list, zeroing or waiting for one if there is none.
    fn take_clean(&self) -> Result<SlabId, SlabError> {
        let deadline = Instant::now() + SCRUB_WAIT;
        let mut ledger = self.ledger();
        loop {
            if let Some(id) = ledger.clean.pop() {
                return Ok(id);
            }
            if (ledger.unused as usize) < self.slabs.len() {
                ledger.unused += 1;
                return Ok(SlabId(ledger.unused - 1));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(id) = ledger.dirty.pop().or_else(|| ledger.bare.pop()) {
                drop(ledger);
                return match self.scrub(id) {
                    Ok(()) => Ok(id),
                    Err(error) => {
                        self.ledger().bare.push(id);
                        Err(error)
                    }
                };
            }
            if ledger.scrubbing == 0 || left.is_zero() {
                return Err(SlabError::Full { capacity: self.capacity() });
            }
            ledger = self.scrubbed.wait_timeout(ledger, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A slab that the ledger has named.
    fn slab(&self, id: SlabId) -> &Slab {
        self.slabs.get_or_make(id.0 as usize)
    }

    fn disown(&self, ledger: &mut Ledger, id: SlabId) {
        // The zeroing that follows takes each stripe's lock after this store, which is what rule 2 of the protocol needs.
        self.slab(id).owner.store(NOBODY, Ordering::Relaxed);
        ledger.lent -= 1;
        // Until it is put away it counts as being zeroed, so that who needs a slab waits for it.
        ledger.scrubbing += 1;
    }

    /// Has slabs zeroed that were disowned. First their last borrowers lose what they could reach them by, which takes milliseconds and no lock.
    fn put_away(&self, slabs: &[SlabId]) {
        for id in slabs {
            drop(self.slab(*id).lease().take());
        }
        let mut ledger = self.ledger();
        ledger.scrubbing -= slabs.len();
        ledger.dirty.extend(slabs);
        self.dirtied.notify_one();
        self.scrubbed.notify_all();
        drop(ledger);
        if self.on_demand {
            while self.scrub_one() {}
        }
    }

    /// Gives a slab its memory. Only the thread that has the slab (at first, or off a list) is here.
    fn supply(&self, id: SlabId) -> Result<(), SlabError> {
        let no_memory = |e: std::io::Error| SlabError::NoMemory { slab_bytes: self.slab_bytes, reason: e.to_string() };
        let slab = self.slab(id);
        let memory = slab.memory.get_or_init(|| SlabMemory::new(self.slab_bytes as usize));
        match &self.files {
            None => {
                if !memory.is_mapped() {
                    memory.install(Mapping::private(self.slab_bytes as usize).map_err(no_memory)?);
                }
            }
            Some(files) => {
                let place = files.place(id.0).map_err(no_memory)?;
                memory.install(Mapping::shared(&place.file, place.offset, self.slab_bytes as usize).map_err(no_memory)?);
                *slab.shared() = Some(Shared { place, passed: false });
            }
        }
        if let Err(error) = memory.populate() {
            // What it did get would lie idle.
            memory.remove();
            *slab.shared() = None;
            return Err(no_memory(error));
        }
        if self.sharing() == Some(Sharing::Whole) {
            // Nobody says what was in the file.
            memory.clear();
        }
        self.resident.fetch_add(self.slab_bytes as usize, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a returned slab fit to be lent again.
    fn scrub(&self, id: SlabId) -> Result<(), SlabError> {
        let slab = self.slab(id);
        let Some(memory) = slab.memory.get() else { return Ok(()) };
        if self.on_demand {
            memory.release();
            self.resident.fetch_sub(self.slab_bytes as usize, Ordering::Relaxed);
        } else if self.sharing() == Some(Sharing::Each) && self.discard_passed(slab, memory) {
            self.supply(id)?;
        } else {
            memory.clear();
        }
        Ok(())
    }

    /// Takes its memory from a slab whose last borrower may still map it. Whether it has none now.
    fn discard_passed(&self, slab: &Slab, memory: &SlabMemory) -> bool {
        let mut shared = slab.shared();
        match shared.take_if(|shared| shared.passed) {
            Some(Shared { place, .. }) => {
                memory.remove();
                self.resident.fetch_sub(self.slab_bytes as usize, Ordering::Relaxed);
                if let Err(error) = place.discard(self.slab_bytes) {
                    tracing::warn!(%error, "memory of a returned slab stays taken until its borrower has gone");
                }
                true
            }
            // What couldn't be given new memory the last time.
            None => shared.is_none(),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // No code that can panic runs between two related changes of the ledger.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for SlabStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SlabStore")
            .field("slabs", &self.slabs.len())
            .field("slab_bytes", &self.slab_bytes)
            .finish_non_exhaustive()
    }
}
