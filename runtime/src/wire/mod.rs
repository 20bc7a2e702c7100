//! The protocol between a borrower and `farmemd`, without sockets and without clocks.
//!
//! Bytes go in by `handle_input`, come out by `output`, and time is an argument; so the same code runs under any event
//! loop, and a test can put any bytes and any delay in. [`ClientSession`] is the borrower's end of one connection,
//! [`ServerSession`] the lender's; a [`Lender`] is what all of a lender's connections share.
//!
//! # Conversation
//! The client speaks first: one *hello*, which the server answers with one *welcome* (or a refusal in the same shape). Then
//! requests go one way and replies the other. Each request has a tag of the client's choosing; replies name it and may come in
//! any order. Either end may close the connection at any time; a server that ends it because of something the client did
//! says why in an *end* frame first.
//!
//! A client may instead only *ask* what there is: its hello says so, and the server answers with its *offers* and ends the connection. Who asks is no borrower. By
//! RDMA nobody asks, because a request for a connection that isn't made has no room for the answer.
//!
//! # Frames
//! All numbers are little-endian. Fields called zero must be zero.
//! ```text
//! hello    32 B  magic 8 | version u32 | intent u32: 0 new borrower, 1 join, 2 ask | token 16 B (zero unless it joins)
//! welcome  48 B  magic 8 | version u32 | ending u32: 0 welcome                     | token 16 B | slab bytes u32 | with u32 | capacity u64
//! offers  160 B  magic 8 | version u32 | ending u32: 14 told                       | identity 16 B | RDMA: address 16 B | port u16 | Unix: len u16 | path 108 B
//!
//! request  20 B  kind u8 | zero u8, u16 | tag u32 | slab u32 | offset u32 | len u32
//!          0x01  read                                slab       offset       1..=256 KiB
//!          0x02  write                               slab       offset       1..=256 KiB      + len bytes
//!          0x03  borrow                              0          0            0
//!          0x04  return                              slab       0            0
//!
//! reply    12 B  kind u8 | code u8 | zero u16 | tag u32 | value u32
//!          0x81  read      0                              len                                  + len bytes
//!          0x82  written   0                              0
//!          0x83  lent      0 done, 1 full, 2 no memory    slab (0 if not done)                 + the key, if done and keys are passed
//!          0x84  returned  0                              0
//!          0xff  end       an ending                      0                 tag 0; the last frame
//! ```
//! *With* says what comes with each *lent*: 0 nothing; with its first byte, over Unix sockets, a file, 1 one for each slab, 2 the one in which all slabs lie; 3, by RDMA, the
//! slab's key, 12 bytes: address u64 | key u32. There the server serves no reads and writes.
//!
//! *Offers* say who the server is, by a random number that it made when it started, and where else it lends. Port 0: not by RDMA, and the address is zero; else the address is of IPv6, or of
//! IPv4 mapped into it, or zero for the one that the server was asked at. Len: bytes of the path of its Unix socket, 0 for none, at most 107; zero behind them. The path begins
//! with a slash, has no zero in it and needn't be text.
//!
//! The first 16 bytes of hello, welcome and offers are the same in every version, so that ends of different versions can tell each
//! other so. A refusal is a welcome whose ending is neither 0 nor 14 and whose other fields are zero.
//!
//! # Borrowers
//! One process has many connections (one for each thread that misses, one for control). The first says *new* and is
//! given a random token of 128 bits; the others *join* with it. The token is the secret that slabs are guarded by: who has
//! it may read and write them. When a borrower's last connection has gone, its slabs are taken back and zeroed. A slab is returned when no request for it is
//! underway on any connection: see [`uses`].
//!
//! # Bounds
//! A client has a fixed number of tags. A server answers each request as it reads it and stops reading while more than
//! [`server::OUTPUT_LIMIT`] bytes of replies are unsent, so a peer that doesn't read costs at most that and one reply. No length
//! is trusted before it is checked, and nothing is allocated by a length that a peer sent.
//!
//! # Broken writes
//! The payload of a write goes to its slab piece by piece as it arrives. A connection that ends within one leaves the range
//! partly written. The far log's checksums are what notices.
//!
//! # Versions
//! 1. The first.
#![forbid(unsafe_code)]

mod asking;
pub mod client;
mod ending;
pub mod frame;
mod in_flight;
mod lender;
pub mod offers;
mod outbuf;
pub mod server;
#[cfg(test)]
mod tests;
pub mod uses;

pub use asking::Asking;
pub use client::{ClientSession, ControlDone, ControlVerb, Lent};
pub use ending::Ending;
pub use frame::BorrowerToken;
pub use lender::Lender;
pub use offers::{Identity, Offers, Ways};
pub use server::ServerSession;
pub use uses::SlabUses;

/// The version of the protocol that this program speaks.
pub const VERSION: u32 = 1;

/// Opens every conversation. The line end at its close shows a path that rewrites text.
pub const MAGIC: [u8; 8] = *b"FARPTR\r\n";
