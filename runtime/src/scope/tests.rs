use super::*;
use std::sync::mpsc;
use std::time::{Duration, Instant};

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(20)
}

#[test]
fn grace_waits_for_an_open_scope_and_not_for_a_later_one() {
    let (to_main, from_thread) = mpsc::channel();
    let (to_thread, from_main) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let scope = Scope::enter();
        to_main.send(()).unwrap();
        from_main.recv().unwrap();
        drop(scope);
        let _later = Scope::enter();
        to_main.send(()).unwrap();
        from_main.recv().unwrap();
    });
    from_thread.recv().unwrap();
    // Other tests of this process hold scopes for moments only.
    let mut grace = begin_grace();
    assert!(!grace.wait_until(soon()), "the scope was open when the grace period began");
    to_thread.send(()).unwrap();
    from_thread.recv().unwrap();
    assert!(grace.wait_until(Instant::now() + Duration::from_secs(10)), "a later scope does not hold it back");
    to_thread.send(()).unwrap();
    thread.join().unwrap();
}

#[test]
fn refresh_lets_a_grace_period_end() {
    let mut scope = Scope::enter();
    let mut grace = begin_grace();
    assert!(!grace.is_over());
    scope.refresh();
    assert!(grace.wait_until(Instant::now() + Duration::from_secs(10)));
}

#[test]
fn refresh_of_an_inner_scope_does_not_end_the_outer_one() {
    let outer = Scope::enter();
    let mut grace = begin_grace();
    let mut inner = Scope::enter();
    inner.refresh();
    drop(inner);
    assert!(!grace.wait_until(soon()));
    drop(outer);
    assert!(grace.wait_until(Instant::now() + Duration::from_secs(10)));
}

#[test]
fn hints_end_with_their_scope() {
    let outer = Scope::enter();
    assert_eq!(outer.hint(), AccessHint::Normal);
    {
        let inner = Scope::enter_non_temporal();
        assert_eq!(inner.hint(), AccessHint::NonTemporal);
        let nested = Scope::enter();
        assert_eq!(nested.hint(), AccessHint::NonTemporal);
    }
    assert_eq!(outer.hint(), AccessHint::Normal);
    assert!(in_scope());
    drop(outer);
    assert!(!in_scope());
}

#[test]
fn hint_without_a_scope_reaches_the_scopes_opened_under_it() {
    let scan = Hinted::new(AccessHint::NonTemporal);
    assert_eq!((scan.previous(), current_hint()), (AccessHint::Normal, AccessHint::NonTemporal));
    {
        let scope = Scope::enter();
        assert_eq!(scope.hint(), AccessHint::NonTemporal);
        let _own = Hinted::new(scan.previous());
        assert_eq!(scope.hint(), AccessHint::Normal);
    }
    assert_eq!(current_hint(), AccessHint::NonTemporal);
    drop(scan);
    assert_eq!(current_hint(), AccessHint::Normal);
}

/// A value in a thread-local whose destructor derefs. It runs after that of the thread's record if the value's was asked for first.
#[test]
fn scopes_in_the_destructors_of_threads_leave_no_records_behind() {
    struct Derefs;
    impl Drop for Derefs {
        fn drop(&mut self) {
            for _ in 0..2 {
                let mut scope = Scope::enter();
                drop(Scope::enter());
                assert_eq!(scope.refresh(), Refreshed::Anew);
                assert!(in_scope());
                drop(scope);
                assert!(!in_scope());
            }
        }
    }
    thread_local! {
        static LAST: std::cell::RefCell<Option<Derefs>> = const { std::cell::RefCell::new(None) };
    }
    let most = (0..150).map(|_| {
        let thread = std::thread::spawn(|| {
            LAST.set(Some(Derefs));
            drop(Scope::enter());
            thread_number()
        });
        thread.join().unwrap()
    });
    // Numbers are given again; the other tests have some threads.
    assert!(most.max().unwrap() < 120, "each thread has left its record behind");
}

/// Forbids membarrier to the calling thread, for good, as a sandbox does that knows nothing of it.
fn forbid_membarrier() -> bool {
    let statement = |code: u32, jt: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf: 0, k };
    let mut filter = [
        // The number of the system call comes first in what a filter sees.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, libc::SYS_membarrier as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
        statement(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: plain numbers, and a program of as many instructions as it says, which the kernel copies.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    }
}

#[test]
fn a_thread_that_may_not_fence_the_others_sees_no_grace_period_end() {
    use std::io::Write;
    // Asked before the filter: scopes are without a fence from here on, if the kernel allows it.
    let barrier = crate::sys::barrier();
    let over = std::thread::spawn(|| forbid_membarrier().then(|| begin_grace().wait_until(soon()))).join().unwrap();
    match over {
        None => writeln!(std::io::stderr(), "SKIPPED: the system allows no seccomp filter here").unwrap(),
        Some(over) => assert_eq!(over, barrier == crate::sys::Barrier::Fences),
    }
    assert!(begin_grace().wait_until(Instant::now() + Duration::from_secs(10)), "the filter is the thread's own");
}
