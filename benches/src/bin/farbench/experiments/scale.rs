//! Several threads at one far memory.

use super::Experiment;
use crate::Outcome;
use crate::bare::{BareReads, connect};
use crate::bench::Bench;
use crate::figure::{Axis, Figure, Role, Unit};
use crate::subject::{Subject, rate};
use crate::transport::Kind;
use farptr::{FarMemory, RemBox};
use farptr_benches::random::{Random, object};
use futures::future::join_all;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const EXPERIMENT: Experiment =
    Experiment { name: "scale", about: "Reads at random by one thread and by two, and by shards", weight: 4, run };

const READING: &str = "Boxes of 4 KiB at random, 25% local, all threads on one far memory; reads of all of them together. `shards`: executors of farptr's own, 64 tasks \
    each. The limit is bare reads of the same transport, by as many threads with a session each. Evacuation has a thread of its own: on a machine with two processors two \
    threads that read leave none for it, nor for a server.";

/// Tasks of a shard.
const TASKS: usize = 64;

pub(crate) type Boxes = Arc<Vec<RemBox<[u64; 512]>>>;

fn run(bench: &mut Bench<'_>) -> Outcome {
    let kinds = bench.kinds(&Kind::ALL);
    let percent = bench.locals(&[25])[0];
    let data = bench.size() / 2;
    let threads = [1, 2];
    bench.plan(kinds.len() * threads.len() * 3);
    for kind in kinds {
        let title = format!("Reads of 4 KiB by threads, {kind}");
        let mut figure = Figure::new("threads", title, Axis::Numbers("threads"), Unit::PER_SECOND, READING);
        let budget = bench.budget(data, percent);
        let boxes = fill(&bench.memory(kind, budget)?, data)?;
        for count in threads {
            let address = bench.address(kind)?;
            let mut bare = (0..count)
                .map(|_| BareReads::new(connect(kind, &address)?, data.min(128 << 20), 4096, 1))
                .collect::<Outcome<Vec<_>>>()?;
            let mut subjects = vec![
                Subject::new("threads", Role::Subject, |time| together(count, time, &|seed| reader(Arc::clone(&boxes), seed))),
                Subject::new(format!("bare {kind}"), Role::Limit, |time| bare_together(&mut bare, time)),
            ];
            match bench.builder(kind, budget)?.shards(count).build() {
                Ok(mem) => {
                    let boxes = fill(&mem, data)?;
                    let mut round = 0;
                    subjects.push(Subject::new("shards", Role::Subject, move |time| {
                        round += 1;
                        shards(&mem, count, &boxes, round, time)
                    }));
                }
                Err(why) => bench.missing("shards", why),
            }
            bench.measure(&mut figure, count as f64, &mut subjects)?;
        }
        bench.keep(figure);
    }
    Ok(())
}

pub(crate) fn fill(mem: &FarMemory, data: usize) -> Outcome<Boxes> {
    let boxes = (0..data / 4096).map(|i| RemBox::try_new_in(object(i as u64), mem)).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(boxes))
}

/// What one thread does, again and again.
pub(crate) type Work<'a> = Box<dyn FnMut() -> Result<u64, String> + Send + 'a>;

pub(crate) fn reader(boxes: Boxes, seed: u64) -> Work<'static> {
    let mut random = Random::seeded(seed);
    Box::new(move || {
        for _ in 0..32 {
            let i = random.below(boxes.len());
            let last = boxes[i].try_with(|value| value[511]).map_err(|error| error.to_string())?;
            assert_eq!(last, i as u64, "an object's last word is its number");
        }
        Ok(32)
    })
}

/// What so many threads do in a second, together.
pub(crate) fn together(count: usize, time: Duration, work: &dyn Fn(u64) -> Work<'static>) -> Outcome<f64> {
    together_on((0..count as u64).map(work).collect(), time)
}

/// The same, a thread for each of `works`.
pub(crate) fn together_on(works: Vec<Work<'_>>, time: Duration) -> Outcome<f64> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = works.into_iter().map(|work| scope.spawn(move || run_for(time, work))).collect();
        sum(threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))))
    })
}

fn run_for(time: Duration, mut work: Work<'_>) -> Result<f64, String> {
    rate(time, &mut || Ok(work()?)).map_err(|error| error.to_string())
}

fn bare_together(bare: &mut [BareReads], time: Duration) -> Outcome<f64> {
    std::thread::scope(|scope| {
        let run = |reads: &'_ mut BareReads| {
            rate(time, &mut || {
                reads.read(32)?;
                Ok(32)
            })
            .map_err(|error| error.to_string())
        };
        let threads: Vec<_> = bare.iter_mut().map(|reads| scope.spawn(move || run(reads))).collect();
        sum(threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))))
    })
}

fn sum(rates: impl Iterator<Item = Result<f64, String>>) -> Outcome<f64> {
    Ok(rates.collect::<Result<Vec<_>, _>>()?.into_iter().sum())
}

/// The same on farptr's executors.
fn shards(mem: &FarMemory, count: usize, boxes: &Boxes, round: u64, time: Duration) -> Outcome<f64> {
    let started = std::time::Instant::now();
    let run = |shard: usize| {
        let boxes = Arc::clone(boxes);
        mem.spawn(shard, move || async move {
            let task = |number: usize| {
                let (boxes, mut random) = (&boxes, Random::seeded(round << 20 | (shard << 10 | number) as u64));
                async move {
                    let mut done = 0u64;
                    while started.elapsed() < time {
                        let i = random.below(boxes.len());
                        let last = boxes[i].with_async(|value| value[511]).await?;
                        assert_eq!(last, i as u64, "an object's last word is its number");
                        done += 1;
                    }
                    farptr::Result::<u64>::Ok(done)
                }
            };
            join_all((0..TASKS).map(task)).await.into_iter().sum::<farptr::Result<u64>>()
        })
    };
    let tasks = (0..count).map(run).collect::<farptr::Result<Vec<_>>>()?;
    let mut done = 0;
    for task in tasks {
        done += task.join().map_err(|_| "a shard's task panicked")??;
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}
