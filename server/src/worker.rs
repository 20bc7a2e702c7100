//! One thread's event loop over many connections.
//!
//! It spins for a bounded time after the last byte moved, so that a borrower that misses again and again gets its answers
//! without waking anybody; then it sleeps in epoll, so that a server nobody uses takes no processor. While it spins, it asks
//! the few connections that moved last directly, which spares each answer the call to epoll, and asks epoll, which knows of
//! all the others, every [`EPOLL_EVERY`] turns. Worker 0 also accepts, and hands each connection to the worker that has fewest.

use crate::connection::{Connection, Drive, Over};
use crate::stream::{Listener, Peer, Stream};
use farptr_runtime::wire::{Ending, Lender, ServerSession};
use mio::{Events, Interest, Poll, Token, Waker};
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// Bytes a worker receives at once, for whichever connection. A far segment's write in one go.
const SCRATCH_BYTES: usize = 256 << 10;

/// How often connections are looked at for what they don't do. Handshake and stall timeouts are this exact.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Connections that are asked directly. With more of them busy, epoll is the cheaper way to learn which.
const HOT: usize = 4;

/// While some connections are asked directly, the others wait this many turns at most: about 5 us.
const EPOLL_EVERY: usize = 8;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) lender: Arc<Lender>,
    pub(crate) spin: Duration,
    pub(crate) max_connections: usize,
    pub(crate) stopping: AtomicBool,
    pub(crate) connections: AtomicUsize,
    pub(crate) desks: Vec<Desk>,
}

/// Where a worker can be reached by others.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) waker: Waker,
    inbox: Mutex<Vec<(Stream, Peer)>>,
    load: AtomicUsize,
}

impl Desk {
    /// A desk for the worker that polls `poll`.
    pub(crate) fn new(poll: &Poll) -> io::Result<Self> {
        Ok(Self { waker: Waker::new(poll.registry(), WAKER)?, inbox: Mutex::default(), load: AtomicUsize::new(0) })
    }
}

/// One thread's event loop.
#[derive(Debug)]
pub(crate) struct Worker {
    number: usize,
    poll: Poll,
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Connections that used up their turns.
    unfinished: Vec<usize>,
    /// Connections that moved lately.
    hot: Vec<usize>,
    scratch: Box<[u8]>,
}

impl Worker {
    /// Worker `number`; the one that is given the listeners accepts.
    pub(crate) fn new(number: usize, poll: Poll, shared: Arc<Shared>, mut listeners: Vec<Listener>) -> io::Result<Self> {
        for listener in &mut listeners {
            poll.registry().register(listener, LISTENER, Interest::READABLE)?;
        }
        Ok(Self {
            number,
            poll,
            shared,
            listeners,
            connections: Vec::new(),
            free: Vec::new(),
            unfinished: Vec::new(),
            hot: Vec::with_capacity(HOT),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
        })
    }

    /// Serves until the daemon stops.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut now = Instant::now();
        let mut spin_until = now;
        let mut check_at = now + CHECK_EVERY;
        let mut turn = 0;
        while !self.shared.stopping.load(Ordering::Acquire) {
            let spinning = now < spin_until || !self.unfinished.is_empty();
            if !spinning {
                self.hot.clear();
            }
            let mut moved = false;
            turn += 1;
            if self.hot.is_empty() || turn % EPOLL_EVERY == 0 {
                let patience = if spinning {
                    Some(Duration::ZERO)
                } else if self.free.len() == self.connections.len() && self.listeners.is_empty() {
                    None
                } else {
                    Some(check_at.saturating_duration_since(now))
                };
                moved |= self.wait(&mut events, patience)?;
            } else {
                // From the end: serving may end a connection, and that takes it off the list.
                for place in (0..self.hot.len()).rev() {
                    moved |= self.serve(self.hot[place], false);
                }
            }
            for index in std::mem::take(&mut self.unfinished) {
                moved |= self.serve(index, true);
            }
            now = Instant::now();
            if moved {
                spin_until = now + self.shared.spin;
            } else if spinning {
                // The borrower may wait for this very processor. Without this a round trip on a busy machine takes as long as
                // the spinning does (seen: 215 us instead of 8); with it only after some turns, as much longer as those take.
                std::thread::yield_now();
            }
            if now >= check_at {
                check_at = now + CHECK_EVERY;
                self.check(now);
            }
        }
        for index in 0..self.connections.len() {
            self.close(index, &Over::Ended(Ending::ShuttingDown));
        }
        Ok(())
    }

    /// Asks epoll, and serves whom it names. Whether anything moved.
    fn wait(&mut self, events: &mut Events, patience: Option<Duration>) -> io::Result<bool> {
        match self.poll.poll(events, patience) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let mut moved = 0;
        for event in &*events {
            match event.token() {
                LISTENER => self.accept(),
                WAKER => self.take_in(),
                Token(index) => {
                    if self.serve(index, event.is_read_closed() || event.is_error()) {
                        moved += 1;
                        self.warm(index);
                    }
                }
            }
        }
        if moved > HOT {
            self.hot.clear();
        }
        Ok(moved > 0)
    }

    /// Puts a connection that moved on the list of those that are asked directly, in place of the one longest on it.
    fn warm(&mut self, index: usize) {
        if !self.hot.contains(&index) && self.connections[index].is_some() {
            if self.hot.len() == HOT {
                self.hot.remove(0);
            }
            self.hot.push(index);
        }
    }

    /// Lets a connection do what it can. Whether anything moved.
    fn serve(&mut self, index: usize, to_the_end: bool) -> bool {
        // An event may be about a connection that was closed a moment ago.
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else { return false };
        match connection.drive(&mut self.scratch, to_the_end) {
            Ok(Drive::Idle) => false,
            Ok(Drive::Moved) => true,
            Ok(Drive::More) => {
                if !self.unfinished.contains(&index) {
                    self.unfinished.push(index);
                }
                true
            }
            Err(over) => {
                self.close(index, &over);
                true
            }
        }
    }

    fn check(&mut self, now: Instant) {
        for index in 0..self.connections.len() {
            if let Some(connection) = &mut self.connections[index]
                && let Err(over) = connection.check(now)
            {
                self.close(index, &over);
            }
        }
        // An accept that failed for want of file descriptors is announced by no further event.
        self.accept();
    }

    fn close(&mut self, index: usize, why: &Over) {
        let Some(mut connection) = self.connections[index].take() else { return };
        let (peer, worker) = (connection.peer, self.number);
        if why.is_misbehaviour() {
            warn!(%peer, worker, "connection {why}");
        } else {
            debug!(%peer, worker, "connection {why}");
        }
        // Closing the socket would do; this says so to the registry, whose contract asks for it.
        let _ = self.poll.registry().deregister(&mut connection.stream);
        connection.close(why, &mut self.scratch);
        self.free.push(index);
        self.hot.retain(|hot| *hot != index);
        self.desk().load.fetch_sub(1, Ordering::Relaxed);
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }

    fn accept(&mut self) {
        for index in 0..self.listeners.len() {
            loop {
                match self.listeners[index].accept() {
                    Ok((stream, peer)) => self.receive_guest(stream, peer),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                    Err(error) => {
                        warn!(%error, "can't accept connections now; trying again in a second");
                        break;
                    }
                }
            }
        }
    }

    /// Gives a new connection to the worker that has fewest, or turns it away.
    fn receive_guest(&mut self, mut stream: Stream, peer: Peer) {
        if self.shared.connections.load(Ordering::Relaxed) >= self.shared.max_connections {
            warn!(%peer, limit = self.shared.max_connections, "connection turned away: too many; see --max-connections");
            let _ = stream.write(&ServerSession::refusal(Ending::TooManyConnections));
            return;
        }
        if let Err(error) = stream.set_up() {
            warn!(%peer, %error, "connection turned away: its socket can't be set up");
            return;
        }
        let loads = self.shared.desks.iter().map(|desk| desk.load.load(Ordering::Relaxed));
        let Some((chosen, _)) = loads.enumerate().min_by_key(|(_, load)| *load) else { return };
        let desk = &self.shared.desks[chosen];
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        desk.load.fetch_add(1, Ordering::Relaxed);
        desk.inbox.lock().unwrap_or_else(PoisonError::into_inner).push((stream, peer));
        if chosen == self.number {
            self.take_in();
        } else if let Err(error) = desk.waker.wake() {
            warn!(%error, "a worker can't be woken; its new connection waits");
        }
    }

    /// Takes in the connections that were handed to this worker.
    fn take_in(&mut self) {
        let guests = std::mem::take(&mut *self.desk().inbox.lock().unwrap_or_else(PoisonError::into_inner));
        for (mut stream, peer) in guests {
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let interest = Interest::READABLE | Interest::WRITABLE;
            if let Err(error) = self.poll.registry().register(&mut stream, Token(index), interest) {
                warn!(%peer, %error, "connection turned away: it can't be watched");
                self.free.push(index);
                self.desk().load.fetch_sub(1, Ordering::Relaxed);
                self.shared.connections.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            debug!(%peer, worker = self.number, "connection opened");
            let has_said = stream.has_said();
            self.connections[index] = Some(Connection::new(stream, peer, self.shared.lender.clone(), Instant::now()));
            if has_said {
                self.serve(index, false);
            }
        }
    }

    fn desk(&self) -> &Desk {
        &self.shared.desks[self.number]
    }
}
