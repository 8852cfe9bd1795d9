//! What we claim on each link: probe for the names, announce, answer, defend, give way, say
//! goodbye (RFC 6762 §6–§10).
//!
//! Pure: packets and times go in, packets come out. On each link a [`Site`] probes first, and
//! answers nothing until its names are its own. A name is given up only while probing; a conflict
//! that shows later leads back to probing, so that of two hosts the one that holds on keeps it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use simple_dns::rdata::{RData, TXT};
use simple_dns::{Name, Packet, PacketFlag, QTYPE, ResourceRecord, TYPE};
use tokio::time::Instant;

use super::interfaces::Link;
use super::links::Outgoing;
use super::packet::{self, MDNS_PORT};
use super::records::{self, Names, suffixed};
use super::{Service, jitter};

const PROBES: u8 = 3;
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// How long the loser of a tie-break waits before it probes again.
const TIE_BREAK_PAUSE: Duration = Duration::from_secs(1);
const ANNOUNCEMENTS: u8 = 2;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two multicasts of one record on one link.
const REPEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Others may answer a shared question too, so each waits a little.
const SHARED_DELAY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(120));
/// A truncated query is followed by more known answers.
const TRUNCATED_DELAY: (Duration, Duration) =
    (Duration::from_millis(400), Duration::from_millis(500));
/// This many conflicts in this time, and each further attempt waits.
const CONFLICTS_MAX: usize = 15;
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
    own: BTreeSet<IpAddr>,
    sites: BTreeMap<u32, Site>,
    conflicts: VecDeque<Instant>,
}

/// The service on one link.
#[derive(Debug)]
struct Site {
    addresses: Vec<IpAddr>,
    phase: Phase,
    /// When the phase has its next step.
    step_at: Option<Instant>,
    records: Vec<Published>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Probing { sent: u8 },
    Announcing { sent: u8 },
    Settled,
}

/// A record with what has been and what is to be said of it.
#[derive(Debug)]
struct Published {
    record: ResourceRecord<'static>,
    multicast_at: Option<Instant>,
    pending: Option<Pending>,
}

/// An answer that waits for its moment.
#[derive(Clone, Copy, Debug)]
struct Pending {
    due: Instant,
    /// Who asked, if it was one host only: its further known answers may make this one needless.
    asker: Option<IpAddr>,
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
            sites: BTreeMap::new(),
            conflicts: VecDeque::new(),
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
        self.own.clone_from(own);
        self.sites.retain(|index, _| links.iter().any(|link| link.index == *index));
        for link in links.iter().filter(|link| changed.contains(&link.index)) {
            let site = Site {
                addresses: link.addresses().collect(),
                phase: Phase::Probing { sent: 0 },
                step_at: Some(now + jitter(Duration::ZERO, PROBE_INTERVAL)),
                records: Vec::new(),
            };
            self.sites.insert(link.index, site);
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
        for site in self.sites.values_mut().filter(|site| !site.is_probing()) {
            site.phase = Phase::Announcing { sent: 0 };
            let said = site.records.iter().filter_map(|published| published.multicast_at).max();
            site.step_at = Some(said.map_or(now, |said| now.max(said + ANNOUNCE_INTERVAL)));
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
        if !packet.has_flags(PacketFlag::RESPONSE) {
            self.on_query(link, source, packet, now, out);
        } else if source.port() == MDNS_PORT {
            self.on_response(link, packet, now);
        }
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self, now: Instant, out: &mut Vec<Outgoing>) {
        for (&link, site) in &mut self.sites {
            if site.step_at.is_some_and(|at| at <= now) {
                site.step(link, &self.names, now, out);
            }
            site.flush(link, &self.names, now, out);
        }
    }

    /// When there is next something to do.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let steps = self.sites.values().filter_map(|site| site.step_at);
        let answers = self.sites.values().flat_map(|site| &site.records);
        steps.chain(answers.filter_map(|published| Some(published.pending?.due))).min()
    }

    /// Takes the service back on all links. The host's addresses stay true, and may be
    /// somebody else's records too; so may the list of types.
    pub(super) fn goodbye(&self, out: &mut Vec<Outgoing>) {
        for (&link, site) in self.sites.iter().filter(|(_, site)| !site.is_probing()) {
            let gone = site.records.iter().map(|published| &published.record).filter(|record| {
                record.name == self.names.instance || record.name == self.names.service
            });
            let gone = gone.map(|record| ResourceRecord { ttl: 0, ..record.clone() }).collect();
            send_all(link, packet::responses(gone, Vec::new()), out);
        }
    }

    fn on_query(
        &mut self,
        link: u32,
        source: SocketAddr,
        query: &Packet<'_>,
        now: Instant,
        out: &mut Vec<Outgoing>,
    ) {
        let Some(site) = self.sites.get_mut(&link) else { return };
        if site.is_probing() {
            if site.loses_tie_break(query, &self.names, &self.own) {
                site.phase = Phase::Probing { sent: 0 };
                site.step_at = Some(now + TIE_BREAK_PAUSE);
            }
            return;
        }
        if source.port() == MDNS_PORT {
            site.take_known_answers(query, source.ip());
            site.answer(link, source, query, &self.names, now, out);
            site.flush(link, &self.names, now, out);
        } else {
            site.answer_legacy(link, source, query, &self.names, out);
        }
    }

    fn on_response(&mut self, link: u32, response: &Packet<'_>, now: Instant) {
        let records = || response.answers.iter().chain(&response.additional_records);
        let Some(site) = self.sites.get_mut(&link) else { return };
        site.drop_duplicates(records(), &self.names);
        let probing = site.is_probing();
        let clashes: BTreeSet<_> = records().filter_map(|record| self.clash(record)).collect();
        if clashes.is_empty() {
            return;
        }
        let pause = self.conflict_pause(now);
        if probing {
            for clash in clashes {
                self.rename(clash);
            }
        }
        for site in self.sites.values_mut() {
            site.phase = Phase::Probing { sent: 0 };
            site.step_at = Some(now + pause);
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
            let ours = packet::address_of(record).is_none_or(|ip| self.own.contains(&ip));
            return (!ours).then_some(Clash::Host);
        }
        None
    }

    /// How long to wait after a conflict; long when there are suspiciously many.
    fn conflict_pause(&mut self, now: Instant) -> Duration {
        if self.conflicts.len() == CONFLICTS_MAX {
            self.conflicts.pop_front();
        }
        self.conflicts.push_back(now);
        let full = self.conflicts.len() == CONFLICTS_MAX;
        let recent = self.conflicts.front().is_some_and(|first| now - *first < CONFLICTS_WINDOW);
        if full && recent { CONFLICTS_PAUSE } else { jitter(Duration::ZERO, PROBE_INTERVAL) }
    }

    fn rename(&mut self, clash: Clash) {
        match clash {
            Clash::Instance => {
                self.instance_attempt = self.instance_attempt.saturating_add(1);
                let suffix = format!(" ({})", self.instance_attempt);
                self.instance = suffixed(&self.service.instance, &suffix);
                tracing::warn!(instance = self.instance, "mdns instance renamed: name is taken");
            }
            Clash::Host => {
                self.host_attempt = self.host_attempt.saturating_add(1);
                self.host = match self.host_attempt {
                    2 => self.service.host_alternative.clone(),
                    n => suffixed(&self.service.host_alternative, &format!("-{n}")),
                };
                tracing::warn!(host = self.host, "mdns host renamed: name is taken");
            }
        }
        self.names = Names::new(&self.service.service_type, &self.instance, &self.host)
            .expect("both names were checked, and a suffix keeps them labels");
    }

    /// Makes each site's records what they should be; what stays keeps its history.
    fn publish(&mut self) {
        for site in self.sites.values_mut() {
            let addresses = site.addresses.iter().copied();
            let records = records::records(&self.names, self.service.port, &self.txt, addresses);
            let mut former = std::mem::take(&mut site.records);
            for record in records {
                let known = former.iter().position(|published| published.record == record);
                site.records.push(match known {
                    Some(position) => former.swap_remove(position),
                    None => Published { record, multicast_at: None, pending: None },
                });
            }
        }
    }
}

impl Site {
    fn is_probing(&self) -> bool {
        matches!(self.phase, Phase::Probing { .. })
    }

    fn step(&mut self, link: u32, names: &Names, now: Instant, out: &mut Vec<Outgoing>) {
        match self.phase {
            Phase::Probing { sent } if sent < PROBES => {
                out.push(Outgoing { link, to: None, bytes: self.probe(names) });
                self.phase = Phase::Probing { sent: sent + 1 };
                self.step_at = Some(now + PROBE_INTERVAL);
            }
            Phase::Probing { .. } => self.announce(0, link, now, out),
            Phase::Announcing { sent } => self.announce(sent, link, now, out),
            Phase::Settled => self.step_at = None,
        }
    }

    fn probe(&self, names: &Names) -> Vec<u8> {
        let questions =
            [&names.instance, &names.host].map(|name| packet::question(name.clone(), QTYPE::ANY));
        let unique = self.records.iter().map(|published| &published.record);
        let unique = unique.filter(|record| record.cache_flush).cloned().collect();
        packet::probe(questions.into(), unique)
    }

    fn announce(&mut self, sent: u8, link: u32, now: Instant, out: &mut Vec<Outgoing>) {
        for published in &mut self.records {
            published.multicast_at = Some(now);
            published.pending = None;
        }
        let records = self.records.iter().map(|published| published.record.clone()).collect();
        send_all(link, packet::responses(records, Vec::new()), out);
        if sent + 1 < ANNOUNCEMENTS {
            self.phase = Phase::Announcing { sent: sent + 1 };
            self.step_at = Some(now + ANNOUNCE_INTERVAL);
        } else {
            self.phase = Phase::Settled;
            self.step_at = None;
        }
    }

    /// Whether a probe for one of our names, sent while we probe too, beats ours.
    fn loses_tie_break(&self, query: &Packet<'_>, names: &Names, own: &BTreeSet<IpAddr>) -> bool {
        let loses = |name: &Name<'_>| {
            let theirs: Vec<_> =
                query.name_servers.iter().filter(|record| record.name == *name).collect();
            let ours = self.records.iter().map(|published| &published.record);
            let ours: Vec<_> = ours.filter(|record| record.name == *name).collect();
            // This machine may have two legs in one network, or another responder.
            let foreign = theirs
                .iter()
                .any(|record| packet::address_of(record).is_none_or(|ip| !own.contains(&ip)));
            foreign && packet::tie_break(&ours, &theirs).is_lt()
        };
        loses(&names.instance) || loses(&names.host)
    }

    /// Drops waiting answers that their asker turns out to know.
    fn take_known_answers(&mut self, query: &Packet<'_>, source: IpAddr) {
        for published in &mut self.records {
            let asked_by_it =
                published.pending.is_some_and(|pending| pending.asker == Some(source));
            if asked_by_it && published.is_known_to(query) {
                published.pending = None;
            }
        }
    }

    /// Drops waiting answers that another host has just given. Only the list of types can be
    /// answered by others as well; whoever else speaks for our own names is no reason for silence.
    fn drop_duplicates<'a>(
        &mut self,
        mut heard: impl Iterator<Item = &'a ResourceRecord<'a>>,
        names: &Names,
    ) {
        let types = self.records.iter_mut().find(|published| published.record.name == names.types);
        let Some(types) = types.filter(|published| published.pending.is_some()) else { return };
        if heard.any(|record| *record == types.record && record.ttl >= types.record.ttl) {
            types.pending = None;
        }
    }

    fn answer(
        &mut self,
        link: u32,
        source: SocketAddr,
        query: &Packet<'_>,
        names: &Names,
        now: Instant,
        out: &mut Vec<Outgoing>,
    ) {
        let is_probe = !query.name_servers.is_empty();
        let shared_delay = if query.has_flags(PacketFlag::TRUNCATION) {
            jitter(TRUNCATED_DELAY.0, TRUNCATED_DELAY.1)
        } else {
            jitter(SHARED_DELAY.0, SHARED_DELAY.1)
        };
        let mut unicast = Vec::new();
        for published in &mut self.records {
            let asked =
                || query.questions.iter().filter(|asks| packet::asks_for(asks, &published.record));
            if asked().next().is_none() || published.is_known_to(query) {
                continue;
            }
            if asked().all(|question| question.unicast_response) {
                unicast.push(published.record.clone());
                if published.is_fresh(now) {
                    continue;
                }
            }
            let alone = published.record.cache_flush && !query.has_flags(PacketFlag::TRUNCATION);
            let delay = if is_probe || alone { Duration::ZERO } else { shared_delay };
            published.schedule(now + delay, is_probe, source.ip());
        }
        if !unicast.is_empty() {
            let additional = self.additional(&unicast, names);
            for bytes in packet::responses(unicast, additional) {
                out.push(Outgoing { link, to: Some(source), bytes });
            }
        }
    }

    fn answer_legacy(
        &self,
        link: u32,
        source: SocketAddr,
        query: &Packet<'_>,
        names: &Names,
        out: &mut Vec<Outgoing>,
    ) {
        let records = self.records.iter().map(|published| &published.record);
        let answers: Vec<_> = records
            .filter(|record| query.questions.iter().any(|asks| packet::asks_for(asks, record)))
            .cloned()
            .collect();
        if answers.is_empty() {
            return;
        }
        let additional = self.additional(&answers, names);
        let bytes = packet::legacy_response(query, answers, additional);
        out.push(Outgoing { link, to: Some(source), bytes });
    }

    /// Multicasts the answers whose moment has come, in one response.
    fn flush(&mut self, link: u32, names: &Names, now: Instant, out: &mut Vec<Outgoing>) {
        let mut answers = Vec::new();
        for published in &mut self.records {
            if published.pending.is_some_and(|pending| pending.due <= now) {
                published.pending = None;
                published.multicast_at = Some(now);
                answers.push(published.record.clone());
            }
        }
        if answers.is_empty() {
            return;
        }
        let mut additional = self.additional(&answers, names);
        additional.retain(|record| {
            let published = self.records.iter_mut().find(|published| published.record == *record);
            let Some(published) = published else { return false };
            let repeats = published.multicast_at.is_some_and(|at| now < at + REPEAT_INTERVAL);
            if !repeats {
                published.multicast_at = Some(now);
                published.pending = None;
            }
            !repeats
        });
        send_all(link, packet::responses(answers, additional), out);
    }

    /// What an asker will want to know next (RFC 6763 §12).
    fn additional(
        &self,
        answers: &[ResourceRecord<'static>],
        names: &Names,
    ) -> Vec<ResourceRecord<'static>> {
        let listed = answers.iter().any(|record| record.name == names.service);
        let located = listed || answers.iter().any(|record| record.rdata.type_code() == TYPE::SRV);
        let records = self.records.iter().map(|published| &published.record);
        let wanted = records.filter(|record| {
            let useful =
                (listed && record.name == names.instance) || (located && record.name == names.host);
            useful && !answers.contains(record)
        });
        wanted.cloned().collect()
    }
}

impl Published {
    /// Whether a query says that its sender has this record, with half its life left.
    fn is_known_to(&self, query: &Packet<'_>) -> bool {
        query.answers.iter().any(|known| *known == self.record && known.ttl >= self.record.ttl / 2)
    }

    /// Whether everybody on the link has heard this lately.
    fn is_fresh(&self, now: Instant) -> bool {
        let quarter = Duration::from_secs(u64::from(self.record.ttl / 4));
        self.multicast_at.is_some_and(|at| now < at + quarter)
    }

    fn schedule(&mut self, due: Instant, is_probe: bool, asker: IpAddr) {
        let repeat = if is_probe { PROBE_INTERVAL } else { REPEAT_INTERVAL };
        let earliest = self.multicast_at.map_or(due, |at| due.max(at + repeat));
        self.pending = Some(match self.pending {
            None => Pending { due: earliest, asker: Some(asker) },
            Some(waiting) => Pending {
                due: waiting.due.min(earliest),
                asker: waiting.asker.filter(|waiting| *waiting == asker),
            },
        });
    }
}

fn send_all(link: u32, packets: Vec<Vec<u8>>, out: &mut Vec<Outgoing>) {
    out.extend(packets.into_iter().map(|bytes| Outgoing { link, to: None, bytes }));
}
