//! A transport that goes wrong on purpose, in front of any other: for tests of farptr and of programs that use it (feature `faults`).
//!
//! [`Faults`] is the handle that a test keeps: it wraps transports, turns faults on and off, and says how often each [`Kind`] has happened.
//! `FarMemory`'s builder takes one (`farptr::Builder::faults`); a program that builds its own transports calls [`Faults::wrap`].
//!
//! ```
//! use farptr_runtime::transport::Transport;
//! use farptr_runtime::transport::embedded::{EmbeddedConfig, EmbeddedTransport};
//! use farptr_runtime::transport::faulty::{FaultPlan, Faults, Kind, Rates};
//! use std::sync::Arc;
//!
//! let rates = Rates::NONE.with(Kind::ControlLost, Rates::ALWAYS);
//! let faults = Faults::new(FaultPlan { rates, ..FaultPlan::new(1) });
//! let lender = faults.wrap(Arc::new(EmbeddedTransport::new(EmbeddedConfig::with_capacity(64 << 20))?));
//! assert!(lender.borrow_slab().is_err());
//! assert_eq!(faults.count(Kind::ControlLost), 1);
//! faults.stop();
//! assert!(lender.borrow_slab().is_ok());
//! # Ok::<(), farptr_runtime::TransportError>(())
//! ```
//!
//! # What happens when
//! The fate of an operation is a pure function of the plan's seed and of four numbers: which server (in the order of wrapping), which session of it
//! (in the order of opening), which operation of that session, and read or write. Nothing else is asked: no clock, no address, no global state. So a
//! single-threaded program meets the same faults each time, and in one with several threads each session does. Rates are settings ([`Rates`]).
//!
//! # What a faulty transport still owes
//! The rules in [`transport`](super) hold: each operation that is accepted completes exactly once, at the latest when its timeout has passed; its buffer
//! comes back with it and is not touched afterwards; a session that failed says so, refuses what is new, and completes what it has with its error,
//! at the next polls. What it does not owe is the truth: kinds that damage bytes report success.
//!
//! # Two sorts of kinds
//! Kinds that [lose data](Kind::loses_data) change what is kept, as a broken server does: an object they hit is gone, and must be found out to be gone. All
//! others are what networks and restarts do to honest servers: once the faults stop, nothing may be missing.
//!
//! # Time
//! With [`Clock::Virtual`] a session's time passes in its polls: each that finds nothing advances it by a little, and `park` returns at once, at the moment when
//! the next thing is due. So an operation that is never answered costs microseconds, and thousands of timeouts can be tried in a second. Operations that
//! the transport behind has in hand are timed by that one as ever. With [`Clock::Real`] it is the time that `poll` is told.
#![forbid(unsafe_code)]

mod fate;
mod faults;
mod kind;
mod server;
mod session;
mod transport;

pub use faults::{Clock, Damage, FaultPlan, Faults, Immediate};
pub use kind::{Kind, Rates};
