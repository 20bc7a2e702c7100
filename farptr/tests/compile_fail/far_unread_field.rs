//! The derive looks at each field, and yet does not hide one that nothing reads.
#![deny(dead_code)]
use farptr::Far;

#[derive(Far)]
struct Record {
    read: u8,
    forgotten: u8,
}

fn main() {
    println!("{}", Record { read: 1, forgotten: 2 }.read);
}
