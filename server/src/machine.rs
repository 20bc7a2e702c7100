//! What memory this machine, or the container around this process, can give.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of memory: all there is, and what is free to take now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What can be had now without swapping.
    pub available: u64,
}

/// Asks the kernel; `None` where it doesn't say (then the only check left is the taking itself).
pub fn memory() -> Option<Memory> {
    let machine = from_meminfo(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(group_memory(&groups, Path::new("/sys/fs/cgroup")).fold(machine, |least, group| Memory {
        total: least.total.min(group.total),
        available: least.available.min(group.available),
    }))
}

fn from_meminfo(text: &str) -> Option<Memory> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(Memory { total: field("MemTotal:")?, available: field("MemAvailable:")? })
}

/// The limits of the memory cgroups (v1 or v2) that `groups` (the text of `/proc/self/cgroup`) names, and of those around them.
fn group_memory(groups: &str, root: &Path) -> impl Iterator<Item = Memory> {
    let folders: Vec<(PathBuf, PathBuf, &str, &str)> = groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let path = path.trim_start_matches('/');
            if controllers.is_empty() {
                Some((root.to_path_buf(), root.join(path), "memory.max", "memory.current"))
            } else if controllers.split(',').any(|controller| controller == "memory") {
                let root = root.join("memory");
                let folder = root.join(path);
                Some((root, folder, "memory.limit_in_bytes", "memory.usage_in_bytes"))
            } else {
                None
            }
        })
        .collect();
    folders.into_iter().flat_map(|(root, folder, limit, usage)| {
        let number = |file: PathBuf| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
        folder
            .ancestors()
            .take_while(|folder| folder.starts_with(&root))
            .filter_map(|folder| {
                let total = number(folder.join(limit))?;
                let used = number(folder.join(usage)).unwrap_or(0);
                Some(Memory { total, available: total.saturating_sub(used) })
            })
            .collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory() {
        let memory = memory().expect("/proc/meminfo");
        assert!(memory.total >= memory.available && memory.available > 0, "{memory:?}");
    }

    #[test]
    fn meminfo_that_says_nothing_is_no_answer() {
        assert_eq!(from_meminfo(""), None);
        assert_eq!(from_meminfo("MemTotal: lots\nMemAvailable: 3 kB"), None);
        let text = "MemTotal:       100 kB\nMemFree: 1 kB\nMemAvailable:    60 kB\n";
        assert_eq!(from_meminfo(text), Some(Memory { total: 102_400, available: 61_440 }));
    }

    #[test]
    fn a_groups_limit_counts_and_so_do_those_around_it() {
        let root = std::env::temp_dir().join(format!("farmemd-cgroup-{}", std::process::id()));
        let inner = root.join("outer/inner");
        fs::create_dir_all(&inner).expect("folders");
        fs::write(inner.join("memory.max"), "max\n").expect("file");
        fs::write(root.join("outer/memory.max"), "1000\n").expect("file");
        fs::write(root.join("outer/memory.current"), "400\n").expect("file");
        let found: Vec<_> = group_memory("0::/outer/inner\n", &root).collect();
        fs::remove_dir_all(&root).expect("clean up");
        assert_eq!(found, [Memory { total: 1000, available: 600 }]);
    }
}
