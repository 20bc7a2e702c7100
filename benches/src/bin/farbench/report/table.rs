//! A figure as rows.

use super::Report;
use crate::figure::{Better, Figure, Place, Role};
use crate::stats::human;
use std::fmt::Write;

/// What a field shows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    /// The median.
    pub(crate) value: String,
    /// The quartiles, if they differ from it.
    pub(crate) spread: Option<String>,
    /// How far from the limit of its row.
    pub(crate) distance: Option<String>,
}

/// Each place with its fields, in the order of the figure's series.
pub(crate) fn rows(figure: &Figure) -> Vec<(Place, Vec<Option<Field>>)> {
    let series = figure.series();
    let row = |place: &Place| {
        let limit = figure.best(Role::Limit, place).map(|cell| cell.summary.median);
        let field = |name: &str| {
            let cell = figure.cell(name, place)?;
            let summary = &cell.summary;
            Some(Field {
                value: human(summary.median),
                spread: (summary.samples.len() > 1).then(|| format!("{}..{}", human(summary.low), human(summary.high))),
                distance: limit.filter(|_| cell.role != Role::Limit).and_then(|limit| distance(figure, summary.median, limit)),
            })
        };
        series.iter().map(|(name, _)| field(name)).collect()
    };
    figure.places().into_iter().map(|place| (place.clone(), row(&place))).collect()
}

/// How far a value is from its limit: how many times what is needed at least, or which part of what is possible at most.
pub(crate) fn distance(figure: &Figure, value: f64, limit: f64) -> Option<String> {
    if limit <= 0.0 || value <= 0.0 {
        return None;
    }
    Some(match figure.unit.better {
        Better::Less => format!("{:.2}x", value / limit),
        Better::More => format!("{:.0}%", 100.0 * value / limit),
    })
}

/// All figures as text.
pub(crate) fn text(report: &Report) -> String {
    let mut text = format!("On {}.\n", report.machine.describe());
    for section in &report.sections {
        let _ =
            writeln!(text, "\n== {}: {} ({:.0} s, load {:.1})", section.name, section.about, section.seconds, section.load[0]);
        for figure in &section.figures {
            text.push_str(&one(figure));
        }
        section.notes.iter().for_each(|note| text.push_str(&format!("Note: {note}\n")));
        section.figures.iter().flat_map(Figure::misjudged).for_each(|said| text.push_str(&format!("Model: {said}\n")));
        section.missing.iter().for_each(|(what, why)| text.push_str(&format!("NOT AVAILABLE: {what}: {why}\n")));
        section.failure.iter().for_each(|failure| text.push_str(&format!("FAILED: {failure}\n")));
    }
    text
}

/// One figure as text, its columns aligned.
fn one(figure: &Figure) -> String {
    let mut lines = vec![vec![figure.axis.label().to_string()]];
    lines[0].extend(figure.series().into_iter().map(|(name, _)| name.to_string()));
    for (place, fields) in rows(figure) {
        let mut line = vec![place.to_string()];
        line.extend(fields.into_iter().map(|field| match field {
            Some(Field { value, distance: Some(distance), .. }) => format!("{value} ({distance})"),
            Some(field) => field.value,
            None => "-".into(),
        }));
        lines.push(line);
    }
    let widths: Vec<usize> =
        (0..lines[0].len()).map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = format!("\n{} [{}]\n", figure.title, figure.unit.name);
    for line in lines {
        let cells: Vec<_> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        text.push_str(&format!("  {}\n", cells.join("  ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_row_has_values_spreads_and_distances_from_its_limit() {
        let report = sample();
        let rows = rows(&report.sections[0].figures[0]);
        let (place, fields) = &rows[0];
        assert_eq!(*place, Place::Number(64.0));
        let farptr = fields[0].as_ref().expect("a field");
        assert_eq!((farptr.value.as_str(), farptr.distance.as_deref()), ("21.0", Some("2.10x")));
        assert_eq!(farptr.spread.as_deref(), Some("20.5..21.5"));
        assert_eq!(fields[1].as_ref().expect("a field").distance, None, "a limit has no distance from itself");
    }

    #[test]
    fn where_more_is_better_the_distance_is_a_part() {
        let report = sample();
        let rows = rows(&report.sections[0].figures[1]);
        assert_eq!(rows[0].1[0].as_ref().expect("a field").distance.as_deref(), Some("50%"));
    }

    #[test]
    fn text_says_what_failed_what_is_missing_and_where_the_model_errs() {
        let text = text(&sample());
        for part in ["FAILED: a failure", "NOT AVAILABLE: swap: not root", "Model: farptr at 64", "21.0 (2.10x)"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
