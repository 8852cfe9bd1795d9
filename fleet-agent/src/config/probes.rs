//! `probes:` in `config.yaml`.

use std::time::Duration;

use fleet_core::limits::LABEL_BYTES_MAX;
use fleet_core::time::parse_duration;
use fleet_core::untrusted::Untrusted;
use fleet_core::yaml::Document;
use hyper::Uri;
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::ConfigError;
use crate::probe::{INTERVAL_DEFAULT, PROBES_MAX, Probe, Target};

/// Characters of a probe's name, and of a host.
const NAME_CHARS_MAX: usize = 64;
const HOST_CHARS_MAX: usize = 255;
const INTERVAL_MIN: Duration = Duration::from_secs(1);
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// A probe as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawProbe {
    name: Option<Spanned<String>>,
    icmp: Option<Spanned<String>>,
    tcp: Option<Spanned<String>>,
    http: Option<Spanned<String>>,
    interval: Option<Spanned<String>>,
}

/// Every probe checked, or the first that cannot be obeyed.
pub(super) fn check(
    written: Vec<Spanned<RawProbe>>,
    document: &Document,
) -> Result<Vec<Probe>, ConfigError> {
    let mut probes: Vec<Probe> = Vec::new();
    for raw in written {
        let place = document.place(raw.referenced);
        let RawProbe { name, icmp, tcp, http, interval } = raw.value;
        if probes.len() == PROBES_MAX {
            return Err(place.error(format!("more than {PROBES_MAX} probes")));
        }
        let icmp = document.check(icmp, host)?.map(Target::Icmp);
        let tcp = document.check(tcp, host_and_port)?.map(Target::Tcp);
        let http = document.check(http, url)?.map(Target::Http);
        let mut targets = [icmp, tcp, http].into_iter().flatten();
        let (Some(target), None) = (targets.next(), targets.next()) else {
            return Err(place.error("a probe has exactly one of icmp, tcp and http"));
        };
        let name = document.check(name, name_of)?.unwrap_or_else(|| match &target {
            Target::Icmp(host) | Target::Tcp(host) => host.clone(),
            // What follows the path may be a secret.
            Target::Http(uri) => {
                format!("{}{}", uri.authority().map_or("", |host| host.as_str()), uri.path())
            }
        });
        if name.len() > LABEL_BYTES_MAX {
            return Err(place.error("this probe needs a name: what it asks is too long for one"));
        }
        if probes.iter().any(|probe| probe.name == name) {
            let name = Untrusted::new(name);
            return Err(place.error(format!("there is a probe called {name:?} already")));
        }
        let interval = document.check(interval, time)?.unwrap_or(INTERVAL_DEFAULT);
        probes.push(Probe { name, target, interval });
    }
    Ok(probes)
}

fn name_of(text: String) -> Result<String, String> {
    let sound = (1..=NAME_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if sound {
        return Ok(text);
    }
    Err(format!("name must have 1 to {NAME_CHARS_MAX} letters, digits, dots, _ or -"))
}

/// A name or an address, without a port.
fn host(text: String) -> Result<String, String> {
    // An address of IPv6 stands in brackets wherever a port may follow.
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok(format!("[{text}]"));
    }
    if is_host(&text) { Ok(text) } else { Err("icmp is not a host like 192.168.1.1".to_owned()) }
}

fn host_and_port(text: String) -> Result<String, String> {
    let sound = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_host(host),
        };
        is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if sound { Ok(text) } else { Err("tcp is not a host and port like broker:1883".to_owned()) }
}

fn is_host(text: &str) -> bool {
    (1..=HOST_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

fn url(text: String) -> Result<Uri, String> {
    let uri = text.parse::<Uri>().ok().filter(|uri| {
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        uri.scheme_str() == Some("http") && authority.is_some()
    });
    uri.ok_or_else(|| "http is not a URL like http://host:8080/health".to_owned())
}

fn time(text: String) -> Result<Duration, String> {
    let interval = parse_duration(&text);
    let interval =
        interval.map_err(|error| format!("interval {:?} is {error}", Untrusted::new(text)))?;
    if (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
        Ok(interval)
    } else {
        Err("interval must be between 1s and 1h".to_owned())
    }
}
