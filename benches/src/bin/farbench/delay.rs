//! A transport that takes longer: what another one would do over a slower way.
//!
//! Each operation of a session ends so long after it was submitted, and not before; several in flight wait together. The way without a
//! session is not offered, as no network offers it.

use farptr_runtime::TransportError;
use farptr_runtime::transport::wrapped::Wrapped;
use farptr_runtime::transport::{Completion, Op, Progress, Session, Submit, Transport};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `behind` with so long a delay.
pub(crate) fn after(behind: Arc<dyn Transport>, delay: Duration) -> impl Transport {
    Wrapped::new(behind, move |behind| DelayedSession {
        behind,
        delay,
        due: VecDeque::new(),
        held: VecDeque::new(),
        ended: Vec::new(),
    })
}

struct DelayedSession {
    behind: Box<dyn Session>,
    delay: Duration,
    /// When operations that the session behind has may end, in the order of submission, which is also that of this time.
    due: VecDeque<Instant>,
    /// What it has ended that is held back.
    held: VecDeque<(Instant, Completion)>,
    ended: Vec<Completion>,
}

impl DelayedSession {
    /// Takes what has ended behind. That it ends in another order than it began would only exchange times among operations that are all alike.
    fn take(&mut self, now: Instant) {
        let _ = self.behind.poll(now, &mut self.ended);
        for completion in self.ended.drain(..) {
            let due = self.due.pop_front().unwrap_or(now);
            self.held.push_back((due, completion));
        }
    }
}

impl Session for DelayedSession {
    fn submit(&mut self, op: Op) -> Submit {
        let submitted = self.behind.submit(op);
        if let Submit::Accepted = submitted {
            self.due.push_back(Instant::now() + self.delay);
        }
        submitted
    }

    fn poll(&mut self, now: Instant, done: &mut Vec<Completion>) -> Progress {
        self.take(now);
        // What a caller takes for now may have been a while ago, in terms of microseconds.
        let now = Instant::now();
        let before = done.len();
        while self.held.front().is_some_and(|(due, _)| *due <= now) {
            done.extend(self.held.pop_front().map(|(_, completion)| completion));
        }
        if done.len() > before { Progress::Moved } else { Progress::Idle }
    }

    /// Spins: the kernel's sleep is longer than what is simulated.
    fn park(&mut self, at_most: Duration) {
        let until = Instant::now() + at_most;
        let until = self.held.front().map_or(until, |(due, _)| until.min(*due));
        while Instant::now() < until {
            std::thread::yield_now();
        }
    }

    fn in_flight(&self) -> usize {
        self.behind.in_flight() + self.held.len()
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

    #[test]
    fn operations_take_the_delay_one_by_one_and_share_it_together() {
        let delay = Duration::from_millis(2);
        let read = |in_flight| {
            let transport = Arc::new(after(connect(Kind::Embedded, "embedded:").expect("a lender"), delay));
            let mut bare = BareReads::new(transport, 1 << 20, 4096, in_flight).expect("slabs");
            let started = Instant::now();
            bare.read(8).expect("reads");
            started.elapsed()
        };
        assert!(read(1) >= 8 * delay);
        let together = read(8);
        assert!(together >= delay && together < 7 * delay, "{together:?}");
    }
}
