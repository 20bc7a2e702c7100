//! Swap devices in memory, set up for a run and taken away after it: what a program gets without farptr, when the kernel sends its pages away.
//!
//! Three ways, all idealised, since none has a network behind it: **zram**, compressed memory as a block device; **a file in memory** as a swap device; and
//! **zswap**, compressed memory in front of such a device. Data that doesn't compress is used throughout, so that none gains by compressing.

use crate::Outcome;
use crate::undo::{SetUp, Undo};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A way to swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Zram,
    File,
    Zswap,
}

impl Way {
    pub(crate) const ALL: [Way; 3] = [Way::Zram, Way::File, Way::Zswap];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Zram => "swap on zram",
            Way::File => "swap on a file in memory",
            Way::Zswap => "swap on zswap",
        })
    }
}

/// An active swap device. What was set up goes in the reverse order.
pub(crate) struct Swap {
    undo: Undo,
    setup: Vec<SetUp>,
}

impl Drop for Swap {
    fn drop(&mut self) {
        while let Some(last) = self.setup.pop() {
            drop(last);
        }
    }
}

/// Before all other devices.
const PRIORITY: &str = "32767";

impl Swap {
    /// Sets up `bytes` of it.
    pub(crate) fn set_up(way: Way, bytes: u64, undo: &Undo) -> Outcome<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err("needs root".into());
        }
        let mut swap = Swap { undo: undo.clone(), setup: Vec::new() };
        // If it fails halfway, what there is of it is taken away after that.
        let done = undo.undisturbed(|| match way {
            Way::Zram => swap.zram(bytes),
            Way::File => swap.file(bytes),
            Way::Zswap => swap.zswap(bytes),
        });
        done.map(|()| swap)
    }

    fn undo(&mut self, action: impl FnOnce() + Send + 'static) {
        self.setup.push(self.undo.with(action));
    }

    fn zram(&mut self, bytes: u64) -> Outcome {
        let device = self.free_zram()?;
        let control = Path::new("/sys/block").join(&device);
        let reset = control.join("reset");
        // Not every kernel has lz4; its own choice will do, then.
        let _ = fs::write(control.join("comp_algorithm"), "lz4");
        fs::write(control.join("disksize"), bytes.to_string())?;
        self.undo(move || say_if(fs::write(&reset, "1"), &reset));
        self.on(Path::new("/dev").join(device))
    }

    /// A zram device that nobody uses: a new one, or one that was never given a size.
    fn free_zram(&mut self) -> Outcome<String> {
        let add = Path::new("/sys/class/zram-control/hot_add");
        if !add.exists() {
            // It may be a module; where it is built in, or there are none, that changes nothing.
            let _ = command("modprobe", &["zram"]);
        }
        if let Ok(number) = fs::read_to_string(add) {
            let number = number.trim().to_string();
            let device = format!("zram{number}");
            self.undo(move || {
                let remove = Path::new("/sys/class/zram-control/hot_remove");
                say_if(fs::write(remove, number), remove);
            });
            return Ok(device);
        }
        Err("this kernel has no zram".into())
    }

    fn file(&mut self, bytes: u64) -> Outcome {
        let folder = tempfile::tempdir()?.keep();
        let gone = folder.clone();
        self.undo(move || say_if(fs::remove_dir(&gone), &gone));
        let at = folder.display().to_string();
        // Without `noswap` the file that pages are swapped to could itself be swapped, and wait for itself.
        let size = format!("noswap,size={}", bytes + (1 << 20));
        command("mount", &["-t", "tmpfs", "-o", &size, "farbench", &at])?;
        let mounted = at.clone();
        self.undo(move || say_failed(command("umount", &[&mounted])));
        let file = folder.join("swap");
        fs::File::create(&file)?.set_len(bytes)?;
        let device = command("losetup", &["-f", "--show", &file.display().to_string()])?.trim().to_string();
        let loosed = device.clone();
        self.undo(move || say_failed(command("losetup", &["-d", &loosed])));
        self.on(device.into())
    }

    fn zswap(&mut self, bytes: u64) -> Outcome {
        let parameters = Path::new("/sys/module/zswap/parameters");
        if !parameters.exists() {
            return Err("this kernel has no zswap".into());
        }
        // All of it is to fit zswap, as all of it fits the others.
        for (name, value) in [("compressor", "lz4"), ("max_pool_percent", "90"), ("enabled", "Y")] {
            let file = parameters.join(name);
            let before = fs::read_to_string(&file)?.trim().to_string();
            if fs::write(&file, value).is_ok() {
                self.undo(move || say_if(fs::write(&file, before), &file));
            }
        }
        self.file(bytes)
    }

    /// Begins to swap to a device.
    fn on(&mut self, device: PathBuf) -> Outcome {
        let device = device.display().to_string();
        command("mkswap", &[&device])?;
        command("swapon", &["-p", PRIORITY, &device])?;
        self.undo(move || say_failed(command("swapoff", &[&device])));
        Ok(())
    }
}

/// Runs a command; says what it said.
fn command(program: &str, arguments: &[&str]) -> Outcome<String> {
    let output =
        Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What can't be taken away must be known.
fn say_failed(outcome: Outcome<String>) {
    if let Err(error) = outcome {
        eprintln!("farbench: left behind: {error}");
    }
}

fn say_if(outcome: std::io::Result<()>, path: &Path) {
    if let Err(error) = outcome {
        eprintln!("farbench: left behind: {}: {error}", path.display());
    }
}
