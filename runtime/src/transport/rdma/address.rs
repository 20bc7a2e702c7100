//! A server's address, and the device to go by, as people write them: `HOST:PORT`, `HOST:PORT@DEVICE`, `HOST:PORT@DEVICE/PORT` or `HOST:PORT@DEVICE/PORT/GID`.
//!
//! The connection manager chooses device, port and GID by the source address of a connection, and the source address by the routing table. Who wants another names it, and it is
//! looked up in the system's table of GIDs: each stands for an address.
#![forbid(unsafe_code)]

use crate::error::TransportError;
use crate::transport::tcp::resolve;
use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

/// Where the system says what RDMA devices there are.
const DEVICES: &str = "/sys/class/infiniband";

/// Ports and GIDs that are looked at, so that a strange table ends.
const MOST: u32 = 1024;

/// An address in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host_port: String,
    device: Option<Device>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Device {
    name: String,
    port: Option<u32>,
    gid: Option<u32>,
}

impl Address {
    /// Takes `rdma:HOST:PORT` apart; the prefix may be missing.
    pub(super) fn parse(written: &str) -> Result<Self, TransportError> {
        let rest = written.strip_prefix("rdma:").unwrap_or(written).trim_start_matches("//");
        let bad = |why: &str| {
            TransportError::Unreachable(format!(
                "{written:?}: {why}; write HOST:PORT or HOST:PORT@DEVICE/PORT/GID, for example 192.0.2.1:7471@mlx5_0/1/3"
            ))
        };
        let Some((host_port, device)) = rest.split_once('@') else {
            return Ok(Self { host_port: rest.into(), device: None });
        };
        let mut parts = device.split('/');
        let name = parts.next().unwrap_or_default().to_owned();
        // It becomes a part of a path.
        if name.is_empty()
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
            || name.starts_with('.')
        {
            return Err(bad("that is no device's name"));
        }
        let mut number = |what: &str| match parts.next() {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| bad(&format!("{text:?} is no number of a {what}"))),
        };
        let (port, gid) = (number("port")?, number("GID")?);
        if parts.next().is_some() {
            return Err(bad("there is too much behind the device"));
        }
        Ok(Self { host_port: host_port.into(), device: Some(Device { name, port, gid }) })
    }

    /// The socket addresses of the server.
    pub(super) fn resolve(&self) -> Result<Vec<SocketAddr>, TransportError> {
        resolve(&self.host_port)
    }

    /// The address of the device to go by to `to`, if one was named.
    pub(super) fn source(&self, to: SocketAddr) -> Result<Option<SocketAddr>, TransportError> {
        self.device.as_ref().map(|device| device.source(Path::new(DEVICES), to)).transpose()
    }
}

impl Device {
    fn source(&self, devices: &Path, to: SocketAddr) -> Result<SocketAddr, TransportError> {
        let folder = devices.join(&self.name);
        if !folder.is_dir() {
            return Err(unusable(format!("there is no RDMA device {} here; this machine has {}", self.name, names(devices))));
        }
        let ports = self.port.map_or(1..MOST, |port| port..port.saturating_add(1));
        let mut why = format!("RDMA device {} has no such port or GID", self.name);
        for port in ports {
            let folder = folder.join("ports").join(port.to_string());
            if !folder.is_dir() {
                break;
            }
            let gids = self.gid.map_or(0..MOST, |gid| gid..gid.saturating_add(1));
            for gid in gids {
                match gid_address(&folder, gid, to) {
                    Ok(Some(address)) => return Ok(address),
                    Ok(None) => {}
                    Err(reason) if self.gid.is_some() => why = reason,
                    Err(_) => {}
                }
            }
        }
        Err(unusable(why))
    }
}

/// The address that a GID stands for. `None` if there is no such GID; an error says why it can't be used to reach `to`.
fn gid_address(port: &Path, index: u32, to: SocketAddr) -> Result<Option<SocketAddr>, String> {
    let read = |path: PathBuf| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let index = index.to_string();
    let Some(gid) = read(port.join("gids").join(&index)).and_then(|text| text.parse::<Ipv6Addr>().ok()) else { return Ok(None) };
    if gid.is_unspecified() {
        return Ok(None);
    }
    // An InfiniBand port has no types.
    let kind = read(port.join("gid_attrs/types").join(&index));
    if kind.as_deref().is_some_and(|kind| kind.contains("RoCE") && !kind.contains("v2")) {
        return Err(format!(
            "GID {index} is of RoCE v1, which doesn't cross routers and isn't what is used here; take one of RoCE v2"
        ));
    }
    match gid.to_ipv4_mapped() {
        Some(v4) if to.is_ipv4() => Ok(Some(SocketAddr::new(IpAddr::V4(v4), 0))),
        None if to.is_ipv6() => {
            let interface = read(port.join("gid_attrs/ndevs").join(&index));
            let scope = interface.and_then(|name| read(Path::new("/sys/class/net").join(name).join("ifindex")));
            let scope = scope.and_then(|index| index.parse().ok()).filter(|_| gid.is_unicast_link_local()).unwrap_or(0);
            Ok(Some(SocketAddrV6::new(gid, 0, 0, scope).into()))
        }
        _ => Err(format!("GID {index} stands for {gid}, from where {to} can't be reached")),
    }
}

/// Whether this machine has an RDMA device.
pub(in crate::transport) fn has_device() -> bool {
    fs::read_dir(DEVICES).is_ok_and(|mut devices| devices.next().is_some())
}

/// The devices of this machine, for a message.
fn names(devices: &Path) -> String {
    let mut names: Vec<_> = fs::read_dir(devices)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn unusable(why: String) -> TransportError {
    TransportError::Unreachable(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_people_write() {
        let device = |name: &str, port, gid| Some(Device { name: name.into(), port, gid });
        for (written, host_port, expected) in [
            ("rdma:h:7471", "h:7471", None),
            ("h:7471@mlx5_0", "h:7471", device("mlx5_0", None, None)),
            ("rdma://[fe80::1]:7471@rxe0/1", "[fe80::1]:7471", device("rxe0", Some(1), None)),
            ("rdma:h:7471@mlx5_bond.0/2/3", "h:7471", device("mlx5_bond.0", Some(2), Some(3))),
        ] {
            assert_eq!(Address::parse(written), Ok(Address { host_port: host_port.into(), device: expected }), "{written}");
        }
        for written in ["h:1@", "h:1@../x", "h:1@a/b", "h:1@a/1/x", "h:1@a/1/2/3", "h:1@..", "h:1@a/-1"] {
            assert!(Address::parse(written).expect_err(written).to_string().contains("HOST:PORT@DEVICE"), "{written}");
        }
    }

    /// A table of GIDs as a RoCE card has it: link-local and mapped addresses, each in both versions, and empty places.
    #[test]
    fn a_gid_stands_for_an_address() {
        let devices = tempfile::tempdir().expect("folder");
        let port = devices.path().join("mlx5_0/ports/1");
        for folder in ["gids", "gid_attrs/types", "gid_attrs/ndevs"] {
            fs::create_dir_all(port.join(folder)).expect("folder");
        }
        let gids = [
            ("fe80:0000:0000:0000:0000:00ff:fe00:0001", "IB/RoCE v1"),
            ("fe80:0000:0000:0000:0000:00ff:fe00:0001", "RoCE v2"),
            ("0000:0000:0000:0000:0000:ffff:c000:0201", "IB/RoCE v1"),
            ("0000:0000:0000:0000:0000:ffff:c000:0201", "RoCE v2"),
            ("0000:0000:0000:0000:0000:0000:0000:0000", ""),
        ];
        for (index, (gid, kind)) in gids.iter().enumerate() {
            fs::write(port.join(format!("gids/{index}")), format!("{gid}\n")).expect("gid");
            fs::write(port.join(format!("gid_attrs/types/{index}")), format!("{kind}\n")).expect("type");
        }
        let to = SocketAddr::from(([192, 0, 2, 9], 7471));
        let source =
            |port, gid| Device { name: "mlx5_0".into(), port, gid }.source(devices.path(), to).map_err(|error| error.to_string());
        let found = Ok(SocketAddr::from(([192, 0, 2, 1], 0)));
        assert_eq!(source(None, None), found);
        assert_eq!(source(Some(1), None), found);
        assert_eq!(source(Some(1), Some(3)), found);
        assert!(source(Some(1), Some(2)).expect_err("v1").contains("RoCE v1"));
        assert!(source(Some(1), Some(1)).expect_err("v6").contains("can't be reached"));
        assert!(source(Some(1), Some(4)).expect_err("empty").contains("no such port or GID"));
        assert!(source(Some(2), None).expect_err("port").contains("no such port"));
        let elsewhere = Device { name: "mlx5_1".into(), port: None, gid: None }.source(devices.path(), to);
        assert!(elsewhere.expect_err("device").to_string().contains("this machine has mlx5_0"));
    }
}
