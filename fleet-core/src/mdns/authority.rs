//! What we claim on each link: probe for the names, announce, answer, defend, give way, say
//! goodbye (RFC 6762 §6–§10).
//!
//! Pure: packets and times go in, packets come out. On each link a [`Site`] probes first, and
//! answers nothing until its names are its own. A name is given up only while probing, and once for
//! each probe: what is heard between a conflict and the next probe changes nothing, for that one will
//! show it. A conflict that shows later leads back to probing, so that of two hosts the one that holds
//! on keeps the name.
//! Records that give this machine's own addresses contradict nobody, whoever sends them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use simple_dns::rdata::{RData, TXT};
use simple_dns::{Packet, PacketFlag, ResourceRecord};
use tokio::time::Instant;

use super::interfaces::Link;
use super::links::Outgoing;
use super::packet::{self, MDNS_PORT};
use super::records::{self, Names, suffixed};
use super::site::{PROBE_INTERVAL, Site};
use super::{Service, jitter};

/// After this many conflicts, with less than this time between any two, each further attempt waits, and
/// is no news any more.
const CONFLICTS_MAX: u32 = 15;
const CONFLICTS_WINDOW: Duration = Duration::from_secs(10);
const CONFLICTS_PAUSE: Duration = Duration::from_secs(5);

/// A service on all links.
#[derive(Debug)]
pub(super) struct Authority {
    service: Service,
    instance: String,
    host: String,
    names: Names,
    txt: TXT<'static>,
    /// What the TXT record said before: our own packets may still be on their way back.
    former_txt: TXT<'static>,
    instance_attempt: u32,
    host_attempt: u32,
    /// This machine's addresses, and those that it had before: packets with them may still be
    /// on their way.
    own: BTreeSet<IpAddr>,
    former_own: BTreeSet<IpAddr>,
    sites: BTreeMap<u32, Site>,
    /// How many in a row, and when the last one was.
    conflicts: u32,
    conflict_at: Option<Instant>,
}

/// The name that another host claims too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Clash {
    Instance,
    Host,
}

impl Authority {
    /// A service that nobody has heard of yet.
    pub(super) fn new(service: Service) -> io::Result<Self> {
        records::check(&service)?;
        let names = Names::new(&service.service_type, &service.instance, &service.host)?;
        let txt = records::txt_data(&service.txt)?;
        Ok(Self {
            instance: service.instance.clone(),
            host: service.host.clone(),
            names,
            former_txt: txt.clone(),
            txt,
            instance_attempt: 1,
            host_attempt: 1,
            own: BTreeSet::new(),
            former_own: BTreeSet::new(),
            sites: BTreeMap::new(),
            conflicts: 0,
            conflict_at: None,
            service,
        })
    }

    /// The instance's name as it is now.
    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    /// Takes up new and changed links and forgets those that have gone.
    pub(super) fn follow(
        &mut self,
        links: &[Link],
        changed: &[u32],
        own: &BTreeSet<IpAddr>,
        now: Instant,
    ) {
        if *own != self.own {
            self.former_own = std::mem::replace(&mut self.own, own.clone());
        }
        self.sites.retain(|index, _| links.iter().any(|link| link.index == *index));
        for link in links.iter().filter(|link| changed.contains(&link.index)) {
            let addresses: Vec<IpAddr> = link.addresses().collect();
            match self.sites.get_mut(&link.index) {
                Some(site) if site.addresses() == addresses => site.announce_again(now),
                _ => {
                    self.sites.insert(link.index, Site::new(link.index, addresses, now));
                }
            }
        }
        self.publish();
    }

    /// Says something else in the TXT record from now on.
    pub(super) fn set_txt(&mut self, txt: TXT<'static>, now: Instant) {
        if txt == self.txt {
            return;
        }
        self.former_txt = std::mem::replace(&mut self.txt, txt);
        self.publish();
        for site in self.sites.values_mut() {
            site.announce_again(now);
        }
    }

    /// Takes in a packet.
    pub(super) fn on_packet(
        &mut self,
        link: u32,
        source: SocketAddr,
        packet: &Packet<'_>,
        now: Instant,
        out: &mut Vec<Outgoing>,
    ) {
        let Some(site) = self.sites.get_mut(&link) else { return };
        if packet.has_flags(PacketFlag::RESPONSE) {
            if source.port() == MDNS_PORT {
                self.on_response(link, packet, now);
            }
        } else if site.is_probing() {
            if site.loses_tie_break(packet, &self.names, &self.own) {
                site.probe_later(now);
            }
        } else {
            site.on_query(source, packet, &self.names, now, out);
        }
    }

    /// Whether a packet gives our host an address that is not known to be this machine's. Before
    /// that is taken for another host's claim, the machine's addresses should be looked at again.
    pub(super) fn is_contested_by(&self, packet: &Packet<'_>) -> bool {
        let clashes = |record| self.clash(record) == Some(Clash::Host);
        packet.has_flags(PacketFlag::RESPONSE) && all_records(packet).any(clashes)
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self, now: Instant, out: &mut Vec<Outgoing>) {
        for site in self.sites.values_mut() {
            site.on_time(&self.names, now, out);
        }
    }

    /// When there is next something to do.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.sites.values().filter_map(Site::next_at).min()
    }

    /// Takes the service back on all links.
    pub(super) fn goodbye(&self, out: &mut Vec<Outgoing>) {
        for site in self.sites.values() {
            site.goodbye(&self.names, out);
        }
    }

    fn on_response(&mut self, link: u32, response: &Packet<'_>, now: Instant) {
        let Some(site) = self.sites.get_mut(&link) else { return };
        site.drop_duplicates(all_records(response), &self.names);
        let is_probing = site.is_probing();
        if site.is_conflict_due() {
            return;
        }
        let clashes: BTreeSet<_> =
            all_records(response).filter_map(|record| self.clash(record)).collect();
        if clashes.is_empty() {
            return;
        }
        let pause = self.conflict_pause(now);
        if is_probing {
            for clash in clashes {
                self.rename(clash);
            }
        }
        for site in self.sites.values_mut() {
            site.settle_conflict_at(now + pause);
        }
        self.publish();
    }

    /// Whether another host's record contradicts ours.
    fn clash(&self, record: &ResourceRecord<'_>) -> Option<Clash> {
        if record.ttl == 0 {
            return None;
        }
        if record.name == self.names.instance {
            let ours = match &record.rdata {
                RData::SRV(srv) => srv.port == self.service.port && srv.target == self.names.host,
                RData::TXT(txt) => *txt == self.txt || *txt == self.former_txt,
                _ => true,
            };
            return (!ours).then_some(Clash::Instance);
        }
        if record.name == self.names.host {
            let ours = packet::address_of(record)
                .is_none_or(|ip| self.own.contains(&ip) || self.former_own.contains(&ip));
            return (!ours).then_some(Clash::Host);
        }
        None
    }

    /// How long to wait after a conflict; long when there are suspiciously many.
    fn conflict_pause(&mut self, now: Instant) -> Duration {
        let is_again = self.conflict_at.is_some_and(|at| now < at + CONFLICTS_WINDOW);
        self.conflicts = if is_again { self.conflicts.saturating_add(1) } else { 1 };
        self.conflict_at = Some(now);
        if self.is_quarrel() { CONFLICTS_PAUSE } else { jitter(Duration::ZERO, PROBE_INTERVAL) }
    }

    fn is_quarrel(&self) -> bool {
        self.conflicts >= CONFLICTS_MAX
    }

    fn rename(&mut self, clash: Clash) {
        match clash {
            Clash::Instance => {
                self.instance_attempt = self.instance_attempt.saturating_add(1);
                let suffix = format!(" ({})", self.instance_attempt);
                self.instance = suffixed(&self.service.instance, &suffix);
                self.tell_renamed("instance", &self.instance);
            }
            Clash::Host => {
                self.host_attempt = self.host_attempt.saturating_add(1);
                self.host = match self.host_attempt {
                    2 => self.service.host_alternative.clone(),
                    n => suffixed(&self.service.host_alternative, &format!("-{n}")),
                };
                self.tell_renamed("host", &self.host);
            }
        }
        self.names = Names::new(&self.service.service_type, &self.instance, &self.host)
            .expect("both names were checked, and a suffix keeps them labels");
    }

    fn tell_renamed(&self, what: &str, name: &str) {
        if self.is_quarrel() {
            tracing::debug!(name, "mdns {what} renamed again: name is taken");
        } else {
            tracing::warn!(name, "mdns {what} renamed: name is taken");
        }
    }

    fn publish(&mut self) {
        for site in self.sites.values_mut() {
            site.publish(&self.names, self.service.port, &self.txt);
        }
    }
}

fn all_records<'a>(packet: &'a Packet<'a>) -> impl Iterator<Item = &'a ResourceRecord<'a>> {
    packet.answers.iter().chain(&packet.additional_records)
}
