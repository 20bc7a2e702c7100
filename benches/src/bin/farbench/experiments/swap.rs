//! The kernel's far memory, by itself.

use super::Experiment;
use crate::Outcome;
use crate::bench::Bench;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::program::Program;
use crate::remote::Remote;
use crate::stats::Summary;
use crate::subject::Subject;
use crate::transport::Kind;
use farptr_benches::reads::FarReads;

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "swap",
    about: "Random reads of 4 KiB: farptr beside a program whose pages the kernel swaps",
    weight: 4,
    run,
};

const READING: &str = "Boxes of 4 KiB read at random, one thread. The alternative is the same program with ordinary boxes under a memory limit, swapping to \
    compressed memory with data that doesn't compress: the kernel's far memory without a network. The limit is ordinary boxes, all local.";

const RACE: &str = "What each way to swap made of a short race; the winner is the alternative of all experiments.";

fn run(bench: &mut Bench<'_>) -> Outcome {
    let kinds = bench.kinds(&[Kind::Embedded, Kind::Shm, Kind::Tcp]);
    let locals = bench.locals(&[10, 25, 50]);
    let data = bench.size();
    let mut race = Figure::new("race", "Ways to swap", Axis::Names(""), Unit::PER_SECOND, RACE);
    let mut losers = Vec::new();
    if let Some(swapping) = bench.swapping() {
        for (way, rate) in &swapping.race {
            match rate {
                Ok(rate) => race.add(way.to_string(), Role::Alternative, "4 KiB at random".into(), Summary::exact(*rate)),
                Err(why) => losers.push((way.to_string(), why.clone())),
            }
        }
    }
    losers.into_iter().for_each(|(way, why)| bench.missing(way, why));
    bench.keep(race);
    bench.plan(locals.len() * (kinds.len() + 2));
    let mut figure = Figure::new("pages", "Random reads of 4 KiB boxes", Axis::Numbers("% local"), Unit::PER_SECOND, READING)
        .headline(f64::from(*locals.iter().find(|percent| **percent == 25).unwrap_or(&locals[0])));
    let boxes: Vec<_> = (0..data / 4096).map(|i| Box::new(farptr_benches::random::object::<512>(i as u64))).collect();
    for percent in locals {
        let mut swapped = bench.swapped(&Program::Pages { bytes: data }, data, percent);
        let mut subjects = Vec::new();
        for kind in &kinds {
            let mem = bench.memory(*kind, bench.budget(data, percent))?;
            let mut reads = FarReads::<512>::fill(&mem, data)?;
            subjects.push(Subject::per_second(format!("farptr, {kind}"), Role::Subject, move || {
                reads.read(64)?;
                Ok(64)
            }));
        }
        subjects.extend(swapped.as_mut().map(Remote::subject));
        let (mut random, boxes) = (farptr_benches::random::Random::default(), &boxes);
        subjects.push(Subject::per_second("Box, all local", Role::Limit, move || {
            for _ in 0..64 {
                std::hint::black_box(boxes[random.below(boxes.len())][511]);
            }
            Ok(64)
        }));
        bench.measure(&mut figure, f64::from(percent), &mut subjects)?;
    }
    bench.keep(figure);
    Ok(())
}
