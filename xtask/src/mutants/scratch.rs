//! A copy of the workspace in the target folder: what is weakened is never the checkout.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The copy, and the folders it is built in. One process at a time has it.
pub(super) struct Scratch {
    tree: PathBuf,
    builds: PathBuf,
    /// What was weakened, with the texts as they are in the checkout.
    weakened: RefCell<BTreeMap<PathBuf, Vec<u8>>>,
    _lock: File,
}

impl Scratch {
    /// Brings the copy up to date with the workspace at `root`. Files that are as they were keep their times, so that little is built anew.
    pub(super) fn new(root: &Path, target: &Path) -> Result<Self, String> {
        let folder = target.join("mutants");
        let tree = folder.join("tree");
        fs::create_dir_all(&tree).map_err(|error| format!("can't make {}: {error}", tree.display()))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(|error| format!("can't make {}: {error}", path.display()))?;
        lock.try_lock().map_err(|_| format!("another run of mutants has {}; wait for its end", folder.display()))?;
        mirror(root, &tree, target)?;
        Ok(Scratch { tree, builds: folder, weakened: RefCell::default(), _lock: lock })
    }

    pub(super) fn tree(&self) -> &Path {
        &self.tree
    }

    /// A target folder. Builds with other compiler flags need another one.
    pub(super) fn target(&self, name: &str) -> PathBuf {
        self.builds.join(name)
    }

    /// Writes weakened texts into the copy.
    pub(super) fn apply(&self, texts: &BTreeMap<PathBuf, String>) -> Result<(), String> {
        for (path, text) in texts {
            let full = self.tree.join(path);
            let good = fs::read(&full).map_err(|error| format!("can't read {}: {error}", full.display()))?;
            self.weakened.borrow_mut().insert(path.clone(), good);
            write(&full, text.as_bytes())?;
        }
        Ok(())
    }

    /// Takes back what `apply` did.
    pub(super) fn restore(&self) -> Result<(), String> {
        self.weakened.take().iter().try_for_each(|(path, text)| write(&self.tree.join(path), text))
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("can't write {}: {error}", path.display()))
}

/// Makes `to` hold what `from` does, but for hidden files, symbolic links and target folders.
fn mirror(from: &Path, to: &Path, target: &Path) -> Result<(), String> {
    let mut names = BTreeSet::new();
    let entries = fs::read_dir(from).map_err(|error| format!("can't read {}: {error}", from.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| format!("can't read {}: {error}", from.display()))?.path();
        let Some(name) = path.file_name().map(ToOwned::to_owned) else { continue };
        let hidden = name.to_string_lossy().starts_with('.');
        if hidden || name == "target" || path == target || path.is_symlink() {
            continue;
        }
        let copy = to.join(&name);
        names.insert(name);
        if path.is_dir() {
            fs::create_dir_all(&copy).map_err(|error| format!("can't make {}: {error}", copy.display()))?;
            mirror(&path, &copy, target)?;
        } else {
            let bytes = fs::read(&path).map_err(|error| format!("can't read {}: {error}", path.display()))?;
            if fs::read(&copy).ok().as_ref() != Some(&bytes) {
                write(&copy, &bytes)?;
            }
        }
    }
    // What was removed from the workspace, or left behind by a test.
    for path in fs::read_dir(to).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.file_name().is_some_and(|name| !names.contains(name)) {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|error| format!("can't remove {}: {error}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_follows_the_workspace_and_is_weakened_alone() {
        let folder = std::env::temp_dir().join(format!("farptr-mutants-{}", std::process::id()));
        let (root, target) = (folder.join("work"), folder.join("work/build"));
        fs::create_dir_all(root.join("src")).unwrap();
        fs::create_dir_all(root.join("target")).unwrap();
        fs::write(root.join("src/a.rs"), "good").unwrap();
        fs::write(root.join("src/b.rs"), "gone soon").unwrap();
        let scratch = Scratch::new(&root, &target).unwrap();
        assert!(Scratch::new(&root, &target).is_err_and(|error| error.contains("another run")));
        let copy = scratch.tree().join("src/a.rs");
        let written = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
        let first = written(&copy);
        scratch.apply(&BTreeMap::from([("src/a.rs".into(), "bad".into())])).unwrap();
        assert_eq!((fs::read(&copy).unwrap(), fs::read(root.join("src/a.rs")).unwrap()), (b"bad".to_vec(), b"good".to_vec()));
        scratch.restore().unwrap();
        assert_eq!(fs::read(&copy).unwrap(), b"good");
        assert!(written(&copy) > first, "cargo must see that it is another text again");
        drop(scratch);
        let settled = written(&copy);
        fs::remove_file(root.join("src/b.rs")).unwrap();
        let scratch = Scratch::new(&root, &target).unwrap();
        assert!(!scratch.tree().join("src/b.rs").exists() && !scratch.tree().join("target").exists());
        assert_eq!(written(&copy), settled, "what has not changed is not built again");
        fs::remove_dir_all(folder).unwrap();
    }
}
