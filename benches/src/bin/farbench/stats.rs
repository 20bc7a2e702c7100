//! What becomes of samples.

use serde::Serialize;

/// Median and quartiles of some samples.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    /// A quarter of the samples is below.
    pub(crate) low: f64,
    /// A quarter of the samples is above.
    pub(crate) high: f64,
    /// In the order in which they were taken.
    pub(crate) samples: Vec<f64>,
}

impl Summary {
    /// Of at least one sample.
    pub(crate) fn of(samples: Vec<f64>) -> Option<Self> {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        Some(Summary { median: quantile(&sorted, 0.5)?, low: quantile(&sorted, 0.25)?, high: quantile(&sorted, 0.75)?, samples })
    }

    /// A number that is exact, or calculated.
    pub(crate) fn exact(value: f64) -> Self {
        Summary { median: value, low: value, high: value, samples: vec![value] }
    }
}

/// The value below which a part of the samples is, between two of them if need be.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let at = part * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(below + (above - below) * at.fract())
}

/// A number for people: three digits that count, thousands as k, M, G.
pub(crate) fn human(value: f64) -> String {
    let size = value.abs();
    let (scaled, suffix) = match size {
        _ if size >= 1e9 => (value / 1e9, "G"),
        _ if size >= 1e6 => (value / 1e6, "M"),
        _ if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 0.1 => 2,
        _ => 4,
    };
    format!("{scaled:.digits$}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_quartiles_are_those_of_the_sorted_samples() {
        let summary = Summary::of(vec![5.0, 1.0, 4.0, 2.0, 3.0]).expect("samples");
        assert_eq!((summary.low, summary.median, summary.high), (2.0, 3.0, 4.0));
        assert_eq!(summary.samples[0], 5.0);
        let even = Summary::of(vec![1.0, 2.0]).expect("samples");
        assert_eq!(even.median, 1.5);
    }

    #[test]
    fn no_samples_have_no_median() {
        assert_eq!(Summary::of(vec![]), None);
    }

    #[test]
    fn numbers_are_short() {
        let shown: Vec<_> = [0.0, 0.0123, 0.5, 7.126, 42.0, 1234.0, 12_345.0, 4_200_000.0, 3.2e9].map(human).into();
        assert_eq!(shown, ["0", "0.0123", "0.50", "7.13", "42.0", "1234", "12.3k", "4.20M", "3.20G"]);
    }
}
