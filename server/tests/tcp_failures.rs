//! What a borrower meets when its server is absent, slow, strange or gone.
#![forbid(unsafe_code)]

use farptr_runtime::TransportError;
use farptr_runtime::transport::tcp::{TcpConfig, TcpTransport};
use farptr_runtime::transport::{IoBuf, Op, Session, SlabPos, Submit, Token, Transport, Verb};
use farptr_runtime::wire::Ending;
use farptr_server::{Config, Daemon};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(300);
const MIB: u64 = 1 << 20;

fn daemon() -> Daemon {
    Daemon::start(Config { slab_bytes: 1 << 20, ..Config::new("127.0.0.1:0", 4 * MIB) }).expect("daemon")
}

fn impatient(address: SocketAddr) -> TcpConfig {
    TcpConfig { connect_timeout: SHORT, op_timeout: SHORT, ..TcpConfig::new(address.to_string()) }
}

/// A peer that accepts and does what `play` says; its address.
fn peer(play: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            play(stream);
        }
    });
    address
}

/// Relays between borrowers and `server` until told to stop passing replies on.
fn deaf_relay(server: SocketAddr, deaf: std::sync::Arc<std::sync::atomic::AtomicBool>) -> SocketAddr {
    peer(move |borrower| {
        let server = TcpStream::connect(server).expect("server");
        let pairs = [(borrower.try_clone(), server.try_clone(), false), (server.try_clone(), borrower.try_clone(), true)];
        for (from, to, replies) in pairs {
            let (mut from, mut to, deaf) = (from.expect("clone"), to.expect("clone"), deaf.clone());
            std::thread::spawn(move || {
                let mut bytes = [0; 65_536];
                while let Ok(len @ 1..) = from.read(&mut bytes) {
                    while replies && deaf.load(std::sync::atomic::Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    if to.write_all(&bytes[..len]).is_err() {
                        break;
                    }
                }
            });
        }
    })
}

fn finish(session: &mut dyn Session) -> Vec<Result<(), TransportError>> {
    let (mut done, start) = (Vec::new(), Instant::now());
    while session.in_flight() > 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "operations that never complete");
        let _ = session.poll(Instant::now(), &mut done);
        session.park(Duration::from_millis(10));
    }
    done.into_iter().map(|done| done.result).collect()
}

fn read(session: &mut dyn Session, at: SlabPos) -> Result<(), TransportError> {
    match session.submit(Op { token: Token(0), verb: Verb::Read, at, buf: IoBuf::from(vec![0; 4096]) }) {
        Submit::Accepted => finish(session).remove(0),
        Submit::Failed(_, error) => Err(error),
        Submit::Busy(_) => panic!("busy with nothing in flight"),
    }
}

#[test]
fn an_absent_server_is_named_as_such() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("address");
    let error = TcpTransport::connect(impatient(address)).expect_err("nobody is there");
    assert!(matches!(error, TransportError::Unreachable(_)));
    assert!(error.to_string().contains("is farmemd running there?"), "{error}");
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_not_waited_for() {
    let held = std::sync::Mutex::new(Vec::new());
    let address = peer(move |stream| held.lock().expect("lock").push(stream));
    let start = Instant::now();
    let error = TcpTransport::connect(impatient(address)).expect_err("no welcome");
    assert!(matches!(error, TransportError::Timeout { .. }), "{error}");
    assert!(start.elapsed() >= SHORT && start.elapsed() < SHORT * 60);
}

#[test]
fn something_else_than_farmemd_is_recognised() {
    let address = peer(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n");
        let _ = stream.read(&mut [0; 64]);
    });
    let error = TcpTransport::connect(impatient(address)).expect_err("not farmemd");
    assert!(matches!(&error, TransportError::Protocol(why) if why.contains("not farmemd")), "{error}");
}

#[test]
fn another_version_is_told_apart() {
    let address = peer(|mut stream| {
        let mut welcome = farptr_runtime::wire::ServerSession::refusal(Ending::Version);
        welcome[8] = 7;
        let _ = stream.write_all(&welcome);
        let _ = stream.read(&mut [0; 64]);
    });
    let error = TcpTransport::connect(impatient(address)).expect_err("version 7");
    assert_eq!(error, TransportError::Version { theirs: 7, ours: farptr_runtime::wire::VERSION });
}

#[test]
fn operations_on_a_server_that_stops_answering_time_out_and_it_is_used_again_when_it_answers() {
    let daemon = daemon();
    let deaf = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let transport =
        TcpTransport::connect(impatient(deaf_relay(daemon.tcp_address().expect("it listens"), deaf.clone()))).expect("connect");
    let slab = transport.borrow_slab().expect("slab");
    let at = SlabPos { slab, offset: 0 };
    let mut session = transport.open_session().expect("session");
    assert_eq!(read(&mut *session, at), Ok(()));

    deaf.store(true, std::sync::atomic::Ordering::Relaxed);
    let start = Instant::now();
    assert!(matches!(read(&mut *session, at), Err(TransportError::Timeout { .. })));
    assert!(start.elapsed() >= SHORT && start.elapsed() < SHORT * 60, "{:?}", start.elapsed());
    assert!(session.failure().is_none());
    assert!(matches!(transport.borrow_slab(), Err(TransportError::Timeout { .. })));

    deaf.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(read(&mut *session, at), Ok(()), "the late reply is thrown away, and the session goes on");
    transport.borrow_slab().expect("control goes on");
    assert_eq!(daemon.lent_bytes(), 2 * MIB, "the slab that was lent too late has been given back");
}

#[test]
fn a_server_that_ends_in_the_middle_fails_what_is_in_flight() {
    let daemon = daemon();
    let transport = TcpTransport::connect(impatient(daemon.tcp_address().expect("it listens"))).expect("connect");
    let at = SlabPos { slab: transport.borrow_slab().expect("slab"), offset: 0 };
    let mut session = transport.open_session().expect("session");
    assert_eq!(read(&mut *session, at), Ok(()));
    drop(daemon);
    assert!(matches!(read(&mut *session, at), Err(TransportError::Lost(_))));
    assert!(matches!(session.failure(), Some(TransportError::Lost(_))));
    assert!(matches!(transport.open_session().map(|_| ()), Err(TransportError::Unreachable(_))));
    assert!(matches!(transport.borrow_slab(), Err(TransportError::Unreachable(_))));
}

#[test]
fn a_restarted_server_has_lost_the_slabs_and_says_so() {
    let first = daemon();
    let address = first.tcp_address().expect("it listens");
    let transport = TcpTransport::connect(impatient(address)).expect("connect");
    let slab = transport.borrow_slab().expect("slab");
    drop(first);
    let second =
        Daemon::start(Config { slab_bytes: 1 << 20, ..Config::new(address.to_string(), 4 * MIB) }).expect("the same port");
    for error in [
        transport.borrow_slab().expect_err("unknown"),
        transport.return_slab(slab).expect_err("unknown"),
        transport.open_session().map(|_| ()).expect_err("unknown"),
    ] {
        assert!(matches!(&error, TransportError::Lost(why) if why.contains("restarted")), "{error}");
    }
    assert_eq!(second.lent_bytes(), 0);
}

#[test]
fn control_reconnects_while_a_session_keeps_the_borrower_known() {
    let daemon = daemon();
    // The relay is asked to end the first connection through it, which is control.
    let first = std::sync::Arc::new(std::sync::Mutex::new(None::<TcpStream>));
    let (server, kept) = (daemon.tcp_address().expect("it listens"), first.clone());
    let address = peer(move |borrower| {
        kept.lock().expect("lock").get_or_insert_with(|| borrower.try_clone().expect("clone"));
        let server = TcpStream::connect(server).expect("server");
        for (mut from, mut to) in [
            (borrower.try_clone().expect("clone"), server.try_clone().expect("clone")),
            (server.try_clone().expect("clone"), borrower.try_clone().expect("clone")),
        ] {
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    let transport = TcpTransport::connect(impatient(address)).expect("connect");
    let slab = transport.borrow_slab().expect("slab");
    let mut session = transport.open_session().expect("session");
    let control = first.lock().expect("lock").take().expect("control's connection");
    control.shutdown(std::net::Shutdown::Both).expect("cut");
    // The cut has to be seen before control is used again: an operation under way when it falls is lost, as documented.
    while daemon.connections() > 1 {
        std::thread::sleep(Duration::from_millis(5));
    }
    transport.borrow_slab().expect("control reconnects");
    assert_eq!(read(&mut *session, SlabPos { slab, offset: 0 }), Ok(()), "the slab is still there");
    assert_eq!(daemon.lent_bytes(), 2 * MIB);
}

#[test]
fn a_full_house_says_what_to_do() {
    let config = Config { slab_bytes: 1 << 20, max_connections: 2, ..Config::new("127.0.0.1:0", 4 * MIB) };
    let daemon = Daemon::start(config).expect("daemon");
    let transport = TcpTransport::connect(impatient(daemon.tcp_address().expect("it listens"))).expect("connect");
    let session = transport.open_session().expect("the second");
    let error = transport.open_session().map(|_| ()).expect_err("the third");
    assert!(error.to_string().contains("--max-connections"), "{error}");
    drop(session);
    let start = Instant::now();
    while transport.open_session().is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "a place that was left must be free again");
    }
}

#[test]
fn endless_patience_is_no_overflow() {
    let daemon = daemon();
    let endless = TcpConfig {
        connect_timeout: Duration::MAX,
        op_timeout: Duration::MAX,
        ..impatient(daemon.tcp_address().expect("it listens"))
    };
    let transport = TcpTransport::connect(endless).expect("connect");
    let at = SlabPos { slab: transport.borrow_slab().expect("slab"), offset: 0 };
    assert_eq!(read(&mut *transport.open_session().expect("session"), at), Ok(()));
}
