//! The scope that a program holds.

use super::{Registry, ThreadRecord};
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

struct Local {
    /// Null until the thread enters its first scope, and again after its destructors have run.
    record: Cell<*const ThreadRecord>,
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
            if local.depth.get() == 0 {
                local.record.set(ptr::null());
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
    let record = THREADS.register();
    let address = Arc::as_ptr(&record);
    let mut registration = Some(Registration(record));
    let kept = REGISTRATION.try_with(|slot| slot.try_borrow_mut().map(|mut slot| slot.replace(registration.take()?)).is_ok());
    if !matches!(kept, Ok(true)) || registration.is_some() {
        // A scope in the destructor of another thread-local, after ours has run: the record is never given back.
        std::mem::forget(registration);
    }
    LOCAL.with(|local| local.record.set(address));
    address
}

/// What a scope says about the objects it touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessHint {
    /// Used now, perhaps used again: counts for the hotness policy.
    Normal,
    /// Used once, as in a scan: objects fetched here leave first, and a use does not make an object hot.
    NonTemporal,
}

/// An interval in which references to far objects stay valid.
///
/// Every reference that a deref returns borrows a scope. While a scope is open, evacuation of the objects it may refer to is held
/// back, so keep scopes short or [`refresh`](Scope::refresh) them; a program that fetches more inside one scope than its local
/// budget holds gets [`Error::ScopeExhausted`](crate::Error::ScopeExhausted). Scopes nest; the outermost one counts.
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
            let depth = local.depth.get();
            if depth == 0 {
                let mut record = local.record.get();
                if record.is_null() {
                    record = register();
                }
                // SAFETY: records are owned by `THREADS`, a static whose list only grows, so a record once registered lives for
                // ever; the pointer was set from one by `register`.
                unsafe { &*record }.enter();
            }
            local.depth.set(depth + 1);
            let previous = local.hint.get();
            if let Some(hint) = hint {
                local.hint.set(hint);
            }
            Scope { previous, _here: PhantomData }
        })
    }

    /// Ends this scope and begins another, so that evacuation can go on. No reference that borrowed it is left: `&mut self`.
    /// Inside another scope it does nothing, since that one still protects its references.
    #[inline]
    pub fn refresh(&mut self) {
        LOCAL.with(|local| {
            if local.depth.get() == 1 {
                // SAFETY: as in `with_hint`; a scope is open, so the record is set.
                unsafe { &*local.record.get() }.refresh();
                #[cfg(farptr_zeal)]
                {
                    local.lets_end.set(true);
                    super::zeal::point_without_references();
                    local.lets_end.set(false);
                }
            }
        });
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
            let depth = local.depth.get() - 1;
            local.depth.set(depth);
            if depth == 0 {
                // Scopes that ended in another order than they began have left each other's hints behind.
                local.hint.set(local.hint_outside.get());
                // SAFETY: as in `with_hint`; the scope that ends here had set the record.
                unsafe { &*local.record.get() }.leave();
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
        let mut record = local.record.get();
        if record.is_null() {
            record = register();
        }
        // SAFETY: as in `with_hint`.
        unsafe { &*record }.number()
    })
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
