//! What a plot and a table are made of: cells, each a summary of one series at one place.

use crate::stats::Summary;
use serde::Serialize;

/// Several series over the same places.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    /// Short name, for JSON lines and links.
    pub(crate) id: &'static str,
    pub(crate) title: String,
    /// What it means and how to read it.
    pub(crate) reading: String,
    pub(crate) axis: Axis,
    pub(crate) unit: Unit,
    pub(crate) cells: Vec<Cell>,
    /// The place that stands for the figure in the README's table.
    pub(crate) headline: Option<Place>,
}

/// What is below a plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Axis {
    /// Numbers: series are lines.
    Numbers(&'static str),
    /// Names: series are bars.
    Names(&'static str),
}

impl Axis {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Axis::Numbers(label) | Axis::Names(label) => label,
        }
    }
}

/// Where on the axis.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Place {
    Number(f64),
    Name(String),
}

impl From<&str> for Place {
    fn from(name: &str) -> Self {
        Place::Name(name.into())
    }
}

impl From<f64> for Place {
    fn from(number: f64) -> Self {
        Place::Number(number)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Number(number) => write!(f, "{number}"),
            Place::Name(name) => f.write_str(name),
        }
    }
}

/// What a number is a number of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) name: &'static str,
    pub(crate) better: Better,
}

/// Which way is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Less,
    More,
}

impl Unit {
    pub(crate) const NS: Unit = Unit { name: "ns", better: Better::Less };
    pub(crate) const US: Unit = Unit { name: "us", better: Better::Less };
    pub(crate) const BYTES: Unit = Unit { name: "bytes", better: Better::Less };
    pub(crate) const MISSES: Unit = Unit { name: "% missed", better: Better::Less };
    pub(crate) const MOVED: Unit = Unit { name: "bytes moved a byte", better: Better::Less };
    pub(crate) const CPU_PER_GB: Unit = Unit { name: "processor s/GB", better: Better::Less };
    pub(crate) const PER_SECOND: Unit = Unit { name: "1/s", better: Better::More };
    pub(crate) const MIB_PER_SECOND: Unit = Unit { name: "MiB/s", better: Better::More };
}

/// What a series is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// farptr.
    Subject,
    /// What nothing can beat, measured.
    Limit,
    /// What would be used instead.
    Alternative,
    /// farptr with something turned off.
    Ablation,
    /// Calculated from measured parts.
    Model,
}

/// One series at one place.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) series: String,
    pub(crate) role: Role,
    pub(crate) place: Place,
    pub(crate) summary: Summary,
}

/// Where the model and what was measured part, in parts of what was measured.
pub(crate) const MODEL_TOLERANCE: f64 = 0.2;

impl Figure {
    pub(crate) fn new(id: &'static str, title: impl Into<String>, axis: Axis, unit: Unit, reading: impl Into<String>) -> Self {
        Figure { id, title: title.into(), reading: reading.into(), axis, unit, cells: Vec::new(), headline: None }
    }

    pub(crate) fn headline(mut self, place: impl Into<Place>) -> Self {
        self.headline = Some(place.into());
        self
    }

    pub(crate) fn add(&mut self, series: impl Into<String>, role: Role, place: Place, summary: Summary) {
        self.cells.push(Cell { series: series.into(), role, place, summary });
    }

    /// Places, numbers in their order, names in that of their first cells.
    pub(crate) fn places(&self) -> Vec<Place> {
        let mut places: Vec<Place> = Vec::new();
        for cell in &self.cells {
            if !places.contains(&cell.place) {
                places.push(cell.place.clone());
            }
        }
        places.sort_by(|a, b| match (a, b) {
            (Place::Number(a), Place::Number(b)) => a.total_cmp(b),
            _ => std::cmp::Ordering::Equal,
        });
        places
    }

    /// Series with their roles: farptr first, then its limits, its alternatives, and the rest.
    pub(crate) fn series(&self) -> Vec<(&str, Role)> {
        let mut series: Vec<(&str, Role)> = Vec::new();
        for cell in &self.cells {
            if !series.iter().any(|(name, _)| *name == cell.series) {
                series.push((&cell.series, cell.role));
            }
        }
        series.sort_by_key(|(_, role)| *role as u8);
        series
    }

    pub(crate) fn cell(&self, series: &str, place: &Place) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.series == series && cell.place == *place)
    }

    /// The best of a role at a place.
    pub(crate) fn best(&self, role: Role, place: &Place) -> Option<&Cell> {
        let those = self.cells.iter().filter(|cell| cell.role == role && cell.place == *place);
        those.max_by(|a, b| {
            let order = a.summary.median.total_cmp(&b.summary.median);
            if self.unit.better == Better::More { order } else { order.reverse() }
        })
    }

    /// Where a `model: SERIES` differs from its series by more than the tolerance, in words.
    pub(crate) fn misjudged(&self) -> Vec<String> {
        let models = self.cells.iter().filter(|cell| cell.role == Role::Model);
        models
            .filter_map(|model| {
                let measured = self.cell(model.series.strip_prefix("model: ")?, &model.place)?;
                let off = model.summary.median / measured.summary.median - 1.0;
                (off.abs() > MODEL_TOLERANCE).then(|| {
                    format!("{} at {}: the model says {:+.0}% of what was measured", measured.series, model.place, off * 100.0)
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> Figure {
        let mut figure = Figure::new("f", "F", Axis::Numbers("x"), Unit::NS, "");
        for (series, role, place, value) in [
            ("bare", Role::Limit, 10.0, 5.0),
            ("barer", Role::Limit, 10.0, 4.0),
            ("farptr", Role::Subject, 10.0, 8.0),
            ("farptr", Role::Subject, 2.0, 8.0),
            ("model: farptr", Role::Model, 10.0, 8.4),
            ("model: farptr", Role::Model, 2.0, 6.0),
        ] {
            figure.add(series, role, place.into(), Summary::exact(value));
        }
        figure
    }

    #[test]
    fn places_are_in_order_and_subjects_come_first() {
        let figure = figure();
        assert_eq!(figure.places(), [Place::Number(2.0), Place::Number(10.0)]);
        let names: Vec<_> = figure.series().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["farptr", "bare", "barer", "model: farptr"]);
    }

    #[test]
    fn the_tightest_limit_is_the_best() {
        let figure = figure();
        assert_eq!(figure.best(Role::Limit, &10.0.into()).expect("a limit").series, "barer");
        assert!(figure.best(Role::Limit, &2.0.into()).is_none());
    }

    #[test]
    fn a_model_that_is_off_by_more_than_a_fifth_is_named() {
        assert_eq!(figure().misjudged(), ["farptr at 2: the model says -25% of what was measured"]);
    }
}
