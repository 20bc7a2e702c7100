//! How soon a program can begin.

use super::Experiment;
use crate::Outcome;
use crate::bench::Bench;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::server::Farmemd;
use crate::subject::Subject;
use crate::transport::Kind;
use farptr::RemBox;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Instant;

pub(crate) const EXPERIMENT: Experiment =
    Experiment { name: "startup", about: "How long it takes until there is far memory", weight: 3, run };

const READING: &str = "`far memory`: from the builder to the first object, and until it is gone again. `with a miss`: the object is sent away and fetched \
    besides. `farmemd`: from starting the program, which lends 256 MiB, to its line that says it is ready, and to its end. The limit is a connection to the \
    server; for farmemd there is none.";

/// Lent by a server that is only started, in bytes.
const LENT: u64 = 256 << 20;

fn run(bench: &mut Bench<'_>) -> Outcome {
    let kinds = bench.kinds(&Kind::ALL);
    bench.plan(kinds.len() * 4);
    let mut figure = Figure::new("time", "Time to begin", Axis::Names(""), Unit::US, READING);
    for kind in kinds {
        let address = bench.address(kind)?;
        let undo = bench.undo();
        let builder = bench.builder(kind, 16 << 20)?;
        let mut subjects = vec![
            timed("far memory", Role::Subject, || {
                let mem = builder.clone().build()?;
                drop(RemBox::try_new_in(1u64, &mem)?);
                Ok(())
            }),
            timed("far memory, with a miss", Role::Subject, || {
                let mem = builder.clone().build()?;
                let far = RemBox::try_new_in(1u64, &mem)?;
                mem.evacuate_all()?;
                assert_eq!(far.try_with(|value| *value)?, 1);
                Ok(())
            }),
        ];
        if kind != Kind::Embedded {
            let program = bench.farmemd()?;
            subjects.push(timed("farmemd", Role::Subject, move || Farmemd::start(program, kind, LENT, undo).map(drop)));
            subjects.push(timed("a connection", Role::Limit, || {
                match address.split_once(':') {
                    Some(("tcp", at)) => drop(TcpStream::connect(at)?),
                    Some((_, path)) => drop(UnixStream::connect(path)?),
                    None => return Err("an address without a kind".into()),
                }
                Ok(())
            }));
        }
        bench.measure(&mut figure, kind.to_string().as_str(), &mut subjects)?;
    }
    bench.keep(figure);
    Ok(())
}

/// Microseconds that something takes, once for each sample: it is not to be repeated at full speed.
fn timed<'a>(series: &str, role: Role, mut once: impl FnMut() -> Outcome + 'a) -> Subject<'a> {
    Subject::new(series, role, move |_| {
        let started = Instant::now();
        once()?;
        Ok(started.elapsed().as_nanos() as f64 / 1e3)
    })
}
