//! Memory of a `farmemd` on the same machine: what goes on without the server's processor, and what a server can do wrong.

mod common;

use common::{Farmemd, assert_empty, numbers};
use farptr::{Error, RemBox};
use farptr_runtime::TransportError;
use farptr_runtime::slab::Sharing;
use farptr_runtime::slab::{SlabStore, SlabStoreConfig, Supply};
use farptr_runtime::transport::shm::{ShmConfig, ShmTransport};
use farptr_runtime::transport::{ImmediateAccess, SlabId, SlabPos, Transport};
use farptr_runtime::wire::frame::{
    HELLO_BYTES, Hello, Intent, Passing, REQUEST_BYTES, Reply, Request, Terms, decode_hello, decode_request, encode_reply,
    encode_welcome,
};
use farptr_runtime::wire::{Lender, ServerSession};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

const SLAB: u32 = 1 << 20;

fn connect(path: impl AsRef<Path>, timeout: Duration) -> Result<ShmTransport, TransportError> {
    ShmTransport::connect(ShmConfig { op_timeout: timeout, ..ShmConfig::new(path.as_ref()) })
}

fn mapped(server: &ShmTransport) -> &dyn ImmediateAccess {
    server.immediate().expect("mapped memory")
}

fn at(slab: SlabId, offset: u32) -> SlabPos {
    SlabPos { slab, offset }
}

/// Nanoseconds that all threads of a process have run.
fn processor_time(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let ran = |task: fs::DirEntry| fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
    tasks.map(|task| ran(task.expect("a thread")).split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0)).sum()
}

/// Whether all threads of a process are stopped.
fn is_stopped(pid: u32) -> bool {
    let mut tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    // number (name) state ...
    tasks.all(|task| {
        let stat = fs::read_to_string(task.expect("a thread").path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    })
}

#[test]
fn a_stopped_server_serves_what_it_has_lent() {
    let farmemd = Farmemd::at_socket("8MiB");
    let timeout = Duration::from_millis(300);
    let server = connect(farmemd.path(), timeout).expect("connect");
    let slabs = [0; 3].map(|_| server.borrow_slab().expect("a slab"));
    farmemd.signal(Signal::STOP);
    // The signal reaches each thread a moment later.
    let started = Instant::now();
    while !is_stopped(farmemd.child.id()) {
        assert!(started.elapsed() < Duration::from_secs(20), "the server doesn't stop");
    }

    let memory = mapped(&server);
    for (n, slab) in slabs.into_iter().enumerate() {
        memory.write_at(at(slab, 77), &[n as u8 + 1; 100_000]).expect("write");
    }
    let mut session = server.open_session().expect("a session needs no server");
    for (n, slab) in slabs.into_iter().enumerate() {
        let mut got = vec![0; 100_000];
        memory.read_at(at(slab, 77), &mut got).expect("read");
        assert!(got.iter().all(|byte| usize::from(*byte) == n + 1));
    }
    assert_eq!(session.poll(Instant::now(), &mut Vec::new()), farptr_runtime::transport::Progress::Idle);

    // What needs the server ends in time, over and over.
    for _ in 0..7 {
        let started = Instant::now();
        assert!(matches!(server.borrow_slab(), Err(TransportError::Timeout { .. })));
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }
    assert!(matches!(server.return_slab(slabs[2]), Err(TransportError::Timeout { .. })));

    farmemd.signal(Signal::CONT);
    let started = Instant::now();
    let more = loop {
        match server.borrow_slab() {
            Ok(slab) => break slab,
            // It works off what it was asked while it was stopped.
            Err(TransportError::Timeout { .. }) => assert!(started.elapsed() < Duration::from_secs(20)),
            Err(error) => panic!("{error}"),
        }
    };
    let mut got = [1; 8];
    memory.read_at(at(more, 0), &mut got).expect("read");
    assert_eq!(got, [0; 8], "what is borrowed now is zero");
    for (n, slab) in slabs.into_iter().enumerate().take(2) {
        memory.read_at(at(slab, 77), &mut got).expect("read");
        assert_eq!(got, [n as u8 + 1; 8], "what was lent before is still there");
        server.return_slab(slab).expect("return");
    }
}

#[test]
fn lent_memory_outlives_a_server_that_is_killed() {
    let mut farmemd = Farmemd::at_socket("16MiB");
    let mem = farmemd.memory(1 << 20);
    let mut boxes: Vec<_> = (0..4000u64).map(|n| RemBox::new_in([n; 128], &mem)).collect();
    mem.evacuate_all().unwrap();
    farmemd.kill();

    let mut next = numbers(3);
    for _ in 0..20_000 {
        let n = next() as usize % boxes.len();
        boxes[n].try_with(|v| assert_eq!(*v, [n as u64; 128])).expect("far memory is still mapped");
    }
    let allowed =
        |error: &Error| matches!(error, Error::Transport { .. } | Error::FarMemoryFull { .. } | Error::OutOfLocalMemory { .. });
    // What is written goes to segments that the cleaner has emptied, if there are any. Otherwise it needs new far memory, which can't be had: the error says who is missing,
    // and no write is lost.
    let mut model: Vec<u64> = (0..4000).collect();
    for _ in 0..100_000 {
        let n = next() as usize % boxes.len();
        let new = next();
        match boxes[n].try_with_mut(|v| *v = [new; 128]) {
            Ok(()) => model[n] = new,
            Err(error) => assert!(allowed(&error), "{error}"),
        }
    }
    let mut more = Vec::new();
    let error = loop {
        match RemBox::try_new_in([more.len() as u64; 128], &mem) {
            Ok(value) => more.push(value),
            Err(error) => break error,
        }
        assert!(more.len() < 100_000, "a server that is gone goes on lending");
    };
    assert!(allowed(&error), "{error}");
    let mut read = 0;
    for (value, expected) in boxes.iter().zip(model).chain(more.iter().zip(0..)) {
        match value.try_with(|v| assert_eq!(*v, [expected; 128])) {
            Ok(()) => read += 1,
            // All that is local is dirty, and has nowhere to go.
            Err(error) => assert!(allowed(&error), "{error}"),
        }
    }
    assert!(read > 100, "what is local can be read: {read} of {}", boxes.len() + more.len());
}

#[test]
fn the_server_does_nothing_while_its_memory_is_used() {
    let farmemd = Farmemd::at_socket("64MiB");
    let mem = farmemd.memory(4 << 20);
    let boxes: Vec<_> = (0..4000u64).map(|n| RemBox::new_in([n; 512], &mem)).collect();
    mem.evacuate_all().unwrap();
    let (server, own) = (farmemd.child.id(), std::process::id());
    if processor_time(own) == 0 {
        let skipped = "SKIPPED: the_server_does_nothing_while_its_memory_is_used: this kernel doesn't say what threads have run";
        writeln!(std::io::stderr(), "{skipped}").expect("standard error takes a line");
        return;
    }
    let before = (processor_time(server), processor_time(own));
    let (started, mut next) = (Instant::now(), numbers(11));
    while started.elapsed() < Duration::from_millis(500) || processor_time(own) - before.1 < 200_000_000 {
        for _ in 0..1000 {
            let n = next() % 4000;
            boxes[n as usize].with(|v| assert_eq!(v[0], n));
        }
        assert!(started.elapsed() < Duration::from_secs(60), "this process gets no processor");
    }
    let (served, used) = (processor_time(server) - before.0, processor_time(own) - before.1);
    assert!(served * 100 < used, "the server ran for {served} ns, its borrower for {used} ns");
    drop(boxes);
    assert_empty(&mem);
}

#[test]
fn a_borrower_that_ends_leaves_its_memory_to_others() {
    let farmemd = Farmemd::at_socket("2MiB");
    for round in 0..20u8 {
        let server = connect(farmemd.path(), Duration::from_secs(5)).expect("connect");
        let started = Instant::now();
        let mut slabs = Vec::new();
        while slabs.len() < 2 {
            match server.borrow_slab() {
                Ok(slab) => slabs.push(slab),
                // The server learns of the last borrower's end a moment later.
                Err(TransportError::Full { .. }) => assert!(started.elapsed() < Duration::from_secs(20)),
                Err(error) => panic!("{error}"),
            }
        }
        for slab in slabs {
            let mut got = vec![1; SLAB as usize];
            mapped(&server).read_at(at(slab, 0), &mut got).expect("read");
            assert!(got.iter().all(|byte| *byte == 0), "round {round}: another borrower's bytes");
            mapped(&server).write_at(at(slab, 0), &vec![round + 1; SLAB as usize]).expect("write");
        }
    }
}

#[test]
fn one_file_is_lent_to_one_borrower_at_a_time() {
    let folder = tempfile::tempdir().expect("folder");
    let (file, path) = (folder.path().join("memory"), folder.path().join("farmemd"));
    File::create(&file).and_then(|file| file.set_len(2 * u64::from(SLAB))).expect("a file");
    let backing = Some(farptr_runtime::slab::Backing::at(&file));
    let config = farptr_server::Config { backing, slab_bytes: SLAB, ..farptr_server::Config::unix(&path, 2 * u64::from(SLAB)) };
    let _daemon = farptr_server::Daemon::start(config).expect("daemon");
    let first = connect(&path, Duration::from_secs(5)).expect("connect");
    let slab = first.borrow_slab().expect("a slab");
    mapped(&first).write_at(at(slab, 5), b"mine").expect("write");
    let error = connect(&path, Duration::from_secs(5)).expect_err("a second borrower").to_string();
    assert!(error.contains("one borrower at a time"), "{error}");
    drop(first);
    let started = Instant::now();
    let second = loop {
        match connect(&path, Duration::from_secs(5)) {
            Ok(second) => break second,
            Err(error) => assert!(started.elapsed() < Duration::from_secs(20), "{error}"),
        }
    };
    for _ in 0..2 {
        let slab = second.borrow_slab().expect("a slab");
        let mut got = [1; 9];
        mapped(&second).read_at(at(slab, 0), &mut got).expect("read");
        assert_eq!(got, [0; 9]);
    }
}

#[test]
fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("farmemd");
    let config = || farptr_server::Config { slab_bytes: SLAB, ..farptr_server::Config::unix(&path, SLAB.into()) };
    drop(UnixListener::bind(&path).expect("a socket without a daemon"));
    let daemon = farptr_server::Daemon::start(config()).expect("a stale socket is replaced");
    let error = farptr_server::Daemon::start(config()).expect_err("in use").to_string();
    assert!(error.contains("another program listens there") && error.contains("--unix"), "{error}");
    drop(daemon);
    assert!(!path.exists(), "the socket goes with its daemon");
    fs::write(&path, "important").expect("a file");
    let error = farptr_server::Daemon::start(config()).expect_err("a file").to_string();
    assert!(error.contains("something else of this name"), "{error}");
    assert_eq!(fs::read(&path).expect("still there"), b"important");
    let error = connect(&path, Duration::from_secs(1)).expect_err("nobody listens").to_string();
    assert!(error.contains("is farmemd running there?"), "{error}");
}

/// What a server of the tests passes with a slab.
type Pass = fn(usize) -> Vec<File>;

/// A server that lends slab `name(n)` in the files that `pass(n)` says, for the `n`th request; for one borrower, on connections one after the other.
fn hostile(path: &Path, name: fn(usize) -> u32, pass: Pass) -> std::thread::JoinHandle<()> {
    let listener = UnixListener::bind(path).expect("listen");
    std::thread::spawn(move || {
        let mut asked = 0;
        let mut connections: Vec<UnixStream> = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            let mut hello = [0; HELLO_BYTES];
            if stream.read_exact(&mut hello).is_err() {
                return;
            }
            let Hello::Speaks(intent) = decode_hello(&hello) else { return };
            let terms = terms(intent);
            stream.write_all(&encode_welcome(&terms)).expect("welcome");
            if intent == Intent::New {
                connections.push(stream);
                continue;
            }
            let mut request = [0; REQUEST_BYTES];
            while stream.read_exact(&mut request).is_ok() {
                let (tag, request) = decode_request(&request).expect("a request");
                let reply = match request {
                    Request::Borrow => encode_reply(tag, Reply::Lent(SlabId(name(asked)))),
                    _ => encode_reply(tag, Reply::Returned),
                };
                let files = if request == Request::Borrow { pass(asked) } else { Vec::new() };
                asked += usize::from(request == Request::Borrow);
                send(&mut stream, &reply, &files);
            }
            return;
        }
    })
}

/// The welcome of an honest server, which says to borrower and connection what they must hear.
fn terms(intent: Intent) -> Terms {
    let store = SlabStore::new(SlabStoreConfig { capacity: 4 * u64::from(SLAB), slab_bytes: SLAB, supply: Supply::OnDemand });
    let lender = Lender::new(store.expect("store"));
    let mut session = ServerSession::new(lender, Instant::now());
    session.handle_input(&farptr_runtime::wire::frame::encode_hello(Intent::New)).expect("hello");
    let welcome = session.output().first_chunk().expect("a welcome");
    let farptr_runtime::wire::frame::Welcome::Welcome(mut terms) = farptr_runtime::wire::frame::decode_welcome(welcome) else {
        unreachable!("an honest server")
    };
    if let Intent::Join(token) = intent {
        terms.token = token;
    }
    Terms { passing: Passing::Files(Sharing::Each), ..terms }
}

fn send(stream: &mut UnixStream, bytes: &[u8], files: &[File]) {
    let passed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut along = SendAncillaryBuffer::new(&mut room);
    if !passed.is_empty() {
        assert!(along.push(SendAncillaryMessage::ScmRights(&passed)), "room for the files");
    }
    // The borrower may have had enough.
    let _ = rustix::net::sendmsg(stream, &[IoSlice::new(bytes)], &mut along, SendFlags::NOSIGNAL);
}

fn sealed(len: u64) -> File {
    let file = File::from(memfd_create("test", MemfdFlags::ALLOW_SEALING).expect("memfd"));
    file.set_len(len).expect("length");
    fcntl_add_seals(&file, SealFlags::SHRINK).expect("seals");
    file
}

/// What the first borrow, and if that goes well the second, say of a hostile server.
fn borrow_from(name: fn(usize) -> u32, pass: Pass) -> String {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("hostile");
    let server = hostile(&path, name, pass);
    let borrower = connect(&path, Duration::from_secs(5)).expect("connect");
    let error = match borrower.borrow_slab() {
        Err(error) => error,
        Ok(_) => borrower.borrow_slab().expect_err("at the latest now"),
    };
    assert!(matches!(error, TransportError::Protocol(_) | TransportError::Lost(_) | TransportError::System(_)), "{error:?}");
    // What is mapped stays, what isn't is refused.
    assert!(matches!(mapped(&borrower).read_at(at(SlabId(3), 0), &mut [0; 8]), Err(TransportError::Refused(_))));
    drop(borrower);
    server.join().expect("the server ends with its borrower");
    error.to_string()
}

#[test]
fn a_server_that_passes_the_wrong_thing_is_found_out() {
    let honest: Pass = |_| vec![sealed(SLAB.into())];
    for (name, pass, said) in [
        ((|_| 0) as fn(usize) -> u32, (|_| Vec::new()) as Pass, "without its file"),
        (|_| 0, |_| vec![sealed(u64::from(SLAB) - 4096)], "bytes, and the slab ends at"),
        (|_| 0, |_| vec![sealed(0)], "bytes, and the slab ends at"),
        (|_| 0, |_| vec![File::open("/dev/null").expect("device")], "can't be mapped"),
        (|_| 0, |_| vec![File::open("/").expect("folder")], "neither an ordinary file nor"),
        // Read only: a mapping for writing is refused by the kernel.
        (|_| 0, |_| vec![read_only(SLAB.into())], "can't be mapped"),
        (|_| 0, |_| (0..40).map(|_| sealed(SLAB.into())).collect(), "more files than slabs"),
        (|_| u32::MAX, honest, "lent slab 4294967295 of 4"),
        (|_| 4, honest, "lent slab 4 of 4"),
        (|_| 1, honest, "lent already"),
    ] {
        let error = borrow_from(name, pass);
        assert!(error.contains(said), "{said:?}: {error}");
    }
}

fn read_only(len: u64) -> File {
    let file = sealed(len);
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    File::open(path).expect("the file again, to read")
}
