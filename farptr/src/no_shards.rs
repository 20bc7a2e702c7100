//! A far memory without executors of its own: the cargo feature `shards` is off.
#![forbid(unsafe_code)]

use farptr_runtime::{Error, Result};

/// No executor.
pub(crate) struct Shards;

impl Shards {
    /// "Starts" none.
    pub(crate) fn start(count: usize) -> Result<Self> {
        match count {
            0 => Ok(Shards),
            _ => Err(Error::Unsupported {
                what: "shards (glommio executors)",
                missing: "this program was built without farptr's cargo feature `shards`; build it with that, or use 0 shards: the async forms work on any executor".into(),
            }),
        }
    }
}
