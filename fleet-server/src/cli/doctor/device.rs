//! Devices: whether each answers, whose it is, whether the server knows it, and whether it goes by its
//! configuration.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use bytes::Bytes;
use fleet_core::Chain;
use fleet_core::api::{Device, DeviceState, DeviceStatus};
use fleet_core::beacon::{AGENT_PORT, Heard};
use fleet_core::doctor::{AFTER, Check, STEP, in_time};
use fleet_core::identity::{Fingerprint, ServerIdentity};
use fleet_core::mdns::{Address, Instance};
use fleet_core::net::http::{self, HttpError};
use fleet_core::net::tls::Pin;
use fleet_core::operator::client::{Client, ClientError};
use futures_util::future::join_all;
use http_body_util::Full;
use hyper::Request;

const SEEN: &str = "seen";
const PORT: &str = "agent port";
const CLAIM: &str = "claim";
const KNOWN: &str = "known";
const CONFIG: &str = "configuration";
/// Devices that are looked at when none is named.
const DEVICES_MAX: usize = 20;
/// Addresses of one that are tried.
const ADDRESSES_MAX: usize = 4;
/// Bytes of an agent's answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A device as mDNS shows it.
#[derive(Default)]
struct Seen {
    heard: Option<Heard>,
    addresses: Vec<SocketAddr>,
}

/// The steps for one device, or for all that are seen.
pub(super) async fn checks(
    named: Option<&str>,
    instances: &[Instance],
    client: Option<Client>,
) -> Vec<(String, Vec<Check>)> {
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    for instance in instances {
        let heard = Heard::read(instance);
        let Some(id) = heard.id.as_ref().map(ToString::to_string) else { continue };
        let device = seen.entry(id).or_default();
        device.addresses.extend(instance.addresses.iter().map(|at| place(at, instance.port)));
        device.heard.get_or_insert(heard);
    }
    let devices: Vec<(String, Seen)> = match named {
        Some(id) => vec![(id.to_owned(), seen.remove(id).unwrap_or_default())],
        None => seen.into_iter().take(DEVICES_MAX).collect(),
    };
    let client = client.as_ref();
    let each = devices.into_iter().map(async |(id, seen)| {
        let ours = client.map(Client::server);
        let stranger = seen.heard.as_ref().and_then(|heard| heard.server);
        let checks = match stranger.filter(|server| ours.is_some_and(|ours| ours != *server)) {
            // Who has asked for none in particular has asked for those of this fleet.
            Some(server) if named.is_none() => {
                vec![announced(&seen), Check::skipped(CLAIM, format!("it belongs to {server}"))]
            }
            _ => in_time(AFTER, SEEN, examine(&id, &seen, client)).await,
        };
        (id, checks)
    });
    join_all(each).await
}

fn place(address: &Address, port: u16) -> SocketAddr {
    match address.ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, port, 0, address.interface_index).into()
        }
        ip => SocketAddr::new(ip, port),
    }
}

async fn examine(id: &str, seen: &Seen, client: Option<&Client>) -> Vec<Check> {
    let known = match client {
        Some(client) => Some(client.device_get(id).await),
        None => None,
    };
    let device = known.as_ref().and_then(|known| known.as_ref().ok());
    let fingerprint = seen.heard.as_ref().and_then(|heard| heard.fingerprint);
    let fingerprint = fingerprint.or_else(|| device.and_then(|device| device.fingerprint));
    let port = port(&addresses(seen, device), fingerprint).await;
    let ours = client.map(Client::server);
    let mut checks = vec![announced(seen), port, claim(id, seen.heard.as_ref(), ours)];
    let is_unclaimed = seen
        .heard
        .as_ref()
        .is_some_and(|heard| !matches!(heard.state, Some(DeviceState::Claimed) | None));
    checks.push(match &known {
        Some(known) => self::known(id, known.as_ref(), is_unclaimed),
        None => Check::skipped(KNOWN, "no server was asked"),
    });
    checks.push(device.map_or_else(|| Check::skipped(CONFIG, "not known"), configuration));
    checks
}

fn announced(seen: &Seen) -> Check {
    match &seen.heard {
        Some(_) => Check::ok(SEEN, "it announces itself here"),
        None => Check::warning(SEEN, "it does not announce itself on this machine's networks")
            .fix("on the device: sudo fleetd doctor"),
    }
}

/// Where its agent may answer: where mDNS has it, else where it says that it is.
fn addresses(seen: &Seen, device: Option<&Device>) -> Vec<SocketAddr> {
    let mut addresses = seen.addresses.clone();
    if addresses.is_empty() {
        let said = device.map(|device| device.facts.addresses.as_slice()).unwrap_or_default();
        let parsed = said.iter().filter_map(|address| address.raw().parse::<IpAddr>().ok());
        addresses.extend(parsed.map(|ip| SocketAddr::new(ip, AGENT_PORT)));
    }
    addresses.sort_unstable_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

async fn port(addresses: &[SocketAddr], fingerprint: Option<Fingerprint>) -> Check {
    if addresses.is_empty() {
        return Check::skipped(PORT, "it has no address that is known here");
    }
    let asked = join_all(addresses.iter().map(|address| health(*address, fingerprint))).await;
    let answered = addresses.iter().zip(&asked).find(|(_, asked)| asked.is_ok());
    if let Some((address, Ok(status))) = answered {
        return Check::ok(PORT, format!("{address} answers: {status}"));
    }
    let errors = asked.iter().filter_map(|asked| asked.as_ref().err());
    let all: Vec<String> = errors.map(|error| Chain(error).to_string()).collect();
    let is_other = asked.iter().any(|asked| matches!(asked, Err(HttpError::WrongKey { .. })));
    let fix = if is_other {
        "fleets discover: two devices may have one address"
    } else {
        "on the device: sudo systemctl start fleetd-agent; sudo ufw allow 6789/tcp"
    };
    Check::failed(PORT, all.join("; ")).fix(fix)
}

async fn health(
    address: SocketAddr,
    fingerprint: Option<Fingerprint>,
) -> Result<String, HttpError> {
    let peer = address.to_string();
    let pin = fingerprint.map_or(Pin::Unknown, Pin::Device);
    let stream = http::connect_address(address, &peer, pin).await?;
    let request = Request::get("/health").body(Full::<Bytes>::default());
    let request = request.expect("a fixed path makes a request");
    let answer = http::send(stream, &peer, request, ANSWER_BYTES_MAX, STEP).await?;
    let health = serde_json::from_slice::<fleet_core::api::Health>(&answer.body);
    Ok(health.map_or_else(|_| answer.status.to_string(), |health| health.status))
}

/// Whose it is, as it says.
fn claim(id: &str, heard: Option<&Heard>, ours: Option<ServerIdentity>) -> Check {
    let Some(heard) = heard else { return Check::skipped(CLAIM, "it says nothing here") };
    match (heard.state, heard.server) {
        (None, _) => Check::skipped(CLAIM, "it does not say"),
        (Some(DeviceState::Unclaimed), _) => {
            let mode = heard.claim.map(|mode| format!(", claims: {}", mode.word()));
            Check::warning(CLAIM, format!("unclaimed{}", mode.unwrap_or_default()))
                .fix(format!("fleets configure --device {id}"))
        }
        (Some(DeviceState::Closed), _) => Check::warning(
            CLAIM,
            "unclaimed, and takes no claims: its time has passed, or its policy forbids them",
        )
        .fix("on the device: sudo systemctl restart fleetd-agent, or claim: in /etc/fleetd/policy.yaml"),
        (Some(DeviceState::Claimed), None) => Check::ok(CLAIM, "claimed"),
        (Some(DeviceState::Claimed), Some(server)) => match ours {
            Some(ours) if ours == server => Check::ok(CLAIM, "it belongs to this server"),
            Some(_) => Check::failed(CLAIM, format!("it belongs to another server, {server}"))
                .fix(format!("on the device: sudo fleetd reset; then: fleets configure --device {id}")),
            None => Check::ok(CLAIM, format!("it belongs to {server}")),
        },
    }
}

/// What the server makes of it.
fn known(id: &str, known: Result<&Device, &ClientError>, is_unclaimed: bool) -> Check {
    let device = match known {
        Ok(device) => device,
        Err(ClientError::Refused { status, .. }) if status.as_u16() == 404 => {
            let text = "the server does not know it";
            let fix = format!("fleets configure --device {id}");
            let check = if is_unclaimed { Check::warning } else { Check::failed };
            return check(KNOWN, text).fix(fix);
        }
        Err(error) => return Check::failed(KNOWN, Chain(error).to_string()),
    };
    let says = match (device.why.raw(), device.last_seen) {
        ("", Some(at)) => format!("{}, last heard from at {at}", device.status.word()),
        ("", None) => format!("{}, never heard from", device.status.word()),
        _ => format!("{}: {}", device.status.word(), device.why),
    };
    match device.status {
        DeviceStatus::Online => Check::ok(KNOWN, says),
        DeviceStatus::Late => Check::warning(KNOWN, says).fix("on the device: fleetd status"),
        DeviceStatus::Pending => {
            Check::warning(KNOWN, says).fix(format!("fleets devices accept {id}"))
        }
        DeviceStatus::Rejected | DeviceStatus::Revoked => {
            Check::failed(KNOWN, says).fix(format!("fleets devices accept {id}"))
        }
        _ => Check::failed(KNOWN, says).fix("on the device: sudo fleetd doctor"),
    }
}

fn configuration(device: &Device) -> Check {
    let wanted = device.config_version;
    if let Some(error) = &device.config_error {
        return Check::failed(CONFIG, format!("version {wanted} was refused: {error}"))
            .fix(format!("fleets config diff {}; fleets config rollback {0}", device.id));
    }
    match device.config_reported {
        Some(reported) if device.config_drift => Check::warning(
            CONFIG,
            format!("it goes by something else than version {wanted}, and said {reported}"),
        )
        .fix(format!("fleets config diff {}", device.id)),
        Some(reported) if reported == wanted => {
            Check::ok(CONFIG, format!("version {wanted} is applied"))
        }
        None if wanted == 0 => Check::ok(CONFIG, "none is set"),
        reported => {
            let said = reported.map_or_else(|| "none".to_owned(), |version| version.to_string());
            Check::warning(CONFIG, format!("version {wanted} is wanted, {said} is reported"))
                .fix("on the device: journalctl -u fleetd-agent -n 50")
        }
    }
}
