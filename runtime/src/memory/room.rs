//! Making room when local memory is short.
#![forbid(unsafe_code)]

use super::Memory;
use crate::addr::SlotId;
use crate::budget::Party;
use crate::error::{Error, Result};
use crate::forked;
use crate::scope;
use crate::slot::{NoSlot, UnitClass};
use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// The evacuator, as the program sees it.
pub trait Relief: Send + Sync + std::fmt::Debug {
    /// Free memory is below the low watermark: begin soon. Never blocks.
    fn kick(&self);

    /// The caller, outside any scope, is short of memory and would rather evacuate than wait: runs a round if nobody else does. Whether
    /// anything was freed. Takes some 50 us, or as long as the write-back of a round if its victims are dirty.
    fn assist(&self, memory: &Memory) -> bool;

    /// The caller, outside any scope, can't go on without about `bytes`: runs a round, or waits for another's. Returns when it is worth trying again, or with
    /// the reason why it is not.
    fn relieve(&self, memory: &Memory, bytes: usize, waiting: &mut Waiting) -> Result<()>;

    /// The caller, without references, is at a legal point. Nothing, where somebody else says when each round is to be.
    #[cfg(farptr_zeal)]
    fn zeal(&self, _memory: &Memory, _pass: scope::zeal::Pass) -> scope::zeal::Ended {
        scope::zeal::Ended::Well
    }
}

/// One wait for room: what has come of it so far. Patience belongs to each waiting thread, since what one has given up on may be there for the next.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Rounds that this thread ran, in a row, after which nothing had become free.
    barren: u32,
    /// Rounds of all threads that had freed something when this one last looked.
    fruitful: u64,
}

impl Waiting {
    /// The thread has run a round. `fruitful`: how many rounds of all threads have freed something since ever. Returns after how many of its own in a row nothing has become free: as
    /// long as anybody's round frees something, its turn may come.
    pub fn after_round(&mut self, fruitful: u64) -> u32 {
        if std::mem::replace(&mut self.fruitful, fruitful) != fruitful {
            self.barren = 0;
        } else {
            self.barren = self.barren.saturating_add(1);
        }
        self.barren
    }
}

/// Attempts before a passed deadline counts: a process that was stopped for a while has lost nothing but time.
const LEAST_ATTEMPTS: u32 = 16;

impl Memory {
    /// Tries until `attempt` succeeds, or local memory can't be had.
    pub(crate) fn with_room<R>(&self, bytes: usize, mut attempt: impl FnMut() -> Option<R>) -> Result<R> {
        forked::check()?;
        match attempt() {
            Some(result) => Ok(result),
            None => self.make_room(bytes, &mut attempt),
        }
    }

    #[cold]
    fn make_room<R>(&self, bytes: usize, attempt: &mut dyn FnMut() -> Option<R>) -> Result<R> {
        let kept = self.heap.floor(Party::Mutator) * self.heap.segment_bytes();
        if bytes > self.budget.limit().saturating_sub(kept) {
            return Err(self.out_of_local(bytes, "more than the budget holds"));
        }
        if self.drop_spares()
            && let Some(result) = attempt()
        {
            return Ok(result);
        }
        if scope::in_scope() {
            return Err(self.refused_in_scope(bytes));
        }
        let deadline = Instant::now() + self.timeout;
        let (mut attempts, mut waiting) = (0, Waiting::default());
        loop {
            if let Err(error) = self.relieve(bytes, &mut waiting)
                && !self.forget_group()
            {
                return Err(error);
            }
            if let Some(result) = attempt() {
                return Ok(result);
            }
            attempts += 1;
            // Who has come after a scope became overdue need not wait for it as long once more: as long as it lasts nothing leaves.
            if self.is_overdue() || Instant::now() >= deadline && attempts >= LEAST_ATTEMPTS {
                return Err(self.too_late(bytes));
            }
        }
    }

    /// The error of who is in a scope and would have to wait: no grace period that begins now ends before that scope does.
    #[cold]
    pub(super) fn refused_in_scope(&self, bytes: usize) -> Error {
        self.kick_evacuator();
        self.scope_exhausted(bytes)
    }

    /// Runs a round or waits for another's: see [`Relief::relieve`]. The caller is outside any scope, and has no claim.
    pub(super) fn relieve(&self, bytes: usize, waiting: &mut Waiting) -> Result<()> {
        self.relief()?.relieve(self, bytes, waiting)
    }

    /// Tells the evacuator that somebody waits, without blocking, for `bytes`.
    pub(super) fn want(&self, bytes: usize) {
        self.wanted.fetch_max(bytes, Ordering::Relaxed);
        self.kick_evacuator();
    }

    fn kick_evacuator(&self) {
        if let Some(relief) = self.relief.get() {
            relief.kick();
        }
    }

    /// Runs a round on this thread, if it may.
    pub(super) fn assist(&self) -> bool {
        self.drop_spares() || !scope::in_scope() && self.relief.get().is_some_and(|relief| relief.assist(self))
    }

    /// What somebody waits for; from now on nobody does until `want` is called again. Zero if nobody waits.
    pub fn take_wanted(&self) -> usize {
        self.wanted.swap(0, Ordering::Relaxed)
    }

    fn relief(&self) -> Result<&dyn Relief> {
        self.relief.get().map(|relief| &**relief).ok_or_else(|| self.out_of_local(0, "no evacuator runs"))
    }

    /// The error for a lack of local memory.
    pub fn out_of_local(&self, needed: usize, why: impl Into<Cow<'static, str>>) -> Error {
        Error::OutOfLocalMemory { needed, used: self.budget.used(), budget: self.budget.limit(), why: why.into() }
    }

    /// The error of who has waited for local memory as long as anything may take.
    #[cold]
    pub(super) fn too_late(&self, needed: usize) -> Error {
        let why = self.overdue_scope().map_or(Cow::Borrowed("nothing more could be evacuated in time"), Cow::Owned);
        self.out_of_local(needed, why)
    }

    /// Tells the evacuator if the heap has fallen below its low watermark.
    #[inline]
    pub(crate) fn kick_if_low(&self) {
        if self.heap.is_low() {
            self.kick_evacuator();
        }
    }

    /// Charges `bytes` of a container's own table to the budget. Free segments give way.
    pub fn charge_table(&self, bytes: usize) -> Result<()> {
        #[cfg(farptr_zeal)]
        self.legal_point();
        self.with_room(bytes, || self.try_charge(Party::Creator, bytes).then_some(()))
    }

    /// Gives back what `charge_table` took.
    pub fn release_table(&self, bytes: usize) {
        self.budget.release(bytes);
    }

    /// Charges the budget, at the expense of free segments. What is new leaves room for swap-ins, in whatever form it comes.
    pub(crate) fn try_charge(&self, party: Party, bytes: usize) -> bool {
        self.heap.try_charge(bytes, &self.budget, party)
    }

    pub(crate) fn room_for_slots(&self, class: UnitClass) -> Result<SlotId> {
        let mut failure = None;
        let id = self.with_room(crate::arena::PAGE, || match self.try_slots(class, Party::Creator) {
            Ok(id) => Some(Ok(id)),
            Err(NoSlot::Budget) => None,
            Err(error) => {
                failure = Some(error);
                Some(Err(()))
            }
        })?;
        id.map_err(|()| match failure {
            Some(NoSlot::System(error)) => Error::Config(format!("can't reserve address space for slots: {error}")),
            _ => Error::CapacityOverflow { what: "the slot table", asked: 1 << 32, limit: (1 << 32) - 1 },
        })
    }

    /// A slot for a piece of a large object's far copy, out of the evacuator's headroom. It holds no count of the memory; it goes back to the slot
    /// table when the piece is dead.
    ///
    /// # Errors
    /// If the headroom is used up as well.
    pub fn evacuator_slot(&self) -> Result<SlotId> {
        self.try_slots(UnitClass::One, Party::Evacuator)
            .map_err(|_| self.out_of_local(crate::arena::PAGE, "no room for the slots of a large object's pieces"))
    }

    /// Takes slots if the budget has room, or free segments can make it.
    fn try_slots(&self, class: UnitClass, party: Party) -> Result<SlotId, NoSlot> {
        self.slots.alloc(class, &self.budget, |bytes| self.try_charge(party, bytes))
    }
}
