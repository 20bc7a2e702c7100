//! What every transport owes its callers (the rules in `farptr_runtime::transport`), checked on each of them.
#![forbid(unsafe_code)]

use farptr_runtime::TransportError;
use farptr_runtime::slab::Backing;
use farptr_runtime::transport::auto::{self, AutoConfig};
use farptr_runtime::transport::embedded::{EmbeddedConfig, EmbeddedTransport};
use farptr_runtime::transport::faulty::{FaultPlan, Faults, Kind, Rates};
use farptr_runtime::transport::shm::{ShmConfig, ShmTransport};
use farptr_runtime::transport::tcp::{TcpConfig, TcpTransport};
use farptr_runtime::transport::{
    Completion, IoBuf, MAX_OP_BYTES, Op, Progress, Session, SlabId, SlabPos, Submit, Token, Transport, Verb,
};
use farptr_server::{Config, Daemon};
use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SLAB: u32 = 1 << 20;
const SLABS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn embedded_keeps_the_contract() {
    let make =
        || EmbeddedTransport::new(EmbeddedConfig { capacity: SLABS * u64::from(SLAB), slab_bytes: SLAB }).expect("embedded");
    contract(&|run| run(&make()));
}

#[test]
fn tcp_keeps_the_contract() {
    contract(&|run| {
        let daemon = daemon(1);
        run(&TcpTransport::connect(TcpConfig::new(daemon.tcp_address().expect("it listens").to_string())).expect("connect"));
    });
}

#[test]
fn tcp_keeps_the_contract_with_several_workers() {
    contract(&|run| {
        let daemon = daemon(3);
        run(&TcpTransport::connect(TcpConfig::new(format!("tcp:{}", daemon.tcp_address().expect("it listens"))))
            .expect("connect"));
    });
}

#[test]
fn shm_keeps_the_contract() {
    for backing in [None, Some(Backing::Folder("/dev/shm".into()))] {
        contract(&|run| {
            let (path, _daemon) = unix_daemon(backing.clone());
            run(&ShmTransport::connect(ShmConfig::new(path)).expect("connect"));
        });
    }
}

/// A file as long as the capacity stands for a device that can be mapped.
#[test]
fn shm_in_one_file_keeps_the_contract() {
    contract(&|run| {
        let file = tempfile::NamedTempFile::new_in("/dev/shm").expect("file");
        file.as_file().set_len(SLABS * u64::from(SLAB)).expect("length");
        file.as_file().write_all_at(b"not zero", u64::from(SLAB)).expect("old bytes");
        let (path, _daemon) = unix_daemon(Some(Backing::Whole(file.path().into())));
        run(&ShmTransport::connect(ShmConfig::new(path)).expect("connect"));
    });
}

/// By whichever way it chooses: the name is all that is its own.
#[test]
fn auto_keeps_the_contract() {
    for has_socket in [true, false] {
        contract(&|run| {
            let folder = tempfile::tempdir().expect("folder");
            let unix = has_socket.then(|| folder.path().join("farmemd"));
            let config = Config { unix, slab_bytes: SLAB, ..Config::new("127.0.0.1:0", SLABS * u64::from(SLAB)) };
            let daemon = Daemon::start(Config { threads: Some(1), ..config }).expect("daemon");
            let address = daemon.tcp_address().expect("it listens");
            let chosen = auto::connect(AutoConfig::new(address.to_string())).expect("connect");
            assert_eq!(chosen.immediate().is_some(), has_socket);
            run(&*chosen);
        });
    }
}

/// Where there are RDMA devices, which the environment says: see `docs/testing.md`.
#[cfg(feature = "rdma")]
mod rdma {
    use super::*;
    use farptr_runtime::transport::rdma::{RdmaConfig, RdmaTransport};

    fn daemon() -> Option<Daemon> {
        let Ok(address) = std::env::var("FARPTR_TEST_RDMA") else {
            eprintln!("SKIPPED: no RDMA device (FARPTR_TEST_RDMA is not set)");
            return None;
        };
        let config = Config::rdma(format!("{address}:0"), SLABS * u64::from(SLAB));
        Some(Daemon::start(Config { slab_bytes: SLAB, threads: Some(1), ..config }).expect("daemon"))
    }

    fn connect(daemon: &Daemon) -> RdmaTransport {
        RdmaTransport::connect(RdmaConfig::new(daemon.rdma_address().expect("it listens").to_string())).expect("connect")
    }

    #[test]
    fn rdma_keeps_the_contract() {
        contract(&|run| {
            if let Some(daemon) = daemon() {
                run(&connect(&daemon));
            }
        });
    }

    #[test]
    fn rdma_with_harmless_faults_keeps_the_contract() {
        contract(&|run| {
            if let Some(daemon) = daemon() {
                run(&*harmless().wrap(Arc::new(connect(&daemon))));
            }
        });
    }
}

/// Faults that do no harm: what is slow, out of order or done twice is still done as promised.
#[test]
fn a_transport_with_harmless_faults_keeps_the_contract() {
    contract(&|run| {
        let faults = harmless();
        let config = EmbeddedConfig { capacity: SLABS * u64::from(SLAB), slab_bytes: SLAB };
        run(&*faults.wrap(Arc::new(EmbeddedTransport::new(config).expect("embedded"))));
    });
    contract(&|run| {
        let (faults, (path, _daemon)) = (harmless(), unix_daemon(None));
        run(&*faults.wrap(Arc::new(ShmTransport::connect(ShmConfig::new(path)).expect("connect"))));
    });
    contract(&|run| {
        let (faults, daemon) = (harmless(), daemon(2));
        let server =
            TcpTransport::connect(TcpConfig::new(daemon.tcp_address().expect("it listens").to_string())).expect("connect");
        run(&*faults.wrap(Arc::new(server)));
    });
}

fn harmless() -> Faults {
    let rates = Rates::NONE.with(Kind::Delay, 3000).with(Kind::Reorder, 5000).with(Kind::Duplicate, 2000);
    Faults::new(FaultPlan { rates, ..FaultPlan::new(11) })
}

/// A daemon at a socket in a folder that goes with it.
fn unix_daemon(backing: Option<Backing>) -> (PathBuf, (Daemon, TempDir)) {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("farmemd");
    let config = Config { backing, ..Config::unix(&path, SLABS * u64::from(SLAB)) };
    let daemon = Daemon::start(Config { slab_bytes: SLAB, threads: Some(1), ..config }).expect("daemon");
    (path, (daemon, folder))
}

fn daemon(threads: usize) -> Daemon {
    let config = Config::new("127.0.0.1:0", SLABS * u64::from(SLAB));
    Daemon::start(Config { slab_bytes: SLAB, threads: Some(threads), ..config }).expect("daemon")
}

/// A check of one promise.
type Promise = fn(&dyn Transport);

/// Runs each promise on a transport of its own, which `with` makes.
fn contract(with: &dyn Fn(Promise)) {
    let promises: [(&str, Promise); 9] = [
        ("sizes", any_size_comes_back_as_it_was_sent),
        ("many in flight", many_in_flight_complete_once_each),
        ("zeroed", a_borrowed_slab_is_zero),
        ("full", a_full_server_says_so_and_lends_again),
        ("busy", a_session_is_busy_rather_than_unbounded),
        ("bad sizes", an_impossible_size_is_refused_and_harms_nothing),
        ("bad ranges", a_range_that_is_not_ours_ends_the_session_only),
        ("returned in flight", a_slab_returned_under_operations_harms_no_others),
        ("threads", threads_with_sessions_of_their_own_share_the_slabs),
    ];
    for (name, promise) in promises {
        eprintln!("promise: {name}");
        with(promise);
    }
}

fn at(slab: SlabId, offset: usize) -> SlabPos {
    SlabPos { slab, offset: offset as u32 }
}

fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31) ^ (i >> 8) ^ seed.wrapping_mul(97)) as u8).collect()
}

fn submit(session: &mut dyn Session, token: u64, verb: Verb, at: SlabPos, bytes: Vec<u8>) {
    match session.submit(Op { token: Token(token), verb, at, buf: IoBuf::from(bytes) }) {
        Submit::Accepted => {}
        other => panic!("not accepted: {other:?}"),
    }
}

/// Polls, and parks when there is nothing to do, until nothing is in flight.
fn finish(session: &mut dyn Session) -> Vec<Completion> {
    let (mut done, start) = (Vec::new(), Instant::now());
    while session.in_flight() > 0 {
        assert!(start.elapsed() < PATIENCE, "operations that never complete");
        if session.poll(Instant::now(), &mut done) == Progress::Idle {
            session.park(Duration::from_millis(50));
        }
    }
    done
}

fn one(session: &mut dyn Session, verb: Verb, at: SlabPos, bytes: Vec<u8>) -> Result<Vec<u8>, TransportError> {
    submit(session, 1, verb, at, bytes);
    let mut done = finish(session);
    assert_eq!(done.len(), 1);
    let done = done.remove(0);
    assert_eq!((done.token, done.verb), (Token(1), verb));
    done.result.map(|()| done.buf.into_vec())
}

fn any_size_comes_back_as_it_was_sent(transport: &dyn Transport) {
    assert_eq!(transport.slab_bytes(), SLAB);
    let slab = transport.borrow_slab().expect("slab");
    let mut session = transport.open_session().expect("session");
    for len in [1, 2, 3, 7, 8, 63, 64, 65, 4095, 4096, 4097, 65_536, 100_001, MAX_OP_BYTES - 1, MAX_OP_BYTES] {
        for offset in [0, 1, SLAB as usize / 2 - len / 2, SLAB as usize - len] {
            let sent = pattern(len + offset, len);
            one(&mut *session, Verb::Write, at(slab, offset), sent.clone()).expect("write");
            let got = one(&mut *session, Verb::Read, at(slab, offset), vec![0; len]).expect("read");
            assert!(got == sent, "{len} bytes at {offset}");
        }
    }
}

fn many_in_flight_complete_once_each(transport: &dyn Transport) {
    let slab = transport.borrow_slab().expect("slab");
    let mut session = transport.open_session().expect("session");
    for verb in [Verb::Write, Verb::Read] {
        for i in 0..100 {
            let bytes = if verb == Verb::Write { pattern(i, 4096) } else { vec![0; 4096] };
            submit(&mut *session, i as u64, verb, at(slab, i * 4096), bytes);
        }
        assert_eq!(session.in_flight(), 100);
        let done: HashMap<u64, Completion> = finish(&mut *session).into_iter().map(|done| (done.token.0, done)).collect();
        assert_eq!(done.len(), 100, "each token completes once");
        for (token, done) in done {
            assert_eq!((done.verb, done.result), (verb, Ok(())));
            assert!(done.buf.as_slice() == pattern(token as usize, 4096), "operation {token}");
        }
    }
}

fn a_borrowed_slab_is_zero(transport: &dyn Transport) {
    let mut session = transport.open_session().expect("session");
    for _ in 0..3 {
        let slabs: Vec<_> = (0..SLABS).map(|_| transport.borrow_slab().expect("slab")).collect();
        for slab in slabs {
            for offset in (0..SLAB as usize).step_by(MAX_OP_BYTES) {
                let got = one(&mut *session, Verb::Read, at(slab, offset), vec![1; MAX_OP_BYTES]).expect("read");
                assert!(got.iter().all(|byte| *byte == 0), "a borrowed slab holds old bytes");
                one(&mut *session, Verb::Write, at(slab, offset), vec![0xaa; MAX_OP_BYTES]).expect("write");
            }
            transport.return_slab(slab).expect("return");
        }
    }
}

fn a_full_server_says_so_and_lends_again(transport: &dyn Transport) {
    let slabs: Vec<_> = (0..SLABS).map(|_| transport.borrow_slab().expect("slab")).collect();
    let full = Err(TransportError::Full { capacity: SLABS * u64::from(SLAB) });
    assert_eq!(transport.borrow_slab(), full);
    assert_eq!(transport.borrow_slab(), full);
    transport.return_slab(slabs[2]).expect("return");
    assert_eq!(transport.borrow_slab(), Ok(slabs[2]));
}

fn a_session_is_busy_rather_than_unbounded(transport: &dyn Transport) {
    let slab = transport.borrow_slab().expect("slab");
    let mut session = transport.open_session().expect("session");
    let mut accepted = 0;
    let refused = loop {
        assert!(accepted < 100_000, "a session that takes everything");
        let op = Op { token: Token(accepted), verb: Verb::Read, at: at(slab, 0), buf: IoBuf::from(vec![0; 64]) };
        match session.submit(op) {
            Submit::Accepted => accepted += 1,
            Submit::Busy(op) => break op,
            Submit::Failed(_, error) => panic!("{error}"),
        }
    };
    assert_eq!((refused.token, refused.buf.len()), (Token(accepted), 64), "the operation comes back");
    assert_eq!(finish(&mut *session).len() as u64, accepted);
    assert!(matches!(session.submit(refused), Submit::Accepted), "room again");
    assert_eq!(finish(&mut *session).len(), 1);
}

fn an_impossible_size_is_refused_and_harms_nothing(transport: &dyn Transport) {
    let slab = transport.borrow_slab().expect("slab");
    let mut session = transport.open_session().expect("session");
    for len in [0, MAX_OP_BYTES + 1] {
        for verb in [Verb::Read, Verb::Write] {
            assert!(matches!(one(&mut *session, verb, at(slab, 0), vec![0; len]), Err(TransportError::Refused(_))));
        }
    }
    // What is refused is ready: sleeping on it would be a wait without an end.
    submit(&mut *session, 1, Verb::Read, at(slab, 0), Vec::new());
    let start = Instant::now();
    session.park(PATIENCE);
    assert!(start.elapsed() < PATIENCE);
    assert_eq!(finish(&mut *session).len(), 1);
    one(&mut *session, Verb::Read, at(slab, 0), vec![0; 1]).expect("the session lives");
}

fn a_range_that_is_not_ours_ends_the_session_only(transport: &dyn Transport) {
    let slab = transport.borrow_slab().expect("slab");
    let mut bystander = transport.open_session().expect("session");
    for (verb, place) in [
        (Verb::Read, at(slab, SLAB as usize - 3)),
        (Verb::Write, at(slab, SLAB as usize)),
        (Verb::Read, at(SlabId(slab.0 + 1), 0)),
        (Verb::Write, at(SlabId(u32::MAX), 0)),
    ] {
        let mut session = transport.open_session().expect("session");
        assert!(matches!(one(&mut *session, verb, place, vec![0; 4]), Err(TransportError::Refused(_))), "{verb:?} {place:?}");
        assert!(matches!(session.failure(), Some(TransportError::Refused(_))));
        let op = Op { token: Token(9), verb, at: at(slab, 0), buf: IoBuf::from(vec![0; 4]) };
        assert!(matches!(session.submit(op), Submit::Failed(op, _) if op.token == Token(9)), "a dead session takes nothing");
    }
    one(&mut *bystander, Verb::Read, at(slab, 0), vec![0; 4]).expect("another session isn't touched");
    transport.return_slab(slab).expect("nor is control");
    assert!(transport.return_slab(slab).is_err(), "returned twice");
    transport.borrow_slab().expect("and control survives that");
}

fn a_slab_returned_under_operations_harms_no_others(transport: &dyn Transport) {
    let [goes, stays] = [0; 2].map(|_| transport.borrow_slab().expect("slab"));
    let mut sessions = [0; 2].map(|_| transport.open_session().expect("session"));
    one(&mut *sessions[0], Verb::Write, at(stays, 0), pattern(1, 4096)).expect("write");
    for (number, session) in sessions.iter_mut().enumerate() {
        for i in 0..40 {
            let slab = if i % 2 == 0 { goes } else { stays };
            submit(&mut **session, i, Verb::Read, at(slab, number * 4096), vec![9; 4096]);
        }
    }
    // Nothing has been sent yet, or some has; the server learns of the return before it reads the requests, or after.
    let _ = sessions[1].poll(Instant::now(), &mut Vec::new());
    transport.return_slab(goes).expect("return");
    assert!(matches!(transport.return_slab(goes), Err(TransportError::Refused(_))), "returned twice");
    for (number, session) in sessions.iter_mut().enumerate() {
        for done in finish(&mut **session) {
            match (done.token.0 % 2, done.result) {
                (1, result) => {
                    assert_eq!(result, Ok(()));
                    assert!(done.buf.as_slice() == if number == 0 { pattern(1, 4096) } else { vec![0; 4096] });
                }
                (_, Ok(())) => assert!(done.buf.as_slice().iter().all(|byte| *byte == 0)),
                (_, Err(error)) => assert!(matches!(error, TransportError::Refused(_)), "{error}"),
            }
        }
        assert_eq!(session.failure(), None);
    }
    // It comes back, clean, and all slabs can be had.
    let start = Instant::now();
    let mut had = vec![stays];
    while had.len() < SLABS as usize {
        match transport.borrow_slab() {
            Ok(slab) => had.push(slab),
            Err(TransportError::Full { .. }) => {
                assert!(start.elapsed() < PATIENCE, "a returned slab is lost");
                for session in &mut sessions {
                    let _ = session.poll(Instant::now(), &mut Vec::new());
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    for session in &mut sessions {
        one(&mut **session, Verb::Write, at(goes, 0), vec![5; 100]).expect("a slab that was lent again");
    }
}

fn threads_with_sessions_of_their_own_share_the_slabs(transport: &dyn Transport) {
    let slab = transport.borrow_slab().expect("slab");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let mut session = transport.open_session().expect("session");
                let base = thread * (SLAB as usize / 4);
                for round in 0..100 {
                    let sent = pattern(thread * 1000 + round, 5000);
                    one(&mut *session, Verb::Write, at(slab, base + round * 13), sent.clone()).expect("write");
                    assert!(one(&mut *session, Verb::Read, at(slab, base + round * 13), vec![0; 5000]).expect("read") == sent);
                }
            });
        }
    });
    let mut session = transport.open_session().expect("session");
    for thread in 0..4 {
        let got = one(&mut *session, Verb::Read, at(slab, thread * (SLAB as usize / 4) + 99 * 13), vec![0; 5000]).expect("read");
        assert!(got == pattern(thread * 1000 + 99, 5000), "another session sees what thread {thread} wrote");
    }
}
