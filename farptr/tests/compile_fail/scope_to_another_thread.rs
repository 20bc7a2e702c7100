//! A scope protects its own thread's references, so it can't be used on another.

use farptr::{RemBox, Scope};

fn shared(scope: &Scope, value: &RemBox<u64>) {
    std::thread::scope(|threads| {
        threads.spawn(|| println!("{}", value.get(scope)));
    });
}

fn moved(scope: Scope) {
    std::thread::spawn(move || drop(scope));
}

fn main() {}
