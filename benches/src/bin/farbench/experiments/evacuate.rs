//! What it takes to send objects away.

use super::Experiment;
use crate::Outcome;
use crate::bench::Bench;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::stats::Summary;
use crate::transport::Kind;
use farptr::{Far, RemBox};
use farptr_benches::random::object;
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::time::Instant;

pub(crate) const EXPERIMENT: Experiment =
    Experiment { name: "evacuate", about: "How fast objects leave, and what it costs the processor", weight: 4, run };

const RATE: &str = "Contents of objects sent away by `evacuate_all`. `dirty`: all have to be written. `clean`: all have a valid far copy and only have to be let \
    go. The limit of writing is a copy of the same bytes to memory as large.";

const CPU: &str = "Processor time of this process for a GB (10^9 bytes) of contents, all threads together. What farmemd spends on the other end isn't counted. \
    The limit is a copy's.";

/// Nanoseconds for some bytes, by the clock and by the processor's.
#[derive(Clone, Copy)]
struct Spent {
    wall: f64,
    cpu: f64,
    bytes: f64,
}

impl Spent {
    fn by(bytes: usize, work: impl FnOnce() -> Outcome) -> Outcome<Self> {
        let (started, before) = (Instant::now(), cpu());
        work()?;
        Ok(Spent { wall: started.elapsed().as_nanos() as f64, cpu: cpu() - before, bytes: bytes as f64 })
    }

    fn mib_per_second(self) -> f64 {
        self.bytes / f64::from(1 << 20) / (self.wall / 1e9)
    }

    /// Nanoseconds a byte are seconds a GB.
    fn cpu_per_gb(self) -> f64 {
        self.cpu / self.bytes
    }
}

/// Processor time of this process, in nanoseconds.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn run(bench: &mut Bench<'_>) -> Outcome {
    let kinds = bench.kinds(&Kind::ALL);
    let mut rate =
        Figure::new("rate", "Objects that leave", Axis::Names(""), Unit::MIB_PER_SECOND, RATE).headline("4 KiB, dirty");
    let mut cpu = Figure::new("cpu", "Processor time of leaving", Axis::Names(""), Unit::CPU_PER_GB, CPU);
    let rounds = bench.pace().rounds();
    // Objects are fetched one by one between samples, which takes much longer than to send them away.
    let most = bench.pace().of(1 << 17, 1 << 14, 1 << 7);
    size::<8>(bench, &kinds, "64 B", (bench.size() / 2).min(most * 64), rounds, [&mut rate, &mut cpu])?;
    size::<512>(bench, &kinds, "4 KiB", (bench.size() / 2).min(most * 4096 / 2), rounds, [&mut rate, &mut cpu])?;
    bench.keep(rate);
    bench.keep(cpu);
    Ok(())
}

/// Sends `data` bytes away, first all dirty, then all clean, and again.
fn size<const N: usize>(
    bench: &mut Bench<'_>,
    kinds: &[Kind],
    name: &str,
    data: usize,
    rounds: usize,
    figures: [&mut Figure; 2],
) -> Outcome
where
    [u64; N]: Far,
{
    let (mut subjects, source) = (Vec::new(), vec![1u8; data]);
    for kind in kinds {
        bench.doing(format_args!("setting up, {name}, {kind}"));
        let mem = bench.memory(*kind, data * 3 + (64 << 20))?;
        let boxes =
            (0..data / (N * 8)).map(|i| RemBox::try_new_in(object::<N>(i as u64), &mem)).collect::<Result<Vec<_>, _>>()?;
        mem.evacuate_all()?;
        subjects.push((*kind, mem, boxes));
    }
    let mut target = vec![0u8; data];
    let mut taken: Vec<(String, Role, String, Vec<Spent>)> = Vec::new();
    let mut took =
        |series: String, role, place: String, spent| match taken.iter_mut().find(|each| each.0 == series && each.2 == place) {
            Some(each) => each.3.push(spent),
            None => taken.push((series, role, place, vec![spent])),
        };
    for _ in 0..rounds {
        for (kind, mem, boxes) in &mut subjects {
            bench.doing(format_args!("{name}, {kind}"));
            for (state, dirty) in [("dirty", true), ("clean", false)] {
                touch(boxes, dirty)?;
                let spent = Spent::by(data, || Ok(mem.evacuate_all()?))?;
                took(format!("farptr, {kind}"), Role::Subject, format!("{name}, {state}"), spent);
            }
        }
        let copied = Spent::by(data, || {
            target.copy_from_slice(black_box(&source));
            black_box(&mut target);
            Ok(())
        })?;
        took("a copy".into(), Role::Limit, format!("{name}, dirty"), copied);
    }
    let [rate, cpu] = figures;
    for (series, role, place, spent) in taken {
        let summary = |value: fn(Spent) -> f64| Summary::of(spent.iter().copied().map(value).collect()).ok_or("no samples");
        rate.add(series.clone(), role, place.as_str().into(), summary(Spent::mib_per_second)?);
        cpu.add(series, role, place.as_str().into(), summary(Spent::cpu_per_gb)?);
    }
    Ok(())
}

/// Fetches all, and writes to them or not.
fn touch<const N: usize>(boxes: &mut [RemBox<[u64; N]>], dirty: bool) -> farptr::Result<()>
where
    [u64; N]: Far,
{
    boxes.iter_mut().try_for_each(|each| {
        if dirty { each.try_with_mut(|value| value[0] += 1) } else { each.try_with(|value| _ = black_box(value[0])) }
    })
}
