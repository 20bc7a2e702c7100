//! One object of the model: a slot, and the bytes that must be found behind it.

use farptr_runtime::Result;
use farptr_runtime::addr::{FarAddr, LargeId, ObjectAddr, SlotId};
use farptr_runtime::far::LargeFar;
use farptr_runtime::far::image::{IMAGE_HEADER_BYTES, image_bytes};
use farptr_runtime::memory::{Intent, Memory, Origin};
use farptr_runtime::scope::{AccessHint, Hinted, Scope};
use farptr_runtime::word::{FarPlace, Slot, State, Word};
use std::alloc::Layout;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

/// How often an object that left between being brought in and being derefed is brought in again.
const TRIES: u32 = 4;

/// An object. Never dropped by itself: the memory's books would not balance.
pub(crate) struct Object {
    slot: NonNull<Slot>,
    layout: Layout,
    value: Vec<u8>,
    pins: usize,
    /// Where it was when it was pinned.
    held_at: Option<ObjectAddr>,
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, pinned {} times, {:?}", self.layout, self.pins, self.word())
    }
}

/// What is found at rest of an object, without using it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) is_present: bool,
    /// Live images: place and bytes of each.
    pub(crate) images: Vec<(FarAddr, usize)>,
    /// Slots: its own, and those of the pieces of its far copy.
    pub(crate) slots: Vec<SlotId>,
    /// It has a far copy in pieces.
    pub(crate) has_pieces: bool,
}

impl Object {
    pub(crate) fn new(memory: &Arc<Memory>, layout: Layout, value: Vec<u8>) -> Result<Self> {
        let slot = memory.alloc_slot()?;
        // SAFETY: just handed out, and given back below or by `give_up`.
        let id = memory.slot_table().id_of(unsafe { slot.as_ref() });
        match memory.new_object(id, layout, Origin::New) {
            Ok(room) => {
                assert!(room.addr().get().is_multiple_of(layout.align()), "{layout:?} at {:?}", room.addr());
                // SAFETY: the room is exclusive until it is published, and as long as the layout, as `value` is.
                unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), room.addr().get() as *mut u8, value.len()) };
                // SAFETY: as above.
                room.publish(unsafe { slot.as_ref() });
                Ok(Object { slot, layout, value, pins: 0, held_at: None })
            }
            Err(error) => {
                // SAFETY: it never held an object, and nobody else knows of it.
                unsafe { Memory::free_slot(slot) };
                Err(error)
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.value.len()
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    pub(crate) fn pins(&self) -> usize {
        self.pins
    }

    fn slot(&self) -> &Slot {
        // SAFETY: in use until `give_up`, which takes the object.
        unsafe { self.slot.as_ref() }
    }

    pub(crate) fn word(&self) -> Word {
        self.slot().load()
    }

    /// Derefs it as a smart pointer does: brings it in outside a scope, where memory can be waited for, then looks in a scope.
    fn deref<R>(&self, memory: &Memory, intent: Intent, hint: AccessHint, f: impl FnOnce(ObjectAddr) -> R) -> Result<R> {
        let _hinted = Hinted::new(hint);
        let mut tries = 0;
        loop {
            if !self.word().is_present() {
                memory.prepare(self.slot(), self.layout, hint)?;
            }
            let scope = Scope::enter();
            let found = self.addr(memory, intent);
            match found {
                Ok(addr) => return Ok(f(addr)),
                Err(farptr_runtime::Error::ScopeExhausted { .. }) if tries < TRIES => {
                    drop(scope);
                    tries += 1;
                    memory.wait_for_room()?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn addr(&self, memory: &Memory, intent: Intent) -> Result<ObjectAddr> {
        let word = self.word();
        let is_fast = match intent {
            Intent::Read => word.is_fast_read(),
            Intent::Write => word.is_fast_write(),
        };
        if is_fast { Ok(word.addr()) } else { memory.access_slow(self.slot(), self.layout, intent) }
    }

    pub(crate) fn read(&self, memory: &Memory, hint: AccessHint) -> Result<()> {
        self.deref(memory, Intent::Read, hint, |addr| {
            // SAFETY: the object is readable at `addr` in the scope that `deref` holds, and nobody else writes it.
            let found = unsafe { std::slice::from_raw_parts(addr.get() as *const u8, self.layout.size()) };
            assert_eq!(addr.get() % self.layout.align(), 0, "{self:?}");
            self.compare(found, "local");
        })
    }

    /// Writes `bytes` at `offset`, as many as fit.
    pub(crate) fn write(&mut self, memory: &Memory, offset: usize, bytes: &[u8], hint: AccessHint) -> Result<()> {
        let len = bytes.len().min(self.len() - offset);
        self.deref(memory, Intent::Write, hint, |addr| {
            // SAFETY: the object may be written at `addr` in the scope that `deref` holds, by its only owner; `len` bytes from `offset` lie in it.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), (addr.get() + offset) as *mut u8, len) };
        })?;
        self.value[offset..offset + len].copy_from_slice(&bytes[..len]);
        Ok(())
    }

    pub(crate) fn pin(&mut self, memory: &Memory) -> Result<()> {
        memory.pin(self.slot(), self.layout)?;
        self.pins += 1;
        let held_at = *self.held_at.get_or_insert(self.word().addr());
        assert!(self.word().is_present_at(held_at), "{self:?}");
        Ok(())
    }

    pub(crate) fn unpin(&mut self, memory: &Memory) {
        memory.unpin(self.slot());
        self.pins -= 1;
        if self.pins == 0 {
            self.held_at = None;
        }
    }

    /// Moves the contents out and makes the slot vacant: the object must be freed next. On an error it is as it was.
    pub(crate) fn take(&mut self, memory: &Memory) -> Result<()> {
        let mut out = vec![0; self.len()];
        // SAFETY: the slot holds an object of this layout, no reference to which exists; `out` is as long.
        unsafe { memory.take_object(self.slot(), self.layout, out.as_mut_ptr()) }?;
        self.compare(&out, "taken");
        Ok(())
    }

    /// Frees the slot of an object that was taken.
    pub(crate) fn free(self) {
        assert_eq!(self.word().state(), State::Vacant);
        // SAFETY: vacant, and forgotten with `self`.
        unsafe { Memory::free_slot(self.slot) };
    }

    /// Gives the object up unread.
    pub(crate) fn give_up(self, memory: &Memory) {
        // SAFETY: the slot holds an object of this layout, no reference to which exists.
        unsafe { memory.release_object(self.slot(), self.layout) };
        self.free();
    }

    #[track_caller]
    fn compare(&self, found: &[u8], what: &str) {
        if found != self.value {
            let first = found.iter().zip(&self.value).position(|(a, b)| a != b);
            panic!("{what} bytes differ from byte {first:?} on; {self:?}");
        }
    }

    /// Looks at the object as it is, without using it, while no round runs. With `bytes`, all copies of its contents are compared with the model.
    pub(crate) fn look(&self, memory: &Memory, bytes: bool) -> Seen {
        let word = self.word();
        assert!(!(word.is_evacuating() || word.is_relocating() || word.is_copying()), "a mark was left behind: {self:?}");
        assert_eq!(usize::from(word.pins()), self.pins.min(255), "{self:?}");
        let mut seen = Seen { slots: vec![memory.slot_table().id_of(self.slot())], ..Seen::default() };
        match word.state() {
            State::Present(addr) => {
                seen.is_present = true;
                assert_eq!(self.held_at.unwrap_or(addr), addr, "a pinned object was moved: {self:?}");
                assert_eq!(addr.get() % self.layout.align(), 0, "{self:?}");
                if bytes {
                    // SAFETY: present at rest, on the only thread that touches this memory.
                    self.compare(unsafe { std::slice::from_raw_parts(addr.get() as *const u8, self.len()) }, "local");
                }
                if word.is_clean() {
                    self.look_far(memory, memory.far_place_of(self.far_in_header(memory, addr), self.layout), bytes, &mut seen);
                }
            }
            State::Absent(place) => self.look_far(memory, place, bytes, &mut seen),
            State::Fetching(_) | State::Vacant => panic!("{self:?}"),
        }
        seen
    }

    fn far_in_header(&self, memory: &Memory, addr: ObjectAddr) -> u64 {
        // SAFETY: present at rest, and no round runs that could free its segment.
        match unsafe { memory.header_of_present(addr) } {
            Some(header) => {
                assert_eq!((header.slot(), header.layout()), (memory.slot_table().id_of(self.slot()), self.layout));
                header.far()
            }
            None => memory.large_objects().get(addr).expect("what is not in the log is a large object").header().far(),
        }
    }

    fn look_far(&self, memory: &Memory, place: FarPlace, bytes: bool, seen: &mut Seen) {
        let own = [(seen.slots[0], 0, self.len())];
        let LargeFar { pieces, .. } = match place {
            FarPlace::At(addr) => return self.look_at_images(memory, &own, &[addr], bytes, seen),
            FarPlace::Large(id) => {
                let far = memory.large_fars().get(id).unwrap_or_else(|| panic!("no {:?} of {self:?}", LargeId(id.0)));
                assert_eq!(far.size, self.len());
                LargeFar { size: far.size, pieces: far.pieces.clone() }
            }
        };
        seen.has_pieces = true;
        seen.slots.extend(&pieces);
        let cuts: Vec<_> = pieces.iter().zip(LargeFar::cuts(self.len())).map(|(slot, (at, len))| (*slot, at, len)).collect();
        assert_eq!(cuts.iter().map(|(.., len)| len).sum::<usize>(), self.len());
        let addrs: Vec<_> = pieces
            .iter()
            .map(|piece| match memory.slot_table().slot(*piece).load().state() {
                State::Absent(FarPlace::At(addr)) => addr,
                other => panic!("a piece is always absent, not {other:?}"),
            })
            .collect();
        self.look_at_images(memory, &cuts, &addrs, bytes, seen);
    }

    fn look_at_images(&self, memory: &Memory, cuts: &[(SlotId, usize, usize)], addrs: &[FarAddr], bytes: bool, seen: &mut Seen) {
        for ((slot, offset, len), addr) in cuts.iter().zip(addrs) {
            seen.images.push((*addr, image_bytes(*len)));
            if bytes {
                let mut image = vec![0; IMAGE_HEADER_BYTES + len];
                memory.fetch_image(*addr, *slot, &mut image).unwrap_or_else(|error| panic!("{error}; {self:?}"));
                let differs = image[IMAGE_HEADER_BYTES..] != self.value[*offset..offset + len];
                assert!(!differs, "the far copy is another; {self:?}");
            }
        }
    }
}
