//! How fast lent memory can be read over TCP on loopback, next to bare sockets in the same run.
//!
//! `cargo run --release -p farptr-server --example tcp_rate [seconds per figure]`
//!
//! Prints the rate of random 4 KiB reads with 64 in flight, that of 256 KiB writes with 4 in flight, and the round trip of one
//! 4 KiB read at a time while both ends spin. Each is beside what two threads with bare non-blocking sockets do that exchange
//! frames of the same sizes and look at nothing.

use farptr_runtime::transport::tcp::{TcpConfig, TcpTransport};
use farptr_runtime::transport::{Completion, IoBuf, Op, Progress, Session, SlabId, SlabPos, Submit, Token, Transport, Verb};
use farptr_server::{Config, Daemon};
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

const OBJECT: usize = 4096;
const FAR_SEGMENT: usize = 256 << 10;
const IN_FLIGHT: usize = 64;
const CAPACITY: u64 = 1 << 30;
const REQUEST: usize = 20;
const REPLY: usize = 12 + OBJECT;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let seconds: f64 = std::env::args().nth(1).map_or(Ok(2.0), |text| text.parse())?;
    let span = Duration::from_secs_f64(seconds);
    let daemon = Daemon::start(Config { threads: Some(1), ..Config::new("127.0.0.1:0", CAPACITY) })?;
    let transport = TcpTransport::connect(TcpConfig::new(daemon.tcp_address().expect("it listens").to_string()))?;
    let slabs: Vec<_> =
        (0..CAPACITY / u64::from(transport.slab_bytes())).map(|_| transport.borrow_slab()).collect::<Result<_, _>>()?;
    let mut session = transport.open_session()?;
    let mut places = Places { slabs, slab_bytes: transport.slab_bytes(), seed: 0x9e37_79b9_7f4a_7c15 };

    let bare = bare_pipelined(span)?;
    let ours = pipelined(&mut *session, &mut places, Verb::Read, OBJECT, IN_FLIGHT, span)?;
    println!("4 KiB reads, {IN_FLIGHT} in flight: {:.0} k/s (bare sockets {:.0} k/s)", ours / 1e3, bare / 1e3);
    let writes = pipelined(&mut *session, &mut places, Verb::Write, FAR_SEGMENT, 4, span)?;
    println!("256 KiB writes, 4 in flight: {:.2} GB/s", writes * FAR_SEGMENT as f64 / 1e9);
    let bare = bare_round_trips(span)?;
    let ours = round_trips(&mut *session, &mut places, span)?;
    println!(
        "4 KiB read, one at a time, spinning: median {:.1} us, p99 {:.1} us (bare sockets {:.1} us, p99 {:.1} us)",
        ours.0, ours.1, bare.0, bare.1
    );
    Ok(())
}

struct Places {
    slabs: Vec<SlabId>,
    slab_bytes: u32,
    seed: u64,
}

impl Places {
    /// A random place for `len` bytes, aligned to them.
    fn next(&mut self, len: usize) -> SlabPos {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let slab = self.slabs[(self.seed >> 32) as usize % self.slabs.len()];
        let offset = (self.seed as u32 % (self.slab_bytes / len as u32)) * len as u32;
        SlabPos { slab, offset }
    }
}

fn pipelined(
    session: &mut dyn Session,
    places: &mut Places,
    verb: Verb,
    len: usize,
    in_flight: usize,
    span: Duration,
) -> Outcome<f64> {
    let mut ready: Vec<IoBuf> = (0..in_flight).map(|_| IoBuf::from(vec![1u8; len])).collect();
    let mut done: Vec<Completion> = Vec::new();
    let (started, mut count) = (Instant::now(), 0u64);
    let mut now = started;
    while now - started < span {
        while let Some(buf) = ready.pop() {
            let op = Op { token: Token(count), verb, at: places.next(len), buf };
            match session.submit(op) {
                Submit::Accepted => {}
                Submit::Busy(op) => {
                    ready.push(op.buf);
                    break;
                }
                Submit::Failed(_, error) => return Err(error.into()),
            }
        }
        now = Instant::now();
        if session.poll(now, &mut done) == Progress::Idle {
            std::thread::yield_now();
        }
        for completion in done.drain(..) {
            completion.result?;
            count += 1;
            ready.push(completion.buf);
        }
    }
    while session.in_flight() > 0 {
        let _ = session.poll(Instant::now(), &mut done);
    }
    Ok(count as f64 / span.as_secs_f64())
}

fn round_trips(session: &mut dyn Session, places: &mut Places, span: Duration) -> Outcome<(f64, f64)> {
    let mut buf = Some(IoBuf::from(vec![0u8; OBJECT]));
    let mut done: Vec<Completion> = Vec::new();
    let mut times = Vec::new();
    let started = Instant::now();
    while started.elapsed() < span {
        let before = Instant::now();
        let Some(taken) = buf.take() else { return Err("the buffer did not come back".into()) };
        let Submit::Accepted = session.submit(Op { token: Token(0), verb: Verb::Read, at: places.next(OBJECT), buf: taken })
        else {
            return Err("not accepted".into());
        };
        while done.is_empty() {
            if session.poll(Instant::now(), &mut done) == Progress::Idle {
                std::thread::yield_now();
            }
        }
        for completion in done.drain(..) {
            completion.result?;
            buf = Some(completion.buf);
        }
        times.push(before.elapsed());
    }
    Ok(median_and_p99(times))
}

/// Two threads with bare sockets: requests one way, replies of the same sizes as ours the other.
fn bare_pair(serve: impl FnOnce(TcpStream) -> Outcome<()> + Send + 'static) -> Outcome<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    for end in [&client, &server] {
        end.set_nodelay(true)?;
        end.set_nonblocking(true)?;
    }
    std::thread::spawn(move || {
        if let Err(error) = serve(server) {
            eprintln!("bare server: {error}");
        }
    });
    Ok(client)
}

/// Spins (and yields, as ours does) until something comes; 0 when the peer has closed.
fn receive(stream: &mut TcpStream, into: &mut [u8]) -> Outcome<usize> {
    loop {
        match stream.read(into) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            other => return Ok(other?),
        }
    }
}

fn send_all(stream: &mut TcpStream, mut bytes: &[u8]) -> Outcome<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            other => bytes = &bytes[other?..],
        }
    }
    Ok(())
}

fn bare_server(mut stream: TcpStream) -> Outcome<()> {
    let (mut requests, replies) = (vec![0; 64 << 10], vec![7; REPLY * IN_FLIGHT]);
    let mut partial = 0;
    loop {
        let len = receive(&mut stream, &mut requests)?;
        if len == 0 {
            return Ok(());
        }
        let whole = (partial + len) / REQUEST;
        partial = (partial + len) % REQUEST;
        send_all(&mut stream, &replies[..whole.min(IN_FLIGHT) * REPLY])?;
    }
}

fn bare_pipelined(span: Duration) -> Outcome<f64> {
    let mut stream = bare_pair(bare_server)?;
    let (requests, mut replies) = (vec![1; REQUEST * IN_FLIGHT], vec![0; REPLY * IN_FLIGHT]);
    send_all(&mut stream, &requests)?;
    let (started, mut count, mut partial) = (Instant::now(), 0, 0);
    while started.elapsed() < span {
        let len = receive(&mut stream, &mut replies)?;
        let whole = (partial + len) / REPLY;
        partial = (partial + len) % REPLY;
        count += whole;
        send_all(&mut stream, &requests[..whole * REQUEST])?;
    }
    Ok(count as f64 / span.as_secs_f64())
}

fn bare_round_trips(span: Duration) -> Outcome<(f64, f64)> {
    let mut stream = bare_pair(bare_server)?;
    let mut reply = vec![0; REPLY];
    let mut times = Vec::new();
    let started = Instant::now();
    while started.elapsed() < span {
        let before = Instant::now();
        send_all(&mut stream, &[1; REQUEST])?;
        let mut got = 0;
        while got < REPLY {
            got += receive(&mut stream, &mut reply[got..])?;
        }
        times.push(before.elapsed());
    }
    Ok(median_and_p99(times))
}

fn median_and_p99(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at = |part: f64| times[(times.len() as f64 * part) as usize].as_nanos() as f64 / 1e3;
    if times.is_empty() { (f64::NAN, f64::NAN) } else { (at(0.5), at(0.99)) }
}
