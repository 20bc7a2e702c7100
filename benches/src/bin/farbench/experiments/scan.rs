//! Sums over vectors larger than the local budget.

use super::Experiment;
use crate::Outcome;
use crate::bench::Bench;
use crate::cli::Pace;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::mapped_file::MappedFile;
use crate::program::Program;
use crate::remote::Remote;
use crate::subject::Subject;
use crate::transport::Kind;
use farptr_benches::scan::{fill, sum_copied, sum_far, sum_local};
use std::hint::black_box;
use std::path::Path;

pub(crate) const EXPERIMENT: Experiment =
    Experiment { name: "scan", about: "How fast a vector larger than the local budget is read from end to end", weight: 6, run };

const READING: &str = "The sum over a vector of 64-bit numbers in order, on one thread. The limit is the sum over ordinary memory through a buffer of one \
    chunk, since what is far has to be copied; `Vec, all local` needs no copy, and all of the memory. `a mapped file` lies on \
    this machine's disk, and is read under a memory limit.";

fn run(bench: &mut Bench<'_>) -> Outcome {
    let kinds = bench.kinds(&Kind::ALL);
    let locals = bench.locals(&[10, 25, 50]);
    let data = bench.size();
    bench.plan(locals.len() * (kinds.len() + 4));
    let mut figure = Figure::new("sum", "Sum over a vector", Axis::Numbers("% local"), Unit::MIB_PER_SECOND, READING)
        .headline(f64::from(*locals.iter().find(|percent| **percent == 25).unwrap_or(&locals[0])));
    let folder = bench.undo().folder()?;
    let file = folder.path.join("numbers");
    MappedFile::write(&file, data)?;
    let local: Vec<u64> = (0..(data / 8) as u64).collect();
    for percent in locals {
        let mut vecs = Vec::new();
        for kind in &kinds {
            bench.doing(format_args!("setting up, {percent}% local, {kind}"));
            let mem = bench.memory(*kind, bench.budget(data, percent))?;
            let (vec, expected) = fill(&mem, data)?;
            vecs.push((*kind, vec, expected));
        }
        let mut others: Vec<_> = bench.swapped(&Program::Scan { bytes: data }, data, percent).into_iter().collect();
        others.extend(mapped(bench, &file, data, percent));
        let mut subjects: Vec<_> = vecs
            .iter()
            .map(|(kind, vec, expected)| {
                Subject::mib_per_second(format!("farptr, {kind}"), Role::Subject, move || {
                    assert_eq!(sum_far(vec)?, *expected, "the sum of what was pushed");
                    Ok(data as u64)
                })
            })
            .collect();
        subjects.push(Subject::mib_per_second("Vec, copied by 16 KiB", Role::Limit, || {
            black_box(sum_copied(&local));
            Ok(data as u64)
        }));
        subjects.push(Subject::mib_per_second("Vec, all local", Role::Alternative, || {
            black_box(sum_local(&local));
            Ok(data as u64)
        }));
        subjects.extend(others.iter_mut().map(Remote::subject));
        bench.measure(&mut figure, f64::from(percent), &mut subjects)?;
    }
    bench.keep(figure);
    Ok(())
}

/// A mapped file under the same limit. Its pages count, as far as they are kept.
fn mapped(bench: &mut Bench<'_>, file: &Path, data: usize, percent: u32) -> Option<Remote> {
    if bench.pace() == Pace::Smoke {
        bench.missing("a mapped file", "control groups are left alone");
        return None;
    }
    let program = Program::ScanFile { bytes: data, file: file.into() };
    let started =
        MappedFile::forget(file).and_then(|()| Remote::start(&program, bench.budget(data, percent) as u64, bench.undo()));
    match started {
        Ok(remote) => Some(remote.named("a mapped file")),
        Err(why) => {
            bench.missing("a mapped file", why);
            None
        }
    }
}
