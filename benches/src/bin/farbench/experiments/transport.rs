//! The bare floors.

use super::Experiment;
use crate::Outcome;
use crate::bare::{BareReads, connect};
use crate::bench::Bench;
use crate::cli::Pace;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::subject::Subject;
use crate::transport::Kind;
use farptr_benches::floor::{BareCopies, RoundTrips};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "transport",
    about: "What each transport costs without farptr's objects: the floor under misses",
    weight: 5,
    run,
};

/// Sizes of what is read, in bytes.
const SIZES: [usize; 4] = [64, 512, 4096, 65536];

/// Operations in flight.
const IN_FLIGHT: [usize; 5] = [1, 4, 16, 64, 256];

const ONE: &str = "One read at a time from random places of borrowed slabs, by the transport's own operations. The limits are copies from random \
    places of ordinary memory as large, and round trips of a pair of bare sockets on loopback, both of which spin.";

const MANY: &str =
    "4 KiB reads with several in flight. Where lent memory is mapped a read never waits, so there is nothing to overlap.";

/// Operations between looks at the clock.
const BATCH: u64 = 512;

fn run(bench: &mut Bench<'_>) -> Outcome {
    let kinds = bench.kinds(&Kind::ALL);
    let data = bench.size();
    let (sizes, in_flights) =
        if bench.pace() == Pace::Smoke { (&SIZES[..1], &IN_FLIGHT[..2]) } else { (&SIZES[..], &IN_FLIGHT[..]) };
    bench.plan(sizes.len() * (kinds.len() + 2) + in_flights.len() * kinds.len());
    let memory = vec![1u8; data];
    let mut one = Figure::new("one", "One bare read at a time", Axis::Numbers("bytes"), Unit::NS, ONE);
    for bytes in sizes.iter().copied() {
        let mut reads = readers(bench, &kinds, data, bytes, 1)?;
        let mut copies = BareCopies::new(&memory, bytes);
        let mut pair = RoundTrips::start(bytes)?;
        let mut subjects: Vec<_> = reads.iter_mut().map(|(kind, reads)| bare(*kind, reads, Subject::ns)).collect();
        subjects.push(Subject::ns("memcpy", Role::Limit, || {
            (0..BATCH).for_each(|_| copies.copy());
            Ok(BATCH)
        }));
        subjects.push(Subject::ns("bare sockets", Role::Limit, || {
            (0..BATCH / 8).for_each(|_| pair.round_trip());
            Ok(BATCH / 8)
        }));
        bench.measure(&mut one, bytes as f64, &mut subjects)?;
    }
    bench.keep(one);
    let mut many = Figure::new("in-flight", "Bare 4 KiB reads, overlapped", Axis::Numbers("in flight"), Unit::PER_SECOND, MANY);
    for in_flight in in_flights.iter().copied() {
        let mut reads = readers(bench, &kinds, data, 4096, in_flight)?;
        let mut subjects: Vec<_> = reads.iter_mut().map(|(kind, reads)| bare(*kind, reads, Subject::per_second)).collect();
        bench.measure(&mut many, in_flight as f64, &mut subjects)?;
    }
    bench.keep(many);
    Ok(())
}

fn readers(
    bench: &mut Bench<'_>,
    kinds: &[Kind],
    data: usize,
    bytes: usize,
    in_flight: usize,
) -> Outcome<Vec<(Kind, BareReads)>> {
    let reader = |kind: &Kind| Ok((*kind, BareReads::new(connect(*kind, &bench.address(*kind)?)?, data, bytes, in_flight)?));
    kinds.iter().map(reader).collect()
}

/// A subject that makes bare reads, and how its rate is told.
fn bare<'a>(
    kind: Kind,
    reads: &'a mut BareReads,
    told: impl Fn(String, Role, Box<dyn FnMut() -> Outcome<u64> + 'a>) -> Subject<'a>,
) -> Subject<'a> {
    let batch = move || {
        reads.read(BATCH)?;
        Ok(BATCH)
    };
    told(format!("bare {kind}"), Role::Subject, Box::new(batch))
}
