//! `farmemd` as a library: lends slabs of this machine's memory over TCP.
//!
//! The protocol and the slabs are `farptr-runtime`'s; here is what moves the bytes. Layers, lowest first:
//! - [`machine`]: what memory there is;
//! - [`config`]: what to lend, checked against that;
//! - `connection`: one socket and the protocol on it;
//! - `worker`: one thread's event loop over many connections;
//! - [`daemon`]: workers, the listener, and the thread that zeroes returned slabs.
//!
//! A [`Daemon`] is a value: a test or a benchmark starts one, and dropping it ends it.
//!
//! ```
//! use farptr_server::{Config, Daemon};
//!
//! let daemon = Daemon::start(Config::new("127.0.0.1:0", 64 << 20))?;
//! println!("lending at {}", daemon.address());
//! # Ok::<(), farptr_server::StartError>(())
//! ```
#![forbid(unsafe_code)]

pub mod config;
mod connection;
pub mod daemon;
pub mod machine;
mod worker;

pub use config::{Config, StartError};
pub use daemon::Daemon;
