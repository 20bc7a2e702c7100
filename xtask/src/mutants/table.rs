//! The weakenings, read from `xtask/mutants/*.toml`.
#![forbid(unsafe_code)]

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the data lies, from the workspace's root.
const FOLDER: &str = "xtask/mutants";

/// All weakenings, in the order of files and entries.
pub(super) struct Table {
    pub(super) areas: Vec<Area>,
}

/// One file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Area {
    /// The file's name without `.toml`.
    #[serde(skip)]
    pub(super) name: String,
    /// A heading: what is weakened here.
    pub(super) about: String,
    /// The order of areas in the docs.
    place: u32,
    pub(super) weakening: Vec<Weakening>,
}

/// One deliberate mistake.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Weakening {
    pub(super) name: String,
    /// What it does to the code.
    pub(super) what: String,
    /// Why that must be wrong.
    pub(super) wrong: String,
    /// Who should notice.
    #[serde(default)]
    pub(super) check: Check,
    /// Tests of the check that should notice, as the test harness filters them: parts of their paths. All if empty.
    #[serde(default)]
    pub(super) tests: Vec<String>,
    /// Why no check can notice, if none can.
    #[serde(default)]
    pub(super) survives: Option<String>,
    pub(super) edit: Vec<Edit>,
    /// The area's name.
    #[serde(skip)]
    pub(super) area: String,
}

/// A replacement.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Edit {
    /// From the workspace's root.
    pub(super) file: String,
    /// Must be there exactly once.
    pub(super) before: String,
    pub(super) after: String,
}

/// How a check's program is built. In the order in which checks are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Build {
    /// For the models, with loom's atomics.
    Loom,
    /// As for users.
    Plain,
    /// With evacuation at every legal point.
    Zeal,
}

/// One test program: `loom` (the models), a crate (`runtime`: its unit tests), or a crate and a test file (`farptr/hotness`); the latter two also under
/// zeal (`zeal/farptr/hotness`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Check {
    pub(super) build: Build,
    /// The crate's folder.
    pub(super) folder: String,
    /// The file of `tests`, or none for unit tests.
    pub(super) test: Option<String>,
}

impl Default for Check {
    fn default() -> Self {
        Check { build: Build::Loom, folder: "runtime".into(), test: None }
    }
}

/// Folders of the crates that can be checks.
pub(super) const CRATES: [&str; 4] = ["runtime", "evacuator", "farptr", "server"];

/// The package in a crate's folder.
pub(super) fn package(folder: &str) -> &'static str {
    match folder {
        "runtime" => "farptr-runtime",
        "evacuator" => "farptr-evacuator",
        "server" => "farptr-server",
        _ => "farptr",
    }
}

impl Check {
    /// Where its tests are, from the crate's folder.
    fn sources(&self) -> Vec<String> {
        match &self.test {
            None => vec!["src".into()],
            Some(test) => vec![format!("tests/{test}.rs"), format!("tests/{test}")],
        }
    }
}

impl TryFrom<String> for Check {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "loom" {
            return Ok(Check::default());
        }
        let (build, place) = match text.strip_prefix("zeal/") {
            Some(place) => (Build::Zeal, place),
            None => (Build::Plain, text.as_str()),
        };
        let (folder, test) = match place.split_once('/') {
            Some((folder, test)) => (folder, Some(test.to_owned())),
            None => (place, None),
        };
        if CRATES.contains(&folder) {
            return Ok(Check { build, folder: folder.into(), test });
        }
        let known = "loom, a crate (runtime, evacuator, farptr, server) or a crate/test, the latter two also as zeal/...";
        Err(format!("`{text}` is no check; give {known}"))
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.build {
            Build::Loom => return f.write_str("loom"),
            Build::Plain => {}
            Build::Zeal => f.write_str("zeal/")?,
        }
        match &self.test {
            None => f.write_str(&self.folder),
            Some(test) => write!(f, "{}/{test}", self.folder),
        }
    }
}

impl Table {
    pub(super) fn load(root: &Path) -> Result<Self, String> {
        let folder = root.join(FOLDER);
        let unreadable = |path: &Path, error: &dyn fmt::Display| format!("can't read {}: {error}", path.display());
        let mut areas = Vec::new();
        for entry in fs::read_dir(&folder).map_err(|error| unreadable(&folder, &error))? {
            let path = entry.map_err(|error| unreadable(&folder, &error))?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                areas.push(Area::parse(name, &text).map_err(|error| unreadable(&path, &error))?);
            }
        }
        areas.sort_by(|a, b| (a.place, &a.name).cmp(&(b.place, &b.name)));
        let table = Table { areas };
        let mut seen = BTreeMap::new();
        for weakening in table.weakenings() {
            if let Some(other) = seen.insert(&weakening.name, weakening) {
                return Err(format!("`{}` is in {} and in {}", weakening.name, other.area, weakening.area));
            }
        }
        Ok(table)
    }

    pub(super) fn weakenings(&self) -> impl Iterator<Item = &Weakening> {
        self.areas.iter().flat_map(|area| &area.weakening)
    }

    /// Those of these names, or of areas of these names; all if there are none.
    pub(super) fn select(&self, only: &[String]) -> Result<Vec<&Weakening>, String> {
        let fits = |weakening: &Weakening, name: &String| weakening.name == *name || weakening.area == *name;
        if let Some(unknown) = only.iter().find(|name| !self.weakenings().any(|weakening| fits(weakening, name))) {
            let areas: Vec<&str> = self.areas.iter().map(|area| area.name.as_str()).collect();
            return Err(format!("no weakening is named `{unknown}`, and no file; files are: {} (see --list)", areas.join(", ")));
        }
        let chosen = |weakening: &&Weakening| only.is_empty() || only.iter().any(|name| fits(weakening, name));
        Ok(self.weakenings().filter(chosen).collect())
    }
}

impl Area {
    fn parse(name: String, text: &str) -> Result<Self, String> {
        let mut area: Area = toml::from_str(text).map_err(|error| error.to_string())?;
        for weakening in &mut area.weakening {
            weakening.area.clone_from(&name);
            if weakening.edit.is_empty() {
                return Err(format!("`{}` changes nothing", weakening.name));
            }
        }
        area.name = name;
        Ok(area)
    }
}

impl Weakening {
    /// The weakened texts of the files it changes, by path from the root.
    pub(super) fn applied(&self, root: &Path) -> Result<BTreeMap<PathBuf, String>, String> {
        let mut texts: BTreeMap<PathBuf, String> = BTreeMap::new();
        for edit in &self.edit {
            let path = PathBuf::from(&edit.file);
            if !texts.contains_key(&path) {
                let read = fs::read_to_string(root.join(&path));
                texts.insert(path.clone(), read.map_err(|error| format!("{}: can't read {}: {error}", self.name, edit.file))?);
            }
            let text = texts.get_mut(&path).expect("inserted just now");
            *text = edit.apply(text).map_err(|problem| format!("{}: {problem}", self.name))?;
        }
        Ok(texts)
    }

    /// What is wrong with the tests it names, if one is not in its check's sources. Goes by the names of files, modules and functions.
    pub(super) fn missing_test(&self, root: &Path) -> Option<String> {
        let mut sources = Vec::new();
        read_all(&root.join(&self.check.folder), &self.check.sources(), &mut sources);
        let exists = |test: &str| {
            let mut segments: Vec<&str> = test.split("::").filter(|segment| !segment.is_empty()).collect();
            let Some(last) = segments.pop() else { return false };
            sources.iter().any(|(path, text)| {
                let is_module = |name: &str| path.contains(&format!("/{name}/")) || path.contains(&format!("/{name}.rs"));
                segments.iter().all(|name| is_module(name) || text.contains(&format!("mod {name}")))
                    && (is_module(last) || text.contains(&format!("mod {last}")) || text.contains(&format!("fn {last}(")))
            })
        };
        let missing = self.tests.iter().find(|test| !exists(test))?;
        Some(format!("{}: there is no test `{missing}` in {}", self.name, self.check))
    }
}

/// Reads the Rust files below those `places` of `folder`, with their paths.
fn read_all(folder: &Path, places: &[String], sources: &mut Vec<(String, String)>) {
    let mut left: Vec<PathBuf> = places.iter().map(|place| folder.join(place)).collect();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap_or_default();
            sources.push((path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned(), text));
        }
    }
}

impl Edit {
    fn apply(&self, text: &str) -> Result<String, String> {
        if self.before == self.after {
            return Err(format!("the replacement in {} is what it replaces", self.file));
        }
        match text.matches(&self.before).count() {
            1 => Ok(text.replacen(&self.before, &self.after, 1)),
            count => Err(format!("{} has its text {count} times, not once: {:?}", self.file, self.before)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(before: &str, after: &str) -> Edit {
        Edit { file: "a.rs".into(), before: before.into(), after: after.into() }
    }

    #[test]
    fn text_must_be_there_exactly_once() {
        assert_eq!(edit("b", "x").apply("abc"), Ok("axc".into()));
        assert!(edit("b", "x").apply("abcb").unwrap_err().contains("2 times"));
        assert!(edit("d", "x").apply("abc").unwrap_err().contains("0 times"));
        assert!(edit("b", "b").apply("abc").is_err());
    }

    #[test]
    fn checks_are_named_by_crate_and_test() {
        for name in ["loom", "runtime", "farptr/hotness", "zeal/farptr", "zeal/farptr/rem_box"] {
            assert_eq!(Check::try_from(name.to_owned()).unwrap().to_string(), name);
        }
        for name in ["benches", "loom/leaving", "zeal", "zeal/loom"] {
            assert!(Check::try_from(name.to_owned()).unwrap_err().contains("is no check"), "{name}");
        }
        assert_eq!(CRATES.map(package), ["farptr-runtime", "farptr-evacuator", "farptr", "farptr-server"]);
    }

    #[test]
    fn fields_nobody_knows_are_refused() {
        let entry = "about = 'a'\nplace = 1\n[[weakening]]\nname = 'n'\nwhat = 'w'\nwrong = 'y'\n";
        let edit = "[[weakening.edit]]\nfile = 'f'\nbefore = 'b'\nafter = 'c'\n";
        let area = Area::parse("area".into(), &format!("{entry}{edit}")).unwrap();
        assert_eq!((area.weakening[0].check.to_string().as_str(), area.weakening[0].area.as_str()), ("loom", "area"));
        assert!(Area::parse("area".into(), &format!("{entry}survivs = 's'\n{edit}")).is_err());
        assert!(Area::parse("area".into(), &format!("{entry}edit = []\n")).unwrap_err().contains("changes nothing"));
    }

    #[test]
    fn every_weakening_applies_and_names_tests_that_exist() {
        let root = crate::workspace_root();
        let table = Table::load(&root).unwrap();
        for weakening in table.weakenings() {
            weakening.applied(&root).unwrap();
            assert_eq!(weakening.missing_test(&root), None);
        }
        assert!(table.select(&["word".into()]).unwrap().len() > 1);
        assert!(table.select(&["no such thing".into()]).unwrap_err().contains("word"));
    }
}
