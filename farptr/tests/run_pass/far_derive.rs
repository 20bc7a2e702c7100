//! Everything that may be derived, in a crate that forbids unsafe code.
#![forbid(unsafe_code)]
#![deny(warnings)]
#![allow(dead_code)]

use farptr::Far;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant, SystemTime};

mod reexported {
    pub mod deep {
        pub use farptr::Far;
    }
}

#[derive(Far)]
struct Unit;

#[derive(Far)]
enum Never {}

#[derive(Far, Clone, Copy, PartialEq, Debug)]
struct Point(f64, f64);

#[derive(Far)]
struct Record {
    id: NonZeroU32,
    at: Point,
    tags: [Option<char>; 4],
    peer: Result<SocketAddr, std::io::ErrorKind>,
    when: (SystemTime, Instant, Duration),
    score: fn(u32, u32) -> f32,
    unit: (),
    r#type: u8,
}

#[derive(Far)]
enum Shape<T, const N: usize> {
    Empty,
    Dot(T),
    Line { from: [T; N], to: [T; N] },
}

#[derive(Far)]
struct Tagged<T, Tag: ?Sized> {
    value: T,
    tag: PhantomData<Tag>,
}

#[derive(Far)]
struct Last<I>
where
    I: Iterator + 'static,
{
    item: Option<I::Item>,
    qualified: Option<<I as Iterator>::Item>,
}

#[derive(Far)]
struct Unsized<T: ?Sized> {
    len: u32,
    tail: T,
}

#[derive(Far)]
#[repr(C, packed(2))]
struct Packed<T> {
    a: u8,
    b: T,
}

#[derive(Far)]
#[repr(C, align(64))]
struct Aligned(u8);

#[derive(Far)]
struct WithDrop<T: Copy = u8> {
    value: T,
}

impl<T: Copy> Drop for WithDrop<T> {
    fn drop(&mut self) {}
}

#[derive(Far)]
#[far(crate = "crate::reexported::deep")]
struct Elsewhere(u8);

#[derive(Far)]
#[far(crate = reexported::deep)]
struct AlsoElsewhere(u8);

/// A user's own type with a name that std also has.
#[derive(Far)]
struct String([u8; 8]);

#[derive(Far)]
struct OfMine {
    text: String,
    selves: Option<fn(Self) -> Self>,
}

fn is_far<T: Far + ?Sized>() {}

fn main() {
    is_far::<(Unit, Never, Point, Record)>();
    is_far::<Shape<Tagged<u8, str>, 3>>();
    is_far::<Tagged<u8, std::cell::Cell<u8>>>();
    is_far::<Last<std::vec::IntoIter<u64>>>();
    is_far::<Unsized<[u8]>>();
    is_far::<Unsized<str>>();
    is_far::<(Packed<u64>, Aligned, WithDrop, Elsewhere, AlsoElsewhere, OfMine)>();
    is_far::<[Point]>();
    is_far::<str>();
}
