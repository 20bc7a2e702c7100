//! One socket and the protocol on it.
#![forbid(unsafe_code)]

use super::{Limits, Socket, Until};
use crate::error::TransportError;
use crate::transport::{Completion, Progress};
use crate::wire::frame::{Intent, Terms};
use crate::wire::{ClientSession, ControlDone, ControlVerb};
use std::fs::File;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// Bytes taken from the kernel at once. 64 replies of 4 KiB: one call for all that a busy session has in flight. Pages that
/// small replies never reach cost no memory.
const RECEIVE_BYTES: usize = 320 << 10;

/// Receives per `poll`, so that one call can't be kept busy for ever by a fast server.
const RECEIVES_PER_POLL: usize = 4;

/// How long a control operation spins before it sleeps. Control is rare; this covers the round trip on a quiet loopback.
const CONTROL_SPIN: Duration = Duration::from_micros(20);

/// One connection to a server, past its handshake.
#[derive(Debug)]
pub(in crate::transport) struct Connection<S> {
    socket: S,
    pub(in crate::transport) session: ClientSession,
    received: Box<[u8]>,
    files: Vec<File>,
}

impl<S: Socket> Connection<S> {
    /// Goes through the handshake on a socket that has just been connected.
    pub(in crate::transport) fn open(socket: S, intent: Intent, limits: Limits) -> Result<(Self, Terms), TransportError> {
        let late = || TransportError::Timeout { what: "the handshake", after: limits.connect_timeout };
        let mut connection = Self {
            socket,
            session: ClientSession::new(intent, limits.in_flight, limits.op_timeout),
            received: vec![0; RECEIVE_BYTES].into_boxed_slice(),
            files: Vec::new(),
        };
        loop {
            let now = Instant::now();
            let _ = connection.poll(now, &mut Vec::new());
            if let Some(failure) = connection.session.failure() {
                return Err(failure.clone());
            }
            if let Some(terms) = connection.session.terms() {
                return Ok((connection, terms));
            }
            if now >= limits.connect_by {
                return Err(late());
            }
            connection.park(limits.connect_by - now);
        }
    }

    /// The socket, for who only wants to keep it open.
    pub(in crate::transport) fn into_socket(self) -> S {
        self.socket
    }

    /// Sends and receives what can be without blocking.
    pub(in crate::transport) fn poll(&mut self, now: Instant, done: &mut Vec<Completion>) -> Progress {
        let before = done.len();
        self.session.advance(now, done);
        let mut moved = self.send(done);
        for _ in 0..RECEIVES_PER_POLL {
            if self.session.failure().is_some() {
                break;
            }
            match self.socket.receive(&mut self.received, &mut self.files) {
                Ok(0) => self.session.fail(TransportError::Lost("the server closed it".into()), done),
                Ok(len) => {
                    moved = true;
                    self.files.drain(..).for_each(|file| self.session.receive_file(file));
                    self.session.handle_input(&self.received[..len], done);
                    // Less than there was room for: the kernel has no more, or stopped behind a file. It is asked again at the next poll.
                    if len < self.received.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.session.fail(TransportError::Lost(error.to_string()), done),
            }
        }
        if moved || done.len() > before { Progress::Moved } else { Progress::Idle }
    }

    /// Sleeps until there may be something to poll.
    pub(in crate::transport) fn park(&mut self, at_most: Duration) {
        if self.session.is_ready() {
            return;
        }
        self.session.trim();
        let until = if self.session.output().is_empty() { Until::Readable } else { Until::ReadableOrWritable };
        self.socket.wait(until, at_most);
    }

    /// Asks for a slab, or returns one, and waits for the answer until `deadline`.
    pub(in crate::transport) fn control(&mut self, verb: ControlVerb, deadline: Instant) -> Result<ControlDone, TransportError> {
        if !self.session.request(verb) {
            let busy = || TransportError::Timeout { what: "earlier requests for slabs", after: Duration::ZERO };
            return Err(self.session.failure().cloned().unwrap_or_else(busy));
        }
        let started = Instant::now();
        let mut none = Vec::new();
        loop {
            let now = Instant::now();
            let _ = self.poll(now, &mut none);
            if let Some(done) = self.session.take_control() {
                return Ok(done);
            }
            if now >= deadline {
                self.session.abandon_control();
                return Err(TransportError::Timeout { what: "a request about slabs", after: now - started });
            }
            if now - started < CONTROL_SPIN {
                std::hint::spin_loop();
            } else {
                self.park(deadline - now);
            }
        }
    }

    fn send(&mut self, done: &mut Vec<Completion>) -> bool {
        let mut moved = false;
        while !self.session.output().is_empty() {
            match self.socket.send(self.session.output()) {
                Ok(len) => {
                    moved = true;
                    self.session.output_sent(len);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    // What the server said before it closed tells more than this error does; receiving finds both.
                    if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) {
                        break;
                    }
                    self.session.fail(TransportError::Lost(error.to_string()), done);
                }
            }
        }
        moved
    }
}
