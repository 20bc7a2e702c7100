//! Zeal: under `--cfg farptr_zeal`, evacuation at every legal point. Without it nothing of this is compiled in.
//!
//! A **legal point** is a moment at which a thread without an open scope enters the runtime, or ends its outermost scope or refreshes it: nothing that
//! is not pinned has to be where it was. There the thread itself runs a **pass** over each far memory that it has used. A program that
//! keeps a reference, an address or an assumption ("it was local just now") past such a point meets it at once, not one time in a million.
//!
//! # Which pass, and when
//! Of four passes two let go of all objects, one relocates them all, one cleans the far log: which is drawn from the thread's count of points and a
//! seed. It is not simply in turn: a loop with as many points in it as there are kinds of pass would see the same one at the same place for ever.
//!
//! To keep a run finite, passes thin out: the thread's first few hundred points are due, then every second one, and so on
//! ([`FULL_POINTS`]). Besides, each point pays for [`BYTES_PER_POINT`] of local objects, and a pass waits until its memory's are paid for.
//! `FARPTR_ZEAL=n` makes every n-th point due instead (1: all, whatever they cost), `FARPTR_ZEAL=n:seed` with another seed. Both are drawn as well, so
//! the same thread of the same program does the same each time.
//!
//! # What a pass must not do
//! Change what the program sees. It waits at most [`PATIENCE`] for others' scopes and for the evacuator's lock, since a thread in a scope may be
//! waiting for the very thread that is at the point; then it gives up, and the thread runs none for its next [`REST`] points. It does not start while
//! the thread unwinds, nor inside another pass.

use crate::scope;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// What is done at a legal point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Every object that can leaves.
    LetGo,
    /// Every object that can moves within the local heap.
    Relocate,
    /// The far log is cleaned, as far as anything in it is dead.
    Clean,
}

/// How a pass ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It did what it could.
    Well,
    /// Another thread's scope, a server or the evacuator's lock did not let it.
    GivenUp,
}

/// What has objects to evacuate: a far memory.
pub trait Evacuate: Send + Sync {
    /// Bytes of local objects, roughly: what a pass costs.
    fn local_bytes(&self) -> usize;

    /// Runs a pass on the calling thread.
    fn pass(&self, pass: Pass) -> Ended;
}

/// How long a pass waits for others.
pub const PATIENCE: Duration = Duration::from_millis(2);

/// Legal points of a thread in which all are due; in as many more, every second is; and so on. A thread with a million of them runs some two and
/// a half thousand passes.
const FULL_POINTS: u64 = 250;

/// Local bytes that a point pays for: a pass over them takes about 10 us.
const BYTES_PER_POINT: usize = 64 << 10;

/// Points without a pass after one was given up.
const REST: u64 = 200;

/// Passes of all threads, by kind, for tests that must know that something happened.
static PASSES: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// How many passes of a kind have ended well in this process.
pub fn passes(pass: Pass) -> u64 {
    PASSES[pass as usize].load(Ordering::Relaxed)
}

/// What the environment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting {
    /// Passes thin out if there is none.
    period: Option<u64>,
    seed: u64,
}

impl Setting {
    fn parse(text: Option<&str>) -> Option<Self> {
        let Some(text) = text else { return Some(Setting { period: None, seed: 0 }) };
        let (period, seed) = text.split_once(':').unwrap_or((text, "0"));
        Some(Setting { period: Some(period.parse().ok().filter(|n| *n > 0)?), seed: seed.parse().ok()? })
    }

    fn of_process() -> Self {
        static SETTING: OnceLock<Setting> = OnceLock::new();
        *SETTING.get_or_init(|| {
            let text = std::env::var("FARPTR_ZEAL").ok();
            Setting::parse(text.as_deref()).unwrap_or_else(|| panic!("FARPTR_ZEAL is `period` or `period:seed`, not {text:?}"))
        })
    }

    /// Whether a thread's point number `point` is due, and for what.
    fn draw(self, point: u64) -> Option<Pass> {
        let drawn = mix(point ^ self.seed.rotate_left(32));
        let period = self.period.unwrap_or(1 + point / FULL_POINTS);
        // The upper half decides whether, the lower for what.
        (drawn >> 32).is_multiple_of(period).then_some(match drawn % 4 {
            0 | 1 => Pass::LetGo,
            2 => Pass::Relocate,
            _ => Pass::Clean,
        })
    }
}

/// The finalizer of splitmix64 (Steele, Lea and Flood, OOPSLA 2014): neighbours come out unlike.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

#[derive(Default)]
struct Zealot {
    /// The far memories that the thread has used, and that may still exist.
    memories: RefCell<Vec<Weak<dyn Evacuate>>>,
    points: Cell<u64>,
    rest: Cell<u64>,
    /// Bytes paid for since the last pass.
    paid: Cell<usize>,
    in_pass: Cell<bool>,
}

thread_local! {
    static ZEALOT: Zealot = Zealot::default();
}

/// The calling thread uses `memory`: its legal points are the memory's as well.
pub(crate) fn takes_part(memory: &Weak<impl Evacuate + 'static>) {
    // Not in a thread whose locals are gone.
    let _ = ZEALOT.try_with(|zealot| {
        let mut memories = zealot.memories.borrow_mut();
        if !memories.iter().any(|known| known.as_ptr().cast::<()>() == memory.as_ptr().cast::<()>()) {
            memories.retain(|known| known.strong_count() > 0);
            memories.push(memory.clone());
        }
    });
}

/// The calling thread is at a legal point, in no scope.
pub(crate) fn point() {
    if !scope::in_scope() {
        point_without_references();
    }
}

/// The calling thread is at a legal point; it has no reference, but perhaps a scope, which lets every grace period end that the pass begins.
pub(super) fn point_without_references() {
    if std::thread::panicking() {
        return;
    }
    let _ = ZEALOT.try_with(|zealot| {
        if !zealot.in_pass.replace(true) {
            zealot.point();
            zealot.in_pass.set(false);
        }
    });
}

impl Zealot {
    fn point(&self) {
        // Taken out of the cell: the last claim on a memory may be ours, and its end may run anything.
        let memories: Vec<Arc<dyn Evacuate>> = self.memories.borrow().iter().filter_map(Weak::upgrade).collect();
        if memories.is_empty() {
            return;
        }
        let point = self.points.get();
        self.points.set(point + 1);
        self.paid.set(self.paid.get().saturating_add(BYTES_PER_POINT));
        if point < self.rest.get() {
            return;
        }
        let setting = Setting::of_process();
        let Some(pass) = setting.draw(point) else { return };
        if setting.period.is_none() {
            if memories.iter().map(|memory| memory.local_bytes()).sum::<usize>() > self.paid.get() {
                return;
            }
            self.paid.set(0);
        }
        for memory in memories {
            match memory.pass(pass) {
                Ended::Well => {
                    PASSES[pass as usize].fetch_add(1, Ordering::Relaxed);
                }
                Ended::GivenUp => self.rest.set(point + REST),
            }
        }
    }
}

#[cfg(all(test, not(farptr_loom)))]
mod tests {
    use super::*;

    #[test]
    fn setting_is_a_period_and_perhaps_a_seed() {
        assert_eq!(Setting::parse(None), Some(Setting { period: None, seed: 0 }));
        assert_eq!(Setting::parse(Some("3")), Some(Setting { period: Some(3), seed: 0 }));
        assert_eq!(Setting::parse(Some("1:77")), Some(Setting { period: Some(1), seed: 77 }));
        for wrong in ["", "0", "x", "1:", "1:x", "-1"] {
            assert_eq!(Setting::parse(Some(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn passes_of_all_kinds_come_in_no_order_that_a_loop_could_have() {
        let always = Setting { period: Some(1), seed: 0 };
        for stride in 1..=8 {
            for start in 0..stride {
                let drawn: Vec<_> = (0..40).filter_map(|n| always.draw(start + n * stride)).collect();
                for pass in [Pass::LetGo, Pass::Relocate, Pass::Clean] {
                    assert!(drawn.contains(&pass), "{pass:?} never comes from {start} in steps of {stride}");
                }
            }
        }
    }

    #[test]
    fn passes_thin_out() {
        let thinning = Setting { period: None, seed: 0 };
        let passes = (0..1_000_000).filter(|point| thinning.draw(*point).is_some()).count();
        assert!((0..FULL_POINTS).all(|point| thinning.draw(point).is_some()));
        assert!((2_000..3_000).contains(&passes), "{passes}");
    }
}
