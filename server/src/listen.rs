//! Where borrowers find a daemon.
#![forbid(unsafe_code)]

use crate::config::{Config, StartError};
use crate::stream::Listener;
use mio::net::{TcpListener, UnixListener};
use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// An address to borrow from, as borrowers write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `tcp:HOST:PORT`
    Tcp(SocketAddr),
    /// `unix:PATH`
    Unix(PathBuf),
    /// `rdma:HOST:PORT`
    Rdma(SocketAddr),
}

impl Address {
    pub(crate) fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) | Address::Rdma(_) => None,
        }
    }

    pub(crate) fn rdma(&self) -> Option<SocketAddr> {
        match self {
            Address::Rdma(address) => Some(*address),
            Address::Unix(_) | Address::Tcp(_) => None,
        }
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Address::Unix(path) => Some(path),
            Address::Tcp(_) | Address::Rdma(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "tcp:{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Rdma(address) => write!(f, "rdma:{address}"),
        }
    }
}

/// The name of a socket in the file system, which goes with the daemon.
#[derive(Debug)]
pub(crate) struct Name {
    path: PathBuf,
    /// Of the file that was made: another daemon may have taken the name since.
    inode: u64,
}

impl Drop for Name {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the socket can't be removed");
        }
    }
}

/// Connections that wait to be accepted, at most, if the system allows that many (`net.core.somaxconn`): as many as the daemon serves may come at once. More than 65,535 no system has.
fn backlog(max_connections: usize) -> i32 {
    i32::from(u16::try_from(max_connections).unwrap_or(u16::MAX))
}

/// Listens at the first address that `listen` stands for and that can be listened at.
pub(crate) fn tcp(listen: &str, max_connections: usize) -> Result<(Listener, Address), StartError> {
    let mut last = None;
    for address in Config::addresses(listen)? {
        match TcpListener::bind(address) {
            Ok(listener) => {
                rustix::net::listen(&listener, backlog(max_connections)).map_err(io::Error::from)?;
                let address = Address::Tcp(listener.local_addr()?);
                return Ok((Listener::Tcp(listener), address));
            }
            Err(error) => last = Some(error),
        }
    }
    Err(match last {
        Some(error) if error.kind() == ErrorKind::AddrInUse => StartError::PortInUse(listen.into()),
        Some(error) => StartError::Address { given: listen.into(), why: error.to_string() },
        None => StartError::Address { given: listen.into(), why: "the host has no address".into() },
    })
}

/// Listens for RDMA at the first address that `listen` stands for and that can be listened at.
#[cfg(feature = "rdma")]
pub(crate) fn rdma(listen: &str, max_connections: usize) -> Result<(Listener, Address), StartError> {
    use farptr_runtime::transport::rdma::{Domains, RdmaListener};
    let bad = |why: String| StartError::Rdma { given: listen.into(), why };
    let mut last = bad("the host has no address".into());
    for address in Config::addresses(listen)? {
        let domains = std::sync::Arc::<Domains>::default();
        match RdmaListener::bind(address, backlog(max_connections), domains.clone()) {
            Ok(listener) => {
                let address = Address::Rdma(listener.local_address().unwrap_or(address));
                return Ok((Listener::Rdma(listener, domains), address));
            }
            Err(error) => last = bad(error.to_string()),
        }
    }
    Err(last)
}

/// Listens at a socket of this name, which is made; one that a daemon has left behind is replaced.
pub(crate) fn unix(path: &Path, mode: u32, max_connections: usize) -> Result<(Listener, Address, Name), StartError> {
    let bad = |why: String| StartError::Path { path: path.into(), why };
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(bad("there is something else of this name".into()));
        }
        match UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(|error| bad(error.to_string()))?;
            }
            Ok(_) => return Err(bad("another program listens there".into())),
            Err(error) => return Err(bad(error.to_string())),
        }
    }
    let made = || -> io::Result<_> {
        let listener = UnixListener::bind(path)?;
        rustix::net::listen(&listener, backlog(max_connections))?;
        let name = Name { path: path.into(), inode: fs::symlink_metadata(path)?.ino() };
        // Whoever may write to the socket may connect. Before this, only its user could, unless the process's mask lets others write.
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        Ok((listener, name))
    };
    let (listener, name) = made().map_err(|error| bad(error.to_string()))?;
    // A borrower may run in another folder.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.into());
    Ok((Listener::Unix(listener), Address::Unix(path), name))
}
