//! The kernel modules of a guest, in the order in which they can be loaded.
//!
//! A module names what it depends on in its section `.modinfo`, as `depends=a,b`, so that no list made by `depmod` is needed.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What a guest needs. What these depend on is found out.
pub(crate) const WANTED: [&str; 11] = [
    "virtio_pci",
    "virtio_console",
    "virtio_rng",
    "9p",
    "9pnet_virtio",
    "overlay",
    "virtio_net",
    "dummy",
    // Soft-RoCE asks the kernel for this checksum by name, which no dependency tells.
    "crc32_generic",
    "rdma_ucm",
    "rdma_rxe",
];

/// Files below `folder`, a kernel's modules, that bring the wanted ones, each after what it depends on.
pub(crate) fn in_order(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = BTreeMap::new();
    find(folder, &mut files).map_err(|error| format!("can't read {}: {error}", folder.display()))?;
    let read = |name: &str| {
        let path = files.get(name).ok_or_else(|| format!("the kernel has no module {name}"))?;
        let bytes = fs::read(path).map_err(|error| format!("can't read {}: {error}", path.display()))?;
        depends(&bytes).ok_or_else(|| format!("{} doesn't say what it depends on", path.display()))
    };
    Ok(ordered(&WANTED, read)?.iter().map(|name| files[name].clone()).collect())
}

/// Adds all modules below `folder`, by name.
fn find(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            find(&path, files)?;
        } else if let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".ko")) {
            // A file may be named with dashes; the module never is.
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

/// The wanted modules and all they depend on, each after its own dependencies.
fn ordered(wanted: &[&str], mut depends: impl FnMut(&str) -> Result<Vec<String>, String>) -> Result<Vec<String>, String> {
    fn visit(
        name: &str,
        depends: &mut impl FnMut(&str) -> Result<Vec<String>, String>,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<String>,
    ) -> Result<(), String> {
        if seen.insert(name.to_owned()) {
            for other in depends(name)? {
                visit(&other, depends, seen, order)?;
            }
            order.push(name.to_owned());
        }
        Ok(())
    }
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    for name in wanted {
        visit(name, &mut depends, &mut seen, &mut order)?;
    }
    Ok(order)
}

/// What a module says it depends on: `.modinfo` is a row of texts that end with a NUL.
fn depends(module: &[u8]) -> Option<Vec<String>> {
    const KEY: &[u8] = b"\0depends=";
    let start = module.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let text = module[start..].split(|byte| *byte == 0).next()?;
    let names = std::str::from_utf8(text).ok()?.split(',').filter(|name| !name.is_empty());
    Some(names.map(|name| name.replace('-', "_")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_says_what_it_depends_on() {
        assert_eq!(
            depends(b"\x7fELF\0license=GPL\0depends=ib-core,udp_tunnel\0name=x\0"),
            Some(vec!["ib_core".into(), "udp_tunnel".into()])
        );
        assert_eq!(depends(b"\x7fELF\0license=GPL\0depends=\0"), Some(vec![]));
        assert_eq!(depends(b"\x7fELF\0license=GPL\0"), None);
    }

    #[test]
    fn each_module_comes_once_and_after_its_dependencies() {
        let depends = |name: &str| {
            Ok(match name {
                "net" => vec!["virtio".to_owned(), "failover".to_owned()],
                "pci" => vec!["ring".to_owned(), "virtio".to_owned()],
                "virtio" => vec!["ring".to_owned()],
                _ => vec![],
            })
        };
        assert_eq!(ordered(&["pci", "net"], depends).unwrap(), ["ring", "virtio", "pci", "failover", "net"]);
    }

    #[test]
    fn a_missing_module_is_named() {
        let missing = |name: &str| if name == "rdma_rxe" { Err("no rdma_rxe".to_owned()) } else { Ok(vec![]) };
        assert_eq!(ordered(&WANTED, missing), Err("no rdma_rxe".into()));
    }
}
