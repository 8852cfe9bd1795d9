//! URLs that may be called, read by one strict reader: what it does not understand is refused, so
//! nobody after it can understand it in another way.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use hyper::http::uri::PathAndQuery;

/// Bytes of a URL; those of some receivers carry keys of several hundred.
const URL_BYTES_MAX: usize = 2048;
/// Bytes of a name and of each of its labels (RFC 1035).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// A URL that may be called if its addresses may be.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    is_secure: bool,
    host: String,
    /// The host, if it is given by address.
    address: Option<IpAddr>,
    port: u16,
    path: PathAndQuery,
}

/// Why a text is no such URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It is longer than any should be.
    #[error("the URL is longer than {URL_BYTES_MAX} bytes")]
    Long,
    /// It has spaces, control characters, or letters that are not of ASCII.
    #[error("a URL has only visible ASCII characters; write other names as xn--…")]
    Characters,
    /// It is of another scheme, or of none.
    #[error("the URL begins with neither http:// nor https://")]
    Scheme,
    /// It names a user.
    #[error("the URL has a user or a password before its host")]
    User,
    /// Its host could be read in more than one way.
    #[error(
        "the URL's host is neither a plain name nor an address like 192.0.2.1 or [2001:db8::1]"
    )]
    Host,
    /// Its port is none.
    #[error("the URL's port is no number from 1 to 65535")]
    Port,
    /// What follows cannot be sent.
    #[error("what follows the URL's host is no path")]
    Path,
    /// It has a part that no server is ever sent.
    #[error("the URL has a part after #, which is never sent")]
    Fragment,
}

impl Target {
    /// Whether it is of https.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The host: a name as it was written, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The same as certificates and `Host` headers have it, without the dot at its end.
    pub fn host_name(&self) -> &str {
        self.host.strip_suffix('.').unwrap_or(&self.host)
    }

    /// The host, if it is given by address.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, which may be secret.
    pub fn path(&self) -> &PathAndQuery {
        &self.path
    }

    /// What the `Host` header says: the port only where it is not the scheme's own.
    pub fn host_header(&self) -> String {
        let host = match self.address {
            Some(IpAddr::V6(v6)) => format!("[{v6}]"),
            _ => self.host_name().to_owned(),
        };
        match (self.is_secure, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Host and port, as errors say them.
    pub fn peer(&self) -> String {
        match self.address {
            Some(IpAddr::V6(v6)) => format!("[{v6}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Without the rest of the URL, which may be a secret.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}/…", self.peer())
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > URL_BYTES_MAX {
            return Err(TargetError::Long);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TargetError::Characters);
        }
        let (scheme, rest) = text.split_once("://").ok_or(TargetError::Scheme)?;
        let is_secure = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(TargetError::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(TargetError::User);
        }
        if path.contains('#') {
            return Err(TargetError::Fragment);
        }
        let (host, port) = split_port(authority)?;
        let (host, address) = read_host(host)?;
        let port = match port {
            None if is_secure => 443,
            None => 80,
            Some(port) => port,
        };
        let path = match path {
            "" => "/".to_owned(),
            query if query.starts_with('?') => format!("/{query}"),
            path => path.to_owned(),
        };
        let path = path.parse().map_err(|_| TargetError::Path)?;
        Ok(Self { is_secure, host, address, port, path })
    }
}

/// The host, with its brackets if it has any, and the port if there is one.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), TargetError> {
    let digits = |text: &str| -> Result<u16, TargetError> {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let port = text.parse().ok().filter(|port| is_number && *port != 0);
        port.ok_or(TargetError::Port)
    };
    // In brackets there are colons that begin no port.
    let (host, port) = match authority.find(']') {
        Some(end) => match authority.split_at(end + 1) {
            (host, "") => (host, None),
            (host, rest) => (host, Some(rest.strip_prefix(':').ok_or(TargetError::Host)?)),
        },
        None if authority.starts_with('[') => return Err(TargetError::Host),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    Ok((host, port.map(digits).transpose()?))
}

fn read_host(text: &str) -> Result<(String, Option<IpAddr>), TargetError> {
    if let Some(rest) = text.strip_prefix('[') {
        let address: Option<Ipv6Addr> = rest.strip_suffix(']').and_then(|text| text.parse().ok());
        let address = address.ok_or(TargetError::Host)?;
        return Ok((address.to_string(), Some(address.into())));
    }
    // Four plain numbers; this takes no other way to write them.
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok((address.to_string(), Some(address.into())));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let labels = || name.split('.');
    let is_label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= LABEL_BYTES_MAX && label.bytes().all(plain)
    };
    // No name of the internet ends so; a resolver may read it as an address in some old notation.
    let ends_in_number = labels().next_back().is_some_and(|last| {
        let hexadecimal = last.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("0x"));
        hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit())
    });
    if name.len() > NAME_BYTES_MAX || !labels().all(is_label) || ends_in_number {
        return Err(TargetError::Host);
    }
    Ok((text.to_ascii_lowercase(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_they_will_be_called() {
        for (text, host, port, path) in [
            ("http://hooks.example", "hooks.example", 80, "/"),
            ("https://Hooks.Example/a/b?c=d", "hooks.example", 443, "/a/b?c=d"),
            ("HTTPS://hooks.example.:8443?x=1", "hooks.example.", 8443, "/?x=1"),
            ("http://192.0.2.1:80/", "192.0.2.1", 80, "/"),
            ("https://[2001:DB8::1]:444/x", "2001:db8::1", 444, "/x"),
            ("http://[::ffff:127.0.0.1]", "::ffff:127.0.0.1", 80, "/"),
            ("http://xn--bcher-kva.example/%20", "xn--bcher-kva.example", 80, "/%20"),
            ("http://my_host/a@b", "my_host", 80, "/a@b"),
            ("http://1.2.3.4.example", "1.2.3.4.example", 80, "/"),
        ] {
            let target: Target = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            let read = (target.host(), target.port(), target.path().as_str());
            assert_eq!(read, (host, port, path), "{text}");
        }
    }

    #[test]
    fn t15_what_could_be_read_in_two_ways_is_not_read_at_all() {
        for (text, error) in [
            ("", TargetError::Scheme),
            ("hooks.example", TargetError::Scheme),
            ("//hooks.example", TargetError::Scheme),
            ("ftp://hooks.example", TargetError::Scheme),
            ("file:///etc/passwd", TargetError::Scheme),
            ("gopher://127.0.0.1:70/_x", TargetError::Scheme),
            ("unix://run/docker.sock", TargetError::Scheme),
            ("http:/hooks.example", TargetError::Scheme),
            ("http:hooks.example", TargetError::Scheme),
            ("http:\\\\hooks.example", TargetError::Scheme),
            ("http://", TargetError::Host),
            ("http:///x", TargetError::Host),
            ("http://:80", TargetError::Host),
            ("http://.", TargetError::Host),
            ("http://a..b", TargetError::Host),
            ("http://a..", TargetError::Host),
            ("http://a%2eb", TargetError::Host),
            ("http://127.0.0.1%2f@x", TargetError::User),
            ("http://user@hooks.example", TargetError::User),
            ("http://hooks.example:80@127.0.0.1", TargetError::User),
            ("http://hooks.example\\@127.0.0.1", TargetError::User),
            ("http://hooks.example\\.127.0.0.1", TargetError::Host),
            ("http://hooks.example#@127.0.0.1/", TargetError::Fragment),
            ("http://hooks.example/#x", TargetError::Fragment),
            ("http://2130706433/", TargetError::Host),
            ("http://0x7f.1/", TargetError::Host),
            ("http://0x7f000001/", TargetError::Host),
            ("http://0X7F000001/", TargetError::Host),
            ("http://0177.0.0.1/", TargetError::Host),
            ("http://127.1/", TargetError::Host),
            ("http://127.0.0.1./", TargetError::Host),
            ("http://0/", TargetError::Host),
            ("http://[::1", TargetError::Host),
            ("http://::1/", TargetError::Port),
            ("http://[::1%25lo]/", TargetError::Host),
            ("http://[127.0.0.1]/", TargetError::Host),
            ("http://[::1].example/", TargetError::Host),
            ("http://x[::1]/", TargetError::Host),
            ("http://①②⑦.0.0.1/", TargetError::Characters),
            ("http://ⓔxample/", TargetError::Characters),
            ("http://hooks.example/ x", TargetError::Characters),
            ("http://hooks.example/\r\nX: y", TargetError::Characters),
            ("http://hooks.example\t", TargetError::Characters),
            ("http://hooks.example\0", TargetError::Characters),
            ("http://hooks.example:", TargetError::Port),
            ("http://hooks.example:0", TargetError::Port),
            ("http://hooks.example:+80", TargetError::Port),
            ("http://hooks.example:65536", TargetError::Port),
            ("http://hooks.example:80:80", TargetError::Port),
            ("http://[::1]:x", TargetError::Port),
            ("http://hooks.example/<", TargetError::Path),
        ] {
            assert_eq!(text.parse::<Target>(), Err(error), "{text:?}");
        }
        let long = format!("http://hooks.example/{}", "x".repeat(URL_BYTES_MAX));
        assert_eq!(long.parse::<Target>(), Err(TargetError::Long));
        let label = format!("http://{}.example", "x".repeat(64));
        assert_eq!(label.parse::<Target>(), Err(TargetError::Host));
    }

    #[test]
    fn what_is_behind_the_host_is_not_shown() {
        let target: Target = "https://hooks.example/services/secret?token=x".parse().unwrap();
        assert_eq!(format!("{target:?}"), "https://hooks.example:443/…");
    }
}
