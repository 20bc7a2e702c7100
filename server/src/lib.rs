//! `farmemd` as a library: lends slabs of this machine's memory, over TCP and to programs on the same machine.
//!
//! The protocol and the slabs are `farptr-runtime`'s; here is what moves the bytes. Layers, lowest first:
//! - [`machine`]: what memory there is;
//! - [`config`]: what to lend, checked against that;
//! - `listen`: where borrowers find it; `stream`: sockets of either kind;
//! - `connection`: one socket and the protocol on it;
//! - `worker`: one thread's event loop over many connections;
//! - [`daemon`]: workers, listeners, and the thread that zeroes returned slabs.
//!
//! A [`Daemon`] is a value: a test or a benchmark starts one, and dropping it ends it.
//!
//! ```
//! use farptr_server::{Config, Daemon};
//!
//! let daemon = Daemon::start(Config::new("127.0.0.1:0", 64 << 20))?;
//! println!("lending at {}", daemon.addresses()[0]);
//! # Ok::<(), farptr_server::StartError>(())
//! ```
#![forbid(unsafe_code)]

pub mod config;
mod connection;
pub mod daemon;
mod listen;
pub mod machine;
mod stream;
mod worker;

pub use config::{Config, StartError};
pub use daemon::Daemon;
pub use listen::Address;
