//! What this process may use of the machine: memory, within the limits of its control groups, and cores.

use super::MIN_LOCAL_BUDGET;
use std::fs;
use std::path::{Path, PathBuf};

/// The default local budget is this part of the memory that the process may use: enough to be quick, and little enough
/// that the rest of the program, and its neighbours, still fit.
const DEFAULT_BUDGET_DIVISOR: u64 = 4;

/// The default local budget if nothing can be found out about memory.
const FALLBACK_BUDGET: usize = 256 << 20;

#[derive(Debug, Clone)]
pub(super) struct Machine {
    /// Bytes of memory this process may use; `None` if nobody would say.
    pub(super) memory: Option<u64>,
    pub(super) cores: usize,
}

impl Machine {
    pub(super) fn of_this_process() -> Self {
        Machine {
            memory: memory_limit(Path::new("/")),
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get()),
        }
    }

    pub(super) fn default_local_budget(&self) -> usize {
        let part =
            self.memory.map_or(FALLBACK_BUDGET, |bytes| usize::try_from(bytes / DEFAULT_BUDGET_DIVISOR).unwrap_or(usize::MAX));
        part.max(MIN_LOCAL_BUDGET)
    }
}

/// The machine's memory, or the tightest limit of the control groups that this process is in, if that is less. `root` is `/`
/// outside tests.
fn memory_limit(root: &Path) -> Option<u64> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let physical = total_memory(&read("proc/meminfo"));
    let group = group_limit(root, &read("proc/self/cgroup"), &read("proc/self/mountinfo"));
    physical.into_iter().chain(group).min()
}

/// `MemTotal:       24682336 kB`
fn total_memory(meminfo: &str) -> Option<u64> {
    let kib: u64 =
        meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The least limit from this process's group up to the root of the hierarchy; limits of parents bind as well.
fn group_limit(root: &Path, cgroup: &str, mountinfo: &str) -> Option<u64> {
    let hierarchies = cgroup.lines().filter_map(|line| {
        // "0::/path" is version 2, "4:cpu,memory:/path" a hierarchy of version 1.
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        match controllers {
            "" => Some(("cgroup2", "memory.max", path)),
            _ if controllers.split(',').any(|one| one == "memory") => Some(("cgroup", "memory.limit_in_bytes", path)),
            _ => None,
        }
    });
    hierarchies
        .filter_map(|(fs_type, limit_file, path)| {
            let (mount, leaf) = mounted_at(mountinfo, fs_type, path)?;
            leaf.ancestors()
                .filter_map(|group| {
                    let file = root.join(mount.strip_prefix("/").ok()?).join(group).join(limit_file);
                    // "max" (version 2) and numbers near 2^63 (version 1) mean no limit; the minimum sees to the latter.
                    fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()
                })
                .min()
        })
        .min()
}

/// Where the hierarchy is mounted, and the group's path below that.
fn mounted_at(mountinfo: &str, fs_type: &str, group: &str) -> Option<(PathBuf, PathBuf)> {
    mountinfo.lines().find_map(|line| {
        // 14 35 31 0:32 ROOT MOUNTPOINT options - TYPE source SUPEROPTIONS (there may be more options before the dash)
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        if kind.next()? != fs_type {
            return None;
        }
        if fs_type == "cgroup" && !kind.next_back()?.split(',').any(|option| option == "memory") {
            return None;
        }
        let mut place = place.split(' ').skip(3);
        let (mount_root, mount_point) = (place.next()?, place.next()?);
        // In a container the mount may show only a part of the hierarchy, or the group may be given from the container's
        // own root; then what is mounted is the best there is.
        let below = Path::new(group).strip_prefix(mount_root).or_else(|_| Path::new(group).strip_prefix("/")).ok()?;
        Some((PathBuf::from(mount_point), below.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    const GIB: u64 = 1 << 30;

    /// A directory that stands for `/`, with the files given; removed when dropped.
    struct FakeRoot(PathBuf);

    impl FakeRoot {
        fn new(files: &[(&str, &str)]) -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let unique = NEXT.fetch_add(1, Ordering::Relaxed);
            let root = std::env::temp_dir().join(format!("farptr-fake-root-{}-{unique}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            FakeRoot(root)
        }
    }

    impl Drop for FakeRoot {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:       16777216 kB\nMemFree:  1 kB\n");

    #[test]
    fn without_groups_it_is_the_memory_of_the_machine() {
        let root = FakeRoot::new(&[MEMINFO, ("proc/self/cgroup", "0::/\n")]);
        assert_eq!(memory_limit(&root.0), Some(16 * GIB));
    }

    #[test]
    fn the_tightest_parent_group_of_version_2_binds() {
        let root = FakeRoot::new(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/user.slice/app.scope\n"),
            ("proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"),
            ("sys/fs/cgroup/user.slice/app.scope/memory.max", "max\n"),
            ("sys/fs/cgroup/user.slice/memory.max", "4294967296\n"),
        ]);
        assert_eq!(memory_limit(&root.0), Some(4 * GIB));
    }

    #[test]
    fn a_container_sees_its_own_limit_of_version_1() {
        // The group's path is that of the host, of which only the container's part is mounted.
        let root = FakeRoot::new(&[
            MEMINFO,
            ("proc/self/cgroup", "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/docker/abc\n"),
            (
                "proc/self/mountinfo",
                "40 35 0:33 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n\
                 41 35 0:32 /docker/abc /sys/fs/cgroup/memory ro master:14 - cgroup cgroup rw,memory\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n"),
        ]);
        assert_eq!(memory_limit(&root.0), Some(2 * GIB));
    }

    #[test]
    fn no_limit_of_version_1_is_a_huge_number_and_does_not_bind() {
        let root = FakeRoot::new(&[
            MEMINFO,
            ("proc/self/cgroup", "4:memory:/\n"),
            ("proc/self/mountinfo", "41 35 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ]);
        assert_eq!(memory_limit(&root.0), Some(16 * GIB));
    }

    #[test]
    fn nothing_known_still_gives_a_default() {
        let root = FakeRoot::new(&[("proc/meminfo", "nonsense")]);
        let memory = memory_limit(&root.0);
        assert_eq!(memory, None);
        assert_eq!(Machine { memory, cores: 1 }.default_local_budget(), FALLBACK_BUDGET);
    }

    #[test]
    fn the_default_is_a_quarter_and_never_too_small() {
        assert_eq!(Machine { memory: Some(16 * GIB), cores: 1 }.default_local_budget() as u64, 4 * GIB);
        assert_eq!(Machine { memory: Some(1 << 20), cores: 1 }.default_local_budget(), MIN_LOCAL_BUDGET);
    }

    #[test]
    fn this_process_has_memory_and_a_core() {
        let machine = Machine::of_this_process();
        assert!(machine.cores >= 1);
        assert!(machine.memory.is_none_or(|bytes| bytes > 1 << 20), "{machine:?}");
    }
}
