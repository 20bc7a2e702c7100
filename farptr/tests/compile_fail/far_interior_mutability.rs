use farptr::Far;
use std::cell::{Cell, RefCell};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

#[derive(Far)]
struct Counters {
    a: Cell<u64>,
    b: RefCell<[u8; 16]>,
    c: Mutex<u32>,
    d: AtomicU64,
    fine: u64,
}

#[derive(Far)]
enum Hidden {
    Deep { in_an_option: Option<(u8, Cell<bool>)> },
}

fn main() {}
