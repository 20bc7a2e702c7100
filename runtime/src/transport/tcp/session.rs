//! A session is a connection.
#![forbid(unsafe_code)]

use crate::error::TransportError;
use crate::transport::stream::Connection;
use crate::transport::{Completion, Op, Progress, Session, Submit};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct TcpSession {
    pub(super) connection: Connection<TcpStream>,
}

impl Session for TcpSession {
    fn submit(&mut self, op: Op) -> Submit {
        // Nothing is sent here: all that is submitted before the next poll goes out in one send.
        self.connection.session.submit(op)
    }

    fn poll(&mut self, now: Instant, done: &mut Vec<Completion>) -> Progress {
        self.connection.poll(now, done)
    }

    fn park(&mut self, at_most: Duration) {
        self.connection.park(at_most);
    }

    fn in_flight(&self) -> usize {
        self.connection.session.in_flight()
    }

    fn failure(&self) -> Option<TransportError> {
        self.connection.session.failure().cloned()
    }
}
