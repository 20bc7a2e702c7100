//! What a user would write without farptr, as a process of its own, so that it can be given little memory: the programs behind the alternatives.
//!
//! `farbench --subject JSON` is one. It sets up its data, prints `ready`, and for each line on stdin, a number of seconds, works for so long and prints how
//! much it did in a second. A line with a [`Load`] has it do other operations, which it answers with `ready`. It ends with its stdin, and so with whoever started it.

use crate::Outcome;
use crate::mapped_file::MappedFile;
use crate::store::{Driver, StdMap, Store};
use crate::subject::rate;
use farptr_benches::random::{Random, object, word, zipf};
use farptr_benches::scan::sum_local;
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::Duration;

/// What to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Program {
    /// Operations on a `HashMap`.
    Map { words: usize, count: usize, load: Load },
    /// Sums over a `Vec<u64>`, in bytes.
    Scan { bytes: usize },
    /// Sums over a file that is mapped, in bytes.
    ScanFile { bytes: usize, file: std::path::PathBuf },
    /// Reads of objects of 4 KiB at random, each of which is a page.
    Pages { bytes: usize },
}

/// What is done with a map: keys by Zipf's law, and reads among the operations, in percent.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) skew: f64,
    pub(crate) reads: u32,
    /// Keys that are drawn beforehand, and then gone through again and again.
    pub(crate) draws: usize,
}

impl Load {
    pub(crate) fn driver(self, count: usize) -> Driver {
        Driver::new(zipf(count, self.skew, self.draws, 1), self.reads)
    }
}

/// The data, and what is done with it.
type Work = Box<dyn FnMut(Option<Load>) -> Outcome<u64>>;

/// Operations between looks at the clock.
const BATCH: u64 = 64;

impl Program {
    /// Sets up the data; each call of what comes back does some work and says how much, or takes another load.
    fn set_up(self) -> Outcome<Work> {
        Ok(match self {
            Program::Map { words, count, load } => {
                let mut driver = load.driver(count);
                let mut store: Box<dyn Store> = match words {
                    8 => Box::new(StdMap::<8>::fill(count)),
                    64 => Box::new(StdMap::<64>::fill(count)),
                    _ => return Err(format!("no map has values of {words} words").into()),
                };
                Box::new(move |other| match other {
                    Some(load) => {
                        driver = load.driver(count);
                        Ok(0)
                    }
                    None => driver.run(&mut *store, BATCH),
                })
            }
            Program::Scan { bytes } => {
                let numbers: Vec<u64> = (0..bytes as u64 / 8).map(|i| word(i, 0)).collect();
                Box::new(move |_| {
                    black_box(sum_local(&numbers));
                    Ok(bytes as u64)
                })
            }
            Program::ScanFile { bytes, file } => {
                let file = MappedFile::open(&file, bytes)?;
                Box::new(move |_| {
                    black_box(file.sum());
                    Ok(bytes as u64)
                })
            }
            Program::Pages { bytes } => {
                let pages: Vec<Box<[u64; 512]>> = (0..bytes / 4096).map(|i| Box::new(object(i as u64))).collect();
                let mut random = Random::seeded(1);
                Box::new(move |_| {
                    for _ in 0..BATCH {
                        let i = random.below(pages.len());
                        assert_eq!(pages[i][511], i as u64, "an object's last word is its number");
                    }
                    Ok(BATCH)
                })
            }
        })
    }

    /// Is it, until stdin ends.
    pub(crate) fn serve(text: &str) -> Outcome {
        let program: Program = serde_json::from_str(text)?;
        let mut lines = std::io::stdin().lock().lines();
        let say = |line: String| -> Outcome {
            let mut stdout = std::io::stdout().lock();
            writeln!(stdout, "{line}")?;
            Ok(stdout.flush()?)
        };
        // The first line says that this process is where it is to be; memory taken before would not count.
        if lines.next().is_none() {
            return Ok(());
        }
        let mut work = program.set_up()?;
        say("ready".into())?;
        for line in lines {
            let line = line?;
            if line.starts_with('{') {
                work(Some(serde_json::from_str(&line)?))?;
                say("ready".into())?;
            } else {
                let time = Duration::from_secs_f64(line.trim().parse()?);
                say(rate(time, &mut || work(None))?.to_string())?;
            }
        }
        Ok(())
    }
}
