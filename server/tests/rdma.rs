//! Slabs by RDMA, on real verbs: they run where the environment says what address an RDMA device has (`FARPTR_TEST_RDMA`), which `cargo xtask guest` sees to.
#![cfg(feature = "rdma")]
#![forbid(unsafe_code)]

mod common;

use common::Farmemd;
use farptr_runtime::TransportError;
use farptr_runtime::slab::{BorrowerId, Export, Lease, LentMemory, MemoryKey, SlabStore, SlabStoreConfig, Supply};
use farptr_runtime::transport::rdma::{Domains, RdmaConfig, RdmaListener, RdmaTransport};
use farptr_runtime::transport::{
    BufferPool, Completion, IoBuf, MAX_OP_BYTES, Op, Progress, Session, SlabId, SlabPos, Submit, Token, Transport, Verb,
};
use farptr_runtime::wire::{Lender, ServerSession};
use rustix::process::Signal;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than any operation may take, and than an emulated machine dawdles.
const PATIENCE: Duration = Duration::from_secs(20);

/// The address of an RDMA device, if there is one.
fn device(test: &str) -> Option<String> {
    let address = std::env::var("FARPTR_TEST_RDMA").ok();
    if address.is_none() {
        writeln!(std::io::stderr(), "SKIPPED: {test}: no RDMA device (FARPTR_TEST_RDMA is not set)").expect("a line");
    }
    address
}

fn farmemd(address: &str) -> Farmemd {
    let folder = tempfile::tempdir().expect("folder");
    Farmemd::start_with(&["--rdma", &format!("{address}:0"), "--capacity", "16MiB"], folder)
}

fn config(address: &str) -> RdmaConfig {
    RdmaConfig { connect_timeout: TIMEOUT, op_timeout: TIMEOUT, ..RdmaConfig::new(address) }
}

fn connect(address: &str) -> RdmaTransport {
    RdmaTransport::connect(config(address)).expect("connect")
}

fn at(slab: SlabId, offset: usize) -> SlabPos {
    SlabPos { slab, offset: offset as u32 }
}

fn submit(session: &mut dyn Session, token: u64, verb: Verb, at: SlabPos, buf: IoBuf) {
    try_submit(session, token, verb, at, buf).expect("accepted");
}

/// Fails if the session has failed in the meantime.
fn try_submit(session: &mut dyn Session, token: u64, verb: Verb, at: SlabPos, buf: IoBuf) -> Result<(), TransportError> {
    match session.submit(Op { token: Token(token), verb, at, buf }) {
        Submit::Accepted => Ok(()),
        Submit::Failed(_, error) => Err(error),
        Submit::Busy(op) => panic!("busy: {op:?}"),
    }
}

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
    try_submit(session, 1, verb, at, bytes.into())?;
    let done = finish(session).pop().expect("a completion");
    done.result.map(|()| done.buf.into_vec())
}

/// What a zombie server is: its memory is alive, its processor isn't.
#[test]
fn a_stopped_server_serves_what_it_has_lent() {
    let Some(address) = device("a_stopped_server_serves_what_it_has_lent") else { return };
    let server = farmemd(&address);
    let transport = connect(&server.address);
    let slab = transport.borrow_slab().expect("slab");
    let mut session = transport.open_session().expect("session");
    server.signal(Signal::STOP);
    for round in 0..100u8 {
        let place = at(slab, usize::from(round) * 4096);
        one(&mut *session, Verb::Write, place, vec![round; 4096]).expect("a write needs no program at the other end");
        assert_eq!(one(&mut *session, Verb::Read, place, vec![0; 4096]), Ok(vec![round; 4096]));
    }
    let began = Instant::now();
    let borrowed = transport.borrow_slab().expect_err("nobody answers");
    assert!(matches!(borrowed, TransportError::Timeout { .. }), "{borrowed}");
    let opened = transport.open_session().err().expect("nobody takes the connection");
    assert!(matches!(opened, TransportError::Timeout { .. } | TransportError::Unreachable(_)), "{opened}");
    assert!(began.elapsed() < PATIENCE);
    server.signal(Signal::CONT);
    let other = transport.borrow_slab().expect("control goes on");
    let mut second = transport.open_session().expect("so do new sessions");
    assert_eq!(one(&mut *second, Verb::Read, at(other, 0), vec![1; 8]), Ok(vec![0; 8]));
    assert_eq!(one(&mut *session, Verb::Read, at(slab, 4096), vec![0; 8]), Ok(vec![1; 8]));
    transport.return_slab(other).expect("return");
}

#[test]
fn a_killed_server_fails_what_is_in_flight_and_what_comes_later() {
    let Some(address) = device("a_killed_server_fails_what_is_in_flight_and_what_comes_later") else { return };
    let mut server = farmemd(&address);
    let transport = connect(&server.address);
    let slab = transport.borrow_slab().expect("slab");
    let mut sessions: Vec<_> = (0..2).map(|_| transport.open_session().expect("session")).collect();
    one(&mut *sessions[0], Verb::Write, at(slab, 0), vec![7; 64]).expect("write");
    one(&mut *sessions[1], Verb::Read, at(slab, 0), vec![0; 64]).expect("read");
    server.kill();
    for session in &mut sessions {
        let began = Instant::now();
        for token in 0..20 {
            submit(&mut **session, token, Verb::Read, at(slab, 0), vec![0; 4096].into());
        }
        let done = finish(&mut **session);
        assert_eq!(done.len(), 20);
        assert!(done.iter().all(|done| done.result.is_err()), "{done:?}");
        assert!(matches!(session.failure(), Some(TransportError::Lost(_))), "{:?}", session.failure());
        assert!(began.elapsed() < 2 * TIMEOUT + Duration::from_secs(1), "after {:?}", began.elapsed());
    }
    assert!(transport.open_session().is_err());
    assert!(transport.borrow_slab().is_err());
}

/// The server's part in reads and writes is its memory.
#[test]
fn reads_and_writes_take_none_of_the_server_s_processor_time() {
    let Some(address) = device("reads_and_writes_take_none_of_the_server_s_processor_time") else { return };
    let server = farmemd(&address);
    let transport = connect(&server.address);
    let slab = transport.borrow_slab().expect("slab");
    let mut session = transport.open_session().expect("session");
    let batch = |session: &mut dyn Session| {
        for token in 0..32 {
            let verb = if token % 4 == 0 { Verb::Write } else { Verb::Read };
            submit(session, token, verb, at(slab, token as usize * 4096), vec![1; 4096].into());
        }
        finish(session).into_iter().filter(|done| done.result.is_ok()).count() as u64
    };
    batch(&mut *session);
    // What it did to set things up is over: it has gone to sleep when its time stands still.
    while {
        let before = work(server.child.id());
        std::thread::sleep(Duration::from_millis(100));
        work(server.child.id()) != before
    } {}
    // On an emulated machine that other tests keep busy, interrupts take most of the time, and are ascribed to whoever is there. So what it had in the quietest of a few stretches
    // is compared, and how often it ran at all, which noise doesn't change: once a second, to look after its connections.
    let mut shares = Vec::new();
    for _ in 0..4 {
        let (began, mine, theirs) = (Instant::now(), work(std::process::id()), work(server.child.id()));
        let mut operations = 0;
        while began.elapsed() < Duration::from_secs(1) {
            operations += batch(&mut *session);
        }
        let (mine, theirs) = (work(std::process::id()).since(mine), work(server.child.id()).since(theirs));
        eprintln!(
            "{operations} operations: {:?} of this process; {:?} of the server, which ran {} times",
            mine.time, theirs.time, theirs.runs
        );
        assert!(
            operations > 100 && theirs.runs * 20 <= operations,
            "the server ran {} times for {operations} operations",
            theirs.runs
        );
        shares.push(theirs.time.as_secs_f64() / mine.time.as_secs_f64());
    }
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(least < 0.01, "of this process's time the server had {shares:?}");
}

/// What the threads of a process have had of processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Work {
    time: Duration,
    /// How many times they were given one.
    runs: u64,
}

impl Work {
    fn since(self, before: Self) -> Self {
        Self { time: self.time - before.time, runs: self.runs - before.runs }
    }
}

/// Not the ticks of `stat`, which are hundredths of a second.
fn work(pid: u32) -> Work {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let mut all = Work { time: Duration::ZERO, runs: 0 };
    for task in tasks {
        let schedstat = task.and_then(|task| std::fs::read_to_string(task.path().join("schedstat"))).expect("schedstat");
        let fields: Vec<u64> = schedstat.split_whitespace().map(|field| field.parse().expect("a number")).collect();
        all.time += Duration::from_nanos(fields[0]);
        all.runs += fields[2];
    }
    all
}

/// Whoever drops a session in the middle gets nothing written into memory that is somebody else's by then.
#[test]
fn a_session_that_is_dropped_in_the_middle_lets_go_of_its_buffers() {
    let Some(address) = device("a_session_that_is_dropped_in_the_middle_lets_go_of_its_buffers") else { return };
    let server = farmemd(&address);
    let transport = connect(&server.address);
    let slab = transport.borrow_slab().expect("slab");
    let pool = BufferPool::new(8).expect("pool");
    transport.local_memory().expect("RDMA wants to know").attach(pool.range(), MAX_OP_BYTES);
    let mut session = transport.open_session().expect("session");
    let mut buf = pool.take();
    buf.grow(MAX_OP_BYTES).fill(0xee);
    submit(&mut *session, 0, Verb::Write, at(slab, 0), buf.into());
    assert!(finish(&mut *session).iter().all(|done| done.result.is_ok()));
    for round in 0..30 {
        let mut session = transport.open_session().expect("session");
        for token in 0..4 {
            let mut buf = pool.take();
            buf.grow(MAX_OP_BYTES);
            submit(&mut *session, token, Verb::Read, at(slab, 0), buf.into());
        }
        if round % 3 > 0 {
            let _ = session.poll(Instant::now(), &mut Vec::new());
        }
        drop(session);
        // All of the pool's buffers are back, and stay as they are.
        let mut mine: Vec<_> = (0..8).map(|_| pool.take()).collect();
        for buf in &mut mine {
            assert!(pool.range().contains(&buf.grow(MAX_OP_BYTES).as_ptr().addr()), "a buffer is missing");
        }
        std::thread::sleep(Duration::from_millis(5));
        for buf in &mine {
            assert!(buf.as_slice().iter().all(|byte| *byte == 0), "written after its session was gone");
        }
    }
    // Their slab isn't waited for any more.
    transport.return_slab(slab).expect("return");
    for _ in 0..16 {
        transport.borrow_slab().expect("all slabs can be had");
    }
}

/// A transfer that was told of its memory comes out as one that was not.
#[test]
fn memory_that_the_device_knows_serves_as_well_as_other_memory() {
    let Some(address) = device("memory_that_the_device_knows_serves_as_well_as_other_memory") else { return };
    let server = farmemd(&address);
    let transport = connect(&server.address);
    let slab = transport.borrow_slab().expect("slab");
    let pool = BufferPool::new(4).expect("pool");
    let local = transport.local_memory().expect("RDMA wants to know");
    local.attach(pool.range(), MAX_OP_BYTES);
    let mut session = transport.open_session().expect("session");
    for round in 0..3u8 {
        for len in [1, 255, 256, 257, 4096, MAX_OP_BYTES] {
            let mut sent = pool.take();
            sent.grow(len).iter_mut().enumerate().for_each(|(i, byte)| *byte = (i as u8).wrapping_mul(31) ^ round);
            let expected = sent.as_slice().to_vec();
            submit(&mut *session, 1, Verb::Write, at(slab, 512), sent.into());
            assert!(finish(&mut *session).iter().all(|done| done.result.is_ok()));
            assert_eq!(one(&mut *session, Verb::Read, at(slab, 512), vec![0; len]).as_ref(), Ok(&expected));
            let mut got = pool.take();
            got.grow(len);
            submit(&mut *session, 2, Verb::Read, at(slab, 512), got.into());
            let done = finish(&mut *session).pop().expect("a completion");
            assert!(done.result.is_ok() && done.buf.as_slice() == expected, "{len} bytes in round {round}");
        }
        // From now on the device must look the pages up again.
        local.give_back(pool.range());
    }
}

#[test]
fn a_device_can_be_chosen() {
    let Some(address) = device("a_device_can_be_chosen") else { return };
    let server = farmemd(&address);
    let name = std::fs::read_dir("/sys/class/infiniband").expect("devices").next().expect("a device").expect("its name");
    let name = name.file_name().into_string().expect("a name");
    let chosen = |device: &str| RdmaTransport::connect(config(&format!("{}@{device}", server.address)));
    for device in [name.clone(), format!("{name}/1"), format!("{name}/1/1")] {
        chosen(&device).expect("connect").borrow_slab().expect("slab");
    }
    for device in ["nosuch0".to_owned(), format!("{name}/7"), format!("{name}/1/200")] {
        let error = chosen(&device).expect_err("there is none").to_string();
        assert!(error.contains("RDMA device"), "{error}");
    }
}

#[test]
fn where_nobody_listens_is_said_at_once() {
    let Some(address) = device("where_nobody_listens_is_said_at_once") else { return };
    let began = Instant::now();
    let error = RdmaTransport::connect(config(&format!("{address}:9"))).expect_err("nobody").to_string();
    assert!(error.contains("nobody listens") && error.contains("farmemd"), "{error}");
    assert!(began.elapsed() < TIMEOUT, "after {:?}", began.elapsed());
}

/// A lender that is not what it says, on a thread of its own.
struct Impostor {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Registers slabs as `farmemd` does, and tells another key.
struct WrongKeys(Arc<Domains>);

impl Export for WrongKeys {
    fn export(&self, to: BorrowerId, memory: &LentMemory<'_>) -> std::io::Result<(Lease, MemoryKey)> {
        let (lease, key) = self.0.export(to, memory)?;
        Ok((lease, MemoryKey { key: key.key ^ 0x5500, ..key }))
    }
}

impl Impostor {
    /// One whose answers pass through `twist` on their way.
    fn start(address: &str, twist: impl Fn(usize, &[u8]) -> Vec<u8> + Send + 'static, wrong_keys: bool) -> Self {
        let domains = Arc::<Domains>::default();
        let bound: SocketAddr = format!("{address}:0").parse().expect("address");
        let listener = RdmaListener::bind(bound, 128, Arc::clone(&domains)).expect("listen");
        let address = listener.local_address().expect("address");
        let store =
            SlabStore::new(SlabStoreConfig { capacity: 4 << 20, slab_bytes: 1 << 20, supply: Supply::Upfront }).expect("store");
        let lender = Lender::new(store);
        let export: Arc<dyn Export> =
            if wrong_keys { Arc::new(WrongKeys(Arc::clone(&domains))) } else { Arc::clone(&domains) as Arc<dyn Export> };
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let run = move || {
            let mut connections = Vec::new();
            let mut scratch = vec![0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((stream, _)) = listener.accept() {
                    let session = ServerSession::passing_keys(Arc::clone(&lender), Instant::now(), Arc::clone(&export));
                    connections.push((stream, session, 0));
                }
                connections.retain_mut(|(stream, session, said)| {
                    match stream.read(&mut scratch) {
                        Ok(0) => return false,
                        Ok(len) => drop(session.handle_input(&scratch[..len])),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        Err(_) => return false,
                    }
                    while !session.output().is_empty() {
                        let twisted = twist(*said, session.output());
                        *said += 1;
                        if stream.send(session.borrower(), &twisted).is_err() {
                            return false;
                        }
                        let all = session.output().len();
                        session.output_sent(all);
                    }
                    true
                });
                std::thread::yield_now();
            }
        };
        Self { address, stop, thread: Some(std::thread::spawn(run)) }
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            assert!(thread.join().is_ok(), "the impostor panicked");
        }
    }
}

#[test]
fn a_key_that_is_wrong_ends_the_session_with_a_clear_error() {
    let Some(address) = device("a_key_that_is_wrong_ends_the_session_with_a_clear_error") else { return };
    let server = Impostor::start(&address, |_, answer| answer.to_vec(), true);
    let transport = connect(&server.address.to_string());
    let slab = transport.borrow_slab().expect("slab");
    for verb in [Verb::Read, Verb::Write] {
        let mut session = transport.open_session().expect("a new session after the last one failed");
        let error = one(&mut *session, verb, at(slab, 0), vec![0; 4096]).expect_err("the key is wrong");
        assert!(matches!(&error, TransportError::Refused(why) if why.contains("refused access to slab")), "{error}");
        assert_eq!(session.failure(), Some(error));
    }
    transport.return_slab(slab).expect("control goes on");
}

#[test]
fn answers_that_make_no_sense_are_errors() {
    let Some(address) = device("answers_that_make_no_sense_are_errors") else { return };
    // The welcome is garbage, or cut short, or nothing.
    for len in [48, 20, 1] {
        let server = Impostor::start(&address, move |_, answer| answer[..len].iter().map(|byte| byte ^ 0x11).collect(), false);
        let error = RdmaTransport::connect(config(&server.address.to_string())).expect_err("garbage");
        assert!(matches!(error, TransportError::Protocol(_)), "{error}");
    }
    // What comes for a slab: an address at the end of all memory, a slab that can't be, a frame of no kind, a key that is cut short.
    type Twist = fn(&[u8]) -> Vec<u8>;
    let twists: [Twist; 4] = [
        |answer| [&answer[..12], &[0xff; 12]].concat(),
        |answer| [&answer[..8], &[0xff; 4], &answer[12..]].concat(),
        |_| vec![0x42; 24],
        |answer| answer[..20].to_vec(),
    ];
    for (number, twist) in twists.into_iter().enumerate() {
        let server =
            Impostor::start(&address, move |said, answer| if said == 0 { answer.to_vec() } else { twist(answer) }, false);
        let transport = connect(&server.address.to_string());
        let began = Instant::now();
        let error = transport.borrow_slab().expect_err("nothing was lent");
        assert!(matches!(error, TransportError::Protocol(_) | TransportError::Timeout { .. }), "twist {number}: {error}");
        assert!(began.elapsed() < PATIENCE);
    }
}

/// Where a server on another machine is, and the interface that leads there.
fn other_machine() -> (String, String) {
    let of = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    (of("FARPTR_TEST_RDMA_SERVER"), of("FARPTR_TEST_RDMA_LINK"))
}

fn ip(args: &str) {
    let done = std::process::Command::new("ip").args(args.split(' ')).status();
    assert!(done.is_ok_and(|done| done.success()), "ip {args}");
}

/// The network loses everything for a while. Packets go to a neighbour that isn't there, which is how a cable or a switch that fails looks to both ends.
#[test]
#[ignore = "needs a server on another machine, and breaks the way to it: see docs/testing.md"]
fn a_network_that_fails_ends_sessions_in_time_and_is_used_again() {
    let (server, link) = other_machine();
    let host = server.split(':').next().expect("a host").to_owned();
    let transport = RdmaTransport::connect(RdmaConfig { connect_timeout: PATIENCE, ..config(&server) }).expect("connect");
    let slab = transport.borrow_slab().expect("slab");
    let mut session = transport.open_session().expect("session");
    one(&mut *session, Verb::Write, at(slab, 0), vec![5; 4096]).expect("write");
    ip(&format!("neigh replace {host} lladdr 02:00:00:00:00:99 dev {link} nud permanent"));
    let began = Instant::now();
    let error = one(&mut *session, Verb::Read, at(slab, 0), vec![0; 4096]).expect_err("the network fails");
    eprintln!("without a network, after {:?}: {error}", began.elapsed());
    assert!(began.elapsed() < 2 * TIMEOUT + Duration::from_secs(1), "after {:?}", began.elapsed());
    assert!(matches!(error, TransportError::Lost(_) | TransportError::Timeout { .. }), "{error}");
    let began = Instant::now();
    let borrowed = transport.borrow_slab().expect_err("nobody hears it");
    assert!(began.elapsed() < 2 * TIMEOUT + Duration::from_secs(1), "{borrowed} after {:?}", began.elapsed());
    ip(&format!("neigh del {host} dev {link}"));
    let began = Instant::now();
    let mut session = loop {
        match transport.open_session() {
            Ok(session) => break session,
            Err(error) => assert!(began.elapsed() < PATIENCE, "no new session: {error}"),
        }
    };
    let got = one(&mut *session, Verb::Read, at(slab, 0), vec![0; 4096]).expect("the slab is still there");
    assert!(got == vec![5; 4096]);
    eprintln!("goes on {:?} after the network did", began.elapsed());
    transport.return_slab(slab).expect("control goes on");
}

/// Soft-RoCE in Linux 6.1 makes no connections any more once one of its control messages met a link that was down, so this ends with the error.
#[test]
#[ignore = "needs a server on another machine, and takes the link down for good: see docs/testing.md"]
fn a_link_that_is_taken_down_ends_sessions_at_once() {
    let (server, link) = other_machine();
    let transport = RdmaTransport::connect(RdmaConfig { connect_timeout: PATIENCE, ..config(&server) }).expect("connect");
    let slab = transport.borrow_slab().expect("slab");
    let mut session = transport.open_session().expect("session");
    one(&mut *session, Verb::Write, at(slab, 0), vec![5; 4096]).expect("write");
    ip(&format!("link set {link} down"));
    let began = Instant::now();
    let error = one(&mut *session, Verb::Read, at(slab, 0), vec![0; 4096]).expect_err("the link is down");
    assert!(matches!(error, TransportError::Lost(_) | TransportError::Timeout { .. }), "{error}");
    assert!(transport.borrow_slab().is_err() && transport.open_session().is_err());
    assert!(began.elapsed() < 6 * TIMEOUT, "after {:?}", began.elapsed());
}

/// Against a server on another machine that ends within half a minute: what is in flight fails, in time.
#[test]
#[ignore = "needs a server that is killed: see docs/testing.md"]
fn a_server_that_is_killed_on_another_machine_is_noticed() {
    let (server, _) = other_machine();
    let transport = RdmaTransport::connect(RdmaConfig { connect_timeout: PATIENCE, ..config(&server) }).expect("connect");
    let slab = transport.borrow_slab().expect("slab");
    let mut session = transport.open_session().expect("session");
    let began = Instant::now();
    let mut operations = 0;
    let error = loop {
        assert!(began.elapsed() < Duration::from_secs(30), "the server wasn't killed");
        let asked = Instant::now();
        match one(&mut *session, Verb::Read, at(slab, 0), vec![0; 4096]) {
            Ok(_) => operations += 1,
            Err(error) => {
                assert!(asked.elapsed() < 2 * TIMEOUT + Duration::from_secs(1), "after {:?}", asked.elapsed());
                break error;
            }
        }
    };
    eprintln!("after {operations} operations: {error}");
    assert!(operations > 0 && matches!(error, TransportError::Lost(_)), "{error}");
    assert!(transport.borrow_slab().is_err());
}
