//! Whether this process is the child of a fork of one that uses far memory.
//!
//! A child has a copy of local memory, and shares with its parent what is behind it: connections, slabs that are mapped. It has one thread, and locks that others held are held for ever.
//! What it writes to a connection or a slab destroys objects of its parent. So in a child every operation that leaves the fast path is an error ([`Error::Forked`]),
//! given before any lock is taken, and drops leave everything as it is. A deref of an object that is hot and local goes on, on the child's own copy: nothing there is shared, and nobody
//! in the child moves it.
//!
//! # How it is known
//! By a page that the kernel empties in every child (`MADV_WIPEONFORK`, Linux 4.14): a bare `clone` runs no handler of the C library. The question costs two loads. Where the kernel knows no such
//! advice, the process's number is compared, which costs a system call.
//!
//! A child of `vfork` or `posix_spawn` shares the page with its parent, and may do nothing but `exec` anyway. A child of a process that has not used far memory before may use it.

use crate::error::{Error, Result};
use memmap2::MmapMut;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, Ordering};

/// One here, zero in a child. Null before [`mark`], and where the kernel does not empty pages.
static PAGE: AtomicPtr<AtomicU8> = AtomicPtr::new(ptr::null_mut());

/// The process that called [`mark`], where the page can't say. Zero: none.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// This process uses far memory: its children may not. What has been marked stays so.
pub fn mark() {
    static MARKING: Mutex<()> = Mutex::new(());
    let is_marked = || !PAGE.load(Ordering::Acquire).is_null() || PROCESS.load(Ordering::Relaxed) != 0;
    if is_marked() {
        return;
    }
    let _marking = MARKING.lock();
    if is_marked() {
        return;
    }
    match page_emptied_in_children() {
        Some(page) => PAGE.store(page, Ordering::Release),
        None => PROCESS.store(std::process::id(), Ordering::Relaxed),
    }
}

/// A page with a one at its start, which is never unmapped.
fn page_emptied_in_children() -> Option<*mut AtomicU8> {
    let mut page = MmapMut::map_anon(crate::arena::PAGE).ok()?;
    // SAFETY: the range is exactly one mapping of our own, private and anonymous. The advice changes what children find there, and nothing here.
    let advised = unsafe { libc::madvise(page.as_mut_ptr().cast(), page.len(), libc::MADV_WIPEONFORK) };
    if advised != 0 {
        return None;
    }
    page[0] = 1;
    Some(Box::leak(Box::new(page)).as_mut_ptr().cast())
}

/// Whether this process is a child of one that had used far memory before.
#[inline]
pub fn is_child() -> bool {
    let page = PAGE.load(Ordering::Acquire);
    if page.is_null() {
        return PROCESS.load(Ordering::Relaxed) != 0 && is_other_process();
    }
    // SAFETY: a page of `page_emptied_in_children`: mapped for ever, in children as well, aligned for a byte, and written before it was stored only. What the kernel does to a
    // child's copy it does before the child runs.
    unsafe { &*page }.load(Ordering::Relaxed) == 0
}

#[cold]
fn is_other_process() -> bool {
    PROCESS.load(Ordering::Relaxed) != std::process::id()
}

/// # Errors
/// `Forked` in a child.
#[inline]
pub fn check() -> Result<()> {
    if is_child() { Err(Error::Forked) } else { Ok(()) }
}
