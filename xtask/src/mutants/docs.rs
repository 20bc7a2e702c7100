//! The table of weakenings in `docs/testing.md`, between two lines `<!-- mutants -->`: made of the data, so that they can't disagree.
#![forbid(unsafe_code)]

use super::table::{Build, Table, Weakening};
use std::fs;
use std::path::Path;

const FILE: &str = "docs/testing.md";
const MARKER: &str = "<!-- mutants -->";

/// Fails if the docs say something else than the data.
pub(super) fn check(root: &Path, table: &Table) -> Result<(), String> {
    let (text, [_, listed, _]) = read(root)?;
    if text[listed] == render(table) {
        return Ok(());
    }
    Err(format!("{FILE} does not list the weakenings as they are; run: cargo xtask mutants --docs"))
}

/// Makes the docs say what the data does.
pub(super) fn write(root: &Path, table: &Table) -> Result<(), String> {
    let (text, [before, _, after]) = read(root)?;
    let text = format!("{}{}{}", &text[before], render(table), &text[after]);
    fs::write(root.join(FILE), text).map_err(|error| format!("can't write {FILE}: {error}"))
}

type Parts = [std::ops::Range<usize>; 3];

/// The text, and what of it stands before, between and after the markers' lines.
fn read(root: &Path) -> Result<(String, Parts), String> {
    let text = fs::read_to_string(root.join(FILE)).map_err(|error| format!("can't read {FILE}: {error}"))?;
    let parts = split(&text).ok_or_else(|| format!("{FILE} should have two lines {MARKER}"))?;
    Ok((text, parts))
}

fn split(text: &str) -> Option<Parts> {
    let mut found = text.match_indices(MARKER).map(|(at, _)| at);
    let (first, last) = (found.next()? + MARKER.len(), found.next()?);
    found.next().is_none().then_some([0..first, first..last, last..text.len()])
}

fn render(table: &Table) -> String {
    let count = table.weakenings().count();
    let known = table.weakenings().filter(|weakening| weakening.survives.is_some()).count();
    let mut text = format!("\n{count} weakenings, of which {known} survive knowingly.\n");
    for area in &table.areas {
        text += &format!("\n**{}** (`{}`)\n\n| name | weakening | found by |\n|---|---|---|\n", area.about, area.name);
        area.weakening.iter().for_each(|weakening| text += &row(weakening));
    }
    let mut heading = "\nKnown to survive, and why:\n";
    for weakening in table.weakenings() {
        if let Some(why) = &weakening.survives {
            text += &format!("{heading}- `{}`: {why}\n", weakening.name);
            heading = "";
        }
    }
    text.push('\n');
    text
}

fn row(weakening: &Weakening) -> String {
    let by = if weakening.survives.is_some() { "none, see below".to_owned() } else { found_by(weakening) };
    // A bar would end the cell.
    let cells = [format!("`{}`", weakening.name), weakening.what.clone(), by].map(|cell| cell.replace('|', "\\|"));
    format!("| {} |\n", cells.join(" | "))
}

fn found_by(weakening: &Weakening) -> String {
    let tests: Vec<String> = weakening.tests.iter().map(|test| format!("`{test}`")).collect();
    match (weakening.check.build, tests.is_empty()) {
        (_, true) => format!("`{}`", weakening.check),
        // The models' paths say that they are models.
        (Build::Loom, false) => tests.join(", "),
        (Build::Plain | Build::Zeal, false) => format!("`{}`: {}", weakening.check, tests.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_around_the_markers_stays() {
        let text = format!("a\n{MARKER}\nold\n{MARKER}\nb");
        let [before, listed, after] = split(&text).unwrap();
        assert_eq!((&text[listed], &text[after]), ("\nold\n", &*format!("{MARKER}\nb")));
        assert_eq!(&text[before], format!("a\n{MARKER}"));
        assert_eq!(split("no marker"), None);
    }

    #[test]
    fn docs_list_every_weakening() {
        let root = crate::workspace_root();
        assert_eq!(check(&root, &Table::load(&root).unwrap()), Ok(()));
    }
}
