//! Memory for large objects.
//!
//! A mapping for each object would reach the system's limit (`vm.max_map_count`, 65,530 by default) at a few GiB of small ones, and then the whole process can't map, unmap or start a
//! thread: to take one of two merged neighbours away makes two mappings of one, so even freeing fails. So objects lie in *extents*, which are
//! large mappings divided into *runs* of pages. To free a run gives its pages back to the system (`MADV_DONTNEED`) and leaves the mapping as it is. An extent stays mapped until the
//! memory goes; it then costs addresses only.
//!
//! # Runs
//! An object takes the smallest free run that is long enough, and what is left of it stays free. Neighbouring free runs of an extent are one. If none is long enough, another
//! extent is mapped. Free runs hold no pages: they read as zeros.
//!
//! # Objects with a mapping of their own
//! - Objects that gain from huge pages, at most [`OWN_MOST`]. To advise the kernel splits a mapping.
//! - Objects that are larger than half of an extent. An extent is at least a [`EXTENTS_IN_BUDGET`]th of the budget, so they are few.
//! - All in the checking configurations: memory that is taken away shows at once who still uses it.
//!
//! So a memory has some thousands of mappings for large objects, whatever its budget.
//!
//! # What the system refuses to take back
//! A run whose pages can't be given back is not free: it is *kept* with its charge to the budget, for the next object of its footprint, and giving back is tried again with
//! whenever local memory is short or trimmed. A mapping whose pages were given back, but whose addresses the system keeps, costs no memory; unmapping it is tried again
//! with each object that is freed, and by [`Extents::retry`].
#![forbid(unsafe_code)]

use crate::arena::{Arena, HUGE_PAGE, PAGE};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of an extent, at least.
const LEAST_EXTENT: usize = 64 << 20;

/// An extent is at least this part of the budget, which bounds their number.
const EXTENTS_IN_BUDGET: usize = 1024;

/// Objects from this size on have a mapping of their own, advised to have huge pages: of a smaller one a huge page would be much.
const OWN_LEAST: usize = 2 * HUGE_PAGE;

/// Such mappings at most: a sixteenth of the system's default limit.
const OWN_MOST: usize = 4096;

/// The memory for large objects of one heap.
#[derive(Debug)]
pub struct Extents {
    extent_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By first address.
    extents: BTreeMap<usize, Arc<Arena>>,
    /// Free runs: length by first address.
    free: BTreeMap<usize, usize>,
    /// The same by length, then address.
    by_length: BTreeSet<(usize, usize)>,
    /// Mappings of single objects.
    own: usize,
    /// Mappings without pages that the system has refused to unmap.
    stuck: Vec<Arena>,
}

/// Memory of one object. Says where it is, and nothing of who may use it.
#[derive(Debug)]
pub(super) enum Room {
    /// Pages of an extent.
    Run {
        /// Its first address.
        base: usize,
        /// Its length in bytes.
        len: usize,
    },
    /// A mapping.
    Own(Arena),
}

impl Room {
    pub(super) fn base(&self) -> usize {
        match self {
            Room::Run { base, .. } => *base,
            Room::Own(arena) => arena.base(),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Room::Run { len, .. } => *len,
            Room::Own(arena) => arena.len(),
        }
    }
}

impl State {
    fn add_free(&mut self, base: usize, len: usize) {
        self.free.insert(base, len);
        self.by_length.insert((len, base));
    }

    fn remove_free(&mut self, base: usize, len: usize) {
        self.free.remove(&base);
        self.by_length.remove(&(len, base));
    }

    /// The first `len` bytes of the smallest free run that has so many.
    fn take(&mut self, len: usize) -> Option<usize> {
        let (found, base) = *self.by_length.range((len, 0)..).next()?;
        self.remove_free(base, found);
        if found > len {
            self.add_free(base + len, found - len);
        }
        Some(base)
    }

    fn extent_of(&self, base: usize) -> &Arc<Arena> {
        self.extents.range(..=base).next_back().expect("a run lies in an extent").1
    }

    /// Makes a run free, together with its free neighbours. Extents may be neighbours, too, but runs end with theirs.
    fn give(&mut self, base: usize, len: usize) {
        let extent = self.extent_of(base);
        let bounds = extent.base()..extent.base() + extent.len();
        let (mut first, mut end) = (base, base + len);
        if let Some((before, its)) = self.free.range(bounds.start..base).next_back().map(|(base, len)| (*base, *len))
            && before + its == base
        {
            self.remove_free(before, its);
            first = before;
        }
        if end < bounds.end
            && let Some(its) = self.free.get(&end).copied()
        {
            self.remove_free(end, its);
            end += its;
        }
        self.add_free(first, end - first);
    }

    /// Unmaps what the system has refused to, as far as it does now.
    fn unstick(&mut self) {
        while let Some(arena) = self.stuck.pop() {
            if let Err((arena, _)) = arena.unmap() {
                self.stuck.push(arena);
                return;
            }
            self.own -= 1;
        }
    }
}

impl Extents {
    /// For a heap of `budget` bytes. Maps nothing yet.
    pub fn new(budget: usize) -> Self {
        let extent_bytes = (budget / EXTENTS_IN_BUDGET).next_multiple_of(HUGE_PAGE).max(LEAST_EXTENT);
        Extents { extent_bytes, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room of just `len` bytes, whole pages. Its bytes are initialised: they are zeros.
    pub(super) fn take(&self, len: usize) -> io::Result<Room> {
        debug_assert!(len > 0 && len.is_multiple_of(PAGE));
        let mut state = self.lock();
        let wants_huge_pages = len >= OWN_LEAST && state.own < OWN_MOST;
        if wants_huge_pages || len > self.extent_bytes / 2 || cfg!(any(farptr_zeal, farptr_asan)) {
            state.own += 1;
            drop(state);
            return self.map_own(len);
        }
        if let Some(base) = state.take(len) {
            return Ok(Room::Run { base, len });
        }
        let extent = Arena::reserve(self.extent_bytes, PAGE)?;
        let (base, extent_len) = (extent.base(), extent.len());
        state.extents.insert(base, Arc::new(extent));
        // Not `give`: free runs of a neighbouring extent stay apart.
        state.add_free(base, extent_len);
        let base = state.take(len).expect("an extent is larger than what lies in it");
        Ok(Room::Run { base, len })
    }

    fn map_own(&self, len: usize) -> io::Result<Room> {
        let arena = Arena::reserve(len, PAGE).inspect_err(|_| self.lock().own -= 1)?;
        if len >= OWN_LEAST {
            arena.advise_huge(0..len);
        }
        Ok(Room::Own(arena))
    }

    /// Frees room: its pages go back to the system. `decommit` gives the pages of a range of an arena back; the caller says so that nobody uses them.
    ///
    /// # Errors
    /// The room, if the system has not taken the pages back. It is the caller's as before.
    pub(super) fn free(
        &self,
        room: Room,
        decommit: impl Fn(&Arena, Range<usize>) -> io::Result<()>,
    ) -> Result<(), (Room, io::Error)> {
        match room {
            Room::Run { base, len } => {
                // Without the lock during the system call: the run is nobody else's before it is given.
                let extent = Arc::clone(self.lock().extent_of(base));
                let start = base - extent.base();
                if let Err(error) = decommit(&extent, start..start + len) {
                    return Err((Room::Run { base, len }, error));
                }
                let mut state = self.lock();
                state.give(base, len);
                state.unstick();
            }
            Room::Own(arena) => match arena.unmap() {
                Ok(()) => {
                    let mut state = self.lock();
                    state.own -= 1;
                    state.unstick();
                }
                // To unmap a part of what the kernel has merged makes one mapping more, which may be one too many. To give its pages back does not.
                Err((arena, refused)) => {
                    if let Err(error) = decommit(&arena, 0..arena.len()) {
                        return Err((Room::Own(arena), error));
                    }
                    tracing::warn!(error = %refused, bytes = arena.len(), "the system does not unmap a large object's addresses; its memory is free, and it will be tried again");
                    self.lock().stuck.push(arena);
                }
            },
        }
        Ok(())
    }

    /// Tries again to unmap what the system has refused to.
    pub fn retry(&self) {
        self.lock().unstick();
    }

    /// Mappings that this has made and not given back.
    pub fn mappings(&self) -> usize {
        let state = self.lock();
        state.extents.len() + state.own
    }
}

#[cfg(all(test, not(any(farptr_zeal, farptr_asan))))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;

    fn refuse(_: &Arena, _: Range<usize>) -> io::Result<()> {
        Err(io::ErrorKind::OutOfMemory.into())
    }

    fn accept(_: &Arena, _: Range<usize>) -> io::Result<()> {
        Ok(())
    }

    impl Extents {
        /// Free runs and taken ones are all of the extents, without overlap; neighbours in an extent are one; both orders agree.
        fn check(&self, taken: &[Room]) {
            let state = self.lock();
            let by_length: BTreeSet<_> = state.free.iter().map(|(base, len)| (*len, *base)).collect();
            assert_eq!(by_length, state.by_length);
            let mut runs: BTreeMap<usize, (usize, bool)> = state.free.iter().map(|(base, len)| (*base, (*len, true))).collect();
            for room in taken {
                assert!(runs.insert(room.base(), (room.len(), false)).is_none());
            }
            for extent in state.extents.values() {
                let (mut at, mut was_free) = (extent.base(), false);
                while at < extent.base() + extent.len() {
                    let (len, is_free) = runs.remove(&at).expect("each byte is in a run");
                    assert!(!(was_free && is_free), "free neighbours are one run");
                    (at, was_free) = (at + len, is_free);
                }
                assert_eq!(at, extent.base() + extent.len());
            }
            assert!(runs.is_empty());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn runs_neither_overlap_nor_get_lost(ops in prop::collection::vec((0..8u8, 1..2500usize, any::<Index>()), 1..150)) {
            // Of extents of 64 MiB at most a few are needed; lengths are below those with a mapping of their own.
            let extents = Extents::new(0);
            let mut taken: Vec<Room> = Vec::new();
            for (what, pages, which) in ops {
                match what {
                    0..5 => {
                        let len = (pages * PAGE).min(OWN_LEAST - PAGE);
                        let room = extents.take(len).unwrap();
                        prop_assert_eq!(room.len(), len);
                        taken.push(room);
                    }
                    _ if taken.is_empty() => {}
                    5 => {
                        // It stays taken.
                        let at = which.index(taken.len());
                        let (room, _) = extents.free(taken.swap_remove(at), refuse).unwrap_err();
                        taken.push(room);
                    }
                    _ => {
                        let at = which.index(taken.len());
                        extents.free(taken.swap_remove(at), accept).unwrap();
                    }
                }
                extents.check(&taken);
            }
            for room in taken {
                extents.free(room, accept).unwrap();
            }
            let state = extents.lock();
            prop_assert_eq!(state.free.len(), state.extents.len());
        }
    }

    #[test]
    fn only_large_rooms_have_mappings_of_their_own_and_only_so_many() {
        let extents = Extents::new(0);
        let small: Vec<_> = (0..1000).map(|_| extents.take(17 * PAGE).unwrap()).collect();
        assert_eq!(extents.mappings(), 1000 * 17 * PAGE / LEAST_EXTENT + 1, "extents only");
        let before = extents.mappings();
        let own = extents.take(OWN_LEAST).unwrap();
        assert!(matches!(own, Room::Own(_)));
        extents.lock().own = OWN_MOST;
        assert!(matches!(extents.take(OWN_LEAST).unwrap(), Room::Run { .. }), "there are enough");
        extents.lock().own = 1;
        let half = extents.take(LEAST_EXTENT / 2 + PAGE).unwrap();
        assert!(matches!(half, Room::Own(_)));
        assert_eq!(extents.mappings(), before + 2);
        for room in small.into_iter().chain([own, half]) {
            extents.free(room, accept).unwrap();
        }
        assert_eq!(extents.mappings(), before);
    }
}
