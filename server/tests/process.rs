//! `farmemd` as people run it: its lines, its exit status, its end.

use farptr_runtime::TransportError;
use farptr_runtime::transport::tcp::{TcpConfig, TcpTransport};
use farptr_runtime::transport::{Completion, IoBuf, Op, Session, SlabPos, Submit, Token, Transport, Verb};
use farptr_runtime::wire::frame::{Intent, Request, Tag, encode_hello, encode_request};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// A running `farmemd`, killed when dropped.
struct Farmemd {
    child: Child,
    address: String,
    ready: String,
}

impl Farmemd {
    fn start(args: &[&str]) -> Self {
        let mut child = command(args).spawn().expect("farmemd starts");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut ready).expect("a ready line");
        let address = ready
            .strip_prefix("farmemd ready: tcp:")
            .and_then(|rest| rest.split_whitespace().next())
            .unwrap_or_else(|| panic!("not a ready line: {ready:?}"))
            .to_string();
        Self { child, address, ready }
    }

    fn small() -> Self {
        Self::start(&["--listen", "127.0.0.1:0", "--capacity", "4MiB", "--slab-size", "1MiB"])
    }

    fn connect(&self) -> TcpTransport {
        let config = TcpConfig { op_timeout: Duration::from_secs(2), ..TcpConfig::new(self.address.clone()) };
        TcpTransport::connect(config).expect("connect")
    }

    fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        let sent = match self.thread_for_signals() {
            // SAFETY: a signal to a child that has not been waited for, so the pid is its.
            None => unsafe { libc::kill(pid, signal) }.into(),
            // SAFETY: as above, and the thread is found by number in that process or not at all.
            Some(thread) => unsafe { libc::syscall(libc::SYS_tgkill, pid, thread, signal) },
        };
        assert_eq!(sent, 0);
    }

    /// The thread that waits for signals, if `signal` must name it: ThreadSanitizer holds a signal back until its thread calls into the sanitizer, and
    /// `main`, to which the kernel would give it, waits where the sanitizer does not see it.
    fn thread_for_signals(&self) -> Option<i32> {
        if !cfg!(farptr_tsan) {
            return None;
        }
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("procfs");
        threads.flatten().find_map(|thread| {
            let name = std::fs::read_to_string(thread.path().join("comm")).ok()?;
            thread.file_name().to_str()?.parse().ok().filter(|_| name.trim_end() == "farmemd-signals")
        })
    }

    /// Waits for its end; its status and what it logged.
    fn finish(mut self) -> (ExitStatus, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "farmemd does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut log = String::new();
        self.child.stderr.take().expect("stderr").read_to_string(&mut log).expect("log");
        (status, log)
    }
}

impl Drop for Farmemd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farmemd"));
    command.args(args).env("RUST_LOG", "debug").env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(session: &mut dyn Session, verb: Verb, at: SlabPos, bytes: Vec<u8>) -> Completion {
    let op = Op { token: Token(0), verb, at, buf: IoBuf::from(bytes) };
    let Submit::Accepted = session.submit(op) else { panic!("not accepted") };
    let (mut done, start) = (Vec::new(), Instant::now());
    while done.is_empty() {
        assert!(start.elapsed() < PATIENCE, "an operation that never completes");
        let _ = session.poll(Instant::now(), &mut done);
        session.park(Duration::from_millis(10));
    }
    done.remove(0)
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn it_says_when_it_is_ready_and_ends_in_order_on_sigterm_and_sigint() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let farmemd = Farmemd::small();
        assert!(!farmemd.address.ends_with(":0"), "the port the system chose");
        assert!(farmemd.ready.ends_with("capacity=4194304 slab=1048576\n"), "{:?}", farmemd.ready);
        let transport = farmemd.connect();
        let mut session = transport.open_session().expect("session");
        let at = SlabPos { slab: transport.borrow_slab().expect("slab"), offset: 0 };
        assert_eq!(run(&mut *session, Verb::Write, at, vec![1; 100]).result, Ok(()));
        farmemd.signal(signal);
        let (status, log) = farmemd.finish();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("shutting down"), "every ended connection is logged with its reason: {log}");
        wait_until("the session learns of it", || {
            let _ = session.poll(Instant::now(), &mut Vec::new());
            session.failure().is_some()
        });
        assert!(matches!(session.failure(), Some(TransportError::Lost(why)) if why.contains("shutting down")));
    }
}

#[test]
fn killed_in_the_middle_it_leaves_errors_not_waits() {
    let farmemd = Farmemd::small();
    let transport = farmemd.connect();
    let at = SlabPos { slab: transport.borrow_slab().expect("slab"), offset: 0 };
    let mut session = transport.open_session().expect("session");
    let mut done = Vec::new();
    for token in 0..200 {
        let op = Op { token: Token(token), verb: Verb::Read, at, buf: IoBuf::from(vec![0; 4096]) };
        assert!(matches!(session.submit(op), Submit::Accepted));
    }
    let _ = session.poll(Instant::now(), &mut done);
    farmemd.signal(libc::SIGKILL);
    let start = Instant::now();
    while session.in_flight() > 0 {
        assert!(start.elapsed() < PATIENCE, "an operation outlives its timeout");
        let _ = session.poll(Instant::now(), &mut done);
        session.park(Duration::from_millis(10));
    }
    assert_eq!(done.len(), 200, "each completes once");
    assert!(done.iter().all(|done| matches!(done.result, Ok(()) | Err(TransportError::Lost(_)))));
    wait_until("the session fails", || {
        let _ = session.poll(Instant::now(), &mut done);
        session.failure().is_some()
    });
    assert!(transport.borrow_slab().is_err());
}

#[test]
fn bad_input_is_one_line_that_says_what_to_do_and_status_2() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let in_use = listener.local_addr().expect("address").to_string();
    let any = ["--listen", "127.0.0.1:0"];
    let cases: [(&[&str], &str); 14] = [
        (&[], "--capacity"),
        (&["--capacity", "lots"], "64MiB"),
        (&["--capacity", "-4GiB"], "--capacity"),
        (&["--capacity", "0"], "4GiB"),
        (&["--capacity", "1MiB"], "at least 16.0 MiB"),
        (&["--capacity", "900PiB"], "smaller --capacity"),
        (&["--capacity", "99999999999999999999GiB"], "64MiB"),
        (&["--capacity", "4MiB", "--slab-size", "1000"], "multiple of 256.0 KiB"),
        (&["--capacity", "4MiB", "--slab-size", "0"], "multiple of 256.0 KiB"),
        (&["--capacity", "4MiB", "--slab-size", "8GiB"], "smaller --slab-size"),
        (&["--capacity", "64MiB", "--threads", "0"], "1 to 1024"),
        (&["--capacity", "64MiB", "--max-connections", "0"], "at least 1"),
        (&["--capacity", "64MiB", "--frobnicate"], "--help"),
        (&["--capacity", "64MiB", "extra"], "--help"),
    ];
    let with_listen = cases.iter().map(|(args, remedy)| ([&any[..], args].concat(), *remedy));
    let listens =
        [("nowhere", "HOST:PORT"), ("127.0.0.1:70000", "HOST:PORT"), ("192.0.2.1:7070", "HOST:PORT"), (&in_use, "in use")]
            .map(|(listen, remedy)| (vec!["--capacity", "64MiB", "--listen", listen], remedy));
    for (args, remedy) in with_listen.chain(listens) {
        let output = command(&args).output().expect("farmemd runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{args:?}: {error}");
        assert!(error.starts_with("farmemd: ") && error.contains(remedy), "{args:?}: {error}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn help_teaches() {
    let output = command(&["--help"]).output().expect("farmemd runs");
    let help = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    for word in ["--listen", "--capacity", "4GiB", "farmemd ready:", "SIGTERM"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[test]
fn borrowers_share_nothing_and_leave_nothing() {
    let farmemd = Farmemd::small();
    let (first, second) = (farmemd.connect(), farmemd.connect());
    let mine = SlabPos { slab: first.borrow_slab().expect("slab"), offset: 64 };
    let yours = SlabPos { slab: second.borrow_slab().expect("slab"), offset: 64 };
    assert_ne!(mine.slab, yours.slab);
    let (mut a, mut b) = (first.open_session().expect("session"), second.open_session().expect("session"));
    assert_eq!(run(&mut *a, Verb::Write, mine, b"secret".to_vec()).result, Ok(()));

    // A stranger's slab ends the connection that names it, and touches nobody else.
    for verb in [Verb::Read, Verb::Write] {
        let mut curious = second.open_session().expect("session");
        let denied = run(&mut *curious, verb, mine, vec![0; 6]);
        assert!(matches!(denied.result, Err(TransportError::Refused(_))), "{:?}", denied.result);
        assert_eq!(denied.buf.as_slice(), [0; 6]);
    }
    assert!(matches!(second.return_slab(mine.slab), Err(TransportError::Refused(_))));
    assert_eq!(run(&mut *a, Verb::Read, mine, vec![0; 6]).buf.as_slice(), b"secret");
    assert_eq!(run(&mut *b, Verb::Write, yours, b"yours!".to_vec()).result, Ok(()));

    // The first goes; what it had is lent again, zeroed. The other three slabs are taken first, so that it must be.
    drop((first, a));
    let mut lent = Vec::new();
    wait_until("the slab is lent again", || {
        lent.extend(second.borrow_slab());
        lent.len() == 3
    });
    assert!(lent.contains(&mine.slab));
    for slab in lent {
        for offset in (0..1 << 20).step_by(256 << 10) {
            let got = run(&mut *b, Verb::Read, SlabPos { slab, offset }, vec![1; 256 << 10]);
            assert_eq!(got.result, Ok(()));
            assert!(got.buf.as_slice().iter().all(|byte| *byte == 0), "a lent slab holds the last borrower's bytes");
        }
    }
    farmemd.signal(libc::SIGTERM);
    let (_, log) = farmemd.finish();
    assert!(log.contains("it named a slab that it has not borrowed"), "{log}");
    assert!(log.contains("borrower gone, slabs taken back"), "{log}");
}

#[test]
fn hostile_connections_end_with_a_logged_reason_and_touch_nobody_else() {
    let farmemd = Farmemd::small();
    let transport = farmemd.connect();
    let at = SlabPos { slab: transport.borrow_slab().expect("slab"), offset: 0 };
    let mut session = transport.open_session().expect("session");
    assert_eq!(run(&mut *session, Verb::Write, at, vec![7; 4096]).result, Ok(()));

    let hello = encode_hello(Intent::New);
    let read = |len| encode_request(Tag(0), Request::Read { at, len });
    let attacks: [Vec<u8>; 5] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
        [&hello[..], &[0xff; 100_000]].concat(),
        [&hello[..], &read(4096)].concat(),
        [&hello[..], &read(u32::MAX)].concat(),
    ];
    for attack in attacks {
        let mut stream = TcpStream::connect(&farmemd.address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        // It may be cut off while it still sends.
        let _ = stream.write_all(&attack);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 200, "a reason, and no data");
    }
    // Many that go away in the middle of a frame, and one that floods and never reads.
    for cut in 1..hello.len() {
        let mut stream = TcpStream::connect(&farmemd.address).expect("connect");
        stream.write_all(&hello[..cut]).expect("send");
    }
    let mut flood = TcpStream::connect(&farmemd.address).expect("connect");
    flood.write_all(&hello).expect("send");
    flood.write_all(&encode_request(Tag(0), Request::Borrow)).expect("send");
    flood.set_write_timeout(Some(Duration::from_millis(200))).expect("timeout");
    let mut welcome = [0; 60];
    flood.read_exact(&mut welcome).expect("welcome and a slab");
    let slab = u32::from_le_bytes(welcome[56..60].try_into().expect("4 bytes"));
    let at_slab = SlabPos { slab: farptr_runtime::transport::SlabId(slab), offset: 0 };
    let request = encode_request(Tag(0), Request::Read { at: at_slab, len: 256 << 10 });
    let requests: Vec<u8> = request.iter().copied().cycle().take(request.len() * 10_000).collect();
    let before = resident_bytes(&farmemd);
    // The server stops reading once its replies go nowhere, so sooner or later nothing can be sent.
    let stopped = (0..1000).any(|_| flood.write_all(&requests).is_err());
    assert!(stopped, "the server reads requests whose replies nobody reads");
    let grown = resident_bytes(&farmemd).saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes for a peer that doesn't read");

    let got = run(&mut *session, Verb::Read, at, vec![0; 4096]);
    assert_eq!((got.result, got.buf.as_slice()), (Ok(()), &[7; 4096][..]));
    farmemd.signal(libc::SIGTERM);
    let (status, log) = farmemd.finish();
    assert_eq!(status.code(), Some(0));
    for reason in ["not a farptr hello", "unknown kind", "not borrowed", "move 0 bytes or more", "closed by the client"] {
        assert!(log.contains(reason), "{reason}: {log}");
    }
    assert!(!log.contains("panic"), "{log}");
}

fn resident_bytes(farmemd: &Farmemd) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", farmemd.child.id())).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().expect("a number") << 10
}

/// A burst of connections waits for a daemon that is busy for a while. Beyond 128 they were dropped, and came a second later or not at all.
#[test]
fn as_many_connections_as_it_serves_may_come_at_once() {
    const BURST: usize = 600;
    let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("procfs");
    if allowed.trim().parse::<usize>().expect("a number") < BURST {
        writeln!(std::io::stderr(), "SKIPPED: the system allows a backlog of {allowed}").expect("standard error");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("farmemd");
    let path_text = path.to_str().expect("a path");
    let farmemd = Farmemd::start(&["--listen", "127.0.0.1:0", "--unix", path_text, "--capacity", "4MiB", "--slab-size", "1MiB"]);
    farmemd.signal(libc::SIGSTOP);
    let (connected, done) = std::sync::mpsc::channel();
    let address = farmemd.address.parse().expect("an address");
    std::thread::spawn(move || {
        let by_tcp: Vec<_> = (0..BURST).map_while(|_| TcpStream::connect_timeout(&address, PATIENCE / 2).ok()).collect();
        connected.send(by_tcp.len()).expect("the test waits");
        // Waits where the backlog is full.
        let by_path: Vec<_> = (0..BURST).map_while(|_| UnixStream::connect(&path).ok()).collect();
        connected.send(by_path.len()).expect("the test waits");
    });
    let counts = [0, 1].map(|_| done.recv_timeout(PATIENCE).unwrap_or(0));
    farmemd.signal(libc::SIGCONT);
    assert_eq!(counts, [BURST; 2]);
}

#[test]
fn it_has_the_memory_that_it_lends_and_sleeps_when_nobody_asks() {
    let farmemd = Farmemd::start(&["--listen", "127.0.0.1:0", "--capacity", "64MiB"]);
    let resident = resident_bytes(&farmemd);
    assert!(resident >= 64 << 20, "only {resident} bytes resident");
    let transport = farmemd.connect();
    transport.borrow_slab().expect("slab");
    std::thread::sleep(Duration::from_millis(100));
    let before = processor_ticks(&farmemd);
    std::thread::sleep(Duration::from_secs(2));
    let used = processor_ticks(&farmemd) - before;
    assert!(used <= 10, "{used} ticks in 2 s with a connection that is silent");
}

/// Processor time used, in ticks of 10 ms.
fn processor_ticks(farmemd: &Farmemd) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", farmemd.child.id())).expect("stat");
    let after_name = stat.rsplit_once(')').expect("a name").1;
    let field = |index: usize| after_name.split_whitespace().nth(index).and_then(|text| text.parse::<u64>().ok()).expect("ticks");
    field(11) + field(12)
}
