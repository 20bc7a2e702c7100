//! A server with faults.
#![forbid(unsafe_code)]

use super::fate::{Dice, Fate};
use super::faults::{Damage, Immediate, Shared};
use super::kind::Kind;
use super::server::FaultyServer;
use super::session::{FaultySession, damage_bytes};
use crate::addr::FAR_UNIT;
use crate::error::TransportError;
use crate::transport::{ImmediateAccess, LocalMemory, Session, SlabId, SlabPos, Transport, Verb};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Sets control operations and mapped accesses apart from sessions when dice are asked for.
const CONTROLS: u64 = u64::MAX;
const ACCESSES: u64 = u64::MAX - 1;

/// A transport that goes wrong.
pub(super) struct FaultyTransport {
    inner: Arc<dyn Transport>,
    server: Arc<FaultyServer>,
}

impl FaultyTransport {
    pub(super) fn new(inner: Arc<dyn Transport>, number: u64, faults: Arc<Shared>) -> Self {
        let server = Arc::new(FaultyServer::new(number, inner.slab_bytes() as usize, faults));
        FaultyTransport { inner, server }
    }

    fn faults(&self) -> &Shared {
        &self.server.faults
    }

    fn timeout(&self, what: &'static str) -> TransportError {
        TransportError::Timeout { what, after: self.faults().plan.op_timeout }
    }

    /// An attempt at a control operation: the dice for the rest of it, or how it fails before anything is done.
    fn control(&self, what: &'static str) -> Result<Dice, TransportError> {
        self.server.reach()?;
        let number = self.server.controls.fetch_add(1, Ordering::Relaxed);
        let mut dice = self.faults().dice([self.server.number, CONTROLS, number]);
        if dice.happens(self.faults().rates().of(Kind::ControlLost)) {
            self.faults().happened(Kind::ControlLost);
            return Err(self.timeout(what));
        }
        Ok(dice)
    }

    fn goes_unanswered(&self, dice: &mut Dice) -> bool {
        let happens = dice.happens(self.faults().rates().of(Kind::ControlUnanswered));
        if happens {
            self.faults().happened(Kind::ControlUnanswered);
        }
        happens
    }

    /// The fate of a mapped access.
    fn access(&self, verb: Verb) -> Fate {
        let number = self.server.accesses.fetch_add(1, Ordering::Relaxed);
        let dice = self.faults().dice([self.server.number, ACCESSES, number]);
        Fate::of_access(dice, verb, self.faults().rates())
    }

    fn another_place(&self, at: SlabPos, len: usize, dice: &mut Dice) -> SlabPos {
        let places = self.server.slab_bytes.saturating_sub(len) / FAR_UNIT + 1;
        SlabPos { slab: at.slab, offset: (dice.below(places) * FAR_UNIT) as u32 }
    }

    fn mapped(&self) -> Result<&dyn ImmediateAccess, TransportError> {
        self.inner.immediate().ok_or_else(|| TransportError::System("the transport behind is not mapped any more".into()))
    }
}

impl Transport for FaultyTransport {
    fn describe(&self) -> &str {
        self.inner.describe()
    }

    fn slab_bytes(&self) -> u32 {
        self.inner.slab_bytes()
    }

    fn borrow_slab(&self) -> Result<SlabId, TransportError> {
        let mut dice = self.control("a request for a slab")?;
        if dice.happens(self.faults().rates().of(Kind::FalseFull)) {
            self.faults().happened(Kind::FalseFull);
            return Err(TransportError::Full { capacity: 0 });
        }
        let slab = self.inner.borrow_slab()?;
        self.server.lent(slab);
        if self.goes_unanswered(&mut dice) {
            self.faults().leaked();
            return Err(self.timeout("a request for a slab"));
        }
        Ok(slab)
    }

    fn return_slab(&self, slab: SlabId) -> Result<(), TransportError> {
        let mut dice = self.control("the return of a slab").inspect_err(|_| self.faults().leaked())?;
        self.server.give_back(slab, || self.inner.return_slab(slab))?;
        if self.goes_unanswered(&mut dice) {
            return Err(self.timeout("the return of a slab"));
        }
        Ok(())
    }

    fn open_session(&self) -> Result<Box<dyn Session>, TransportError> {
        self.control("the handshake")?;
        Ok(Box::new(FaultySession::new(Arc::clone(&self.server), self.inner.open_session()?)))
    }

    fn immediate(&self) -> Option<&dyn ImmediateAccess> {
        match self.faults().plan.immediate {
            Immediate::Hidden => None,
            Immediate::Faulty => self.inner.immediate().map(|_| self as &dyn ImmediateAccess),
        }
    }

    fn local_memory(&self) -> Option<Arc<dyn LocalMemory>> {
        self.inner.local_memory()
    }
}

impl ImmediateAccess for FaultyTransport {
    fn read_at(&self, at: SlabPos, into: &mut [u8]) -> Result<(), TransportError> {
        let Fate { kind, mut dice, .. } = self.access(Verb::Read);
        let mapped = self.mapped()?;
        let ordered = self.faults().take_ordered();
        let kind = if ordered.is_some() { None } else { kind };
        let tail_from = match (ordered, kind) {
            (Some(Damage::Short { bytes }), _) => bytes.min(into.len()),
            (None, Some(Kind::ShortRead)) => dice.below(into.len().max(1)),
            _ => into.len(),
        };
        let tail = into[tail_from..].to_vec();
        let misplaced = ordered == Some(Damage::Misplaced) || kind == Some(Kind::MisplacedRead);
        let from = if misplaced { self.another_place(at, into.len(), &mut dice) } else { at };
        match kind {
            Some(kind @ (Kind::LostRequest | Kind::LostReply)) => {
                self.faults().happened(kind);
                return Err(self.timeout("a read"));
            }
            _ => mapped.read_at(from, into)?,
        }
        if from != at {
            self.faults().happened(Kind::MisplacedRead);
        }
        if !tail.is_empty() && into[tail_from..] != *tail {
            into[tail_from..].copy_from_slice(&tail);
            self.faults().happened(Kind::ShortRead);
        }
        let damage = match (ordered, kind) {
            (Some(damage @ Damage::Flip { .. }), _) => Some((damage, Kind::FlippedRead)),
            (Some(damage @ Damage::Zero), _) => Some((damage, Kind::ZeroedRead)),
            (Some(damage @ Damage::Stale), _) => Some((damage, Kind::StaleRead)),
            (None, Some(Kind::FlippedRead)) if !into.is_empty() => {
                Some((Damage::Flip { byte: dice.below(into.len()), mask: 1 << dice.below(8) }, Kind::FlippedRead))
            }
            (None, Some(Kind::ZeroedRead)) => Some((Damage::Zero, Kind::ZeroedRead)),
            (None, Some(Kind::StaleRead)) => Some((Damage::Stale, Kind::StaleRead)),
            _ => None,
        };
        if let Some((damage, kind)) = damage
            && damage_bytes(&self.server, at, damage, into)
        {
            self.faults().happened(kind);
        }
        Ok(())
    }

    fn write_at(&self, at: SlabPos, bytes: &[u8]) -> Result<(), TransportError> {
        let Fate { kind, mut dice, .. } = self.access(Verb::Write);
        let mapped = self.mapped()?;
        let write = |at, bytes: &[u8]| {
            self.server.note_write(at, bytes);
            mapped.write_at(at, bytes)
        };
        let Some(kind) = kind.filter(|_| !bytes.is_empty()) else { return write(at, bytes) };
        match kind {
            Kind::LostRequest => {}
            Kind::LostReply => write(at, bytes)?,
            Kind::LostWrite => {}
            Kind::ShortWrite => write(at, &bytes[..dice.below(bytes.len())])?,
            Kind::FlippedWrite => {
                let mut flipped = bytes.to_vec();
                flipped[dice.below(bytes.len())] ^= 1 << dice.below(8);
                write(at, &flipped)?;
            }
            Kind::MisplacedWrite => {
                write(at, bytes)?;
                let other = self.another_place(at, bytes.len(), &mut dice);
                write(other, bytes)?;
            }
            other => {
                debug_assert!(false, "{other:?} needs a session");
                return write(at, bytes);
            }
        }
        self.faults().happened(kind);
        match kind {
            Kind::LostRequest | Kind::LostReply => Err(self.timeout("a write")),
            _ => Ok(()),
        }
    }
}
