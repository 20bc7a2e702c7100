//! What takes up local memory, for the error that says that there is none.
#![forbid(unsafe_code)]

use super::Memory;
use crate::budget::Party;
use std::borrow::Cow;

/// Metadata is the cause of a lack of memory if it takes more than this part of the budget.
const METADATA_SHARE: usize = 2;

/// Pinned objects are the cause if more than this part of the segments hold some. It is more than the part that pins may take before they are kept together.
const PINS_SHARE: usize = 4;

impl Memory {
    /// Why nothing more can be evacuated although `needed` bytes are missing, and what would help. For the moment after rounds have freed nothing.
    pub fn why_nothing_leaves(&self, needed: usize) -> Cow<'static, str> {
        let metadata = self.metadata_bytes();
        let kept = self.heap.floor(Party::Mutator) * self.heap.segment_bytes();
        if metadata.saturating_add(needed) > self.budget.limit() / METADATA_SHARE && metadata > self.budget.limit() / PINS_SHARE {
            return format!(
                "{metadata} of these are slots and tables, which never leave; keep fewer and larger objects, or maps with fewer entries"
            )
            .into();
        }
        let (held, segments) = (self.heap.pins().held(), self.heap.capacity());
        if held > segments / PINS_SHARE {
            let bytes = held * self.heap.segment_bytes();
            return format!(
                "{bytes} bytes are {held} of {segments} segments that hold pinned objects, {metadata} are slots and tables, and {kept} are kept for evacuation and for dereferences in scopes; keep less pinned"
            )
            .into();
        }
        if self.budget.used().saturating_add(needed) <= self.budget.limit() {
            return format!("{kept} of the budget are kept for evacuation and for dereferences in scopes").into();
        }
        "everything local is pinned or in use; keep less pinned, and scopes shorter".into()
    }

    /// Bytes of the budget that are neither segments nor large objects: slots, tables of collections, buffers of scans.
    pub fn metadata_bytes(&self) -> usize {
        let objects = self.heap.committed_bytes() + self.large.bytes() + self.spares.bytes();
        // The counts are not of one moment.
        self.budget.used().saturating_sub(objects)
    }
}
