//! The code against the tables in the module doc, which are parsed from there, so that neither can drift from the other.
//!
//! - Every transition is tried on every word that the layout can hold, legal or not: outcome and successor are those of the table's line, and
//!   where no line fits a debug assertion refuses. On a word that has changed every transition fails and leaves it as it is.
//! - From new slots on, the transitions reach the states of the table, all of them, and no other word.
//! - Every state in which somebody waits is ended by him who is named there, by transitions of his own; and out of every state the
//!   evacuator gets its marks off, and the owner gets his slot back.
//!
//! The tables' language is interpreted here on flags that stand for themselves. Masks and shifts are the code's business; where each bit is,
//! the layout in the docs says.
#![forbid(unsafe_code)]

use super::{FarPlace, Outcome, PinOutcome, Slot, Stamp, State, UnpinOutcome, Word};
use crate::addr::{FarAddr, LargeId, ObjectAddr, SlotId};
use crate::word::{Freshness, Warmth};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

const SOURCE: &str = include_str!("../word.rs");

/// Places before and after.
const OLD: u64 = 0x5_a5a0;
const NEW: u64 = 0xa_5a50;
const STAMP: Stamp = Stamp(0x1234);

/// The columns of flags, in the tables' order.
const FLAGS: [char; 6] = ['E', 'R', 'C', 'K', 'c', 'f'];

/// The lines of the text block of the docs that begins with `word`, without the first, in words.
fn block(word: &str) -> Vec<Vec<&'static str>> {
    let mut lines = SOURCE.lines().filter_map(|line| line.strip_prefix("//!")).map(str::trim);
    lines.find(|line| line.split_whitespace().next() == Some(word)).unwrap_or_else(|| panic!("no block `{word}` in the docs"));
    lines.take_while(|line| *line != "```").map(|line| line.split_whitespace().collect()).collect()
}

/// Where the layout in the docs has the bit of that name, in words that are present (0), absent (1) or vacant (2).
fn bit(layout: usize, name: &str) -> u64 {
    const LAYOUTS: [&str; 3] = ["present", "absent", "vacant"];
    let line = SOURCE.lines().find(|line| line.starts_with(&format!("//! {} ", LAYOUTS[layout]))).expect("the layout");
    let bits = line.rsplit('|').next().expect("the last field").trim_end_matches(']').split_whitespace();
    let at = bits.rev().position(|bit| bit == name).unwrap_or_else(|| panic!("no bit `{name}` in `{line}`"));
    1 << at
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Object {
    Small,
    Large,
    Piece,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Present,
    Absent,
    Fetching,
    Vacant,
}

/// A word, spelt out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Spelt {
    kind: Kind,
    /// As in [`FLAGS`]; of a present object.
    flags: [bool; 6],
    pins: u8,
    /// Of an absent object: in pieces.
    is_large: bool,
    place: u64,
    stamp: u16,
}

impl Spelt {
    const VACANT: Spelt =
        Spelt { kind: Kind::Vacant, flags: [false; 6], pins: 0, is_large: false, place: SlotId::NONE.0 as u64, stamp: 0 };

    fn flag(&self, name: char) -> bool {
        self.flags[FLAGS.iter().position(|flag| *flag == name).expect("a flag")]
    }

    fn encode(&self, layout: &Layout) -> u64 {
        let flags: u64 = if self.kind == Kind::Present {
            layout.flags.iter().zip(self.flags).map(|(bit, set)| if set { *bit } else { 0 }).sum()
        } else {
            layout.absent
                + if self.is_large { layout.large } else { 0 }
                + match self.kind {
                    Kind::Fetching => layout.fetching,
                    Kind::Vacant => layout.vacant,
                    _ => 0,
                }
        };
        match self.kind {
            Kind::Present => self.place << 16 | u64::from(self.pins) << 8 | flags,
            _ => self.place << 24 | u64::from(self.stamp) << 8 | flags,
        }
    }
}

/// The bits, as the docs have them.
struct Layout {
    flags: [u64; 6],
    absent: u64,
    fetching: u64,
    large: u64,
    vacant: u64,
}

impl Layout {
    fn new() -> Self {
        let flags = FLAGS.map(|name| bit(0, &name.to_string()));
        assert_eq!(bit(0, "0"), bit(1, "1"), "the bit that tells absent from present");
        Layout { flags, absent: bit(1, "1"), fetching: bit(1, "F"), large: bit(1, "L"), vacant: 1 << 2 }
    }
}

/// Which words a line is about.
#[derive(Debug)]
struct Pattern {
    object: Option<Object>,
    kind: Option<Kind>,
    flags: [Option<bool>; 6],
    pins: &'static str,
}

impl Pattern {
    /// From the columns `object kind E R C K c f pins`.
    fn parse(columns: &[&'static str]) -> Self {
        let object = match columns[0] {
            "any" => None,
            "small" => Some(Object::Small),
            "large" => Some(Object::Large),
            "piece" => Some(Object::Piece),
            other => panic!("no object `{other}`"),
        };
        let flags = std::array::from_fn(|n| match columns[2 + n] {
            "0" => Some(false),
            "1" => Some(true),
            "*" | "-" => None,
            other => panic!("no flag `{other}`"),
        });
        Pattern { object, kind: kind(columns[1]), flags, pins: columns[8] }
    }

    fn is_for(&self, object: Object) -> bool {
        self.object.is_none_or(|mine| mine == object)
    }

    /// Whether the word is one of them. What kind of object it belongs to only words of absent ones tell, and only large from others.
    fn fits(&self, word: &Spelt) -> bool {
        let object = match word.kind {
            Kind::Absent | Kind::Fetching => self.object.is_none_or(|mine| (mine == Object::Large) == word.is_large),
            _ => true,
        };
        let pins = match self.pins {
            "*" | "-" => true,
            "0" => word.pins == 0,
            "255" => word.pins == 255,
            "<255" => word.pins < 255,
            ">0" => word.pins > 0,
            other => panic!("no pins `{other}`"),
        };
        let flags = self.flags.iter().zip(word.flags).all(|(pattern, set)| pattern.is_none_or(|pattern| pattern == set));
        object && self.kind.is_none_or(|kind| kind == word.kind) && (word.kind != Kind::Present || flags && pins)
    }
}

fn kind(column: &str) -> Option<Kind> {
    match column {
        "P" => Some(Kind::Present),
        "A" => Some(Kind::Absent),
        "F" => Some(Kind::Fetching),
        "V" => Some(Kind::Vacant),
        "*" | "=" => None,
        other => panic!("no kind `{other}`"),
    }
}

/// A line of the table of transitions.
#[derive(Debug)]
struct Line {
    transition: &'static str,
    by: &'static str,
    from: Pattern,
    /// `kind E R C K c f pins place`.
    to: Vec<&'static str>,
    outcome: &'static str,
}

impl Line {
    fn parse(columns: &[&'static str]) -> Self {
        let [transition, by, rest @ ..] = columns else { panic!("{columns:?}") };
        let arrow = rest.iter().position(|column| *column == "->").expect("an arrow");
        assert_eq!((arrow, rest.len()), (9, 20), "columns of {columns:?}");
        let to = rest[arrow + 1..19].to_vec();
        Line { transition, by, from: Pattern::parse(&rest[..arrow]), to, outcome: rest[19] }
    }

    /// The word that follows. A place that is given is `NEW`, that of an absent large object in pieces.
    fn successor(&self, word: &Spelt) -> Spelt {
        let kind = kind(self.to[0]).unwrap_or(word.kind);
        if kind == Kind::Vacant && self.to[8] == "none" {
            return Spelt::VACANT;
        }
        let flags = std::array::from_fn(|n| {
            kind == Kind::Present
                && match self.to[1 + n] {
                    "0" => false,
                    "1" => true,
                    "=" => word.flags[n],
                    "E|R" => word.flag('E') || word.flag('R'),
                    "c&f" => word.flag('c') && word.flag('f'),
                    other => panic!("no flag `{other}`"),
                }
        });
        let pins = match self.to[7] {
            "0" | "-" => 0,
            "=" => word.pins,
            "+1" => word.pins + 1,
            "-1" => word.pins - 1,
            other => panic!("no pins `{other}`"),
        };
        let (place, is_large) = match self.to[8] {
            "given" => (NEW, kind == Kind::Absent && self.from.object != Some(Object::Piece) && word.is_large),
            "=" => (word.place, word.is_large),
            other => panic!("no place `{other}`"),
        };
        // Who lets an object go says when; who moves a far copy does not.
        let stamp = match (word.kind, kind) {
            (_, Kind::Present) => 0,
            (Kind::Present, _) => STAMP.0,
            (Kind::Vacant, Kind::Absent) => STAMP.0,
            (Kind::Fetching, Kind::Absent) if self.transition == "pass_by" => STAMP.0,
            _ => word.stamp,
        };
        Spelt { kind, flags, pins, is_large, place, stamp }
    }
}

fn lines() -> Vec<Line> {
    block("transition").iter().map(|columns| Line::parse(columns)).collect()
}

/// What a transition said.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// Done; the word now, if it said so.
    Ok(Option<u64>),
    Full,
    /// The word has changed to this.
    Changed(u64),
}

fn said(outcome: Outcome) -> Said {
    match outcome {
        Ok(word) => Said::Ok(Some(word.to_bits())),
        Err(word) => Said::Changed(word.to_bits()),
    }
}

fn pinned(outcome: PinOutcome) -> Said {
    match outcome {
        PinOutcome::Pinned(word) => Said::Ok(Some(word.to_bits())),
        PinOutcome::Full => Said::Full,
        PinOutcome::Changed(word) => Said::Changed(word.to_bits()),
    }
}

fn given(is_large: bool) -> FarPlace {
    if is_large { FarPlace::Large(LargeId(NEW)) } else { FarPlace::At(FarAddr::from_bits(NEW)) }
}

fn new_addr() -> ObjectAddr {
    ObjectAddr::new(NEW as usize)
}

/// What a call needs beside slot and word: the kind of object, and the line in whose sense it is made.
struct Call<'a> {
    slot: &'a Slot,
    from: Word,
    is_large: bool,
    by: &'a str,
}

type Method = fn(Call<'_>) -> Said;

/// Every transition of [`Slot`], as it is called. Those in the second list load the word themselves.
const FROM_A_WORD: &[(&str, Method)] = &[
    ("rescue", |c| said(c.slot.rescue(c.from))),
    ("rescue_cold", |c| said(c.slot.rescue_cold(c.from))),
    ("begin_write", |c| said(c.slot.begin_write(c.from))),
    ("rescue_large", |c| said(c.slot.rescue_large(c.from))),
    ("self_relocate", |c| said(c.slot.self_relocate(c.from, new_addr()))),
    ("cool", |c| said(c.slot.cool(c.from))),
    ("disown_far_copy", |c| said(c.slot.disown_far_copy(c.from))),
    ("mark_evacuating", |c| said(c.slot.mark_evacuating(c.from))),
    ("mark_relocating", |c| said(c.slot.mark_relocating(c.from))),
    ("mark_copying", |c| said(c.slot.mark_copying(c.from))),
    ("end_copying", |c| said(c.slot.end_copying(c.from))),
    ("finish_absent", |c| said(c.slot.finish_absent(c.from, given(c.is_large), STAMP))),
    ("finish_relocated", |c| said(c.slot.finish_relocated(c.from, new_addr()))),
    ("unmark", |c| said(c.slot.unmark(c.from))),
    ("claim_fetch", |c| said(c.slot.claim_fetch(c.from))),
    ("confirm_fetch", |c| said(c.slot.confirm_fetch(c.from))),
    ("publish", |c| said(c.slot.publish(c.from, Word::present(new_addr(), Freshness::Clean, Warmth::Fresh)))),
    ("abandon_fetch", |c| said(c.slot.abandon_fetch(c.from))),
    ("pass_by", |c| said(c.slot.pass_by(c.from, STAMP))),
    ("pin", |c| pinned(c.slot.pin(c.from))),
    ("pin_cold", |c| pinned(c.slot.pin_cold(c.from))),
    ("pin_at", |c| said(c.slot.pin_at(c.from, new_addr()))),
    ("pin_cold_at", |c| said(c.slot.pin_cold_at(c.from, new_addr()))),
    ("vacate_from", |c| said(c.slot.vacate_from(c.from))),
];

const BY_THEMSELVES: &[(&str, Method)] = &[
    ("init", |c| {
        c.slot.init(match c.by {
            "creator" => Word::present(new_addr(), Freshness::Dirty, Warmth::Cold),
            _ => Word::absent(given(false), STAMP),
        });
        Said::Ok(None)
    }),
    ("move_far", |c| said(c.slot.move_far(FarAddr::from_bits(OLD), FarAddr::from_bits(NEW)))),
    ("end_reading", |c| Said::Ok(Some(c.slot.end_reading().to_bits()))),
    ("unpin", |c| match c.slot.unpin() {
        UnpinOutcome::Unpinned(now) => Said::Ok(Some(now.to_bits())),
        UnpinOutcome::Full => Said::Full,
    }),
    ("unpin_full", |c| {
        c.slot.unpin_full();
        Said::Ok(None)
    }),
    ("vacate", |c| {
        assert_eq!(c.slot.vacate(), c.from, "it returns what the slot said");
        Said::Ok(None)
    }),
];

/// Words that the layout can hold: every combination of flags, few, some and many pins, old places and stamps.
fn representable() -> Vec<Spelt> {
    let mut words = Vec::new();
    let nothing = Spelt { kind: Kind::Present, flags: [false; 6], pins: 0, is_large: false, place: OLD, stamp: 0 };
    for bits in 0..1u32 << FLAGS.len() {
        for pins in [0, 1, 2, 128, 254, 255] {
            words.push(Spelt { flags: std::array::from_fn(|n| bits & 1 << n != 0), pins, ..nothing });
        }
    }
    for kind in [Kind::Absent, Kind::Fetching, Kind::Vacant] {
        for is_large in [false, true] {
            for stamp in [0, 1, 0xffff] {
                words.push(Spelt { kind, is_large, stamp, ..nothing });
            }
        }
    }
    words
}

/// Whether `call` is refused by an assertion. Quietly: thousands are.
fn refused<R>(call: impl FnOnce() -> R) -> Result<R, ()> {
    static HOOK: Once = Once::new();
    thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                loud(panic);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(call)).map_err(drop);
    QUIET.set(false);
    result
}

#[test]
fn a_stamp_says_when_and_how_often_in_a_row() {
    for step in [0, 1, 0x1234, 0x3fff, 0x4000, u64::MAX] {
        for returns in 0..=u8::MAX {
            let stamp = Stamp::at(step).after(returns);
            assert_eq!((stamp.returns(), stamp.after(0)), (returns.min(super::MOST_RETURNS), Stamp::at(step)));
            for later in [0, 1, 29, 0x3fff] {
                let now = Stamp::at(step.wrapping_add(later));
                assert_eq!((now.steps_since(stamp), now.after(3).steps_since(stamp)), (later as u16, later as u16));
            }
        }
    }
}

#[test]
fn layout_is_that_of_the_docs() {
    let layout = Layout::new();
    for spelt in representable() {
        let word = Word(spelt.encode(&layout));
        let place = if spelt.is_large { FarPlace::Large(LargeId(OLD)) } else { FarPlace::At(FarAddr::from_bits(OLD)) };
        let state = match spelt.kind {
            Kind::Present => State::Present(ObjectAddr::new(OLD as usize)),
            Kind::Absent => State::Absent(place),
            Kind::Fetching => State::Fetching(place),
            Kind::Vacant => State::Vacant,
        };
        assert_eq!(word.state(), state, "{spelt:?}");
        let present = spelt.kind == Kind::Present;
        let is = |name| present && spelt.flag(name);
        assert_eq!(word.is_present(), present, "{spelt:?}");
        assert_eq!(word.is_evacuating(), is('E'), "{spelt:?}");
        assert_eq!(word.is_relocating(), is('R'), "{spelt:?}");
        assert_eq!(word.is_copying(), is('C'), "{spelt:?}");
        assert_eq!(word.is_clean(), is('K'), "{spelt:?}");
        assert_eq!(word.is_hot(), present && !is('c'), "{spelt:?}");
        assert_eq!(word.pins(), if present { spelt.pins } else { 0 }, "{spelt:?}");
        // What the fast paths may pass by: a reader's marks and the count of a use, and what a writer would have to do besides.
        assert_eq!(word.is_fast_read(), present && !is('E') && !is('c'), "{spelt:?}");
        assert_eq!(word.is_fast_write(), present && !['E', 'c', 'K', 'R', 'C'].into_iter().any(is), "{spelt:?}");
        match spelt.kind {
            Kind::Present => {
                assert!(word.is_present_at(ObjectAddr::new(OLD as usize)) && !word.is_present_at(new_addr()), "{spelt:?}");
            }
            Kind::Vacant => assert_eq!(word.next_vacant(), SlotId(OLD as u32)),
            _ => assert_eq!(word.stamp(), Stamp(spelt.stamp)),
        }
    }
    assert_eq!(Word::vacant(SlotId::NONE).to_bits(), Spelt::VACANT.encode(&layout));
}

#[test]
fn every_method_has_its_lines() {
    let methods = SOURCE.split("impl Slot {").nth(1).expect("the methods of `Slot`").split("\n}\n").next().expect("their end");
    let found: BTreeSet<_> = methods
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub fn "))
        .filter_map(|signature| signature.split_once("(&self").map(|(name, _)| name))
        .filter(|name| *name != "load")
        .collect();
    let in_table: BTreeSet<_> = lines().iter().map(|line| line.transition).collect();
    let called: BTreeSet<_> = FROM_A_WORD.iter().chain(BY_THEMSELVES).map(|(name, _)| *name).collect();
    assert_eq!(found, in_table, "methods, and the table in the docs");
    assert_eq!(found, called, "methods, and the calls in this test");
}

#[test]
fn every_transition_of_every_word_is_as_in_the_docs() {
    let (layout, lines, words) = (Layout::new(), lines(), representable());
    let (mut allowed, mut refusals) = (0, 0);
    for (name, method) in FROM_A_WORD.iter().chain(BY_THEMSELVES) {
        let mine: Vec<_> = lines.iter().filter(|line| line.transition == *name).collect();
        for word in &words {
            let bits = word.encode(&layout);
            let line = mine.iter().find(|line| line.from.fits(word));
            let slot = Slot::new(Word(bits));
            let by = line.map_or("nobody", |line| line.by);
            let call = || method(Call { slot: &slot, from: Word(bits), is_large: word.is_large, by });
            let Some(line) = line else {
                if cfg!(debug_assertions) && *name != "init" {
                    assert_eq!(refused(call), Err(()), "{name} of {word:?}");
                    refusals += 1;
                }
                continue;
            };
            allowed += 1;
            let to = line.successor(word);
            let outcome = call();
            assert_eq!(slot.load().to_bits(), to.encode(&layout), "{name} of {word:?} should be {to:?}, is {:?}", slot.load());
            match (line.outcome, outcome) {
                ("ok", Said::Ok(None)) | ("full", Said::Full) => {}
                ("ok", Said::Ok(Some(now))) => assert_eq!(now, to.encode(&layout), "{name} of {word:?} returns the word"),
                ("changed", Said::Changed(now)) => assert_eq!(now, bits, "{name} of {word:?} returns the word"),
                other => panic!("{name} of {word:?}: {other:?}"),
            }
        }
    }
    // Every line in use, or its pattern is a mistake.
    for line in &lines {
        let first = |word: &&Spelt| lines.iter().find(|other| other.transition == line.transition && other.from.fits(word));
        let used = words.iter().any(|word| first(&word).is_some_and(|first| std::ptr::eq(first, line) || line.by != first.by));
        assert!(used || line.from.object.is_some(), "no word for {line:?}");
    }
    println!("{} words: {allowed} transitions as in the docs, {refusals} refused", words.len());
}

#[test]
fn on_a_word_that_has_changed_nothing_happens() {
    let (layout, lines, words) = (Layout::new(), lines(), representable());
    for (name, method) in FROM_A_WORD {
        for word in &words {
            let line = lines.iter().find(|line| line.transition == *name && line.from.fits(word));
            let Some(line) = line.filter(|line| line.outcome == "ok") else { continue };
            let from = Word(word.encode(&layout));
            // Every change of one bit, and its reverse: a transition that compares less than the word would not notice some.
            for bit in 0..64 {
                let slot = Slot::new(Word(from.to_bits() ^ 1 << bit));
                let changed = slot.load().to_bits();
                let outcome = method(Call { slot: &slot, from, is_large: word.is_large, by: line.by });
                assert_eq!(outcome, Said::Changed(changed), "{name} of {word:?} with bit {bit} changed");
                assert_eq!(slot.load().to_bits(), changed, "{name} of {word:?} with bit {bit} changed");
            }
        }
    }
}

/// Words of an object of that kind, and the lines that lead from one to the other.
struct Graph {
    object: Object,
    lines: Vec<Line>,
}

impl Graph {
    fn new(object: Object) -> Self {
        Graph { object, lines: lines() }
    }

    /// Where the transitions by `who` (or everybody) lead in one step. Places and stamps are left out: they change freely.
    fn steps<'a>(&'a self, word: &'a Spelt, who: Option<&'a str>) -> impl Iterator<Item = (&'a Line, Spelt)> {
        let mut taken = BTreeSet::new();
        self.lines.iter().filter_map(move |line| {
            let mine = line.from.is_for(self.object) && line.from.fits(word) && line.outcome == "ok";
            // The first line that fits counts, for each role; `init` has one for each kind of object.
            if !mine || !taken.insert((line.transition, line.by)) || who.is_some_and(|who| who != line.by) {
                return None;
            }
            // A slot is made present by its object's birth; only pieces are born absent.
            if line.transition == "init" && (line.from.object == Some(Object::Piece)) != (self.object == Object::Piece) {
                return None;
            }
            let mut to = line.successor(word);
            to.place = OLD;
            to.stamp = 0;
            to.is_large = self.object == Object::Large && matches!(to.kind, Kind::Absent | Kind::Fetching);
            Some((line, to))
        })
    }

    /// All words that the transitions by `who` (or everybody) lead to, the first included.
    fn reach(&self, from: Spelt, who: Option<&str>) -> BTreeSet<Spelt> {
        let mut reached = BTreeSet::from([from]);
        let mut next = vec![from];
        while let Some(word) = next.pop() {
            for (_, to) in self.steps(&word, who) {
                if reached.insert(to) {
                    next.push(to);
                }
            }
        }
        reached
    }

    fn vacant(&self) -> Spelt {
        Spelt { place: OLD, ..Spelt::VACANT }
    }

    /// All words that occur.
    fn words(&self) -> BTreeSet<Spelt> {
        self.reach(self.vacant(), None)
    }
}

/// A line of the table of states.
struct StateLine {
    name: &'static str,
    words: Pattern,
    waiter: &'static str,
    ended_by: &'static str,
}

impl StateLine {
    fn fits(&self, object: Object, word: &Spelt) -> bool {
        self.words.is_for(object) && self.words.fits(word) && (!word.flag('f') || word.flag('c'))
    }
}

fn states() -> Vec<StateLine> {
    let parse = |columns: &Vec<&'static str>| {
        assert_eq!(columns.len(), 12, "columns of {columns:?}");
        StateLine { name: columns[0], words: Pattern::parse(&columns[1..10]), waiter: columns[10], ended_by: columns[11] }
    };
    block("state").iter().map(parse).collect()
}

/// Every word that the table of states allows an object of that kind.
fn legal(object: Object, states: &[StateLine]) -> BTreeMap<Spelt, &StateLine> {
    let mut words: Vec<Spelt> = Vec::new();
    for spelt in representable().into_iter().filter(|spelt| spelt.pins == 0 && spelt.stamp == 0) {
        let pins = if spelt.kind == Kind::Present { 0..=255 } else { 0..=0 };
        words.extend(pins.map(|pins| Spelt { pins, ..spelt }));
    }
    let is_large = |spelt: &Spelt| matches!(spelt.kind, Kind::Absent | Kind::Fetching) && object == Object::Large;
    words.retain(|spelt| spelt.is_large == is_large(spelt) && (object != Object::Piece || spelt.kind != Kind::Present));
    let state_of = |word: Spelt| {
        let fitting: Vec<_> = states.iter().filter(|state| state.fits(object, &word)).collect();
        assert!(fitting.len() <= 1, "{word:?} is in two states of the table");
        fitting.first().map(|state| (word, *state))
    };
    words.into_iter().filter_map(state_of).collect()
}

const OBJECTS: [Object; 3] = [Object::Small, Object::Large, Object::Piece];

#[test]
fn the_states_of_the_docs_are_reached_and_no_others() {
    let states = states();
    for object in OBJECTS {
        let graph = Graph::new(object);
        let (reached, legal) = (graph.words(), legal(object, &states));
        for word in &reached {
            assert!(legal.contains_key(word), "{object:?}: reached, and not in the table of states: {word:?}");
        }
        for (word, state) in &legal {
            assert!(reached.contains(word), "{object:?}: `{}` in the table of states, and never reached: {word:?}", state.name);
        }
        println!("{object:?}: {} words", reached.len());
    }
}

#[test]
fn every_wait_is_ended_by_him_who_is_named() {
    let states = states();
    let mut waits = 0;
    for object in OBJECTS {
        let graph = Graph::new(object);
        for (word, state) in legal(object, &states) {
            assert_eq!(state.waiter == "nobody", state.ended_by == "-", "`{}`", state.name);
            if state.waiter == "nobody" {
                continue;
            }
            waits += 1;
            let ends = graph.reach(word, Some(state.ended_by));
            let free = |word: &Spelt| states.iter().any(|state| state.fits(object, word) && state.waiter == "nobody");
            assert!(ends.iter().any(free), "{object:?}: the {} waits for ever in `{}`: {word:?}", state.waiter, state.name);
            // One step is enough, and it is there in every word of the state: nobody else has to do anything before.
            let at_once = graph.steps(&word, Some(state.ended_by)).any(|(_, to)| free(&to));
            assert!(at_once, "{object:?}: the {} has no single step out of `{}`: {word:?}", state.ended_by, state.name);
        }
    }
    assert!(waits > 0, "the table names no wait");
}

#[test]
fn every_state_has_a_way_out() {
    for object in OBJECTS {
        let graph = Graph::new(object);
        let words = graph.words();
        // Backwards from the words without a mark, by the evacuator alone; and from vacant, by everybody.
        let unmarked = |word: &Spelt| !['E', 'R', 'C'].into_iter().any(|mark| word.flag(mark));
        for word in &words {
            let alone = graph.reach(*word, Some("evacuator"));
            assert!(alone.iter().any(unmarked), "{object:?}: the evacuator can't take its marks off {word:?}");
        }
        let mut ends = BTreeSet::from([graph.vacant()]);
        loop {
            let more: Vec<_> = words
                .iter()
                .filter(|word| !ends.contains(*word) && graph.steps(word, None).any(|(_, to)| ends.contains(&to)))
                .copied()
                .collect();
            if more.is_empty() {
                break;
            }
            ends.extend(more);
        }
        assert_eq!(ends, words, "{object:?}: words from which the slot can't be given back");
    }
}

/// The evacuator knows what it marked by the exact word.
#[test]
fn whoever_changes_an_evacuating_word_takes_the_mark_away() {
    for object in OBJECTS {
        let graph = Graph::new(object);
        for word in graph.words().iter().filter(|word| word.flag('E')) {
            for (line, to) in graph.steps(word, None).filter(|(line, _)| line.by != "evacuator") {
                assert!(to == *word || !to.flag('E'), "{} leaves `E` on {word:?}", line.transition);
            }
        }
    }
}
