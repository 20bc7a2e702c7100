//! The bytes of misses in flight: what a [lane](super::lane) carries.
//!
//! Each fetch is one read, or one for each piece of a large object. Reads wait in a queue for room in their session; what comes in is checked; with
//! the last read the slot is published, or the claim given back.

use super::ending::Ending;
use super::lane::{Ended, Lane, Traffic};
use super::object::Parts;
use super::{Memory, NewObject};
use crate::addr::{FarAddr, SlotId};
use crate::error::{Error, Result, TransportError};
use crate::far::LargeFar;
use crate::far::image::{self, IMAGE_HEADER_BYTES};
use crate::transport::{Completion, IoBuf, Op, Progress, Session, Submit, Token, Verb};
use crate::word::{FarPlace, Slot, State, Word};
use std::alloc::Layout;
use std::collections::{HashMap, VecDeque};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time between two looks at the sockets, for each read in flight, and at most. A look costs two system calls however little it finds, and replies that are
/// taken one at a time are asked for one at a time: left to itself such a lane falls into step with the server at one reply a look (200 k/s
/// where 600 k/s are possible). What is given up is a part of the latency of a miss that already shares the wire with many.
const LOOK_PER_READ: Duration = Duration::from_nanos(150);
const LOOK_AT_MOST: Duration = Duration::from_micros(10);

/// Reads in flight up to which every poll looks: few enough to be answered one at a time.
const EAGER_READS: usize = 4;

/// Pieces of large objects in flight in a lane: each has a buffer of 64 KiB outside the budget.
const MAX_PIECES: usize = 8;

/// A miss in flight.
struct Fetch {
    id: SlotId,
    claimed: Word,
    layout: Layout,
    /// Taken out when the fetch ends.
    room: Option<Parts>,
    large: Option<Arc<LargeFar>>,
    /// Reads that have not come in yet, queued ones included.
    outstanding: usize,
    error: Option<Error>,
    ending: Arc<Ending>,
}

/// A read to be made.
#[derive(Clone, Copy)]
struct Want {
    fetch: u64,
    /// Which piece of a large object; `None` for the one image of a small one.
    piece: Option<usize>,
}

/// A read in flight.
struct Reading {
    want: Want,
    server: usize,
    addr: FarAddr,
    incarnation: u32,
}

/// Fetches in flight, and what they need.
#[derive(Default)]
pub(super) struct Reads {
    sessions: Vec<Option<Box<dyn Session>>>,
    fetches: HashMap<u64, Fetch>,
    by_slot: HashMap<SlotId, u64>,
    queue: VecDeque<Want>,
    readings: HashMap<u64, Reading>,
    pieces: usize,
    next: u64,
    done: Vec<Completion>,
    ended: Vec<Ended>,
}

impl Traffic for Reads {
    type Ground = Memory;

    fn look(&mut self, memory: &Memory, now: Instant) -> Progress {
        self.pump(memory);
        let mut progress = Progress::Idle;
        let mut done = std::mem::take(&mut self.done);
        // A session may be busy with nothing in flight: the tags of reads that have timed out are free again when the late reply has come, or when
        // the session gives the server up. Both take a poll.
        let is_held_up = !self.queue.is_empty();
        for session in self.sessions.iter_mut().flatten() {
            if (is_held_up || session.in_flight() > 0) && session.poll(now, &mut done) == Progress::Moved {
                progress = Progress::Moved;
            }
        }
        for completion in done.drain(..) {
            self.complete(memory, completion);
        }
        self.done = done;
        self.pump(memory);
        progress
    }

    fn interval(&self) -> Duration {
        let reads = self.readings.len();
        if reads <= EAGER_READS { Duration::ZERO } else { (LOOK_PER_READ * reads as u32).min(LOOK_AT_MOST) }
    }

    fn in_flight(&self) -> impl Iterator<Item = &Arc<Ending>> {
        self.fetches.values().map(|fetch| &fetch.ending)
    }

    fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }
}

impl Reads {
    /// Puts a claimed miss in flight. `object` is the room for it.
    pub(super) fn begin(
        &mut self,
        memory: &Memory,
        slot: &Slot,
        claimed: Word,
        object: NewObject<'_>,
        layout: Layout,
    ) -> Arc<Ending> {
        let ending = Arc::new(Ending::default());
        let id = memory.slots.id_of(slot);
        self.next += 1;
        let number = self.next;
        let mut fetch = Fetch {
            id,
            claimed,
            layout,
            room: Some(object.into_parts()),
            large: None,
            outstanding: 1,
            error: None,
            ending: Arc::clone(&ending),
        };
        let State::Fetching(place) = claimed.state() else { unreachable!("a claimed word says that it is being fetched") };
        match place {
            FarPlace::At(_) => self.queue.push_back(Want { fetch: number, piece: None }),
            FarPlace::Large(large) => {
                fetch.large = memory.large_fars.get(large).filter(|far| far.size == layout.size());
                let pieces = fetch.large.as_ref().map_or(0, |far| far.pieces.len());
                fetch.outstanding = pieces;
                self.queue.extend((0..pieces).map(|piece| Want { fetch: number, piece: Some(piece) }));
            }
        }
        let lost = fetch.outstanding == 0;
        self.fetches.insert(number, fetch);
        self.by_slot.insert(id, number);
        if lost {
            let error = memory.lost_large();
            self.fail(memory, number, error);
        }
        self.pump(memory);
        ending
    }

    /// The fetch of `id`, if it is among these.
    pub(super) fn find(&self, id: SlotId) -> Option<Arc<Ending>> {
        let number = self.by_slot.get(&id)?;
        Some(Arc::clone(&self.fetches.get(number)?.ending))
    }

    /// Submits what waits, as far as the sessions take it.
    fn pump(&mut self, memory: &Memory) {
        while let Some(want) = self.queue.front().copied() {
            if want.piece.is_some() && self.pieces >= MAX_PIECES {
                return;
            }
            match self.submit(memory, want) {
                Ok(true) => drop(self.queue.pop_front()),
                Ok(false) => return,
                Err(error) => {
                    self.queue.pop_front();
                    self.read_failed(memory, want, error);
                }
            }
        }
    }

    /// Submits a read. False if the session is busy.
    fn submit(&mut self, memory: &Memory, want: Want) -> Result<bool> {
        let Some(fetch) = self.fetches.get_mut(&want.fetch) else { return Ok(true) };
        let addr = match (want.piece, &fetch.large) {
            (Some(piece), Some(far)) => match memory.slots.slot(far.pieces[piece]).load().state() {
                State::Absent(FarPlace::At(addr)) => addr,
                _ => return Err(memory.lost_large()),
            },
            _ => match fetch.claimed.state() {
                State::Fetching(FarPlace::At(addr)) => addr,
                _ => return Err(memory.lost_large()),
            },
        };
        let (server, at, incarnation) = memory.far.locate(addr)?;
        self.sessions.resize_with(memory.far.servers().len(), || None);
        let session = match &mut self.sessions[server] {
            Some(session) if session.failure().is_none() => session,
            // A failed session has nothing in flight any more, or its completions are still to be polled.
            Some(session) if session.in_flight() > 0 => {
                let _ = session;
                return Ok(false);
            }
            empty => empty.insert(memory.far.servers()[server].session()?),
        };
        let buf = match (want.piece, &fetch.large, &mut fetch.room) {
            (Some(piece), Some(far), _) => {
                let (_, len) = LargeFar::cut(far.size, piece);
                IoBuf::from(vec![0; IMAGE_HEADER_BYTES + len])
            }
            (_, _, Some(parts)) => {
                let image = parts.image_start();
                // SAFETY: header and contents of the busy object that `parts` is the room of, kept in `self.fetches` until the read has
                // completed (a session hands buffers back before it goes); nobody else touches them while the object is busy.
                unsafe { IoBuf::loan(image, IMAGE_HEADER_BYTES + fetch.layout.size()) }
            }
            _ => return Ok(true),
        };
        self.next += 1;
        let token = self.next;
        match session.submit(Op { token: Token(token), verb: Verb::Read, at, buf }) {
            Submit::Accepted => {}
            Submit::Busy(_) => return Ok(false),
            Submit::Failed(_, cause) => return Err(memory.far.servers()[server].error(cause)),
        }
        self.pieces += usize::from(want.piece.is_some());
        self.readings.insert(token, Reading { want, server, addr, incarnation });
        Ok(true)
    }

    fn complete(&mut self, memory: &Memory, completion: Completion) {
        let Completion { token, buf, result, .. } = completion;
        let Some(reading) = self.readings.remove(&token.0) else { return };
        let Reading { want, server, addr, incarnation } = reading;
        self.pieces -= usize::from(want.piece.is_some());
        let Some(fetch) = self.fetches.get_mut(&want.fetch) else { return };
        let owner = match (want.piece, &fetch.large) {
            (Some(piece), Some(far)) => far.pieces[piece],
            _ => fetch.id,
        };
        let error = match result {
            Err(cause) => Some(memory.far.servers()[server].error(cause)),
            Ok(()) => {
                let verified = image::verify(owner, incarnation, addr, buf.as_slice());
                verified.err().map(|detail| memory.corrupt(addr, detail))
            }
        };
        if let Some(error) = error {
            drop(buf);
            let moved = want.piece.is_some() && memory.slots.slot(owner).load().state() != State::Absent(FarPlace::At(addr));
            if moved {
                // The cleaner moved the piece between the look and the read; its slab may even have been returned.
                return self.queue.push_back(want);
            }
            return self.read_failed(memory, want, error);
        }
        if let (Some(piece), Some(parts)) = (want.piece, &mut fetch.room) {
            let (start, _) = LargeFar::cut(fetch.layout.size(), piece);
            let contents = &buf.as_slice()[IMAGE_HEADER_BYTES..];
            parts.large_contents_mut()[start..start + contents.len()].copy_from_slice(contents);
        }
        drop(buf);
        self.read_done(memory, want.fetch);
    }

    fn read_failed(&mut self, memory: &Memory, want: Want, error: Error) {
        if let Some(fetch) = self.fetches.get_mut(&want.fetch) {
            fetch.error.get_or_insert(error);
        }
        self.read_done(memory, want.fetch);
    }

    fn fail(&mut self, memory: &Memory, number: u64, error: Error) {
        if let Some(fetch) = self.fetches.get_mut(&number) {
            fetch.error = Some(error);
            fetch.outstanding = 1;
        }
        self.read_done(memory, number);
    }

    /// One read of a fetch has ended; with the last, the fetch does.
    fn read_done(&mut self, memory: &Memory, number: u64) {
        let Some(fetch) = self.fetches.get_mut(&number) else { return };
        fetch.outstanding -= 1;
        if fetch.outstanding > 0 {
            return;
        }
        let Some(mut fetch) = self.fetches.remove(&number) else { return };
        self.by_slot.remove(&fetch.id);
        let slot = memory.slots.slot(fetch.id);
        let Some(parts) = fetch.room.take() else { return };
        let object = NewObject::from_parts(memory, parts);
        let result = match fetch.error {
            None => {
                memory.publish_fetched(slot, fetch.claimed, object, fetch.layout);
                Ok(())
            }
            Some(error) => {
                drop(object);
                super::miss::give_back_quietly(slot, fetch.claimed);
                Err(error)
            }
        };
        // The lane's lock is held: those who wait elsewhere are woken with those who wait here, after it.
        fetch.ending.adopt(memory.joined.take(fetch.id));
        self.ended.push((fetch.ending, result));
    }
}

impl Memory {
    /// The lane of the calling thread.
    pub(super) fn lane(&self) -> Arc<Lane<Reads>> {
        let number = crate::scope::thread_number();
        let known = self.lanes.read(|lanes| lanes.get(number).cloned().flatten());
        known.unwrap_or_else(|| {
            self.lanes.update(|lanes| {
                if lanes.len() <= number {
                    lanes.resize(number + 1, None);
                }
                Arc::clone(lanes[number].get_or_insert_default())
            })
        })
    }

    /// Drives fetches that tasks have begun: their executors may be busy, or gone. Whether any is in flight.
    pub(crate) fn help_fetches(&self) -> bool {
        let lanes: Vec<Arc<Lane<Reads>>> = self.lanes.read(|lanes| lanes.iter().flatten().cloned().collect());
        if lanes.is_empty() {
            return false;
        }
        let now = Instant::now();
        lanes.iter().fold(false, |busy, lane| lane.help(self, now) | busy)
    }

    /// The error for a large object whose table entry and word disagree.
    #[cold]
    pub(super) fn lost_large(&self) -> Error {
        Error::Corrupt {
            server: self.far.server_names(),
            segment: 0,
            offset: 0,
            detail: "the large object's pieces have no place",
        }
    }

    /// The error of a wait that took too long.
    #[cold]
    pub(super) fn fetch_timeout(&self, waited: Duration) -> Error {
        let cause = TransportError::Timeout { what: "a fetch begun elsewhere in this process", after: waited };
        Error::transport(self.far.server_names(), cause)
    }
}

/// The start of a busy object's image. Kept apart, so that the loan's argument stands beside it.
impl Parts {
    fn image_start(&self) -> NonNull<u8> {
        let start = (self.addr().get() - IMAGE_HEADER_BYTES) as *mut u8;
        NonNull::new(start).expect("objects do not lie at address 16")
    }
}
