//! How long servers are waited for.
#![forbid(unsafe_code)]

use crate::error::TransportError;
use crate::wire::client::LONGEST_TIMEOUT;
use std::time::{Duration, Instant};

/// How long a transport waits for its server, and how many operations it has in flight with it. None of the three is 0.
#[derive(Debug, Clone, Copy)]
pub(in crate::transport) struct Patience {
    connect: Duration,
    op: Duration,
    in_flight: u16,
}

impl Patience {
    /// As a configuration says. What is longer than any program runs is cut, so that it can be added to a time.
    pub(in crate::transport) fn new(connect: Duration, op: Duration, in_flight: u16) -> Result<Self, TransportError> {
        if in_flight == 0 || op.is_zero() || connect.is_zero() {
            return Err(TransportError::System("timeouts and the number in flight must not be 0".into()));
        }
        Ok(Self { connect: connect.min(LONGEST_TIMEOUT), op: op.min(LONGEST_TIMEOUT), in_flight })
    }

    /// The same with another number in flight.
    pub(in crate::transport) fn with_in_flight(self, in_flight: u16) -> Self {
        debug_assert!(in_flight > 0);
        Self { in_flight, ..self }
    }

    /// How many operations are in flight at most.
    #[cfg(feature = "rdma")]
    pub(in crate::transport) fn in_flight(self) -> u16 {
        self.in_flight
    }

    /// By when a connection must be there that is begun now.
    pub(in crate::transport) fn connect_by(self) -> Instant {
        Instant::now() + self.connect
    }

    /// How long one operation may take.
    pub(in crate::transport) fn op(self) -> Duration {
        self.op
    }

    /// Limits of a connection that must be there by `by`, and at the latest when its own time is over.
    pub(in crate::transport) fn limits(self, by: Instant) -> Limits {
        let Self { connect, op, in_flight } = self;
        Limits { op_timeout: op, in_flight, connect_by: by.min(self.connect_by()), connect_timeout: connect }
    }
}

/// What one connection must keep to.
#[derive(Debug, Clone, Copy)]
pub(in crate::transport) struct Limits {
    pub(in crate::transport) op_timeout: Duration,
    pub(in crate::transport) in_flight: u16,
    /// When connecting and the handshake must be over.
    pub(in crate::transport) connect_by: Instant,
    /// As it was set, for the message.
    pub(in crate::transport) connect_timeout: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_waited_for_not_at_all_or_for_ever() {
        let second = Duration::from_secs(1);
        for (connect, op, in_flight) in [(Duration::ZERO, second, 1), (second, Duration::ZERO, 1), (second, second, 0)] {
            assert!(matches!(Patience::new(connect, op, in_flight), Err(TransportError::System(_))));
        }
        let patience = Patience::new(Duration::MAX, Duration::MAX, 1).expect("a long time");
        let (now, limits) = (Instant::now(), patience.limits(Instant::now() + second));
        assert!(patience.op() == LONGEST_TIMEOUT && patience.connect_by() >= now + LONGEST_TIMEOUT);
        assert!(limits.connect_by <= Instant::now() + second && limits.op_timeout == LONGEST_TIMEOUT);
        let impatient = Patience::new(Duration::from_millis(1), second, 1).expect("a short time");
        assert!(impatient.limits(now + LONGEST_TIMEOUT).connect_by < now + second);
    }
}
