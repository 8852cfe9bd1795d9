//! The devices that the network showed: those that can be configured above the others, and both in
//! the order in which they came, until somebody sorts them.
//!
//! Everything here is a hint from strangers, so there is a limit to how much of it is kept. A device
//! that is not announced any more stays for a while, dimmed, and as long as it is marked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use fleet_core::api::DeviceStatus;
use fleet_core::field::Field;
use fleet_core::glyph::Tone;
use fleet_core::id::DeviceId;
use fleet_core::identity::{Fingerprint, ServerIdentity};
use fleet_core::mdns::Interface;
use fleet_core::operator::browse::Sighting;
use fleet_core::operator::claim::Target;
use fleet_core::operator::standing::Standing;

use crate::state::data::{Fleet, Row};

/// Devices that are kept; further ones are counted.
pub const SEEN_MAX: usize = 2_000;
/// How long a search must have lasted before a device that it did not find is gone.
const SEARCH_MIN: Duration = Duration::from_secs(4);
/// How long a device that is gone is still shown.
const GONE_SHOWN: Duration = Duration::from_secs(15);

/// Which device it is: a key under an id, or whatever it has of both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    id: Option<DeviceId>,
    fingerprint: Option<Fingerprint>,
    /// What it calls itself, where one of those is missing.
    instance: String,
}

/// A device that was seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which one it is.
    pub name: Name,
    /// What it announced last.
    pub sighting: Sighting,
    /// Whether the last list had it.
    is_listed: bool,
    /// Since when it is gone.
    gone: Option<Duration>,
    /// Whether it stands among those above the others.
    is_above: bool,
}

/// All that were seen.
#[derive(Debug, Default)]
pub struct SeenList {
    rows: Vec<Seen>,
    /// Devices for which there is no room.
    pub left_out: usize,
    /// The rows in the fleet that have the same keys.
    known: HashMap<Fingerprint, u32>,
    /// Grows with every change.
    pub revision: u64,
}

impl Seen {
    /// Whether it is not announced any more.
    pub fn is_gone(&self) -> bool {
        self.gone.is_some()
    }

    /// How to claim it.
    pub fn target(&self) -> Option<&Target> {
        self.sighting.target.as_ref()
    }

    /// Where it stands.
    pub fn standing(&self, ours: Option<ServerIdentity>) -> Standing {
        Standing::of(&self.sighting, ours)
    }

    /// Whether it can be configured now.
    pub fn is_new(&self, ours: Option<ServerIdentity>) -> bool {
        !self.is_gone() && self.standing(ours) == Standing::New
    }

    /// Its state in a word or two, and how that is to be taken; `known` is the device of the fleet
    /// that has its key.
    pub fn state(&self, ours: Option<ServerIdentity>, known: Option<&Row>) -> (&'static str, Tone) {
        if self.is_gone() {
            return ("gone", Tone::Muted);
        }
        match self.standing(ours) {
            Standing::New => ("new", Tone::Busy),
            Standing::Ours => match known.map(|row| row.index.status) {
                Some(DeviceStatus::Online | DeviceStatus::Late | DeviceStatus::Later(_)) => {
                    ("ours", Tone::Good)
                }
                Some(DeviceStatus::Offline | DeviceStatus::Lost) => ("ours, offline", Tone::Warn),
                Some(DeviceStatus::Pending) => ("pending", Tone::Warn),
                Some(DeviceStatus::Rejected) => ("rejected", Tone::Muted),
                Some(DeviceStatus::Revoked) => ("revoked", Tone::Muted),
                None => ("ours?", Tone::Warn),
            },
            Standing::Foreign(_) => ("other server", Tone::Muted),
            Standing::Closed(_) => ("closed", Tone::Muted),
            Standing::Conflict => ("conflict", Tone::Bad),
            Standing::Nameless if self.sighting.device.device_id.is_none() => ("no id", Tone::Warn),
            Standing::Nameless => ("no key", Tone::Warn),
        }
    }

    /// What it is called: the id that the fleet has for it, the one it gives, or its name.
    pub fn label(&self, known: Option<&Row>) -> String {
        let id = known.map(|row| &row.index.id).or(self.sighting.device.device_id.as_ref());
        id.map_or_else(|| self.sighting.device.name.to_string(), ToString::to_string)
    }

    /// Where it is: the address that a claim would try first, or else the first it announces.
    pub fn address(&self, interfaces: &[Interface]) -> Option<String> {
        let address = first_address(self)?;
        Some(shown(&address, interfaces))
    }
}

impl SeenList {
    /// Every device, in order.
    pub fn rows(&self) -> &[Seen] {
        &self.rows
    }

    /// Takes the devices that the network shows now, all of them.
    pub fn take(&mut self, sightings: Vec<Sighting>) {
        self.revision += 1;
        self.left_out = 0;
        let names = self.rows.iter().enumerate();
        let mut places: BTreeMap<Name, usize> =
            names.map(|(place, row)| (row.name.clone(), place)).collect();
        for row in &mut self.rows {
            row.is_listed = false;
        }
        for sighting in sightings {
            let name = name(&sighting);
            match places.get(&name) {
                Some(place) => {
                    let row = &mut self.rows[*place];
                    (row.sighting, row.is_listed, row.gone) = (sighting, true, None);
                }
                None if self.rows.len() < SEEN_MAX => {
                    places.insert(name.clone(), self.rows.len());
                    self.rows.push(Seen {
                        name,
                        sighting,
                        is_listed: true,
                        gone: None,
                        is_above: false,
                    });
                }
                None => self.left_out += 1,
            }
        }
    }

    /// Notes which devices are gone, and drops them after a while unless they are to be kept. A
    /// search that has only begun has not found everything yet.
    pub fn tidy(&mut self, now: Duration, since: Duration, keep: impl Fn(&Seen) -> bool) {
        let before = (self.rows.len(), self.gone());
        if now.saturating_sub(since) >= SEARCH_MIN {
            for row in self.rows.iter_mut().filter(|row| !row.is_listed) {
                row.gone.get_or_insert(now);
            }
        }
        let is_over = |row: &Seen| {
            row.gone.is_some_and(|since| now.saturating_sub(since) >= GONE_SHOWN) && !keep(row)
        };
        self.rows.retain(|row| !is_over(row));
        if before != (self.rows.len(), self.gone()) {
            self.revision += 1;
        }
    }

    /// Finds the devices of the fleet that have the keys that were seen.
    pub fn join(&mut self, fleet: &Fleet) {
        self.known.clear();
        let seen: HashSet<Fingerprint> =
            self.rows.iter().filter_map(|row| row.name.fingerprint).collect();
        for row in fleet.rows() {
            if let Some(key) = row.index.fingerprint.filter(|key| seen.contains(key)) {
                self.known.insert(key, row.index.slot);
            }
        }
    }

    /// The device of the fleet that has the key of a device that was seen.
    pub fn known<'a>(&self, seen: &Seen, fleet: &'a Fleet) -> Option<&'a Row> {
        fleet.row(*self.known.get(&seen.name.fingerprint?)?)
    }

    /// The places of those that have all the words.
    pub fn matching(
        &self,
        words: &[String],
        ours: Option<ServerIdentity>,
        fleet: &Fleet,
    ) -> Vec<usize> {
        let matches = |row: &Seen| {
            if words.is_empty() {
                return true;
            }
            let text = self.haystack(row, ours, fleet).to_lowercase();
            words.iter().all(|word| text.contains(word.as_str()))
        };
        let rows = self.rows.iter().enumerate();
        rows.filter(|(_, row)| matches(row)).map(|(place, _)| place).collect()
    }

    /// Puts devices that can be configured above the others, behind those that stand there already.
    /// Who was configured meanwhile stays: it is what somebody looks at.
    pub fn raise(&mut self, ours: Option<ServerIdentity>) {
        let group = |row: &Seen| match (row.is_above, row.is_new(ours)) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        };
        if self.rows.iter().any(|row| group(row) == 1) {
            self.rows.sort_by_key(group);
            for row in &mut self.rows {
                row.is_above |= row.is_new(ours);
            }
        }
    }

    /// Puts all that cannot be configured below those that can.
    pub fn regroup(&mut self, ours: Option<ServerIdentity>) {
        for row in &mut self.rows {
            row.is_above = row.is_new(ours);
        }
        self.rows.sort_by_key(|row| !row.is_above);
    }

    /// Puts the rows into an order, once. By status, those that can be configured come first.
    pub fn sort(
        &mut self,
        field: Field,
        is_descending: bool,
        ours: Option<ServerIdentity>,
        fleet: &Fleet,
    ) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_by_cached_key(|row| {
            let known = self.known(row, fleet);
            let text = match field {
                Field::Status => row.state(ours, known).0.to_owned(),
                Field::Hostname => row.sighting.device.host.to_string(),
                Field::Version => version(row),
                _ => row.label(known),
            };
            let address = (field == Field::Address).then(|| first_address(row));
            (field == Field::Status && !row.is_new(ours), address, text, row.name.clone())
        });
        if is_descending {
            rows.reverse();
        }
        for row in &mut rows {
            row.is_above = row.is_new(ours);
        }
        self.rows = rows;
        self.revision += 1;
    }

    fn gone(&self) -> usize {
        self.rows.iter().filter(|row| row.is_gone()).count()
    }

    /// Everything about a device that a filter can find.
    fn haystack(&self, row: &Seen, ours: Option<ServerIdentity>, fleet: &Fleet) -> String {
        let device = &row.sighting.device;
        let known = self.known(row, fleet);
        let mut words = vec![
            row.label(known),
            device.host.raw().to_owned(),
            row.state(ours, known).0.to_owned(),
            version(row),
        ];
        words.extend(device.ipv4.iter().chain(&device.ipv6).map(ToString::to_string));
        words.extend(device.fingerprint.map(|fingerprint| fingerprint.to_string()));
        words.join(" ")
    }
}

/// An address with its link by name, where a link-local one needs it.
pub fn shown(address: &SocketAddr, interfaces: &[Interface]) -> String {
    let SocketAddr::V6(v6) = address else { return address.to_string() };
    let link = interfaces.iter().find(|interface| interface.index == v6.scope_id());
    match link {
        Some(link) if v6.scope_id() != 0 => {
            format!("[{}%{}]:{}", v6.ip(), link.name, v6.port())
        }
        _ => address.to_string(),
    }
}

fn name(sighting: &Sighting) -> Name {
    let device = &sighting.device;
    let is_whole = device.device_id.is_some() && device.fingerprint.is_some();
    let instance = if is_whole { String::new() } else { device.name.raw().to_owned() };
    Name { id: device.device_id.clone(), fingerprint: device.fingerprint, instance }
}

fn version(row: &Seen) -> String {
    row.sighting.device.version.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Where a claim would try first, or else what it announces first.
fn first_address(row: &Seen) -> Option<SocketAddr> {
    let device = &row.sighting.device;
    let announced = device.ipv4.iter().chain(&device.ipv6).next();
    let tried = row.target().and_then(|target| target.addresses.first().copied());
    tried.or_else(|| Some(SocketAddr::new(*announced?, device.port)))
}
