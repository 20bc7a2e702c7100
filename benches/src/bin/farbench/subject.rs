//! One thing that is measured.

use crate::Outcome;
use crate::figure::Role;
use std::time::{Duration, Instant};

/// A series' way to take one sample: it works for about as long as it is told, and says what came out, in the figure's unit.
pub(crate) struct Subject<'a> {
    pub(crate) series: String,
    pub(crate) role: Role,
    /// Whether it may fail without failing the experiment: a program that the kernel may end.
    pub(crate) may_fail: bool,
    sample: Box<dyn FnMut(Duration) -> Outcome<f64> + 'a>,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(series: impl Into<String>, role: Role, sample: impl FnMut(Duration) -> Outcome<f64> + 'a) -> Self {
        Subject { series: series.into(), role, may_fail: false, sample: Box::new(sample) }
    }

    /// One whose `batch` does some operations and says how many; the sample is nanoseconds for each.
    pub(crate) fn ns(series: impl Into<String>, role: Role, mut batch: impl FnMut() -> Outcome<u64> + 'a) -> Self {
        Subject::new(series, role, move |time| Ok(1e9 / rate(time, &mut batch)?))
    }

    /// The same; the sample is how many are done in a second.
    pub(crate) fn per_second(series: impl Into<String>, role: Role, mut batch: impl FnMut() -> Outcome<u64> + 'a) -> Self {
        Subject::new(series, role, move |time| rate(time, &mut batch))
    }

    /// One whose `batch` moves some bytes and says how many; the sample is MiB a second.
    pub(crate) fn mib_per_second(series: impl Into<String>, role: Role, mut batch: impl FnMut() -> Outcome<u64> + 'a) -> Self {
        Subject::new(series, role, move |time| Ok(rate(time, &mut batch)? / f64::from(1 << 20)))
    }

    /// The same, which may fail.
    pub(crate) fn that_may_fail(mut self) -> Self {
        self.may_fail = true;
        self
    }

    pub(crate) fn sample(&mut self, time: Duration) -> Outcome<f64> {
        (self.sample)(time)
    }
}

/// How much `batch` does in a second, tried for at least this time.
pub(crate) fn rate(time: Duration, batch: &mut dyn FnMut() -> Outcome<u64>) -> Outcome<f64> {
    let (started, mut count) = (Instant::now(), 0);
    loop {
        count += batch()?;
        let took = started.elapsed();
        if took >= time {
            return Ok(count as f64 / took.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_counts_all_that_was_done() {
        let mut batches = 0;
        let rate = rate(Duration::ZERO, &mut || {
            batches += 1;
            std::thread::sleep(Duration::from_millis(10));
            Ok(5)
        });
        let rate = rate.expect("nothing fails");
        assert_eq!(batches, 1);
        assert!(rate > 0.0 && rate <= 500.0, "{rate}");
    }
}
