//! What a server tells who asks: who it is, and by which ways beside the one it was asked by it lends.
#![forbid(unsafe_code)]

use super::frame::{get, put};
use super::{Ending, MAGIC, VERSION};
use std::ffi::OsStr;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes of the frame.
pub const OFFERS_BYTES: usize = 160;

/// Most bytes of a socket's path: what the system's address of one has room for.
pub const MAX_PATH_BYTES: usize = 107;

const IDENTITY_AT: usize = 16;
const ADDRESS_AT: usize = 32;
const PORT_AT: usize = 48;
const LEN_AT: usize = 50;
const PATH_AT: usize = 52;

/// Who a server is: random, and the same for as long as it runs. It tells servers apart that mean no harm, and is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(pub [u8; 16]);

/// Where a server can be reached by RDMA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RdmaPlace {
    /// The address of a device; `None` for the address at which the server is known already, because it listens at all it has.
    pub host: Option<IpAddr>,
    /// The port.
    pub port: NonZeroU16,
}

/// Ways to a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ways {
    unix: Option<PathBuf>,
    rdma: Option<RdmaPlace>,
}

impl Ways {
    /// By a Unix socket and by RDMA, or by one of these, or none. A path that isn't whole, or for which a socket's address has no room, leads nowhere and is left out.
    pub fn new(unix: Option<&Path>, rdma: Option<SocketAddr>) -> Self {
        let unix = unix.filter(|path| is_path(path.as_os_str().as_bytes())).map(Path::to_path_buf);
        let rdma = rdma.and_then(|address| {
            let host = Some(address.ip().to_canonical()).filter(|host| !host.is_unspecified());
            Some(RdmaPlace { host, port: NonZeroU16::new(address.port())? })
        });
        Self { unix, rdma }
    }

    /// The Unix socket's path: whole, and short enough for a socket.
    pub fn unix(&self) -> Option<&Path> {
        self.unix.as_deref()
    }

    /// Where it listens for RDMA.
    pub fn rdma(&self) -> Option<RdmaPlace> {
        self.rdma
    }
}

/// A server's answer to who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offers {
    /// Who it is.
    pub identity: Identity,
    /// By which ways it lends.
    pub ways: Ways,
}

/// Whether a Unix socket can have this path, wherever the program runs that connects to it.
fn is_path(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'/') && bytes.len() <= MAX_PATH_BYTES && !bytes.contains(&0)
}

/// Writes an offers frame.
pub fn encode_offers(offers: &Offers) -> [u8; OFFERS_BYTES] {
    let mut bytes = [0; OFFERS_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    put(&mut bytes, 8, VERSION);
    put(&mut bytes, 12, u32::from(Ending::Told.code()));
    bytes[IDENTITY_AT..ADDRESS_AT].copy_from_slice(&offers.identity.0);
    if let Some(place) = offers.ways.rdma {
        let host = match place.host {
            Some(IpAddr::V4(host)) => host.to_ipv6_mapped(),
            Some(IpAddr::V6(host)) => host,
            None => Ipv6Addr::UNSPECIFIED,
        };
        bytes[ADDRESS_AT..PORT_AT].copy_from_slice(&host.octets());
        bytes[PORT_AT..LEN_AT].copy_from_slice(&place.port.get().to_le_bytes());
    }
    if let Some(path) = &offers.ways.unix {
        let path = path.as_os_str().as_bytes();
        bytes[LEN_AT..PATH_AT].copy_from_slice(&(path.len() as u16).to_le_bytes());
        bytes[PATH_AT..PATH_AT + path.len()].copy_from_slice(path);
    }
    bytes
}

/// Reads an offers frame. `None` if it is none, or says what can't be.
pub fn decode_offers(bytes: &[u8; OFFERS_BYTES]) -> Option<Offers> {
    if bytes[..8] != MAGIC || get(bytes, 8) != VERSION || get(bytes, 12) != u32::from(Ending::Told.code()) {
        return None;
    }
    let identity = Identity(bytes[IDENTITY_AT..ADDRESS_AT].try_into().ok()?);
    let host = Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[ADDRESS_AT..PORT_AT]).ok()?);
    let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let rdma = match (NonZeroU16::new(short(PORT_AT)), host.is_unspecified(), IpAddr::V6(host).to_canonical()) {
        (None, true, _) => None,
        (Some(port), true, _) => Some(RdmaPlace { host: None, port }),
        (Some(port), false, host) if !host.is_unspecified() => Some(RdmaPlace { host: Some(host), port }),
        _ => return None,
    };
    let len = usize::from(short(LEN_AT));
    if len > MAX_PATH_BYTES {
        return None;
    }
    let (path, rest) = bytes[PATH_AT..].split_at(len);
    if rest.iter().any(|byte| *byte != 0) || !(path.is_empty() || is_path(path)) {
        return None;
    }
    // Not text: the system's paths needn't be.
    let unix = Some(path).filter(|path| !path.is_empty()).map(|path| PathBuf::from(OsStr::from_bytes(path)));
    Some(Offers { identity, ways: Ways { unix, rdma } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offers(unix: Option<&[u8]>, rdma: Option<&str>) -> Offers {
        let unix = unix.map(|path| Path::new(OsStr::from_bytes(path)));
        Offers { identity: Identity([7; 16]), ways: Ways::new(unix, rdma.map(|address| address.parse().expect("an address"))) }
    }

    proptest! {
        #[test]
        fn offers_survive_the_wire(
            identity: [u8; 16],
            path in prop::option::of(prop::collection::vec(1u8.., 0..MAX_PATH_BYTES)),
            host: Option<[u8; 16]>,
            is_v4: bool,
            port: u16,
        ) {
            let path = path.map(|rest| [b"/", &rest[..]].concat());
            let host = host.map_or(Ipv6Addr::UNSPECIFIED.into(), |host| match host {
                [a, b, c, d, ..] if is_v4 => IpAddr::from([a, b, c, d]),
                host => IpAddr::from(host),
            });
            let ways = Ways::new(path.as_deref().map(|path| Path::new(OsStr::from_bytes(path))), Some(SocketAddr::new(host, port)));
            prop_assert_eq!(ways.unix().map(|path| path.as_os_str().as_bytes()), path.as_deref());
            let told = Offers { identity: Identity(identity), ways };
            prop_assert_eq!(decode_offers(&encode_offers(&told)), Some(told));
        }

        #[test]
        fn offers_that_decode_are_what_was_encoded(mut bytes: [u8; OFFERS_BYTES], head: bool, len in 0u16..130, zero: bool) {
            if head {
                bytes[..16].copy_from_slice(&encode_offers(&offers(None, None))[..16]);
                bytes[LEN_AT..PATH_AT].copy_from_slice(&len.to_le_bytes());
                bytes[PATH_AT] = b'/';
                let behind = (PATH_AT + usize::from(len)).min(OFFERS_BYTES);
                bytes[behind..].fill(u8::from(!zero));
            }
            if let Some(told) = decode_offers(&bytes) {
                prop_assert_eq!(encode_offers(&told), bytes);
            }
        }
    }

    /// As for the other frames: every field is read, what must be zero is, and no two frames say the same.
    #[test]
    fn every_bit_of_an_offers_frame_counts() {
        let longest = [b"/", &[b'x'; MAX_PATH_BYTES - 1][..]].concat();
        for (unix, rdma) in [
            (None, None),
            (Some(&b"/run/farmemd"[..]), None),
            (None, Some("192.0.2.1:7471")),
            (Some(&longest[..]), Some("[2001:db8::1]:1")),
            (Some(&b"/"[..]), Some("0.0.0.0:7471")),
        ] {
            let told = offers(unix, rdma);
            let bytes = encode_offers(&told);
            assert_eq!(decode_offers(&bytes).as_ref(), Some(&told));
            for bit in 0..OFFERS_BYTES * 8 {
                let mut bytes = bytes;
                bytes[bit / 8] ^= 1 << (bit % 8);
                let other = decode_offers(&bytes);
                assert!(other.is_none_or(|other| encode_offers(&other) == bytes), "bit {bit} of {told:?}");
            }
        }
    }

    #[test]
    fn offers_that_can_not_be_are_none() {
        let good = encode_offers(&offers(Some(b"/run/farmemd"), Some("192.0.2.1:7471")));
        let with = |at: usize, new: &[u8]| {
            let mut bytes = good;
            bytes[at..at + new.len()].copy_from_slice(new);
            decode_offers(&bytes)
        };
        assert!(with(0, b"F").is_some());
        for (what, at, new) in [
            ("a path that no socket has room for", LEN_AT, &[108, 0][..]),
            ("a path longer than the frame", LEN_AT, &[0xff, 0xff]),
            ("bytes behind the path", LEN_AT, &[11, 0]),
            ("a zero in the path", LEN_AT, &[13, 0]),
            ("a path from wherever the program happens to be", PATH_AT, b"r"),
            ("an address without a port", PORT_AT, &[0, 0]),
            ("the unspecified address of IPv4", PORT_AT - 4, &[0; 4]),
        ] {
            assert_eq!(with(at, new), None, "{what}");
        }
    }

    #[test]
    fn what_leads_nowhere_is_not_offered() {
        for path in [&b"farmemd"[..], b"", b"/a\0b", &[b'/'; MAX_PATH_BYTES + 1]] {
            assert_eq!(offers(Some(path), None).ways, Ways::default(), "{path:?}");
        }
        assert_eq!(offers(None, Some("192.0.2.1:0")).ways, Ways::default());
        for anywhere in ["0.0.0.0:7471", "[::]:7471"] {
            assert_eq!(offers(None, Some(anywhere)).ways.rdma().map(|place| place.host), Some(None), "{anywhere}");
        }
    }
}
