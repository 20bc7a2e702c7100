//! The ground that farptr stands on. Programs use the `farptr` crate; this one is for its parts.
//!
//! Layers, lowest first; each imports only from those above it in this list.
pub mod bytes;
pub mod error;
pub mod slab;
pub mod transport;
pub mod wire;

pub use error::{Error, Result, TransportError};
