//! One server, with the sessions that wait for work.
#![forbid(unsafe_code)]

use super::sessions::Sessions;
use crate::error::{Error, Result, TransportError};
use crate::spinners::Spinners;
use crate::transport::{Completion, ImmediateAccess, IoBuf, Op, Progress, Session, SlabPos, Submit, Token, Transport, Verb};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a blocking caller spins for a reply before it sleeps in the kernel. A round trip on a local network takes 5-50 us; being
/// woken up costs as much again.
const SPIN: Duration = Duration::from_micros(100);

/// How long one sleep may be: an upper bound only, since a reply ends it.
const PARK: Duration = Duration::from_millis(2);

/// How long a miss waits for a session, unless the memory says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server and this process's connections to it.
pub struct Server {
    transport: Arc<dyn Transport>,
    sessions: Sessions<Box<dyn Session>>,
    /// Threads that spin for a reply.
    spinners: Spinners,
    patience: Duration,
}

impl Server {
    /// A server reached by `transport`.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Server { transport, sessions: Sessions::default(), spinners: Spinners::default(), patience: PATIENCE }
    }

    /// Lets a miss wait so long for a session.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// The server's address.
    pub fn name(&self) -> &str {
        self.transport.describe()
    }

    /// The way to it.
    pub fn transport(&self) -> &dyn Transport {
        &*self.transport
    }

    /// Access without a session, where lent memory is mapped.
    #[inline]
    pub fn immediate(&self) -> Option<&dyn ImmediateAccess> {
        self.transport.immediate()
    }

    /// An error of this server.
    pub fn error(&self, cause: TransportError) -> Error {
        Error::transport(self.name(), cause)
    }

    /// A session for the caller alone: an idle one, or a new one.
    pub fn session(&self) -> Result<Box<dyn Session>> {
        self.good_or_new(self.sessions.take_idle())
    }

    fn good_or_new(&self, idle: Option<Box<dyn Session>>) -> Result<Box<dyn Session>> {
        match idle {
            Some(session) if session.failure().is_none() => Ok(session),
            // The others have most likely failed for the same reason; opening one says whether the server is back.
            _ => self.transport.open_session().map_err(|cause| self.error(cause)),
        }
    }

    /// Gives a session back, if it is still good and nothing is in flight on it.
    pub fn give_back(&self, session: Box<dyn Session>) {
        if session.failure().is_none() && session.in_flight() == 0 {
            // One too many is closed here, without the lock.
            drop(self.sessions.keep(session));
        }
    }

    /// One operation from start to end: the calling thread spins for the reply, then sleeps. It waits for a session as long as the memory's timeout, and for the
    /// operation as long as the transport's.
    pub fn transfer(&self, verb: Verb, at: SlabPos, buf: IoBuf) -> Result<IoBuf> {
        let Some((permit, idle)) = self.sessions.take(self.patience) else {
            return Err(self.error(TransportError::Timeout { what: "a connection that other threads use", after: self.patience }));
        };
        let mut session = self.good_or_new(idle)?;
        let mut op = Op { token: Token(0), verb, at, buf };
        let mut done = Vec::with_capacity(1);
        loop {
            match session.submit(op) {
                Submit::Accepted => break,
                Submit::Busy(back) => op = back,
                Submit::Failed(_, cause) => return Err(self.error(cause)),
            }
            unblock(&mut *session, &mut done);
        }
        // More threads than processors would spin at the cost of those that have something to do.
        let spinning = self.spinners.try_spin();
        wait(&mut *session, &mut done, if spinning.is_some() { SPIN } else { Duration::ZERO });
        drop(spinning);
        if session.failure().is_none() && session.in_flight() == 0 {
            drop(permit.give_back(session));
        }
        let Some(Completion { buf, result, .. }) = done.pop() else {
            return Err(self.error(TransportError::Protocol("an operation ended without a completion".into())));
        };
        result.map(|()| buf).map_err(|cause| self.error(cause))
    }
}

/// Polls a session until something completes: spins, then sleeps. Ends in bounded time, because every operation does.
pub fn wait_for(session: &mut dyn Session, done: &mut Vec<Completion>) {
    wait(session, done, SPIN);
}

fn wait(session: &mut dyn Session, done: &mut Vec<Completion>, spin: Duration) {
    let started = Instant::now();
    let mut now = started;
    loop {
        let progress = session.poll(now, done);
        if !done.is_empty() || session.in_flight() == 0 {
            return;
        }
        if progress == Progress::Idle {
            if now - started >= spin {
                session.park(PARK);
            } else {
                // Not `spin_loop`: where cores are few, the server may need this one in order to answer.
                std::thread::yield_now();
            }
        }
        now = Instant::now();
    }
}

/// Polls a session that is busy with nothing in flight, and sleeps if that does nothing: all its room is taken by operations that have timed out and whose
/// answers are still to come. Ends in bounded time if repeated, because a session gives up a server that never answers.
pub fn unblock(session: &mut dyn Session, done: &mut Vec<Completion>) {
    if session.poll(Instant::now(), done) == Progress::Idle {
        session.park(PARK);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("name", &self.name()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::SlabId;
    use crate::transport::stub::Stub;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A server whose sessions are busy until they have been polled so often, and then fail if they are to.
    struct Slow {
        polls: usize,
        fails: bool,
        parked: AtomicUsize,
    }

    struct Busy {
        server: Arc<Slow>,
        polls: usize,
        done: Option<Completion>,
    }

    impl Session for Busy {
        fn submit(&mut self, op: Op) -> Submit {
            if self.polls < self.server.polls {
                return Submit::Busy(op);
            }
            if self.server.fails {
                return Submit::Failed(op, TransportError::Lost("it gave up".into()));
            }
            let Op { token, verb, mut buf, .. } = op;
            buf.as_mut_slice().fill(7);
            self.done = Some(Completion { token, verb, buf, result: Ok(()) });
            Submit::Accepted
        }

        fn poll(&mut self, _now: Instant, done: &mut Vec<Completion>) -> Progress {
            self.polls += 1;
            let before = done.len();
            done.extend(self.done.take());
            if done.len() > before { Progress::Moved } else { Progress::Idle }
        }

        fn park(&mut self, _at_most: Duration) {
            self.server.parked.fetch_add(1, Ordering::Relaxed);
        }

        fn in_flight(&self) -> usize {
            usize::from(self.done.is_some())
        }

        fn failure(&self) -> Option<TransportError> {
            None
        }
    }

    fn transfer(polls: usize, fails: bool) -> (Result<Vec<u8>>, usize) {
        let slow = Arc::new(Slow { polls, fails, parked: AtomicUsize::new(0) });
        let of = Arc::clone(&slow);
        let server = Server::new(Arc::new(Stub(move || Busy { server: Arc::clone(&of), polls: 0, done: None })));
        let at = SlabPos { slab: SlabId(0), offset: 0 };
        let read = server.transfer(Verb::Read, at, IoBuf::from(vec![0; 3])).map(IoBuf::into_vec);
        (read, slow.parked.load(Ordering::Relaxed))
    }

    /// Its tags may all be waiting for late answers.
    #[test]
    fn a_session_that_is_busy_with_nothing_in_flight_is_waited_for() {
        let (read, parked) = transfer(5, false);
        assert_eq!(read.expect("it takes the operation in the end"), [7; 3]);
        assert_eq!(parked, 5, "it is slept on, not spun on");
        let (read, _) = transfer(5, true);
        assert!(matches!(read, Err(Error::Transport { cause: TransportError::Lost(_), .. })), "{read:?}");
    }
}
