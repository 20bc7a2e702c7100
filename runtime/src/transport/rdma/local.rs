//! Which of this process's memory the device knows: parts of the local heap and of the write buffers, each registered when it is used for the first time.
#![forbid(unsafe_code)]

use super::verbs::{Domain, Region};
use crate::transport::LocalMemory;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Memory that is registered part by part.
#[derive(Debug)]
struct Area {
    range: Range<usize>,
    part_bytes: usize,
    parts: Box<[Mutex<Part>]>,
}

#[derive(Debug, Default)]
enum Part {
    #[default]
    Unknown,
    Registered(Region),
    /// The system didn't want to. It is not asked again, until the part is given back.
    Refused,
}

/// The areas, in one protection domain.
#[derive(Debug)]
pub(super) struct Registered {
    domain: Arc<Domain>,
    areas: RwLock<Vec<Arc<Area>>>,
    has_warned: AtomicBool,
}

impl Registered {
    pub(super) fn new(domain: Arc<Domain>) -> Self {
        Self { domain, areas: RwLock::default(), has_warned: AtomicBool::new(false) }
    }

    /// The key for `len` bytes at `start`, if they lie in a part that is, or now becomes, registered.
    pub(super) fn key(&self, start: usize, len: usize) -> Option<u32> {
        let areas = self.areas.read().unwrap_or_else(PoisonError::into_inner);
        let area = areas.iter().find(|area| area.range.contains(&start))?;
        let offset = start - area.range.start;
        let index = offset / area.part_bytes;
        if offset % area.part_bytes + len > area.part_bytes {
            return None;
        }
        let mut part = lock(area.parts.get(index)?);
        if let Part::Unknown = *part {
            let begins = area.range.start + index * area.part_bytes;
            *part = match Region::own(&self.domain, begins, area.part_bytes) {
                Ok(region) => Part::Registered(region),
                Err(error) => {
                    if !self.has_warned.swap(true, Ordering::Relaxed) {
                        tracing::warn!(%error, "local memory isn't registered; transfers are copied once more");
                    }
                    Part::Refused
                }
            };
        }
        match &*part {
            Part::Registered(region) => Some(region.local_key()),
            Part::Unknown | Part::Refused => None,
        }
    }
}

impl LocalMemory for Registered {
    fn attach(&self, range: Range<usize>, part_bytes: usize) {
        let parts = (0..range.len().div_ceil(part_bytes)).map(|_| Mutex::default()).collect();
        let area = Arc::new(Area { range, part_bytes, parts });
        self.areas.write().unwrap_or_else(PoisonError::into_inner).push(area);
    }

    fn give_back(&self, range: Range<usize>) {
        let areas = self.areas.read().unwrap_or_else(PoisonError::into_inner);
        for area in areas.iter() {
            let (start, end) = (range.start.max(area.range.start), range.end.min(area.range.end));
            if start < end {
                let first = (start - area.range.start) / area.part_bytes;
                let last = (end - 1 - area.range.start) / area.part_bytes;
                area.parts[first..=last].iter().for_each(|part| *lock(part) = Part::Unknown);
            }
        }
    }
}

fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}
