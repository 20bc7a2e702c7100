use farptr::Far;
use std::rc::Rc;
use std::sync::Arc;

#[derive(Far)]
enum Tree {
    Leaf(u64),
    Node(Box<Tree>, Box<Tree>),
}

#[derive(Far)]
struct Shared(Rc<u64>, Arc<[u8]>);

#[derive(Far)]
struct Object {
    of_any_type: Box<dyn std::any::Any>,
}

fn main() {}
