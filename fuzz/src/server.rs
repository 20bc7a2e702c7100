//! A server and its clients, some of which mean ill: what they send, in which pieces, when, and how much they read.
//!
//! The model reads the same bytes by the table of frames, as plainly as can be, and knows of each slab who has it and what is in it. Every byte the
//! server says must be the one the model expects; only the token of a new borrower and the number of a slab that it lends are the server's
//! choice, and must be new and free. Some of the connections pass keys: those must be the ones that the exporter made, which also fails now and then, and a slab must be
//! exported for as long as it is lent so, and no longer. Also: a slab that is lent is zeroed; output is bounded; a session that ended says
//! nothing more; when all connections have gone nothing is lent.
#![forbid(unsafe_code)]

mod export;
mod model;

use crate::input::{self, Length};
use arbitrary::{Arbitrary, Unstructured};
use export::Exporter;
use farptr_runtime::slab::{STRIPE_BYTES, SlabStore, SlabStoreConfig, Supply};
use farptr_runtime::transport::{MAX_OP_BYTES, SlabId, SlabPos};
use farptr_runtime::wire::server::{HANDSHAKE_TIMEOUT, OUTPUT_LIMIT, STALL_TIMEOUT};
use farptr_runtime::wire::{Ending, Lender, MAGIC, ServerSession, VERSION, Ways};
use model::{Expects, Model, View};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Slabs of the lender: few, so that they are fought over.
const SLABS: u32 = 3;
/// Connections at a time.
const CONNECTIONS: usize = 4;
/// Where the lender says that it can be reached.
const PATH: &str = "/run/farmemd";
const RDMA: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 7471);
/// Operations of one input.
const MOST_OPS: usize = 256;

#[derive(Debug, Arbitrary)]
enum Op {
    /// A new connection takes the place of an old one.
    Open {
        conn: u8,
        hello: Greeting,
    },
    Close {
        conn: u8,
    },
    /// A request, whole or but for its last bytes, which follow with the next.
    Ask {
        conn: u8,
        ask: Ask,
        held: u8,
    },
    Raw {
        conn: u8,
        bytes: [u8; 6],
    },
    /// The client reads.
    Drain {
        conn: u8,
        most: Length,
    },
    /// Time passes, and the server looks at the clock.
    Pass {
        tenths: u16,
    },
    Scrub,
}

#[derive(Debug, Arbitrary)]
enum Greeting {
    Silent,
    New,
    Join { conn: u8 },
    JoinBy([u8; 2]),
}

#[derive(Debug, Arbitrary)]
enum Ask {
    Borrow,
    Return {
        slab: u8,
    },
    Read {
        slab: u8,
        offset: Length,
        len: Length,
    },
    Write {
        slab: u8,
        offset: Length,
        len: Length,
        seed: u8,
    },
    /// A hello, where none is due.
    Hello,
}

/// One connection, as both ends see it.
struct Connection {
    session: ServerSession,
    /// What the client has sent and the server has not taken.
    unread: Vec<u8>,
    view: View,
    opened: Instant,
    /// When unsent output was first seen since some was taken.
    stalled: Option<Instant>,
}

struct World {
    lender: Arc<Lender>,
    exporter: Arc<Exporter>,
    /// The connections that pass keys, a bit for each.
    keyed: u8,
    model: Model,
    connections: [Option<Connection>; CONNECTIONS],
    now: Instant,
}

/// Runs the target on one input.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let flags: u8 = input.arbitrary().unwrap_or(0);
    let slab_bytes = if flags & 1 == 0 { STRIPE_BYTES } else { 2 * STRIPE_BYTES } as u32;
    let supply = if flags & 2 == 0 { Supply::OnDemand } else { Supply::Upfront };
    // A rest that holds no slab is not lent.
    let capacity = u64::from(slab_bytes) * u64::from(SLABS) + u64::from(flags);
    let store = SlabStore::new(SlabStoreConfig { capacity, slab_bytes, supply }).expect("a store of three slabs");
    // Where the lender can be reached is told to who asks.
    let ways = Ways::new(Some(PATH.as_ref()), Some(RDMA));
    let exporter = Arc::new(Exporter::new(flags >> 6 == 3));
    let mut world = World {
        lender: Lender::offering(store, ways),
        model: Model::new(SLABS, slab_bytes, Arc::clone(&exporter)),
        exporter,
        keyed: flags >> 2,
        connections: [const { None }; CONNECTIONS],
        now: Instant::now(),
    };
    input::each(&mut input, MOST_OPS, |op| {
        world.carry_out(op);
        world.compare();
    });
    world.compare_slabs();
    for conn in 0..CONNECTIONS {
        world.close(conn);
        world.compare();
    }
    assert_eq!((world.lender.store().lent_bytes(), world.lender.borrowers()), (0, 0));
}

impl World {
    fn carry_out(&mut self, op: Op) {
        match op {
            Op::Open { conn, hello } => {
                let conn = usize::from(conn) % CONNECTIONS;
                let hello = self.hello(&hello);
                self.close(conn);
                let keyed = self.keyed >> conn & 1 != 0;
                let session = if keyed {
                    let exporter = Arc::clone(&self.exporter);
                    ServerSession::passing_keys(self.lender.clone(), self.now, exporter)
                } else {
                    ServerSession::new(self.lender.clone(), self.now)
                };
                let connection = Connection { session, unread: hello, view: View::new(keyed), opened: self.now, stalled: None };
                self.connections[conn] = Some(connection);
                self.deliver(conn, 0);
            }
            Op::Close { conn } => self.close(usize::from(conn) % CONNECTIONS),
            Op::Ask { conn, ask, held } => {
                let conn = usize::from(conn) % CONNECTIONS;
                if let Some(connection) = &mut self.connections[conn] {
                    let tag = connection.unread.len() as u32 ^ u32::from(held) << 24;
                    connection.unread.extend(request(&ask, tag));
                    self.deliver(conn, usize::from(held.saturating_sub(128)));
                }
            }
            Op::Raw { conn, bytes } => {
                let conn = usize::from(conn) % CONNECTIONS;
                if let Some(connection) = &mut self.connections[conn] {
                    connection.unread.extend(bytes);
                    self.deliver(conn, 0);
                }
            }
            Op::Drain { conn, most } => {
                let conn = usize::from(conn) % CONNECTIONS;
                if let Some(connection) = &mut self.connections[conn] {
                    let len = (most.get() as usize).min(connection.session.output().len());
                    connection.session.output_sent(len);
                    if len > 0 {
                        connection.stalled = None;
                    }
                    self.deliver(conn, 0);
                }
            }
            Op::Pass { tenths } => {
                self.now += Duration::from_millis(u64::from(tenths) * 100);
                (0..CONNECTIONS).for_each(|conn| self.check(conn));
            }
            Op::Scrub => {
                self.lender.store().scrub_one();
            }
        }
    }

    fn hello(&self, hello: &Greeting) -> Vec<u8> {
        let (intent, token) = match hello {
            Greeting::Silent => return Vec::new(),
            Greeting::New => (0, [0; 16]),
            Greeting::Join { conn } => {
                let other = self.connections[usize::from(*conn) % CONNECTIONS].as_ref();
                (1, other.and_then(|other| self.model.token(&other.view)).unwrap_or([7; 16]))
            }
            Greeting::JoinBy([intent, byte]) => (u32::from(*intent), [*byte; 16]),
        };
        [&MAGIC[..], &VERSION.to_le_bytes(), &u32::to_le_bytes(intent), &token].concat()
    }

    /// Gives a session what its client has sent, but for `held` bytes.
    fn deliver(&mut self, conn: usize, held: usize) {
        let Some(connection) = &mut self.connections[conn] else { return };
        let Connection { session, unread, view, .. } = connection;
        let input = &unread[..unread.len().saturating_sub(held)];
        if input.is_empty() {
            return;
        }
        let before = session.output().len();
        let went = session.handle_input(input);
        let mut said = &session.output()[before..];
        if let Expects::Nothing(ending) = view.expects {
            assert_eq!((went, said), (Err(ending), &[][..]), "a session that has ended says nothing more");
            unread.clear();
            return;
        }
        match went {
            Ok(consumed) => {
                assert!(consumed == input.len() || session.is_blocked(), "input is left for no reason");
                let modelled = self.model.hear(view, &input[..consumed], &mut said);
                assert_eq!(modelled, Ok(()), "the session should have ended");
                unread.drain(..consumed);
            }
            Err(ending) => {
                assert_eq!(self.model.hear(view, input, &mut said), Err(ending));
                assert!(ending != Ending::Told || !view.keyed);
                end_frame(view, ending, &mut said);
                view.expects = Expects::Nothing(ending);
                unread.clear();
            }
        }
        assert_eq!(said, [], "more was said than asked for");
        assert!(session.output().len() < OUTPUT_LIMIT + MAX_OP_BYTES + 64, "output is bounded");
    }

    /// Lets the session look at the clock.
    fn check(&mut self, conn: usize) {
        let Some(Connection { session, view, opened, stalled, .. }) = &mut self.connections[conn] else { return };
        let before = session.output().len();
        let went = session.check(self.now);
        let mut said = &session.output()[before..];
        if matches!(view.expects, Expects::Nothing(_)) {
            assert_eq!(said, [], "a session that has ended says nothing more");
            return;
        }
        let expected = if view.borrower.is_none() {
            (self.now - *opened >= HANDSHAKE_TIMEOUT).then_some(Ending::HandshakeTimeout)
        } else if before == 0 {
            *stalled = None;
            None
        } else {
            let since = *stalled.get_or_insert(self.now);
            (self.now - since >= STALL_TIMEOUT).then_some(Ending::Stalled)
        };
        assert_eq!(went.err(), expected);
        if let Some(ending) = expected {
            end_frame(view, ending, &mut said);
            view.expects = Expects::Nothing(ending);
        }
        assert_eq!(said, []);
    }

    /// Every byte that a client could read, whether it asked for it or not.
    fn compare_slabs(&self) {
        let store = self.lender.store();
        let mut content = vec![0; store.slab_bytes() as usize];
        for Connection { session, view, .. } in self.connections.iter().flatten() {
            let Some(who) = session.borrower() else { continue };
            for (slab, expected) in self.model.slabs_of(view) {
                store.read(who, SlabPos { slab: SlabId(slab), offset: 0 }, &mut content).expect("a slab that is lent");
                let same = if expected.is_empty() { content.iter().all(|byte| *byte == 0) } else { content == expected };
                assert!(same, "slab {slab} holds other bytes than were written since it was lent");
            }
        }
    }

    fn close(&mut self, conn: usize) {
        if let Some(Connection { session, view, .. }) = self.connections[conn].take() {
            drop(session);
            self.model.leave(view);
        }
    }

    fn compare(&self) {
        let store = self.lender.store();
        assert_eq!((store.lent_bytes(), self.lender.borrowers()), (self.model.lent_bytes(), self.model.borrowers()));
        assert!(store.lent_bytes() <= store.capacity());
        assert_eq!(self.exporter.exported(), self.model.exported(), "a slab is exported for as long as it is lent so");
        for Connection { session, view, .. } in self.connections.iter().flatten() {
            assert_eq!(session.borrower().is_some(), view.borrower.is_some());
        }
    }
}

/// Takes the frame off `said` with which a session ends: in the shape of a welcome before the client has been let in, as a reply after.
fn end_frame(view: &View, ending: Ending, said: &mut &[u8]) {
    let code = ending.code();
    let expected = if view.borrower.is_some() {
        vec![0xff, code, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    } else if ending == Ending::Told {
        told(said)
    } else {
        [&MAGIC[..], &VERSION.to_le_bytes(), &u32::from(code).to_le_bytes(), &[0; 32]].concat()
    };
    model::expect(said, &expected);
}

/// The offers: who the server is is for it to say, if it says so each time; see [`Lender::offers`].
fn told(said: &[u8]) -> Vec<u8> {
    let identity = &said[16..32];
    assert_ne!(identity, [0; 16], "an identity is random");
    let address = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 1]].concat();
    let mut expected = [&MAGIC[..], &VERSION.to_le_bytes(), &14u32.to_le_bytes(), identity, &address].concat();
    expected.extend(7471u16.to_le_bytes());
    expected.extend((PATH.len() as u16).to_le_bytes());
    expected.extend(PATH.as_bytes());
    expected.resize(160, 0);
    expected
}

/// A request as the table of frames has it, with its payload.
fn request(ask: &Ask, tag: u32) -> Vec<u8> {
    let (kind, slab, offset, len, seed) = match *ask {
        Ask::Borrow => (3, 0, 0, 0, 0),
        Ask::Return { slab } => (4, slab, 0, 0, 0),
        Ask::Read { slab, offset, len } => (1, slab, offset.get(), len.get(), 0),
        Ask::Write { slab, offset, len, seed } => (2, slab, offset.get(), len.get(), seed),
        Ask::Hello => return [&MAGIC[..], &[0; 24]].concat(),
    };
    // One slab more than there are, so that some are nobody's.
    let slab = u32::from(slab) % (SLABS + 1);
    let mut bytes: Vec<u8> = [kind, tag, slab, offset, len].into_iter().flat_map(u32::to_le_bytes).collect();
    if kind == 2 {
        // What can't be taken would end the session at its head; nobody need make up gigabytes for that.
        bytes.extend(input::bytes(seed.into(), (len as usize).min(MAX_OP_BYTES + 1)));
    }
    bytes
}
