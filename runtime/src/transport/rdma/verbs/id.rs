//! Identifiers of the connection manager (`rdma_cm_id`), and its events.

use super::{check, last_error, set_nonblocking};
use rdma_sys::{
    ibv_context, rdma_ack_cm_event, rdma_bind_addr, rdma_cm_event_type as kind, rdma_cm_id, rdma_create_event_channel,
    rdma_create_id, rdma_destroy_event_channel, rdma_destroy_id, rdma_event_channel, rdma_get_cm_event, rdma_listen,
    rdma_migrate_id, rdma_port_space, rdma_reject, rdma_resolve_addr, rdma_resolve_route, rdma_set_option,
};
use socket2::SockAddr;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::time::Duration;

/// Events that wait to be asked for. Destroyed when dropped, which closes its file descriptor.
#[derive(Debug)]
struct Channel(NonNull<rdma_event_channel>);

// SAFETY: the library's calls on a channel may be made by any thread; the value is the only owner.
unsafe impl Send for Channel {}
impl Channel {
    fn new() -> io::Result<Self> {
        // SAFETY: takes no arguments; null is an error.
        let raw = unsafe { rdma_create_event_channel() };
        let channel = Self(NonNull::new(raw).ok_or_else(|| last_error("no connection manager for RDMA"))?);
        set_nonblocking(channel.as_fd())?;
        Ok(channel)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel exists until `self` is dropped, and its descriptor is open as long; it is borrowed from `self`.
        unsafe { BorrowedFd::borrow_raw(self.0.as_ref().fd) }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // SAFETY: made by `rdma_create_event_channel`, destroyed once; `Id`, its only user, has destroyed its identifier before (field order).
        unsafe { rdma_destroy_event_channel(self.0.as_ptr()) };
    }
}

/// What happened to a connection.
#[derive(Debug)]
pub(in crate::transport::rdma) enum Event {
    /// The address is known, and with it the device.
    AddressResolved,
    /// So is the way there.
    RouteResolved,
    /// Somebody wants a connection, and says this with the request. The answer is by this identifier.
    Request(Id, Vec<u8>),
    /// The connection stands; the other end said this with its answer.
    Established(Vec<u8>),
    /// The other end doesn't want the connection, and says why.
    Rejected(Vec<u8>),
    /// Nobody listens at that port.
    NobodyThere,
    /// A step failed.
    Failed(String),
    /// The other end has ended it, or is gone.
    Disconnected,
    /// Nothing that matters here.
    Other,
}

/// Reject reason of the InfiniBand specification: the program at the other end said no, and the private data is its own.
const BY_CONSUMER: i32 = 28;
/// Reject reason: no such service, which is how a port that nobody listens at looks.
const NO_SUCH_SERVICE: i32 = 8;

/// One end of a connection, or a listener. Destroyed when dropped.
#[derive(Debug)]
pub(in crate::transport::rdma) struct Id {
    raw: NonNull<rdma_cm_id>,
    /// Dropped after the identifier (`Drop`).
    channel: Channel,
}

// SAFETY: the library's calls on an identifier may be made by any thread; the value is its only owner.
unsafe impl Send for Id {}
impl Id {
    /// A new one, bound to nothing.
    pub(in crate::transport::rdma) fn new() -> io::Result<Self> {
        let channel = Channel::new()?;
        let mut raw = ptr::null_mut();
        // SAFETY: the channel exists; `raw` is room for the result.
        let made = unsafe { rdma_create_id(channel.0.as_ptr(), &mut raw, ptr::null_mut(), rdma_port_space::RDMA_PS_TCP) };
        check("no identifier of a connection", made)?;
        let raw = NonNull::new(raw).ok_or_else(|| io::Error::other("no identifier of a connection"))?;
        Ok(Self { raw, channel })
    }

    /// Binds it to the device that has this address; port 0 takes any.
    pub(in crate::transport::rdma) fn bind(&self, address: SocketAddr) -> io::Result<()> {
        let address = SockAddr::from(address);
        // SAFETY: the identifier exists; the address is a whole one, and is only read.
        check("no RDMA device has this address", unsafe { rdma_bind_addr(self.raw(), address.as_ptr().cast_mut().cast()) })
    }

    /// Takes requests at the address that it is bound to.
    pub(in crate::transport::rdma) fn listen(&self, backlog: i32) -> io::Result<()> {
        // SAFETY: the identifier exists.
        check("can't listen", unsafe { rdma_listen(self.raw(), backlog) })
    }

    /// Begins to look for the device by which `to` is reached, from the address `from` if one is given.
    pub(in crate::transport::rdma) fn resolve_address(
        &self,
        from: Option<SocketAddr>,
        to: SocketAddr,
        within: Duration,
    ) -> io::Result<()> {
        let (from, to) = (from.map(SockAddr::from), SockAddr::from(to));
        let from = from.as_ref().map_or(ptr::null_mut(), |from| from.as_ptr().cast_mut().cast());
        // SAFETY: the identifier exists; the addresses are whole (or null, which is allowed for the source) and only read.
        let begun = unsafe { rdma_resolve_addr(self.raw(), from, to.as_ptr().cast_mut().cast(), millis(within)) };
        check("no RDMA device leads there", begun)
    }

    /// Begins to look for the way there.
    pub(in crate::transport::rdma) fn resolve_route(&self, within: Duration) -> io::Result<()> {
        // SAFETY: the identifier exists.
        check("no way there", unsafe { rdma_resolve_route(self.raw(), millis(within)) })
    }

    /// Says no to a request, with up to 148 bytes of reason.
    pub(in crate::transport::rdma) fn reject(&self, reason: &[u8]) -> io::Result<()> {
        let len = u8::try_from(reason.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the identifier exists; `reason` is valid for `len` bytes, which are copied.
        check("can't reject a connection", unsafe { rdma_reject(self.raw(), reason.as_ptr().cast(), len) })
    }

    /// How long the device waits for an acknowledgement before it sends again: the next shorter of 4.096 us times a power of two. A kernel before 5.1 keeps its own.
    pub(in crate::transport::rdma) fn set_ack_timeout(&self, timeout: Duration) {
        /// `RDMA_OPTION_ID` and `RDMA_OPTION_ID_ACK_TIMEOUT` of rdma_cma.h.
        const LEVEL: i32 = 0;
        const ACK_TIMEOUT: i32 = 3;
        let mut exponent = ((timeout.as_micros() / 4).max(1).ilog2() as u8).clamp(8, 31);
        // SAFETY: the identifier exists; the option takes one byte, which is valid and only read.
        let _ = unsafe { rdma_set_option(self.raw(), LEVEL, ACK_TIMEOUT, (&raw mut exponent).cast(), 1) };
    }

    /// The next event, if there is one.
    pub(in crate::transport::rdma) fn next_event(&self) -> io::Result<Option<Event>> {
        let mut event = ptr::null_mut();
        // SAFETY: the channel exists; `event` is room for the result.
        if unsafe { rdma_get_cm_event(self.channel.0.as_ptr(), &mut event) } != 0 {
            let error = io::Error::last_os_error();
            let nothing = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            return if nothing { Ok(None) } else { Err(error) };
        }
        // SAFETY: the call succeeded, so `event` points to an event, which is the library's and stays until it is acknowledged below.
        let (what, status, child, said) = unsafe {
            let event = &*event;
            // The private data is that of a connection: the port space is RDMA_PS_TCP, which has no datagrams.
            let conn = event.param.conn;
            let said = if conn.private_data.is_null() {
                Vec::new()
            } else {
                std::slice::from_raw_parts(conn.private_data.cast::<u8>(), conn.private_data_len.into()).to_vec()
            };
            (event.event, event.status, event.id, said)
        };
        // SAFETY: the event came from `rdma_get_cm_event` and is acknowledged once; nothing of it is used afterwards. Before anything is destroyed:
        // destroying an identifier waits for its events.
        unsafe { rdma_ack_cm_event(event) };
        Ok(Some(match what {
            kind::RDMA_CM_EVENT_ADDR_RESOLVED => Event::AddressResolved,
            kind::RDMA_CM_EVENT_ROUTE_RESOLVED => Event::RouteResolved,
            kind::RDMA_CM_EVENT_ESTABLISHED => Event::Established(said),
            kind::RDMA_CM_EVENT_REJECTED if status == BY_CONSUMER => Event::Rejected(said),
            kind::RDMA_CM_EVENT_REJECTED if status == NO_SUCH_SERVICE => Event::NobodyThere,
            kind::RDMA_CM_EVENT_REJECTED => Event::Failed(format!("the connection was rejected (reason {status})")),
            kind::RDMA_CM_EVENT_DISCONNECTED | kind::RDMA_CM_EVENT_DEVICE_REMOVAL => Event::Disconnected,
            kind::RDMA_CM_EVENT_CONNECT_REQUEST => match NonNull::new(child) {
                Some(child) => Event::Request(Self::of_request(child)?, said),
                None => Event::Other,
            },
            kind::RDMA_CM_EVENT_ADDR_ERROR => Event::Failed(step_failed("no RDMA device leads there", status)),
            kind::RDMA_CM_EVENT_ROUTE_ERROR => Event::Failed(step_failed("no way there", status)),
            kind::RDMA_CM_EVENT_CONNECT_ERROR => Event::Failed(step_failed("the connection failed", status)),
            kind::RDMA_CM_EVENT_UNREACHABLE => Event::Failed(step_failed("no answer", status)),
            _ => Event::Other,
        }))
    }

    /// Takes over the identifier that came with a request, and gives it a channel of its own.
    fn of_request(raw: NonNull<rdma_cm_id>) -> io::Result<Self> {
        let owned = Channel::new().and_then(|channel| {
            // SAFETY: the identifier came with a request, whose event has been acknowledged, and nobody else knows it; the channel exists.
            check("can't take a connection over", unsafe { rdma_migrate_id(raw.as_ptr(), channel.0.as_ptr()) })?;
            Ok(Self { raw, channel })
        });
        owned.inspect_err(|_| {
            // SAFETY: it is this function's, has no queue pair, and is not used again.
            unsafe { rdma_destroy_id(raw.as_ptr()) };
        })
    }

    /// The device that it is bound to.
    pub(super) fn device(&self) -> io::Result<NonNull<ibv_context>> {
        // SAFETY: the identifier exists; the field is set when it is bound, by the thread that asks for events, which is this one or came before it.
        let verbs = unsafe { self.raw.as_ref() }.verbs;
        NonNull::new(verbs).ok_or_else(|| io::Error::other("the connection has no RDMA device yet"))
    }

    /// This end's address.
    pub(in crate::transport::rdma) fn local_address(&self) -> Option<SocketAddr> {
        // SAFETY: the identifier exists; `src_storage` is as large as any address, and all of it is initialised.
        address_of(unsafe { &self.raw.as_ref().route.addr.src_addr_union.src_storage })
    }

    /// The other end's address.
    pub(in crate::transport::rdma) fn peer_address(&self) -> Option<SocketAddr> {
        // SAFETY: as above.
        address_of(unsafe { &self.raw.as_ref().route.addr.dst_addr_union.dst_storage })
    }

    pub(super) fn raw(&self) -> *mut rdma_cm_id {
        self.raw.as_ptr()
    }
}

impl AsFd for Id {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl Drop for Id {
    fn drop(&mut self) {
        // SAFETY: the identifier is this value's and is destroyed once; its events have been acknowledged as they were taken, and `Pair`, which
        // puts a queue pair on an identifier, destroys that before.
        unsafe { rdma_destroy_id(self.raw.as_ptr()) };
    }
}

fn millis(within: Duration) -> i32 {
    within.as_millis().clamp(1, i32::MAX as u128) as i32
}

fn step_failed(what: &str, status: i32) -> String {
    if status < 0 { format!("{what}: {}", io::Error::from_raw_os_error(-status)) } else { what.into() }
}

/// What an address of the library's says, if it is an internet address.
fn address_of(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is such an address, which is smaller than the storage and has no invalid values.
            let v4 = unsafe { *ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            Some(SocketAddrV4::new(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)), u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { *ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let address = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(address, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}
