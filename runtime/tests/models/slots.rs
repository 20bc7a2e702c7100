//! The slot table against a set of units.
//!
//! A unit in use holds, in each of its slots, a word of an object at an address that no other slot ever gets. So whether a stale slot number is
//! harmless can be asked: the word behind it must not say that the object it once named is there.

use crate::config;
use farptr_runtime::addr::{ObjectAddr, SlotId};
use farptr_runtime::budget::{Budget, Party};
use farptr_runtime::slot::{NoSlot, SLOTS_PER_BLOCK, SlotTable, UnitClass, owner_of};
use farptr_runtime::word::{Freshness, Slot, State, Warmth, Word};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeSet;
use std::ptr::NonNull;

const PAGE: usize = SLOTS_PER_BLOCK * 8;

/// Free blocks that the table keeps, at most.
const SPARE_BLOCKS: usize = 16;

const CLASSES: [UnitClass; 4] = [UnitClass::One, UnitClass::Row16, UnitClass::Row64, UnitClass::Row512];

#[derive(Debug, Clone)]
enum Op {
    Alloc { class: UnitClass, count: usize },
    Free { which: Index, count: usize },
    Trim,
}

fn op() -> impl Strategy<Value = Op> {
    let class = prop_oneof![Just(CLASSES[0]), Just(CLASSES[1]), Just(CLASSES[2]), Just(CLASSES[3])];
    prop_oneof![
        6 => (class, prop_oneof![3 => 1..4usize, 1 => 1..700usize]).prop_map(|(class, count)| Op::Alloc { class, count }),
        6 => (any::<Index>(), prop_oneof![3 => 1..4usize, 1 => 1..700usize]).prop_map(|(which, count)| Op::Free { which, count }),
        1 => Just(Op::Trim),
    ]
}

#[derive(Debug, Clone, Copy)]
struct Unit {
    id: SlotId,
    class: UnitClass,
    /// Its first slot's object is at this number times 16.
    object: usize,
}

impl Unit {
    fn numbers(self) -> std::ops::Range<u32> {
        self.id.0..self.id.0 + self.class.slots() as u32
    }

    fn addr(self, index: usize) -> ObjectAddr {
        ObjectAddr::new((self.object + index) * 16)
    }
}

struct Model {
    table: SlotTable,
    budget: Budget,
    units: Vec<Unit>,
    stale: Vec<Unit>,
    next: usize,
}

impl Model {
    fn blocks(&self) -> BTreeSet<u32> {
        self.units.iter().flat_map(|unit| unit.numbers()).map(|number| number / SLOTS_PER_BLOCK as u32).collect()
    }

    fn alloc(&mut self, class: UnitClass) {
        let outcome = self.table.alloc(class, &self.budget, |bytes| self.budget.try_charge(Party::Mutator, bytes));
        let id = match outcome {
            Ok(id) => id,
            Err(NoSlot::Budget) => {
                // Nothing is left: no block that could be charged, none spare, none of the class with a free unit.
                assert!(self.budget.free_for(Party::Mutator) < PAGE);
                assert_eq!(self.budget.used(), self.blocks().len() * PAGE, "a spare block would have served");
                let of_class: Vec<&Unit> = self.units.iter().filter(|unit| unit.class == class).collect();
                let blocks: BTreeSet<u32> = of_class.iter().map(|unit| unit.id.0 / SLOTS_PER_BLOCK as u32).collect();
                assert_eq!(of_class.len() * class.slots(), blocks.len() * SLOTS_PER_BLOCK, "a free unit would have served");
                return;
            }
            Err(error) => panic!("{error:?}"),
        };
        let unit = Unit { id, class, object: self.next };
        assert_ne!(id, SlotId::NONE);
        let row = self.table.row(id, class);
        assert_eq!(row[0].load().state(), State::Vacant);
        for (index, slot) in row.iter().enumerate() {
            let word = slot.load();
            assert!(word.state() == State::Vacant || word.to_bits() == 0, "slot {index} of a new unit: {word:?}");
            assert_eq!(self.table.id_of(slot), SlotId(id.0 + index as u32));
            // SAFETY: a slot of the table, which exists.
            assert_eq!(unsafe { owner_of(NonNull::from(slot)) }, self.owner());
            slot.init(Word::present(unit.addr(index), Freshness::Dirty, Warmth::Hot));
        }
        self.next += class.slots();
        self.units.push(unit);
    }

    fn owner(&self) -> *const () {
        0x1230 as *const ()
    }

    fn free(&mut self, which: usize) {
        let unit = self.units.swap_remove(which);
        for (index, slot) in self.table.row(unit.id, unit.class).iter().enumerate() {
            assert!(slot.load().is_present_at(unit.addr(index)), "somebody else has had slot {index} of {unit:?}");
            slot.vacate_from(slot.load()).expect("nobody else changes it");
        }
        self.table.free(unit.id, unit.class, &self.budget);
        self.stale.push(unit);
    }

    fn check(&self) {
        let blocks = self.blocks().len();
        let used = self.budget.used();
        assert!(used.is_multiple_of(PAGE) && (blocks..=blocks + SPARE_BLOCKS).contains(&(used / PAGE)), "{used} for {blocks}");
        assert!(used <= self.budget.limit());
    }

    fn check_all(&self) {
        for unit in &self.stale {
            for (index, number) in unit.numbers().enumerate() {
                let word = self.table.get(SlotId(number)).map(Slot::load);
                assert!(word.is_none_or(|word| !word.is_present_at(unit.addr(index))), "slot {number} still names its object");
            }
        }
        let mut all: Vec<_> = self.units.iter().map(|unit| unit.numbers()).collect();
        all.sort_by_key(|numbers| numbers.start);
        assert!(all.windows(2).all(|pair| pair[0].end <= pair[1].start), "units overlap");
        for unit in &self.units {
            for (index, slot) in self.table.row(unit.id, unit.class).iter().enumerate() {
                assert!(slot.load().is_present_at(unit.addr(index)), "{unit:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(config(120))]

    #[test]
    fn units_are_apart_stale_numbers_harmless_and_the_budget_right(
        pages in prop_oneof![1..6usize, 20..60usize],
        ops in prop::collection::vec(op(), 1..60),
        numbers in prop::collection::vec(any::<u32>(), 20),
    ) {
        let budget = Budget::new(pages * PAGE + 100, 0);
        let mut model = Model { table: SlotTable::new(), budget, units: Vec::new(), stale: Vec::new(), next: 1 };
        model.table.set_owner(model.owner());
        for op in ops {
            match op {
                Op::Alloc { class, count } => (0..count).for_each(|_| model.alloc(class)),
                Op::Free { which, count } => {
                    for _ in 0..count.min(model.units.len()) {
                        model.free(which.index(model.units.len()));
                    }
                }
                Op::Trim => {
                    model.table.trim(&model.budget);
                    assert_eq!(model.budget.used(), model.blocks().len() * PAGE);
                }
            }
            model.check();
        }
        model.check_all();
        // Any number at all may be asked for.
        for number in numbers {
            let found = model.table.get(SlotId(number)).map(|slot| model.table.id_of(slot));
            prop_assert!(found.is_none_or(|id| id == SlotId(number)));
        }
        while !model.units.is_empty() {
            model.free(0);
        }
        model.check_all();
        model.table.trim(&model.budget);
        prop_assert_eq!(model.budget.used(), 0);
    }
}
