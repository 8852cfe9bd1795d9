//! Proxies whose word about their clients is taken, and what they say.
//!
//! Anybody can write `X-Forwarded-For`. So it counts on connections from `--trusted-proxy` alone,
//! and of its hops only those that such a proxy wrote: the right-most that is no trusted proxy
//! itself is where a request comes from, whatever stands before it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use fleet_core::untrusted::Untrusted;
use hyper::header::HeaderMap;

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// A range of addresses, as in `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Why a text names no proxies.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NetworkError {
    /// Something else.
    #[error("{0} is not an address like 10.0.0.1 or a range like 10.0.0.0/24")]
    Form(Untrusted),
    /// A range that is written by one of its addresses, or with a number that was mistyped.
    #[error("{0} is no range: its first address is {1}")]
    HostBits(Untrusted, IpAddr),
    /// Whoever asks could say who they are.
    #[error("{0} would trust everybody")]
    Everybody(Untrusted),
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || NetworkError::Form(Untrusted::from(text));
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| form())?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => bits_max,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().ok().filter(|bits| *bits <= bits_max).ok_or_else(form)?
            }
            Some(_) => return Err(form()),
        };
        if bits == 0 {
            return Err(NetworkError::Everybody(Untrusted::from(text)));
        }
        let network = Self { address, bits };
        let first = network.first(address);
        if first == address {
            Ok(network)
        } else {
            Err(NetworkError::HostBits(Untrusted::from(text), first))
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Network {
    /// Whether an address lies in it.
    pub(crate) fn holds(self, address: IpAddr) -> bool {
        let address = if self.address.is_ipv4() { address.to_canonical() } else { address };
        address.is_ipv4() == self.address.is_ipv4() && self.first(address) == self.address
    }

    /// Whether no other address lies in it.
    pub(crate) fn is_one_host(self) -> bool {
        self.bits == if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// The first address of a range of this size that holds this one.
    fn first(self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(v4) => {
                let rest = u32::MAX.checked_shr(self.bits.into()).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & !rest).into())
            }
            IpAddr::V6(v6) => {
                let rest = u128::MAX.checked_shr(self.bits.into()).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & !rest).into())
            }
        }
    }
}

/// The proxies that are trusted.
#[derive(Debug, Default)]
pub(crate) struct Proxies(Vec<Network>);

/// What a trusted proxy says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Where it comes from; the proxy itself if that does not say.
    pub(crate) address: IpAddr,
    /// Whether it came to the proxy inside TLS.
    pub(crate) is_tls: bool,
}

impl Proxies {
    pub(crate) fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one of them.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.holds(address))
    }

    /// What is said of a request by a peer that is one of them. One without a word of this is the
    /// peer's own.
    pub(crate) fn passed(&self, peer: IpAddr, headers: &HeaderMap) -> Option<Passed> {
        let is_passed =
            headers.contains_key(FORWARDED_FOR) || headers.contains_key(FORWARDED_PROTO);
        if !is_passed || !self.trusts(peer) {
            return None;
        }
        // Several would be a client's beside the proxy's.
        let mut protocols = headers.get_all(FORWARDED_PROTO).iter();
        let is_tls = match (protocols.next(), protocols.next()) {
            (Some(protocol), None) => protocol.as_bytes().eq_ignore_ascii_case(b"https"),
            _ => false,
        };
        Some(Passed { address: self.sender(peer, headers), is_tls })
    }

    /// From the last hop back: each trusted one vouches for the one before it.
    fn sender(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut sender = peer.to_canonical();
        for line in headers.get_all(FORWARDED_FOR).iter().rev() {
            for hop in line.as_bytes().rsplit(|byte| *byte == b',') {
                let Some(address) = hop_address(hop) else { return sender };
                sender = address;
                if !self.trusts(address) {
                    return sender;
                }
            }
        }
        sender
    }
}

/// An address with or without a port.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let with_port = || text.parse::<SocketAddr>().ok().map(|hop| hop.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address: Option<IpAddr> = text.parse().ok().or_else(with_port).or_else(in_brackets);
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(texts: &[&str]) -> Proxies {
        Proxies::new(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_range_holds_its_addresses_and_no_others() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.7", "10.0.0.7", "10.0.0.6"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("fe80::1", "fe80::1", "fe80::2"),
            ("127.0.0.1/32", "127.0.0.1", "127.0.0.2"),
        ] {
            let range: Network = range.parse().unwrap();
            assert!(range.holds(inside.parse().unwrap()), "{range} {inside}");
            assert!(!range.holds(outside.parse().unwrap()), "{range} {outside}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "is not an address"),
            ("proxy.example", "is not an address"),
            ("10.0.0.0/33", "is not an address"),
            ("10.0.0.0/+8", "is not an address"),
            ("10.0.0.0/", "is not an address"),
            ("10.0.0.0/8/8", "is not an address"),
            ("::/129", "is not an address"),
            ("10.0.0.1/8", "its first address is 10.0.0.0"),
            ("0.0.0.0/0", "would trust everybody"),
            ("::/0", "would trust everybody"),
        ] {
            let problem = text.parse::<Network>().unwrap_err().to_string();
            assert!(problem.contains(reason), "{problem}");
        }
    }

    #[test]
    fn t30_only_what_trusted_proxies_wrote_says_where_a_request_comes_from() {
        let proxies = proxies(&["127.0.0.1", "10.0.0.0/24"]);
        let passed = |peer: &str, lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| (FORWARDED_FOR, *line)).collect();
            let passed = proxies.passed(peer.parse().unwrap(), &headers(&lines));
            passed.map(|passed| passed.address.to_string())
        };
        for (peer, lines, address) in [
            ("127.0.0.1", &["192.0.2.1"][..], Some("192.0.2.1")),
            ("::ffff:127.0.0.1", &["192.0.2.1"], Some("192.0.2.1")),
            // The client's own words stand before the proxy's.
            ("127.0.0.1", &["192.0.2.9, 192.0.2.1"], Some("192.0.2.1")),
            ("127.0.0.1", &["192.0.2.9", "192.0.2.1"], Some("192.0.2.1")),
            ("127.0.0.1", &["192.0.2.1", "10.0.0.3"], Some("192.0.2.1")),
            ("127.0.0.1", &["192.0.2.9, 192.0.2.1,10.0.0.3"], Some("192.0.2.1")),
            ("127.0.0.1", &["10.0.0.9,10.0.0.3"], Some("10.0.0.9")),
            ("127.0.0.1", &["192.0.2.9, nonsense, 10.0.0.3"], Some("10.0.0.3")),
            ("127.0.0.1", &["nonsense"], Some("127.0.0.1")),
            ("127.0.0.1", &[""], Some("127.0.0.1")),
            ("127.0.0.1", &["192.0.2.1:4711"], Some("192.0.2.1")),
            ("127.0.0.1", &["[2001:db8::1]:4711"], Some("2001:db8::1")),
            ("127.0.0.1", &["[2001:db8::1]"], Some("2001:db8::1")),
            ("127.0.0.1", &["::ffff:192.0.2.1"], Some("192.0.2.1")),
            ("127.0.0.1", &[], None),
            ("192.0.2.7", &["192.0.2.1"], None),
            ("127.0.0.2", &["192.0.2.1"], None),
        ] {
            assert_eq!(passed(peer, lines).as_deref(), address, "{peer} {lines:?}");
        }
    }

    #[test]
    fn https_is_what_one_trusted_word_says() {
        let proxies = proxies(&["127.0.0.1"]);
        let is_tls = |peer: &str, lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| (FORWARDED_PROTO, *line)).collect();
            proxies.passed(peer.parse().unwrap(), &headers(&lines)).map(|passed| passed.is_tls)
        };
        assert_eq!(is_tls("127.0.0.1", &["https"]), Some(true));
        assert_eq!(is_tls("127.0.0.1", &["HTTPS"]), Some(true));
        assert_eq!(is_tls("127.0.0.1", &["http"]), Some(false));
        assert_eq!(is_tls("127.0.0.1", &["https", "http"]), Some(false));
        assert_eq!(is_tls("127.0.0.1", &["https, http"]), Some(false));
        assert_eq!(is_tls("192.0.2.1", &["https"]), None);
    }
}
