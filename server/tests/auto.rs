//! `auto:HOST`: the best way that both ends have, whatever stands in the way of the others; and pools of servers of all kinds.
#![forbid(unsafe_code)]

mod common;

use common::numbers;
use farptr::{Error, FarMemory, RemBox};
use farptr_runtime::TransportError;
use farptr_runtime::transport::Transport;
use farptr_runtime::transport::auto::{self, AutoConfig};
use farptr_runtime::wire::frame::{Intent, encode_ask, encode_hello};
use farptr_runtime::wire::offers::{MAX_PATH_BYTES, OFFERS_BYTES, encode_offers};
use farptr_runtime::wire::{Ending, Identity, Offers, ServerSession, Ways};
use farptr_server::{Config, Daemon};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SLAB: u32 = 1 << 20;
const CAPACITY: u64 = 16 * SLAB as u64;

fn start(config: Config) -> Daemon {
    Daemon::start(Config { slab_bytes: SLAB, threads: Some(1), ..config }).expect("daemon")
}

/// A daemon that listens at loopback and at a socket of this path.
fn both(path: &Path) -> Daemon {
    start(Config { unix: Some(path.into()), ..Config::new("127.0.0.1:0", CAPACITY) })
}

fn tcp_address(daemon: &Daemon) -> SocketAddr {
    daemon.tcp_address().expect("it listens")
}

fn connect(address: SocketAddr) -> Result<Arc<dyn Transport>, TransportError> {
    auto::connect(AutoConfig::new(address.to_string()))
}

/// The way that is chosen to what listens at `address`, after it has been seen to work.
#[track_caller]
fn way_to(address: SocketAddr) -> String {
    let chosen = connect(address).expect("connect");
    let slab = chosen.borrow_slab().expect("a slab");
    chosen.return_slab(slab).expect("return");
    chosen.describe().to_owned()
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("folder");
    let path = fs::canonicalize(folder.path()).expect("path").join("farmemd");
    (folder, path)
}

fn objects_come_back(mem: &FarMemory) {
    let boxes: Vec<_> = (0..3000u64).map(|n| RemBox::new_in([n; 128], mem)).collect();
    mem.evacuate_all().expect("evacuate");
    let mut next = numbers(5);
    for _ in 0..6000 {
        let n = next() as usize % boxes.len();
        assert_eq!(boxes[n].try_with(|held| *held).expect("read"), [n as u64; 128]);
    }
}

fn memory(addresses: &[String]) -> FarMemory {
    let builder = FarMemory::builder().local_budget(1 << 20).timeout(Duration::from_secs(5));
    addresses.iter().fold(builder, |builder, address| builder.server(address)).build().expect("a far memory")
}

#[test]
fn memory_on_this_machine_is_mapped() {
    let (_folder, path) = folder();
    let daemon = both(&path);
    let mem = memory(&[format!("auto:{}", tcp_address(&daemon))]);
    assert_eq!(mem.transport(), format!("unix:{} (auto)", path.display()));
    objects_come_back(&mem);
}

#[test]
fn a_server_without_a_socket_is_reached_over_tcp_and_named_so_in_errors() {
    let daemon = start(Config::new("127.0.0.1:0", 2 * u64::from(SLAB)));
    let address = tcp_address(&daemon);
    let mem = memory(&[format!("auto:{address}")]);
    assert_eq!(mem.transport(), format!("tcp:{address} (auto)"));
    let boxes: Result<Vec<_>, _> = (0..3000u64).map(|n| RemBox::try_new_in([n; 512], &mem)).collect();
    let Err(full) = boxes else { panic!("more than it lends and the budget holds") };
    assert!(matches!(full, Error::FarMemoryFull { .. }) && full.to_string().contains(&format!("tcp:{address} (auto)")), "{full}");
}

#[test]
fn a_path_that_needs_not_be_text_is_taken_as_it_is() {
    let (_folder, path) = folder();
    let daemon = both(&path.with_file_name(OsStr::from_bytes(b"far\xffmemd")));
    assert!(way_to(tcp_address(&daemon)).starts_with("unix:"));
}

/// As on another machine, or in another container.
#[test]
fn a_path_where_nobody_is_or_somebody_else_leads_nowhere() {
    let (_folder, path) = folder();
    let daemon = both(&path);
    let by_tcp = format!("tcp:{} (auto)", tcp_address(&daemon));
    fs::remove_file(&path).expect("its socket");
    assert_eq!(way_to(tcp_address(&daemon)), by_tcp, "nothing of this name");
    fs::write(&path, "no socket").expect("a file");
    assert_eq!(way_to(tcp_address(&daemon)), by_tcp, "a file");
    fs::remove_file(&path).expect("the file");
    drop(UnixListener::bind(&path).expect("a socket"));
    assert_eq!(way_to(tcp_address(&daemon)), by_tcp, "a socket that was left behind");
    fs::remove_file(&path).expect("the socket");

    let other = both(&path);
    assert_eq!(way_to(tcp_address(&daemon)), by_tcp, "another server");
    assert_eq!((other.lent_bytes(), daemon.lent_bytes()), (0, 0));
    assert_eq!(way_to(tcp_address(&other)), format!("unix:{} (auto)", path.display()), "to whom it does lead");
}

#[test]
fn a_socket_that_nobody_answers_at_costs_a_part_of_the_time() {
    let (_folder, path) = folder();
    let daemon = both(&path);
    fs::remove_file(&path).expect("its socket");
    let _silent = UnixListener::bind(&path).expect("a socket");
    let started = Instant::now();
    assert_eq!(way_to(tcp_address(&daemon)), format!("tcp:{} (auto)", tcp_address(&daemon)));
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[test]
fn who_asks_is_told_and_leaves_nothing_behind() {
    let (_folder, path) = folder();
    let daemon = both(&path);
    let ask = |mut stream: Box<dyn ReadWrite>| {
        stream.write_all(&encode_ask()).expect("write");
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("the server ends the connection");
        said
    };
    let by_tcp = ask(Box::new(TcpStream::connect(tcp_address(&daemon)).expect("connect")));
    assert_eq!(by_tcp.len(), OFFERS_BYTES);
    assert_eq!(by_tcp, ask(Box::new(UnixStream::connect(&path).expect("connect"))));
    let started = Instant::now();
    while daemon.connections() > 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "a connection is left");
        thread::yield_now();
    }
    assert_eq!(daemon.lent_bytes(), 0);
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// Says `answer` to the first who connects; passes the others on to `behind`, if there is somebody. Returns where.
fn front(answer: Vec<u8>, behind: Option<SocketAddr>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let address = listener.local_addr().expect("address");
    thread::spawn(move || {
        let Ok((mut first, _)) = listener.accept() else { return };
        let _ = first.read(&mut [0; 64]);
        let _ = first.write_all(&answer);
        let Some(behind) = behind else {
            let _ = first.shutdown(Shutdown::Write);
            let _ = first.read(&mut [0; 64]);
            return;
        };
        drop(first);
        while let Ok((client, _)) = listener.accept() {
            let Ok(server) = TcpStream::connect(behind) else { return };
            for (mut from, mut to) in [(&client, &server), (&server, &client)].map(|(from, to)| (copy_of(from), copy_of(to))) {
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    address
}

fn copy_of(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a socket can be had twice")
}

fn offers(unix: Option<&Path>, rdma: Option<SocketAddr>) -> [u8; OFFERS_BYTES] {
    encode_offers(&Offers { identity: Identity([7; 16]), ways: Ways::new(unix, rdma) })
}

#[test]
fn offers_that_lead_nowhere_are_passed_over() {
    let (_folder, path) = folder();
    let daemon = start(Config::new("127.0.0.1:0", CAPACITY));
    let other = start(Config::unix(&path, CAPACITY));
    let longest = Path::new("/").join("x".repeat(MAX_PATH_BYTES - 1));
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port that was free");
    for (what, answer) in [
        ("another server's socket", offers(Some(&path), None)),
        ("a path that is as long as can be", offers(Some(&longest), None)),
        ("a path that isn't text", offers(Some(Path::new(OsStr::from_bytes(b"/\xff\xfe\n"))), None)),
        ("a device", offers(Some(Path::new("/dev/zero")), None)),
        ("RDMA at an address without a device", offers(None, Some(nobody))),
    ] {
        let address = front(answer.to_vec(), Some(tcp_address(&daemon)));
        assert_eq!(way_to(address), format!("tcp:{address} (auto)"), "{what}");
    }
    assert_eq!(other.lent_bytes(), 0);
}

#[test]
fn answers_that_can_not_be_are_errors_in_time() {
    let good = offers(Some(Path::new("/run/farmemd")), None);
    let with = |at: usize, byte: u8| {
        let mut bytes = good;
        bytes[at] = byte;
        bytes.to_vec()
    };
    let patience = Duration::from_millis(500);
    for (what, answer, expected) in [
        ("a path too long", with(50, 108), "offers ways that can't be"),
        ("a path longer than memory", with(51, 0xff), "offers ways that can't be"),
        ("a path from anywhere", with(52, b'.'), "offers ways that can't be"),
        ("bytes behind the path", with(159, 1), "offers ways that can't be"),
        ("cut short", good[..159].to_vec(), "the server closed it"),
        ("cut shorter", good[..7].to_vec(), "the server closed it"),
        ("nothing", Vec::new(), "the server closed it"),
        ("another version", with(8, 2), "protocol version 2"),
        ("another protocol", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "not farmemd"),
        ("an older farmemd", ServerSession::refusal(Ending::BadHello).to_vec(), "not a farptr hello"),
        ("a full farmemd", ServerSession::refusal(Ending::TooManyConnections).to_vec(), "--max-connections"),
    ] {
        let started = Instant::now();
        let error = auto::connect(AutoConfig { connect_timeout: patience, ..AutoConfig::new(front(answer, None).to_string()) });
        let error = error.err().unwrap_or_else(|| panic!("{what} was taken")).to_string();
        assert!(error.contains(expected), "{what}: {error}");
        assert!(started.elapsed() < patience * 4, "{what}: {:?}", started.elapsed());
    }
}

#[test]
fn who_never_answers_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let patience = Duration::from_millis(200);
    let address = listener.local_addr().expect("address").to_string();
    let started = Instant::now();
    let silent = auto::connect(AutoConfig { connect_timeout: patience, ..AutoConfig::new(address) });
    assert!(matches!(silent.err(), Some(TransportError::Timeout { .. })));
    assert!(started.elapsed() >= patience && started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[test]
fn nobody_at_the_address_is_the_ordinary_error() {
    let error = FarMemory::builder().local_budget(1 << 20).server("auto:127.0.0.1:1").build().expect_err("nobody listens there");
    let said = error.to_string();
    assert!(said.contains("auto:127.0.0.1:1") && said.contains("is farmemd running there?"), "{said}");
}

/// One that lends by RDMA, where there is a device.
#[cfg(feature = "rdma")]
fn by_rdma(capacity: u64) -> Option<Daemon> {
    rdma::device().map(|device| start(Config::rdma(format!("{device}:0"), capacity)))
}

#[cfg(not(feature = "rdma"))]
fn by_rdma(_capacity: u64) -> Option<Daemon> {
    None
}

/// Each kind of server lends a part, and gives it back.
#[test]
fn servers_of_all_kinds_make_one_far_memory() {
    let (_folder, path) = folder();
    let (_another, other_path) = folder();
    let capacity = 2 * u64::from(SLAB);
    let listening = start(Config::new("127.0.0.1:0", capacity));
    let at_socket = start(Config::unix(&path, capacity));
    let found = start(Config { unix: Some(other_path), ..Config::new("127.0.0.1:0", capacity) });
    let daemons: Vec<Daemon> = [listening, at_socket, found].into_iter().chain(by_rdma(capacity)).collect();
    let mut addresses = vec![
        format!("tcp:{}", tcp_address(&daemons[0])),
        format!("unix:{}", path.display()),
        format!("auto:{}", tcp_address(&daemons[2])),
    ];
    addresses.extend(daemons.iter().filter_map(Daemon::rdma_address).map(|address| format!("rdma:{address}")));
    addresses.push("embedded:".into());
    let builder = FarMemory::builder().local_budget(1 << 20).timeout(Duration::from_secs(20));
    let mem = addresses.iter().fold(builder, |builder, address| builder.server(address)).build().expect("a far memory");
    let most = capacity * daemons.len() as u64;
    let count = most / 1024;
    let boxes: Vec<_> = (0..count).map(|n| RemBox::new_in([n; 128], &mem)).collect();
    mem.evacuate_all().expect("evacuate");
    for (daemon, address) in daemons.iter().zip(&addresses) {
        assert!(daemon.lent_bytes() > 0, "{address} lent nothing of {:?}", mem.stats());
    }
    assert!(mem.embedded_resident_bytes() > 0);
    for (n, held) in boxes.iter().enumerate() {
        assert_eq!(held.try_with(|held| *held).expect("read"), [n as u64; 128]);
    }
    drop(boxes);
    common::assert_empty(&mem);
    assert!(daemons.iter().all(|daemon| daemon.lent_bytes() == 0), "all is given back");
}

#[test]
fn a_welcome_is_no_answer_to_a_question() {
    let daemon = start(Config::new("127.0.0.1:0", CAPACITY));
    let mut stream = TcpStream::connect(tcp_address(&daemon)).expect("connect");
    stream.write_all(&encode_hello(Intent::New)).expect("write");
    let mut welcome = [0; 48];
    stream.read_exact(&mut welcome).expect("a welcome");
    let error = connect(front(welcome.to_vec(), None)).err().expect("no answer").to_string();
    assert!(error.contains("let in who only asked"), "{error}");
}

/// Where there are RDMA devices, which the environment says: see `docs/testing.md`.
#[cfg(feature = "rdma")]
mod rdma {
    use super::*;

    pub(super) fn device() -> Option<String> {
        let device = std::env::var("FARPTR_TEST_RDMA").ok();
        if device.is_none() {
            writeln!(io::stderr(), "SKIPPED: no RDMA device (FARPTR_TEST_RDMA is not set)").expect("standard error takes a line");
        }
        device
    }

    #[test]
    fn a_server_elsewhere_is_reached_by_rdma() {
        let Some(device) = device() else { return };
        let (_folder, path) = folder();
        // One that says at which device it listens, and one that listens at all and is asked at that device's address.
        for (listen, rdma) in [("127.0.0.1", &device[..]), (&device, "0.0.0.0")] {
            let config = Config {
                rdma: Some(format!("{rdma}:0")),
                unix: Some(path.clone()),
                ..Config::new(format!("{listen}:0"), CAPACITY)
            };
            let daemon = start(config);
            let port = daemon.rdma_address().expect("it listens").port();
            assert!(way_to(tcp_address(&daemon)).starts_with("unix:"), "its memory is mapped where it can be");
            fs::remove_file(&path).expect("its socket");
            let mem = memory(&[format!("auto:{}", tcp_address(&daemon))]);
            assert_eq!(mem.transport(), format!("rdma:{device}:{port} (auto)"));
            objects_come_back(&mem);
        }
    }

    #[test]
    fn an_rdma_port_that_nobody_listens_at_is_passed_over() {
        let Some(device) = device() else { return };
        let daemon = start(Config::new("127.0.0.1:0", CAPACITY));
        let nobody = SocketAddr::new(device.parse().expect("an address"), 9);
        for rdma in [nobody, "127.0.0.1:9".parse().expect("an address")] {
            let address = front(offers(None, Some(rdma)).to_vec(), Some(tcp_address(&daemon)));
            let started = Instant::now();
            assert_eq!(way_to(address), format!("tcp:{address} (auto)"));
            assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        }
    }
}
