//! Matches the lines of a file whose text comes in slices that end anywhere.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memrchr};
use regex::bytes::Regex;

/// Lines that matched, copied out so that they outlive the slice they came in.
#[derive(Debug, Default)]
pub struct Found {
    text: Vec<u8>,
    lines: Vec<(u64, Range<usize>)>,
}

impl Found {
    /// The lines: number, counted from 1, and text without line end.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.lines.iter().map(|(number, range)| (*number, &self.text[range.clone()]))
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.text.clear();
        self.lines.clear();
    }

    fn add(&mut self, number: u64, line: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(line);
        self.lines.push((number, start..self.text.len()));
    }
}

/// Splits one file into lines and matches each.
#[derive(Debug)]
pub struct LineMatcher<'r> {
    regex: &'r Regex,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    lines: u64,
}

impl<'r> LineMatcher<'r> {
    /// At the beginning of a file.
    pub fn new(regex: &'r Regex) -> Self {
        LineMatcher { regex, partial: Vec::new(), lines: 0 }
    }

    /// Takes the next bytes and adds lines that match to `found`.
    pub fn feed(&mut self, mut bytes: &[u8], found: &mut Found) {
        if !self.partial.is_empty() {
            let Some(end) = memchr(b'\n', bytes) else {
                self.partial.extend_from_slice(bytes);
                return;
            };
            self.partial.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            self.end_partial(found);
        }
        let whole = memrchr(b'\n', bytes).map_or(0, |end| end + 1);
        let mut start = 0;
        for end in memchr_iter(b'\n', &bytes[..whole]) {
            self.lines += 1;
            let line = &bytes[start..end];
            if self.regex.is_match(line) {
                found.add(self.lines, line);
            }
            start = end + 1;
        }
        self.partial.extend_from_slice(&bytes[whole..]);
    }

    /// Ends the file: a last line without line end is a line, too.
    pub fn finish(&mut self, found: &mut Found) {
        if !self.partial.is_empty() {
            self.end_partial(found);
        }
        self.lines = 0;
    }

    fn end_partial(&mut self, found: &mut Found) {
        self.lines += 1;
        if self.regex.is_match(&self.partial) {
            found.add(self.lines, &self.partial);
        }
        self.partial.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &[u8], slice: usize) -> Vec<(u64, Vec<u8>)> {
        let regex = Regex::new(pattern).expect("a regex");
        let mut matcher = LineMatcher::new(&regex);
        let mut found = Found::default();
        text.chunks(slice).for_each(|part| matcher.feed(part, &mut found));
        matcher.finish(&mut found);
        found.iter().map(|(number, line)| (number, line.to_vec())).collect()
    }

    #[test]
    fn slices_of_any_length_give_the_same_lines() {
        let text = b"one\n\ntwo three\nfour\r\n\xff\xfe three\nlast three";
        let expected = [(3, b"two three".to_vec()), (5, b"\xff\xfe three".to_vec()), (6, b"last three".to_vec())];
        for slice in 1..=text.len() {
            assert_eq!(matches("three$", text, slice), expected, "slices of {slice}");
            assert_eq!(matches("", text, slice).len(), 6, "slices of {slice}");
        }
    }

    #[test]
    fn an_empty_file_has_no_line_and_a_last_line_end_starts_none() {
        assert_eq!(matches("", b"", 1), []);
        assert_eq!(matches("", b"\n", 1), [(1, b"".to_vec())]);
        assert_eq!(matches("^$", b"a\n\n", 2), [(2, b"".to_vec())]);
    }
}
