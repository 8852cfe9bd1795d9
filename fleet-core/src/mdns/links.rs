//! The open sockets on all links in use: kept in step with the machine's interfaces, read
//! fairly, written together.
//!
//! A socket that fails is closed; the next [`Links::rescan`] opens it again, and reports its link
//! as changed so that what was lost is said once more. A socket that fails again and again, as on
//! a link whose IPv6 address another host has, is opened quietly after a while.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::Options;
use super::interfaces::{Link, choose, own_addresses, scan};
use super::packet::RECEIVE_BYTES_MAX;
use super::socket::{Port, PortKey};

/// Failures in a row after which a link is no longer reported as changed.
const FAULTS_TOLD_MAX: u32 = 3;

/// The sockets, and the links they are on.
#[derive(Debug)]
pub(super) struct Links {
    options: Options,
    in_use: Vec<Link>,
    own: BTreeSet<IpAddr>,
    ports: Vec<Port>,
    /// How often in a row a port could not send, by link and family.
    faults: BTreeMap<(u32, bool), u32>,
    /// The port that is read first, so that a busy one does not starve the others.
    turn: usize,
    buffer: Box<[u8]>,
}

/// A packet to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) link: u32,
    pub(super) to: To,
    pub(super) bytes: Vec<u8>,
}

/// Who is to hear a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// One host.
    Host(SocketAddr),
    /// Everybody on the link.
    All,
    /// Everybody there who can be reached by IPv4, or by IPv6.
    AllOf(Family),
}

/// A link is two networks: what is said in one family is not heard in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub(super) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// A packet that came from a link's neighbour.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) link: u32,
    pub(super) loopback: bool,
    pub(super) source: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

impl Links {
    /// Opens sockets on all links in use. No usable link is no error: one may appear later.
    pub(super) fn open(options: Options) -> io::Result<Self> {
        let mut links = Self {
            options,
            in_use: Vec::new(),
            own: BTreeSet::new(),
            ports: Vec::new(),
            faults: BTreeMap::new(),
            turn: 0,
            buffer: vec![0; RECEIVE_BYTES_MAX].into(),
        };
        match links.follow()? {
            (_, Some(error)) if links.ports.is_empty() => Err(error),
            _ => Ok(links),
        }
    }

    /// The links in use.
    pub(super) fn links(&self) -> &[Link] {
        &self.in_use
    }

    /// The addresses that are this machine's own.
    pub(super) fn own_addresses(&self) -> &BTreeSet<IpAddr> {
        &self.own
    }

    /// Looks at the machine's interfaces again; returns the links that are new or changed.
    pub(super) fn rescan(&mut self) -> Vec<u32> {
        match self.follow() {
            Ok((changed, _)) => changed,
            Err(error) => {
                tracing::warn!(%error, "network interfaces cannot be listed");
                Vec::new()
            }
        }
    }

    /// Sends a packet; a port that cannot is closed until the next rescan.
    pub(super) fn send(&mut self, outgoing: &Outgoing) {
        let faults = &mut self.faults;
        self.ports.retain(|port| {
            if port.key.link != outgoing.link {
                return true;
            }
            match outgoing.to {
                To::Host(to) if port.reaches(to) => {
                    // A host that cannot be reached says nothing about the port.
                    if let Err(error) = port.send_unicast(&outgoing.bytes, to) {
                        tracing::debug!(%error, %to, "mdns reply not sent");
                    }
                    true
                }
                To::Host(_) => true,
                To::AllOf(family) if family != port.family() => true,
                To::All | To::AllOf(_) => match port.send_multicast(&outgoing.bytes) {
                    Ok(()) => {
                        faults.remove(&port.key.place());
                        true
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
                    Err(error) => {
                        *faults.entry(port.key.place()).or_default() += 1;
                        tracing::debug!(%error, port = ?port.key, "mdns socket closed: cannot send");
                        false
                    }
                },
            }
        });
    }

    /// Waits for a packet from a neighbour. Nothing is lost when the future is dropped.
    pub(super) async fn receive(&mut self) -> Incoming {
        poll_fn(|context| self.poll_receive(context)).await
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Incoming> {
        let mut quiet = 0;
        while quiet < self.ports.len() {
            self.turn = (self.turn + 1) % self.ports.len();
            let port = &self.ports[self.turn];
            let mut buffer = ReadBuf::new(&mut self.buffer);
            match port.poll_receive(context, &mut buffer) {
                Poll::Pending => quiet += 1,
                Poll::Ready(Ok(source)) => {
                    // It may hold more, and wakes us only once it was found empty: all anew.
                    quiet = 0;
                    let from = self.in_use.iter().find(|link| link.index == port.key.link);
                    if let Some(link) = from.filter(|link| link.is_on_link(source.ip())) {
                        let bytes = buffer.filled().to_vec();
                        let (link, loopback) = (link.index, link.loopback);
                        return Poll::Ready(Incoming { link, loopback, source, bytes });
                    }
                }
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, port = ?port.key, "mdns socket closed: cannot receive");
                    self.ports.swap_remove(self.turn);
                    quiet = 0;
                }
            }
        }
        Poll::Pending
    }

    /// Brings sockets in line with interfaces. Returns the changed links, and the last error of
    /// opening a socket.
    fn follow(&mut self) -> io::Result<(Vec<u32>, Option<io::Error>)> {
        let all = scan()?;
        self.own = own_addresses(&all, &self.options);
        let links = choose(&all, &self.options);
        let mut changed: BTreeSet<u32> = links
            .iter()
            .filter(|link| !self.in_use.contains(link))
            .map(|link| link.index)
            .collect();
        let given = self.options.address;
        let wanted: Vec<PortKey> =
            links.iter().flat_map(|link| PortKey::wanted(link, given)).collect();
        self.in_use = links;
        self.ports.retain(|port| wanted.contains(&port.key));
        self.faults.retain(|(link, _), _| wanted.iter().any(|key| key.link == *link));
        let mut failure = None;
        for key in wanted {
            if self.ports.iter().any(|port| port.key == key) {
                continue;
            }
            let faults = self.faults.get(&key.place()).copied().unwrap_or_default();
            match Port::open(key.clone()) {
                Ok(port) => {
                    self.ports.push(port);
                    if faults <= FAULTS_TOLD_MAX {
                        changed.insert(key.link);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, port = ?key, "mdns socket not opened");
                    failure = Some(error);
                }
            }
        }
        Ok((changed.into_iter().collect(), failure))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::UdpSocket;
    use tokio::sync::watch;
    use tokio::time::timeout;

    use super::*;

    /// Sockets on ports of their own, on links that are not in use.
    async fn unused_links(count: u32) -> (Links, Vec<SocketAddr>) {
        let mut links = Links {
            options: Options::default(),
            in_use: Vec::new(),
            own: BTreeSet::new(),
            ports: Vec::new(),
            faults: BTreeMap::new(),
            turn: 0,
            buffer: vec![0; RECEIVE_BYTES_MAX].into(),
        };
        let mut places = Vec::new();
        for link in 1..=count {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            places.push(socket.local_addr().unwrap());
            links.ports.push(Port::of_test(link, socket));
        }
        (links, places)
    }

    #[tokio::test]
    async fn a_packet_from_afar_does_not_make_us_deaf() {
        let (mut links, places) = unused_links(3).await;
        let (looked, mut looks) = watch::channel(0);
        let _listening = crate::mdns::spawn("test", async move {
            poll_fn(|context| {
                looked.send_modify(|looks| *looks += 1);
                links.poll_receive(context).map(|incoming| panic!("not for us: {incoming:?}"))
            })
            .await;
        });
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        looks.changed().await.unwrap();
        for round in 0..12 {
            stranger.send_to(b"hello", places[0]).await.unwrap();
            let woke = timeout(Duration::from_secs(10), looks.changed()).await;
            woke.unwrap_or_else(|_| panic!("deaf in round {round}")).unwrap();
        }
    }
}
