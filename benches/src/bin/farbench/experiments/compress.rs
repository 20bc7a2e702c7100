//! A program that reads and writes in order.

use super::Experiment;
use crate::Outcome;
use crate::bench::Bench;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::subject::Subject;
use crate::transport::Kind;
use farptr::RemVec;
use farptr_benches::random::{Random, word};
use std::hint::black_box;

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "compress",
    about: "Compressing far data into far memory (built after figure 11 of AIFM)",
    weight: 4,
    run,
};

const READING: &str = "A vector of bytes is read in order, compressed by LZ4 in blocks of 16 KiB, and what comes out appended to another vector, both in the same far \
    memory; counted is what is read. The limit is the same on vectors of std.";

/// Bytes of a block.
const BLOCK: usize = 16 << 10;

fn run(bench: &mut Bench<'_>) -> Outcome {
    let kinds = bench.kinds(&[Kind::Embedded, Kind::Shm, Kind::Tcp]);
    let locals = bench.locals(&[10, 25, 50]);
    let data = bench.size() / 2;
    let text = text(data);
    bench.plan(locals.len() * (kinds.len() + 1));
    let mut figure = Figure::new("rate", "Compressing", Axis::Numbers("% local"), Unit::MIB_PER_SECOND, READING)
        .headline(f64::from(*locals.iter().find(|percent| **percent == 25).unwrap_or(&locals[0])));
    for percent in locals {
        let mut subjects = Vec::new();
        for kind in &kinds {
            bench.doing(format_args!("setting up, {percent}% local, {kind}"));
            let mem = bench.memory(*kind, bench.budget(data, percent))?;
            let mut from = RemVec::new_in(&mem);
            from.try_extend_from_slice(&text)?;
            let mut to = RemVec::new_in(&mem);
            let mut at = 0;
            subjects.push(Subject::mib_per_second(format!("farptr, {kind}"), Role::Subject, move || {
                if at >= data {
                    at = 0;
                    to.clear();
                }
                let part = at..(at + BLOCK).min(data);
                // What is looked at holds back evacuation, so that nothing is appended meanwhile.
                let mut compressed = Vec::new();
                from.try_for_each_slice(part.clone(), |_, slice| {
                    compressed.extend_from_slice(&lz4_flex::block::compress(slice))
                })?;
                to.try_extend_from_slice(&compressed)?;
                at = part.end;
                Ok(part.len() as u64)
            }));
        }
        let (mut at, mut to) = (0, Vec::new());
        let text = &text;
        subjects.push(Subject::mib_per_second("std, all local", Role::Limit, move || {
            if at >= data {
                at = 0;
                to.clear();
            }
            let part = at..(at + BLOCK).min(data);
            to.extend_from_slice(&lz4_flex::block::compress(&text[part.clone()]));
            black_box(&mut to);
            at = part.end;
            Ok(part.len() as u64)
        }));
        bench.measure(&mut figure, f64::from(percent), &mut subjects)?;
    }
    bench.keep(figure);
    Ok(())
}

/// Words of the dictionary: few enough to come up more than once in a block.
const WORDS: usize = 512;

/// Bytes that compress to about a half, as text does: words out of a small dictionary.
fn text(bytes: usize) -> Vec<u8> {
    let mut random = Random::seeded(12);
    let mut text = Vec::with_capacity(bytes + 8);
    while text.len() < bytes {
        let chosen = random.below(WORDS) as u64;
        text.extend_from_slice(&word(chosen, 0).to_le_bytes()[..5 + chosen as usize % 4]);
    }
    text.truncate(bytes);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_compresses_somewhat() {
        let text = text(1 << 18);
        let compressed: usize = text.chunks(BLOCK).map(|block| lz4_flex::block::compress(block).len()).sum();
        let ratio = text.len() as f64 / compressed as f64;
        assert!((1.2..4.0).contains(&ratio), "{ratio}");
    }
}
