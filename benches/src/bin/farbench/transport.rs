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
    /// A farmemd lends it by RDMA: one that is given, or one on this machine, if it has a device.
    Rdma,
}

impl Kind {
    /// Those that every machine has.
    pub(crate) const ALL: [Kind; 3] = [Kind::Embedded, Kind::Shm, Kind::Tcp];

    /// That of a server, by how its address begins.
    pub(crate) fn of(address: &str) -> Option<Kind> {
        match address.split_once(':')?.0 {
            "unix" => Some(Kind::Shm),
            "tcp" => Some(Kind::Tcp),
            "rdma" => Some(Kind::Rdma),
            _ => None,
        }
    }

    /// Whether a read waits for a server, so that few make a batch.
    pub(crate) fn waits(self) -> bool {
        matches!(self, Kind::Tcp | Kind::Rdma)
    }
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
