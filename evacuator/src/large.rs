//! The part of a round that concerns large objects, which have a mapping each.
//!
//! They take part by CLOCK: a hot one is cooled and spared, a cold one leaves. In each round as many bytes of them get a turn as their share
//! of local memory says. A dirty one is written in pieces. While the bytes of a piece are read it carries `C`, and only then: a writer waits for
//! one piece to be copied at most, never for a server.

use crate::far_log::{Batch, Drained, FarLog, Room, Stream};
use crate::round::{self, Mercy, RoundState};
use farptr_runtime::ablations::Policy;
use farptr_runtime::addr::{FarAddr, LargeId, SlotId};
use farptr_runtime::far::{LargeFar, charge_large, image::image_bytes};
use farptr_runtime::heap::LargeObject;
use farptr_runtime::memory::Memory;
use farptr_runtime::slot::UnitClass;
use farptr_runtime::steps;
use farptr_runtime::word::{FarPlace, Slot, Stamp, Word};
use farptr_runtime::{Error, Result, sys};
use std::sync::Arc;
use std::sync::atomic::Ordering;

struct Piece {
    slot: SlotId,
    addr: FarAddr,
    batch: Batch,
    len: usize,
}

struct Victim<'m> {
    object: Arc<LargeObject>,
    slot: &'m Slot,
    word: Word,
    /// Where the copy was written, if it had to be.
    pieces: Vec<Piece>,
}

/// The large objects of a round.
pub struct LargeRound<'m> {
    memory: &'m Memory,
    victims: Vec<Victim<'m>>,
    /// What the far log can take.
    room: Room,
    /// Why write-back failed, if it did.
    pub error: Option<Error>,
    /// Bytes of far memory for the largest dirty object that the far log has no room for now. It was left alone: half of its pieces would be room taken for nothing.
    pub refused: Option<usize>,
}

impl<'m> LargeRound<'m> {
    /// Marks large objects for a round that takes `segment_bytes` from the log.
    pub fn choose(memory: &'m Memory, state: &mut RoundState, mercy: Mercy, segment_bytes: usize, room: Room) -> Self {
        let mut round = LargeRound { memory, victims: Vec::new(), room, error: None, refused: None };
        let objects = memory.large_objects();
        let count = objects.len();
        if count == 0 {
            state.large_credit = 0;
            return round;
        }
        let log_bytes = memory.heap().committed_bytes().max(1);
        let large_bytes = memory.budget().used().saturating_sub(log_bytes);
        let share = (segment_bytes as u128 * large_bytes as u128 / log_bytes as u128) as usize;
        // A round that finds nothing in the log must take from here: as much as it would there, and it goes on until it has it.
        let alone = segment_bytes == 0;
        state.large_credit += if alone { round::most_bytes(memory) } else { share };
        for _ in 0..count {
            if state.large_credit == 0 {
                break;
            }
            let Some(object) = objects.rotate() else { break };
            let footprint = LargeObject::footprint(object.layout());
            if round.mark(object, mercy) || !alone {
                state.large_credit = state.large_credit.saturating_sub(footprint);
            }
        }
        if alone {
            state.large_credit = 0;
        }
        round
    }

    /// Whether it takes part.
    fn mark(&mut self, object: Arc<LargeObject>, mercy: Mercy) -> bool {
        let addr = object.addr();
        if let Some(slot) = self.memory.slot_table().get(object.header().slot()) {
            let mut word = slot.load();
            while word.is_present_at(addr) && word.pins() == 0 && !word.is_evacuating() && !word.is_relocating() {
                if word.is_hot() && mercy != Mercy::None && self.memory.ablations().policy != Policy::ArrivalOrder {
                    let _ = steps::cool(slot, word);
                    break;
                }
                if !word.is_clean() && !self.has_room(object.layout().size()) {
                    break;
                }
                match slot.mark_evacuating(word) {
                    Ok(word) => {
                        self.victims.push(Victim { object, slot, word, pieces: Vec::new() });
                        return true;
                    }
                    Err(now) => word = now,
                }
            }
        }
        self.memory.let_go_of_large(object);
        false
    }

    /// Whether the far log can take an object of `size` bytes, which it does then.
    fn has_room(&mut self, size: usize) -> bool {
        let mut room = self.room;
        let fits = LargeFar::cuts(size).all(|(_, len)| room.take(len));
        if fits {
            self.room = room;
        } else {
            self.refused = self.refused.max(Some(charge_large(size) as usize));
        }
        fits
    }

    /// Objects that take part.
    pub fn len(&self) -> usize {
        self.victims.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.victims.is_empty()
    }

    /// After the grace period: appends the dirty ones to the far log.
    pub fn copy(&mut self, log: &mut FarLog) {
        for mut victim in std::mem::take(&mut self.victims) {
            if victim.word.is_clean() {
                self.victims.push(victim);
                continue;
            }
            match self.copy_pieces(log, &mut victim) {
                Ok(true) => self.victims.push(victim),
                Ok(false) => self.give_up(victim),
                Err(error) => {
                    self.error.get_or_insert(error);
                    self.give_up(victim);
                }
            }
        }
    }

    /// False if a mutator wanted the object.
    fn copy_pieces(&self, log: &mut FarLog, victim: &mut Victim<'m>) -> Result<bool> {
        let memory = self.memory;
        let size = victim.object.layout().size();
        for (offset, len) in LargeFar::cuts(size) {
            // Before the mark: this may wait for a server, and a writer that meets `C` waits for this thread.
            log.make_room(memory, Stream::WriteBack, len)?;
            let slot = memory.evacuator_slot()?;
            let free = || memory.slot_table().free(slot, UnitClass::One, memory.budget());
            let Ok(copying) = victim.slot.mark_copying(victim.word) else {
                free();
                return Ok(false);
            };
            victim.word = copying;
            let first = victim.object.addr().get() + offset;
            // SAFETY: the piece lies in the mapping, which the claim keeps. The word said "copying, here" after the grace period: whoever
            // wants to write waits until this round takes `C` away, so nobody writes while the slice is read.
            let bytes = unsafe {
                sys::freeze(first as *const u8, len);
                std::slice::from_raw_parts(first as *const u8, len)
            };
            let appended = log.append(memory, Stream::WriteBack, slot, bytes);
            let ended = victim.slot.end_copying(copying);
            match appended {
                Ok((addr, batch)) => victim.pieces.push(Piece { slot, addr, batch, len }),
                Err(_) => free(),
            }
            match ended {
                Ok(word) => victim.word = word,
                Err(_) => return Ok(false),
            }
            appended?;
        }
        Ok(true)
    }

    /// The object stays; what was written of it is dead.
    fn give_up(&self, victim: Victim<'m>) {
        if victim.slot.unmark(victim.word).is_err() {
            victim.slot.end_reading();
        }
        for Piece { slot, addr, len, .. } in victim.pieces {
            self.memory.far().bury(addr, image_bytes(len));
            self.memory.slot_table().free(slot, UnitClass::One, self.memory.budget());
        }
        self.memory.let_go_of_large(victim.object);
    }

    /// After the far log was drained. Returns the bytes freed.
    pub fn finish(&mut self, drained: &Drained) -> usize {
        let stamp = self.memory.ghost_now();
        let mut freed = 0;
        for victim in std::mem::take(&mut self.victims) {
            freed += self.finish_one(victim, drained, stamp);
        }
        freed
    }

    fn finish_one(&mut self, victim: Victim<'m>, drained: &Drained, stamp: Stamp) -> usize {
        let memory = self.memory;
        if !victim.pieces.iter().all(|piece| drained.arrived(piece.batch)) {
            self.give_up(victim);
            return 0;
        }
        let id = if victim.pieces.is_empty() { LargeId(victim.object.header().far()) } else { publish(memory, &victim) };
        if victim.slot.finish_absent(victim.word, FarPlace::Large(id), stamp).is_err() {
            victim.slot.end_reading();
            if !victim.pieces.is_empty() {
                memory.bury_far(FarPlace::Large(id), victim.object.layout().size());
            }
            memory.let_go_of_large(victim.object);
            return 0;
        }
        let counters = memory.counters();
        counters.evacuated.fetch_add(1, Ordering::Relaxed);
        if !victim.pieces.is_empty() {
            counters.written_back.fetch_add(1, Ordering::Relaxed);
            let bytes: usize = victim.pieces.iter().map(|piece| image_bytes(piece.len)).sum();
            counters.written_back_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        let footprint = LargeObject::footprint(victim.object.layout());
        memory.advance_ghost_clock(footprint);
        memory.free_large(victim.object.addr());
        memory.let_go_of_large(victim.object);
        footprint
    }

    /// Takes all marks away.
    pub fn unmark_all(&mut self) {
        for victim in std::mem::take(&mut self.victims) {
            self.give_up(victim);
        }
    }
}

/// Makes the pieces known as the object's far copy. From here on the cleaner may move them.
fn publish(memory: &Memory, victim: &Victim<'_>) -> LargeId {
    for piece in &victim.pieces {
        memory.slot_table().slot(piece.slot).init(Word::absent(FarPlace::At(piece.addr), Stamp(0)));
    }
    let pieces = victim.pieces.iter().map(|piece| piece.slot).collect();
    memory.large_fars().insert(LargeFar { size: victim.object.layout().size(), pieces })
}
