//! A session: one-sided reads and writes on a connection of its own.
#![forbid(unsafe_code)]

use super::keys::Keys;
use super::local::Registered;
use super::socket::{RdmaSocket, lost};
use super::verbs::{Broken, Event, NotAdded, Transfer};
use crate::error::TransportError;
use crate::transport::{Completion, MAX_OP_BYTES, Op, Progress, Session, SlabId, Submit, bad_length};
use crate::wire::SlabUses;
use crate::wire::client::ending_error;
use crate::wire::frame::{REPLY_BYTES, Reply, decode_reply};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a session that waits looks whether the connection manager has news. The news is that the other end is gone, and costs a system call to ask for.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What the sessions of a borrower share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) keys: Keys,
    pub(super) uses: SlabUses,
    pub(super) local: Arc<Registered>,
}

/// One-sided reads and writes.
pub(super) struct RdmaSession {
    socket: RdmaSocket,
    shared: Arc<Shared>,
    timeout: Duration,
    in_flight: usize,
    /// Ended, and not asked for yet.
    ready: Vec<Completion>,
    failure: Option<TransportError>,
    looked: Option<Instant>,
}

impl RdmaSession {
    pub(super) fn new(socket: RdmaSocket, shared: Arc<Shared>, timeout: Duration, in_flight: u16) -> Self {
        let in_flight = in_flight.into();
        Self { socket, shared, timeout, in_flight, ready: Vec::new(), failure: None, looked: None }
    }

    /// Takes what is done.
    fn pump(&mut self) -> Result<usize, Broken> {
        let Self { socket, shared, ready, .. } = self;
        socket.link.pump(|transfer| ready.push(ended(shared, transfer, Ok(()))))
    }

    /// The session is over: all that is in flight ends with `error`.
    #[cold]
    fn fail(&mut self, error: TransportError) {
        let left: Vec<_> = self.socket.link.end().collect();
        self.ready.extend(left.into_iter().map(|transfer| ended(&self.shared, transfer, Err(error.clone()))));
        self.failure.get_or_insert(error);
    }

    #[cold]
    fn fail_broken(&mut self, broken: &Broken) {
        let slab = self.socket.link.front().map(|transfer| transfer.slab);
        // A server that says why it ends the connection has said so before.
        let error = match (self.farewell(), broken, slab) {
            (Some(ending), ..) => ending,
            (None, Broken::Denied(name), Some(SlabId(slab))) => {
                TransportError::Refused(format!("the server's RDMA device refused access to slab {slab} ({name})"))
            }
            _ => TransportError::Lost(lost(broken)),
        };
        self.fail(error);
    }

    /// Why the server ended the connection, if it said so.
    fn farewell(&mut self) -> Option<TransportError> {
        let mut frame = [0; REPLY_BYTES];
        if self.socket.link.take(&mut frame) == 0 {
            return None;
        }
        Some(match decode_reply(&frame) {
            Some((_, Reply::End(code))) => ending_error(code.into(), crate::wire::VERSION),
            _ => TransportError::Protocol("it answered what nobody had asked".into()),
        })
    }

    /// Looks for bad news.
    fn look(&mut self, now: Instant) {
        self.looked = Some(now);
        match self.socket.link.next_event() {
            Ok(Some(Event::Disconnected)) => self.fail_broken(&Broken::Ended),
            Ok(_) => {
                if let Some(ending) = self.farewell() {
                    self.fail(ending);
                }
            }
            Err(error) => self.fail(TransportError::System(error.to_string())),
        }
    }
}

/// A transfer has ended: its slab may be returned as far as it is concerned.
fn ended(shared: &Shared, transfer: Transfer, result: Result<(), TransportError>) -> Completion {
    let Transfer { token, verb, slab, buf } = transfer;
    if shared.uses.leave(slab) {
        shared.uses.leave_return_to_others(slab);
    }
    Completion { token, verb, buf, result }
}

impl Session for RdmaSession {
    fn submit(&mut self, op: Op) -> Submit {
        if let Some(failure) = &self.failure {
            return Submit::Failed(op, failure.clone());
        }
        if self.in_flight() >= self.in_flight {
            return Submit::Busy(op);
        }
        let Op { token, verb, at, mut buf } = op;
        let len = buf.len();
        if len == 0 || len > MAX_OP_BYTES {
            self.ready.push(Completion { token, verb, buf, result: Err(bad_length(len)) });
            return Submit::Accepted;
        }
        // Counted in before the key is looked up, so that the slab is not returned in between.
        if !self.shared.uses.enter(at.slab) {
            let gone = TransportError::Refused(format!("slab {} has been returned", at.slab.0));
            self.ready.push(Completion { token, verb, buf, result: Err(gone) });
            return Submit::Accepted;
        }
        let local_key = self.shared.local.key(buf.as_mut_slice().as_ptr().addr(), len);
        let transfer = Transfer { token, verb, slab: at.slab, buf };
        match self.shared.keys.find(at, len) {
            Err(error) => {
                // A slab or range that isn't the borrower's ends the session, as it does where the server checks it.
                self.ready.push(ended(&self.shared, transfer, Err(error.clone())));
                self.fail(error);
            }
            Ok(remote) => match self.socket.link.add(transfer, remote, local_key) {
                Ok(()) => {}
                Err(NotAdded::Busy(transfer)) => {
                    let Completion { token, verb, buf, .. } = ended(&self.shared, transfer, Ok(()));
                    return Submit::Busy(Op { token, verb, at, buf });
                }
                Err(NotAdded::Failed(transfer, error)) => {
                    let error = TransportError::System(error.to_string());
                    self.ready.push(ended(&self.shared, transfer, Err(error.clone())));
                    self.fail(error);
                }
            },
        }
        Submit::Accepted
    }

    fn poll(&mut self, now: Instant, done: &mut Vec<Completion>) -> Progress {
        if self.failure.is_none() {
            if let Err(error) = self.socket.link.post(now + self.timeout) {
                self.fail(TransportError::System(error.to_string()));
            } else if let Err(broken) = self.pump() {
                self.fail_broken(&broken);
            } else if self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK_EVERY) {
                self.look(now);
            }
            if self.failure.is_none() && self.socket.link.deadline().is_some_and(|deadline| deadline <= now) {
                // The device may still be about to move the bytes, and can't be told to leave one request alone.
                self.fail(TransportError::Timeout { what: "a read or write", after: self.timeout });
            }
        }
        if self.ready.is_empty() {
            return Progress::Idle;
        }
        done.append(&mut self.ready);
        Progress::Moved
    }

    fn park(&mut self, at_most: Duration) {
        if self.failure.is_some() || !self.ready.is_empty() {
            return;
        }
        let looked = match self.socket.link.arm() {
            // What comes between the look and the sleep makes the file readable.
            Ok(()) => self.pump(),
            Err(error) => Err(Broken::Other(error.to_string())),
        };
        match looked {
            Ok(0) => self.socket.link.sleep(at_most),
            Ok(_) => {}
            Err(broken) => self.fail_broken(&broken),
        }
        // It slept long enough, or was woken by an event.
        self.looked = None;
    }

    fn in_flight(&self) -> usize {
        self.socket.link.in_flight() + self.ready.len()
    }

    fn failure(&self) -> Option<TransportError> {
        self.failure.clone()
    }
}

impl Drop for RdmaSession {
    fn drop(&mut self) {
        let left: Vec<_> = self.socket.link.end().collect();
        for transfer in left {
            drop(ended(&self.shared, transfer, Err(TransportError::Lost("the session was given up".into()))));
        }
    }
}
