//! Where a browser's request must come from: a name that is this server's own, and for whatever
//! changes something one of our own pages.
//!
//! The first keeps a stranger's name that points here from being an origin here (DNS rebinding),
//! the second keeps other pages from sending our forms.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use fleet_core::net::url::ServerUrl;
use fleet_core::untrusted::Untrusted;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};

use crate::http::reply::Failure;

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// The names by which browsers may call this server, besides addresses.
pub(super) struct Hosts(BTreeSet<String>);

impl Hosts {
    /// What the machine calls itself, what devices are told, and what the operator allows.
    pub(super) fn new(machine: &str, public_url: Option<&ServerUrl>, allowed: &[String]) -> Self {
        let mut names = BTreeSet::from(["localhost".to_owned()]);
        let machine = plain(machine);
        if let Some(label) = machine.split('.').next().filter(|label| !label.is_empty()) {
            names.insert(format!("{label}.local"));
            names.insert(label.to_owned());
            names.insert(machine.clone());
        }
        names.extend(public_url.map(|url| plain(url.host())));
        // Browsers send the port along, so somebody may well write it here.
        names.extend(allowed.iter().map(|name| plain(host(name))));
        names.remove("");
        Self(names)
    }

    /// Refuses a request that calls this server by a name that is not its own.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let authority = authority(headers).unwrap_or_default();
        let host = plain(host(authority));
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        let is_address = host.parse::<IpAddr>().is_ok()
            || host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'))
                .is_some_and(|host| host.parse::<Ipv6Addr>().is_ok());
        let is_own = is_address || host.ends_with(".localhost") || self.0.contains(&host);
        if is_own && authority.chars().all(is_name) {
            return Ok(());
        }
        let detail = format!(
            "this server does not go by the name {}: if it is its own, start it with --allowed-host",
            Untrusted::new(host),
        );
        Err(Failure::new(StatusCode::MISDIRECTED_REQUEST, detail))
    }
}

/// Refuses what another page sends. Browsers say where a request comes from in one of two ways;
/// what says nothing is no browser that we know.
pub(super) fn check_origin(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let is_own = match (text(SEC_FETCH_SITE), text(header::ORIGIN.as_str())) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => {
            let named = origin.split_once("://").map(|(_, authority)| authority);
            named.is_some() && named == authority(headers)
        }
        (None, None) => false,
    };
    if is_own {
        return Ok(());
    }
    Err(Failure::new(StatusCode::FORBIDDEN, "this was not sent from a page of this server"))
}

/// Whether others could read what a browser sends. One that reaches this server through a proxy
/// inside TLS, or on its own machine, says where a request comes from; it says so nowhere else.
pub(super) fn is_overheard(headers: &HeaderMap, is_tls: bool, remote: IpAddr) -> bool {
    !is_tls && !remote.to_canonical().is_loopback() && !headers.contains_key(SEC_FETCH_SITE)
}

/// The name and port by which a request calls this server.
pub(super) fn authority(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

/// The host in `host:port`, as it is compared, and without an address' brackets.
pub(super) fn host_name(authority: &str) -> String {
    plain(host(authority)).trim_matches(['[', ']']).to_owned()
}

/// The host in `host:port`.
fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// A name as it is compared.
fn plain(name: &str) -> String {
    name.trim().trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn t18_a_server_answers_to_its_own_names_and_addresses() {
        let url: ServerUrl = "http://fleet.example:8080".parse().unwrap();
        let allowed = ["proxy.example", "port.example:8443", "", ":8080"].map(str::to_owned);
        let hosts = Hosts::new("Lab-1.example.net", Some(&url), &allowed);
        for own in [
            "localhost",
            "localhost:8080",
            "demo.localhost:8080",
            "127.0.0.1:8080",
            "10.0.0.7",
            "[::1]",
            "[fe80::1]:8080",
            "lab-1:8080",
            "LAB-1.local",
            "lab-1.example.net.:8080",
            "fleet.example:8080",
            "proxy.example",
            "port.example:8443",
        ] {
            assert!(hosts.check(&headers(&[("host", own)])).is_ok(), "{own}");
        }
        for other in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            ":8080",
            "[x]",
            "local",
        ] {
            assert!(hosts.check(&headers(&[("host", other)])).is_err(), "{other}");
        }
        assert!(hosts.check(&HeaderMap::new()).is_err());
    }

    #[test]
    fn what_goes_over_a_network_in_plain_text_is_overheard() {
        let (bare, fetch) = (headers(&[]), headers(&[("sec-fetch-site", "none")]));
        for (headers, is_tls, remote, is_so) in [
            (&bare, false, "10.0.0.7", true),
            (&bare, false, "2001:db8::1", true),
            (&bare, true, "10.0.0.7", false),
            (&bare, false, "127.0.0.1", false),
            (&bare, false, "::ffff:127.0.0.1", false),
            (&fetch, false, "10.0.0.7", false),
        ] {
            assert_eq!(is_overheard(headers, is_tls, remote.parse().unwrap()), is_so, "{remote}");
        }
    }

    #[test]
    fn t17_only_our_own_pages_send_our_forms() {
        let host = ("host", "fleet:8080");
        for own in [
            &[host, ("origin", "http://fleet:8080")][..],
            &[host, ("origin", "https://fleet:8080")],
            &[host, ("sec-fetch-site", "same-origin"), ("origin", "null")],
            &[host, ("sec-fetch-site", "none")],
        ] {
            assert!(check_origin(&headers(own)).is_ok(), "{own:?}");
        }
        for other in [
            &[host][..],
            &[host, ("origin", "null")],
            &[host, ("origin", "http://fleet")],
            &[host, ("origin", "http://evil.example")],
            &[host, ("sec-fetch-site", "cross-site"), ("origin", "http://fleet:8080")],
            &[host, ("sec-fetch-site", "same-site")],
        ] {
            assert!(check_origin(&headers(other)).is_err(), "{other:?}");
        }
    }
}
