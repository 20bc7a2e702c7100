//! The lender's end of one connection.
//!
//! The owner feeds what it receives to [`ServerSession::handle_input`], which answers each request at once into
//! [`ServerSession::output`], and sends that. Input that isn't consumed (because too much output is unsent) is to be kept
//! and offered again once output has been sent; meanwhile the owner reads no more. When `handle_input` or
//! [`ServerSession::check`] returns an [`Ending`], the output closes with the frame that says so: send what the socket takes at
//! once, and close.
#![forbid(unsafe_code)]

use super::ending::Ending;
use super::frame::{self, HELLO_BYTES, Hello, Passing, REPLY_BYTES, REQUEST_BYTES, Reply, Request, Tag, Terms};
use super::lender::{Lender, Membership};
use super::offers::encode_offers;
use super::outbuf::OutBuf;
use crate::slab::{BorrowerId, Export, SlabError};
use crate::transport::{MAX_OP_BYTES, SlabPos};
use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Unsent bytes of replies above which a session consumes no input before some are sent. Enough that a send costs little beside what it sends, little enough that the
/// client looks at the first replies of many while the next are made: 64 tasks over TCP, 4 KiB each, get 6% more than with half a MiB.
pub const OUTPUT_LIMIT: usize = 64 << 10;

/// How long a client may take for its hello.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may leave its replies unread. Generous: a stopped process (a debugger, a suspended laptop) isn't hostile,
/// and costs only [`OUTPUT_LIMIT`] bytes.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The lender's end of one connection.
#[derive(Debug)]
pub struct ServerSession {
    lender: Arc<Lender>,
    membership: Option<Membership>,
    along: Along,
    /// Files to be passed, each with the byte of the output (of all that is ever sent) that it goes with.
    files: VecDeque<(u64, Arc<File>)>,
    input: Input,
    partial: [u8; HELLO_BYTES],
    partial_len: usize,
    out: OutBuf,
    ended: Option<Ending>,
    /// When the connection was opened, until it has said hello; then when output was first seen waiting without progress.
    waiting_since: Option<Instant>,
}

/// How slabs can be made to be reached by the borrower itself.
#[derive(Clone)]
enum Along {
    Nothing,
    Files,
    Keys(Arc<dyn Export>),
}

impl std::fmt::Debug for Along {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Along::Nothing => "Nothing",
            Along::Files => "Files",
            Along::Keys(_) => "Keys",
        })
    }
}

/// Where in the stream of input the session is.
#[derive(Debug, Clone, Copy)]
enum Input {
    Hello,
    Request,
    /// In the payload of a write. `at` is where the next byte goes.
    Payload {
        tag: Tag,
        at: SlabPos,
        left: u32,
    },
}

impl ServerSession {
    /// A session for a connection that was just accepted.
    pub fn new(lender: Arc<Lender>, now: Instant) -> Self {
        Self {
            lender,
            membership: None,
            along: Along::Nothing,
            files: VecDeque::new(),
            input: Input::Hello,
            partial: [0; HELLO_BYTES],
            partial_len: 0,
            out: OutBuf::default(),
            ended: None,
            waiting_since: Some(now),
        }
    }

    /// The same, for a connection that can pass files to its client: its owner sends what [`file`](Self::file) says.
    pub fn passing_files(lender: Arc<Lender>, now: Instant) -> Self {
        Self { along: Along::Files, ..Self::new(lender, now) }
    }

    /// The same, for a connection whose client reads and writes slabs by itself, with keys that `export` makes. It is for control only.
    pub fn passing_keys(lender: Arc<Lender>, now: Instant, export: Arc<dyn Export>) -> Self {
        Self { along: Along::Keys(export), ..Self::new(lender, now) }
    }

    /// The next file to pass, and how many bytes of the output come before the byte that it goes with. A send must not go beyond that byte
    /// without the file, nor start with it unless the file goes along.
    pub fn file(&self) -> Option<(usize, &File)> {
        let (at, file) = self.files.front()?;
        Some(((at - self.out.next_sent()) as usize, file))
    }

    /// The frame that turns a connection away before a session is made for it.
    pub fn refusal(why: Ending) -> [u8; frame::WELCOME_BYTES] {
        frame::encode_refusal(why)
    }

    /// The borrower, once it has said hello.
    pub fn borrower(&self) -> Option<BorrowerId> {
        self.membership.as_ref().map(|membership| membership.id)
    }

    /// Bytes to send.
    #[inline]
    pub fn output(&self) -> &[u8] {
        self.out.pending()
    }

    /// `len` bytes of the output have been sent.
    #[inline]
    pub fn output_sent(&mut self, len: usize) {
        self.out.sent(len);
        while self.files.front().is_some_and(|(at, _)| *at < self.out.next_sent()) {
            self.files.pop_front();
        }
        if len > 0 && self.membership.is_some() {
            self.waiting_since = None;
        }
    }

    /// Whether so much output is unsent that no input will be consumed.
    #[inline]
    pub fn is_blocked(&self) -> bool {
        self.out.len() >= OUTPUT_LIMIT
    }

    /// Takes in bytes from the client and answers them; returns how many it consumed. All of them, unless it
    /// [`is_blocked`](Self::is_blocked).
    pub fn handle_input(&mut self, input: &[u8]) -> Result<usize, Ending> {
        if let Some(ending) = self.ended {
            return Err(ending);
        }
        let mut rest = input;
        while !rest.is_empty() && !self.is_blocked() {
            let went = match self.input {
                Input::Request => match self.whole::<REQUEST_BYTES>(&mut rest) {
                    Some(bytes) => {
                        self.look_ahead(rest);
                        self.handle_request(&bytes)
                    }
                    None => break,
                },
                Input::Payload { tag, at, left } => self.take_payload(tag, at, left, &mut rest),
                Input::Hello => match self.whole::<HELLO_BYTES>(&mut rest) {
                    Some(bytes) => self.handle_hello(&bytes),
                    None => break,
                },
            };
            if let Err(ending) = went {
                return Err(self.end(ending));
            }
        }
        Ok(input.len() - rest.len())
    }

    /// Lets time pass: ends a session whose client says no hello or doesn't read.
    pub fn check(&mut self, now: Instant) -> Result<(), Ending> {
        let waiting = |since: Option<Instant>| since.map(|since| now.saturating_duration_since(since));
        if self.membership.is_none() {
            if waiting(self.waiting_since).is_some_and(|waited| waited >= HANDSHAKE_TIMEOUT) {
                return Err(self.end(Ending::HandshakeTimeout));
            }
        } else if self.out.len() == 0 {
            self.waiting_since = None;
            self.out.trim();
        } else if self.waiting_since.is_none() {
            self.waiting_since = Some(now);
        } else if waiting(self.waiting_since).is_some_and(|waited| waited >= STALL_TIMEOUT) {
            return Err(self.end(Ending::Stalled));
        }
        Ok(())
    }

    /// Ends the session for `why`; the output then closes with the frame that says so, or that was asked for.
    pub fn end(&mut self, why: Ending) -> Ending {
        if self.ended.is_none() {
            self.ended = Some(why);
            if self.membership.is_some() {
                self.out.push(&frame::encode_reply(Tag(0), Reply::End(why.code())));
            } else if let (Ending::Told, Some(offers)) = (why, self.lender.offers()) {
                self.out.push(&encode_offers(offers));
            } else {
                self.out.push(&frame::encode_refusal(why));
            }
        }
        why
    }

    /// Takes a frame of `N` bytes off the input, or keeps what there is of it for later.
    #[inline]
    fn whole<const N: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        if self.partial_len == 0
            && let Some((bytes, rest)) = input.split_first_chunk::<N>()
        {
            *input = rest;
            return Some(*bytes);
        }
        let part = (N - self.partial_len).min(input.len());
        self.partial[self.partial_len..self.partial_len + part].copy_from_slice(&input[..part]);
        self.partial_len += part;
        *input = &input[part..];
        if self.partial_len < N {
            return None;
        }
        self.partial_len = 0;
        self.partial.first_chunk::<N>().copied()
    }

    /// Starts to fetch what the next request reads, so that its memory latency overlaps the copying of this one's bytes.
    #[inline]
    fn look_ahead(&self, rest: &[u8]) {
        if let Some(next) = rest.first_chunk::<REQUEST_BYTES>()
            && let Some((_, Request::Read { at, len })) = frame::decode_request(next)
            && let Some(who) = self.borrower()
        {
            self.lender.store().prefetch(who, at, len as usize);
        }
    }

    fn handle_hello(&mut self, bytes: &[u8; HELLO_BYTES]) -> Result<(), Ending> {
        let intent = match frame::decode_hello(bytes) {
            Hello::Speaks(intent) => intent,
            // By RDMA the answer would have to go along with a rejection, where there is room for 148 bytes.
            Hello::Asks if matches!(self.along, Along::Keys(_)) => return Err(Ending::BadHello),
            Hello::Asks => return Err(self.lender.offers().map_or(Ending::Internal, |_| Ending::Told)),
            Hello::OtherVersion(_) => return Err(Ending::Version),
            Hello::Foreign => return Err(Ending::BadHello),
        };
        let membership = self.lender.admit(intent)?;
        let store = self.lender.store();
        self.out.push(&frame::encode_welcome(&Terms {
            token: membership.token,
            slab_bytes: store.slab_bytes(),
            capacity: store.capacity(),
            passing: match (&self.along, store.sharing()) {
                (Along::Files, Some(sharing)) => Passing::Files(sharing),
                (Along::Files, None) | (Along::Nothing, _) => Passing::Nothing,
                (Along::Keys(_), _) => Passing::Keys,
            },
        }));
        self.membership = Some(membership);
        self.waiting_since = None;
        self.input = Input::Request;
        Ok(())
    }

    #[inline]
    fn handle_request(&mut self, bytes: &[u8; REQUEST_BYTES]) -> Result<(), Ending> {
        let (tag, request) = frame::decode_request(bytes).ok_or(Ending::BadFrame)?;
        let who = self.who()?;
        let store = self.lender.store();
        match request {
            Request::Read { .. } | Request::Write { .. } if matches!(self.along, Along::Keys(_)) => return Err(Ending::BadFrame),
            Request::Read { at, len } => {
                if len == 0 || len as usize > MAX_OP_BYTES {
                    return Err(Ending::BadLength);
                }
                let frame = self.out.grow(REPLY_BYTES + len as usize);
                let (head, payload) = frame.split_at_mut(REPLY_BYTES);
                head.copy_from_slice(&frame::encode_reply(tag, Reply::Read { len }));
                if let Err(error) = store.read(who, at, payload) {
                    // Nothing of the frame may leave: the room it got may hold bytes of other replies.
                    self.out.shrink(REPLY_BYTES + len as usize);
                    return Err(ending_for(&error));
                }
            }
            Request::Write { at, len } => {
                if len == 0 || len as usize > MAX_OP_BYTES {
                    return Err(Ending::BadLength);
                }
                store.check(who, at, len as usize).map_err(|error| ending_for(&error))?;
                self.input = Input::Payload { tag, at, left: len };
            }
            Request::Borrow => {
                let lent = match &self.along {
                    Along::Nothing => store.lend(who).map(|slab| (slab, None, None)),
                    Along::Files => store.lend_file(who).map(|(slab, file)| (slab, file, None)),
                    Along::Keys(export) => store.lend_exported(who, &**export).map(|(slab, key)| (slab, None, Some(key))),
                };
                let (reply, key) = match lent {
                    Ok((slab, file, key)) => {
                        self.files.extend(file.map(|file| (self.out.next_appended(), file)));
                        (Reply::Lent(slab), key)
                    }
                    Err(SlabError::Full { .. }) => (Reply::Full, None),
                    Err(error) => {
                        tracing::warn!(%error, "a slab can't be lent");
                        (Reply::NoMemory, None)
                    }
                };
                self.out.push(&frame::encode_reply(tag, reply));
                if let Some(key) = key {
                    self.out.push(&frame::encode_key(key));
                }
            }
            Request::Return(slab) => {
                store.take_back(who, slab).map_err(|error| ending_for(&error))?;
                self.out.push(&frame::encode_reply(tag, Reply::Returned));
            }
        }
        Ok(())
    }

    #[inline]
    fn take_payload(&mut self, tag: Tag, at: SlabPos, left: u32, input: &mut &[u8]) -> Result<(), Ending> {
        let part = (left as usize).min(input.len());
        let (now, rest) = input.split_at(part);
        *input = rest;
        // Asked again for each piece: another connection of the borrower may have returned the slab since.
        self.lender.store().write(self.who()?, at, now).map_err(|error| ending_for(&error))?;
        let left = left - part as u32;
        if left == 0 {
            self.out.push(&frame::encode_reply(tag, Reply::Written));
            self.input = Input::Request;
        } else {
            self.input = Input::Payload { tag, at: SlabPos { slab: at.slab, offset: at.offset + part as u32 }, left };
        }
        Ok(())
    }

    #[inline]
    fn who(&self) -> Result<BorrowerId, Ending> {
        self.borrower().ok_or(Ending::BadHello)
    }
}

fn ending_for(error: &SlabError) -> Ending {
    match error {
        SlabError::NotYours { .. } => Ending::NotYours,
        SlabError::Range { .. } => Ending::BadRange,
        SlabError::Full { .. } | SlabError::NoMemory { .. } | SlabError::Config(_) => Ending::Internal,
    }
}
