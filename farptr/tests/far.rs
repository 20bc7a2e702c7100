//! The plain data of std is `Far`: that this compiles is the test.
#![forbid(unsafe_code)]

use farptr::Far;
use std::cmp::Reverse;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::{NonZeroI128, NonZeroU8, NonZeroUsize, Saturating, Wrapping};
use std::ops::{Bound, ControlFlow, Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};
use std::task::Poll;

fn is_far<T: Far + ?Sized>() {}

#[test]
fn plain_data_of_std_is_far() {
    is_far::<(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize)>();
    is_far::<(f32, f64, bool, char, (), (u8,), std::cmp::Ordering, std::num::FpCategory)>();
    is_far::<(NonZeroU8, NonZeroI128, NonZeroUsize, Wrapping<u8>, Saturating<i64>, Reverse<u32>)>();
    is_far::<(IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6)>();
    is_far::<(std::time::Duration, std::time::Instant, std::time::SystemTime, std::any::TypeId, std::thread::ThreadId)>();
    is_far::<(Range<u8>, RangeFrom<u8>, RangeFull, RangeInclusive<u8>, RangeTo<u8>, RangeToInclusive<u8>, Bound<u8>)>();
    is_far::<(Option<u8>, Result<u8, u16>, ControlFlow<u8, u16>, Poll<u8>)>();
    is_far::<(MaybeUninit<[u8; 64]>, ManuallyDrop<u64>, [[u8; 4]; 1000])>();
    is_far::<std::marker::PhantomData<std::cell::Cell<u8>>>();
    is_far::<std::mem::Discriminant<Option<String>>>();
    is_far::<(fn(), fn(u8, String) -> Vec<u8>, unsafe fn(u8), extern "C" fn(i32) -> i32)>();
    is_far::<[u32]>();
    is_far::<str>();
}

#[test]
fn an_option_of_a_niche_keeps_its_size() {
    // `Far` adds nothing to a value: what leaves is the value's own bytes.
    #[derive(Far)]
    #[expect(dead_code, reason = "only its size matters, and the derive does not count as a use")]
    struct Entry {
        key: NonZeroU8,
        value: Option<NonZeroU8>,
    }
    assert_eq!(size_of::<Entry>(), 2);
}
