//! What a lender is to its clients: slabs with an owner and bytes, borrowers with a token and connections, and the table of frames.
#![forbid(unsafe_code)]

use super::export::Exporter;
use farptr_runtime::transport::MAX_OP_BYTES;
use farptr_runtime::wire::{Ending, MAGIC, VERSION};
use std::sync::Arc;

pub(super) struct Model {
    exporter: Arc<Exporter>,
    slabs: Vec<Slab>,
    slab_bytes: u32,
    /// By number; one that has gone has no connections, and never comes back.
    borrowers: Vec<Borrower>,
}

#[derive(Clone, Default)]
struct Slab {
    owner: Option<usize>,
    /// It was lent with a key.
    exported: bool,
    /// Empty for all zero.
    bytes: Vec<u8>,
}

struct Borrower {
    token: [u8; 16],
    connections: usize,
}

/// One connection as the model sees it.
#[derive(Default)]
pub(super) struct View {
    pub(super) expects: Expects,
    /// The part of a frame that has come.
    partial: Vec<u8>,
    pub(super) borrower: Option<usize>,
    /// It passes keys.
    pub(super) keyed: bool,
}

impl View {
    pub(super) fn new(keyed: bool) -> Self {
        Self { keyed, ..Self::default() }
    }
}

/// What comes next on a connection.
#[derive(Default, Clone, Copy)]
pub(super) enum Expects {
    #[default]
    Hello,
    Request,
    Payload {
        tag: u32,
        slab: u32,
        offset: u32,
        left: u32,
    },
    /// The session has ended.
    Nothing(Ending),
}

/// Takes `expected` off what was said.
#[track_caller]
pub(super) fn expect(said: &mut &[u8], expected: &[u8]) {
    assert!(said.len() >= expected.len(), "{} bytes were said, {expected:?} is due", said.len());
    let (now, rest) = said.split_at(expected.len());
    assert!(now == expected, "another answer was due");
    *said = rest;
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn reply(kind: u8, code: u8, tag: u32, value: u32) -> [u8; 12] {
    let mut bytes = [kind, code, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[4..8].copy_from_slice(&tag.to_le_bytes());
    bytes[8..].copy_from_slice(&value.to_le_bytes());
    bytes
}

impl Model {
    pub(super) fn new(slabs: u32, slab_bytes: u32, exporter: Arc<Exporter>) -> Self {
        Model { exporter, slabs: vec![Slab::default(); slabs as usize], slab_bytes, borrowers: Vec::new() }
    }

    pub(super) fn lent_bytes(&self) -> u64 {
        self.slabs.iter().filter(|slab| slab.owner.is_some()).count() as u64 * u64::from(self.slab_bytes)
    }

    pub(super) fn exported(&self) -> usize {
        self.slabs.iter().filter(|slab| slab.exported).count()
    }

    pub(super) fn borrowers(&self) -> usize {
        self.borrowers.iter().filter(|borrower| borrower.connections > 0).count()
    }

    pub(super) fn token(&self, view: &View) -> Option<[u8; 16]> {
        view.borrower.map(|borrower| self.borrowers[borrower].token)
    }

    /// A connection has gone.
    pub(super) fn leave(&mut self, view: View) {
        let Some(number) = view.borrower else { return };
        self.borrowers[number].connections -= 1;
        if self.borrowers[number].connections == 0 {
            self.slabs.iter_mut().filter(|slab| slab.owner == Some(number)).for_each(|slab| *slab = Slab::default());
        }
    }

    /// What `heard` on one connection comes to; the answers are taken off `said`.
    pub(super) fn hear(&mut self, view: &mut View, mut heard: &[u8], said: &mut &[u8]) -> Result<(), Ending> {
        while !heard.is_empty() {
            let due = match view.expects {
                Expects::Hello => 32 - view.partial.len(),
                Expects::Request => 20 - view.partial.len(),
                Expects::Payload { left, .. } => left as usize,
                Expects::Nothing(ending) => return Err(ending),
            };
            let (now, rest) = heard.split_at(due.min(heard.len()));
            heard = rest;
            if let Expects::Payload { tag, slab, offset, left } = view.expects {
                self.store(view, slab, offset, now)?;
                let left = left - now.len() as u32;
                view.expects = Expects::Payload { tag, slab, offset: offset + now.len() as u32, left };
                if left == 0 {
                    expect(said, &reply(0x82, 0, tag, 0));
                    view.expects = Expects::Request;
                }
                continue;
            }
            view.partial.extend_from_slice(now);
            if now.len() == due {
                let frame = std::mem::take(&mut view.partial);
                match view.expects {
                    Expects::Hello => self.greet(view, &frame, said)?,
                    _ => self.answer(view, &frame, said)?,
                }
            }
        }
        Ok(())
    }

    fn greet(&mut self, view: &mut View, hello: &[u8], said: &mut &[u8]) -> Result<(), Ending> {
        if hello[..8] != MAGIC {
            return Err(Ending::BadHello);
        }
        if number(hello, 8) != VERSION {
            return Err(Ending::Version);
        }
        let given: [u8; 16] = hello[16..].try_into().expect("sixteen bytes");
        let borrower = match number(hello, 12) {
            0 if given == [0; 16] => {
                let token = said[16..32].try_into().expect("sixteen bytes");
                assert!(
                    token != [0; 16] && self.borrowers.iter().all(|other| other.token != token),
                    "a new borrower's token is new"
                );
                self.borrowers.push(Borrower { token, connections: 0 });
                self.borrowers.len() - 1
            }
            1 => {
                let known = |other: &Borrower| other.connections > 0 && other.token == given;
                self.borrowers.iter().position(known).ok_or(Ending::UnknownBorrower)?
            }
            2 if given == [0; 16] && !view.keyed => return Err(Ending::Told),
            _ => return Err(Ending::BadHello),
        };
        self.borrowers[borrower].connections += 1;
        view.borrower = Some(borrower);
        view.expects = Expects::Request;
        let capacity = self.slabs.len() as u64 * u64::from(self.slab_bytes);
        expect(said, &[&MAGIC[..], &VERSION.to_le_bytes(), &[0; 4], &self.borrowers[borrower].token].concat());
        let passing = if view.keyed { 3u32 } else { 0 };
        expect(said, &[&self.slab_bytes.to_le_bytes()[..], &passing.to_le_bytes(), &capacity.to_le_bytes()].concat());
        Ok(())
    }

    fn answer(&mut self, view: &mut View, request: &[u8], said: &mut &[u8]) -> Result<(), Ending> {
        let [kind, tag, slab, offset, len] = [0, 4, 8, 12, 16].map(|at| number(request, at));
        match kind {
            // Its client reads and writes by itself.
            1 | 2 if view.keyed => return Err(Ending::BadFrame),
            1 | 2 if len == 0 || len as usize > MAX_OP_BYTES => return Err(Ending::BadLength),
            1 => {
                let range = self.range(view, slab, offset, len)?;
                expect(said, &reply(0x81, 0, tag, len));
                match &self.slabs[slab as usize].bytes[..] {
                    [] => expect(said, &vec![0; len as usize]),
                    bytes => expect(said, &bytes[range]),
                }
            }
            2 => {
                self.range(view, slab, offset, len)?;
                view.expects = Expects::Payload { tag, slab, offset, left: len };
            }
            3 if [slab, offset, len] == [0; 3] => self.lend(view, tag, said),
            4 if [offset, len] == [0; 2] => {
                self.own(view, slab)?;
                self.slabs[slab as usize] = Slab::default();
                expect(said, &reply(0x84, 0, tag, 0));
            }
            _ => return Err(Ending::BadFrame),
        }
        Ok(())
    }

    /// Which slab is lent is the server's choice, if it is free; that none is, only if none is free.
    fn lend(&mut self, view: &View, tag: u32, said: &mut &[u8]) {
        if self.slabs.iter().all(|slab| slab.owner.is_some()) {
            return expect(said, &reply(0x83, 1, tag, 0));
        }
        let made = if view.keyed { Some(self.exporter.take_made()) } else { None };
        if let Some(None) = made {
            return expect(said, &reply(0x83, 2, tag, 0));
        }
        let slab = number(said, 8);
        expect(said, &reply(0x83, 0, tag, slab));
        let lent = self.slabs.get_mut(slab as usize).expect("a slab of this lender");
        assert_eq!(lent.owner, None, "a slab that is another's was lent");
        *lent = Slab { owner: view.borrower, exported: made.is_some(), bytes: Vec::new() };
        if let Some(Some(key)) = made {
            expect(said, &[&key.address.to_le_bytes()[..], &key.key.to_le_bytes()].concat());
        }
    }

    /// The slabs that a connection may read, with their bytes; none for all zero.
    pub(super) fn slabs_of(&self, view: &View) -> impl Iterator<Item = (u32, &[u8])> {
        let slabs = self.slabs.iter().enumerate();
        let mine = slabs.filter(|(_, slab)| slab.owner.is_some() && slab.owner == view.borrower);
        mine.map(|(number, slab)| (number as u32, &slab.bytes[..]))
    }

    fn own(&self, view: &View, slab: u32) -> Result<(), Ending> {
        let mine = self.slabs.get(slab as usize).is_some_and(|slab| slab.owner.is_some() && slab.owner == view.borrower);
        if mine { Ok(()) } else { Err(Ending::NotYours) }
    }

    fn range(&self, view: &View, slab: u32, offset: u32, len: u32) -> Result<std::ops::Range<usize>, Ending> {
        self.own(view, slab)?;
        let end = u64::from(offset) + u64::from(len);
        if end > u64::from(self.slab_bytes) {
            return Err(Ending::BadRange);
        }
        Ok(offset as usize..end as usize)
    }

    fn store(&mut self, view: &View, slab: u32, offset: u32, bytes: &[u8]) -> Result<(), Ending> {
        let range = self.range(view, slab, offset, bytes.len() as u32)?;
        let content = &mut self.slabs[slab as usize].bytes;
        content.resize(self.slab_bytes as usize, 0);
        content[range].copy_from_slice(bytes);
        Ok(())
    }
}
