//! What an address is for: the one answer for all who must not be led astray by addresses that
//! others choose.
//!
//! An IPv6 address may have an IPv4 one inside, to which a router, a tunnel or the kernel itself
//! takes the packet; it is as good as the one inside, and no better. That is known of those with a
//! prefix of their own, not of ISATAP and of a site's own prefix for NAT64.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is for, by IANA's registries of special addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A host of the internet.
    Public,
    /// A host of somebody's own network: RFC 1918, RFC 4193 (ULA), RFC 6598 (CGNAT).
    Private,
    /// This very host.
    Loopback,
    /// A neighbour, and nobody behind a router.
    LinkLocal,
    /// No host, or this one: `0.0.0.0/8`, `::`.
    Unspecified,
    /// Many hosts.
    Multicast,
    /// All hosts of a network.
    Broadcast,
    /// What tells a machine in a cloud its secrets.
    Metadata,
    /// For examples in texts.
    Documentation,
    /// For measuring networks.
    Benchmark,
    /// Nobody's yet, or not any more.
    Reserved,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Unspecified => "unspecified",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Metadata => "cloud metadata",
            Self::Documentation => "documentation",
            Self::Benchmark => "benchmark",
            Self::Reserved => "reserved",
        })
    }
}

/// Where clouds answer, each by more than the one that is known best: Amazon's, Google's and
/// Azure's, Amazon's for containers, Alibaba's.
const METADATA_V4: [Ipv4Addr; 5] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(100, 100, 100, 200),
];
/// All of Amazon's own services.
const AMAZON_V6: (u128, u32) = (0xfd00_0ec2 << 96, 32);
/// Google's.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);

/// Kinds by the first bits of an address. The first that fits holds.
const V4: [(Ipv4Addr, u32, Kind); 18] = [
    (Ipv4Addr::UNSPECIFIED, 8, Kind::Unspecified),
    (Ipv4Addr::new(10, 0, 0, 0), 8, Kind::Private),
    (Ipv4Addr::new(100, 64, 0, 0), 10, Kind::Private),
    (Ipv4Addr::new(127, 0, 0, 0), 8, Kind::Loopback),
    (Ipv4Addr::new(169, 254, 0, 0), 16, Kind::LinkLocal),
    (Ipv4Addr::new(172, 16, 0, 0), 12, Kind::Private),
    (Ipv4Addr::new(192, 0, 0, 0), 24, Kind::Reserved),
    (Ipv4Addr::new(192, 0, 2, 0), 24, Kind::Documentation),
    (Ipv4Addr::new(192, 31, 196, 0), 24, Kind::Reserved),
    (Ipv4Addr::new(192, 52, 193, 0), 24, Kind::Reserved),
    (Ipv4Addr::new(192, 88, 99, 0), 24, Kind::Reserved),
    (Ipv4Addr::new(192, 168, 0, 0), 16, Kind::Private),
    (Ipv4Addr::new(192, 175, 48, 0), 24, Kind::Reserved),
    (Ipv4Addr::new(198, 18, 0, 0), 15, Kind::Benchmark),
    (Ipv4Addr::new(198, 51, 100, 0), 24, Kind::Documentation),
    (Ipv4Addr::new(203, 0, 113, 0), 24, Kind::Documentation),
    (Ipv4Addr::new(224, 0, 0, 0), 4, Kind::Multicast),
    (Ipv4Addr::new(240, 0, 0, 0), 4, Kind::Reserved),
];

/// What is in none of these is reserved.
const V6: [(u128, u32, Kind); 12] = [
    (0, 128, Kind::Unspecified),
    (1, 128, Kind::Loopback),
    (0xfc00 << 112, 7, Kind::Private),
    (0xfe80 << 112, 10, Kind::LinkLocal),
    (0xff00 << 112, 8, Kind::Multicast),
    (0x2001_0db8 << 96, 32, Kind::Documentation),
    (0x3fff << 112, 20, Kind::Documentation),
    (0x2001_0002 << 96, 48, Kind::Benchmark),
    // Of what IETF has assigned, tunnels are looked into before this is asked.
    (0x2001_0000 << 96, 23, Kind::Reserved),
    (0x2620_004f_8000 << 80, 48, Kind::Reserved),
    // The first test network of IPv6, given back.
    (0x3ffe << 112, 16, Kind::Reserved),
    (0x2000 << 112, 3, Kind::Public),
];

impl Kind {
    /// What an address is for; of one with another inside, what that is for.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => of_v6(v6),
        }
    }
}

/// The IPv4 address to which a packet for this one is taken, if it has one inside; of a Teredo
/// address, the client's.
pub fn inner(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => inside(v6).map(|(_, last)| last),
    }
}

fn of_v4(address: Ipv4Addr) -> Kind {
    if METADATA_V4.contains(&address) {
        return Kind::Metadata;
    }
    if address.is_broadcast() {
        return Kind::Broadcast;
    }
    let fits = |(first, bits, _): &&(Ipv4Addr, u32, Kind)| {
        (first.to_bits() ^ address.to_bits()).leading_zeros() >= *bits
    };
    V4.iter().find(fits).map_or(Kind::Public, |(_, _, kind)| *kind)
}

fn of_v6(address: Ipv6Addr) -> Kind {
    if let Some((relay, last)) = inside(address) {
        // A relay inside a network is no better a way than a host there.
        return match of_v4(last) {
            Kind::Public => relay.map_or(Kind::Public, of_v4),
            kind => kind,
        };
    }
    let starts = |first: u128, bits: u32| (first ^ address.to_bits()).leading_zeros() >= bits;
    if starts(AMAZON_V6.0, AMAZON_V6.1) || address == METADATA_V6 {
        return Kind::Metadata;
    }
    let fits = |(first, bits, _): &&(u128, u32, Kind)| starts(*first, *bits);
    V6.iter().find(fits).map_or(Kind::Reserved, |(_, _, kind)| *kind)
}

/// The IPv4 address inside, and before it that of the relay, where an address names one.
fn inside(address: Ipv6Addr) -> Option<(Option<Ipv4Addr>, Ipv4Addr)> {
    let bits = address.to_bits();
    let low = Ipv4Addr::from_bits(bits as u32);
    match address.segments() {
        // The kernel takes it for the IPv4 address itself.
        [0, 0, 0, 0, 0, 0xffff, _, _] => Some((None, low)),
        // NAT64 (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some((None, low)),
        // 6to4 (RFC 3056).
        [0x2002, ..] => Some((None, Ipv4Addr::from_bits((bits >> 80) as u32))),
        // Teredo (RFC 4380): the server, and the client with all its bits turned over.
        [0x2001, 0, ..] => {
            let server = Ipv4Addr::from_bits((bits >> 64) as u32);
            Some((Some(server), Ipv4Addr::from_bits(!low.to_bits())))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t15_every_special_address_is_told_from_a_public_one() {
        for (kind, addresses) in [
            (Kind::Public, "1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.0.0.1"),
            (Kind::Public, "128.0.0.1 172.15.255.255 172.32.0.0 192.167.0.1 192.169.0.1"),
            (Kind::Public, "198.17.255.255 198.20.0.0 223.255.255.255 2606:4700::1 2a00::1"),
            (Kind::Public, "::ffff:1.1.1.1 64:ff9b::1.1.1.1 2002:101:101::1"),
            (Kind::Private, "10.0.0.1 172.16.0.1 172.31.255.255 192.168.0.1 100.64.0.1"),
            (Kind::Private, "100.127.255.255 fc00::1 fd12:3456::1 ::ffff:10.0.0.1"),
            (Kind::Private, "64:ff9b::192.168.0.1 2002:a00:1::1 2002:c0a8:1::1"),
            (Kind::Loopback, "127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1"),
            (Kind::Loopback, "64:ff9b::127.0.0.1 2002:7f00:1::1"),
            (Kind::LinkLocal, "169.254.0.1 169.254.169.253 fe80::1 febf::1 ::ffff:169.254.1.1"),
            (Kind::Unspecified, "0.0.0.0 0.255.0.1 :: ::ffff:0.0.0.0 64:ff9b::"),
            (Kind::Multicast, "224.0.0.251 239.255.255.255 ff02::fb ff0e::1 2002:e000:1::"),
            (Kind::Broadcast, "255.255.255.255 ::ffff:255.255.255.255"),
            (Kind::Metadata, "169.254.169.254 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe"),
            (Kind::Metadata, "2002:a9fe:a9fe:: fd00:ec2::254 fd00:ec2::23 fd20:ce::254"),
            (Kind::Metadata, "100.100.100.200 168.63.129.16 169.254.170.2 169.254.170.23"),
            (Kind::Documentation, "192.0.2.1 198.51.100.1 203.0.113.1 2001:db8::1 3fff:fff::1"),
            (Kind::Benchmark, "198.18.0.1 198.19.255.255 2001:2::1"),
            (Kind::Reserved, "240.0.0.1 255.255.255.254 192.0.0.8 192.88.99.1 192.175.48.1"),
            (Kind::Reserved, "::2 ::127.0.0.1 64:ff9b:1::1 100::1 4000::1 5f00::1 fec0::1"),
            (Kind::Reserved, "2001:20::1 2001:1::1 ::ffff:0:127.0.0.1 3ffe::1 e000::1"),
        ] {
            for text in addresses.split(' ') {
                assert_eq!(Kind::of(text.parse().unwrap()), kind, "{text}");
            }
        }
    }

    #[test]
    fn t15_a_tunnel_is_as_good_as_its_worse_end() {
        let teredo = |server: &str, client: &str| {
            let [server, client] =
                [server, client].map(|text| text.parse::<Ipv4Addr>().unwrap().to_bits());
            let bits = 0x2001_0000 << 96 | u128::from(server) << 64 | u128::from(!client);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        };
        for (server, client, kind) in [
            ("1.1.1.1", "9.9.9.9", Kind::Public),
            ("1.1.1.1", "127.0.0.1", Kind::Loopback),
            ("10.0.0.1", "9.9.9.9", Kind::Private),
            ("1.1.1.1", "169.254.169.254", Kind::Metadata),
        ] {
            assert_eq!(Kind::of(teredo(server, client)), kind, "{server} {client}");
        }
        assert_eq!(inner(teredo("1.1.1.1", "9.9.9.9")), Some(Ipv4Addr::new(9, 9, 9, 9)));
        assert_eq!(inner("::1".parse().unwrap()), None);
    }
}
