//! Sessions on memory that is mapped in this process: what they are asked is done at once, and reported at the next poll.
#![forbid(unsafe_code)]

use super::{Completion, ImmediateAccess, MAX_OP_BYTES, Op, Progress, Session, Submit, Verb};
use crate::error::TransportError;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Completed operations a session keeps before it says [`Submit::Busy`].
const MAX_DONE: usize = 1024;

/// Does at once what it is asked, and keeps the completions until they are polled for.
pub(super) struct ImmediateSession<M> {
    memory: Arc<M>,
    done: Vec<Completion>,
    failure: Option<TransportError>,
}

impl<M: ImmediateAccess> ImmediateSession<M> {
    pub(super) fn new(memory: Arc<M>) -> Self {
        Self { memory, done: Vec::new(), failure: None }
    }
}

impl<M: ImmediateAccess + Send> Session for ImmediateSession<M> {
    fn submit(&mut self, op: Op) -> Submit {
        if let Some(failure) = &self.failure {
            return Submit::Failed(op, failure.clone());
        }
        if self.done.len() >= MAX_DONE {
            return Submit::Busy(op);
        }
        let Op { token, verb, at, mut buf } = op;
        let result = if buf.is_empty() || buf.len() > MAX_OP_BYTES {
            Err(super::bad_length(buf.len()))
        } else {
            let moved = match verb {
                Verb::Read => self.memory.read_at(at, buf.as_mut_slice()),
                Verb::Write => self.memory.write_at(at, buf.as_slice()),
            };
            // A slab or range that isn't the borrower's ends the session, as it does with a server elsewhere.
            moved.map_err(|error| self.failure.insert(error).clone())
        };
        self.done.push(Completion { token, verb, buf, result });
        Submit::Accepted
    }

    fn poll(&mut self, _now: Instant, done: &mut Vec<Completion>) -> Progress {
        if self.done.is_empty() {
            return Progress::Idle;
        }
        done.append(&mut self.done);
        Progress::Moved
    }

    fn park(&mut self, _at_most: Duration) {
        // Nothing here ever waits: either completions are ready or there is nothing to wait for.
    }

    fn in_flight(&self) -> usize {
        self.done.len()
    }

    fn failure(&self) -> Option<TransportError> {
        self.failure.clone()
    }
}
