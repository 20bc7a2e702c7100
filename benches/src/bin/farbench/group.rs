//! A memory control group for a child process: what it may have locally. Both versions of control groups.

use crate::Outcome;
use crate::undo::{SetUp, Undo};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A group of its own for one child. Goes when this goes, which must be after the child.
pub(crate) struct Group {
    folder: PathBuf,
    watching: Arc<AtomicBool>,
    _remove: SetUp,
}

/// How often the statistics of a group are read. Under version 1 a group at its limit, whose every page is being swapped, is sometimes taken for hopeless
/// and its program killed; reading the statistics keeps the counts behind that fresh.
const WATCH: Duration = Duration::from_millis(5);

/// How long to wait for a group to be empty after its process has ended.
const PATIENCE: Duration = Duration::from_secs(2);

impl Group {
    /// A group that may have `limit` bytes of memory, and any amount of swap.
    pub(crate) fn new(limit: u64, undo: &Undo) -> Outcome<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let (parent, version) = parent()?;
        let folder = parent.join(format!("farbench-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
        let gone = folder.clone();
        let made = undo.undisturbed(|| fs::create_dir(&folder).map(|()| undo.with(move || remove(&gone))));
        let remove = made.map_err(|error| format!("no control group at {}: {error}", folder.display()))?;
        let file = if version == 1 { "memory.limit_in_bytes" } else { "memory.max" };
        fs::write(folder.join(file), limit.to_string()).map_err(|error| format!("can't limit {}: {error}", folder.display()))?;
        let watching = Arc::new(AtomicBool::new(true));
        let (watched, statistics) = (Arc::clone(&watching), folder.join("memory.stat"));
        std::thread::Builder::new().name("watch-group".into()).spawn(move || {
            while watched.load(Ordering::Relaxed) {
                let _ = fs::read(&statistics);
                std::thread::sleep(WATCH);
            }
        })?;
        Ok(Group { folder, watching, _remove: remove })
    }

    /// Moves a process, and what it will allocate, into the group.
    pub(crate) fn take(&self, process: u32) -> Outcome {
        fs::write(self.folder.join("cgroup.procs"), process.to_string())?;
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.watching.store(false, Ordering::Relaxed);
    }
}

/// A group can be removed when the kernel has seen that its last process ended, which is a little after we did.
fn remove(folder: &Path) {
    let until = Instant::now() + PATIENCE;
    loop {
        match fs::remove_dir(folder) {
            Ok(()) => return,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) if Instant::now() > until => {
                eprintln!("farbench: the control group {} is left behind: {error}", folder.display());
                return;
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// The group in which new ones are made, and the version of control groups it belongs to. Always at or below where this process is, or right beside it, so that
/// whatever limits this process limits its children.
fn parent() -> Outcome<(PathBuf, u32)> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    if let Some((mount, path)) = mounted(&mounts, "cgroup", Some("memory")).zip(own_path(&own, "memory")) {
        return Ok((join(mount, path), 1));
    }
    let (mount, path) =
        mounted(&mounts, "cgroup2", None).zip(own_path(&own, "")).ok_or("there are no memory control groups here")?;
    // A group with processes in it can't have limited children (but for the root), so that it has to be a sibling.
    let here = join(mount, path);
    let delegates = |folder: &&Path| {
        fs::read_to_string(folder.join("cgroup.subtree_control"))
            .is_ok_and(|given| given.split_whitespace().any(|each| each == "memory"))
    };
    let parent = [Some(here.as_path()), here.parent()].into_iter().flatten().find(delegates);
    Ok((parent.ok_or("the control group of this process has no memory controller to hand on")?.to_path_buf(), 2))
}

fn join(mount: &str, path: &str) -> PathBuf {
    Path::new(mount).join(path.trim_start_matches('/'))
}

/// Where a file system of a type is mounted, with an option perhaps.
fn mounted<'a>(mounts: &'a str, kind: &str, option: Option<&str>) -> Option<&'a str> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (at, this, options) = (fields.next()?, fields.next()?, fields.next()?);
        let has = option.is_none_or(|option| options.split(',').any(|each| each == option));
        (this == kind && has).then_some(at)
    })
}

/// This process's group in the hierarchy of a controller; that of version 2 has no controllers named.
fn own_path<'a>(own: &'a str, controller: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|each| each == controller).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0\ncgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
        cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
    const OWN: &str = "4:memory:/work/inner\n1:cpu,cpuacct:/\n0::/session\n";

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        assert_eq!(mounted(MOUNTS, "cgroup", Some("memory")), Some("/sys/fs/cgroup/memory"));
        assert_eq!(mounted(MOUNTS, "cgroup2", None), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mounted("", "cgroup2", None), None);
        assert_eq!(own_path(OWN, "memory"), Some("/work/inner"));
        assert_eq!(own_path(OWN, "cpuacct"), Some("/"));
        assert_eq!(own_path(OWN, ""), Some("/session"));
        assert_eq!(join("/sys", "/a"), Path::new("/sys/a"));
    }
}
