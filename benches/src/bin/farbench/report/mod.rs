//! What is written about a run: JSON lines, a page with plots, tables.
//!
//! - [`mod@lines`]: one JSON object for each number. [`mod@table`]: a figure as rows. [`mod@plot`]: a figure as SVG. [`mod@html`]: the page. [`mod@readme`]: the short table.

mod html;
mod lines;
mod plot;
mod readme;
mod table;

use crate::Outcome;
use crate::bench::Section;
use crate::cli::Pace;
use crate::machine::Machine;
use std::fs;
use std::path::Path;

pub(crate) use lines::lines;
pub(crate) use readme::into_readme;
pub(crate) use table::text;

/// Everything a run found out.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) pace: Pace,
    pub(crate) size: Option<u64>,
    pub(crate) seconds: f64,
    pub(crate) sections: Vec<Section>,
}

/// Writes all of it into a folder.
pub(crate) fn write(report: &Report, folder: &Path) -> Outcome {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("results.jsonl"), lines(report)?)?;
    fs::write(folder.join("index.html"), html::page(report)?)?;
    fs::write(folder.join("table.md"), readme::table(report))?;
    Ok(())
}

/// A report to try things on.
#[cfg(test)]
pub(crate) fn sample() -> Report {
    use crate::figure::{Axis, Figure, Role, Unit};
    use crate::stats::Summary;
    let mut numbers =
        Figure::new("sizes", "Reads by <size>", Axis::Numbers("bytes"), Unit::NS, "Lower is better.").headline(64.0);
    for (at, place) in [64.0, 4096.0].into_iter().enumerate() {
        let at = at as f64;
        numbers.add("farptr", Role::Subject, place.into(), Summary::of(vec![20.0 + at, 22.0, 21.0]).expect("samples"));
        numbers.add("bare copy", Role::Limit, place.into(), Summary::exact(10.0));
        numbers.add("std", Role::Alternative, place.into(), Summary::exact(63.0));
        numbers.add("model: farptr", Role::Model, place.into(), Summary::exact(40.0));
    }
    let mut names = Figure::new("names", "Names", Axis::Names("how"), Unit::PER_SECOND, "Higher is better.");
    names.add("farptr", Role::Subject, "hot".into(), Summary::exact(1e6));
    names.add("std", Role::Limit, "hot".into(), Summary::exact(2e6));
    let section = Section {
        name: "sample",
        about: "What samples do",
        figures: vec![numbers, names],
        notes: vec!["A note.".into()],
        missing: vec![("swap".into(), "not root".into())],
        failure: Some("a failure & its cause".into()),
        seconds: 1.5,
        load: [0.5, 0.75],
    };
    Report { machine: Machine::this(), pace: Pace::Quick, size: None, seconds: 2.0, sections: vec![section] }
}
