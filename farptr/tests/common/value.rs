//! Values for the models: each knows what it is, whether it exists, and that it exists once; and code of the user's that panics when
//! it is asked to.
//!
//! All counts belong to the calling thread, so tests may run side by side.

use farptr::Far;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once as OnceOfStd;

thread_local! {
    /// Calls of the user's code until one panics.
    static FUSE: Cell<u32> = const { Cell::new(u32::MAX) };
    /// Whether a `Drop` counts as one.
    static DROPS_BURN: Cell<bool> = const { Cell::new(false) };
    /// The serial numbers of values that exist.
    static LIVE: RefCell<HashSet<u64>> = RefCell::default();
    /// How many values without a byte exist.
    static NOTHINGS: Cell<u64> = const { Cell::new(0) };
    static SERIAL: Cell<u64> = const { Cell::new(0) };
}

/// One call of the user's code.
pub(crate) fn burn() {
    let left = FUSE.get();
    FUSE.set(left.wrapping_sub(1));
    if left == 0 {
        panic!("as asked");
    }
}

/// Which code burns the fuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Burning {
    /// What calls [`burn`].
    Calls,
    /// Also each `Drop` of a value, but those of an unwinding thread: a second panic would end the process.
    CallsAndDrops,
}

/// Runs `f` with a fuse of `calls`. Whether it burnt down.
pub(crate) fn fused(burning: Burning, calls: u32, f: impl FnOnce()) -> bool {
    quiet();
    DROPS_BURN.set(burning == Burning::CallsAndDrops);
    FUSE.set(calls);
    let panicked = catch_unwind(AssertUnwindSafe(f)).is_err();
    FUSE.set(u32::MAX);
    DROPS_BURN.set(false);
    panicked
}

/// Silences the messages of panics that are asked for.
fn quiet() {
    static QUIET: OnceOfStd = OnceOfStd::new();
    QUIET.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&"as asked") {
                usual(info);
            }
        }));
    });
}

/// How many of this thread's values exist.
pub(crate) fn live() -> u64 {
    LIVE.with_borrow(HashSet::len) as u64 + NOTHINGS.get()
}

/// Not by a panic, which a test that asks for panics could take for one of its own.
fn wrong(what: &str) -> ! {
    eprintln!("{what}");
    std::process::abort()
}

/// A type whose values the models put into far memory and beside it.
pub(crate) trait Value: Far + Debug + Clone + Default {
    /// A value called `id`.
    fn new(id: u64) -> Self;
    /// What it is called: what `new` or `rename` were given, if there is room for that.
    fn id(&self) -> u64;
    /// Calls it `id`.
    fn rename(&mut self, id: u64);
    /// What a value called `id` says it is called.
    fn called(id: u64) -> u64 {
        id
    }
}

/// Bytes that tell whether they are still those of the value they were made for.
pub(crate) trait Ballast: Far + Copy + PartialEq + Debug {
    fn of(serial: u64) -> Self;
}

impl<const N: usize> Ballast for [u64; N] {
    fn of(serial: u64) -> Self {
        [serial; N]
    }
}

/// Aligned to a cache line.
#[derive(Far, Clone, Copy, PartialEq, Debug)]
#[repr(align(64))]
pub(crate) struct Line(u64);

impl Ballast for Line {
    fn of(serial: u64) -> Self {
        Line(serial)
    }
}

/// Aligned to a page.
#[derive(Far, Clone, Copy, PartialEq, Debug)]
#[repr(align(4096))]
pub(crate) struct Page(u64);

impl Ballast for Page {
    fn of(serial: u64) -> Self {
        Page(serial)
    }
}

/// Something that is there once, and that knows when it is dropped.
#[derive(Far, Debug)]
pub(crate) struct Once<B: Ballast> {
    serial: u64,
    id: u64,
    ballast: B,
}

impl<B: Ballast> Once<B> {
    fn check(&self) {
        if self.ballast != B::of(self.serial) || !std::hint::black_box(std::ptr::from_ref(self)).is_aligned() {
            wrong(&format!("value {} is not what it was", self.serial));
        }
    }
}

impl<B: Ballast> Value for Once<B> {
    fn new(id: u64) -> Self {
        let serial = SERIAL.get();
        SERIAL.set(serial + 1);
        LIVE.with_borrow_mut(|live| assert!(live.insert(serial)));
        Once { serial, id, ballast: B::of(serial) }
    }

    fn id(&self) -> u64 {
        self.check();
        self.id
    }

    fn rename(&mut self, id: u64) {
        self.check();
        self.id = id;
    }
}

impl<B: Ballast> Clone for Once<B> {
    fn clone(&self) -> Self {
        burn();
        Self::new(self.id())
    }
}

impl<B: Ballast> Default for Once<B> {
    fn default() -> Self {
        burn();
        Self::new(0)
    }
}

impl<B: Ballast> Drop for Once<B> {
    fn drop(&mut self) {
        self.check();
        if !LIVE.with_borrow_mut(|live| live.remove(&self.serial)) {
            wrong(&format!("value {} is dropped twice", self.serial));
        }
        burn_in_drop();
    }
}

fn burn_in_drop() {
    if DROPS_BURN.get() && !std::thread::panicking() {
        burn();
    }
}

/// A value without a byte, that has something to drop.
#[derive(Far, Debug)]
pub(crate) struct Nothing(());

impl Value for Nothing {
    fn new(_: u64) -> Self {
        NOTHINGS.set(NOTHINGS.get() + 1);
        Nothing(())
    }

    fn id(&self) -> u64 {
        0
    }

    fn rename(&mut self, _: u64) {}

    fn called(_: u64) -> u64 {
        0
    }
}

impl Clone for Nothing {
    fn clone(&self) -> Self {
        burn();
        Self::new(0)
    }
}

impl Default for Nothing {
    fn default() -> Self {
        burn();
        Self::new(0)
    }
}

impl Drop for Nothing {
    fn drop(&mut self) {
        match NOTHINGS.get().checked_sub(1) {
            Some(left) => NOTHINGS.set(left),
            None => wrong("a value without a byte is dropped twice"),
        }
        burn_in_drop();
    }
}

/// Plain data, with nothing to drop.
impl Value for u64 {
    fn new(id: u64) -> Self {
        id
    }

    fn id(&self) -> u64 {
        *self
    }

    fn rename(&mut self, id: u64) {
        *self = id;
    }
}

/// A value of two words and a bit.
pub(crate) type Small = Once<[u64; 1]>;
/// Of a size that few fit a chunk or a segment.
pub(crate) type Wide = Once<[u64; 300]>;
pub(crate) type Lined = Once<Line>;
pub(crate) type Paged = Once<Page>;
/// More than 64 KiB: a large object, of more bytes than a segment.
pub(crate) type Large = Once<[u64; 9000]>;
