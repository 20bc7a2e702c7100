//! What a guest boots: kernel and initramfs, made once and kept in the target folder.
#![forbid(unsafe_code)]

use crate::guest::{kernel, modules};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The guest's first program.
const INIT: &str = include_str!("../../../ci/guest/init");
/// Places that it mounts things on.
const FOLDERS: [&str; 8] = ["bin", "modules", "proc", "sys", "dev", "lower", "upper", "root"];

/// The files to boot.
pub(crate) struct Image {
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
}

impl Image {
    /// The image in `folder`, made if it isn't there or what it is made of has changed.
    pub(crate) fn provide(folder: &Path) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("can't write to {}: {error}", folder.display());
        fs::create_dir_all(folder).map_err(failed)?;
        // Of several at a time one makes it. The lock goes with the file.
        let lock = File::create(folder.join("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let image = Image { kernel: folder.join("kernel"), initramfs: folder.join("initramfs") };
        let package = kernel::package(folder)?;
        let busybox = busybox()?;
        let (made_of, recorded) = (inputs(&package, &busybox), folder.join("inputs"));
        if fs::read_to_string(&recorded).is_ok_and(|inputs| inputs == made_of)
            && image.kernel.is_file()
            && image.initramfs.is_file()
        {
            return Ok(image);
        }
        eprintln!("=== making an image for guests from {}", package.display());
        let _ = fs::remove_file(&recorded);
        let unpacked = folder.join("unpacked");
        let (kernel, modules) = kernel::unpack(&package, &unpacked)?;
        image.make_kernel(&kernel)?;
        image.make_initramfs(&modules, &busybox, &folder.join("staged"))?;
        // The modules nobody wants are most of it: 400 MB.
        fs::remove_dir_all(unpacked).map_err(failed)?;
        fs::write(recorded, made_of).map_err(failed)?;
        Ok(image)
    }

    fn make_kernel(&self, from: &Path) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("can't write {}: {error}", self.kernel.display());
        let packed = fs::read(from).map_err(|error| format!("can't read {}: {error}", from.display()))?;
        let kernel = kernel::payload(&packed).and_then(unxz).filter(|kernel| kernel.starts_with(b"\x7fELF"));
        fs::write(&self.kernel, kernel.unwrap_or(packed)).map_err(failed)
    }

    fn make_initramfs(&self, modules: &Path, busybox: &Path, staged: &Path) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("can't write to {}: {error}", staged.display());
        let _ = fs::remove_dir_all(staged);
        for folder in FOLDERS {
            fs::create_dir_all(staged.join(folder)).map_err(failed)?;
        }
        fs::copy(busybox, staged.join("bin/busybox")).map_err(failed)?;
        symlink("busybox", staged.join("bin/sh")).map_err(failed)?;
        let mut order = String::new();
        for module in modules::in_order(modules)? {
            let name = module.file_name().expect("a module is a file").to_string_lossy().into_owned();
            fs::copy(&module, staged.join("modules").join(&name)).map_err(failed)?;
            order += &format!("/modules/{name}\n");
        }
        fs::write(staged.join("modules/order"), order).map_err(failed)?;
        let init = staged.join("init");
        fs::write(&init, INIT).map_err(failed)?;
        fs::set_permissions(&init, PermissionsExt::from_mode(0o755)).map_err(failed)?;
        self.archive(staged, busybox)
    }

    /// Not compressed: that would be undone under emulation.
    fn archive(&self, staged: &Path, busybox: &Path) -> Result<(), String> {
        let mut names = Vec::new();
        list(staged, Path::new(""), &mut names).map_err(|error| format!("can't read {}: {error}", staged.display()))?;
        let failed = |error: std::io::Error| format!("can't write {}: {error}", self.initramfs.display());
        let archive = File::create(&self.initramfs).map_err(failed)?;
        let mut cpio = Command::new(busybox);
        cpio.args(["cpio", "-o", "-H", "newc"]).current_dir(staged).stdin(Stdio::piped()).stdout(archive).stderr(Stdio::null());
        let mut cpio = cpio.spawn().map_err(failed)?;
        let told = cpio.stdin.take().expect("standard input is piped").write_all(names.concat().as_bytes());
        let status = cpio.wait().map_err(failed)?;
        if told.is_ok() && status.success() { Ok(()) } else { Err(format!("busybox cpio: {status}")) }
    }
}

/// Adds a line for all below `folder`, each folder before what is in it: so the kernel wants it.
fn list(folder: &Path, name: &Path, names: &mut Vec<String>) -> std::io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder.join(name))?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = name.join(entry.file_name());
        names.push(format!("{}\n", name.display()));
        if entry.file_type()?.is_dir() {
            list(folder, &name, names)?;
        }
    }
    Ok(())
}

/// What an image is made of, to be compared with what the last one was made of.
fn inputs(package: &Path, busybox: &Path) -> String {
    let size = fs::metadata(busybox).map_or(0, |data| data.len());
    let name = package.file_name().unwrap_or_default().display();
    format!("{name}\n{} {size}\n{}\n{}\n{INIT}", busybox.display(), modules::WANTED.join(" "), FOLDERS.join(" "))
}

/// The program that all of an initramfs is made with, and of.
fn busybox() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("busybox")).find(|file| file.is_file());
    found.ok_or_else(|| "there is no busybox".into())
}

fn unxz(packed: &[u8]) -> Option<Vec<u8>> {
    // Not busybox's, which takes smaller dictionaries only.
    let mut unxz = Command::new("xz");
    let mut unxz = unxz.arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let mut stdin = unxz.stdin.take().expect("standard input is piped");
    std::thread::scope(|threads| {
        // Whether all of it was taken doesn't matter (a kernel's length follows it); what came out is looked at.
        threads.spawn(move || drop(stdin.write_all(packed)));
        unxz.wait_with_output().ok().map(|output| output.stdout)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_lists_folders_before_what_is_in_them() {
        let folder = std::env::temp_dir().join(format!("farptr-initramfs-{}", std::process::id()));
        fs::create_dir_all(folder.join("b/c")).unwrap();
        fs::write(folder.join("b/c/d"), "").unwrap();
        fs::write(folder.join("a"), "").unwrap();
        let mut names = Vec::new();
        let listed = list(&folder, Path::new(""), &mut names);
        fs::remove_dir_all(&folder).unwrap();
        listed.unwrap();
        assert_eq!(names, ["a\n", "b\n", "b/c\n", "b/c/d\n"]);
    }

    #[test]
    fn another_kernel_makes_another_image() {
        let of = |package: &str| inputs(Path::new(package), Path::new("/bin/busybox"));
        assert_ne!(of("linux-1.deb"), of("linux-2.deb"));
        assert_eq!(of("/a/linux-1.deb"), of("/b/linux-1.deb"), "wherever it is");
    }

    #[test]
    fn the_guest_s_first_program_finds_its_places() {
        for folder in ["/proc", "/sys", "/dev", "/lower", "/upper", "/root"] {
            assert!(INIT.contains(folder) && FOLDERS.contains(&&folder[1..]), "{folder}");
        }
    }
}
