//! Why a server ends a connection.
#![forbid(unsafe_code)]

use super::VERSION;
use crate::error::TransportError;

/// A server's reason, as a code that travels and a text that people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
#[repr(u8)]
pub enum Ending {
    /// The client speaks another version.
    #[error("it speaks another version of the protocol")]
    Version = 1,
    /// The token is no borrower's: the server was restarted, or all the borrower's connections were gone for a moment.
    #[error("its borrower token is unknown here")]
    UnknownBorrower = 2,
    /// The server has as many connections as it takes.
    #[error("the server has as many connections as it takes")]
    TooManyConnections = 3,
    /// The server is about to exit.
    #[error("the server is shutting down")]
    ShuttingDown = 4,
    /// The first frame is not a hello.
    #[error("its first bytes are not a farptr hello")]
    BadHello = 5,
    /// A request that the frame table doesn't have.
    #[error("it sent a frame of unknown kind or with a field set that must be zero")]
    BadFrame = 6,
    /// A read or write of 0 bytes or of more than an operation may move.
    #[error("it asked to move 0 bytes or more than an operation may")]
    BadLength = 7,
    /// A slab that the borrower has not borrowed.
    #[error("it named a slab that it has not borrowed")]
    NotYours = 8,
    /// A range that ends past its slab.
    #[error("it named a range that ends past its slab")]
    BadRange = 9,
    /// The client doesn't read its replies.
    #[error("it did not read its replies in time")]
    Stalled = 10,
    /// No hello in time.
    #[error("it sent no hello in time")]
    HandshakeTimeout = 11,
    /// The server's system failed it.
    #[error("the server could not do its part")]
    Internal = 12,
    /// The server's memory can have one borrower only, and has one.
    #[error("its memory lies in one file, which can be lent to one borrower at a time, and is")]
    Taken = 13,
    /// The client only asked what there is, and has its answer.
    #[error("it asked what there is, and was told")]
    Told = 14,
}

impl Ending {
    /// The code that travels.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The ending with this code, if this version knows it.
    pub fn from_code(code: u32) -> Option<Self> {
        use Ending::*;
        [
            Version,
            UnknownBorrower,
            TooManyConnections,
            ShuttingDown,
            BadHello,
            BadFrame,
            BadLength,
            NotYours,
            BadRange,
            Stalled,
            HandshakeTimeout,
            Internal,
            Taken,
            Told,
        ]
        .into_iter()
        .find(|ending| u32::from(ending.code()) == code)
    }

    /// What a borrower makes of it. `theirs` is the server's version.
    pub fn to_error(self, theirs: u32) -> TransportError {
        match self {
            Ending::Version => TransportError::Version { theirs, ours: VERSION },
            Ending::UnknownBorrower => TransportError::Lost(
                "the server doesn't know this process any more (it was restarted, or all connections broke); its slabs are gone"
                    .into(),
            ),
            Ending::ShuttingDown => TransportError::Lost("the server is shutting down".into()),
            Ending::TooManyConnections => {
                TransportError::Refused(format!("{self}; raise --max-connections or use fewer threads"))
            }
            Ending::Taken => TransportError::Refused(format!("{self}; end that program, or start farmemd with other memory")),
            Ending::HandshakeTimeout | Ending::Stalled | Ending::Internal => {
                TransportError::Lost(format!("the server ended it: {self}"))
            }
            Ending::BadHello | Ending::BadFrame | Ending::BadLength | Ending::NotYours | Ending::BadRange | Ending::Told => {
                TransportError::Refused(format!("the server ended the connection: {self}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_names_the_ending_it_came_from() {
        let known: Vec<_> = (0..=u32::from(u8::MAX)).filter_map(|code| Some((code, Ending::from_code(code)?))).collect();
        assert_eq!(known.len(), 14);
        assert!(known.iter().all(|(code, ending)| u32::from(ending.code()) == *code));
        assert_eq!(Ending::from_code(0), None, "0 means welcome");
    }
}
