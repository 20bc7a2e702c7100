//! The scope that a program holds.

use super::{Creditor, OpenScope, Registry, ThreadRecord};
use crate::forked;
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

#[cfg(not(farptr_loom))]
static THREADS: Registry = Registry::new();
#[cfg(farptr_loom)]
loom::lazy_static! {
    static ref THREADS: Registry = Registry::new();
}

/// True until the kernel has been asked and has offered membarrier: fencing too much is safe.
static MUST_FENCE: AtomicBool = AtomicBool::new(true);

#[cfg(not(farptr_loom))]
#[inline(always)]
pub(super) fn scopes_must_fence() -> bool {
    MUST_FENCE.load(Ordering::Relaxed)
}

/// What a scope adds to its thread's depth. The lowest bit is [`IN_DEBT`].
const LEVEL: usize = 2;

/// Set in the depth while the thread has to pay for what it took in its outermost scope, or to give its record back after it. So it costs the end of a scope one comparison, and its beginning nothing.
const IN_DEBT: usize = 1;

struct Local {
    /// The thread's record. Null when the next scope must not begin at once: before the first, after one that ended in debt, and after the thread's destructors have run.
    record: Cell<*const ThreadRecord>,
    /// The thread's record, or null if it has none.
    own: Cell<*const ThreadRecord>,
    /// Whether `own` is for one scope, at whose end it is given back: see `register`.
    lent: Cell<bool>,
    /// [`LEVEL`] for each open scope, and [`IN_DEBT`].
    depth: Cell<usize>,
    hint: Cell<AccessHint>,
    /// The hint outside all scopes.
    hint_outside: Cell<AccessHint>,
    /// Each grace period that the thread begins refreshes its own scope, in which no reference is left: see [`super::zeal`].
    #[cfg(farptr_zeal)]
    lets_end: Cell<bool>,
}

thread_local! {
    // Without a destructor, so that its access is a plain offset from the thread pointer.
    static LOCAL: Local = const {
        Local {
            record: Cell::new(ptr::null()),
            own: Cell::new(ptr::null()),
            lent: Cell::new(false),
            depth: Cell::new(0),
            hint: Cell::new(AccessHint::Normal),
            hint_outside: Cell::new(AccessHint::Normal),
            #[cfg(farptr_zeal)]
            lets_end: Cell::new(false),
        }
    };
    static REGISTRATION: RefCell<Option<Registration>> = const { RefCell::new(None) };
}

/// Gives the record back when the thread ends.
struct Registration(Arc<ThreadRecord>);

impl Drop for Registration {
    fn drop(&mut self) {
        LOCAL.with(|local| {
            // A scope leaked by `mem::forget` keeps its references valid for ever, so its record stays odd and is not reused.
            if forked::is_child() {
                // The list is the parent's, and its lock may be held for ever.
                std::mem::forget(Arc::clone(&self.0));
            } else if local.depth.get() == 0 {
                local.record.set(ptr::null());
                local.own.set(ptr::null());
                THREADS.release(Arc::clone(&self.0));
            } else {
                std::mem::forget(Arc::clone(&self.0));
            }
        });
    }
}

#[cold]
#[inline(never)]
fn register() -> *const ThreadRecord {
    if crate::sys::barrier() == crate::sys::Barrier::Expedited {
        MUST_FENCE.store(false, Ordering::Relaxed);
    }
    forked::mark();
    let record = if forked::is_child() { Arc::new(ThreadRecord::unlisted()) } else { THREADS.register() };
    let address = Arc::as_ptr(&record);
    let mut registration = Some(Registration(record));
    let kept = REGISTRATION.try_with(|slot| slot.try_borrow_mut().map(|mut slot| slot.replace(registration.take()?)).is_ok());
    if !matches!(kept, Ok(true)) || registration.is_some() {
        // The destructor of another thread-local, after ours has run: nothing would give the record back but the end of the scope that it is for.
        std::mem::forget(registration);
        LOCAL.with(|local| local.lent.set(true));
    }
    LOCAL.with(|local| local.own.set(address));
    address
}

/// The thread's record, for a scope that may not begin at once: pays what the thread owes. It is in no scope, so it has no references, and may wait.
#[cold]
#[inline(never)]
fn settle_up() -> *const ThreadRecord {
    LOCAL.with(|local| {
        let own = local.own_record();
        // Before it pays: what it does for that may open scopes.
        local.record.set(own);
        // SAFETY: as in `Scope::with_hint`.
        unsafe { &*own }.pay();
        if local.lent.get() {
            local.depth.set(IN_DEBT);
        }
        own
    })
}

impl Local {
    fn own_record(&self) -> *const ThreadRecord {
        let own = self.own.get();
        if own.is_null() { register() } else { own }
    }

    /// The outermost scope has ended, in debt.
    #[cold]
    #[inline(never)]
    fn leave_in_debt(&self) {
        self.depth.set(0);
        let record = self.record.replace(ptr::null());
        // SAFETY: as in `Scope::with_hint`; the scope that ends here had set the record.
        unsafe { &*record }.leave();
        if self.lent.replace(false) && !forked::is_child() {
            self.own.set(ptr::null());
            // SAFETY: the pointer is that of an `Arc` of which `register` forgot one count when it set `lent`, which is taken back here, once.
            THREADS.release(unsafe { Arc::from_raw(record) });
        }
    }

    /// Refreshes the thread's outermost scope, which is in debt and in which no reference is left.
    #[cold]
    #[inline(never)]
    fn refresh_in_debt(&self) {
        self.leave_in_debt();
        // SAFETY: as in `Scope::with_hint`.
        unsafe { &*settle_up() }.enter();
        self.depth.set(self.depth.get() + LEVEL);
    }
}

/// What a scope says about the objects it touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessHint {
    /// Used now, perhaps used again: counts for the hotness policy.
    Normal,
    /// Used once, as in a scan: objects fetched here leave first, and a use does not make an object hot.
    NonTemporal,
}

/// What became of a [`Scope::refresh`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// The scope is as good as new.
    Anew,
    /// Nothing happened: another scope of this thread is open, and holds what it held. End that one, or refresh it.
    HeldByOuter,
}

/// An interval in which references to far objects stay valid.
///
/// Every reference that a deref returns borrows a scope. While a scope is open, evacuation of the objects it may refer to is held
/// back, so keep scopes short or [`refresh`](Scope::refresh) them. Scopes nest; the outermost one counts.
///
/// # What a scope can hold
/// A thread's **holding** is the local memory that it has taken since its outermost scope began or was refreshed: objects that were fetched, and copies that
/// writers had to make. Its **share** is a quarter of the budget, divided by the threads that have a scope open, at most 256 KiB. While its holding is below its
/// share, a deref of an object no larger than a full default chunk of a `RemVec` does not fail for want of local memory, as long as every other thread
/// ends or refreshes its scopes within the memory's timeout. The first deref of a scope is always below. (A thread that took its share while fewer scopes were open keeps it. While
/// such scopes are open, those that began later may find less than their share, but always the first deref, of up to 70 threads with budgets below 8 MiB and more with larger ones.) What goes beyond is served while memory is free, and then
/// refused at once with [`Error::ScopeExhausted`](crate::Error::ScopeExhausted), which says who holds how much. New objects, and larger ones, are served while
/// memory is free; outside scopes they wait for it.
///
/// A thread whose scope had to draw on what is kept for this makes up for it before its next outermost scope begins: it helps evacuation, or waits for it, at
/// most for the memory's timeout.
///
/// A scope can't be sent to another thread nor held across an await of a future that is. Costs about a nanosecond.
#[derive(Debug)]
pub struct Scope {
    previous: AccessHint,
    /// Neither `Send` nor `Sync`: it stands for this thread's clock.
    _here: PhantomData<*const ()>,
}

impl Scope {
    /// Opens a scope.
    #[inline]
    pub fn enter() -> Self {
        Self::with_hint(None)
    }

    /// Opens a scope whose accesses are non-temporal, until it is dropped: for scans.
    #[inline]
    pub fn enter_non_temporal() -> Self {
        Self::with_hint(Some(AccessHint::NonTemporal))
    }

    #[inline(always)]
    fn with_hint(hint: Option<AccessHint>) -> Self {
        #[cfg(farptr_zeal)]
        super::zeal::point();
        LOCAL.with(|local| {
            if local.depth.get() == 0 {
                let mut record = local.record.get();
                if record.is_null() {
                    record = settle_up();
                }
                // SAFETY: records are owned by `THREADS`, a static whose list only grows, so a record once registered lives for
                // ever; the pointer was set from one by `register`.
                unsafe { &*record }.enter();
            }
            // Not what it was above: `settle_up` may have said that the scope owes something.
            local.depth.set(local.depth.get() + LEVEL);
            let previous = local.hint.get();
            if let Some(hint) = hint {
                local.hint.set(hint);
            }
            Scope { previous, _here: PhantomData }
        })
    }

    /// Ends this scope and begins another, so that evacuation can go on. No reference that borrowed it is left: `&mut self`.
    /// Inside another scope it does nothing, since that one still protects its references, and says so.
    ///
    /// A scope in which local memory ran short waits here until evacuation has made up for what it took, at most for the memory's timeout.
    #[inline]
    pub fn refresh(&mut self) -> Refreshed {
        LOCAL.with(|local| {
            let depth = local.depth.get();
            if depth >= 2 * LEVEL {
                return Refreshed::HeldByOuter;
            }
            if depth == LEVEL {
                // SAFETY: as in `with_hint`; a scope is open, so the record is set.
                unsafe { &*local.record.get() }.refresh();
            } else {
                local.refresh_in_debt();
            }
            {
                #[cfg(farptr_zeal)]
                {
                    local.lets_end.set(true);
                    super::zeal::point_without_references();
                    local.lets_end.set(false);
                }
            }
            Refreshed::Anew
        })
    }

    /// What this thread's innermost hint says now.
    #[inline]
    pub fn hint(&self) -> AccessHint {
        LOCAL.with(|local| local.hint.get())
    }
}

impl Drop for Scope {
    #[inline]
    fn drop(&mut self) {
        LOCAL.with(|local| {
            local.hint.set(self.previous);
            let depth = local.depth.get() - LEVEL;
            local.depth.set(depth);
            if depth == 0 {
                // Scopes that ended in another order than they began have left each other's hints behind.
                local.hint.set(local.hint_outside.get());
                // SAFETY: as in `with_hint`; the scope that ends here had set the record.
                unsafe { &*local.record.get() }.leave();
                #[cfg(farptr_zeal)]
                super::zeal::point();
            } else if depth == IN_DEBT {
                local.hint.set(local.hint_outside.get());
                local.leave_in_debt();
                #[cfg(farptr_zeal)]
                super::zeal::point();
            }
        });
    }
}

/// Gives this thread's accesses a hint, in a scope or outside, until it is dropped.
///
/// For containers: a swap-in that waits for memory happens outside any scope, and must know its hint as well. Guards and scopes end in
/// the reverse order of their beginning.
#[derive(Debug)]
pub struct Hinted {
    previous: AccessHint,
    _here: PhantomData<*const ()>,
}

impl Hinted {
    /// Accesses are `hint` from now on.
    #[inline]
    pub fn new(hint: AccessHint) -> Self {
        LOCAL.with(|local| {
            if local.depth.get() == 0 {
                local.hint_outside.set(hint);
            }
            Hinted { previous: local.hint.replace(hint), _here: PhantomData }
        })
    }

    /// What held before.
    #[inline]
    pub fn previous(&self) -> AccessHint {
        self.previous
    }
}

impl Drop for Hinted {
    #[inline]
    fn drop(&mut self) {
        LOCAL.with(|local| {
            if local.depth.get() == 0 {
                local.hint_outside.set(self.previous);
            }
            local.hint.set(self.previous);
        });
    }
}

/// Whether the calling thread is in a scope: then it must not wait for evacuation.
#[inline]
pub fn in_scope() -> bool {
    LOCAL.with(|local| local.depth.get() > 0)
}

/// The hint of the calling thread's innermost scope that gave one.
pub(crate) fn current_hint() -> AccessHint {
    LOCAL.with(|local| local.hint.get())
}

/// A small number for the calling thread, unlike that of any other living thread: for choosing a shard.
#[inline]
pub fn thread_number() -> usize {
    LOCAL.with(|local| {
        // SAFETY: as in `with_hint`. A thread that has yet to pay does so before its next scope, not here, where it may hold a claim.
        unsafe { &*local.own_record() }.number()
    })
}

/// The clock of the calling thread's outermost scope, or nothing outside. No other scope of the thread has the same.
pub fn current_clock() -> Option<u64> {
    LOCAL.with(|local| {
        // SAFETY: as in `with_hint`; a scope is open, so the record is set.
        (local.depth.get() > 0).then(|| unsafe { &*local.record.get() }.read())
    })
}

/// The calling thread, in a scope, has taken something that it must make up for before its next outermost scope.
pub fn owe(creditor: Weak<dyn Creditor>) {
    LOCAL.with(|local| {
        debug_assert!(local.depth.get() > 0, "outside scopes there is nothing to owe");
        // SAFETY: as in `with_hint`; a scope is open, so the record is set.
        unsafe { &*local.record.get() }.owe(creditor);
        local.depth.set(local.depth.get() | IN_DEBT);
    });
}

/// Tells `creditor` how many threads may open a scope, now and whenever that changes. Each thread pays it before its first scope.
pub fn add_creditor(creditor: Weak<dyn Creditor>) {
    THREADS.add_creditor(creditor);
}

/// The scopes that are open in this process.
pub fn open_scopes() -> Vec<OpenScope> {
    THREADS.open_scopes()
}

/// How many scopes are open in this process.
pub fn count_open() -> usize {
    THREADS.count_open()
}

/// Begins a grace period over all threads of the process.
#[must_use]
pub fn begin_grace() -> super::Grace {
    let grace = THREADS.begin_grace();
    #[cfg(farptr_zeal)]
    LOCAL.with(|local| {
        if local.lets_end.get() {
            // SAFETY: as in `with_hint`; set inside a scope only.
            unsafe { &*local.record.get() }.refresh();
        }
    });
    grace
}
