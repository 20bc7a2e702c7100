//! The kernel of a guest: Debian's package, fetched and unpacked, never installed.
#![forbid(unsafe_code)]

use crate::prerequisites;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Depends on the newest kernel. Not the one for clouds, which has no soft-RoCE.
const PACKAGE: &str = "linux-image-amd64";

/// The package's file in `folder`: what an earlier run left there, or fetched. Any release will do, so that a machine without a network keeps the one it has.
pub(crate) fn package(folder: &Path) -> Result<PathBuf, String> {
    if let Some(package) = packages_in(folder).into_iter().next() {
        return Ok(package);
    }
    let name = newest()?;
    eprintln!("$ apt-get download {name}");
    // Into a folder of its own, so that half a package is never taken for one.
    let fetched = folder.join("fetched");
    let failed = |error: std::io::Error| format!("can't write {}: {error}", fetched.display());
    let _ = fs::remove_dir_all(&fetched);
    fs::create_dir_all(&fetched).map_err(failed)?;
    // apt would rather not be root while it fetches; that it must be, in a folder of ours, is nothing to worry about.
    let options = ["--quiet=2", "--option=APT::Sandbox::User=root"];
    let status = Command::new("apt-get").args(options).args(["download", &name]).current_dir(&fetched).status();
    let package = packages_in(&fetched).into_iter().next();
    match (status, package) {
        (Ok(status), Some(package)) if status.success() => {
            let kept = folder.join(package.file_name().expect("a file in a folder has a name"));
            fs::rename(&package, &kept).map_err(failed)?;
            Ok(kept)
        }
        _ => Err(format!("the guest's kernel can't be fetched: apt-get download {name}")),
    }
}

/// Unpacks the package into `folder`. Returns the kernel's file and the folder of its modules.
pub(crate) fn unpack(package: &Path, folder: &Path) -> Result<(PathBuf, PathBuf), String> {
    let _ = fs::remove_dir_all(folder);
    let unpacked = Command::new("dpkg-deb").arg("-x").args([package, folder]).status();
    if !unpacked.is_ok_and(|status| status.success()) {
        return Err(format!("can't unpack {}; remove it if it is damaged", package.display()));
    }
    let kernel = first_in(&folder.join("boot"), "vmlinuz-");
    let modules = first_in(&folder.join("lib/modules"), "");
    kernel.zip(modules).ok_or_else(|| format!("{} holds no kernel", package.display()))
}

/// The kernel as it is after it has unpacked itself, if it is packed by xz: emulated, that alone would take seconds.
pub(crate) fn payload(kernel: &[u8]) -> Option<&[u8]> {
    // Of the boot protocol (Documentation/arch/x86/boot.rst): sectors before the protected-mode kernel; place and length of the payload in that.
    const SECTOR: usize = 512;
    let word = |at: usize| Some(u32::from_le_bytes(kernel.get(at..at + 4)?.try_into().ok()?) as usize);
    let sectors = usize::from(*kernel.get(0x1f1)?);
    let start = ((sectors + 1) * SECTOR).checked_add(word(0x248)?)?;
    let payload = kernel.get(start..start.checked_add(word(0x24c)?)?)?;
    payload.starts_with(b"\xfd7zXZ\0").then_some(payload)
}

fn newest() -> Result<String, String> {
    let ask = || {
        let output = Command::new("apt-cache").args(["depends", PACKAGE]).stderr(Stdio::null()).output().ok()?;
        prerequisites::dependency(&String::from_utf8_lossy(&output.stdout), "linux-image-")
    };
    let found = ask().or_else(|| if prerequisites::update() { ask() } else { None });
    found.ok_or_else(|| format!("the guest's kernel can't be fetched: apt knows no package {PACKAGE}; try: apt-get update"))
}

fn packages_in(folder: &Path) -> Vec<PathBuf> {
    let mut packages = entries(folder);
    packages.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    packages
}

fn first_in(folder: &Path, prefix: &str) -> Option<PathBuf> {
    entries(folder).into_iter().find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
}

/// By name; of a folder that can't be read, none.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_taken_out_of_its_wrapping() {
        let mut kernel = vec![0; 4096];
        kernel[0x1f1] = 1;
        kernel[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        kernel[0x24c..0x250].copy_from_slice(&8_u32.to_le_bytes());
        assert_eq!(payload(&kernel), None, "nothing that xz packed");
        kernel[1024 + 16..1024 + 22].copy_from_slice(b"\xfd7zXZ\0");
        assert_eq!(payload(&kernel), Some(&b"\xfd7zXZ\0\0\0"[..]));
        kernel[0x24c..0x250].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(payload(&kernel), None, "a length that can't be");
        assert_eq!(payload(b"short"), None);
    }
}
