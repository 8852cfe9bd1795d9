//! Discovery: whether this host can send to everybody and hear everybody, who shares the port, and
//! which devices are seen.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::host::{Protocol, holders};
use super::{Check, STEP};
use crate::Chain;
use crate::beacon::{Heard, SERVICE_TYPE};
use crate::mdns::{self, Echo, Event, Instance, Options};

const MULTICAST: &str = "multicast";
const SHARED: &str = "port 5353";
const DEVICES: &str = "devices";
/// How long devices are looked for.
const SEARCH: Duration = Duration::from_secs(3);
/// What lets packets in.
const OPEN: &str = "sudo ufw allow 5353/udp";

/// What a search brought.
#[derive(Debug, Default)]
pub struct Found {
    /// The steps.
    pub checks: Vec<Check>,
    /// The devices that were seen.
    pub instances: Vec<Instance>,
}

/// Looks for devices, and at what may be in the way.
pub async fn search(options: Options) -> Found {
    let (echoes, looked) =
        tokio::join!(timeout(STEP, mdns::echoes(&options)), look(options.clone()));
    let echoes = echoes.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let mut checks = vec![multicast(echoes), shared()];
    match looked {
        Ok(instances) => {
            checks.push(devices(&options, &instances));
            Found { checks, instances }
        }
        Err(error) => {
            checks.push(Check::failed(DEVICES, format!("cannot look: {}", Chain(&error))));
            Found { checks, ..Found::default() }
        }
    }
}

async fn look(options: Options) -> io::Result<Vec<Instance>> {
    let mut browser = mdns::browse(options, SERVICE_TYPE)?;
    let mut seen: BTreeMap<u64, Instance> = BTreeMap::new();
    let end = sleep(SEARCH);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            event = browser.next() => match event {
                Some(Event::Found(instance) | Event::Updated(instance)) => {
                    seen.insert(instance.key, instance);
                }
                Some(Event::Lost(instance)) => {
                    seen.remove(&instance.key);
                }
                None => break,
            }
        }
    }
    Ok(seen.into_values().collect())
}

fn multicast(echoes: io::Result<Vec<Echo>>) -> Check {
    let echoes = match echoes {
        Ok(echoes) => echoes,
        Err(error) => return Check::failed(MULTICAST, Chain(&error).to_string()),
    };
    if echoes.is_empty() {
        return Check::failed(MULTICAST, "no network is up").fix("ip address");
    }
    let place = |echo: &Echo| {
        format!("{} ({})", echo.interface, if echo.is_ipv4 { "IPv4" } else { "IPv6" })
    };
    let good: Vec<String> =
        echoes.iter().filter(|echo| matches!(echo.heard, Ok(true))).map(place).collect();
    let bad: Vec<String> = echoes
        .iter()
        .filter_map(|echo| match &echo.heard {
            Ok(true) => None,
            Ok(false) => Some(format!("{}: nothing comes back", place(echo))),
            Err(error) => Some(format!("{}: {error}", place(echo))),
        })
        .collect();
    let in_use =
        |echo: &Echo| matches!(&echo.heard, Err(error) if error.kind() == io::ErrorKind::AddrInUse);
    if let Some(holder) = echoes.iter().any(in_use).then(|| holders(Protocol::Udp, 5353).pop()) {
        let who = holder.map_or_else(|| "a program".to_owned(), |holder| holder.words());
        return Check::failed(MULTICAST, format!("{who} has port 5353/udp for itself"))
            .fix("sudo ss -ulpn sport = :5353, and end that program");
    }
    match (good.is_empty(), bad.is_empty()) {
        (_, true) => Check::ok(MULTICAST, format!("sent and heard on {}", good.join(", "))),
        (false, false) => Check::warning(
            MULTICAST,
            format!("heard on {}, but {}", good.join(", "), bad.join(", ")),
        )
        .fix(OPEN),
        (true, false) => {
            Check::failed(MULTICAST, format!("{}; a firewall may be in the way", bad.join(", ")))
                .fix(OPEN)
        }
    }
}

/// Sharing is as it should be; who does so explains much.
fn shared() -> Check {
    let me = std::process::id();
    let others: Vec<String> = holders(Protocol::Udp, 5353)
        .iter()
        .filter(|holder| holder.process.as_ref().is_none_or(|(pid, _)| *pid != me))
        .map(super::host::Holder::words)
        .collect();
    if others.is_empty() {
        Check::ok(SHARED, "nobody else uses it")
    } else {
        Check::ok(SHARED, format!("shared with {}", others.join(", ")))
    }
}

fn devices(options: &Options, instances: &[Instance]) -> Check {
    let names: BTreeMap<u32, String> = mdns::interfaces(options)
        .unwrap_or_default()
        .into_iter()
        .map(|interface| (interface.index, interface.name))
        .collect();
    let mut by_interface: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for instance in instances {
        let id = Heard::read(instance).id.map(|id| id.to_string());
        let id = id.unwrap_or_else(|| instance.name.raw().to_owned());
        for address in &instance.addresses {
            let name = names.get(&address.interface_index).map_or("?", String::as_str);
            let ids = by_interface.entry(name).or_default();
            if !ids.contains(&id) {
                ids.push(id.clone());
            }
        }
    }
    if by_interface.is_empty() {
        let secs = SEARCH.as_secs();
        return Check::warning(DEVICES, format!("none was seen within {secs} s"))
            .fix("on the device: sudo fleetd doctor; here: fleets discover --debug");
    }
    let shown: Vec<String> = by_interface
        .iter()
        .map(|(interface, ids)| format!("{} on {interface} ({})", ids.len(), ids.join(", ")))
        .collect();
    Check::ok(DEVICES, shown.join("; "))
}
