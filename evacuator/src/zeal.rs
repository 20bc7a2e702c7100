//! What the evacuator does at a legal point under [zeal](farptr_runtime::scope::zeal): it goes once over everything local, or over the far log.
#![forbid(unsafe_code)]

use crate::cleaner;
use crate::evacuator::{Evacuator, State};
use crate::round::{self, Mercy};
use farptr_runtime::heap::QueueKind;
use farptr_runtime::memory::Memory;
use farptr_runtime::scope::zeal::{Ended, PATIENCE, Pass};
use std::time::Instant;

impl Evacuator {
    /// Runs one pass.
    pub(crate) fn zealous_pass(&self, memory: &Memory, pass: Pass) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let mut state = loop {
            match self.turns.try_take() {
                Some(state) => break state,
                None if Instant::now() >= deadline => return Ended::GivenUp,
                None => std::thread::yield_now(),
            }
        };
        match pass {
            Pass::LetGo => rounds(memory, &mut state, Mercy::None),
            Pass::Relocate => rounds(memory, &mut state, Mercy::Keep),
            Pass::Clean if cleaner::clean_something(memory, &mut state.log).is_ok() => Ended::Well,
            Pass::Clean => Ended::GivenUp,
        }
    }
}

/// Each segment that is sealed now becomes a victim once.
fn rounds(memory: &Memory, state: &mut State, mercy: Mercy) -> Ended {
    let heap = memory.heap();
    // What is pinned keeps its segment: with one for each of many pins, a heap would be full that is not. So half of it keeps its open segments.
    if heap.available_segments(memory.budget()) > heap.capacity() / 2 {
        heap.seal_all();
    }
    let sealed = || [QueueKind::Transient, QueueKind::Young, QueueKind::Main].map(|kind| heap.sealed(kind)).iter().sum::<usize>();
    let mut left = sealed();
    if mercy == Mercy::None {
        // All large objects have a turn.
        state.round.large_credit = memory.budget().limit();
    }
    let mut ended = Ended::Well;
    loop {
        // As before every round: what is written back may have died elsewhere.
        let cleaned = cleaner::clean(memory, &mut state.log);
        let outcome = round::run(memory, &mut state.round, &mut state.log, mercy, PATIENCE);
        if outcome.scopes_too_long || outcome.error.is_some() || cleaned.is_err() {
            ended = Ended::GivenUp;
            break;
        }
        left = left.saturating_sub(outcome.victims);
        if outcome.victims == 0 || left == 0 {
            break;
        }
    }
    if !state.round.settle_limbo(memory, PATIENCE) {
        ended = Ended::GivenUp;
    }
    ended
}
