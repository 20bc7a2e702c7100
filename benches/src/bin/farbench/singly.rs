//! A transport whose requests leave one by one: as if what is asked for together were not sent together.

use farptr_runtime::TransportError;
use farptr_runtime::transport::wrapped::Wrapped;
use farptr_runtime::transport::{Completion, Op, Progress, Session, Submit, Transport};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `behind` with requests that leave one by one. The look for answers that follows each is part of it: there is no way to send without one.
pub(crate) fn one_by_one(behind: Arc<dyn Transport>) -> impl Transport {
    Wrapped::new(behind, |behind| SinglySession { behind, ended: Vec::new() })
}

struct SinglySession {
    behind: Box<dyn Session>,
    /// What ended while requests were sent.
    ended: Vec<Completion>,
}

impl Session for SinglySession {
    fn submit(&mut self, op: Op) -> Submit {
        let submitted = self.behind.submit(op);
        if let Submit::Accepted = submitted {
            let _ = self.behind.poll(Instant::now(), &mut self.ended);
        }
        submitted
    }

    fn poll(&mut self, now: Instant, done: &mut Vec<Completion>) -> Progress {
        let moved = !self.ended.is_empty();
        done.append(&mut self.ended);
        let progress = self.behind.poll(now, done);
        if moved { Progress::Moved } else { progress }
    }

    fn park(&mut self, at_most: Duration) {
        if self.ended.is_empty() {
            self.behind.park(at_most);
        }
    }

    fn in_flight(&self) -> usize {
        self.behind.in_flight() + self.ended.len()
    }

    fn failure(&self) -> Option<TransportError> {
        self.behind.failure()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bare::{BareReads, connect};
    use crate::transport::Kind;
    use farptr_runtime::transport::{IoBuf, SlabPos, Token, Verb};

    /// Counts polls.
    struct Counted {
        behind: Box<dyn Session>,
        polls: Arc<std::sync::atomic::AtomicUsize>,
    }

    impl Session for Counted {
        fn submit(&mut self, op: Op) -> Submit {
            self.behind.submit(op)
        }

        fn poll(&mut self, now: Instant, done: &mut Vec<Completion>) -> Progress {
            self.polls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.behind.poll(now, done)
        }

        fn park(&mut self, at_most: Duration) {
            self.behind.park(at_most);
        }

        fn in_flight(&self) -> usize {
            self.behind.in_flight()
        }

        fn failure(&self) -> Option<TransportError> {
            self.behind.failure()
        }
    }

    #[test]
    fn each_request_is_sent_before_the_next_and_each_ends_once() {
        let transport = connect(Kind::Embedded, "embedded:").expect("a lender");
        let slab = transport.borrow_slab().expect("a slab");
        let polls = Arc::default();
        let behind = Counted { behind: transport.open_session().expect("a session"), polls: Arc::clone(&polls) };
        let mut session = SinglySession { behind: Box::new(behind), ended: Vec::new() };
        for number in 0..10 {
            let at = SlabPos { slab, offset: number * 64 };
            let op = Op { token: Token(number.into()), verb: Verb::Read, at, buf: IoBuf::from(vec![0; 64]) };
            assert!(matches!(session.submit(op), Submit::Accepted));
        }
        assert_eq!(polls.load(std::sync::atomic::Ordering::Relaxed), 10);
        let mut done = Vec::new();
        while session.in_flight() > 0 {
            let _ = session.poll(Instant::now(), &mut done);
        }
        let mut tokens: Vec<_> = done.iter().map(|completion| completion.token.0).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn reads_end_one_by_one_and_together() {
        for in_flight in [1, 64] {
            let transport = Arc::new(one_by_one(connect(Kind::Embedded, "embedded:").expect("a lender")));
            BareReads::new(transport, 1 << 20, 4096, in_flight).expect("slabs").read(100).expect("reads");
        }
    }
}
