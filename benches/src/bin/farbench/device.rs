//! RDMA devices of this machine: whether there is one, and the address by which it is reached.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

/// Why there is none, whatever the machine has.
pub(crate) const UNBUILT: &str =
    "build farbench with `--features rdma` (it wants libibverbs-dev, librdmacm-dev, libclang and pkg-config)";

/// Where the kernel lists them.
const DEVICES: &str = "/sys/class/infiniband";

/// An address at which a server on this machine can be reached by RDMA.
pub(crate) fn address() -> Result<Ipv4Addr, String> {
    if !cfg!(feature = "rdma") {
        return Err(UNBUILT.into());
    }
    address_in(Path::new(DEVICES))
}

/// The first GID of any device that stands for an IPv4 address, as those of RoCE do.
fn address_in(devices: &Path) -> Result<Ipv4Addr, String> {
    let entries = |folder: &Path| {
        let mut paths: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let found = entries(devices);
    if found.is_empty() {
        return Err("this machine has no RDMA device; name a server elsewhere with --server rdma:HOST:PORT".into());
    }
    let gids = found.iter().flat_map(|device| entries(&device.join("ports"))).flat_map(|port| entries(&port.join("gids")));
    gids.filter_map(|gid| of_gid(fs::read_to_string(gid).ok()?.trim())).next().ok_or_else(|| {
        "no RDMA device of this machine has an IPv4 address; start a farmemd, and name it with --server rdma:HOST:PORT".into()
    })
}

/// `0000:0000:0000:0000:0000:ffff:0a07:0001` is 10.7.0.1.
fn of_gid(gid: &str) -> Option<Ipv4Addr> {
    let address: std::net::Ipv6Addr = gid.parse().ok()?;
    address.to_ipv4_mapped().filter(|address| !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_gid_that_is_an_ipv4_address_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(address_in(folder.path()).expect_err("no device").contains("no RDMA device"));
        let gids = folder.path().join("rxe0/ports/1/gids");
        fs::create_dir_all(&gids).expect("a folder");
        fs::write(gids.join("0"), "fe80:0000:0000:0000:5054:00ff:fe12:3456\n").expect("a file");
        assert!(address_in(folder.path()).expect_err("no IPv4").contains("no RDMA device of this machine has an IPv4 address"));
        fs::write(gids.join("1"), "0000:0000:0000:0000:0000:ffff:0a07:0001\n").expect("a file");
        assert_eq!(address_in(folder.path()), Ok(Ipv4Addr::new(10, 7, 0, 1)));
    }
}
