//! The far memory's part in [zeal](crate::scope::zeal): where its legal points are.
#![forbid(unsafe_code)]

use super::Memory;
use crate::scope::zeal::{Ended, Evacuate, Pass, point, takes_part};

impl Memory {
    /// The calling thread enters the runtime. If it has no scope, anything may leave or move now.
    pub(crate) fn legal_point(&self) {
        if crate::forked::is_child() {
            return;
        }
        takes_part(&self.weak);
        point();
    }
}

impl Evacuate for Memory {
    fn local_bytes(&self) -> usize {
        let free = self.heap.available_segments(&self.budget) * self.heap.segment_bytes();
        self.budget.limit().saturating_sub(free)
    }

    fn pass(&self, pass: Pass) -> Ended {
        self.relief.get().map_or(Ended::Well, |relief| relief.zeal(self, pass))
    }
}
