//! A hybrid cache, which is foyer's: memory in front of a device. The device is a folder in memory, so that none is faster.
//!
//! A cache may lose what it holds, and this one does when it can't write as fast as it evicts. What is lost is made again, as if whoever had it first were
//! asked, at no cost; how often that happened is said beside the figures.
//!
//! Its runtime is the thread that asks (tokio's current-thread one). With worker threads a lookup that goes to the device waits for two
//! wake-ups more: 17 thousand of them a second instead of 35.

use crate::Outcome;
use crate::store::{Store, look};
use crate::undo::{Folder, Undo};
use farptr_benches::random::object;
use foyer::{
    BlockEngineConfig, Code, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, LfuConfig, PsyncIoEngineConfig,
    RecoverMode,
};
use std::io::{Read, Write};
use std::path::Path;
use tokio::runtime::Runtime;

/// Bytes that an entry takes in memory besides key and value: its record's links and counters, and its share of the table. Measured by an allocator that
/// counts, 8 more for each allocation.
const ENTRY: usize = 100;

/// Bytes of memory that an entry takes in the index of the device, wherever the entry is. Measured in the same way: 58 to 70.
const INDEXED: usize = 64;

/// Bytes of a page, which an entry on the device begins with.
const PAGE: usize = 4096;

/// Bytes for entries on their way to the device, twice; outside the budget, as farptr's buffers are.
const BUFFERS: usize = 4 << 20;

/// Entries that are filled in before all of them are on the device: so many that none is lost.
const FILLED: usize = BUFFERS / 4 / PAGE;

/// A value that can be written to a device.
#[derive(Debug, Clone)]
struct Words<const N: usize>([u64; N]);

impl<const N: usize> Code for Words<N> {
    fn encode(&self, to: &mut impl Write) -> foyer::Result<()> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|word| word.to_le_bytes()).collect();
        to.write_all(&bytes).map_err(foyer::Error::io_error)
    }

    fn decode(from: &mut impl Read) -> foyer::Result<Self> {
        let mut words = [0; N];
        for word in &mut words {
            let mut bytes = [0; 8];
            from.read_exact(&mut bytes).map_err(foyer::Error::io_error)?;
            *word = u64::from_le_bytes(bytes);
        }
        Ok(Words(words))
    }

    fn estimated_size(&self) -> usize {
        N * 8
    }
}

/// A hybrid cache that is filled.
pub(crate) struct Hybrid<const N: usize> {
    cache: Option<HybridCache<u64, Words<N>>>,
    runtime: Runtime,
    reads: u64,
    lost: u64,
    _folder: Folder,
}

impl<const N: usize> Hybrid<N> {
    /// One of `count` entries, which takes `budget` bytes of memory. Its device has room for half as many again: for inserts, and for what is written anew.
    pub(crate) fn fill(count: usize, budget: usize, undo: &Undo) -> Outcome<Self> {
        let index = count * INDEXED;
        let memory = budget.checked_sub(index).filter(|left| *left >= budget / 8).ok_or_else(|| {
            format!("its index of the device takes {index} of the budget of {budget} bytes, which leaves next to nothing")
        })?;
        let capacity = count * (8 + N * 8).next_multiple_of(PAGE) * 3 / 2 + (64 << 20);
        if (capacity as u64) > crate::machine::available_bytes() / 2 {
            return Err(format!("its device takes {capacity} bytes of memory, since each entry begins a page").into());
        }
        let folder = undo.folder_in(Path::new("/dev/shm"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let device = FsDeviceBuilder::new(&folder.path).with_capacity(capacity).build()?;
        let cache = runtime.block_on(async {
            let engine = BlockEngineConfig::new(device).with_buffer_pool_size(BUFFERS);
            HybridCacheBuilder::new()
                .with_flush_on_close(false)
                .memory(memory)
                .with_shards(1)
                .with_eviction_config(LfuConfig::default())
                .with_weighter(|_: &u64, _: &Words<N>| 8 + N * 8 + ENTRY)
                .storage()
                .with_io_engine_config(PsyncIoEngineConfig::new())
                .with_engine_config(engine)
                .with_recover_mode(RecoverMode::None)
                .build()
                .await
        })?;
        runtime.block_on(async {
            for key in 0..count as u64 {
                cache.insert(key, Words(object(key)));
                if key % FILLED as u64 == 0 {
                    cache.storage().wait().await;
                }
            }
            cache.storage().wait().await;
        });
        Ok(Hybrid { cache: Some(cache), runtime, reads: 0, lost: 0, _folder: folder })
    }

    fn cache(&self) -> &HybridCache<u64, Words<N>> {
        self.cache.as_ref().expect("a cache until it is dropped")
    }

    /// What `then` makes of a value, which is made again if it was lost.
    fn with<R>(&mut self, key: u32, then: impl FnOnce(&[u64; N]) -> R) -> Outcome<R> {
        let key = u64::from(key);
        self.reads += 1;
        let found = match self.cache().get(&key).try_unwrap() {
            Ok(entry) => Some(entry),
            Err(pending) => self.runtime.block_on(pending)?,
        };
        if let Some(entry) = found {
            return Ok(then(&entry.value().0));
        }
        self.lost += 1;
        let value = object(key);
        self.cache().insert(key, Words(value));
        Ok(then(&value))
    }
}

impl<const N: usize> Drop for Hybrid<N> {
    /// It closes in its runtime, by a task.
    fn drop(&mut self) {
        let cache = self.cache.take();
        self.runtime.block_on(async {
            if let Some(cache) = cache
                && let Err(error) = cache.close().await
            {
                eprintln!("farbench: a hybrid cache does not close: {error}");
            }
        });
    }
}

impl<const N: usize> Store for Hybrid<N> {
    fn read(&mut self, key: u32) -> Outcome<Option<u64>> {
        self.with(key, look).map(Some)
    }

    fn update(&mut self, key: u32, to: u64) -> Outcome {
        let mut value = self.with(key, |value| *value)?;
        value[0] = to;
        self.cache().insert(u64::from(key), Words(value));
        Ok(())
    }

    fn insert(&mut self, key: u32) -> Outcome {
        self.cache().insert(u64::from(key), Words(object(u64::from(key))));
        Ok(())
    }

    fn remark(&mut self) -> Option<String> {
        let (lost, reads) = (std::mem::take(&mut self.lost), std::mem::take(&mut self.reads));
        let part = 100.0 * lost as f64 / reads.max(1) as f64;
        (lost > 0).then(|| format!("had lost {part:.2}% of what it was asked for"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Missing, check};

    #[test]
    fn what_leaves_the_memory_of_a_hybrid_cache_comes_back_from_its_device() {
        let undo = Undo::default();
        // A tenth fits, the index aside.
        let mut cache = Hybrid::<64>::fill(4000, 4000 * (INDEXED + 52), &undo).expect("a cache");
        for key in 0..4000 {
            assert_eq!(cache.read(key).expect("a read"), Some(u64::from(key)));
        }
        assert!(cache.cache().memory().entries() < 500, "{}", cache.cache().memory().entries());
        assert_eq!(cache.lost, 0, "filled slowly enough");
        assert_eq!(cache.remark(), None);
    }

    #[test]
    fn a_hybrid_cache_does_what_all_stores_do() {
        check(&mut Hybrid::<8>::fill(100, 1 << 20, &Undo::default()).expect("a cache"), Missing::IsMade);
    }

    #[test]
    fn an_index_that_leaves_no_memory_is_refused() {
        let refused = Hybrid::<8>::fill(10_000, 10_000 * INDEXED, &Undo::default());
        assert!(refused.err().expect("no memory").to_string().contains("index"));
    }
}
