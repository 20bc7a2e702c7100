//! The forms that hold little, with data of several times the budget, several threads, and memory that is always short: none of them fails.

mod common;

use common::{alone, assert_empty, assert_released, block_on, memory, numbers};
use farptr::{AccessHint, Cursor, CursorMut, Error, Far, FarMemory, RemBox, RemHashMap, RemVec};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Objects of 1 KiB.
type Kilobyte = [u64; 128];

const BUDGET: usize = 2 << 20;
/// Of 1 KiB: four times the budget.
const OBJECTS: u64 = 8 << 10;

/// Far boxes, in a vector that is far itself.
fn boxes(mem: &FarMemory) -> RemVec<RemBox<Kilobyte>> {
    let mut vec = RemVec::with_chunk_bytes_in(1 << 10, mem);
    (0..OBJECTS).for_each(|n| vec.push(RemBox::new_in([n; 128], mem)));
    mem.evacuate_all().unwrap();
    vec
}

fn on_threads(threads: u64, f: impl Fn(u64) + Sync) {
    std::thread::scope(|scope| {
        (0..threads).for_each(|thread| {
            drop(scope.spawn({
                let f = &f;
                move || f(thread)
            }))
        })
    });
}

/// `v.with(i, |b| b.with(..))` on a vector of boxes failed 262 times in a million, and inside `for_each_slice` 4,554 times in 100,000: the outer closure ran in a scope, in which the inner
/// one could not wait for memory. The error was about a scope that the program had never opened.
#[test]
fn closures_nest_where_memory_is_short() {
    let _alone = alone();
    let mem = memory(BUDGET);
    let mut vec = boxes(&mem);
    on_threads(4, |thread| {
        let mut next = numbers(thread + 1);
        for _ in 0..20_000 {
            let n = next() % OBJECTS;
            let read = vec.try_with(n as usize, |inner| inner.try_with(|value| value[127])).unwrap().unwrap();
            assert_eq!(read.unwrap(), n);
        }
    });
    on_threads(4, |_| {
        vec.try_for_each_slice(.., |first, slice| {
            for (n, inner) in slice.iter().enumerate() {
                assert_eq!(inner.try_with(|value| value[0]).unwrap(), (first + n) as u64);
            }
        })
        .unwrap();
    });
    vec.try_for_each_slice_mut(.., |_, slice| {
        slice.iter_mut().for_each(|inner| inner.try_with_mut(|value| value[0] += 1).unwrap())
    })
    .unwrap();
    for n in (0..OBJECTS).step_by(7) {
        let read = vec
            .try_with_mut(n as usize, |inner| inner.try_with_mut(|value| value[0] += 1).map(|()| inner.with(|value| value[0])));
        assert_eq!(read.unwrap().unwrap().unwrap(), n + 2);
        let read = block_on(vec.with_async(n as usize, |inner| inner.try_with(|value| value[0]))).unwrap();
        assert_eq!(read.unwrap().unwrap(), n + 2);
    }
    assert_released(&mem);
    drop(vec);
    assert_empty(&mem);
}

#[derive(Far)]
struct Node {
    id: u64,
    text: [u64; 60],
    next: Option<RemBox<Node>>,
}

fn node(id: u64, next: Option<RemBox<Node>>, mem: &FarMemory) -> RemBox<Node> {
    RemBox::new_in(Node { id, text: [id; 60], next }, mem)
}

/// A list of `len` nodes, whose head has number 0.
fn list(len: u64, mem: &FarMemory) -> RemBox<Node> {
    let tail = node(len - 1, None, mem);
    (0..len - 1).rev().fold(tail, |next, id| node(id, Some(next), mem))
}

/// Drops a list without a call for each node.
fn take_down(head: RemBox<Node>) -> u64 {
    let (mut count, mut rest) = (0, Some(head));
    while let Some(node) = rest {
        rest = node.into_inner().next;
        count += 1;
    }
    count
}

fn sum_by_closures(node: &RemBox<Node>) -> farptr::Result<u64> {
    node.try_with(|node| Ok(node.text[59] + node.next.as_ref().map_or(Ok(0), sum_by_closures)?))?
}

fn add_by_closures(node: &mut RemBox<Node>) -> farptr::Result<()> {
    node.try_with_mut(|node| {
        node.text[59] += 1;
        node.next.as_mut().map_or(Ok(()), add_by_closures)
    })?
}

#[test]
fn closures_nest_eight_deep() {
    const LISTS: usize = 2000;
    let _alone = alone();
    let mem = memory(BUDGET);
    let mut lists: Vec<_> = (0..LISTS).map(|_| list(8, &mem)).collect();
    mem.evacuate_all().unwrap();
    on_threads(2, |thread| {
        let mut next = numbers(thread + 1);
        for _ in 0..4000 {
            assert_eq!(sum_by_closures(&lists[next() as usize % LISTS]).unwrap(), 28);
        }
    });
    let (left, right) = lists.split_at_mut(LISTS / 2);
    std::thread::scope(|threads| {
        for half in [&mut *left, &mut *right] {
            threads.spawn(|| half.iter_mut().for_each(|list| add_by_closures(list).unwrap()));
        }
    });
    assert!(lists.iter().all(|list| sum_by_closures(list).unwrap() == 36));
    assert_released(&mem);
    drop(lists);
    assert_empty(&mem);
}

#[test]
fn a_closure_that_unwinds_gives_its_pin_back() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let mut outer = RemBox::new_in(RemBox::new_in(1u64, &mem), &mem);
    let mut vec = RemVec::new_in(&mem);
    vec.push(RemBox::new_in(2u64, &mem));
    let unwinds = |f: &mut dyn FnMut()| assert!(catch_unwind(AssertUnwindSafe(f)).is_err());
    let panic = || std::panic::resume_unwind(Box::new("as asked"));
    unwinds(&mut || outer.with(|_| panic()));
    unwinds(&mut || outer.with_mut(|_| panic()));
    unwinds(&mut || block_on(outer.with_async(|_| panic())).unwrap());
    unwinds(&mut || block_on(outer.with_mut_async(|_| panic())).unwrap());
    unwinds(&mut || assert!(vec.with(0, |_| panic()).is_some()));
    unwinds(&mut || vec.for_each_slice_mut(.., |_, _| panic()));
    unwinds(&mut || drop(Cursor::new(&outer).branch::<u64>(|_| std::panic::resume_unwind(Box::new("as asked")))));
    assert_released(&mem);
    assert!(!outer.is_local() && !vec.with(0, RemBox::is_local).unwrap());
    let misses = mem.stats().misses;
    mem.evacuate_all().unwrap();
    vec.with(0, |_| ());
    assert!(mem.stats().misses > misses, "the chunk had left");
}

#[test]
fn closures_leave_no_scope_open_around_what_owns_far_objects() {
    let mem = memory(1 << 20);
    let in_scope = || farptr_runtime::scope::in_scope();
    let mut owner = RemBox::new_in(RemBox::new_in(1u64, &mem), &mem);
    let mut vec = RemVec::new_in(&mem);
    vec.push(RemBox::new_in(2u64, &mem));
    assert!(!owner.with(|_| in_scope()) && !owner.with_mut(|_| in_scope()));
    assert!(!block_on(owner.with_async(|_| in_scope())).unwrap() && !block_on(owner.with_mut_async(|_| in_scope())).unwrap());
    assert_eq!((vec.with(0, |_| in_scope()), vec.with_mut(0, |_| in_scope())), (Some(false), Some(false)));
    assert_eq!(block_on(vec.with_async(0, |_| in_scope())).unwrap(), Some(false));
    vec.for_each_slice(.., |_, _| assert!(!in_scope()));
    vec.for_each_slice_mut(.., |_, _| assert!(!in_scope()));
    // What owns nothing is derefed in a scope, which is cheaper.
    assert!(RemBox::new_in(1u64, &mem).with(|_| in_scope()));
}

/// Each slice was lent in a scope, in which the other vector could not wait for room.
#[test]
fn slices_fill_other_collections_where_memory_is_short() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let mut from = RemVec::new_in(&mem);
    from.extend(0..500_000u64);
    let (mut to, mut map) = (RemVec::new_in(&mem), RemHashMap::new_in(&mem));
    for _ in 0..3 {
        from.for_each_slice(.., |index, slice| {
            assert_eq!(slice[0], index as u64);
            slice.iter().for_each(|value| to.push(*value));
            map.insert(index as u64, [slice[0]; 8]);
        });
    }
    from.for_each_slice_mut(.., |index, slice| {
        assert_eq!(to.with(index, |value| *value), Some(slice[0]));
        assert_eq!(map.with(&(index as u64), |value| value[7]), Some(slice[0]));
        slice[0] += 1;
    });
    assert_eq!(to.len(), 1_500_000);
    drop((from, to, map));
    assert_empty(&mem);
}

#[test]
fn a_walk_goes_through_several_times_the_budget_and_derefs_more() {
    let _alone = alone();
    let mem = memory(BUDGET);
    let mut vec = boxes(&mem);
    on_threads(4, |_| {
        let (mut walk, mut n) = (vec.walk(..), 0);
        while let Some(inner) = walk.try_next().unwrap() {
            assert_eq!(inner.try_with(|value| value[1]).unwrap(), n);
            n += 1;
        }
        assert!(n == OBJECTS && walk.try_next().unwrap().is_none() && walk.next().is_none());
    });
    let mut walk = vec.walk_mut(100..);
    while let Some(inner) = walk.try_next().unwrap() {
        inner.try_with_mut(|value| value[1] += 1).unwrap();
    }
    assert!(walk.next().is_none());
    drop(walk);
    let changed = |n: u64| vec.with(n as usize, |inner| inner.with(|value| value[1] - n));
    assert_eq!([99, 100, OBJECTS - 1].map(changed), [Some(0), Some(1), Some(1)]);

    let mut map: RemHashMap<u64, RemBox<Kilobyte>> = RemHashMap::new_in(&mem);
    map.extend((0..OBJECTS).map(|n| (n, RemBox::new_in([n; 128], &mem))));
    on_threads(4, |_| {
        let (mut walk, mut seen) = (map.walk(), 0);
        while let Some(inner) = walk.try_next().unwrap() {
            assert_eq!(inner.try_with(|value| value[1]).unwrap(), *inner.key());
            seen += 1;
        }
        assert!(seen == OBJECTS && walk.next().is_none());
    });
    let mut walk = map.walk_mut();
    while let Some(mut inner) = walk.try_next().unwrap() {
        inner.try_with_mut(|value| value[1] += 1).unwrap();
    }
    assert!(walk.next().is_none());
    assert_eq!(map.with(&7, |inner| inner.with(|value| value[1])), Some(8));
    assert_released(&mem);
    drop((vec, map));
    assert_empty(&mem);
}

/// What the body of a loop does must not be taken for a part of the scan, and the scan's own fetches must.
#[test]
fn the_body_of_a_walk_has_its_own_hint_and_no_scope() {
    let mem = memory(1 << 20);
    let mut vec = RemVec::with_chunk_bytes_in(64, &mem);
    vec.extend(0..100u64);
    let check = || {
        assert!(!farptr_runtime::scope::in_scope());
        assert_eq!(farptr::scope().hint(), AccessHint::Normal);
    };
    let mut walk = vec.walk(..);
    while walk.next().is_some() {
        check();
    }
    drop(walk);
    let mut walk = vec.walk_mut(..);
    while walk.next().is_some() {
        check();
    }
    let mut map: RemHashMap<u64, u64> = RemHashMap::new_in(&mem);
    map.extend((0..10).map(|n| (n, n)));
    let mut walk = map.walk();
    while walk.next().is_some() {
        check();
    }
}

/// `RemVec::iter` gave its error again for ever, and iterating over what did not fit took minutes.
#[test]
fn iterators_end_at_their_first_error() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let mut vec: RemVec<u64> = RemVec::new_in(&mem);
    vec.extend(0..OBJECTS * 64);
    let mut map: RemHashMap<u64, Kilobyte> = RemHashMap::new_in(&mem);
    map.extend((0..OBJECTS / 2).map(|n| (n, [n; 128])));
    mem.evacuate_all().unwrap();
    fn errors<T>(mut iter: impl Iterator<Item = farptr::Result<T>>) -> usize {
        let errors = iter.by_ref().filter(|step| matches!(step, Err(Error::ScopeExhausted { .. }))).count();
        assert!(iter.next().is_none());
        errors
    }
    assert_eq!(errors(vec.iter(&farptr::scope())), 1);
    {
        let scope = farptr::scope();
        let mut iter = map.iter(&scope);
        assert_eq!((errors(iter.by_ref()), iter.len()), (1, 0));
    }
    assert_eq!(errors(map.keys(&farptr::scope())), 1);
    assert_eq!(errors(map.values(&farptr::scope())), 1);
    assert_eq!(errors(map.values_mut(&farptr::scope())), 1);
    let scope = farptr::scope();
    let mut iter = map.iter_mut(&scope);
    assert_eq!((errors(iter.by_ref()), iter.len()), (1, 0));
}

/// In a scope nothing leaves that was fetched since it began, so a walk has to end; but it ends.
#[test]
fn a_walk_inside_a_scope_is_refused_and_goes_on_behind() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let mut vec: RemVec<u64> = RemVec::with_chunk_bytes_in(2048, &mem);
    vec.extend(0..OBJECTS * 32);
    mem.evacuate_all().unwrap();
    {
        let _scope = farptr::scope();
        let (mut walk, mut expected) = (vec.walk(3..), 3);
        let refused = loop {
            match walk.try_next() {
                Ok(Some(element)) => assert_eq!(
                    (*element, expected),
                    (expected, {
                        expected += 1;
                        *element
                    })
                ),
                Ok(None) => panic!("the budget is smaller than the vector"),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, Error::ScopeExhausted { .. }), "{refused}");
        assert_eq!(expected % vec.chunk_len() as u64, 0);
        let left = OBJECTS * 32 - expected - vec.chunk_len() as u64;
        assert_eq!(format!("{walk:?}"), format!("Walk {{ left: {left}, .. }}"));
    }
    let mut count = 0;
    let mut walk = vec.walk(..);
    while walk.try_next().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, vec.len());
}

#[test]
fn cursors_go_along_lists_of_several_times_the_budget() {
    const LEN: u64 = 4 * (BUDGET as u64 / 512);
    let _alone = alone();
    let mem = memory(BUDGET);
    let mut head = list(LEN, &mem);
    mem.evacuate_all().unwrap();
    on_threads(4, |thread| {
        let mut at = Cursor::try_new(&head).unwrap();
        for n in 0..LEN {
            assert_eq!((at.id, at.text), (n, [n; 60]));
            let stepped = match thread {
                0 => at.step(|node| node.next.as_ref()),
                1 => block_on(at.step_async(|node| node.next.as_ref())).unwrap(),
                2 => match at.branch(|node| node.next.as_ref()) {
                    Some(next) => {
                        at = next;
                        true
                    }
                    None => false,
                },
                _ => at.try_step(|node| node.next.as_ref()).unwrap(),
            };
            assert_eq!(stepped, n < LEN - 1);
        }
        // It stays at the end.
        assert_eq!(at.id, LEN - 1);
    });
    assert_released(&mem);
    assert!(!head.is_local(), "nothing is left pinned");

    let mut at = CursorMut::try_new(&mut head).unwrap();
    loop {
        at.text[0] += 1;
        let stepped = match at.id % 3 {
            0 => at.step(|node| node.next.as_mut()),
            1 => block_on(at.step_async(|node| node.next.as_mut())).unwrap(),
            _ => at.try_step(|node| node.next.as_mut()).unwrap(),
        };
        if !stepped {
            break;
        }
    }
    at.next = Some(node(LEN, None, &mem));
    drop(at);
    // A piece out of the middle.
    let mut at = CursorMut::from(head.pin_mut());
    (0..10).for_each(|_| assert!(at.step(|node| node.next.as_mut())));
    let cut = at.next.take().unwrap();
    at.next = CursorMut::new(&mut { cut }).next.take();
    let at = at.into_branch(|node| node.next.as_mut()).unwrap();
    assert_eq!((at.id, at.text[0], at.text[1]), (12, 13, 12));
    drop(at);
    assert_eq!(take_down(head), LEN);
    assert_empty(&mem);
}

/// Boxes of slices and of text, and children of another type than their parent.
#[test]
fn cursors_branch_to_other_types_and_outlive_the_one_they_came_from() {
    #[derive(Far)]
    struct Tree {
        label: RemBox<str>,
        children: RemBox<[u64]>,
        left: Option<RemBox<Tree>>,
    }
    let mem = memory(1 << 20);
    let tree = |label: &str, left| {
        let (label, children) = (RemBox::from_str_in(label, &mem), RemBox::from_slice_in(&[1u64, 2], &mem));
        RemBox::new_in(Tree { label, children, left }, &mem)
    };
    let mut root = tree("root", Some(tree("leaf", None)));
    let label = {
        let mut at = Cursor::new(&root);
        assert!(at.step(|tree| tree.left.as_ref()));
        assert!(at.branch(|tree| tree.left.as_ref()).is_none());
        at.branch(|tree| Some(&tree.label)).unwrap()
    };
    mem.evacuate_all().unwrap();
    assert_eq!((&*label, format!("{label:?}")), ("leaf", "\"leaf\"".to_owned()));
    drop(label);
    let mut children = CursorMut::new(&mut root).into_branch(|tree| Some(&mut tree.children)).unwrap();
    children[1] = 3;
    assert_eq!(format!("{children:?}"), "[1, 3]");
    drop(children);
    mem.evacuate_all().unwrap();
    assert!(root.with(|tree| tree.children.with(|children| children == [1, 3])));
    assert!(
        CursorMut::new(&mut root)
            .try_into_branch(|tree| tree.left.as_mut()?.with_mut(|_| None::<&mut RemBox<u64>>))
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_cursor_that_can_not_go_on_stays_where_it_is() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let head = list(4 << 10, &mem);
    mem.evacuate_all().unwrap();
    {
        // In a scope each node that it comes to stays.
        let _scope = farptr::scope();
        let mut at = Cursor::try_new(&head).unwrap();
        let error = loop {
            match at.try_step(|node| node.next.as_ref()) {
                Ok(stepped) => assert!(stepped),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::ScopeExhausted { .. }), "{error}");
        assert_eq!(at.text, [at.id; 60]);
    }
    assert_released(&mem);
    assert_eq!(take_down(head), 4 << 10);
}

#[test]
fn elements_and_slices_are_pinned_without_a_scope() {
    let _alone = alone();
    let mem = memory(1 << 20);
    let mut vec: RemVec<u64> = RemVec::with_chunk_bytes_in(1024, &mem);
    vec.extend(0..OBJECTS * 64);
    let all = vec.len();
    {
        let pins: Vec<_> = (0..10).map(|n| vec.pin(n * 50_000).unwrap()).collect();
        let (slice, element) = (vec.pin_slice_at(100).unwrap(), block_on(vec.pin_async(all - 1)).unwrap().unwrap());
        mem.evacuate_all().unwrap();
        vec.for_each_slice(.., |_, _| ());
        assert!(pins.iter().enumerate().all(|(n, pin)| **pin == n as u64 * 50_000));
        assert_eq!((slice.len(), slice[0], *element), (28, 100, all as u64 - 1));
        assert_eq!(block_on(vec.pin_slice_at_async(127)).unwrap().unwrap().len(), 1);
    }
    *vec.pin_mut(5).unwrap() = 1;
    *block_on(vec.pin_mut_async(6)).unwrap().unwrap() = 2;
    vec.pin_slice_at_mut(126).unwrap().fill(3);
    assert!(vec.try_pin(all).unwrap().is_none() && vec.try_pin(usize::MAX).unwrap().is_none());
    assert!(vec.try_pin_mut(all).unwrap().is_none() && vec.try_pin_slice_at(all).unwrap().is_none());
    assert!(vec.try_pin_slice_at_mut(all).unwrap().is_none());
    assert_released(&mem);
    assert_eq!([5, 6, 125, 126, 127, 128].map(|n| vec.with(n, |n| *n).unwrap()), [1, 2, 125, 3, 3, 128]);
    drop(vec);
    assert_empty(&mem);
}
