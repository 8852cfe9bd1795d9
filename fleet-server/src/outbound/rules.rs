//! Which addresses may be called.

use std::net::{IpAddr, SocketAddr};

use fleet_core::net::address::{self, Kind};

use crate::proxies::Network;
use crate::reach;

/// What an operator decides.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Where this server listens; unspecified addresses stand for all of this host's.
    pub own: Vec<SocketAddr>,
    /// Networks whose hosts may be called although they are private, or this very host, which by an
    /// address that others know, too, is meant by a network of that one alone. An address with another
    /// inside is on the network of its own that names it, and on no other: what
    /// translates it may stand elsewhere.
    pub allowed: Vec<Network>,
}

/// Why an address is not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// It is one that may be allowed, and is not.
    #[error("{address} is a {kind} address, and on no network that is allowed")]
    Unallowed {
        /// The address.
        address: IpAddr,
        /// Private, or loopback.
        kind: Kind,
    },
    /// It is of a kind that nobody may call.
    #[error("{address} is a {kind} address")]
    Kind {
        /// The address.
        address: IpAddr,
        /// What it is for.
        kind: Kind,
    },
    /// It is this server.
    #[error("{0} is this server itself")]
    Own(SocketAddr),
}

impl Rules {
    /// Whether an address may be called, at this port.
    pub fn judge(&self, address: SocketAddr) -> Result<(), Denial> {
        self.judge_with(address, reach::is_own)
    }

    fn judge_with(
        &self,
        address: SocketAddr,
        is_own: impl Fn(IpAddr) -> bool,
    ) -> Result<(), Denial> {
        let ip = address.ip().to_canonical();
        let is_here = is_own(ip) || address::inner(ip).is_some_and(|ip| is_own(ip.into()));
        // An address of this host's leads past every wall outside to what listens here, as loopback
        // does; and who names a network of many hosts does not think of this one.
        let (kind, is_named_alone) = match Kind::of(ip) {
            Kind::Public | Kind::Private if is_here => (Kind::Loopback, true),
            kind => (kind, false),
        };
        match kind {
            Kind::Public => {}
            Kind::Private | Kind::Loopback => {
                let means = |network: &Network| {
                    network.holds(ip) && (network.is_one_host() || !is_named_alone)
                };
                if !self.allowed.iter().any(means) {
                    return Err(Denial::Unallowed { address: ip, kind });
                }
            }
            Kind::LinkLocal
            | Kind::Unspecified
            | Kind::Multicast
            | Kind::Broadcast
            | Kind::Metadata
            | Kind::Documentation
            | Kind::Benchmark
            | Kind::Reserved => return Err(Denial::Kind { address: ip, kind }),
        }
        let places = [Some(ip), address::inner(ip).map(IpAddr::V4)];
        for place in places.into_iter().flatten() {
            let place = SocketAddr::new(place, address.port());
            if self.own.iter().any(|own| reach::listens_at(*own, place)) {
                return Err(Denial::Own(address));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t15_this_hosts_own_addresses_are_as_loopback() {
        let own: [IpAddr; 4] =
            ["1.1.1.1", "2a00::1", "10.1.2.3", "fd00::1"].map(|text| text.parse().unwrap());
        let denied = |allowed: &[&str], address: &str| {
            let address = SocketAddr::new(address.parse().unwrap(), 80);
            let judged = rules(&[], allowed).judge_with(address, |ip| own.contains(&ip));
            judged.err().map_or_else(String::new, |denial| denial.to_string())
        };
        let networks = ["1.1.1.0/24", "2a00::/16", "10.1.0.0/16", "fd00::/8"];
        for address in ["1.1.1.1", "2a00::1", "10.1.2.3", "fd00::1", "2002:101:101::1"] {
            for allowed in [&[][..], &networks] {
                let said = denied(allowed, address);
                assert!(said.contains("is a loopback address"), "{address}: {said}");
            }
            assert_eq!(denied(&[address], address), "", "{address} is named alone");
        }
        for address in ["64:ff9b::1.1.1.1", "64:ff9b::10.1.2.3"] {
            assert!(denied(&networks, address).contains("loopback"), "{address}");
        }
        for address in ["1.1.1.2", "2a00::2", "10.1.2.4", "fd00::2"] {
            assert_eq!(denied(&networks, address), "", "{address} is another host's");
        }
        assert!(denied(&["169.254.169.254"], "169.254.169.254").contains("metadata"));
    }

    fn rules(own: &[&str], allowed: &[&str]) -> Rules {
        let own = own.iter().map(|text| text.parse().unwrap()).collect();
        Rules { own, allowed: allowed.iter().map(|text| text.parse().unwrap()).collect() }
    }

    fn denied(rules: &Rules, address: &str) -> String {
        let judged = rules.judge(address.parse().unwrap());
        judged.err().map_or_else(String::new, |denial| denial.to_string())
    }

    #[test]
    fn t15_private_networks_are_called_only_where_they_are_named() {
        let none = rules(&[], &[]);
        assert_eq!(denied(&none, "1.1.1.1:443"), "");
        for address in ["10.1.2.3:80", "[fd00::1]:80", "100.64.0.1:80", "127.0.0.1:80"] {
            assert!(denied(&none, address).contains("no network that is allowed"), "{address}");
        }
        let some = rules(&[], &["10.1.0.0/16", "fd00::/8", "127.0.0.1"]);
        for (address, is_called) in [
            ("10.1.2.3:80", true),
            ("[::ffff:10.1.2.3]:80", true),
            ("10.2.0.1:80", false),
            ("[fd12::1]:80", true),
            ("127.0.0.1:80", true),
            ("127.0.0.2:80", false),
            // Whoever translates this takes it to a network of its own that has these numbers.
            ("[64:ff9b::10.1.2.3]:80", false),
            ("[2002:a01:203::1]:80", false),
        ] {
            assert_eq!(denied(&some, address).is_empty(), is_called, "{address}");
        }
    }

    #[test]
    fn t15_what_no_network_allows_is_never_called() {
        let all = rules(&[], &["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"]);
        assert_eq!(denied(&all, "[64:ff9b::10.1.2.3]:80"), "");
        for address in [
            "0.0.0.0:80",
            "[::]:80",
            "169.254.169.254:80",
            "169.254.1.1:80",
            "[fe80::1]:80",
            "[fd00:ec2::254]:80",
            "100.100.100.200:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "240.0.0.1:80",
            "192.0.2.1:80",
            "198.18.0.1:80",
            "[64:ff9b::169.254.169.254]:80",
        ] {
            assert!(denied(&all, address).contains(" address"), "{address}");
        }
    }

    #[test]
    fn t15_the_server_never_calls_itself() {
        let bound = rules(&["203.0.114.5:8080", "127.0.0.1:9000"], &["127.0.0.0/8"]);
        for (address, is_own) in [
            ("203.0.114.5:8080", true),
            ("203.0.114.5:8081", false),
            ("[::ffff:203.0.114.5]:8080", true),
            ("[64:ff9b::203.0.114.5]:8080", true),
            ("[2002:cb00:7205::1]:8080", true),
            ("127.0.0.1:9000", true),
            ("127.0.0.1:8080", false),
        ] {
            assert_eq!(denied(&bound, address).contains("itself"), is_own, "{address}");
        }
        let anywhere = rules(&["[::]:8080"], &["127.0.0.0/8", "::1"]);
        for address in ["127.0.0.1:8080", "127.9.9.9:8080", "[::1]:8080"] {
            assert!(denied(&anywhere, address).contains("itself"), "{address}");
        }
        assert_eq!(denied(&anywhere, "127.0.0.1:8081"), "");
    }
}
