//! A server's address, as people write it.
#![forbid(unsafe_code)]

use crate::error::TransportError;
use std::net::{SocketAddr, ToSocketAddrs};

/// `HOST:PORT`, or the same with `tcp:` before it, without the prefix.
pub(super) fn without_scheme(written: &str) -> &str {
    written.strip_prefix("tcp:").unwrap_or(written).trim_start_matches("//")
}

/// The socket addresses that `HOST:PORT` stands for; at least one. Asks the system's resolver, which has a timeout of its own.
pub(in crate::transport) fn resolve(written: &str) -> Result<Vec<SocketAddr>, TransportError> {
    let address = without_scheme(written);
    let malformed = match address.rsplit_once(':') {
        Some((host, port)) => host.is_empty() || port.parse::<u16>().is_err(),
        None => true,
    };
    if malformed {
        return Err(TransportError::Unreachable(format!(
            "{written:?} is no address; write HOST:PORT, for example 127.0.0.1:7070"
        )));
    }
    let found: Vec<_> = address
        .to_socket_addrs()
        .map_err(|error| TransportError::Unreachable(format!("no address for {address}: {error}")))?
        .collect();
    if found.is_empty() {
        return Err(TransportError::Unreachable(format!("no address for {address}")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_people_write() {
        for written in ["127.0.0.1:7070", "tcp:127.0.0.1:7070", "tcp://127.0.0.1:7070"] {
            assert_eq!(resolve(written), Ok(vec![SocketAddr::from(([127, 0, 0, 1], 7070))]));
        }
        assert_eq!(resolve("[::1]:7070").map(|found| found.len()), Ok(1));
    }

    #[test]
    fn what_is_no_address_is_told_how_one_looks() {
        for written in ["", "7070", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70700", ":7070", "host:port"] {
            let error = resolve(written).expect_err(written).to_string();
            assert!(error.contains("HOST:PORT"), "{written:?}: {error}");
        }
    }
}
