//! Sets of byte strings, as the planner keeps them: small, and only ever made less exact, never wrong.

use std::collections::BTreeSet;

/// Strings a set may have before it must be made smaller.
pub const MAX_STRINGS: usize = 16;
/// Bytes kept of the beginning or end of a string. Two would do to make trigrams with what comes next; the third keeps
/// alternatives apart.
pub const KEPT_BYTES: usize = 3;

/// A set of byte strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strings(BTreeSet<Vec<u8>>);

/// Which end of a string is kept when it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Its beginning.
    Beginning,
    /// Its end.
    End,
}

impl Strings {
    /// No string at all: what matches nothing.
    pub fn none() -> Self {
        Strings(BTreeSet::new())
    }

    /// The empty string alone: as the beginning or end of something, it says nothing.
    pub fn empty() -> Self {
        Strings::one(b"")
    }

    /// One string.
    pub fn one(bytes: &[u8]) -> Self {
        Strings(BTreeSet::from([bytes.to_vec()]))
    }

    /// These strings.
    pub fn of(strings: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Strings(strings.into_iter().collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The strings, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// Length of the shortest.
    pub fn shortest(&self) -> usize {
        self.iter().map(<[u8]>::len).min().unwrap_or(usize::MAX)
    }

    /// The strings of both.
    pub fn union(mut self, other: &Strings) -> Strings {
        self.0.extend(other.0.iter().cloned());
        self
    }

    /// Each of these followed by each of `other`.
    pub fn followed_by(&self, other: &Strings) -> Strings {
        Strings::of(self.iter().flat_map(|first| other.iter().map(move |second| [first, second].concat())))
    }

    /// Cuts every string to at most `bytes`.
    pub fn cut(&self, keep: Keep, bytes: usize) -> Strings {
        Strings::of(self.iter().map(|string| {
            let kept = string.len().min(bytes);
            match keep {
                Keep::Beginning => string[..kept].to_vec(),
                Keep::End => string[string.len() - kept..].to_vec(),
            }
        }))
    }

    /// Cuts the strings to [`KEPT_BYTES`], and further until there are at most [`MAX_STRINGS`].
    pub fn cut_to_few(&self, keep: Keep) -> Strings {
        (1..=KEPT_BYTES)
            .rev()
            .map(|bytes| self.cut(keep, bytes))
            .find(|cut| cut.len() <= MAX_STRINGS)
            .unwrap_or_else(Strings::empty)
    }
}
