//! From text to values. Each error says what was expected, with an example; the caller adds where the text was.

use super::{Given, ServerAddr};
use farptr_runtime::Result;
use farptr_runtime::bytes::parse_size;
use farptr_runtime::transport::auto::with_port;
use std::time::Duration;

/// A size in bytes: `64MiB`, `1.5 GiB`, `500MB`, `1048576`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    parse_size(text).map_err(|_| format!("`{text}` is not a size; write it like \"64MiB\", \"1.5GiB\" or 1048576 (bytes)"))
}

/// A small whole number.
pub(super) fn count(text: &str) -> Result<usize, String> {
    text.trim().parse().map_err(|_| format!("`{text}` is not a whole number, like 0 or 4"))
}

/// A length of time: `500ms`, `5s`, `1m 30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .map_err(|_| format!("`{text}` is not a length of time; write it like \"500ms\" or \"5s\""))
}

/// Servers, each given on its own.
pub(super) fn servers(given: Vec<Given<String>>) -> Result<Vec<Given<ServerAddr>>> {
    given.into_iter().map(|one| one.try_map(|text| server(&text))).collect()
}

/// `embedded:`, `auto:HOST`, `tcp:HOST:PORT`, `unix:PATH` or `rdma:HOST:PORT`.
pub(super) fn server(text: &str) -> Result<ServerAddr, String> {
    const FORMS: &str = "write `auto:HOST`, `tcp:HOST:PORT`, `unix:PATH`, `rdma:HOST:PORT` or `embedded:`";
    let text = text.trim();
    match text.split_once(':') {
        Some(("embedded", "")) => Ok(ServerAddr::Embedded),
        None if text == "embedded" => Ok(ServerAddr::Embedded),
        Some(("tcp", host_port)) => {
            host_and_port(host_port)
                .map_err(|problem| format!("server `{text}`: {problem}; write it like tcp:127.0.0.1:7070"))?;
            Ok(ServerAddr::Tcp(host_port.to_owned()))
        }
        Some(("unix", path)) => {
            socket_path(path).map_err(|problem| format!("server `{text}`: {problem}; write it like unix:/run/farmemd.sock"))?;
            Ok(ServerAddr::Unix(path.into()))
        }
        Some(("auto", address)) => {
            let host_port = with_port(address);
            host_and_port(&host_port)
                .map_err(|problem| format!("server `{text}`: {problem}; write it like auto:192.0.2.1 or auto:192.0.2.1:7070"))?;
            Ok(ServerAddr::Auto(host_port))
        }
        _ if host_and_port(text).is_ok() => Err(format!("server `{text}` names no transport; write `tcp:{text}`")),
        Some(("shm", _)) => {
            Err(format!("server `{text}` names no transport; memory of this machine is lent at a socket: write `unix:PATH`"))
        }
        Some(("rdma", address)) => {
            rdma_address(address).map_err(|problem| {
                format!("server `{text}`: {problem}; write it like rdma:192.0.2.1:7471 or rdma:192.0.2.1:7471@mlx5_0/1/3")
            })?;
            by_rdma(text, address)
        }
        _ => Err(format!("`{text}` is not a server's address; {FORMS}")),
    }
}

/// Checks the path of a socket.
fn socket_path(path: &str) -> Result<(), String> {
    /// What the system's address of a socket has room for.
    const MAX_BYTES: usize = 107;
    if path.is_empty() {
        return Err("the path is missing".into());
    }
    if path.len() > MAX_BYTES {
        return Err(format!("the path has {} bytes, and a socket's can have {MAX_BYTES}", path.len()));
    }
    // A comma would be two servers in the environment's list.
    if path.chars().any(|c| c.is_control() || c == ',') || path.trim() != path {
        return Err("a socket's path here has no commas, no line breaks and no spaces at its ends".into());
    }
    Ok(())
}

#[cfg(feature = "rdma")]
fn by_rdma(_text: &str, address: &str) -> Result<ServerAddr, String> {
    Ok(ServerAddr::Rdma(address.to_owned()))
}

#[cfg(not(feature = "rdma"))]
fn by_rdma(text: &str, _address: &str) -> Result<ServerAddr, String> {
    Err(format!(
        "server `{text}`: this program was built without RDMA; build it with farptr's feature `rdma` (which wants libibverbs-dev and \
         librdmacm-dev), or write another of its server's addresses, like `tcp:HOST:PORT`"
    ))
}

/// Checks the form of `HOST:PORT[@DEVICE[/PORT[/GID]]]`. Whether this machine has such a device turns out when it is used.
fn rdma_address(text: &str) -> Result<(), &'static str> {
    let (host_port, device) = match text.split_once('@') {
        Some((host_port, device)) => (host_port, Some(device)),
        None => (text, None),
    };
    host_and_port(host_port)?;
    let Some(device) = device else { return Ok(()) };
    let mut parts = device.split('/');
    let name = parts.next().unwrap_or_default();
    // It becomes a part of a path.
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    if name.is_empty() || name.starts_with('.') || !is_plain {
        return Err("what stands behind the `@` is no device's name");
    }
    match (parts.next().map(str::parse::<u32>), parts.next().map(str::parse::<u32>), parts.next()) {
        (None | Some(Ok(_)), None | Some(Ok(_)), None) => Ok(()),
        (Some(Err(_)), ..) => Err("a device's port is a number"),
        (_, Some(Err(_)), _) => Err("the index of a GID is a number"),
        (_, _, Some(_)) => Err("there is too much behind the device"),
    }
}

/// Checks the form of `HOST:PORT`; an IPv6 address stands in brackets. Whether the host exists turns out when it is connected to.
fn host_and_port(text: &str) -> Result<(), &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("the port is missing")?;
    match port.parse::<u16>() {
        Ok(0) => return Err("port 0 can't be connected to"),
        Ok(_) => {}
        Err(_) => return Err("the port is not a number from 1 to 65535"),
    }
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => Ok(()),
        Some(_) => Err("what is in brackets is not an IPv6 address"),
        None if host.contains(':') => Err("an IPv6 address must stand in brackets"),
        None if host.is_empty() => Err("the host is missing"),
        // Letters of any script, since the resolver decides; but no list, no path, and nothing that can't be seen.
        None if host.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_')) => Ok(()),
        None => Err("the host is not a name or an address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size(" 1.5 GiB "), Ok(3 << 29));
        assert_eq!(size("500MB"), Ok(500_000_000));
        assert_eq!(size("1048576"), Ok(1 << 20));
        for wrong in ["", "lots", "-1", "64 apples", "25%", "MiB"] {
            let problem = size(wrong).unwrap_err();
            assert!(problem.contains(&format!("`{wrong}`")) && problem.contains("64MiB"), "{problem}");
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert!(duration("5").is_err(), "a number without a unit could be anything");
        assert!(duration("-5s").is_err());
    }

    #[test]
    fn servers_have_a_transport_a_host_and_a_port() {
        assert_eq!(server("embedded:"), Ok(ServerAddr::Embedded));
        assert_eq!(server("embedded"), Ok(ServerAddr::Embedded));
        for good in ["127.0.0.1:7070", "[::1]:1", "memory.example.org:65535"] {
            assert_eq!(server(&format!("tcp:{good}")), Ok(ServerAddr::Tcp(good.into())));
            assert_eq!(server(good).unwrap_err(), format!("server `{good}` names no transport; write `tcp:{good}`"));
        }
        for path in ["/run/farmemd.sock", "farmemd", "/a path: with/[odd] characters"] {
            assert_eq!(server(&format!("unix:{path}")), Ok(ServerAddr::Unix(path.into())));
        }
    }

    #[test]
    fn a_server_whose_ways_are_to_be_found_needs_no_port() {
        for (given, meant) in [
            ("memory", "memory:7070"),
            ("192.0.2.1:7071", "192.0.2.1:7071"),
            ("[2001:db8::1]", "[2001:db8::1]:7070"),
            ("[2001:db8::1]:1", "[2001:db8::1]:1"),
        ] {
            let found = server(&format!("auto:{given}")).expect(given);
            assert_eq!(found, ServerAddr::Auto(meant.into()));
            assert_eq!(server(&found.to_string()), Ok(found), "written down it is the same");
        }
    }

    #[test]
    fn rdma_is_for_programs_that_were_built_with_it() {
        for good in ["192.0.2.1:7471", "[fe80::1]:7471@rxe0", "memory:7471@mlx5_bond.0/2", "memory:7471@mlx5_0/1/3"] {
            let taken = server(&format!("rdma:{good}"));
            #[cfg(feature = "rdma")]
            assert_eq!(taken, Ok(ServerAddr::Rdma(good.into())));
            #[cfg(not(feature = "rdma"))]
            assert!(taken.is_err_and(|said| said.contains("feature `rdma`") && said.contains("librdmacm-dev")), "{good}");
        }
    }

    #[test]
    fn a_wrong_address_is_told_what_is_wrong_with_it() {
        for (address, problem) in [
            ("tcp:127.0.0.1", "the port is missing"),
            ("tcp:127.0.0.1:0", "port 0 can't be connected to"),
            ("tcp:127.0.0.1:70707", "the port is not a number from 1 to 65535"),
            ("tcp:127.0.0.1:http", "the port is not a number from 1 to 65535"),
            ("tcp::7070", "the host is missing"),
            ("tcp:::1:7070", "an IPv6 address must stand in brackets"),
            ("tcp:[one]:7070", "what is in brackets is not an IPv6 address"),
            ("tcp://127.0.0.1:7070", "the host is not a name or an address"),
            ("tcp:one,two:7070", "the host is not a name or an address"),
            ("tcp:one\u{200b}:7070", "the host is not a name or an address"),
            ("shm:/run/farmemd", "write `unix:PATH`"),
            ("auto:", "the host is missing"),
            ("auto:::1", "an IPv6 address must stand in brackets"),
            ("auto:host:0", "port 0 can't be connected to"),
            ("auto:host:", "the port is not a number"),
            ("auto://host", "the host is not a name or an address"),
            ("auto:/run/farmemd", "the host is not a name or an address"),
            ("rdma:host", "the port is missing"),
            ("rdma:host:7471@", "is no device's name"),
            ("rdma:host:7471@../uverbs0", "is no device's name"),
            ("rdma:host:7471@mlx5_0/one", "a device's port is a number"),
            ("rdma:host:7471@mlx5_0/1/-3", "the index of a GID is a number"),
            ("rdma:host:7471@mlx5_0/1/3/4", "too much behind the device"),
            ("unix:", "the path is missing"),
            ("unix:/run/a,unix:/run/b", "no commas"),
            ("unix: /run/farmemd", "no spaces at its ends"),
            (&format!("unix:/{}", "x".repeat(107)), "can have 107"),
            ("", "is not a server's address"),
            ("embedded:please", "is not a server's address"),
        ] {
            let said = server(address).unwrap_err();
            assert!(said.contains(problem) && said.contains("write"), "{address:?}: {said}");
        }
    }
}
