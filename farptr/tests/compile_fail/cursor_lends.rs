//! A cursor lends the object that it stands on, until its next step, and comes only to what its root owns.

use farptr::{Cursor, CursorMut, Far, RemBox};

#[derive(Far)]
struct Node {
    value: u64,
    next: Option<RemBox<Node>>,
}

fn kept_over_a_step(head: &RemBox<Node>) -> u64 {
    let mut at = Cursor::new(head);
    let value = &at.value;
    at.step(|node| node.next.as_ref());
    *value
}

fn kept_for_writing_over_a_step(head: &mut RemBox<Node>) {
    let mut at = CursorMut::new(head);
    let value = &mut at.value;
    at.step(|node| node.next.as_mut());
    *value = 1;
}

fn outlives_the_cursor(head: &RemBox<Node>) -> &u64 {
    let at = Cursor::new(head);
    &at.value
}

fn goes_elsewhere(head: &RemBox<Node>, other: &RemBox<Node>) {
    Cursor::new(head).step(|_| Some(other));
}

fn takes_along(head: &RemBox<Node>) {
    let mut kept = None;
    Cursor::new(head).step(|node| {
        kept = Some(node);
        None
    });
}

fn root_is_written(mut head: RemBox<Node>) -> u64 {
    let at = Cursor::new(&head);
    head.with_mut(|node| node.next = None);
    at.value
}

fn root_is_dropped(head: RemBox<Node>) -> u64 {
    let at = Cursor::new(&head);
    drop(head);
    at.value
}

fn branch_outlives_the_root(head: RemBox<Node>) -> Option<u64> {
    let branch = Cursor::new(&head).branch(|node| node.next.as_ref());
    drop(head);
    branch.map(|branch| branch.value)
}

fn main() {}
