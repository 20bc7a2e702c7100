//! The kinds of faults, and how often each happens.
#![forbid(unsafe_code)]

use crate::transport::Verb;
use std::fmt;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// An operation takes effect later than it could, or is answered later.
    Delay,
    /// Completions come in another order than the operations ended in.
    Reorder,
    /// A session takes no operation for a while, though little is in flight.
    Busy,
    /// An operation never arrives; it ends by its timeout.
    LostRequest,
    /// An operation is done and never answered; it ends by its timeout.
    LostReply,
    /// A write ends by its timeout, and takes effect afterwards: while its slab is lent, never after it was returned.
    LateWrite,
    /// The first part of a write takes effect, and the session dies.
    TornWrite,
    /// An operation is done twice.
    Duplicate,
    /// A read fills the first part of its buffer and leaves the rest as it was.
    ShortRead,
    /// One bit of what a read brings is wrong.
    FlippedRead,
    /// A range of what a read brings is zero.
    ZeroedRead,
    /// A read brings the bytes of another place.
    MisplacedRead,
    /// A read brings what its place held before it was last written.
    StaleRead,
    /// A session dies, and what is in flight with it. Some of it has taken effect.
    Reset,
    /// The server is gone for a number of attempts to reach it, and all its sessions die. What it holds is still there afterwards.
    Outage,
    /// A request for a slab, the return of one or the opening of a session fails, and nothing was done.
    ControlLost,
    /// A slab is lent, or taken back, but no answer comes.
    ControlUnanswered,
    /// The server claims that it has no more to lend.
    FalseFull,
    /// One bit is written wrong, and the write reported as done.
    FlippedWrite,
    /// A write is reported as done and does not happen.
    LostWrite,
    /// Only the first part of a write happens, and it is reported as done.
    ShortWrite,
    /// A write goes to another place of its slab as well.
    MisplacedWrite,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 22] = [
        Kind::Delay,
        Kind::Reorder,
        Kind::Busy,
        Kind::LostRequest,
        Kind::LostReply,
        Kind::LateWrite,
        Kind::TornWrite,
        Kind::Duplicate,
        Kind::ShortRead,
        Kind::FlippedRead,
        Kind::ZeroedRead,
        Kind::MisplacedRead,
        Kind::StaleRead,
        Kind::Reset,
        Kind::Outage,
        Kind::ControlLost,
        Kind::ControlUnanswered,
        Kind::FalseFull,
        Kind::FlippedWrite,
        Kind::LostWrite,
        Kind::ShortWrite,
        Kind::MisplacedWrite,
    ];

    /// Whether what the server keeps is changed behind the borrower's back. The other kinds lose nothing that was reported as done.
    pub const fn loses_data(self) -> bool {
        matches!(self, Kind::FlippedWrite | Kind::LostWrite | Kind::ShortWrite | Kind::MisplacedWrite)
    }

    /// Whether it needs a session: memory that is mapped has no operations in flight.
    pub(super) const fn needs_session(self) -> bool {
        matches!(
            self,
            Kind::Delay
                | Kind::Reorder
                | Kind::Busy
                | Kind::LateWrite
                | Kind::TornWrite
                | Kind::Duplicate
                | Kind::Reset
                | Kind::Outage
        )
    }

    /// Whether it can happen to a read or write, as the one thing that goes wrong with it.
    pub(super) const fn fits(self, verb: Verb) -> bool {
        match self {
            Kind::LostRequest | Kind::LostReply | Kind::Duplicate | Kind::Reset | Kind::Outage => true,
            Kind::ShortRead | Kind::FlippedRead | Kind::ZeroedRead | Kind::MisplacedRead | Kind::StaleRead => {
                matches!(verb, Verb::Read)
            }
            Kind::LateWrite
            | Kind::TornWrite
            | Kind::FlippedWrite
            | Kind::LostWrite
            | Kind::ShortWrite
            | Kind::MisplacedWrite => matches!(verb, Verb::Write),
            // Beside anything else, or not of reads and writes.
            Kind::Delay | Kind::Reorder | Kind::Busy | Kind::ControlLost | Kind::ControlUnanswered | Kind::FalseFull => false,
        }
    }
}

/// How often each kind happens: times in [`Rates::ALWAYS`] operations that it can happen to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rates([u16; Kind::ALL.len()]);

impl Rates {
    /// The rate at which a kind happens each time.
    pub const ALWAYS: u16 = 10_000;

    /// Nothing goes wrong.
    pub const NONE: Rates = Rates([0; Kind::ALL.len()]);

    /// Every kind that loses no data at `rate`; whole servers and sessions, which take much with them, more seldom.
    pub fn honest(rate: u16) -> Self {
        let rare = (rate / 8).max(u16::from(rate > 0));
        Kind::ALL.into_iter().filter(|kind| !kind.loses_data()).fold(Rates::NONE, |rates, kind| {
            rates.with(kind, if matches!(kind, Kind::Outage | Kind::Reset | Kind::TornWrite | Kind::Busy) { rare } else { rate })
        })
    }

    /// Every kind: as [`honest`](Self::honest), and data is lost at `rate` as well.
    pub fn broken(rate: u16) -> Self {
        Kind::ALL.into_iter().filter(|kind| kind.loses_data()).fold(Rates::honest(rate), |rates, kind| rates.with(kind, rate))
    }

    /// The same but for one kind.
    #[must_use]
    pub const fn with(mut self, kind: Kind, rate: u16) -> Self {
        self.0[kind as usize] = rate;
        self
    }

    /// The rate of a kind.
    pub const fn of(self, kind: Kind) -> u16 {
        self.0[kind as usize]
    }
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(Kind::ALL.into_iter().filter(|kind| self.of(*kind) > 0).map(|kind| (kind, self.of(kind)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_numbered_as_they_are_listed() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            assert_eq!(Rates::NONE.with(kind, 7).of(kind), 7);
        }
        assert_eq!(Rates::broken(8).of(Kind::LostWrite), 8);
        assert_eq!((Rates::honest(8).of(Kind::LostWrite), Rates::honest(0)), (0, Rates::NONE));
    }
}
