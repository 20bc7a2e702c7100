//! How many threads spin at a time.
//!
//! A thread that spins for what is about to come spares itself a sleep and a wake-up. That holds as long as there is a processor for it. When more threads spin than there are
//! processors, they take time from those that they wait for, and from each other. So a thread asks first, and sleeps at once if enough others spin.
#![forbid(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads that spin now for one kind of event.
#[derive(Debug, Default)]
pub(crate) struct Spinners(AtomicUsize);

/// A thread that spins, until this is dropped.
#[derive(Debug)]
pub(crate) struct Spinning<'a>(&'a Spinners);

/// The number of processors that this process may use.
fn processors() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

impl Spinners {
    /// Leave to spin, unless as many threads do as there are processors.
    pub(crate) fn try_spin(&self) -> Option<Spinning<'_>> {
        // Relaxed: a number of threads that is one too high or too low now and then does no harm.
        let spinning = Spinning(self);
        (self.0.fetch_add(1, Ordering::Relaxed) < processors()).then_some(spinning)
    }
}

impl Drop for Spinning<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_spin_as_there_are_processors() {
        let spinners = Spinners::default();
        let mut spinning: Vec<_> = (0..processors()).map(|_| spinners.try_spin().expect("there is a processor")).collect();
        assert!(spinners.try_spin().is_none() && spinners.try_spin().is_none());
        spinning.pop();
        assert!(spinners.try_spin().is_some(), "who was refused is not counted");
    }
}
