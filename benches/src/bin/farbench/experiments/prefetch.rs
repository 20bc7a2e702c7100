//! How much of fetching is hidden behind computing.

use super::Experiment;
use crate::Outcome;
use crate::bench::Bench;
use crate::figure::{Axis, Figure, Place, Role, Unit};
use crate::stats::Summary;
use crate::subject::Subject;
use crate::transport::Kind;
use farptr::RemVec;
use farptr_benches::random::object;
use std::hint::black_box;
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "prefetch",
    about: "A scan that computes for a while on each element: what is hidden of fetching it (built after figure 13 of AIFM)",
    weight: 4,
    run,
};

const READING: &str = "Elements of 4 KiB, each a chunk of its own, in order, 25% local; on each is computed so long. The limit is the same over ordinary memory. \
    The model adds the time to fetch, measured without computing, to the time computed; `perfect prefetch` is the larger of the two, which is what one could hope for.";

/// Microseconds of computing for each element.
const COMPUTE: [u64; 6] = [0, 1, 2, 4, 8, 12];

fn run(bench: &mut Bench<'_>) -> Outcome {
    bench.note("farptr has no prefetch yet: each element of a scan is fetched when it is looked at, and the thread waits. What is measured here is what there is to gain.");
    let kinds = bench.kinds(&[Kind::Shm, Kind::Tcp]);
    let percent = bench.locals(&[25])[0];
    let count = bench.size() / 2 / 4096;
    let compute = if bench.pace() == crate::cli::Pace::Smoke { &COMPUTE[..2] } else { &COMPUTE[..] };
    bench.plan(compute.len() * (kinds.len() + 1));
    let mut vecs = Vec::new();
    for kind in kinds {
        let mem = bench.memory(kind, bench.budget(count * 4096, percent))?;
        let mut vec = RemVec::with_chunk_bytes_in(4096, &mem);
        vec.try_extend((0..count).map(|i| object::<512>(i as u64)))?;
        vecs.push((kind, vec));
    }
    let local: Vec<_> = (0..count).map(|i| object::<512>(i as u64)).collect();
    let mut figure = Figure::new("compute", "Time for each element of a scan", Axis::Numbers("us computed"), Unit::US, READING);
    for us in compute {
        let compute = Duration::from_micros(*us);
        let mut subjects: Vec<_> = vecs
            .iter()
            .map(|(kind, vec)| {
                let mut next = 0;
                each(format!("farptr, {kind}"), Role::Subject, move || {
                    next = (next + 1) % count;
                    vec.try_with(next, |element| spin(element, compute))?;
                    Ok(())
                })
            })
            .collect();
        let (mut next, local) = (0, &local);
        subjects.push(each("std, all local", Role::Limit, move || {
            next = (next + 1) % count;
            spin(&local[next], compute);
            Ok(())
        }));
        bench.measure(&mut figure, *us as f64, &mut subjects)?;
    }
    for (kind, _) in &vecs {
        models(&mut figure, &format!("farptr, {kind}"));
    }
    bench.keep(figure);
    Ok(())
}

/// Microseconds for each element.
fn each<'a>(series: impl Into<String>, role: Role, mut one: impl FnMut() -> Outcome + 'a) -> Subject<'a> {
    let mut batch = move || {
        (0..64).try_for_each(|_| one())?;
        Ok(64)
    };
    Subject::new(series, role, move |time| Ok(1e6 / crate::subject::rate(time, &mut batch)?))
}

/// Looks at an element for so long.
fn spin(element: &[u64; 512], compute: Duration) {
    black_box(element.iter().fold(0, |sum: u64, word| sum.wrapping_add(*word)));
    let until = Instant::now() + compute;
    while !compute.is_zero() && Instant::now() < until {
        std::hint::spin_loop();
    }
}

fn models(figure: &mut Figure, series: &str) {
    let nothing = Place::Number(0.0);
    let (Some(cell), Some(local)) = (figure.cell(series, &nothing), figure.cell("std, all local", &nothing)) else { return };
    let fetch = cell.summary.median - local.summary.median;
    for place in figure.places() {
        let Some(compute) = figure.cell("std, all local", &place).map(|cell| cell.summary.median) else { continue };
        figure.add(format!("model: {series}"), Role::Model, place.clone(), Summary::exact(fetch + compute));
        figure.add(
            format!("perfect prefetch, {}", &series["farptr, ".len()..]),
            Role::Model,
            place,
            Summary::exact(fetch.max(compute)),
        );
    }
}
