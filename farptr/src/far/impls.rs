//! [`Far`] for the plain data of `std`.
//!
//! The rule for adding one: every byte is a plain value that changes through `&mut` only, and `Drop`, if any, does no more
//! than drop the type parameters.

use super::Far;
use std::alloc::Layout;
use std::any::TypeId;
use std::cmp::{self, Reverse};
use std::convert::Infallible;
use std::marker::PhantomData;
use std::mem::{Discriminant, ManuallyDrop, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::{FpCategory, NonZero, Saturating, Wrapping};
use std::ops::{Bound, ControlFlow, Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};
use std::{io, thread};

macro_rules! plain {
    ($($ty:ty),+ $(,)?) => {$(
        // SAFETY: plain values: owned, without interior mutability or reliance on an address.
        unsafe impl Far for $ty {}
    )+};
}

/// Types made of values of their parameters and plain values.
macro_rules! made_of {
    ($($ty:ident<$($param:ident),+>),+ $(,)?) => {$(
        // SAFETY: holds values of `Far` types inline, and beside them only plain values.
        unsafe impl<$($param: Far),+> Far for $ty<$($param),+> {}
    )+};
}

macro_rules! non_zero {
    ($($ty:ty),+ $(,)?) => { plain!($(NonZero<$ty>),+); };
}

plain!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64, bool, char, str, Infallible);
non_zero!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, char);
plain!(cmp::Ordering, FpCategory, RangeFull, Layout, TypeId, io::ErrorKind, thread::ThreadId);
plain!(Duration, Instant, SystemTime);
plain!(IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6);

made_of!(Option<T>, Result<T, E>, ControlFlow<B, C>, Poll<T>, Bound<T>);
made_of!(Range<T>, RangeFrom<T>, RangeInclusive<T>, RangeTo<T>, RangeToInclusive<T>);
made_of!(Wrapping<T>, Saturating<T>, Reverse<T>, MaybeUninit<T>);

// SAFETY: a value of `T`, which is `Far`.
unsafe impl<T: Far + ?Sized> Far for ManuallyDrop<T> {}
// SAFETY: no bytes at all.
unsafe impl<T: ?Sized + 'static> Far for PhantomData<T> {}
// SAFETY: a plain number; of `T`, only the name matters.
unsafe impl<T: 'static> Far for Discriminant<T> {}
// SAFETY: values of `T`, which is `Far`, inline.
unsafe impl<T: Far, const N: usize> Far for [T; N] {}
// SAFETY: values of `T`, which is `Far`, inline.
unsafe impl<T: Far> Far for [T] {}

macro_rules! for_each_arity {
    ($apply:ident) => { for_each_arity!(@ $apply [] A B C D E F G H I J K L); };
    (@ $apply:ident [$($done:ident)*] $next:ident $($rest:ident)*) => {
        $apply!($($done)*);
        for_each_arity!(@ $apply [$($done)* $next] $($rest)*);
    };
    (@ $apply:ident [$($done:ident)*]) => { $apply!($($done)*); };
}

macro_rules! tuple {
    ($($param:ident)*) => {
        // SAFETY: values of `Far` types, inline.
        unsafe impl<$($param: Far),*> Far for ($($param,)*) {}
    };
}

/// Code does not move, and far data belongs to one process, so the address is as good when it comes back. A server can't
/// forge one: swap-in verifies the checksum.
macro_rules! function_pointer {
    ($($param:ident)*) => {
        function_pointer!(@ [fn($($param),*) -> Ret] [unsafe fn($($param),*) -> Ret] $($param)*);
        function_pointer!(@ [extern "C" fn($($param),*) -> Ret] [unsafe extern "C" fn($($param),*) -> Ret] $($param)*);
    };
    (@ [$safe:ty] [$unsafe:ty] $($param:ident)*) => {
        // SAFETY: a plain address of code, valid as long as the process.
        unsafe impl<Ret: 'static, $($param: 'static),*> Far for $safe {}
        // SAFETY: as above.
        unsafe impl<Ret: 'static, $($param: 'static),*> Far for $unsafe {}
    };
}

for_each_arity!(tuple);
for_each_arity!(function_pointer);
