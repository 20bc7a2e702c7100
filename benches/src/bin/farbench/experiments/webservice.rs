//! A service that looks things up and makes an answer of them.

use super::Experiment;
use crate::Outcome;
use crate::bench::Bench;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::store::{FarMap, StdMap, Store, entry_bytes};
use crate::subject::Subject;
use crate::transport::Kind;
use farptr::RemVec;
use farptr_benches::random::{object, zipf};
use std::hint::black_box;

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "webservice",
    about: "Requests that look up 32 keys and compress an answer (built after figure 6 of AIFM)",
    weight: 5,
    run,
};

const READING: &str = "A request looks up 32 keys in a hash map with values of 512 bytes, reads an element of 8 KiB of a vector that they lead to, and compresses it by \
    LZ4; keys by Zipf 0.8; one thread. Two fifths of the data are the map. AIFM's request encrypts besides. The limit is std with all of it local.";

/// Lookups of a request.
const LOOKUPS: usize = 32;

/// Words of an element: 8 KiB.
const ELEMENT: usize = 1024;

/// Words of a value.
const VALUE: usize = 64;

/// A vector of elements, wherever it is; says how long an element became when compressed.
type Elements<'a> = Box<dyn FnMut(usize) -> Outcome<usize> + 'a>;

fn run(bench: &mut Bench<'_>) -> Outcome {
    let kinds = bench.kinds(&[Kind::Embedded, Kind::Shm, Kind::Tcp]);
    let locals = bench.locals(&[10, 25, 50]);
    let data = bench.size();
    let (entries, elements) = (data * 2 / 5 / entry_bytes(VALUE), data * 3 / 5 / (ELEMENT * 8));
    let keys = zipf(entries, 0.8, (1 << 20).min(8 * entries), 11);
    bench.plan(locals.len() * (kinds.len() + 1));
    let mut figure = Figure::new("requests", "Requests of a web service", Axis::Numbers("% local"), Unit::PER_SECOND, READING)
        .headline(f64::from(*locals.iter().find(|percent| **percent == 25).unwrap_or(&locals[0])));
    let local: Vec<_> = (0..elements).map(|i| object::<ELEMENT>(i as u64)).collect();
    for percent in locals {
        let mut subjects = Vec::new();
        for kind in &kinds {
            bench.doing(format_args!("setting up, {percent}% local, {kind}"));
            let mem = bench.memory(*kind, bench.budget(data, percent))?;
            let map = FarMap::<VALUE>::fill(&mem, entries)?;
            let mut vec = RemVec::with_chunk_bytes_in(ELEMENT * 8, &mem);
            vec.try_extend((0..elements).map(|i| object::<ELEMENT>(i as u64)))?;
            let read = Box::new(move |i| Ok(vec.try_with(i, compressed)?.ok_or("an index out of bounds")?));
            subjects.push(service(format!("farptr, {kind}"), Role::Subject, Box::new(map), read, &keys, elements));
        }
        let read = Box::new(|i: usize| Ok(compressed(&local[i])));
        subjects.push(service("std, all local", Role::Limit, Box::new(StdMap::<VALUE>::fill(entries)), read, &keys, elements));
        bench.measure(&mut figure, f64::from(percent), &mut subjects)?;
    }
    bench.keep(figure);
    Ok(())
}

fn service<'a>(
    series: impl Into<String>,
    role: Role,
    mut map: Box<dyn Store>,
    mut read: Elements<'a>,
    keys: &'a [u32],
    elements: usize,
) -> Subject<'a> {
    let mut at = 0;
    Subject::per_second(series, role, move || {
        for _ in 0..8 {
            let mut sum = 0;
            for _ in 0..LOOKUPS {
                at = (at + 1) % keys.len();
                sum += map.read(keys[at])?.ok_or("a key without a value")?;
            }
            black_box(read(sum as usize % elements)?);
        }
        Ok(8)
    })
}

fn compressed(element: &[u64; ELEMENT]) -> usize {
    let bytes: Vec<u8> = element.iter().flat_map(|word| word.to_le_bytes()).collect();
    black_box(lz4_flex::block::compress(&bytes)).len()
}
