//! What nothing can beat: bare copies from where far memory would be, and bare round trips to where it would be.

use crate::random::Random;
use std::hint::black_box;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{Ordering, fence};
use std::thread::JoinHandle;

/// Copies of `bytes` bytes from uniform random places of a mapping to one place after the other of a room.
#[derive(Debug)]
pub struct BareCopies<'a> {
    source: &'a [u8],
    room: Room<'a>,
    bytes: usize,
    random: Random,
}

/// Where copies go.
#[derive(Debug)]
enum Room<'a> {
    /// Always the same place, which the processor's caches hold.
    One(Vec<u8>),
    /// The next place of memory as large as a local budget, and from its end to its start: what a log does. Each copy has ended before the next begins, because an object
    /// that was fetched is published before the program goes on.
    Log { log: &'a mut [u8], next: usize },
}

impl<'a> BareCopies<'a> {
    /// Copies of `bytes` bytes from `source` to one place.
    pub fn new(source: &'a [u8], bytes: usize) -> Self {
        BareCopies { source, room: Room::One(vec![0; bytes]), bytes, random: Random::default() }
    }

    /// Copies of `bytes` bytes from `source` to one place after the other of `log`.
    pub fn to_log(source: &'a [u8], bytes: usize, log: &'a mut [u8]) -> Self {
        BareCopies { source, room: Room::Log { log, next: 0 }, bytes, random: Random::default() }
    }

    /// Makes one.
    #[inline]
    pub fn copy(&mut self) {
        let at = self.random.below(self.source.len() / self.bytes) * self.bytes;
        let target = match &mut self.room {
            Room::One(place) => &mut place[..],
            Room::Log { log, next } => {
                let start = if *next + self.bytes > log.len() { 0 } else { *next };
                *next = start + self.bytes;
                &mut log[start..start + self.bytes]
            }
        };
        target.copy_from_slice(&self.source[at..at + self.bytes]);
        black_box(target);
        if let Room::Log { .. } = self.room {
            fence(Ordering::SeqCst);
        }
    }
}

/// Bytes of a request: what one of the wire's read requests takes, about.
const REQUEST: usize = 32;

/// A pair of sockets on loopback, both ends spinning: a request, and a reply of a given size.
#[derive(Debug)]
pub struct RoundTrips {
    near: TcpStream,
    reply: Vec<u8>,
    far: Option<JoinHandle<()>>,
}

impl RoundTrips {
    /// Starts the other end, which answers with `reply` bytes.
    ///
    /// # Errors
    /// If loopback has no socket for it.
    pub fn start(reply: usize) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let near = TcpStream::connect(listener.local_addr()?)?;
        let (mut far, _) = listener.accept()?;
        for stream in [&near, &far] {
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
        }
        let far = std::thread::spawn(move || {
            let (mut request, answer) = ([0u8; REQUEST], vec![7; reply]);
            while read_spinning(&mut far, &mut request) && write_spinning(&mut far, &answer) {}
        });
        Ok(RoundTrips { near, reply: vec![0; reply], far: Some(far) })
    }

    /// Asks once, and waits for the answer.
    ///
    /// # Panics
    /// If the other end has gone.
    pub fn round_trip(&mut self) {
        assert!(write_spinning(&mut self.near, &[1; REQUEST]) && read_spinning(&mut self.near, &mut self.reply));
    }
}

impl Drop for RoundTrips {
    fn drop(&mut self) {
        let _ = self.near.shutdown(std::net::Shutdown::Both);
        if let Some(far) = self.far.take() {
            let _ = far.join();
        }
    }
}

/// Reads exactly, spinning; `false` at the end of the stream.
fn read_spinning(stream: &mut TcpStream, mut buffer: &mut [u8]) -> bool {
    while !buffer.is_empty() {
        match stream.read(buffer) {
            Ok(0) => return false,
            Ok(count) => buffer = &mut buffer[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(_) => return false,
        }
    }
    true
}

/// Writes all, spinning where the socket's buffer is full.
fn write_spinning(stream: &mut TcpStream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(_) => return false,
        }
    }
    true
}
