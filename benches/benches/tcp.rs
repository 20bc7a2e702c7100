//! Misses over TCP on loopback, against a `farmemd` in this process (its own threads, real sockets).
//!
//! `async`: 64 tasks of one glommio shard read 4 KiB objects at random, nearly all far. `blocking`: one thread, one read at a time; beside it the round
//! trip of a bare pair of spinning sockets with replies of the same size, in the same run.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use farptr::{FarMemory, RemBox};
use farptr_server::{Config, Daemon};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
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

fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 32) as usize % OBJECTS
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
                        let mut state = (seed + 1) * 0x9e37_79b9_7f4a_7c15;
                        for _ in 0..turns.div_ceil(TASKS) {
                            let i = next(&mut state);
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
    let mut state = 0x2545_f491_4f6c_dd1d;
    let mut group = c.benchmark_group("tcp");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(5));
    group.bench_function("blocking, 4 KiB", |b| {
        b.iter(|| {
            let i = next(&mut state);
            boxes[i].with(|v| assert_eq!(v[511], i as u64));
        });
    });
    group.finish();
}

/// Reads exactly, spinning.
fn read_spinning(stream: &mut TcpStream, mut buffer: &mut [u8]) -> bool {
    while !buffer.is_empty() {
        match stream.read(buffer) {
            Ok(0) => return false,
            Ok(count) => buffer = &mut buffer[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(_) => return false,
        }
    }
    true
}

fn bare(c: &mut Criterion) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (mut far, _) = listener.accept().expect("a connection");
    for stream in [&near, &far] {
        stream.set_nodelay(true).expect("nodelay");
        stream.set_nonblocking(true).expect("nonblocking");
    }
    let echo = std::thread::spawn(move || {
        let mut request = [0u8; 32];
        while read_spinning(&mut far, &mut request) {
            far.write_all(&[7; 4128]).expect("a reply fits the socket's buffer");
        }
    });
    let mut group = c.benchmark_group("tcp");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(3));
    let mut reply = [0u8; 4128];
    group.bench_function("bare spinning sockets, 4 KiB replies", |b| {
        b.iter(|| {
            near.write_all(&[1; 32]).expect("a request");
            assert!(read_spinning(&mut near, &mut reply));
        });
    });
    group.finish();
    drop(near);
    echo.join().expect("the echo ends");
}

fn tcp(c: &mut Criterion) {
    let daemon = Daemon::start(Config::new("127.0.0.1:0", 1 << 30)).expect("a server");
    bare(c);
    blocking(c, &daemon);
    with_tasks(c, &daemon);
}

criterion_group!(benches, tcp);
criterion_main!(benches);
