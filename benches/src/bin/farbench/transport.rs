//! Where far memory can be.

use clap::ValueEnum;
use std::fmt;

/// A kind of transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// This process lends it.
    Embedded,
    /// A farmemd on this machine lends it, and it is mapped.
    Shm,
    /// A farmemd lends it over TCP on loopback.
    Tcp,
    /// Not measured yet: asking for it says why.
    Rdma,
}

impl Kind {
    /// All that can be measured.
    pub(crate) const ALL: [Kind; 3] = [Kind::Embedded, Kind::Shm, Kind::Tcp];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Embedded => "embedded",
            Kind::Shm => "shm",
            Kind::Tcp => "tcp",
            Kind::Rdma => "rdma",
        })
    }
}
