//! By which URLs a device can reach this server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use fleet_core::net::address::Kind;
use fleet_core::net::url::ServerUrl;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// Where the server listens and what it was told about its surroundings.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// The address it is bound to; unspecified for all.
    pub(crate) bound: IpAddr,
    /// The port it is bound to.
    pub(crate) port: u16,
    /// Whether its URLs say https.
    pub(crate) is_secure: bool,
    /// The only URL to tell, if set.
    pub(crate) public_url: Option<ServerUrl>,
    /// The interfaces to use; all if empty.
    pub(crate) interfaces: Vec<String>,
}

/// A URL of this server that somebody gave.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// The one by which the asking person came: it works.
    Used(ServerUrl),
    /// One that nobody has tried.
    Wished(ServerUrl),
}

impl Reach {
    /// The URLs for a device at an address, best first: the public one alone if there is one; a
    /// loopback one alone for a device on this host; else the server's own, after a URL that is
    /// known to work and before one that is not.
    pub(crate) fn urls(&self, asked: Option<Asked>, device: Option<IpAddr>) -> Vec<ServerUrl> {
        if let Some(public) = &self.public_url {
            return vec![public.clone()];
        }
        if device.is_some_and(|address| address.to_canonical().is_loopback()) {
            return vec![self.at(self.loopback())];
        }
        let own = self.own_addresses();
        let mut urls: Vec<_> = own.into_iter().map(|address| self.at(address)).collect();
        match asked {
            Some(Asked::Used(url) | Asked::Wished(url)) if url.is_loopback() => {}
            Some(Asked::Wished(url)) if !urls.contains(&url) => urls.push(url),
            Some(Asked::Used(url) | Asked::Wished(url)) => {
                urls.retain(|own| *own != url);
                urls.insert(0, url);
            }
            None => {}
        }
        urls
    }

    /// The URL to show to a person on this host.
    pub(crate) fn local_url(&self) -> ServerUrl {
        if let Some(public) = &self.public_url {
            return public.clone();
        }
        if self.bound.is_unspecified() {
            let scheme = if self.is_secure { "https" } else { "http" };
            let text = format!("{scheme}://localhost:{}", self.port);
            return text.parse().unwrap_or(self.at(self.loopback()));
        }
        self.at(self.bound)
    }

    /// Whether an address and port are this server itself.
    pub(crate) fn is_self(&self, address: SocketAddr) -> bool {
        listens_at(SocketAddr::new(self.bound, self.port), address)
    }

    fn at(&self, address: IpAddr) -> ServerUrl {
        let url = ServerUrl::from_address(address, self.port);
        if self.is_secure { url.secure() } else { url }
    }

    fn loopback(&self) -> IpAddr {
        if self.bound.is_loopback() { self.bound } else { Ipv4Addr::LOCALHOST.into() }
    }

    /// The addresses that others on the network can use. A server that only listens on loopback
    /// has none.
    fn own_addresses(&self) -> Vec<IpAddr> {
        if self.bound.is_loopback() {
            return Vec::new();
        }
        if !self.bound.is_unspecified() {
            return vec![self.bound];
        }
        let mut addresses = interface_addresses(&self.interfaces).unwrap_or_default();
        let v4_only = self.bound.is_ipv4();
        addresses.retain(|address| is_reachable(*address) && (address.is_ipv4() || !v4_only));
        // IPv4 first: it is what a device in a home or a plant surely has.
        addresses.sort_by_key(IpAddr::is_ipv6);
        addresses
    }
}

/// Whether who is bound to an address answers at another.
pub(crate) fn listens_at(bound: SocketAddr, address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let is_any = bound.ip().is_unspecified();
    address.port() == bound.port() && (ip == bound.ip().to_canonical() || (is_any && is_own(ip)))
}

/// Whether an address is this host's. If nobody can tell, it is.
pub(crate) fn is_own(address: IpAddr) -> bool {
    let ip = address.to_canonical();
    ip.is_loopback() || interface_addresses(&[]).is_none_or(|own| own.contains(&ip))
}

/// Not loopback, and no IPv6 address that means nothing without its interface.
fn is_reachable(address: IpAddr) -> bool {
    match Kind::of(address) {
        Kind::Loopback | Kind::Unspecified => false,
        Kind::LinkLocal => address.is_ipv4(),
        _ => true,
    }
}

/// This host's addresses, on interfaces that are up, if they can be told.
fn interface_addresses(interfaces: &[String]) -> Option<Vec<IpAddr>> {
    let entries = match getifaddrs() {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(%error, "cannot list this host's addresses");
            return None;
        }
    };
    let addresses = entries
        .filter(|entry| entry.flags.contains(InterfaceFlags::IFF_UP))
        .filter(|entry| interfaces.is_empty() || interfaces.contains(&entry.interface_name))
        .filter_map(|entry| {
            let address = entry.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        });
    Some(addresses.collect())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn reach(bound: IpAddr, public: Option<&str>) -> Reach {
        let public_url = public.map(|url| url.parse().unwrap());
        Reach { bound, port: 8080, is_secure: false, public_url, interfaces: Vec::new() }
    }

    fn texts(urls: Vec<ServerUrl>) -> Vec<String> {
        urls.iter().map(ServerUrl::to_string).collect()
    }

    #[test]
    fn a_device_is_told_urls_that_it_can_use() {
        let anywhere = Ipv6Addr::UNSPECIFIED.into();
        let device = Some("10.0.0.9".parse().unwrap());
        let local = Some(Ipv4Addr::LOCALHOST.into());
        let asked = |url: &str| Some(Asked::Used(url.parse().unwrap()));
        let wished = |url: &str| Some(Asked::Wished(url.parse().unwrap()));

        let public = reach(anywhere, Some("https://fleet.example"));
        assert_eq!(texts(public.urls(asked("http://a:1"), local)), ["https://fleet.example"]);

        let plain = reach(anywhere, None);
        assert_eq!(texts(plain.urls(asked("http://a:1"), local)), ["http://127.0.0.1:8080"]);
        assert_eq!(texts(plain.urls(asked("http://a:1"), device))[0], "http://a:1");
        let own = texts(plain.urls(asked("http://localhost:8080"), device));
        assert!(own.iter().all(|url| !url.contains("localhost") && !url.contains("127.")));

        let bound = reach("10.0.0.1".parse().unwrap(), None);
        assert_eq!(texts(bound.urls(None, device)), ["http://10.0.0.1:8080"]);
        let url = "http://10.0.0.1:8080";
        assert_eq!(texts(bound.urls(wished("http://a:1"), device)), [url, "http://a:1"]);
        assert_eq!(texts(bound.urls(asked("http://a:1"), device)), ["http://a:1", url]);
        assert_eq!(texts(bound.urls(wished(url), device)), [url]);
        assert_eq!(texts(bound.urls(wished("http://localhost:1"), device)), [url]);
        let loopback = reach("127.0.0.5".parse().unwrap(), None);
        assert_eq!(texts(loopback.urls(None, local)), ["http://127.0.0.5:8080"]);
        assert!(loopback.urls(None, device).is_empty());
        assert!(loopback.is_self("127.0.0.5:8080".parse().unwrap()));
        assert!(!loopback.is_self("127.0.0.5:8081".parse().unwrap()));
        assert!(plain.is_self("[::1]:8080".parse().unwrap()));
    }
}
