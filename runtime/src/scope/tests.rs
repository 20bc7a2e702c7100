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
