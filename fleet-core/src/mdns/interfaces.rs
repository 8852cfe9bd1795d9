//! The machine's network interfaces as they are now, and which of them to use.
//!
//! A [`Link`] always has at least one address. Loopback is a link like any other, but it is used
//! only when it is named or when there is nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::SockaddrStorage;

use super::Options;

/// Addresses of one link that are announced; a packet must hold them all.
const LINK_ADDRESSES_MAX: usize = 8;
/// Addresses of one link that are known.
const LINK_NETS_MAX: usize = 4096;

/// An interface with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) loopback: bool,
    pub(super) nets: Vec<Net>,
}

/// An address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Net {
    pub(super) address: IpAddr,
    pub(super) prefix: u32,
}

/// An interface that is in use, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number, as link-local addresses have it.
    pub index: u32,
    /// Its name.
    pub name: String,
}

/// The interfaces that are in use with these options now.
pub fn interfaces(options: &Options) -> io::Result<Vec<Interface>> {
    let chosen = choose(&scan()?, options);
    Ok(chosen.into_iter().map(|link| Interface { index: link.index, name: link.name }).collect())
}

impl Link {
    /// The addresses to announce on this link.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.all_addresses().take(LINK_ADDRESSES_MAX)
    }

    /// All addresses that this machine has there.
    fn all_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.nets.iter().map(|net| net.address)
    }

    /// Whether a packet from this address can have come from this link and no farther.
    pub(super) fn is_on_link(&self, source: IpAddr) -> bool {
        let link_local = match source {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        if source.is_loopback() || self.loopback {
            return self.loopback && (source.is_loopback() || self.has(source));
        }
        link_local || self.has(source)
    }

    fn has(&self, address: IpAddr) -> bool {
        self.nets.iter().any(|net| net.contains(address))
    }
}

impl Net {
    fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing.leading_zeros() >= self.prefix
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = own.to_bits() ^ other.to_bits();
                differing.leading_zeros() >= self.prefix
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Every interface that is up and has an address.
pub(super) fn scan() -> io::Result<Vec<Link>> {
    let mut links: BTreeMap<String, Link> = BTreeMap::new();
    for entry in getifaddrs()? {
        let Some(net) = usable_net(&entry) else { continue };
        // A labelled address such as `eth0:1` belongs to `eth0`.
        let name = entry.interface_name.split(':').next().unwrap_or_default();
        // An interface that has just gone has no index.
        let Ok(index) = if_nametoindex(name) else { continue };
        let link = links.entry(name.to_owned()).or_insert_with(|| Link {
            index,
            name: name.to_owned(),
            loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
            nets: Vec::new(),
        });
        if link.nets.len() < LINK_NETS_MAX && !link.nets.contains(&net) {
            link.nets.push(net);
        }
    }
    Ok(links.into_values().collect())
}

/// The links to use; with the one address that is given, if one is.
pub(super) fn choose(links: &[Link], options: &Options) -> Vec<Link> {
    let named: Vec<&Link> = match options.interfaces.as_slice() {
        [] => links.iter().collect(),
        names => links.iter().filter(|link| names.contains(&link.name)).collect(),
    };
    if let Some(address) = options.address {
        return named.into_iter().filter_map(|link| reduced(link, address)).collect();
    }
    let networked = named.iter().any(|link| !link.loopback);
    let loopback_too = !options.interfaces.is_empty() || !networked;
    named.into_iter().filter(|link| !link.loopback || loopback_too).cloned().collect()
}

/// The addresses by which this machine is known, so that its own records are no conflict.
pub(super) fn own_addresses(links: &[Link], options: &Options) -> BTreeSet<IpAddr> {
    match options.address {
        Some(address) => BTreeSet::from([address]),
        None => links.iter().flat_map(Link::all_addresses).collect(),
    }
}

fn reduced(link: &Link, address: IpAddr) -> Option<Link> {
    let net = link.nets.iter().find(|net| net.contains(address))?;
    Some(Link { nets: vec![Net { address, prefix: net.prefix }], ..link.clone() })
}

fn usable_net(entry: &InterfaceAddress) -> Option<Net> {
    let multicasts =
        entry.flags.intersects(InterfaceFlags::IFF_MULTICAST | InterfaceFlags::IFF_LOOPBACK);
    if !entry.flags.contains(InterfaceFlags::IFF_UP) || !multicasts {
        return None;
    }
    let address = ip_of(entry.address.as_ref()?)?;
    let prefix = match entry.netmask.as_ref().and_then(ip_of) {
        Some(IpAddr::V4(mask)) => mask.to_bits().leading_ones(),
        Some(IpAddr::V6(mask)) => mask.to_bits().leading_ones(),
        None => {
            if address.is_ipv4() {
                32
            } else {
                128
            }
        }
    };
    Some(Net { address, prefix })
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, nets: &[(&str, u32)]) -> Link {
        let nets = nets
            .iter()
            .map(|&(address, prefix)| Net { address: address.parse().unwrap(), prefix })
            .collect();
        Link { index: 1, name: name.to_owned(), loopback: name == "lo", nets }
    }

    fn names(links: &[Link]) -> Vec<&str> {
        links.iter().map(|link| link.name.as_str()).collect()
    }

    #[test]
    fn only_neighbours_are_on_the_link() {
        let eth = link("eth0", &[("10.1.2.3", 24), ("fe80::1", 64)]);
        let lo = link("lo", &[("127.0.0.1", 8)]);
        for (link, source, on_link) in [
            (&eth, "10.1.2.200", true),
            (&eth, "10.1.3.1", false),
            (&eth, "169.254.7.7", true),
            (&eth, "fe80::9", true),
            (&eth, "2001:db8::1", false),
            (&eth, "127.0.0.1", false),
            (&eth, "::1", false),
            (&lo, "127.0.0.9", true),
            (&lo, "10.1.2.3", false),
            (&lo, "169.254.7.7", false),
        ] {
            let source: IpAddr = source.parse().unwrap();
            assert_eq!(link.is_on_link(source), on_link, "{source} on {}", link.name);
        }
    }

    #[test]
    fn few_addresses_are_announced_and_all_are_known() {
        let nets: Vec<(String, u32)> = (0..40).map(|net| (format!("10.1.{net}.1"), 24)).collect();
        let nets: Vec<(&str, u32)> = nets.iter().map(|(ip, prefix)| (&**ip, *prefix)).collect();
        let eth = link("eth0", &nets);
        assert!(eth.is_on_link("10.1.39.7".parse().unwrap()));
        assert_eq!(eth.addresses().count(), LINK_ADDRESSES_MAX);
        assert_eq!(own_addresses(&[eth], &Options::default()).len(), 40);
    }

    #[test]
    fn loopback_is_the_last_resort() {
        let both = [link("eth0", &[("10.1.2.3", 24)]), link("lo", &[("127.0.0.1", 8)])];
        let named = Options { interfaces: vec!["lo".to_owned()], address: None };
        assert_eq!(names(&choose(&both, &Options::default())), ["eth0"]);
        assert_eq!(names(&choose(&both[1..], &Options::default())), ["lo"]);
        assert_eq!(names(&choose(&both, &named)), ["lo"]);
    }

    #[test]
    fn a_given_address_is_the_only_one() {
        let both = [link("eth0", &[("10.1.2.3", 24)]), link("lo", &[("127.0.0.1", 8)])];
        let options = Options { interfaces: vec![], address: "127.0.0.7".parse().ok() };
        let chosen = choose(&both, &options);
        assert_eq!(names(&chosen), ["lo"]);
        let address: IpAddr = "127.0.0.7".parse().unwrap();
        assert_eq!(chosen[0].addresses().collect::<Vec<_>>(), [address]);
        assert_eq!(own_addresses(&both, &options), BTreeSet::from([address]));
    }

    #[test]
    fn this_machine_has_links() {
        assert!(scan().unwrap().iter().all(|link| link.index > 0 && !link.nets.is_empty()));
    }
}
