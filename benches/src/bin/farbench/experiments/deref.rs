//! The cost of a hit.

use super::Experiment;
use crate::Outcome;
use crate::bench::Bench;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::subject::Subject;
use crate::transport::Kind;
use farptr::{RemBox, RemVec};
use farptr_benches::deref::{
    Object, sum_arc, sum_box, sum_by_table, sum_far, sum_index, sum_pin_each, sum_scope_each, sum_vec, write_box, write_far,
};
use farptr_benches::random::order;
use std::hint::black_box;
use std::sync::Arc;

pub(crate) const EXPERIMENT: Experiment =
    Experiment { name: "deref", about: "What it costs to look at an object that is local", weight: 4, run };

const READING: &str = "Objects of 64 bytes. `hot`: 256 of them in order, all in the first cache. `random`: far more than the caches hold, in random order. \
    The limit is three dependent loads, as many as a far pointer needs, and nothing else (box by a table). A crossbeam pin for each access \
    is what a scope is measured against. Boxes are allocated one by one, farptr's objects lie in an arena with huge pages.";

fn run(bench: &mut Bench<'_>) -> Outcome {
    let many = bench.pace().of(1 << 20, 1 << 18, 1 << 12);
    let mem = bench.memory(Kind::Embedded, (many * 400).max(1 << 24))?;
    let mut reads = Figure::new("read", "Read a word of a local object", Axis::Names(""), Unit::NS, READING).headline("random");
    let mut writes =
        Figure::new("write", "Write a word of a local object", Axis::Names(""), Unit::NS, READING).headline("random");
    bench.plan(20);
    for (name, count, order) in [("hot", 256usize, (0..256).collect()), ("random", many, order(many))] {
        bench.doing(format_args!("setting up, {name}"));
        let objects = || (0..count).map(|i| [i as u64; 8]);
        let mut far: Vec<_> = objects().map(|object| RemBox::try_new_in(object, &mem)).collect::<Result<_, _>>()?;
        let mut vec = RemVec::new_in(&mem);
        vec.try_extend(objects())?;
        let mut boxes: Vec<Box<Object>> = objects().map(Box::new).collect();
        let arcs: Vec<Arc<Object>> = objects().map(Arc::new).collect();
        let plain: Vec<Object> = objects().collect();
        // The first two uses make an object hot and dirty.
        (0..2).for_each(|_| write_far(&mut far, &order));
        (0..2).for_each(|_| _ = black_box(sum_vec(&vec, &order)));
        let count = count as u64;
        {
            let table: Vec<&Object> = boxes.iter().map(|each| &**each).collect();
            let pointers: Vec<&&Object> = table.iter().collect();
            let read = |sum: u64| {
                black_box(sum);
                Ok(count)
            };
            let mut subjects = [
                Subject::ns("RemBox", Role::Subject, || read(sum_far(black_box(&far), &order))),
                Subject::ns("RemBox, a scope each", Role::Subject, || read(sum_scope_each(black_box(&far), &order))),
                Subject::ns("RemVec", Role::Subject, || read(sum_vec(black_box(&vec), &order))),
                Subject::ns("box by a table", Role::Limit, || read(sum_by_table(black_box(&pointers), &order))),
                Subject::ns("Box", Role::Alternative, || read(sum_box(black_box(&boxes), &order))),
                Subject::ns("Arc", Role::Alternative, || read(sum_arc(black_box(&arcs), &order))),
                Subject::ns("index into a Vec", Role::Alternative, || read(sum_index(black_box(&plain), &order))),
                Subject::ns("Box, a crossbeam pin each", Role::Alternative, || read(sum_pin_each(black_box(&boxes), &order))),
            ];
            bench.measure(&mut reads, name, &mut subjects)?;
        }
        let mut subjects = [
            Subject::ns("RemBox", Role::Subject, || {
                write_far(black_box(&mut far), &order);
                Ok(count)
            }),
            Subject::ns("Box", Role::Limit, || {
                write_box(black_box(&mut boxes), &order);
                Ok(count)
            }),
        ];
        bench.measure(&mut writes, name, &mut subjects)?;
    }
    bench.keep(reads);
    bench.keep(writes);
    Ok(())
}
