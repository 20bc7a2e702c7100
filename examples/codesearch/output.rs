//! Where matching lines go.

use std::io::Write;
use std::time::{Duration, Instant};

use super::error::{Failure, Result};

/// Takes matching lines.
pub trait Sink {
    /// Line `number` of the file `path` matches.
    fn line(&mut self, path: &[u8], number: u64, line: &[u8]) -> Result<()>;

    /// The file `path` had so many matching lines, at least one.
    fn end_file(&mut self, path: &[u8], lines: u64) -> Result<()>;
}

/// What is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `path:line:text`, as grep prints it.
    Lines,
    /// The first few of them.
    FirstLines(u64),
    /// `path:count` for each file that matches.
    Counts,
    /// Nothing.
    Nothing,
}

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 64 * 1024;

/// Prints to `W`, and keeps account of the time that took, because a slow terminal is not a slow search.
#[derive(Debug)]
pub struct Printer<W> {
    out: W,
    form: Form,
    buffer: Vec<u8>,
    lines: u64,
    writing: Duration,
}

impl<W: Write> Printer<W> {
    /// Prints to `out` in this form.
    pub fn new(out: W, form: Form) -> Self {
        Printer { out, form, buffer: Vec::new(), lines: 0, writing: Duration::ZERO }
    }

    /// Writes what is still held back. Counting for [`Form::FirstLines`] starts anew.
    pub fn flush(&mut self) -> Result<()> {
        self.lines = 0;
        self.write()
    }

    /// Time spent writing so far.
    pub fn writing(&self) -> Duration {
        self.writing
    }

    fn write(&mut self) -> Result<()> {
        let start = Instant::now();
        let written = self.out.write_all(&self.buffer).and_then(|()| self.out.flush());
        self.buffer.clear();
        self.writing += start.elapsed();
        written.map_err(Failure::Output)
    }

    /// Prints the parts, end to end, and a line end.
    fn put(&mut self, parts: &[&[u8]]) -> Result<()> {
        parts.iter().for_each(|part| self.buffer.extend_from_slice(part));
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER_BYTES { self.write() } else { Ok(()) }
    }
}

impl<W: Write> Sink for Printer<W> {
    fn line(&mut self, path: &[u8], number: u64, line: &[u8]) -> Result<()> {
        self.lines += 1;
        match self.form {
            Form::Counts | Form::Nothing => return Ok(()),
            Form::FirstLines(limit) if self.lines > limit => return Ok(()),
            Form::FirstLines(_) | Form::Lines => (),
        }
        self.put(&[path, b":", number.to_string().as_bytes(), b":", line])
    }

    fn end_file(&mut self, path: &[u8], lines: u64) -> Result<()> {
        if self.form == Form::Counts { self.put(&[path, b":", lines.to_string().as_bytes()]) } else { Ok(()) }
    }
}
