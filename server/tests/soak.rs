//! Random operations of several borrowers with several threads each, compared with a plain model.
//!
//! Every thread owns some slabs and knows what is in them. It reads, writes, returns and borrows at random, with many
//! operations in flight, while all the others do the same at the same server. `FARPTR_SOAK_SECONDS` makes it longer than the 2
//! seconds it takes by itself.
#![forbid(unsafe_code)]

use farptr_runtime::transport::tcp::{TcpConfig, TcpTransport};
use farptr_runtime::transport::{IoBuf, Op, Progress, Session, SlabId, SlabPos, Submit, Token, Transport, Verb};
use farptr_server::{Config, Daemon};
use std::time::{Duration, Instant};

const SLAB: usize = 256 << 10;
const BORROWERS: usize = 3;
const THREADS: usize = 2;
const SLABS: usize = 3;
const SEED: u64 = 0x5eed_f00d_0bad_cafe;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % bound
    }
}

/// A slab and what must be in it.
struct Mine {
    slab: SlabId,
    model: Vec<u8>,
}

fn borrow(transport: &dyn Transport) -> Mine {
    Mine { slab: transport.borrow_slab().expect("slab"), model: vec![0; SLAB] }
}

/// One batch: operations on ranges that don't overlap, all in flight together. Returns how many.
fn batch(session: &mut dyn Session, mine: &mut [Mine], random: &mut Random) -> usize {
    let mut asked = Vec::new();
    for one in mine.iter_mut() {
        let mut offset = random.below(2000);
        while offset < SLAB {
            let longest = if random.below(20) == 0 { SLAB } else { 6000 };
            let len = 1 + random.below(longest.min(SLAB - offset));
            let at = SlabPos { slab: one.slab, offset: offset as u32 };
            let (verb, bytes) = if random.below(2) == 0 {
                let fill = random.below(256) as u8;
                let bytes: Vec<u8> = (0..len).map(|i| fill.wrapping_add((i * 11) as u8)).collect();
                one.model[offset..offset + len].copy_from_slice(&bytes);
                (Verb::Write, bytes)
            } else {
                (Verb::Read, vec![0xdd; len])
            };
            let expected = (verb == Verb::Read).then(|| one.model[offset..offset + len].to_vec());
            asked.push((Op { token: Token(0), verb, at, buf: IoBuf::from(bytes) }, expected));
            offset += len + random.below(9000);
        }
    }
    let total = asked.len();
    let mut expected = Vec::with_capacity(total);
    let (mut done, mut completed) = (Vec::new(), 0);
    let mut queue: Vec<Op> = Vec::with_capacity(total);
    for (number, (mut op, bytes)) in asked.into_iter().enumerate() {
        op.token = Token(number as u64);
        expected.push(bytes);
        queue.push(op);
    }
    while completed < total {
        while let Some(op) = queue.pop() {
            match session.submit(op) {
                Submit::Accepted => {}
                Submit::Busy(op) => {
                    queue.push(op);
                    break;
                }
                Submit::Failed(_, error) => panic!("{error}"),
            }
        }
        if session.poll(Instant::now(), &mut done) == Progress::Idle {
            session.park(Duration::from_millis(10));
        }
        for done in done.drain(..) {
            assert_eq!(done.result, Ok(()));
            if let Some(bytes) = &expected[done.token.0 as usize] {
                assert!(done.buf.as_slice() == &bytes[..], "a read of {} bytes differs from the model", bytes.len());
            }
            completed += 1;
        }
    }
    total
}

#[test]
fn random_operations_of_many_borrowers_agree_with_a_model() {
    let seconds = std::env::var("FARPTR_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let slabs = BORROWERS * THREADS * SLABS;
    let config = Config::new("127.0.0.1:0", (slabs * SLAB) as u64);
    let daemon = Daemon::start(Config { slab_bytes: SLAB as u32, threads: Some(2), ..config }).expect("daemon");
    let transports: Vec<_> = (0..BORROWERS)
        .map(|_| TcpTransport::connect(TcpConfig::new(daemon.tcp_address().expect("it listens").to_string())).expect("connect"))
        .collect();
    let until = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        for (borrower, transport) in transports.iter().enumerate() {
            for thread in 0..THREADS {
                let seed = SEED ^ ((borrower * THREADS + thread) as u64) << 32;
                scope.spawn(move || {
                    eprintln!("seed {seed:#x}");
                    let mut random = Random(seed);
                    let mut session = transport.open_session().expect("session");
                    let mut mine: Vec<_> = (0..SLABS).map(|_| borrow(transport)).collect();
                    let mut count = 0;
                    while Instant::now() < until {
                        count += batch(&mut *session, &mut mine, &mut random);
                        match random.below(20) {
                            0 => {
                                let place = random.below(SLABS);
                                transport.return_slab(mine[place].slab).expect("return");
                                mine[place] = borrow(transport);
                            }
                            1 => session = transport.open_session().expect("session"),
                            _ => {}
                        }
                    }
                    assert!(count > 0);
                });
            }
        }
    });
    assert_eq!(daemon.lent_bytes(), (slabs * SLAB) as u64);
    drop(transports);
    let start = Instant::now();
    while daemon.lent_bytes() > 0 || daemon.connections() > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "slabs or connections outlive their borrowers");
        std::thread::sleep(Duration::from_millis(5));
    }
}
