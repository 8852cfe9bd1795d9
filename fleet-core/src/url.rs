//! Server URLs: `http://host:port` and `https://host:port`, nothing behind the port.
//!
//! Our programs speak TLS to either; the scheme only decides the port when none is given, and is
//! kept because people recognise their server by it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::URL_BYTES_MAX;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerUrl {
    secure: bool,
    host: String,
    port: u16,
}

impl ServerUrl {
    /// A URL for an address.
    pub fn from_address(address: IpAddr, port: u16) -> Self {
        Self { secure: false, host: address.to_string(), port }
    }

    /// The same, of https.
    #[must_use]
    pub fn secure(self) -> Self {
        Self { secure: true, ..self }
    }

    /// The host: a name or an address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The same as certificates and `Host` headers have it, without the dot at its end.
    pub fn host_name(&self) -> &str {
        self.host.trim_end_matches('.')
    }

    /// Whether it is of https.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it names this very host.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
    }

    /// `host:port`, for an HTTP `Host` header.
    pub fn authority(&self) -> String {
        if self.host.parse::<Ipv6Addr>().is_ok() {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        let default = if self.secure { 443 } else { 80 };
        let authority = self.authority();
        let shown = if self.port == default {
            authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host)
        } else {
            authority.as_str()
        };
        f.pad(&format!("{scheme}://{shown}"))
    }
}

/// A text that is no server URL.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a server URL like http://your-server:8080")]
pub struct ServerUrlError;

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").ok_or(ServerUrlError)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(ServerUrlError),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = if let Some(bracketed) = rest.strip_prefix('[') {
            let (host, port) = bracketed.split_once(']').ok_or(ServerUrlError)?;
            host.parse::<Ipv6Addr>().map_err(|_| ServerUrlError)?;
            (host, port.strip_prefix(':').or(port.is_empty().then_some("")))
        } else {
            match rest.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (rest, Some("")),
            }
        };
        let port = match port.ok_or(ServerUrlError)? {
            "" => {
                if secure {
                    443
                } else {
                    80
                }
            }
            digits => digits.parse().ok().filter(|port| *port != 0).ok_or(ServerUrlError)?,
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        if host.is_empty() || !host.bytes().all(plain) || text.len() > URL_BYTES_MAX {
            return Err(ServerUrlError);
        }
        Ok(Self { secure, host: host.to_ascii_lowercase(), port })
    }
}

impl TryFrom<String> for ServerUrl {
    type Error = ServerUrlError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ServerUrl> for String {
    fn from(url: ServerUrl) -> Self {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_read_and_print() {
        for (text, shown, port) in [
            ("http://your-server:8080", "http://your-server:8080", 8080),
            ("https://fleet.example.com", "https://fleet.example.com", 443),
            ("http://Host/", "http://host", 80),
            ("http://[fe80::1]:8080", "http://[fe80::1]:8080", 8080),
            ("https://[::1]", "https://[::1]", 443),
        ] {
            let url: ServerUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.port()), (shown, port));
        }
        for bad in [
            "",
            "host:8080",
            "ftp://a",
            "http://",
            "http://a:0",
            "http://a:x",
            "http://a/b",
            "http://a@b",
            "http://[x]:1",
            "http://a\x1b:1",
        ] {
            assert_eq!(bad.parse::<ServerUrl>(), Err(ServerUrlError), "{bad:?}");
        }
    }
}
