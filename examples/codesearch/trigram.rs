//! Trigrams: three bytes in a row, inside one line.

/// Three bytes, as a number: the first byte is the highest, so that numeric order is the order of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Trigram(u32);

impl Trigram {
    /// How many there are.
    pub const COUNT: usize = 1 << 24;

    /// The trigram of three bytes.
    pub fn new(bytes: [u8; 3]) -> Self {
        Trigram(u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]))
    }

    /// The trigram with number `number`, if there is one.
    pub fn from_number(number: u32) -> Option<Self> {
        ((number as usize) < Self::COUNT).then_some(Trigram(number))
    }

    /// Its number, below 2^24.
    pub fn number(self) -> u32 {
        self.0
    }

    /// Every trigram of `text`, in order, with repetitions.
    pub fn all_of(text: &[u8]) -> impl Iterator<Item = Trigram> + '_ {
        text.windows(3).map(|window| Trigram::new([window[0], window[1], window[2]]))
    }
}

/// The set of trigrams of one file, filled as the file streams past.
///
/// One bit for each trigram that exists (2 MiB) and one for each word of those bits, so that emptying the set for the next file
/// costs what was in it rather than 2 MiB of zeroes.
pub struct TrigramSet {
    bits: Vec<u64>,
    touched: Vec<u64>,
    window: u32,
    in_line: u8,
}

impl TrigramSet {
    /// An empty set.
    pub fn new() -> Self {
        let words = Trigram::COUNT / 64;
        TrigramSet { bits: vec![0; words], touched: vec![0; words / 64], window: 0, in_line: 0 }
    }

    /// Takes the next bytes of the file and tells `first_seen` each trigram that was not in the set before.
    ///
    /// A trigram never holds a line's end: matches lie inside lines, so that nothing would ever ask for it.
    pub fn feed(&mut self, bytes: &[u8], mut first_seen: impl FnMut(Trigram)) {
        for &byte in bytes {
            if byte == b'\n' {
                self.in_line = 0;
                continue;
            }
            self.window = (self.window << 8 | u32::from(byte)) & (Trigram::COUNT as u32 - 1);
            if self.in_line < 2 {
                self.in_line += 1;
                continue;
            }
            let word = self.window as usize / 64;
            let bit = 1 << (self.window % 64);
            if self.bits[word] & bit == 0 {
                self.bits[word] |= bit;
                self.touched[word / 64] |= 1 << (word % 64);
                first_seen(Trigram(self.window));
            }
        }
    }

    /// Empties the set, for the next file.
    pub fn clear(&mut self) {
        self.in_line = 0;
        for (group, touched) in self.touched.iter_mut().enumerate() {
            while *touched != 0 {
                self.bits[group * 64 + touched.trailing_zeros() as usize] = 0;
                *touched &= *touched - 1;
            }
        }
    }
}

impl Default for TrigramSet {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn fed(set: &mut TrigramSet, pieces: &[&[u8]]) -> Vec<Trigram> {
        let mut seen = Vec::new();
        for piece in pieces {
            set.feed(piece, |trigram| seen.push(trigram));
        }
        seen
    }

    #[test]
    fn each_trigram_is_seen_once_across_pieces() {
        let mut set = TrigramSet::new();
        let seen = fed(&mut set, &[b"ab", b"ca", b"bcab"]);
        let expected = [*b"abc", *b"bca", *b"cab"].map(Trigram::new);
        assert_eq!(seen, expected);
    }

    #[test]
    fn no_trigram_crosses_a_line_end() {
        let mut set = TrigramSet::new();
        assert_eq!(fed(&mut set, &[b"ab\ncd\n", b"ef", b"\ng"]), []);
        assert_eq!(fed(&mut set, &[b"xyz"]), [*b"gxy", *b"xyz"].map(Trigram::new));
    }

    #[test]
    fn clear_forgets_everything_and_the_line_so_far() {
        let mut set = TrigramSet::new();
        let text: Vec<u8> = (0..=255u8).chain((0..=255).rev()).collect();
        let first: BTreeSet<_> = fed(&mut set, &[&text]).into_iter().collect();
        set.clear();
        assert!(set.bits.iter().chain(&set.touched).all(|&word| word == 0));
        let second: BTreeSet<_> = fed(&mut set, &[&text]).into_iter().collect();
        assert_eq!(first, second);
    }
}
