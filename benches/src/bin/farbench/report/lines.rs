//! JSON lines: the machine first, then one object for each number, then what was missing.

use super::Report;
use crate::Outcome;
use serde_json::json;
use std::fmt::Write;

pub(crate) fn lines(report: &Report) -> Outcome<String> {
    let mut text = String::new();
    writeln!(
        text,
        "{}",
        json!({ "kind": "machine", "machine": report.machine, "pace": format!("{:?}", report.pace).to_lowercase() })
    )?;
    for section in &report.sections {
        for figure in &section.figures {
            for cell in &figure.cells {
                let line = json!({
                    "kind": "number", "experiment": section.name, "figure": figure.id, "series": cell.series, "role": cell.role,
                    "x": cell.place, "x_label": figure.axis.label(), "unit": figure.unit.name,
                    "median": cell.summary.median, "low": cell.summary.low, "high": cell.summary.high,
                    "samples": cell.summary.samples, "load": section.load,
                });
                writeln!(text, "{line}")?;
            }
        }
        for (what, why) in &section.missing {
            writeln!(text, "{}", json!({ "kind": "missing", "experiment": section.name, "what": what, "why": why }))?;
        }
        for note in &section.notes {
            writeln!(text, "{}", json!({ "kind": "note", "experiment": section.name, "note": note }))?;
        }
        let end = json!({
            "kind": "experiment", "experiment": section.name, "seconds": section.seconds, "load": section.load, "failure": section.failure,
        });
        writeln!(text, "{end}")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use serde_json::Value;

    #[test]
    fn each_number_is_a_line_that_stands_by_itself() {
        let text = lines(&sample()).expect("lines");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines[0]["kind"], "machine");
        let number = &lines[1];
        assert_eq!(
            (&number["experiment"], &number["series"], &number["role"]),
            (&json!("sample"), &json!("farptr"), &json!("subject"))
        );
        assert_eq!((&number["x"], &number["median"], &number["unit"]), (&json!(64.0), &json!(21.0), &json!("ns")));
        assert_eq!(lines.iter().filter(|line| line["kind"] == "number").count(), 10);
        assert!(lines.iter().any(|line| line["kind"] == "missing" && line["why"] == "not root"));
    }
}
