//! The connection by which slabs are borrowed and returned.
#![forbid(unsafe_code)]

use super::{Connection, Socket};
use crate::error::TransportError;
use crate::transport::SlabId;
use crate::wire::frame::Terms;
use crate::wire::uses::MAX_SLABS;
use crate::wire::{ControlDone, ControlVerb, Lent};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One connection, used by one thread at a time, and opened anew when it has ended.
#[derive(Debug)]
pub(in crate::transport) struct Control<S> {
    timeout: Duration,
    /// `None` when the last one ended.
    place: Mutex<Option<Connection<S>>>,
}

impl<S: Socket> Control<S> {
    /// Control by `connection`; each exchange takes at most `timeout`.
    pub(in crate::transport) fn new(connection: Option<Connection<S>>, timeout: Duration) -> Self {
        Self { timeout, place: Mutex::new(connection) }
    }

    /// Borrows a slab. `join` opens a connection, by the time it is given.
    pub(in crate::transport) fn borrow_slab(
        &self,
        join: impl FnOnce(Instant) -> Result<Connection<S>, TransportError>,
    ) -> Result<Lent, TransportError> {
        match self.exchange(ControlVerb::Borrow, join)? {
            ControlDone::Borrowed(result) => result,
            ControlDone::Returned(_) => Err(mixed_up()),
        }
    }

    /// Returns a slab.
    pub(in crate::transport) fn return_slab(
        &self,
        slab: SlabId,
        join: impl FnOnce(Instant) -> Result<Connection<S>, TransportError>,
    ) -> Result<(), TransportError> {
        match self.exchange(ControlVerb::Return(slab), join)? {
            ControlDone::Returned(result) => result,
            ControlDone::Borrowed(_) => Err(mixed_up()),
        }
    }

    fn exchange(
        &self,
        verb: ControlVerb,
        join: impl FnOnce(Instant) -> Result<Connection<S>, TransportError>,
    ) -> Result<ControlDone, TransportError> {
        // Before the lock: whoever waits for a slow exchange of another thread has waited for the same server.
        let deadline = Instant::now() + self.timeout;
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = place.as_mut() {
            // Finds out whether it ended while nobody looked.
            let _ = connection.poll(Instant::now(), &mut Vec::new());
            if connection.session.failure().is_some() {
                *place = None;
            }
        }
        let connection = match place.as_mut() {
            Some(connection) => connection,
            None => place.insert(join(deadline)?),
        };
        connection.control(verb, deadline)
    }
}

/// How many slabs a server has at most, all of which this end keeps count of.
pub(in crate::transport) fn countable_slabs(terms: &Terms) -> Result<usize, TransportError> {
    let slabs = terms.slabs();
    if slabs > MAX_SLABS {
        return Err(TransportError::Protocol(format!("it says that it has {slabs} slabs; {MAX_SLABS} are the most that can be")));
    }
    Ok(slabs as usize)
}

fn mixed_up() -> TransportError {
    TransportError::Protocol("its answer about a slab fits another request".into())
}
