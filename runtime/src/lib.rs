//! The ground that farptr stands on. Programs use the `farptr` crate; this one is for its parts.
//!
//! Layers, lowest first; each imports only from those above it in this list.
#[doc(hidden)]
pub mod ablations;
pub mod bytes;
pub mod error;
pub mod forked;
pub mod poison;
pub mod rcu;
mod sum;
pub mod sync;
pub mod sys;

pub mod addr;
pub mod arena;
pub mod budget;
pub mod word;

pub mod scope;

pub mod heap;
pub mod slot;
pub mod steps;

pub mod alarm;
mod spinners;
pub mod turns;

pub mod slab;
pub mod transport;
pub mod wire;

pub mod far;

pub mod memory;

#[cfg(all(test, farptr_loom))]
mod loom;

pub use error::{Error, Result, TransportError};
