//! Many threads that miss at once over TCP on loopback, against a `farmemd` in this process (its own threads, real sockets).
//!
//! Each thread reads 4 KiB objects at random by `with`; a quarter of the data fits. Prints the rate for each number of threads, beside the rate of 64 threads
//! in the same run, and the longest read.
//!
//! `cargo run --release -p farptr-benches --example crowd -- [seconds] [threads ...]`

use farptr::{FarMemory, RemBox};
use farptr_benches::random::Random;
use farptr_server::{Config, Daemon};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

type Object = [u64; 512];

const BUDGET: usize = 64 << 20;
/// Four times what fits.
const OBJECTS: usize = 4 * BUDGET / size_of::<Object>();
/// Beside which the others are set.
const USUAL: usize = 64;

struct Measured {
    /// Reads a second.
    rate: f64,
    errors: u64,
    longest: Duration,
}

fn measure(boxes: &[RemBox<Object>], threads: usize, time: Duration) -> Measured {
    let (begin, over) = (Barrier::new(threads + 1), AtomicBool::new(false));
    let (reads, errors, longest) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let read = |seed: usize| {
        let mut random = Random::seeded(seed as u64 + 1);
        let (mut own, mut own_longest) = (0, 0);
        begin.wait();
        while !over.load(Ordering::Relaxed) {
            let i = random.below(OBJECTS);
            let started = Instant::now();
            match boxes[i].try_with(|object| assert_eq!(object[511], i as u64)) {
                Ok(()) => own += 1,
                Err(error) => {
                    if errors.fetch_add(1, Ordering::Relaxed) == 0 {
                        eprintln!("{threads} threads: {error}");
                    }
                }
            }
            own_longest = own_longest.max(started.elapsed().as_micros() as u64);
        }
        reads.fetch_add(own, Ordering::Relaxed);
        longest.fetch_max(own_longest, Ordering::Relaxed);
    };
    let took = std::thread::scope(|scope| {
        for seed in 0..threads {
            let builder = std::thread::Builder::new().stack_size(256 << 10);
            builder.spawn_scoped(scope, move || read(seed)).expect("a thread");
        }
        begin.wait();
        let started = Instant::now();
        std::thread::sleep(time);
        over.store(true, Ordering::Relaxed);
        started
    });
    let rate = reads.into_inner() as f64 / took.elapsed().as_secs_f64();
    Measured { rate, errors: errors.into_inner(), longest: Duration::from_micros(longest.into_inner()) }
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().expect("a number"));
    let time = Duration::from_secs(arguments.next().unwrap_or(3));
    let mut crowds: Vec<usize> = arguments.map(|threads| threads as usize).collect();
    if crowds.is_empty() {
        crowds = vec![250, 500, 1000];
    }
    let daemon = Daemon::start(Config::new("127.0.0.1:0", 1 << 30)).expect("a server");
    let address = format!("tcp:{}", daemon.tcp_address().expect("it listens"));
    let mem = FarMemory::builder().local_budget(BUDGET).server(address).build().expect("a far memory");
    let boxes: Vec<RemBox<Object>> = (0..OBJECTS).map(|i| RemBox::new_in([i as u64; 512], &mem)).collect();
    measure(&boxes, USUAL, time);
    for threads in crowds {
        let [usual, crowd] = [USUAL, threads].map(|threads| measure(&boxes, threads, time));
        println!(
            "{threads} threads: {:.0} reads/s, {:.2} of the {:.0} reads/s of {USUAL}; longest read {:?}, of {USUAL} {:?}; {} errors",
            crowd.rate,
            crowd.rate / usual.rate,
            usual.rate,
            crowd.longest,
            usual.longest,
            crowd.errors + usual.errors,
        );
    }
}
