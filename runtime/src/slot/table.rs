//! The slot table.

use crate::ablations::Pages;
use crate::addr::SlotId;
use crate::arena::{Arena, PAGE};
use crate::budget::Budget;
use crate::word::{Slot, State, Word};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Size and alignment of a region: the alignment is what `owner_of` relies on.
const REGION_BYTES: usize = 64 << 20;
const SLOTS_PER_REGION: usize = REGION_BYTES / 8;
const MAX_REGIONS: usize = (1 << 32) / SLOTS_PER_REGION;

/// Slots in a block: one page.
pub const SLOTS_PER_BLOCK: usize = PAGE / 8;
const BLOCKS_PER_REGION: usize = SLOTS_PER_REGION / SLOTS_PER_BLOCK;

/// Free blocks kept rather than given back to the kernel, so that a program that drops and makes objects makes no system calls.
const SPARE_BLOCKS: usize = 16;

/// How many slots are handed out together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitClass {
    /// One slot.
    One,
    /// 16 slots in a row.
    Row16,
    /// 64 slots in a row.
    Row64,
    /// A whole block, 512 slots in a row.
    Row512,
}

impl UnitClass {
    const ALL: [UnitClass; 4] = [UnitClass::One, UnitClass::Row16, UnitClass::Row64, UnitClass::Row512];

    /// Slots in a unit.
    pub const fn slots(self) -> usize {
        match self {
            UnitClass::One => 1,
            UnitClass::Row16 => 16,
            UnitClass::Row64 => 64,
            UnitClass::Row512 => SLOTS_PER_BLOCK,
        }
    }

    const fn units(self) -> usize {
        SLOTS_PER_BLOCK / self.slots()
    }
}

/// What lies at the start of each region.
#[repr(C)]
struct RegionHeader {
    /// The owner given to `SlotTable::set_owner`.
    owner: AtomicPtr<()>,
    index: usize,
}

#[derive(Debug)]
struct Block {
    class: UnitClass,
    free: u16,
    head: SlotId,
    /// Where the block stands in its class's list of blocks with free units, if it is there.
    place: Option<u32>,
}

#[derive(Debug, Default)]
struct Lists {
    /// Metadata of all blocks ever used, by block number; block 0 of each region is its header page.
    blocks: Vec<Block>,
    with_free: [Vec<u32>; 4],
    /// Committed, charged, wholly free.
    spare: Vec<u32>,
    /// Given back to the kernel.
    returned: Vec<u32>,
}

/// All slots of one far memory.
#[derive(Debug)]
pub struct SlotTable {
    regions: Box<[OnceLock<Arena>]>,
    lists: Mutex<Lists>,
    owner: AtomicPtr<()>,
    pages: Pages,
}

/// Why no slot could be had.
#[derive(Debug)]
pub enum NoSlot {
    /// The budget is used up.
    Budget,
    /// The kernel gives no more address space.
    System(io::Error),
    /// 2^32 slots are in use.
    Exhausted,
}

impl Default for SlotTable {
    fn default() -> Self {
        Self::new()
    }
}

impl SlotTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::with_pages(Pages::Huge)
    }

    /// One whose regions have pages of that size.
    pub fn with_pages(pages: Pages) -> Self {
        SlotTable {
            regions: (0..MAX_REGIONS).map(|_| OnceLock::new()).collect(),
            lists: Mutex::default(),
            owner: AtomicPtr::new(std::ptr::null_mut()),
            pages,
        }
    }

    /// Sets what `owner_of` answers for every slot handed out from now on. Called once, before the first `alloc`.
    pub fn set_owner(&self, owner: *const ()) {
        self.owner.store(owner.cast_mut(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slot of number `id`, if a slot of that number can exist. Any number may be asked for: one from a far header, say.
    #[inline]
    pub fn get(&self, id: SlotId) -> Option<&Slot> {
        let index = id.0 as usize;
        if index % SLOTS_PER_REGION < SLOTS_PER_BLOCK {
            return None;
        }
        let region = self.regions[index / SLOTS_PER_REGION].get()?;
        let address = region.base() + index % SLOTS_PER_REGION * 8;
        // SAFETY: the address lies in the region behind its header page, is a multiple of 8, and the region is mapped for as long as
        // `self`. The bytes there are only ever accessed as `Slot`s, which are atomics; untouched ones are zero, a valid word.
        Some(unsafe { &*(address as *const Slot) })
    }

    /// The slot of number `id`, which is one that `alloc` returned.
    #[inline]
    pub fn slot(&self, id: SlotId) -> &Slot {
        self.get(id).expect("a slot number that was handed out names a slot")
    }

    /// The slots of a unit of `class` whose first slot is `id`, as `alloc` returned it.
    ///
    /// # Panics
    /// If `id` can't be the first slot of such a unit.
    #[inline]
    pub fn row(&self, id: SlotId, class: UnitClass) -> &[Slot] {
        let first = self.slot(id);
        assert!((id.0 as usize).is_multiple_of(class.slots()), "a row starts at a multiple of its length");
        let address = std::ptr::from_ref(first) as usize;
        // SAFETY: `get` has checked that the first slot lies in a region behind its header page. A row is aligned to its length, which
        // divides a block, so it ends in the same block. Slots are atomics, and valid whatever has become of them, as in `get`.
        unsafe { std::slice::from_raw_parts(address as *const Slot, class.slots()) }
    }

    /// Hands out a unit of `class`, for which `charge` charges a new block to `budget` if one is needed. Its first slot is vacant, so are the others, or zero. Returns the first slot's number.
    pub fn alloc(&self, class: UnitClass, budget: &Budget, charge: impl FnOnce(usize) -> bool) -> Result<SlotId, NoSlot> {
        let mut lists = self.lock();
        let list = class as usize;
        let number = match lists.with_free[list].last() {
            Some(number) => *number,
            None => self.new_block(&mut lists, class, budget, charge)?,
        };
        let block = &mut lists.blocks[number as usize];
        let id = block.head;
        block.head = self.slot(id).load().next_vacant();
        block.free -= 1;
        if block.free == 0 {
            block.place = None;
            let last = lists.with_free[list].pop();
            debug_assert_eq!(last, Some(number));
        }
        Ok(id)
    }

    /// Takes a unit back whose slots have all been vacated (or were never used).
    pub fn free(&self, id: SlotId, class: UnitClass, budget: &Budget) {
        let mut lists = self.lock();
        let number = id.0 / SLOTS_PER_BLOCK as u32;
        let list = class as usize;
        let block = &mut lists.blocks[number as usize];
        debug_assert_eq!(block.class, class);
        debug_assert!((block.free as usize) < class.units(), "freed twice");
        self.slot(id).init(Word::vacant(block.head));
        block.head = id;
        block.free += 1;
        let free = usize::from(block.free);
        if block.place.is_none() {
            let place = lists.with_free[list].len() as u32;
            lists.blocks[number as usize].place = Some(place);
            lists.with_free[list].push(number);
        }
        if free == class.units() {
            self.retire_block(&mut lists, number, budget);
        }
    }

    /// A block of `class` with all its units free, in its list.
    fn new_block(
        &self,
        lists: &mut Lists,
        class: UnitClass,
        budget: &Budget,
        charge: impl FnOnce(usize) -> bool,
    ) -> Result<u32, NoSlot> {
        let number = match lists.spare.pop() {
            Some(number) => number,
            None => {
                if !charge(PAGE) {
                    return Err(NoSlot::Budget);
                }
                match lists.returned.pop().map_or_else(|| self.extend(lists), Ok) {
                    Ok(number) => number,
                    Err(error) => {
                        budget.release(PAGE);
                        return Err(error);
                    }
                }
            }
        };
        let first = number * SLOTS_PER_BLOCK as u32;
        let mut next = SlotId::NONE;
        for unit in (0..class.units()).rev() {
            let id = SlotId(first + (unit * class.slots()) as u32);
            self.slot(id).init(Word::vacant(next));
            next = id;
        }
        let place = lists.with_free[class as usize].len() as u32;
        lists.with_free[class as usize].push(number);
        lists.blocks[number as usize] = Block { class, free: class.units() as u16, head: next, place: Some(place) };
        Ok(number)
    }

    /// The number of a block never used before.
    fn extend(&self, lists: &mut Lists) -> Result<u32, NoSlot> {
        loop {
            let number = lists.blocks.len();
            let region = number / BLOCKS_PER_REGION;
            if region >= MAX_REGIONS {
                return Err(NoSlot::Exhausted);
            }
            if number.is_multiple_of(BLOCKS_PER_REGION) && self.regions[region].get().is_none() {
                let arena = Arena::reserve(REGION_BYTES, REGION_BYTES).map_err(NoSlot::System)?;
                arena.advise(0..REGION_BYTES, self.pages);
                let header = RegionHeader { owner: AtomicPtr::new(self.owner.load(Ordering::Acquire)), index: region };
                // SAFETY: the region was just mapped and is known to nobody else; its first page is kept for this header.
                unsafe { (arena.base() as *mut RegionHeader).write(header) };
                let set = self.regions[region].set(arena);
                debug_assert!(set.is_ok(), "regions are added under the lock");
            }
            lists.blocks.push(Block { class: UnitClass::Row512, free: 0, head: SlotId::NONE, place: None });
            if !number.is_multiple_of(BLOCKS_PER_REGION) {
                return Ok(number as u32);
            }
        }
    }

    /// A block is wholly free: keeps it for the next need, or gives it back.
    fn retire_block(&self, lists: &mut Lists, number: u32, budget: &Budget) {
        let class = lists.blocks[number as usize].class;
        let place = lists.blocks[number as usize].place.take().expect("a free block is in its list") as usize;
        let list = &mut lists.with_free[class as usize];
        list.swap_remove(place);
        if let Some(moved) = list.get(place).copied() {
            lists.blocks[moved as usize].place = Some(place as u32);
        }
        if lists.spare.len() < SPARE_BLOCKS {
            lists.spare.push(number);
            return;
        }
        if !self.give_back(lists, number, budget) {
            lists.spare.push(number);
        }
    }

    /// Gives a block's page back. False if the system does not take it: the block stays charged.
    #[must_use]
    fn give_back(&self, lists: &mut Lists, number: u32, budget: &Budget) -> bool {
        let number_in_region = number as usize % BLOCKS_PER_REGION;
        if let Some(region) = self.regions[number as usize / BLOCKS_PER_REGION].get() {
            let range = number_in_region * PAGE..(number_in_region + 1) * PAGE;
            // SAFETY: no `&Slot` of an object is left, since every unit was freed; who holds a stale slot number reads atomics, and
            // finds zero, which is no object's word.
            let given = unsafe { region.decommit(range) };
            if given.is_err() {
                return false;
            }
        }
        lists.returned.push(number);
        budget.release(PAGE);
        true
    }

    /// Gives the spare blocks back, because local memory is short or to count it exactly.
    pub fn trim(&self, budget: &Budget) {
        let mut lists = self.lock();
        let mut spare = std::mem::take(&mut lists.spare);
        spare.retain(|number| !self.give_back(&mut lists, *number, budget));
        lists.spare = spare;
    }

    /// The number of `slot`, which belongs to this table.
    #[inline]
    pub fn id_of(&self, slot: &Slot) -> SlotId {
        let address = std::ptr::from_ref(slot) as usize;
        // SAFETY: `slot` lies in a region (it was made by `get`), and the region's header was written before any of its slots.
        let header = unsafe { &*((address & !(REGION_BYTES - 1)) as *const RegionHeader) };
        SlotId((header.index * SLOTS_PER_REGION + address % REGION_BYTES / 8) as u32)
    }

    /// Whether the object of slot `id` is in use, for tests and checks.
    pub fn is_vacant(&self, id: SlotId) -> bool {
        self.get(id).is_none_or(|slot| slot.load().state() == State::Vacant)
    }
}

/// The owner of the table that `slot` belongs to, as given to [`SlotTable::set_owner`].
///
/// # Safety
/// `slot` was handed out by a slot table that still exists.
#[inline]
pub unsafe fn owner_of(slot: NonNull<Slot>) -> *const () {
    let header = (slot.as_ptr() as usize & !(REGION_BYTES - 1)) as *const RegionHeader;
    // SAFETY: by contract the slot lies in a mapped region, regions are aligned to their size and begin with a header.
    unsafe { (*header).owner.load(Ordering::Acquire) }
}

const _: () = assert!(UnitClass::ALL.len() == 4 && size_of::<RegionHeader>() <= PAGE);

#[cfg(all(test, not(farptr_loom)))]
mod tests {
    use super::*;
    use crate::budget::Party;

    fn budget() -> Budget {
        Budget::new(1 << 20, 0)
    }

    #[test]
    fn any_number_may_be_asked_for() {
        let (table, budget) = (SlotTable::new(), budget());
        let id = table.alloc(UnitClass::One, &budget, |bytes| budget.try_charge(Party::Mutator, bytes)).unwrap();
        assert!(table.get(id).is_some());
        for number in [0, 1, 511, 1 << 23, u32::MAX, u32::MAX - 600] {
            assert!(table.get(SlotId(number)).is_none(), "slot {number}");
        }
        assert!(
            table
                .get(SlotId(SLOTS_PER_BLOCK as u32 * 40))
                .is_some_and(|slot| !slot.load().is_present() || slot.load().to_bits() == 0)
        );
    }
}
