//! Large objects and their far copies, against a queue and a map.
#![forbid(unsafe_code)]

use crate::config;
use farptr_runtime::addr::{ObjectAddr, SlotId};
use farptr_runtime::far::{LargeFar, LargeFars, PIECE_BYTES};
use farptr_runtime::heap::{Extents, LargeObject, LargeObjects};
use proptest::prelude::*;
use proptest::sample::Index;
use std::alloc::Layout;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

#[derive(Debug, Clone)]
enum Op {
    Insert {
        pages: usize,
        align: u32,
    },
    Remove(Index),
    /// Takes a claim on an object, which is kept.
    Get(Index),
    LetGo,
    Rotate,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        // Few sizes: a mapping is then often where one was before.
        4 => (1..4usize, 0..13u32).prop_map(|(pages, align)| Op::Insert { pages, align }),
        3 => any::<Index>().prop_map(Op::Remove),
        1 => any::<Index>().prop_map(Op::Get),
        1 => Just(Op::LetGo),
        4 => Just(Op::Rotate),
    ]
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn large_objects_take_turns_from_the_oldest_on(ops in prop::collection::vec(op(), 1..120)) {
        let (extents, objects) = (Arc::new(Extents::new(1 << 20)), LargeObjects::default());
        let mut queue: VecDeque<(ObjectAddr, SlotId, Layout)> = VecDeque::new();
        let mut claims: Vec<Arc<LargeObject>> = Vec::new();
        let mut next = 0;
        for op in ops {
            match op {
                Op::Insert { pages, align } => {
                    next += 1;
                    let layout = Layout::from_size_align(pages * 5000 + align as usize, 1 << align).unwrap();
                    let object = LargeObject::map(&extents, layout, SlotId(next), u64::from(next) << 20).unwrap();
                    prop_assert!(object.addr().get().is_multiple_of(layout.align()));
                    prop_assert_eq!((object.header().slot(), object.header().far()), (SlotId(next), u64::from(next) << 20));
                    prop_assert!(LargeObject::footprint(layout) >= layout.size() + 16);
                    let elsewhere = queue.iter().all(|(addr, ..)| *addr != object.addr());
                    prop_assert!(elsewhere && claims.iter().all(|claim| claim.addr() != object.addr()));
                    queue.push_back((object.addr(), SlotId(next), layout));
                    objects.insert(object);
                }
                Op::Remove(which) if !queue.is_empty() => {
                    let (addr, slot, layout) = queue.remove(which.index(queue.len())).unwrap();
                    let removed = objects.remove(addr).unwrap();
                    prop_assert_eq!((removed.addr(), removed.header().slot(), removed.layout()), (addr, slot, layout));
                    let claimed = claims.iter().filter(|claim| claim.addr() == addr).count();
                    prop_assert_eq!(Arc::strong_count(&removed), 1 + claimed);
                    prop_assert!(objects.get(addr).is_none() && objects.remove(addr).is_none());
                }
                Op::Get(which) if !queue.is_empty() => {
                    let (addr, slot, _) = queue[which.index(queue.len())];
                    let claim = objects.get(addr).unwrap();
                    prop_assert_eq!((claim.addr(), claim.header().slot()), (addr, slot));
                    claims.push(claim);
                }
                Op::LetGo => drop(claims.pop()),
                Op::Rotate => {
                    let turn = queue.pop_front();
                    queue.extend(turn);
                    prop_assert_eq!(objects.rotate().map(|object| object.header().slot()), turn.map(|(_, slot, _)| slot));
                }
                Op::Remove(_) | Op::Get(_) => {}
            }
            prop_assert_eq!((objects.len(), objects.is_empty()), (queue.len(), queue.is_empty()));
        }
    }

    #[test]
    fn cuts_of_a_large_object_are_all_of_it_in_order(size in prop_oneof![0..PIECE_BYTES * 5, Just(PIECE_BYTES), Just(PIECE_BYTES * 3)]) {
        let mut end = 0;
        for (offset, len) in LargeFar::cuts(size) {
            prop_assert_eq!(offset, end);
            prop_assert!(len > 0 && len <= PIECE_BYTES && (len == PIECE_BYTES || offset + len == size));
            end += len;
        }
        prop_assert_eq!(end, size);
    }

    #[test]
    fn far_copies_are_found_by_numbers_that_are_not_used_again(ops in prop::collection::vec((any::<bool>(), any::<Index>()), 1..100)) {
        let fars = LargeFars::default();
        let mut model = BTreeMap::new();
        let mut gone = Vec::new();
        for (number, (is_insert, which)) in ops.into_iter().enumerate() {
            if is_insert {
                let id = fars.insert(LargeFar { size: number, pieces: Box::new([SlotId(number as u32)]) });
                prop_assert!(!gone.contains(&id) && model.insert(id.0, number).is_none());
            } else if let Some(id) = model.keys().nth(which.index(model.len().max(1))).copied() {
                let removed = fars.remove(farptr_runtime::addr::LargeId(id));
                prop_assert_eq!(removed.map(|far| far.size), model.remove(&id));
                gone.push(farptr_runtime::addr::LargeId(id));
            }
            prop_assert_eq!((fars.len(), fars.is_empty()), (model.len(), model.is_empty()));
            for (id, size) in &model {
                prop_assert_eq!(fars.get(farptr_runtime::addr::LargeId(*id)).map(|far| (far.size, far.pieces[0])), Some((*size, SlotId(*size as u32))));
            }
            prop_assert!(gone.iter().all(|id| fars.get(*id).is_none() && fars.remove(*id).is_none()));
        }
    }
}
