//! Far objects that own far objects, in vectors and maps, against the same of `std`.
//!
//! What owns is pinned, or out of its vector, while what it owns is used: in a scope, a miss could not wait for memory.

use crate::common::value::{Small, Value, live};
use crate::common::{assert_empty, assert_released, cases, churn, memory};
use farptr::{Far, FarMemory, RemBox, RemHashMap, RemVec};
use proptest::prelude::*;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

/// A name that is far itself: to hash it and to compare it, it is fetched.
#[derive(Far)]
struct Name(RemBox<str>);

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.with(|name| name.hash(state));
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        *self.0.pin() == *other.0.pin()
    }
}

impl Eq for Name {}

/// A node of a list, with a part in each kind of box.
#[derive(Far)]
struct Node {
    text: RemBox<str>,
    bytes: RemBox<[u8]>,
    next: Option<RemBox<Node>>,
    itself: Small,
}

struct NearNode {
    text: Box<str>,
    bytes: Box<[u8]>,
    next: Option<Box<NearNode>>,
    itself: Small,
}

fn text(id: u64) -> String {
    "far ".repeat(id as usize % 200)
}

fn far_node(id: u64, next: Option<RemBox<Node>>, mem: &FarMemory) -> RemBox<Node> {
    let text = RemBox::from_str_in(&text(id), mem);
    RemBox::new_in(
        Node { text, bytes: RemBox::from_slice_in(&vec![id as u8; id as usize * 5], mem), next, itself: Small::new(id) },
        mem,
    )
}

fn near_node(id: u64, next: Option<Box<NearNode>>) -> Box<NearNode> {
    let (text, bytes) = (text(id).into_boxed_str(), vec![id as u8; id as usize * 5].into_boxed_slice());
    Box::new(NearNode { text, bytes, next, itself: Small::new(id) })
}

fn assert_same(far: &RemBox<Node>, near: &NearNode) {
    let far = far.pin();
    assert_eq!(far.itself.id(), near.itself.id());
    far.text.with(|text| assert_eq!(*text, *near.text));
    far.bytes.with(|bytes| assert_eq!(*bytes, *near.bytes));
    match (&far.next, &near.next) {
        (None, None) => {}
        (Some(far), Some(near)) => assert_same(far, near),
        _ => panic!("the list ends elsewhere"),
    }
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Push,
    /// A new node before a list.
    Prepend,
    /// The rest of one list goes behind the head of another.
    Graft,
    /// The rest of a list is dropped.
    Cut,
    Change,
    Remove,
    /// A list goes into the map.
    Store,
    /// And out of it.
    Fetch,
    Look,
    Evacuate,
    Churn,
}

const ACTS: &[Act] = &[
    Act::Push,
    Act::Push,
    Act::Prepend,
    Act::Prepend,
    Act::Graft,
    Act::Cut,
    Act::Change,
    Act::Remove,
    Act::Store,
    Act::Store,
    Act::Fetch,
    Act::Look,
    Act::Evacuate,
    Act::Churn,
];

fn agree(ops: &[(Act, u64, u64)]) {
    let mem = memory(1 << 20);
    let counts = live();
    let mut far: RemVec<RemBox<Node>> = RemVec::with_chunk_bytes_in(64, &mem);
    let mut near: Vec<Box<NearNode>> = Vec::new();
    let mut far_map: RemHashMap<Name, RemBox<Node>> = RemHashMap::new_in(&mem);
    let mut near_map: HashMap<String, Box<NearNode>> = HashMap::new();
    for (act, id, other) in ops {
        let (act, id) = (*act, *id);
        let len = near.len();
        let Some(at) = (id as usize).checked_rem(len) else {
            far.push(far_node(id, None, &mem));
            near.push(near_node(id, None));
            continue;
        };
        let other = *other as usize % len;
        match act {
            Act::Push => {
                far.push(far_node(id, None, &mem));
                near.push(near_node(id, None));
            }
            Act::Prepend => {
                let next = (far.swap_remove(at), near.swap_remove(at));
                far.push(far_node(id, Some(next.0), &mem));
                near.push(near_node(id, Some(next.1)));
            }
            Act::Graft if at != other => {
                let (mut from, mut near_from) = (far.swap_remove(at), near.swap_remove(at));
                let rest = (from.pin_mut().next.take(), near_from.next.take());
                let to = other % near.len();
                let (mut head, mut near_head) = (far.swap_remove(to), near.swap_remove(to));
                // What was there is dropped.
                head.pin_mut().next = rest.0;
                near_head.next = rest.1;
                far.push(head);
                near.push(near_head);
            }
            Act::Cut => {
                let (mut head, mut near_head) = (far.swap_remove(at), near.swap_remove(at));
                head.with_mut(|head| head.next.take());
                near_head.next = None;
                far.push(head);
                near.push(near_head);
            }
            Act::Graft | Act::Change => {
                let bytes = vec![1; id as usize];
                let (mut head, mut near_head) = (far.swap_remove(at), near.swap_remove(at));
                {
                    let mut head = head.pin_mut();
                    head.itself.rename(id);
                    head.bytes = RemBox::from_slice_in(&bytes, &mem);
                }
                near_head.itself.rename(id);
                near_head.bytes = bytes.into_boxed_slice();
                far.push(head);
                near.push(near_head);
            }
            Act::Remove => drop((far.swap_remove(at), near.swap_remove(at))),
            Act::Store => {
                let name = format!("{:0>300}", id % 7);
                let replaced = far_map.insert(Name(RemBox::from_str_in(&name, &mem)), far.swap_remove(at));
                match (replaced, near_map.insert(name, near.swap_remove(at))) {
                    (None, None) => {}
                    (Some(far), Some(near)) => assert_same(&far, &near),
                    _ => panic!("only one of them was there"),
                }
            }
            Act::Fetch => {
                let name = format!("{:0>300}", id % 7);
                let fetched = far_map.remove(&Name(RemBox::from_str_in(&name, &mem)));
                assert_eq!(fetched.is_some(), near_map.contains_key(&name));
                far.extend(fetched);
                near.extend(near_map.remove(&name));
            }
            Act::Look => assert_same(&far.swap_remove(at), &near.swap_remove(at)),
            Act::Evacuate => assert_released(&mem),
            Act::Churn => churn(&mem),
        }
        assert_eq!((far.len(), far_map.len(), (live() - counts) % 2), (near.len(), near_map.len(), 0), "after {act:?}");
    }
    while let (Some(far), Some(near)) = (far.pop(), near.pop()) {
        assert_same(&far, &near);
    }
    for (name, near) in near_map.drain() {
        let far = far_map.remove(&Name(RemBox::from_str_in(&name, &mem)));
        assert_same(&far.expect("it is there"), &near);
    }
    assert_released(&mem);
    drop((far, far_map));
    assert_eq!((live(), mem.stats().lost_drops), (counts, 0));
    assert_empty(&mem);
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn owners_of_owners_agree_with_std(
        ops in prop::collection::vec((prop::sample::select(ACTS), 0..1000u64, any::<u64>()), 1..150)
    ) {
        agree(&ops);
    }
}
