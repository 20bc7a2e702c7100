//! One socket and the protocol on it.

use crate::stream::{Peer, Stream};
use farptr_runtime::wire::{Ending, Lender, ServerSession};
use std::fmt;
use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::time::Instant;

/// Turns (receive, answer, send) a connection takes before others get theirs. One turn is at most a scratch buffer of requests.
const TURNS: usize = 8;

/// A connection that a worker serves.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    pub(crate) peer: Peer,
    session: ServerSession,
    /// Received, but not to be answered before some replies are sent. Never more than one scratch buffer.
    held: Vec<u8>,
    /// The peer has sent its last byte.
    peer_done: bool,
}

/// What a drive left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drive {
    /// Nothing moved.
    Idle,
    /// Bytes moved, and the socket has no more to give or take now.
    Moved,
    /// Its turns were used up: there may be more, and no event will say so.
    More,
}

/// Why a connection is over.
#[derive(Debug)]
pub(crate) enum Over {
    /// The peer closed it.
    Closed,
    /// The peer closed it in the middle of something, or the network did.
    Broken(std::io::Error),
    /// This end closes it.
    Ended(Ending),
}

impl Over {
    /// Whether an operator should look at it.
    pub(crate) fn is_misbehaviour(&self) -> bool {
        matches!(self, Over::Ended(ending) if !matches!(ending, Ending::ShuttingDown | Ending::Told))
    }
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Over::Closed => f.write_str("closed by the client"),
            Over::Broken(error) => write!(f, "lost: {error}"),
            Over::Ended(ending) => write!(f, "ended here: {ending}"),
        }
    }
}

impl Connection {
    pub(crate) fn new(stream: Stream, peer: Peer, lender: Arc<Lender>, now: Instant) -> Self {
        let session = stream.session(lender, now);
        Self { stream, peer, session, held: Vec::new(), peer_done: false }
    }

    /// Serves what the socket has and takes. `scratch` is the worker's, to receive into. `to_the_end`: the event said that the
    /// peer has closed, so a short receive is not the last.
    pub(crate) fn drive(&mut self, scratch: &mut [u8], to_the_end: bool) -> Result<Drive, Over> {
        let mut moved = self.send()?;
        for _ in 0..TURNS {
            if !self.held.is_empty() {
                // Output was blocked; as much as has become unblocked is answered before anything new is read.
                let consumed = self.session.handle_input(&self.held).map_err(Over::Ended)?;
                self.held.drain(..consumed);
                moved |= self.send()?;
                if consumed == 0 {
                    return Ok(if moved { Drive::Moved } else { Drive::Idle });
                }
                continue;
            }
            if self.session.is_blocked() {
                return Ok(if moved { Drive::Moved } else { Drive::Idle });
            }
            if self.peer_done {
                return Err(Over::Closed);
            }
            let len = match self.stream.read(scratch) {
                Ok(0) => {
                    self.peer_done = true;
                    continue;
                }
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(if moved { Drive::Moved } else { Drive::Idle }),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Over::Broken(error)),
            };
            moved = true;
            let mut answered = 0;
            while answered < len {
                let consumed = self.session.handle_input(&scratch[answered..len]).map_err(Over::Ended)?;
                answered += consumed;
                self.send()?;
                if answered < len && self.session.is_blocked() {
                    self.held.extend_from_slice(&scratch[answered..len]);
                    break;
                }
            }
            // A receive that leaves room has emptied the socket (epoll(7)), unless the peer has closed.
            if len < scratch.len() && self.held.is_empty() && !to_the_end {
                return Ok(Drive::Moved);
            }
        }
        Ok(Drive::More)
    }

    /// Lets time pass.
    pub(crate) fn check(&mut self, now: Instant) -> Result<(), Over> {
        if self.held.is_empty() && self.held.capacity() > 0 {
            self.held = Vec::new();
        }
        self.stream.keep_alive(now).map_err(Over::Broken)?;
        self.session.check(now).map_err(Over::Ended)
    }

    /// Closes, and tells the peer why as far as the socket takes it at once.
    pub(crate) fn close(mut self, why: &Over, scratch: &mut [u8]) {
        if let Over::Ended(ending) = why {
            self.session.end(*ending);
            let _ = self.send();
            self.stream.shut_down();
            // Closing with input unread resets the connection, and the peer would lose the reason.
            for _ in 0..TURNS {
                if !matches!(self.stream.read(scratch), Ok(len) if len > 0) {
                    break;
                }
            }
        }
    }

    fn send(&mut self) -> Result<bool, Over> {
        let mut moved = false;
        while !self.session.output().is_empty() {
            match self.stream.send(&self.session) {
                Ok(len) => {
                    moved = true;
                    self.session.output_sent(len);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Over::Broken(error)),
            }
        }
        Ok(moved)
    }
}
