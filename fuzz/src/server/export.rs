//! An exporter that makes keys up, refuses now and then, and counts what is exported.
#![forbid(unsafe_code)]

use farptr_runtime::slab::{BorrowerId, Export, Lease, LentMemory, MemoryKey};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

pub(super) struct Exporter {
    /// Refuses every third.
    refuses: bool,
    /// What came of each request that the model hasn't looked at.
    made: Mutex<VecDeque<Option<MemoryKey>>>,
    asked: AtomicUsize,
    exported: Arc<AtomicUsize>,
}

/// Counts itself out when it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Exporter {
    pub(super) fn new(refuses: bool) -> Self {
        Self { refuses, made: Mutex::default(), asked: AtomicUsize::new(0), exported: Arc::default() }
    }

    /// What came of the first request that wasn't looked at.
    pub(super) fn take_made(&self) -> Option<MemoryKey> {
        self.made.lock().expect("nobody panics with it").pop_front().expect("the lender exports what it lends with a key")
    }

    /// How many slabs are exported.
    pub(super) fn exported(&self) -> usize {
        self.exported.load(Ordering::Relaxed)
    }
}

impl Export for Exporter {
    fn export(&self, _to: BorrowerId, memory: &LentMemory<'_>) -> io::Result<(Lease, MemoryKey)> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let key = MemoryKey { address: !(number as u64), key: memory.len() as u32 ^ number as u32 };
        let taken = !(self.refuses && number % 3 == 2);
        self.made.lock().expect("nobody panics with it").push_back(taken.then_some(key));
        if !taken {
            return Err(io::Error::other("it does so every third time"));
        }
        self.exported.fetch_add(1, Ordering::Relaxed);
        Ok((Box::new(Counted(Arc::clone(&self.exported))), key))
    }
}
