//! Whether a peer is on one of the device's own networks, or on the device itself.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

/// Whether no router lies between us and this address, as far as addresses tell.
pub(super) fn is_on_link(peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    if peer.is_loopback() || is_link_local(peer) {
        return true;
    }
    match getifaddrs() {
        Ok(interfaces) => interfaces
            .filter_map(|interface| Some((ip(interface.address?)?, ip(interface.netmask?)?)))
            .any(|(own, mask)| same_network(peer, own, mask)),
        Err(error) => {
            tracing::warn!(%error, "cannot list the device's networks");
            false
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn ip(address: SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// A mask of nothing would make the whole world a neighbour, so it counts for nobody.
fn same_network(peer: IpAddr, own: IpAddr, mask: IpAddr) -> bool {
    match (peer, own, mask) {
        (IpAddr::V4(peer), IpAddr::V4(own), IpAddr::V4(mask)) => {
            let mask = mask.to_bits();
            mask != 0 && peer.to_bits() & mask == own.to_bits() & mask
        }
        (IpAddr::V6(peer), IpAddr::V6(own), IpAddr::V6(mask)) => {
            let mask = mask.to_bits();
            mask != 0 && peer.to_bits() & mask == own.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_the_masked_part() {
        for (peer, own, mask, shared) in [
            ("192.168.1.100", "192.168.1.7", "255.255.255.0", true),
            ("192.168.2.100", "192.168.1.7", "255.255.255.0", false),
            ("8.8.8.8", "192.168.1.7", "0.0.0.0", false),
            ("fd00::1", "fd00::2", "ffff:ffff:ffff:ffff::", true),
            ("fd01::1", "fd00::2", "ffff:ffff:ffff:ffff::", false),
            ("192.168.1.100", "fd00::2", "ffff:ffff:ffff:ffff::", false),
        ] {
            let [peer, own, mask] = [peer, own, mask].map(|text| text.parse().unwrap());
            assert_eq!(same_network(peer, own, mask), shared, "{peer} {own}/{mask}");
        }
    }

    #[test]
    fn this_host_and_its_links_are_near_and_the_world_is_not() {
        for near in ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1", "fe80::1", "169.254.1.1"]
        {
            assert!(is_on_link(near.parse().unwrap()), "{near}");
        }
        for far in ["240.0.0.1", "2001:db8:ffff::1", "::ffff:240.0.0.1"] {
            assert!(!is_on_link(far.parse().unwrap()), "{far}");
        }
    }
}
