//! One UDP socket on port 5353 for one link and one address family.
//!
//! The socket hears its own link only, shares the port with every other responder on the
//! machine (avahi, browsers), needs no privilege and no route, and sends with hop limit 255.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::task::{Context, Poll};

use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, SockaddrIn6, sendmsg};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use super::interfaces::Link;
use super::links::Family;
use super::packet::MDNS_PORT;

const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// RFC 6762 §11: what has passed a router shows it.
const HOP_LIMIT: u32 = 255;

/// A socket on one link.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) key: PortKey,
    socket: UdpSocket,
}

/// What a socket is for. When any of this changes, the socket is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PortKey {
    pub(super) link: u32,
    interface: String,
    /// The family, and the address to send from where it is ours to choose.
    source: IpAddr,
}

impl PortKey {
    /// The sockets that a link wants. IPv6 has no multicast route on `lo`, so there it is used
    /// only without IPv4.
    pub(super) fn wanted(link: &Link, given: Option<IpAddr>) -> Vec<Self> {
        let key = |source| Self { link: link.index, interface: link.name.clone(), source };
        let v4 = link.addresses().find(IpAddr::is_ipv4);
        // The kernel knows better than we which IPv6 address is fit to send from.
        let v6 = link
            .addresses()
            .any(|address| address.is_ipv6())
            .then(|| given.unwrap_or(Ipv6Addr::UNSPECIFIED.into()));
        let v6 = v6.filter(|_| !link.loopback || v4.is_none());
        v4.into_iter().chain(v6).map(key).collect()
    }

    /// The link, and whether it is for IPv4.
    pub(super) fn place(&self) -> (u32, bool) {
        (self.link, self.source.is_ipv4())
    }

    fn group(&self) -> SocketAddr {
        match self.source {
            IpAddr::V4(_) => (GROUP_V4, MDNS_PORT).into(),
            IpAddr::V6(_) => SocketAddrV6::new(GROUP_V6, MDNS_PORT, 0, self.link).into(),
        }
    }
}

impl Port {
    /// Opens a socket and joins the group.
    pub(super) fn open(key: PortKey) -> io::Result<Self> {
        let socket = match key.source {
            IpAddr::V4(_) => open_v4(&key)?,
            IpAddr::V6(_) => open_v6(&key)?,
        };
        Ok(Self { key, socket: UdpSocket::from_std(socket.into())? })
    }

    /// A socket that a test opened.
    #[cfg(test)]
    pub(super) fn of_test(link: u32, socket: UdpSocket) -> Self {
        let source = Ipv4Addr::LOCALHOST.into();
        Self { key: PortKey { link, interface: String::new(), source }, socket }
    }

    /// Sends a packet to everybody on the link.
    pub(super) fn send_multicast(&self, bytes: &[u8]) -> io::Result<()> {
        self.send(bytes, self.key.group())
    }

    /// Sends a packet to one host that this port [`reaches`](Self::reaches).
    pub(super) fn send_unicast(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        self.send(bytes, to)
    }

    /// The family that it speaks.
    pub(super) fn family(&self) -> Family {
        Family::of(self.key.source)
    }

    /// Whether an address is of this socket's family.
    pub(super) fn reaches(&self, to: SocketAddr) -> bool {
        self.family() == Family::of(to.ip())
    }

    /// Reads one packet.
    pub(super) fn poll_receive(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<SocketAddr>> {
        self.socket.poll_recv_from(context, buffer)
    }

    /// Sends at once or not at all: a packet that does not fit into the kernel's buffer is lost
    /// like any other, and the protocol repeats what matters.
    fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        let parts = [IoSlice::new(bytes)];
        let fd = self.socket.as_raw_fd();
        match (self.key.source, to) {
            (IpAddr::V4(source), SocketAddr::V4(to)) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: self.key.link as libc::c_int,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(source.octets()) },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let control = [ControlMessage::Ipv4PacketInfo(&info)];
                let to = SockaddrIn::from(to);
                sendmsg(fd, &parts, &control, MsgFlags::MSG_DONTWAIT, Some(&to))?;
            }
            (IpAddr::V6(source), SocketAddr::V6(to)) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: source.octets() },
                    ipi6_ifindex: self.key.link,
                };
                let control = [ControlMessage::Ipv6PacketInfo(&info)];
                let to = SockaddrIn6::from(to);
                sendmsg(fd, &parts, &control, MsgFlags::MSG_DONTWAIT, Some(&to))?;
            }
            (IpAddr::V4(_), SocketAddr::V6(_)) | (IpAddr::V6(_), SocketAddr::V4(_)) => {
                return Err(io::ErrorKind::Unsupported.into());
            }
        }
        Ok(())
    }
}

fn open_v4(key: &PortKey) -> io::Result<Socket> {
    let socket = open_shared(Domain::IPV4, &key.interface)?;
    // Without this a socket also hears the groups that other sockets joined on other links.
    socket.set_multicast_all_v4(false)?;
    socket.set_multicast_loop_v4(true)?;
    socket.set_multicast_ttl_v4(HOP_LIMIT)?;
    socket.set_ttl_v4(HOP_LIMIT)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, MDNS_PORT)).into())?;
    socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(key.link))?;
    Ok(socket)
}

fn open_v6(key: &PortKey) -> io::Result<Socket> {
    let socket = open_shared(Domain::IPV6, &key.interface)?;
    socket.set_only_v6(true)?;
    if let Err(error) = socket.set_multicast_all_v6(false) {
        // Linux before 4.20 does not know this; then only the socket's interface filters.
        tracing::debug!(%error, interface = key.interface, "hears all IPv6 groups");
    }
    socket.set_multicast_loop_v6(true)?;
    socket.set_multicast_hops_v6(HOP_LIMIT)?;
    socket.set_unicast_hops_v6(HOP_LIMIT)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, MDNS_PORT)).into())?;
    socket.join_multicast_v6(&GROUP_V6, key.link)?;
    Ok(socket)
}

fn open_shared(domain: Domain, interface: &str) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    match socket.bind_device(Some(interface.as_bytes())) {
        Ok(()) => {}
        // Before Linux 5.7 this took a privilege. Multicast is filtered by membership all the
        // same, and stray unicast by the check that its source is on the link.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::debug!(interface, "socket not bound to its interface: not permitted");
        }
        Err(error) => return Err(error),
    }
    Ok(socket)
}
