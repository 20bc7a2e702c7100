//! The other end of a client session: reads what the client sends by the table of frames, answers it, and lies if told to.
#![forbid(unsafe_code)]

use crate::input;
use arbitrary::Arbitrary;
use farptr_runtime::slab::{MemoryKey, STRIPE_BYTES};
use farptr_runtime::transport::SlabId;
use farptr_runtime::wire::{MAGIC, VERSION};
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

/// Numbers of slabs start here, so that none is the number of a request.
const FIRST_SLAB: u32 = 1 << 31;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Borrow,
    Return,
}

/// What comes along with slabs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Along {
    Nothing,
    Keys,
    Files,
}

/// A wrong answer.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Lie {
    /// To what was never asked.
    Generation,
    /// Of another kind.
    Kind,
    /// With a field that must be zero.
    Zero,
    /// With more or less than was asked for: of a slab, without what comes along with it.
    Length(u32),
    /// Once more.
    Twice,
    /// No answer: the last frame, with this reason.
    End(u8),
    /// Instead of a welcome.
    Welcome([u8; 3]),
}

/// A request as it came, by its number.
#[derive(Clone, Copy)]
struct Request {
    number: u64,
    tag: u32,
    kind: Kind,
    len: u32,
}

/// What reached the client.
pub(super) struct Heard {
    pub(super) bytes: Vec<u8>,
    /// What came along with them.
    pub(super) files: Vec<File>,
    /// Requests whose answer is now complete, and the slab that was lent by it.
    pub(super) answered: Vec<(u64, Option<SlabId>)>,
    /// Whether a lie is complete that was the first.
    pub(super) lied: bool,
}

pub(super) struct Server {
    along: Along,
    heard: Vec<u8>,
    greeted: bool,
    welcomed: bool,
    unanswered: Vec<Request>,
    last: Option<Request>,
    /// Numbers of requests for slabs that are on their way: their frames carry none.
    borrows: VecDeque<u64>,
    /// Said and not heard yet, and how many bytes were before it.
    saying: Vec<u8>,
    before: usize,
    /// Where in the stream answers end.
    answers: VecDeque<(usize, u64, Option<SlabId>)>,
    /// Slabs whose files go along with the byte at that place.
    passed: VecDeque<(usize, SlabId)>,
    /// Where the first lie ends; whatever follows it.
    lie: Option<usize>,
    answered: Vec<u64>,
    slabs: u32,
    given_back: Vec<SlabId>,
}

/// Two files that can be told apart.
fn file_of(slab: SlabId) -> File {
    File::open(if slab.0.is_multiple_of(2) { "/dev/null" } else { "/dev/zero" }).expect("a device that every system has")
}

impl Server {
    pub(super) fn new(along: Along) -> Self {
        Self {
            along,
            heard: Vec::new(),
            greeted: false,
            welcomed: false,
            unanswered: Vec::new(),
            last: None,
            borrows: VecDeque::new(),
            saying: Vec::new(),
            before: 0,
            answers: VecDeque::new(),
            passed: VecDeque::new(),
            lie: None,
            answered: Vec::new(),
            slabs: 0,
            given_back: Vec::new(),
        }
    }

    /// The key that came with a slab.
    pub(super) fn key(&self, slab: SlabId) -> Option<MemoryKey> {
        (self.along == Along::Keys).then(|| MemoryKey { address: u64::from(slab.0) << 20 | 5, key: !slab.0 })
    }

    /// The device that is the file that came with a slab.
    pub(super) fn device(&self, slab: SlabId) -> Option<u64> {
        (self.along == Along::Files).then(|| file_of(slab).metadata().expect("an open file").rdev())
    }

    /// Whether it has kept to the protocol so far.
    pub(super) fn is_honest(&self) -> bool {
        self.lie.is_none()
    }

    /// Whether this request was answered, and the client has heard all of it.
    pub(super) fn answered(&self, number: u64) -> bool {
        self.answered.contains(&number)
    }

    pub(super) fn owes(&self) -> bool {
        !self.unanswered.is_empty()
    }

    /// The slabs that it lent and that were not given back.
    pub(super) fn lent(&self) -> Vec<SlabId> {
        (0..self.slabs).map(|slab| SlabId(FIRST_SLAB + slab)).filter(|slab| !self.given_back.contains(slab)).collect()
    }

    /// The client has made request `number` for a slab.
    pub(super) fn expect_borrow(&mut self, number: u64) {
        self.borrows.push_back(number);
    }

    /// Takes in what the client sends. A client is honest: what doesn't fit the table is a finding.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.heard.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let rest = &self.heard[at..];
            if !self.greeted {
                let Some((hello, _)) = rest.split_first_chunk::<32>() else { break };
                assert_eq!(hello[..], [&MAGIC[..], &VERSION.to_le_bytes(), &[0; 20]].concat());
                (self.greeted, at) = (true, 32);
                continue;
            }
            let Some((head, payload)) = rest.split_first_chunk::<20>() else { break };
            let [kind, tag, slab, offset, len] =
                [0, 4, 8, 12, 16].map(|at| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes")));
            let (kind, number) = match (kind, slab, offset, len) {
                (1, 3, number, _) => (Kind::Read, number.into()),
                (2, 3, number, _) => {
                    let Some(payload) = payload.get(..len as usize) else { break };
                    assert!(payload == input::bytes(number, len as usize), "other bytes than the program wrote");
                    at += len as usize;
                    (Kind::Write, number.into())
                }
                (3, 0, 0, 0) => (Kind::Borrow, self.borrows.pop_front().expect("a slab was asked for twice")),
                (4, slab, 0, 0) => {
                    if slab >= FIRST_SLAB {
                        self.given_back.push(SlabId(slab));
                    }
                    (Kind::Return, slab.into())
                }
                _ => panic!("a client sent {head:?}"),
            };
            at += 20;
            assert!(self.unanswered.iter().all(|other| other.tag != tag), "a tag is used twice at a time");
            self.unanswered.push(Request { number, tag, kind, len });
        }
        self.heard.drain(..at);
    }

    pub(super) fn welcome(&mut self) {
        if !std::mem::replace(&mut self.welcomed, true) {
            self.saying.extend([&MAGIC[..], &VERSION.to_le_bytes(), &[0; 4], &[1; 16]].concat());
            let with: u32 = match self.along {
                Along::Nothing => 0,
                Along::Files => 1,
                Along::Keys => 3,
            };
            self.saying.extend([&(STRIPE_BYTES as u32).to_le_bytes()[..], &with.to_le_bytes(), &[9; 8]].concat());
        }
    }

    /// Answers one of the requests that came; from 128 on with a refusal, if it has one.
    pub(super) fn answer(&mut self, which: u8) {
        if !self.welcomed || self.unanswered.is_empty() {
            return;
        }
        let request = self.unanswered.swap_remove(usize::from(which & 127) % self.unanswered.len());
        let mut slab = None;
        match request.kind {
            Kind::Read => {
                self.reply(0x81, 0, request.tag, request.len);
                self.saying.extend(input::bytes(!(request.number as u32), request.len as usize));
            }
            Kind::Write => self.reply(0x82, 0, request.tag, 0),
            Kind::Borrow if which >= 128 => self.reply(0x83, 1 + which % 2, request.tag, 0),
            Kind::Borrow => {
                let lent = SlabId(FIRST_SLAB + self.slabs);
                if self.along == Along::Files {
                    self.passed.push_back((self.before + self.saying.len(), lent));
                }
                self.reply(0x83, 0, request.tag, lent.0);
                if let Some(MemoryKey { address, key }) = self.key(lent) {
                    self.saying.extend(address.to_le_bytes());
                    self.saying.extend(key.to_le_bytes());
                }
                slab = Some(lent);
                self.slabs += 1;
            }
            Kind::Return => self.reply(0x84, 0, request.tag, 0),
        }
        self.answers.push_back((self.before + self.saying.len(), request.number, slab));
        self.last = Some(request);
    }

    pub(super) fn lie(&mut self, which: u8, lie: Lie) {
        let asked = self.unanswered.get(usize::from(which) % self.unanswered.len().max(1)).copied();
        match (lie, asked, self.last) {
            (Lie::Welcome(bytes), ..) if !self.welcomed => {
                self.welcome();
                // The magic number, the version, the ending; the size of slabs.
                let end = self.saying.len();
                let at = end - 48 + usize::from(bytes[0]) % 16;
                self.saying[at] ^= bytes[1] | 1;
                self.saying[end - 16] ^= bytes[2];
            }
            _ if !self.welcomed => return,
            (Lie::End(code), ..) => self.reply(0xff, code, 0, 0),
            (Lie::Generation, Some(asked), _) => self.reply(0x82, 0, asked.tag ^ 0x1_0000, 0),
            (Lie::Kind, Some(asked), _) => self.reply(if asked.kind == Kind::Write { 0x84 } else { 0x82 }, 0, asked.tag, 0),
            (Lie::Zero, Some(asked), _) => {
                self.reply(0x82, 0, asked.tag, 0);
                let end = self.saying.len();
                self.saying[end - 9] = 1;
            }
            (Lie::Length(len), Some(asked), _) if len != asked.len || asked.kind != Kind::Read => {
                self.reply(0x81, 0, asked.tag, len)
            }
            // It will wait for the rest of the key.
            (Lie::Length(_), Some(asked), _) if asked.kind == Kind::Borrow && self.along == Along::Keys => {
                self.reply(0x83, 0, asked.tag, FIRST_SLAB);
                self.lie.get_or_insert(usize::MAX);
                return;
            }
            // Unless the file of an earlier one has come already, which a server that passes one with each never does.
            (Lie::Length(_), Some(asked), _)
                if asked.kind == Kind::Borrow && self.along == Along::Files && self.passed.is_empty() =>
            {
                self.reply(0x83, 0, asked.tag, FIRST_SLAB);
            }
            // Its slot may be in use again, by another tag.
            (Lie::Twice, _, Some(last)) => self.reply(0x82, 0, last.tag, 0),
            _ => return,
        }
        self.lie.get_or_insert(self.before + self.saying.len());
    }

    /// Says something that may mean anything.
    pub(super) fn babble(&mut self, bytes: &[u8]) {
        self.saying.extend_from_slice(bytes);
        self.welcomed = true;
        // It has no end: nothing can be said of what the client makes of it.
        self.lie.get_or_insert(usize::MAX);
    }

    /// What was said so far, but for the last `held` bytes.
    pub(super) fn said(&mut self, held: usize) -> Heard {
        let len = self.saying.len().saturating_sub(held);
        let bytes: Vec<u8> = self.saying.drain(..len).collect();
        let from = self.before;
        self.before += len;
        let mut answered = Vec::new();
        while let Some(&(end, number, slab)) = self.answers.front()
            && end <= self.before
        {
            self.answers.pop_front();
            self.answered.push(number);
            answered.push((number, slab));
        }
        let mut files = Vec::new();
        while let Some(&(at, slab)) = self.passed.front()
            && at < self.before
        {
            self.passed.pop_front();
            files.push(file_of(slab));
        }
        Heard { bytes, files, answered, lied: self.lie.is_some_and(|end| from < end && end <= self.before) }
    }

    fn reply(&mut self, kind: u8, code: u8, tag: u32, value: u32) {
        self.saying.extend([kind, code, 0, 0]);
        self.saying.extend(tag.to_le_bytes());
        self.saying.extend(value.to_le_bytes());
    }
}
