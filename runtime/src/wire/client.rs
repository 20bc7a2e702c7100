//! The borrower's end of one connection.
//!
//! The owner moves bytes: it sends what [`ClientSession::output`] holds, feeds what it receives to
//! [`ClientSession::handle_input`], and calls [`ClientSession::advance`] with the time now and then. Each tag goes
//! `free -> in flight -> free`, or, if its reply is late, `free -> in flight -> abandoned -> free`: the operation has then
//! completed with a timeout and its buffer is the submitter's again, while the tag waits for the late reply, which is
//! read and thrown away. A server that doesn't answer at all for [`GIVE_UP`] timeouts fails the session.
//!
//! Where slabs are passed as files, the owner hands those that came with some bytes to [`ClientSession::receive_file`] before it feeds the bytes.
#![forbid(unsafe_code)]

use super::ending::Ending;
use super::frame::{self, Intent, KEY_BYTES, Passing, REPLY_BYTES, Reply, Request, Tag, Terms, WELCOME_BYTES, Welcome};
use super::in_flight::{InFlight, Late, Slot, State};
use super::outbuf::OutBuf;
use super::uses::SlabUses;
use crate::error::TransportError;
use crate::slab::{MemoryKey, STRIPE_BYTES};
use crate::transport::{Completion, MAX_OP_BYTES, Op, SlabId, Submit, Verb, bad_length};
use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tags a session has unless told otherwise. Enough to cover a round trip of a millisecond at half a million operations a second.
pub const DEFAULT_IN_FLIGHT: u16 = 512;

/// Unsent bytes above which the session takes no further operation: two of the largest writes, so that one can be sent while
/// the next is submitted. It is memory beside the local budget, for each session.
pub const OUTPUT_LIMIT: usize = 2 * MAX_OP_BYTES;

/// After how many timeouts without its reply an abandoned operation fails the session: its tag would be lost for ever.
pub const GIVE_UP: u32 = 4;

/// Files that may have come before the frames that they belong to. A server that sends one with each slab never has two underway to a
/// client that asks for one slab at a time, but late ones may come together with it.
const MAX_FILES: usize = 16;

/// Longer timeouts are taken for this: a day, far from where adding one to a time overflows.
pub const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// What to ask about slabs as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlVerb {
    /// Borrow a slab.
    Borrow,
    /// Return this slab.
    Return(SlabId),
}

/// A slab that has been borrowed, with what came along.
#[derive(Debug)]
pub struct Lent {
    /// Which it is.
    pub slab: SlabId,
    /// Its file, where slabs are passed as files.
    pub file: Option<File>,
    /// The key to it, where keys are passed.
    pub key: Option<MemoryKey>,
}

/// How a control request ended.
#[derive(Debug)]
pub enum ControlDone {
    /// A slab was borrowed, or not.
    Borrowed(Result<Lent, TransportError>),
    /// A slab was returned, or not.
    Returned(Result<(), TransportError>),
}

/// The borrower's end of one connection.
#[derive(Debug)]
pub struct ClientSession {
    intent: Intent,
    terms: Option<Terms>,
    failure: Option<TransportError>,
    timeout: Duration,
    out: OutBuf,
    input: Input,
    partial: [u8; WELCOME_BYTES],
    partial_len: usize,
    tags: InFlight,
    uses: Arc<SlabUses>,
    data_in_flight: usize,
    /// Operations refused without asking the server.
    refused: Vec<Completion>,
    control: Vec<ControlDone>,
    /// Files whose frames haven't come yet.
    files: VecDeque<File>,
}

/// Where in the stream of input the session is.
#[derive(Debug, Clone, Copy)]
enum Input {
    Welcome,
    Reply,
    /// Behind a *lent* by this tag, before the key to that slab.
    Key {
        tag: Tag,
        slab: SlabId,
    },
    /// In the payload of the read with this tag.
    Payload {
        slot: Slot,
        done: usize,
        len: usize,
    },
}

impl ClientSession {
    /// A session whose hello waits in [`output`](Self::output).
    ///
    /// # Panics
    /// If `in_flight` is 0.
    pub fn new(intent: Intent, in_flight: u16, timeout: Duration) -> Self {
        assert!(in_flight > 0, "a session without tags can do nothing");
        let mut out = OutBuf::default();
        out.push(&frame::encode_hello(intent));
        Self {
            intent,
            terms: None,
            failure: None,
            timeout: timeout.min(LONGEST_TIMEOUT),
            out,
            input: Input::Welcome,
            partial: [0; WELCOME_BYTES],
            partial_len: 0,
            tags: InFlight::new(in_flight),
            uses: Arc::default(),
            data_in_flight: 0,
            refused: Vec::new(),
            control: Vec::new(),
            files: VecDeque::new(),
        }
    }

    /// From now on counts what it has underway in `uses`, which all connections of the borrower share.
    pub fn share_uses(&mut self, uses: Arc<SlabUses>) {
        debug_assert!(self.tags.slabs().next().is_none(), "requests were counted elsewhere");
        self.uses = uses;
    }

    /// What the server said when it let this connection in, if it has.
    pub fn terms(&self) -> Option<Terms> {
        self.terms
    }

    /// Why the session is dead, if it is.
    pub fn failure(&self) -> Option<&TransportError> {
        self.failure.as_ref()
    }

    /// Operations submitted and not yet completed.
    pub fn in_flight(&self) -> usize {
        self.data_in_flight + self.refused.len()
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
    }

    /// Whether `advance` has something to report at once, so that waiting for the socket would be in vain.
    pub fn is_ready(&self) -> bool {
        self.failure.is_some() || !self.refused.is_empty()
    }

    /// Gives memory back that only a burst needed. For moments without traffic.
    pub fn trim(&mut self) {
        self.out.trim();
    }

    /// Starts a read or write.
    #[inline]
    pub fn submit(&mut self, op: Op) -> Submit {
        if let Some(failure) = &self.failure {
            return Submit::Failed(op, failure.clone());
        }
        let Op { token, verb, at, buf } = op;
        let bytes = buf.len();
        if bytes == 0 || bytes > MAX_OP_BYTES {
            if self.refused.len() >= self.tags.capacity() {
                return Submit::Busy(Op { token, verb, at, buf });
            }
            self.refused.push(Completion { token, verb, buf, result: Err(bad_length(bytes)) });
            return Submit::Accepted;
        }
        if self.out.len() >= OUTPUT_LIMIT {
            return Submit::Busy(Op { token, verb, at, buf });
        }
        let Some(slot) = self.tags.reserve() else { return Submit::Busy(Op { token, verb, at, buf }) };
        if !self.uses.enter(at.slab) {
            self.tags.release(slot);
            let gone = TransportError::Refused(format!("slab {} has been returned", at.slab.0));
            self.refused.push(Completion { token, verb, buf, result: Err(gone) });
            return Submit::Accepted;
        }
        self.tags.set_slab(slot, at.slab);
        let len = bytes as u32;
        let tag = self.tags.tag(slot);
        match verb {
            Verb::Read => self.out.push(&frame::encode_request(tag, Request::Read { at, len })),
            Verb::Write => {
                self.out.push(&frame::encode_request(tag, Request::Write { at, len }));
                self.out.push(buf.as_slice());
            }
        }
        self.data_in_flight += 1;
        self.tags.fill(slot, State::Data { token, verb, buf });
        Submit::Accepted
    }

    /// Starts a control request. `false` if the session is dead or has no free tag.
    #[must_use]
    pub fn request(&mut self, verb: ControlVerb) -> bool {
        if self.failure.is_some() {
            return false;
        }
        let Some(slot) = self.tags.reserve() else { return false };
        let tag = self.tags.tag(slot);
        let (request, state) = match verb {
            ControlVerb::Borrow => (Request::Borrow, State::Borrow),
            ControlVerb::Return(slab) => (Request::Return(slab), State::Return),
        };
        self.out.push(&frame::encode_request(tag, request));
        self.tags.fill(slot, state);
        true
    }

    /// A control request that has ended.
    pub fn take_control(&mut self) -> Option<ControlDone> {
        if self.control.is_empty() { None } else { Some(self.control.remove(0)) }
    }

    /// A file that came with the bytes that are fed next.
    pub fn receive_file(&mut self, file: File) {
        self.files.push_back(file);
    }

    /// Stops waiting for control requests. A slab that is lent late is given back by itself.
    pub fn abandon_control(&mut self) {
        for state in self.tags.states_mut() {
            match state {
                State::Borrow => *state = State::Abandoned(Late::Borrow),
                State::Return => *state = State::Abandoned(Late::Return),
                State::Free | State::Data { .. } | State::Abandoned(_) => {}
            }
        }
    }

    /// Takes in bytes from the server, all of them; appends what completed to `done`. What a broken server sends fails the
    /// session, and then everything in flight is in `done`.
    pub fn handle_input(&mut self, mut input: &[u8], done: &mut Vec<Completion>) {
        if self.files.len() > MAX_FILES {
            self.fail(TransportError::Protocol("it sent more files than slabs".into()), done);
        }
        while !input.is_empty() && self.failure.is_none() {
            let went = match self.input {
                Input::Payload { slot, done: filled, len } => {
                    self.take_payload(slot, filled, len, &mut input, done);
                    Ok(())
                }
                Input::Reply => match self.whole::<REPLY_BYTES>(&mut input) {
                    Some(bytes) => self.handle_reply(&bytes, done),
                    None => return,
                },
                Input::Welcome => match self.whole::<WELCOME_BYTES>(&mut input) {
                    Some(bytes) => self.handle_welcome(&bytes),
                    None => return,
                },
                Input::Key { tag, slab } => match self.whole::<KEY_BYTES>(&mut input) {
                    Some(bytes) => {
                        self.input = Input::Reply;
                        self.answer(tag, Reply::Lent(slab), Some(frame::decode_key(&bytes)), done)
                    }
                    None => return,
                },
            };
            if let Err(error) = went {
                self.fail(error, done);
            }
        }
    }

    /// Lets time pass: dates what is new, and ends what is overdue.
    pub fn advance(&mut self, now: Instant, done: &mut Vec<Completion>) {
        done.append(&mut self.refused);
        if self.tags.date(now, self.timeout) {
            self.expire(now, done);
        }
    }

    /// Ends the session: everything in flight completes with `error`, and nothing more is accepted.
    pub fn fail(&mut self, error: TransportError, done: &mut Vec<Completion>) {
        if self.failure.is_some() {
            return;
        }
        done.append(&mut self.refused);
        self.leave_all();
        let tags = std::mem::replace(&mut self.tags, InFlight::new(0));
        for state in tags.into_states() {
            match state {
                State::Data { token, verb, buf } => done.push(Completion { token, verb, buf, result: Err(error.clone()) }),
                State::Borrow => self.control.push(ControlDone::Borrowed(Err(error.clone()))),
                State::Return => self.control.push(ControlDone::Returned(Err(error.clone()))),
                State::Free | State::Abandoned(_) => {}
            }
        }
        self.data_in_flight = 0;
        self.out = OutBuf::default();
        self.failure = Some(error);
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

    fn handle_welcome(&mut self, bytes: &[u8; WELCOME_BYTES]) -> Result<(), TransportError> {
        match frame::decode_welcome(bytes) {
            Welcome::Welcome(terms) => {
                let Terms { token, slab_bytes, .. } = terms;
                if slab_bytes == 0 || !(slab_bytes as usize).is_multiple_of(STRIPE_BYTES) {
                    return Err(TransportError::Protocol(format!(
                        "it lends slabs of {slab_bytes} bytes, not a multiple of 256 KiB"
                    )));
                }
                if matches!(self.intent, Intent::Join(mine) if mine != token) {
                    return Err(TransportError::Protocol("it took this connection for another borrower's".into()));
                }
                self.terms = Some(terms);
                self.input = Input::Reply;
                Ok(())
            }
            Welcome::Refused { theirs, code } => Err(ending_error(code, theirs)),
            Welcome::Foreign => Err(TransportError::Protocol("what answers there is not farmemd".into())),
        }
    }

    #[inline]
    fn handle_reply(&mut self, bytes: &[u8; REPLY_BYTES], done: &mut Vec<Completion>) -> Result<(), TransportError> {
        let Some((tag, reply)) = frame::decode_reply(bytes) else {
            return Err(TransportError::Protocol(format!("it sent a frame of unknown kind {:#04x}", bytes[0])));
        };
        match reply {
            Reply::End(code) => Err(ending_error(code.into(), super::VERSION)),
            Reply::Lent(slab) if self.passing() == Passing::Keys => {
                self.input = Input::Key { tag, slab };
                Ok(())
            }
            _ => self.answer(tag, reply, None, done),
        }
    }

    /// What comes along with slabs.
    fn passing(&self) -> Passing {
        self.terms.map_or(Passing::Nothing, |terms| terms.passing)
    }

    /// A request has been answered, where a slab was lent perhaps with the key to it.
    #[inline]
    fn answer(
        &mut self,
        tag: Tag,
        reply: Reply,
        key: Option<MemoryKey>,
        done: &mut Vec<Completion>,
    ) -> Result<(), TransportError> {
        let file = match reply {
            Reply::Lent(_) => self.file_of_slab()?,
            _ => None,
        };
        let (index, state) = self.tags.find(tag);
        match (state, reply) {
            (State::Data { verb: Verb::Read, buf, .. }, Reply::Read { len }) if buf.len() == len as usize => {
                self.input = Input::Payload { slot: index, done: 0, len: len as usize };
            }
            (State::Abandoned(Late::Read { len: asked }), Reply::Read { len }) if *asked == len as usize => {
                self.input = Input::Payload { slot: index, done: 0, len: len as usize };
            }
            (State::Data { verb: Verb::Write, .. }, Reply::Written) => self.complete(index, done),
            (State::Borrow, Reply::Lent(_) | Reply::Full | Reply::NoMemory) => {
                let capacity = self.terms.map_or(0, |terms| terms.capacity);
                let result = match reply {
                    Reply::Lent(slab) => Ok(Lent { slab, file, key }),
                    Reply::Full => Err(TransportError::Full { capacity }),
                    _ => Err(TransportError::Refused("its system gives it no memory for a slab".into())),
                };
                self.control.push(ControlDone::Borrowed(result));
                self.release(index);
            }
            (State::Return, Reply::Returned) => {
                self.control.push(ControlDone::Returned(Ok(())));
                self.release(index);
            }
            (State::Abandoned(Late::Borrow), Reply::Lent(slab)) => {
                // Nobody waits for this slab any more. Giving it back takes the slot that is just now free.
                self.release(index);
                let told = self.tell_return(slab);
                debug_assert!(told, "a slot is free just now");
            }
            (State::Abandoned(Late::Write), Reply::Written)
            | (State::Abandoned(Late::Return), Reply::Returned)
            | (State::Abandoned(Late::Borrow), Reply::Full | Reply::NoMemory) => {
                self.release(index);
            }
            (State::Free, _) => return Err(TransportError::Protocol("it answered a request that was never made".into())),
            _ => return Err(TransportError::Protocol("its answer doesn't fit the request".into())),
        }
        Ok(())
    }

    /// The file that belongs to the slab whose frame has just come.
    fn file_of_slab(&mut self) -> Result<Option<File>, TransportError> {
        if !matches!(self.passing(), Passing::Files(_)) {
            return Ok(None);
        }
        self.files.pop_front().map(Some).ok_or_else(|| TransportError::Protocol("it lent a slab without its file".into()))
    }

    #[inline]
    fn take_payload(&mut self, index: Slot, filled: usize, len: usize, input: &mut &[u8], done: &mut Vec<Completion>) {
        let part = (len - filled).min(input.len());
        let (now, rest) = input.split_at(part);
        *input = rest;
        if let State::Data { buf, .. } = self.tags.state_mut(index) {
            buf.as_mut_slice()[filled..filled + part].copy_from_slice(now);
        }
        self.payload_came(index, filled + part, len, done);
    }

    #[inline]
    fn payload_came(&mut self, index: Slot, filled: usize, len: usize, done: &mut Vec<Completion>) {
        if filled < len {
            self.input = Input::Payload { slot: index, done: filled, len };
        } else {
            self.input = Input::Reply;
            self.complete(index, done);
        }
    }

    /// The operation in `index` is done; if it was abandoned, only its tag becomes free.
    #[inline]
    fn complete(&mut self, index: Slot, done: &mut Vec<Completion>) {
        if let State::Data { token, verb, buf } = self.release(index) {
            self.data_in_flight -= 1;
            done.push(Completion { token, verb, buf, result: Ok(()) });
        }
    }

    /// Frees a slot. If its request was the last for a slab that has been returned, the server is told now.
    #[inline]
    fn release(&mut self, slot: Slot) -> State {
        let slab = self.tags.take_slab(slot);
        let state = self.tags.release(slot);
        if let Some(slab) = slab
            && self.uses.leave(slab)
            && !self.tell_return(slab)
        {
            self.uses.leave_return_to_others(slab);
        }
        state
    }

    /// Tells the server that a slab is returned; nobody waits for its answer. `false` if no slot is free.
    #[cold]
    fn tell_return(&mut self, slab: SlabId) -> bool {
        let Some(slot) = self.tags.reserve() else { return false };
        self.out.push(&frame::encode_request(self.tags.tag(slot), Request::Return(slab)));
        self.tags.fill(slot, State::Abandoned(Late::Return));
        true
    }

    /// With the connection end all requests that were underway on it.
    fn leave_all(&mut self) {
        for slab in self.tags.slabs().filter(|slab| self.uses.leave(*slab)) {
            self.uses.leave_return_to_others(slab);
        }
    }

    #[cold]
    fn expire(&mut self, now: Instant, done: &mut Vec<Completion>) {
        let timeout = self.timeout;
        let late = |what| TransportError::Timeout { what, after: timeout };
        let (control, data_in_flight) = (&mut self.control, &mut self.data_in_flight);
        let gone = self.tags.expire(now, timeout * (GIVE_UP - 1), |state| match state {
            State::Data { token, verb, buf } => {
                *data_in_flight -= 1;
                let (what, remains) = match verb {
                    Verb::Read => ("a read", Late::Read { len: buf.len() }),
                    Verb::Write => ("a write", Late::Write),
                };
                done.push(Completion { token, verb, buf, result: Err(late(what)) });
                State::Abandoned(remains)
            }
            State::Borrow => {
                control.push(ControlDone::Borrowed(Err(late("a request for a slab"))));
                State::Abandoned(Late::Borrow)
            }
            State::Return => {
                control.push(ControlDone::Returned(Err(late("the return of a slab"))));
                State::Abandoned(Late::Return)
            }
            // Abandoned before its time: its reply has as long as any other's.
            State::Abandoned(remains) => State::Abandoned(remains),
            State::Free => State::Free,
        });
        if gone {
            self.fail(TransportError::Timeout { what: "anything", after: timeout * GIVE_UP }, done);
        }
    }
}

impl Drop for ClientSession {
    fn drop(&mut self) {
        self.leave_all();
    }
}

pub(crate) fn ending_error(code: u32, theirs: u32) -> TransportError {
    match Ending::from_code(code) {
        Some(ending) => ending.to_error(theirs),
        None => {
            TransportError::Refused(format!("the server ended the connection for reason {code}, which this version doesn't know"))
        }
    }
}
