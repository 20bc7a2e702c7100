//! The short table: each figure's headline, for the README.

use super::Report;
use super::table::distance;
use crate::Outcome;
use crate::cli::Pace;
use crate::figure::{Cell, Figure, Place, Role};
use crate::stats::human;
use std::fmt::Write;
use std::path::Path;

/// What the table stands between.
const MARK: &str = "<!-- farbench -->";

/// The table, with a line that says where and how it was measured.
pub(crate) fn table(report: &Report) -> String {
    let mut text = String::from("| what | farptr | limit | distance | instead |\n|---|---|---|---|---|\n");
    for figure in report.sections.iter().flat_map(|section| &section.figures) {
        if let Some(row) = figure.headline.as_ref().and_then(|place| row(figure, place)) {
            text.push_str(&row);
        }
    }
    let how = if report.pace == Pace::Full { "" } else { " --quick" };
    let loads = || report.sections.iter().flat_map(|section| section.load);
    let (least, most) = (loads().fold(f64::INFINITY, f64::min), loads().fold(0.0, f64::max));
    let _ = writeln!(
        text,
        "\nMedians of alternating runs on {} with a load of {least:.1} to {most:.1}, by `farbench all{how}`. A limit is the bare form of the same work, measured in the same run (who is beyond it lies better in memory); a distance of 2.00x \
         is twice what is needed at least, 50% half of what is possible at most. [docs/benchmarks.md](docs/benchmarks.md) says what each row means.",
        report.machine.describe()
    );
    text
}

fn row(figure: &Figure, place: &Place) -> Option<String> {
    let subject = figure.best(Role::Subject, place)?;
    let limit = figure.best(Role::Limit, place);
    let shown = |cell: &Cell| format!("{} {} ({})", human(cell.summary.median), figure.unit.name, cell.series);
    let far = limit.and_then(|limit| distance(figure, subject.summary.median, limit.summary.median)).unwrap_or_default();
    let instead = figure.best(Role::Alternative, place).map(shown).unwrap_or_default();
    let at = format!(", {place} {}", figure.axis.label());
    let at = if figure.places().len() > 1 { at.trim_end() } else { "" };
    Some(format!(
        "| {}{at} | {} | {} | {far} | {instead} |\n",
        figure.title,
        shown(subject),
        limit.map(shown).unwrap_or_default()
    ))
}

/// Puts the table between the marks of a file.
pub(crate) fn into_readme(report: &Report, file: &Path) -> Outcome {
    let text = std::fs::read_to_string(file)?;
    let new = between_marks(&text, &table(report)).ok_or_else(|| format!("{} has no two lines {MARK}", file.display()))?;
    Ok(std::fs::write(file, new)?)
}

fn between_marks(text: &str, table: &str) -> Option<String> {
    let first = text.find(MARK)? + MARK.len();
    let second = first + text[first..].find(MARK)?;
    Some(format!("{}\n\n{}\n{}", &text[..first], table.trim_end(), &text[second..]))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn headlines_have_a_row_with_limit_and_alternative_and_the_machine_is_named() {
        let report = sample();
        let table = table(&report);
        let row = "| Reads by <size>, 64 bytes | 21.0 ns (farptr) | 10.0 ns (bare copy) | 2.10x | 63.0 ns (std) |";
        assert!(table.contains(row), "{table}");
        assert!(table.contains("with a load of 0.5 to 0.8"));
        assert!(table.contains(&report.machine.describe()) && table.contains("farbench all --quick"));
        assert!(!table.contains("Names"), "no headline, no row");
    }

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let text = format!("before\n{MARK}\nold\n{MARK}\nafter\n");
        let new = between_marks(&text, "new\n").expect("marks");
        assert_eq!(new, format!("before\n{MARK}\n\nnew\n{MARK}\nafter\n"));
        assert_eq!(between_marks("no marks", "new"), None);
    }
}
