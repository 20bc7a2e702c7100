//! Misses over TCP on loopback, against a `farmemd` in this process (its own threads, real sockets).
//!
//! `async`: 64 tasks of one glommio shard read 4 KiB objects at random, nearly all far. `blocking`: one thread, one read at a time; beside it the round
//! trip of a bare pair of spinning sockets with replies of the same size, in the same run.
//!
//! `pipelined`: one thread keeps 64 reads of 4 KiB in flight in one session; by turns with it, as many requests and replies of the same sizes between two
//! bare glommio executors: the one asks again for all that has come in at once; the other answers all that has come in with one write, or each with its own.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use farptr::{FarMemory, RemBox};
use farptr_benches::floor::RoundTrips;
use farptr_benches::random::Random;
use farptr_runtime::transport::tcp::{TcpConfig, TcpTransport};
use farptr_runtime::transport::{Completion, IoBuf, Op, Progress, Session, SlabId, SlabPos, Submit, Token, Transport, Verb};
use farptr_server::{Config, Daemon};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

type Object = [u64; 512];

/// Objects in the data set: 256 MiB, sixteen times the local budget.
const OBJECTS: usize = 64 << 10;
const BUDGET: usize = 16 << 20;
const TASKS: u64 = 64;

fn memory(daemon: &Daemon, shards: usize) -> FarMemory {
    let address = format!("tcp:{}", daemon.tcp_address().expect("it listens"));
    FarMemory::builder().local_budget(BUDGET).server(address).shards(shards).build().expect("a far memory")
}

fn fill(mem: &FarMemory) -> Vec<RemBox<Object>> {
    (0..OBJECTS).map(|i| RemBox::new_in([i as u64; 512], mem)).collect()
}

fn with_tasks(c: &mut Criterion, daemon: &Daemon) {
    let mem = memory(daemon, 1);
    let (to_shard, jobs) = mpsc::channel::<u64>();
    let (to_main, results) = mpsc::channel::<Duration>();
    let inner = mem.clone();
    // Filled by a plain thread: the shard's own data comes and goes with the task.
    let boxes = fill(&mem);
    let task = mem.spawn(0, move || async move {
        let _keep = inner;
        let boxes = Rc::new(boxes);
        while let Ok(turns) = jobs.recv() {
            let started = Instant::now();
            let tasks: Vec<_> = (0..TASKS)
                .map(|seed| {
                    let boxes = Rc::clone(&boxes);
                    glommio::spawn_local(async move {
                        let mut random = Random::seeded(seed);
                        for _ in 0..turns.div_ceil(TASKS) {
                            let i = random.below(OBJECTS);
                            boxes[i].with_async(|v| assert_eq!(v[511], i as u64)).await.expect("a read");
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await;
            }
            to_main.send(started.elapsed()).expect("the bench waits");
        }
    });
    let task = task.expect("a shard");
    let mut group = c.benchmark_group("tcp");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(6)).sample_size(20);
    group.bench_function("async, 64 tasks, 4 KiB", |b| {
        b.iter_custom(|turns| {
            to_shard.send(turns).expect("the shard runs");
            results.recv().expect("the shard answers")
        });
    });
    group.finish();
    drop(to_shard);
    task.join().expect("the task ends");
}

fn blocking(c: &mut Criterion, daemon: &Daemon) {
    let mem = memory(daemon, 0);
    let boxes = fill(&mem);
    let mut random = Random::default();
    let mut group = c.benchmark_group("tcp");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(5));
    group.bench_function("blocking, 4 KiB", |b| {
        b.iter(|| {
            let i = random.below(OBJECTS);
            boxes[i].with(|v| assert_eq!(v[511], i as u64));
        });
    });
    group.finish();
}

fn bare(c: &mut Criterion) {
    let mut pair = RoundTrips::start(4128).expect("a pair of sockets");
    let mut group = c.benchmark_group("tcp");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(3));
    group.bench_function("bare spinning sockets, 4 KiB replies", |b| b.iter(|| pair.round_trip()));
    group.finish();
}

/// Reads in flight.
const IN_FLIGHT: usize = 64;
/// A request and a reply of 4 KiB, with their headers.
const REQUEST: usize = 32;
const REPLY: usize = 4096 + 32;

/// Turns of each, and operations in one.
const TURNS: usize = 31;
const OPS: usize = 20_000;

/// How a bare server answers the requests that have come in.
#[derive(Clone, Copy)]
enum Answers {
    /// With one write: the most that sockets can do.
    Together,
    /// Each with a write of its own: an echo.
    OneByOne,
}

/// Answers what has come in, until the other end goes.
async fn answer(mut stream: TcpStream, how: Answers) {
    let (mut requests, replies) = (vec![0; IN_FLIGHT * REQUEST], vec![7; IN_FLIGHT * REPLY]);
    let mut have = 0;
    loop {
        match stream.read(&mut requests[have..]).await {
            Ok(0) | Err(_) => return,
            Ok(count) => have += count,
        }
        let whole = have / REQUEST;
        have %= REQUEST;
        let (writes, replies_each) = match how {
            Answers::Together => (1, whole),
            Answers::OneByOne => (whole, 1),
        };
        for _ in 0..writes {
            if stream.write_all(&replies[..replies_each * REPLY]).await.is_err() {
                return;
            }
        }
    }
}

/// Keeps requests in flight until `OPS` are answered.
async fn ask(stream: &mut TcpStream, replies: &mut [u8]) {
    let requests = [1; IN_FLIGHT * REQUEST];
    stream.write_all(&requests).await.expect("requests");
    let (mut asked, mut answered, mut have) = (IN_FLIGHT, 0, 0);
    while answered < OPS {
        have += stream.read(replies).await.expect("replies");
        let whole = have / REPLY;
        have %= REPLY;
        answered += whole;
        let more = whole.min(OPS - asked);
        asked += more;
        if more > 0 {
            stream.write_all(&requests[..more * REQUEST]).await.expect("requests");
        }
    }
}

/// Time between two looks at the session's socket: what a far memory takes with so many reads in flight, for the reasons that its lanes give.
const BETWEEN_LOOKS: Duration = Duration::from_nanos(150 * IN_FLIGHT as u64);

/// Keeps reads of random places in flight until `OPS` have come in.
fn read_pipelined(session: &mut dyn Session, slabs: &[SlabId], random: &mut Random, bufs: &mut Vec<IoBuf>) {
    let (mut asked, mut answered) = (0, 0);
    let (mut done, mut look) = (Vec::with_capacity(IN_FLIGHT), Instant::now());
    while answered < OPS {
        while asked < OPS
            && let Some(buf) = bufs.pop()
        {
            let place = random.below(OBJECTS);
            let at = SlabPos { slab: slabs[place % slabs.len()], offset: (place / slabs.len() % 4096 * 4096) as u32 };
            match session.submit(Op { token: Token(0), verb: Verb::Read, at, buf }) {
                Submit::Accepted => asked += 1,
                Submit::Busy(op) => {
                    bufs.push(op.buf);
                    break;
                }
                Submit::Failed(_, error) => panic!("{error}"),
            }
        }
        let mut now = Instant::now();
        while now < look {
            std::hint::spin_loop();
            now = Instant::now();
        }
        look = now + BETWEEN_LOOKS;
        if session.poll(now, &mut done) == Progress::Idle {
            std::thread::yield_now();
        }
        for Completion { buf, result, .. } in done.drain(..) {
            result.expect("a read");
            answered += 1;
            bufs.push(buf);
        }
    }
}

fn per_second(mut times: Vec<Duration>) -> f64 {
    times.sort();
    OPS as f64 / times[times.len() / 2].as_secs_f64()
}

fn pipelined(daemon: &Daemon) {
    let transport =
        TcpTransport::connect(TcpConfig::new(daemon.tcp_address().expect("it listens").to_string())).expect("a server");
    let slabs: Vec<_> = (0..16).map(|_| transport.borrow_slab().expect("a slab")).collect();
    let mut session = transport.open_session().expect("a session");
    let mut bufs: Vec<_> = (0..IN_FLIGHT).map(|_| IoBuf::from(vec![0; 4096])).collect();
    let mut random = Random::default();
    let executor = || LocalExecutorBuilder::new(Placement::Unbound).spin_before_park(Duration::from_micros(50));
    let serve = |how| {
        let (port, address) = mpsc::channel();
        let server = executor().spawn(move || async move {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            port.send(listener.local_addr().expect("an address")).expect("the bench waits");
            let stream = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("nodelay");
            answer(stream, how).await;
        });
        (server.expect("an executor"), address.recv().expect("the server's address"))
    };
    let (servers, addresses): (Vec<_>, Vec<_>) = [Answers::Together, Answers::OneByOne].map(serve).into_iter().unzip();
    let (ours, bare) = executor().make().expect("an executor").run(async {
        let mut streams = Vec::new();
        for address in addresses {
            let stream = TcpStream::connect(address).await.expect("a connection");
            stream.set_nodelay(true).expect("nodelay");
            streams.push(stream);
        }
        let mut replies = vec![0; IN_FLIGHT * REPLY];
        let (mut ours, mut bare) = (Vec::new(), [const { Vec::new() }; 2]);
        for _ in 0..TURNS {
            for (stream, times) in streams.iter_mut().zip(&mut bare) {
                let started = Instant::now();
                ask(stream, &mut replies).await;
                times.push(started.elapsed());
            }
            let started = Instant::now();
            read_pipelined(&mut *session, &slabs, &mut random, &mut bufs);
            ours.push(started.elapsed());
        }
        (per_second(ours), bare.map(per_second))
    });
    for server in servers {
        server.join().expect("the server ends");
    }
    eprintln!("pipelined, {IN_FLIGHT} reads of 4 KiB in flight, medians of {TURNS} turns: {:.0} k/s", ours / 1e3);
    for (rate, how) in bare.iter().zip(["all with one write", "each with its own"]) {
        eprintln!("  bare glommio, answered {how}: {:.0} k/s; ratio {:.2}", rate / 1e3, ours / rate);
    }
}

fn tcp(c: &mut Criterion) {
    let daemon = Daemon::start(Config::new("127.0.0.1:0", 1 << 30)).expect("a server");
    pipelined(&daemon);
    bare(c);
    blocking(c, &daemon);
    with_tasks(c, &daemon);
}

criterion_group!(benches, tcp);
criterion_main!(benches);
