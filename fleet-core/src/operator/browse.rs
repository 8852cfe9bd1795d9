//! The devices that can be seen from here, as mDNS shows them.
//!
//! A device is its key: what several packets say of one id with one key is one device. Two keys
//! for one id are a *conflict*; both are shown and neither is a target. So is nothing that gives no
//! id or no key, and no address that did not itself answer.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use super::claim::Target;
use crate::api::Discovered;
use crate::beacon::{Heard, SERVICE_TYPE};
use crate::id::DeviceId;
use crate::identity::Fingerprint;
use crate::mdns::{self, Address, Browser, Event, Instance};
use crate::untrusted::Untrusted;

/// A silence of this length after somebody was seen: whoever poses as that device, or is the one that
/// is posed as, would have answered by then.
pub const QUIET: Duration = Duration::from_millis(600);

/// A search in progress.
pub struct Browse {
    browser: Browser,
    instances: BTreeMap<u64, Instance>,
}

/// A device that was seen.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// What it says of itself.
    pub device: Discovered,
    /// How to claim it; nothing where that cannot or must not be.
    pub target: Option<Target>,
}

impl Browse {
    /// Begins to look.
    pub fn start(options: mdns::Options) -> io::Result<Self> {
        Ok(Self { browser: mdns::browse(options, SERVICE_TYPE)?, instances: BTreeMap::new() })
    }

    /// Waits until something is different. False at the end of the search. May be dropped while
    /// it waits.
    pub async fn changed(&mut self) -> bool {
        let Some(event) = self.browser.next().await else { return false };
        self.take(event);
        while let Some(event) = self.browser.next_at_hand() {
            self.take(event);
        }
        true
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Found(instance) | Event::Updated(instance) => {
                self.instances.insert(instance.key, instance);
            }
            Event::Lost(instance) => {
                self.instances.remove(&instance.key);
            }
        }
    }

    /// The devices by id, those without one last.
    pub fn sightings(&self) -> Vec<Sighting> {
        sightings(self.instances.values())
    }

    /// The devices by id, as JSON shows them.
    pub fn devices(&self) -> Vec<Discovered> {
        self.sightings().into_iter().map(|sighting| sighting.device).collect()
    }
}

fn sightings<'a>(instances: impl Iterator<Item = &'a Instance>) -> Vec<Sighting> {
    let mut devices: Vec<Device<'_>> = Vec::new();
    let mut places: BTreeMap<(DeviceId, Fingerprint), usize> = BTreeMap::new();
    for instance in instances {
        let heard = Heard::read(instance);
        let identity = heard.id.clone().zip(heard.fingerprint);
        match identity.as_ref().and_then(|identity| places.get(identity)) {
            Some(place) => devices[*place].instances.push(instance),
            None => {
                places.extend(identity.map(|identity| (identity, devices.len())));
                devices.push(Device::new(instance, heard));
            }
        }
    }
    let contested = contested(places.into_keys());
    let mut sightings: Vec<_> = devices.iter().map(|device| device.sighting(&contested)).collect();
    sightings.sort_by(|a, b| {
        let rank = |sighting: &Sighting| {
            let id = sighting.device.device_id.clone();
            (id.is_none(), id, sighting.device.fingerprint)
        };
        rank(a).cmp(&rank(b))
    });
    sightings
}

/// The ids that come with more than one key. The keys of the map are sorted, so they are
/// neighbours.
fn contested(identities: impl Iterator<Item = (DeviceId, Fingerprint)>) -> BTreeSet<DeviceId> {
    let mut seen = BTreeSet::new();
    identities.filter_map(|(id, _)| (!seen.insert(id.clone())).then_some(id)).collect()
}

/// One device, put together from all that gave its id and key.
struct Device<'a> {
    /// The one heard first. The device is shown as this one says.
    instance: &'a Instance,
    heard: Heard,
    /// All of them, that one first.
    instances: Vec<&'a Instance>,
}

impl<'a> Device<'a> {
    fn new(instance: &'a Instance, heard: Heard) -> Self {
        Self { instance, heard, instances: vec![instance] }
    }

    fn sighting(&self, contested: &BTreeSet<DeviceId>) -> Sighting {
        let heard = &self.heard;
        let conflict = heard.id.as_ref().is_some_and(|id| contested.contains(id));
        let target = match (&heard.id, heard.fingerprint) {
            (Some(id), Some(fingerprint)) if !conflict => Some(Target {
                device_id: id.clone(),
                addresses: self.sources(),
                fingerprint,
                claim: heard.claim,
            }),
            _ => None,
        };
        let device = Discovered {
            name: Untrusted::new(format!("{}.{SERVICE_TYPE}.local.", self.instance.name.raw())),
            host: self.instance.host.clone(),
            ipv4: self.addresses_where(IpAddr::is_ipv4),
            ipv6: self.addresses_where(IpAddr::is_ipv6),
            port: self.instance.port,
            device_id: heard.id.clone(),
            version: heard.version.clone(),
            state: heard.state,
            claim: heard.claim,
            fingerprint: heard.fingerprint,
            server: heard.server,
            conflict,
        };
        Sighting { device, target }
    }

    /// The addresses of one family, those first that it answered from.
    fn addresses_where(&self, family: fn(&IpAddr) -> bool) -> Vec<IpAddr> {
        let addresses = self.instances.iter().flat_map(|instance| &instance.addresses);
        let mut found: Vec<_> = addresses
            .filter(|address| family(&address.ip))
            .map(|address| (!address.sourced, address.ip))
            .collect();
        found.sort_unstable();
        let mut seen = BTreeSet::new();
        found.into_iter().map(|(_, ip)| ip).filter(|ip| seen.insert(*ip)).collect()
    }

    /// Where to connect to: where its packets came from, IPv4 first. Each address with the port
    /// that was heard from it, so that a stranger who repeats the id and key of another device
    /// moves nobody but himself; and with one port only, so that he fills no more than his place.
    fn sources(&self) -> Vec<SocketAddr> {
        let mut sources = BTreeMap::new();
        for instance in &self.instances {
            for address in instance.addresses.iter().filter(|address| address.sourced) {
                sources.entry(socket_address(address, 0)).or_insert(instance.port);
            }
        }
        let with_port = |(mut source, port): (SocketAddr, u16)| {
            source.set_port(port);
            source
        };
        sources.into_iter().map(with_port).collect()
    }
}

fn socket_address(address: &Address, port: u16) -> SocketAddr {
    match address.ip {
        // A link-local address means nothing without its link.
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, port, 0, address.interface_index).into()
        }
        ip => (ip, port).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::PrivateKey;

    fn fingerprint(seed: u8) -> Fingerprint {
        PrivateKey::from_seed(&[seed; 32]).public().fingerprint()
    }

    fn instance(key: u64, txt: &[(&str, &str)], addresses: &[(&str, bool)]) -> Instance {
        Instance {
            key,
            name: format!("fleetd-{key}").into(),
            host: "host.local".into(),
            port: 6789,
            txt: txt.iter().map(|&(key, value)| (key.into(), value.into())).collect(),
            addresses: addresses
                .iter()
                .map(|&(ip, sourced)| Address {
                    ip: ip.parse().unwrap(),
                    interface_index: 3,
                    sourced,
                })
                .collect(),
        }
    }

    #[test]
    fn only_addresses_that_answered_are_connected_to() {
        let fp = fingerprint(1).to_string();
        let seen = instance(
            1,
            &[("id", "rpi4-001"), ("fp", &fp), ("st", "unclaimed")],
            &[("10.0.0.9", false), ("10.0.0.10", true), ("fe80::1", true), ("fd00::1", false)],
        );
        let sightings = sightings([&seen].into_iter());
        let [sighting] = sightings.as_slice() else { panic!("one device: {sightings:?}") };
        let target = sighting.target.clone().unwrap();
        let expected: Vec<SocketAddr> =
            vec!["10.0.0.10:6789".parse().unwrap(), "[fe80::1%3]:6789".parse().unwrap()];
        assert_eq!(target.addresses, expected);
        let device = &sighting.device;
        assert_eq!(device.name.raw(), "fleetd-1._fleetd._tcp.local.");
        assert_eq!(device.ipv4[0], "10.0.0.10".parse::<IpAddr>().unwrap());
        assert_eq!((device.ipv4.len(), device.ipv6.len()), (2, 2));
    }

    #[test]
    fn one_key_is_one_device_and_two_keys_are_a_conflict() {
        let (one, two) = (fingerprint(1).to_string(), fingerprint(2).to_string());
        let real = instance(1, &[("id", "a"), ("fp", &one)], &[("10.0.0.1", true)]);
        let again = instance(2, &[("id", "a"), ("fp", &one)], &[("10.0.1.1", true)]);
        let merged = sightings([&real, &again].into_iter());
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].target.as_ref().unwrap().addresses.len(), 2);

        let spoof = instance(3, &[("id", "a"), ("fp", &two)], &[("10.0.0.66", true)]);
        let other = instance(4, &[("id", "b"), ("fp", &two)], &[("10.0.0.66", true)]);
        let seen = sightings([&real, &again, &spoof, &other].into_iter());
        let shown: Vec<_> = seen
            .iter()
            .map(|sighting| (sighting.device.conflict, sighting.target.is_some()))
            .collect();
        assert_eq!(shown, [(true, false), (true, false), (false, true)]);
    }

    #[test]
    fn who_repeats_anothers_id_and_key_does_not_move_its_port() {
        let fp = fingerprint(1).to_string();
        let echo = |key, port| {
            let said = instance(key, &[("id", "a"), ("fp", &fp)], &[("10.0.0.1", true)]);
            Instance { port, ..said }
        };
        let real = instance(3, &[("id", "a"), ("fp", &fp)], &[("10.0.0.9", true)]);
        let seen = sightings([&echo(1, 22), &echo(2, 23), &real].into_iter());
        let expected: Vec<SocketAddr> =
            vec!["10.0.0.1:22".parse().unwrap(), "10.0.0.9:6789".parse().unwrap()];
        assert_eq!(seen[0].target.as_ref().unwrap().addresses, expected);
    }

    #[test]
    fn what_gives_no_id_or_key_is_shown_and_never_a_target() {
        let fp = fingerprint(1).to_string();
        let nameless = instance(1, &[("fp", &fp)], &[("10.0.0.1", true)]);
        let keyless = instance(2, &[("id", "z")], &[("10.0.0.2", true)]);
        let seen = sightings([&nameless, &keyless].into_iter());
        assert_eq!(seen[0].device.device_id, "z".parse().ok(), "those without an id come last");
        assert!(seen.iter().all(|sighting| sighting.target.is_none() && !sighting.device.conflict));
    }
}
