//! What is expected of the main example's figures.
#![forbid(unsafe_code)]

use serde_json::Value;
use std::fs;
use std::path::Path;

/// A folder of the workspace, small, and of text.
pub(crate) const FOLDER: &str = "runtime";
/// A literal that is in it.
pub(crate) const PATTERN: &str = "farptr";
/// Little enough that far memory is used: the least there is.
pub(crate) const BUDGET: &str = "1MiB";

const KEYS: [&str; 12] = [
    "matches",
    "files",
    "bytes_indexed",
    "local_budget_bytes",
    "far_bytes",
    "hit_ratio",
    "index_seconds",
    "query_seconds",
    "all_local_index_seconds",
    "all_local_query_seconds",
    "peak_rss_bytes",
    "transport",
];

/// Compares the example's JSON with what a plain scan of the folder finds.
pub(crate) fn judge(root: &Path, stdout: &str) -> Result<(), String> {
    let expected = matching_lines(&root.join(FOLDER)).map_err(|error| format!("can't read {FOLDER}: {error}"))?;
    judge_figures(stdout, expected)
}

/// Compares the example's JSON with how many lines there are.
pub(crate) fn judge_figures(stdout: &str, expected: u64) -> Result<(), String> {
    let figures: Value = serde_json::from_str(stdout).map_err(|error| format!("its output is not one JSON object: {error}"))?;
    if let Some(missing) = KEYS.iter().find(|key| figures.get(key).is_none()) {
        return Err(format!("its output lacks `{missing}`"));
    }
    if figures["far_bytes"].as_f64() == Some(0.0) {
        return Err("all it has fits into the local budget: it tests nothing of far memory".into());
    }
    match figures["matches"].as_u64() {
        Some(found) if found == expected && found > 0 => Ok(()),
        _ => Err(format!("it found {} matching lines; a plain scan finds {expected}", figures["matches"])),
    }
}

/// How many lines below `folder` hold the pattern.
pub(crate) fn matching_lines(folder: &Path) -> std::io::Result<u64> {
    let mut lines = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            lines += matching_lines(&entry.path())?;
        } else if entry.file_type()?.is_file() {
            let bytes = fs::read(entry.path())?;
            if !bytes.contains(&0) {
                let text = String::from_utf8_lossy(&bytes);
                lines += text.lines().filter(|line| line.contains(PATTERN)).count() as u64;
            }
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_must_be_complete_and_right() {
        let of = |matches: u64| {
            let mut object: serde_json::Map<String, Value> =
                KEYS.iter().map(|key| ((*key).to_owned(), Value::from(1.0))).collect();
            object.insert("matches".into(), matches.into());
            object
        };
        assert_eq!(judge_figures(&Value::from(of(7)).to_string(), 7), Ok(()));
        assert!(judge_figures(&Value::from(of(6)).to_string(), 7).unwrap_err().contains("found 6"));
        assert!(judge_figures(&Value::from(of(0)).to_string(), 0).is_err(), "a pattern that is nowhere tests nothing");
        let mut local = of(7);
        local.insert("far_bytes".into(), 0.into());
        assert!(judge_figures(&Value::from(local).to_string(), 7).unwrap_err().contains("nothing of far memory"));
        assert!(judge_figures("", 7).unwrap_err().contains("not one JSON object"));
        let mut incomplete = of(7);
        incomplete.remove("peak_rss_bytes");
        assert_eq!(judge_figures(&Value::from(incomplete).to_string(), 7), Err("its output lacks `peak_rss_bytes`".into()));
    }

    #[test]
    fn the_pattern_is_in_the_folder() {
        assert!(matching_lines(&crate::workspace_root().join(FOLDER)).unwrap() > 0);
    }
}
