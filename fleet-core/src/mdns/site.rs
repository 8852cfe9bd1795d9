//! A service on one link: its phase, its records, and the answers that wait for their moment.
//!
//! Pure, like `authority`, which owns the sites and decides about names.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use simple_dns::rdata::TXT;
use simple_dns::{Name, Packet, PacketFlag, QTYPE, ResourceRecord, TYPE};
use tokio::time::Instant;

use super::jitter;
use super::links::{Outgoing, To};
use super::packet::{self, MDNS_PORT};
use super::records::{self, Names};

const PROBES: u8 = 3;
pub(super) const PROBE_INTERVAL: Duration = Duration::from_millis(250);
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
/// The service on one link.
#[derive(Debug)]
pub(super) struct Site {
    link: u32,
    addresses: Vec<IpAddr>,
    phase: Phase,
    /// When the phase has its next step.
    step_at: Option<Instant>,
    /// Whether it probes because of a conflict, and has not begun.
    is_conflict_due: bool,
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
    /// Who asked in several packets, if nobody else asked: the known answers in those that follow
    /// may make this one needless.
    asker: Option<IpAddr>,
}

impl Site {
    /// A site that is about to probe. Its records come with [`Self::publish`].
    pub(super) fn new(link: u32, addresses: Vec<IpAddr>, now: Instant) -> Self {
        Self {
            link,
            addresses,
            phase: Phase::Probing { sent: 0 },
            step_at: Some(now + jitter(Duration::ZERO, PROBE_INTERVAL)),
            is_conflict_due: false,
            records: Vec::new(),
        }
    }

    /// The addresses that the host has here.
    pub(super) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Whether the names are not ours yet.
    pub(super) fn is_probing(&self) -> bool {
        matches!(self.phase, Phase::Probing { .. })
    }

    /// Whether a conflict was heard of, and nobody was asked since.
    pub(super) fn is_conflict_due(&self) -> bool {
        self.is_conflict_due
    }

    /// Makes the records what they should be; what stays keeps its history.
    pub(super) fn publish(&mut self, names: &Names, port: u16, txt: &TXT<'static>) {
        let wanted = records::records(names, port, txt, self.addresses.iter().copied());
        let mut former = std::mem::take(&mut self.records);
        for record in wanted {
            let known = former.iter().position(|published| published.record == record);
            self.records.push(match known {
                Some(position) => former.swap_remove(position),
                None => Published { record, multicast_at: None, pending: None },
            });
        }
    }

    /// Probes from the beginning, from that time on, because of a conflict.
    pub(super) fn settle_conflict_at(&mut self, at: Instant) {
        self.is_conflict_due = true;
        self.probe_at(at);
    }

    fn probe_at(&mut self, at: Instant) {
        self.phase = Phase::Probing { sent: 0 };
        self.step_at = Some(at);
    }

    /// Lets another host go first that probes for the same name.
    pub(super) fn probe_later(&mut self, now: Instant) {
        self.probe_at(now + TIE_BREAK_PAUSE);
    }

    /// Announces once more, as soon as it may. While probing that comes by itself.
    pub(super) fn announce_again(&mut self, now: Instant) {
        if !self.is_probing() {
            self.phase = Phase::Announcing { sent: 0 };
            let said = self.records.iter().filter_map(|published| published.multicast_at).max();
            self.step_at = Some(said.map_or(now, |said| now.max(said + ANNOUNCE_INTERVAL)));
        }
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self, names: &Names, now: Instant, out: &mut Vec<Outgoing>) {
        if self.step_at.is_some_and(|at| at <= now) {
            match self.phase {
                Phase::Probing { sent } if sent < PROBES => {
                    out.push(Outgoing { link: self.link, to: To::All, bytes: self.probe(names) });
                    self.phase = Phase::Probing { sent: sent + 1 };
                    self.is_conflict_due = false;
                    self.step_at = Some(now + PROBE_INTERVAL);
                }
                Phase::Probing { .. } => self.announce(0, now, out),
                Phase::Announcing { sent } => self.announce(sent, now, out),
                Phase::Settled => self.step_at = None,
            }
        }
        self.flush(names, now, out);
    }

    /// When there is next something to do.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let answers = self.records.iter().filter_map(|published| Some(published.pending?.due));
        answers.chain(self.step_at).min()
    }

    /// Takes the service back. The host's addresses stay true, and may be somebody else's records
    /// too; so may the list of types.
    pub(super) fn goodbye(&self, names: &Names, out: &mut Vec<Outgoing>) {
        if self.is_probing() {
            return;
        }
        let gone = self.records.iter().map(|published| &published.record);
        let gone = gone
            .filter(|record| record.name == names.instance || record.name == names.service)
            .map(|record| ResourceRecord { ttl: 0, ..record.clone() });
        self.multicast(packet::responses(gone.collect(), Vec::new()), out);
    }

    /// Answers a query, now or a little later.
    pub(super) fn on_query(
        &mut self,
        source: SocketAddr,
        query: &Packet<'_>,
        names: &Names,
        now: Instant,
        out: &mut Vec<Outgoing>,
    ) {
        if source.port() == MDNS_PORT {
            self.take_known_answers(query, source.ip());
            self.answer(source, query, names, now, out);
            self.flush(names, now, out);
        } else {
            self.answer_legacy(source, query, names, out);
        }
    }

    fn probe(&self, names: &Names) -> Vec<u8> {
        let questions =
            [&names.instance, &names.host].map(|name| packet::question(name.clone(), QTYPE::ANY));
        let unique = self.records.iter().map(|published| &published.record);
        let unique = unique.filter(|record| record.cache_flush).cloned().collect();
        packet::probe(questions.into(), unique)
    }

    fn announce(&mut self, sent: u8, now: Instant, out: &mut Vec<Outgoing>) {
        for published in &mut self.records {
            published.multicast_at = Some(now);
            published.pending = None;
        }
        let records = self.records.iter().map(|published| published.record.clone()).collect();
        self.multicast(packet::responses(records, Vec::new()), out);
        if sent + 1 < ANNOUNCEMENTS {
            self.phase = Phase::Announcing { sent: sent + 1 };
            self.step_at = Some(now + ANNOUNCE_INTERVAL);
        } else {
            self.phase = Phase::Settled;
            self.step_at = None;
        }
    }

    /// Whether a probe for one of our names, sent while we probe too, beats ours.
    pub(super) fn loses_tie_break(
        &self,
        query: &Packet<'_>,
        names: &Names,
        own: &BTreeSet<IpAddr>,
    ) -> bool {
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

    /// Drops waiting answers that their asker turns out to know. Only a packet without questions
    /// continues an earlier one; else it may come from another program at the same address.
    fn take_known_answers(&mut self, query: &Packet<'_>, source: IpAddr) {
        if !query.questions.is_empty() {
            return;
        }
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
    pub(super) fn drop_duplicates<'a>(
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
        source: SocketAddr,
        query: &Packet<'_>,
        names: &Names,
        now: Instant,
        out: &mut Vec<Outgoing>,
    ) {
        let is_probe = !query.name_servers.is_empty();
        let truncated = query.has_flags(PacketFlag::TRUNCATION);
        let shared_delay = if truncated {
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
            let alone = published.record.cache_flush && !truncated;
            let delay = if is_probe || alone { Duration::ZERO } else { shared_delay };
            published.schedule(now + delay, is_probe, truncated.then_some(source.ip()));
        }
        if !unicast.is_empty() {
            let additional = self.additional(&unicast, names);
            for bytes in packet::responses(unicast, additional) {
                out.push(Outgoing { link: self.link, to: To::Host(source), bytes });
            }
        }
    }

    fn answer_legacy(
        &self,
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
        out.push(Outgoing { link: self.link, to: To::Host(source), bytes });
    }

    /// Multicasts the answers whose moment has come, in one response.
    fn flush(&mut self, names: &Names, now: Instant, out: &mut Vec<Outgoing>) {
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
        self.multicast(packet::responses(answers, additional), out);
    }

    fn multicast(&self, packets: Vec<Vec<u8>>, out: &mut Vec<Outgoing>) {
        let link = self.link;
        out.extend(packets.into_iter().map(|bytes| Outgoing { link, to: To::All, bytes }));
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

    fn schedule(&mut self, due: Instant, is_probe: bool, asker: Option<IpAddr>) {
        let repeat = if is_probe { PROBE_INTERVAL } else { REPEAT_INTERVAL };
        let earliest = self.multicast_at.map_or(due, |at| due.max(at + repeat));
        self.pending = Some(match self.pending {
            None => Pending { due: earliest, asker },
            Some(waiting) => Pending {
                due: waiting.due.min(earliest),
                asker: waiting.asker.filter(|_| waiting.asker == asker),
            },
        });
    }
}
