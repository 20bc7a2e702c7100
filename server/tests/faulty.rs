//! What a faulty transport owes its callers whatever goes wrong, on each transport that it stands in front of.
#![forbid(unsafe_code)]

use farptr_runtime::TransportError;
use farptr_runtime::transport::embedded::{EmbeddedConfig, EmbeddedTransport};
use farptr_runtime::transport::faulty::{Clock, Damage, FaultPlan, Faults, Immediate, Kind, Rates};
use farptr_runtime::transport::shm::{ShmConfig, ShmTransport};
use farptr_runtime::transport::tcp::{TcpConfig, TcpTransport};
use farptr_runtime::transport::{IoBuf, Op, Progress, Session, SlabId, SlabPos, Submit, Token, Transport, Verb};
use farptr_server::{Config, Daemon};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SLAB: u32 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

fn embedded() -> Arc<dyn Transport> {
    let config = EmbeddedConfig { capacity: 64 * u64::from(SLAB), slab_bytes: SLAB };
    Arc::new(EmbeddedTransport::new(config).expect("embedded"))
}

fn daemon() -> Daemon {
    Daemon::start(Config { slab_bytes: SLAB, ..Config::new("127.0.0.1:0", 64 * u64::from(SLAB)) }).expect("daemon")
}

fn tcp(daemon: &Daemon) -> Arc<dyn Transport> {
    Arc::new(TcpTransport::connect(TcpConfig::new(daemon.tcp_address().expect("it listens").to_string())).expect("connect"))
}

/// Tries until a faulty server does it.
fn persist<T>(mut attempt: impl FnMut() -> Result<T, TransportError>) -> T {
    (0..10_000).find_map(|_| attempt().ok()).expect("faults that let nothing through")
}

fn at(slab: SlabId, offset: usize) -> SlabPos {
    SlabPos { slab, offset: offset as u32 }
}

/// Polls until nothing is in flight, and takes down how each operation ended.
fn finish(session: &mut dyn Session, ended: &mut Vec<(u64, IoBuf, Result<(), TransportError>)>) {
    let (mut done, start) = (Vec::new(), Instant::now());
    while session.in_flight() > 0 {
        assert!(start.elapsed() < PATIENCE, "operations that never complete");
        if session.poll(Instant::now(), &mut done) == Progress::Idle {
            session.park(Duration::from_millis(10));
        }
    }
    ended.extend(done.into_iter().map(|done| (done.token.0, done.buf, done.result)));
}

/// Thousands of operations under every kind of fault: each is answered once, with the buffer that was given, and a dead session says so for good.
fn every_operation_ends_once(server: Arc<dyn Transport>, clock: Clock, operations: usize) {
    let plan = FaultPlan { rates: Rates::broken(200), clock, op_timeout: Duration::from_millis(4), ..FaultPlan::new(7) };
    let faults = Faults::new(plan);
    let server = faults.wrap(server);
    let slab = persist(|| server.borrow_slab());
    let mut session = persist(|| server.open_session());
    let mut lent: HashMap<u64, (*const u8, usize)> = HashMap::new();
    let (mut sessions, mut submitted, mut busy, mut ended) = (1, 0, 0, Vec::new());
    while submitted < operations {
        let n = submitted as u64;
        let len = 1 + (n as usize * 37) % 5000;
        let buf = IoBuf::from(vec![n as u8; len]);
        let verb = if n.is_multiple_of(2) { Verb::Write } else { Verb::Read };
        let given = (buf.as_slice().as_ptr(), len);
        match session.submit(Op { token: Token(n), verb, at: at(slab, (n as usize * 16) % 900_000), buf }) {
            Submit::Accepted => {
                lent.insert(n, given);
                submitted += 1;
                busy = 0;
            }
            Submit::Busy(op) => {
                assert_eq!((op.token, op.buf.as_slice().as_ptr()), (Token(n), given.0));
                finish(&mut *session, &mut ended);
                let _ = session.poll(Instant::now(), &mut Vec::new());
                busy += 1;
                assert!(busy < 100, "busy with nothing in flight, however often it is polled");
            }
            Submit::Failed(op, error) => {
                assert_eq!((op.token, op.buf.as_slice().as_ptr()), (Token(n), given.0));
                assert_eq!(session.failure(), Some(error));
                finish(&mut *session, &mut ended);
                session = persist(|| server.open_session());
                sessions += 1;
            }
        }
        if n.is_multiple_of(32) {
            finish(&mut *session, &mut ended);
        }
    }
    finish(&mut *session, &mut ended);
    assert_eq!(ended.len(), operations);
    for (token, buf, result) in ended {
        let given = lent.remove(&token).expect("each operation ends once");
        assert_eq!((buf.as_slice().as_ptr(), buf.len()), given, "operation {token}: its own buffer comes back ({result:?})");
        assert!(
            matches!(result, Ok(()) | Err(TransportError::Timeout { .. } | TransportError::Lost(_))),
            "operation {token}: {result:?}"
        );
    }
    assert!(lent.is_empty() && sessions > 3);
    let control = [Kind::ControlLost, Kind::ControlUnanswered, Kind::FalseFull];
    for (kind, count) in faults.counts().filter(|(kind, _)| !control.contains(kind)) {
        assert!(count > 0, "{kind:?} never happened in {operations} operations: {faults:?}");
    }
}

#[test]
fn every_operation_in_front_of_embedded_ends_once() {
    every_operation_ends_once(embedded(), Clock::Virtual, 20_000);
}

#[test]
fn every_operation_in_front_of_tcp_ends_once() {
    let daemon = daemon();
    every_operation_ends_once(tcp(&daemon), Clock::Virtual, 20_000);
}

#[test]
fn every_operation_in_front_of_mapped_memory_ends_once() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("farmemd");
    let config = Config { slab_bytes: SLAB, ..Config::unix(&path, 64 * u64::from(SLAB)) };
    let _daemon = Daemon::start(config).expect("daemon");
    let server = ShmTransport::connect(ShmConfig::new(path)).expect("connect");
    every_operation_ends_once(Arc::new(server), Clock::Virtual, 20_000);
}

#[test]
fn every_operation_ends_once_in_real_time_as_well() {
    every_operation_ends_once(embedded(), Clock::Real, 3_000);
}

#[test]
fn control_operations_fail_and_leaks_are_counted() {
    let rates = Rates::NONE.with(Kind::ControlLost, 2000).with(Kind::ControlUnanswered, 2000).with(Kind::FalseFull, 2000);
    let lender = Arc::new(
        EmbeddedTransport::new(EmbeddedConfig { capacity: 4096 * u64::from(SLAB), slab_bytes: SLAB }).expect("embedded"),
    );
    let faults = Faults::new(FaultPlan { rates, ..FaultPlan::new(3) });
    let server = faults.wrap(Arc::clone(&lender) as Arc<dyn Transport>);
    let mut held = 0u64;
    for n in 0..600 {
        let outcome = server.borrow_slab();
        assert!(!matches!(outcome, Err(TransportError::Lost(_))), "{outcome:?}");
        let Ok(slab) = outcome else { continue };
        if n % 3 == 0 {
            held += 1;
        } else {
            let _ = server.return_slab(slab);
        }
    }
    assert_eq!(lender.lent_bytes(), (held + faults.leaked_slabs()) * u64::from(SLAB));
    assert!(faults.leaked_slabs() > 20 && faults.count(Kind::FalseFull) > 20, "{faults:?}");
}

/// What the place holds right after a write was reported as timed out, and a hundred operations later.
fn before_and_after_a_late_write(seed: u64) -> (u8, u8) {
    let faults = Faults::new(FaultPlan { rates: Rates::NONE.with(Kind::LateWrite, Rates::ALWAYS), ..FaultPlan::new(seed) });
    let server = faults.wrap(embedded());
    let slab = server.borrow_slab().expect("slab");
    let mut session = server.open_session().expect("session");
    let write = Op { token: Token(0), verb: Verb::Write, at: at(slab, 0), buf: IoBuf::from(vec![7; 100]) };
    assert!(matches!(session.submit(write), Submit::Accepted));
    let mut ended = Vec::new();
    finish(&mut *session, &mut ended);
    assert!(matches!(ended[0].2, Err(TransportError::Timeout { .. })));
    faults.stop();
    let mut seen = Vec::new();
    for _ in 0..100 {
        let read = Op { token: Token(1), verb: Verb::Read, at: at(slab, 0), buf: IoBuf::from(vec![0; 100]) };
        assert!(matches!(session.submit(read), Submit::Accepted));
        let mut ended = Vec::new();
        finish(&mut *session, &mut ended);
        seen.push(ended[0].1.as_slice()[0]);
    }
    (seen[0], seen[99])
}

#[test]
fn a_late_write_takes_effect_after_it_was_reported_as_failed() {
    let seen: Vec<_> = (1..9).map(before_and_after_a_late_write).collect();
    assert!(seen.iter().all(|(_, after)| *after == 7) && seen.contains(&(0, 7)), "{seen:?}");
}

#[test]
fn damage_is_done_as_ordered_with_sessions_and_without() {
    for immediate in [Immediate::Hidden, Immediate::Faulty] {
        let faults = Faults::new(FaultPlan { immediate, ..FaultPlan::new(1) });
        let server = faults.wrap(embedded());
        let slab = server.borrow_slab().expect("slab");
        let mut session = server.open_session().expect("session");
        let mut transfer = |verb, bytes: Vec<u8>| {
            if let Some(mapped) = server.immediate() {
                let mut bytes = bytes;
                match verb {
                    Verb::Read => mapped.read_at(at(slab, 64), &mut bytes).expect("read"),
                    Verb::Write => mapped.write_at(at(slab, 64), &bytes).expect("write"),
                }
                return bytes;
            }
            assert!(matches!(
                session.submit(Op { token: Token(0), verb, at: at(slab, 64), buf: IoBuf::from(bytes) }),
                Submit::Accepted
            ));
            let mut ended = Vec::new();
            finish(&mut *session, &mut ended);
            ended.remove(0).1.into_vec()
        };
        transfer(Verb::Write, vec![1; 100]);
        transfer(Verb::Write, vec![2; 100]);
        let mut read = |damage| {
            faults.damage_next_read(damage);
            transfer(Verb::Read, vec![9; 100])
        };
        let mut flipped = vec![2; 100];
        flipped[17] ^= 8;
        assert_eq!(read(Damage::Flip { byte: 17, mask: 8 }), flipped);
        assert_eq!(read(Damage::Zero), [0; 100]);
        assert_eq!(read(Damage::Stale), [1; 100]);
        assert_eq!(read(Damage::Short { bytes: 40 }), [vec![2; 40], vec![9; 60]].concat());
        assert_ne!(read(Damage::Misplaced), [2; 100]);
        assert_eq!(read(Damage::None), [2; 100]);
        assert_eq!(faults.ordered_damage(), 0);
        assert_eq!(faults.count(Kind::FlippedRead), 1);
    }
}
