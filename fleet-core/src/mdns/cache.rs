//! What other hosts claim about one service type, within bounds (at most
//! [`CLAIMS_MAX`] claims, [`SOURCE_CLAIMS_MAX`] from one address, 1300 bytes of text each).
//!
//! A *claim* is what one source address says about one instance name. Claims never overwrite one
//! another: those that say the same, or whose sources vouch for each other's address, are shown
//! as one [`Instance`]; others are shown beside it under the same name, so that a second host
//! posing as a device is seen rather than believed. A source can take back only its own claim.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};

use simple_dns::rdata::{PTR, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, ResourceRecord, TYPE};
use tokio::time::Instant;

use super::budget::Budget;
use super::claim::{Claim, Source};
use super::instance::{Address, Event, Instance};
use super::links::Family;
use super::packet::{self, MDNS_PORT};
use crate::untrusted::Untrusted;

/// Claims altogether: what a thousand devices say in both families, and some megabytes at most.
pub(super) const CLAIMS_MAX: usize = 2048;
/// Claims from one address.
pub(super) const SOURCE_CLAIMS_MAX: usize = 64;
/// Claims to one name.
const NAME_CLAIMS_MAX: usize = 16;
/// When the cache is full, this many claims give way at once.
const EVICTED_TOGETHER: usize = CLAIMS_MAX / 16;
/// Known answers in one query.
const KNOWN_ANSWERS_MAX: usize = 1024;
/// Rounds of queries in which nobody is told what is known already. A pointer is anybody's word: who
/// has said one of another's name would have that one keep silent before it was ever heard.
const OPEN_ROUNDS: u32 = 3;

/// What is asked in a query, and what is known already.
#[derive(Debug, Default)]
pub(super) struct Inquiry {
    pub(super) questions: Vec<Question<'static>>,
    pub(super) known: Vec<ResourceRecord<'static>>,
}

/// All claims to instances of one service type.
#[derive(Debug)]
pub(super) struct Cache {
    service: Name<'static>,
    entries: HashMap<Label, Entry>,
    claims_by_source: HashMap<Source, Vec<Label>>,
    claims_total: usize,
    /// Names whose instances may look different now, in the order in which they changed.
    touched: BTreeMap<u64, Label>,
    touches: u64,
    events: VecDeque<Event>,
    next_key: u64,
    evictions: u64,
    /// Rounds of queries so far, and how many evictions there had been at the last one.
    rounds: u32,
    evictions_before: u64,
    is_pressed: bool,
    budget: Budget,
}

/// An instance's name as DNS compares it: in lower case.
type Label = Box<[u8]>;

/// All claims to one name, and how they were last shown.
#[derive(Debug)]
struct Entry {
    /// As it was first written.
    name: Untrusted,
    full_name: Name<'static>,
    claims: Vec<Claim>,
    shown: Vec<Instance>,
    /// Its place among the touched ones.
    touched: Option<u64>,
}

impl Cache {
    pub(super) fn new(service: Name<'static>) -> Self {
        Self {
            service,
            entries: HashMap::new(),
            claims_by_source: HashMap::new(),
            claims_total: 0,
            touched: BTreeMap::new(),
            touches: 0,
            events: VecDeque::new(),
            next_key: 0,
            evictions: 0,
            rounds: 0,
            evictions_before: 0,
            is_pressed: false,
            budget: Budget::default(),
        }
    }

    /// Takes in a response. Others' questions and answers on ports of their own are not for us.
    pub(super) fn on_packet(
        &mut self,
        source: Source,
        port: u16,
        packet: &Packet<'_>,
        now: Instant,
    ) {
        if !packet.has_flags(PacketFlag::RESPONSE) || port != MDNS_PORT {
            return;
        }
        let records = || packet.answers.iter().chain(&packet.additional_records);
        for record in records().filter(|record| record.class == CLASS::IN) {
            self.on_record(source, record, now);
        }
        // Addresses last: they belong to claims that this packet may have made.
        let addresses: Vec<_> = records()
            .filter(|record| packet::address_of(record).is_some_and(|ip| source.may_claim(ip)))
            .collect();
        if addresses.is_empty() {
            return;
        }
        let mut changed = Vec::new();
        for label in self.claims_by_source.get(&source).into_iter().flatten() {
            let entry = self.entries.get_mut(label);
            let Some(claim) = entry.and_then(|entry| entry.claim_of(source)) else { continue };
            if claim.take_addresses(&addresses, now) {
                changed.push(label.clone());
            }
        }
        for label in changed {
            self.touch(&label);
        }
    }

    /// Forgets what has lapsed.
    pub(super) fn expire(&mut self, now: Instant) {
        let mut lapsed = Vec::new();
        let mut changed = Vec::new();
        for (label, entry) in &mut self.entries {
            for claim in &mut entry.claims {
                if claim.has_lapsed(now) {
                    lapsed.push((label.clone(), claim.source));
                } else if claim.drop_lapsed_parts(now) {
                    changed.push(label.clone());
                }
            }
        }
        for (label, source) in lapsed {
            self.remove(&label, source);
        }
        for label in changed {
            self.touch(&label);
        }
    }

    /// The next thing to tell.
    pub(super) fn next_event(&mut self) -> Option<Event> {
        while self.events.is_empty() {
            let (_, label) = self.touched.pop_first()?;
            self.show(&label);
        }
        self.events.pop_front()
    }

    /// Whether there is something to tell.
    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty() || !self.touched.is_empty()
    }

    /// How many claims there are.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn claims(&self) -> usize {
        let counted = self.entries.values().map(|entry| entry.claims.len()).sum();
        assert_eq!(self.claims_total, counted);
        assert_eq!(self.claims_by_source.values().map(Vec::len).sum::<usize>(), counted);
        counted
    }

    /// How many names are held, with those that still have to be shown as lost.
    #[cfg(test)]
    pub(super) fn names(&self) -> usize {
        self.entries.len()
    }

    /// How many claims there have ever been.
    pub(super) fn claims_made(&self) -> u64 {
        self.next_key
    }

    /// How many claims gave way to others.
    #[cfg(test)]
    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Begins a round of queries; returns whether claims are being pushed out by others.
    pub(super) fn begin_round(&mut self) -> bool {
        self.rounds = self.rounds.saturating_add(1);
        self.is_pressed =
            std::mem::replace(&mut self.evictions_before, self.evictions) != self.evictions;
        self.is_pressed
    }

    /// Lets the next round be the first one: there are new links.
    pub(super) fn begin_anew(&mut self) {
        self.rounds = 0;
    }

    /// A query for all instances, with those that hosts of this link and family need not repeat:
    /// none in the first rounds, nor while whoever is real may have been pushed out.
    pub(super) fn inquiry(&self, link: u32, family: Family, now: Instant) -> Inquiry {
        let is_open = self.rounds <= OPEN_ROUNDS || self.is_pressed;
        let known_max = if is_open { 0 } else { KNOWN_ANSWERS_MAX };
        let is_here = |source: Source| source.link == link && Family::of(source.ip) == family;
        let known = self.entries.values().filter_map(|entry| {
            let here = entry.claims.iter().filter(|claim| is_here(claim.source));
            let ttl = here.filter_map(|claim| claim.known_secs(now)).max()?;
            let data = RData::PTR(PTR(entry.full_name.clone()));
            Some(ResourceRecord::new(self.service.clone(), CLASS::IN, ttl, data))
        });
        Inquiry {
            questions: vec![packet::question(self.service.clone(), TYPE::PTR)],
            known: known.take(known_max).collect(),
        }
    }

    /// Questions about claims that are about to lapse or incomplete, by link: as many as may be asked
    /// in this second. The others are due still when the next one begins.
    pub(super) fn follow_up(&mut self, now: Instant) -> BTreeMap<u32, Inquiry> {
        if !self.budget.has_any(now) {
            return BTreeMap::new();
        }
        let mut due = Vec::new();
        for (label, entry) in &self.entries {
            due.extend(entry.claims.iter().filter_map(|claim| {
                let (need, since) = claim.need(now)?;
                let share = self.claims_by_source.get(&claim.source).map_or(0, Vec::len);
                Some((need, share, since, claim.key, label.clone(), claim.source))
            }));
        }
        // Whoever claims least is asked first, and then who has waited longest.
        due.sort_unstable_by_key(|(need, share, since, key, ..)| (*need, *share, *since, *key));
        let mut inquiries: BTreeMap<u32, Inquiry> = BTreeMap::new();
        for (need, _, _, _, label, source) in due {
            let Some(entry) = self.entries.get_mut(&label) else { continue };
            let full_name = entry.full_name.clone();
            let Some(claim) = entry.claim_of(source) else { continue };
            if !self.budget.allows(need, source) {
                continue;
            }
            for (name, kind) in claim.due_questions(&full_name, now) {
                let inquiry = inquiries.entry(source.link).or_default();
                let same = |asked: &Question<'_>| asked.qtype == kind.into() && asked.qname == name;
                if !inquiry.questions.iter().any(same) {
                    inquiry.questions.push(packet::question(name, kind));
                    self.budget.spend();
                }
            }
        }
        inquiries
    }

    fn on_record(&mut self, source: Source, record: &ResourceRecord<'_>, now: Instant) {
        match &record.rdata {
            RData::PTR(PTR(target)) if record.name == self.service => {
                let Some(label) = self.label_of(target) else { return };
                if record.ttl == 0 {
                    self.retract(&label, source);
                } else if let Some(claim) = self.claim(&label, target, source, now) {
                    claim.take_pointer(record.ttl, now);
                }
            }
            RData::SRV(srv) => {
                let Some(label) = self.label_of(&record.name) else { return };
                if record.ttl == 0 {
                    self.retract(&label, source);
                } else if let Some(claim) = self.claim(&label, &record.name, source, now)
                    && claim.take_location(srv, record.ttl, now)
                {
                    self.touch(&label);
                }
            }
            RData::TXT(txt) if record.ttl > 0 => {
                let Some(label) = self.label_of(&record.name) else { return };
                if let Some(claim) = self.claim(&label, &record.name, source, now)
                    && claim.take_text(txt, record.ttl, now)
                {
                    self.touch(&label);
                }
            }
            _ => {}
        }
    }

    /// The instance's label, if a name is one of our service type's instances.
    fn label_of(&self, name: &Name<'_>) -> Option<Label> {
        let [label, ..] = name.get_labels() else { return None };
        let one_more = name.get_labels().len() == self.service.get_labels().len() + 1;
        let ours = one_more && name.is_subdomain_of(&self.service);
        ours.then(|| label.as_ref().to_ascii_lowercase().into())
    }

    /// The claim of a source to a name, made if there is none yet.
    fn claim(
        &mut self,
        label: &Label,
        full_name: &Name<'_>,
        source: Source,
        now: Instant,
    ) -> Option<&mut Claim> {
        let known = self.entries.get(label).is_some_and(|entry| entry.has(source));
        if !known {
            self.make_room(label, source);
            let first = full_name.get_labels().first()?;
            let entry = self.entries.entry(label.clone()).or_insert_with(|| Entry {
                name: Untrusted::new(String::from_utf8_lossy(first.as_ref())),
                full_name: full_name.clone().into_owned(),
                claims: Vec::new(),
                shown: Vec::new(),
                touched: None,
            });
            // Nearly every name has one claim, and there may be thousands: no room for more.
            entry.claims.reserve_exact(1);
            entry.claims.push(Claim::new(self.next_key, source, now));
            self.next_key += 1;
            self.claims_total += 1;
            self.claims_by_source.entry(source).or_default().push(label.clone());
        }
        let claim = self.entries.get_mut(label)?.claim_of(source)?;
        claim.heard_at = now;
        Some(claim)
    }

    /// Evicts what must give way to a new claim. Whoever claims too much loses its own.
    fn make_room(&mut self, label: &Label, source: Source) {
        let heard_at = |entries: &HashMap<Label, Entry>, label: &Label, source: Source| {
            let claims = entries.get(label).map(|entry| entry.claims.iter());
            claims?.find(|claim| claim.source == source).map(|claim| claim.heard_at)
        };
        let own = self.claims_by_source.get(&source).map_or(&[][..], Vec::as_slice);
        if own.len() >= SOURCE_CLAIMS_MAX {
            let oldest = own.iter().min_by_key(|own| heard_at(&self.entries, own, source)).cloned();
            if let Some(oldest) = oldest {
                self.evict(&oldest, source);
            }
        }
        let rivals = self.entries.get(label).map_or(&[][..], |entry| entry.claims.as_slice());
        if rivals.len() >= NAME_CLAIMS_MAX {
            let oldest = rivals.iter().min_by_key(|claim| claim.heard_at).map(|claim| claim.source);
            if let Some(oldest) = oldest {
                self.evict(label, oldest);
            }
        }
        if self.claims_total >= CLAIMS_MAX {
            self.evict_some();
        }
    }

    /// Evicts many at once, so that a flood does not make every packet search the whole cache. Of
    /// those who claim most the oldest go first: a device claims one name, so only as many addresses
    /// as there is room for claims can push it out.
    fn evict_some(&mut self) {
        let mut ranks: Vec<(Reverse<usize>, Instant, &Label, Source)> =
            Vec::with_capacity(self.claims_total);
        for (label, entry) in &self.entries {
            ranks.extend(entry.claims.iter().map(|claim| {
                let share = self.claims_by_source.get(&claim.source).map_or(0, Vec::len);
                (Reverse(share), claim.heard_at, label, claim.source)
            }));
        }
        ranks.select_nth_unstable_by_key(EVICTED_TOGETHER, |(share, heard_at, ..)| {
            (*share, *heard_at)
        });
        let gone = ranks.into_iter().take(EVICTED_TOGETHER);
        let gone: Vec<_> = gone.map(|(_, _, label, source)| (label.clone(), source)).collect();
        for (label, source) in gone {
            self.evict(&label, source);
        }
    }

    fn evict(&mut self, label: &Label, source: Source) {
        self.evictions += 1;
        self.remove(label, source);
    }

    /// A source takes its claim back, and with it those of the same host's other addresses.
    fn retract(&mut self, label: &Label, source: Source) {
        let Some(entry) = self.entries.get(label) else { return };
        let Some(own) = entry.claims.iter().find(|claim| claim.source == source) else { return };
        let same_host = entry.claims.iter().filter(|claim| claim.vouches_with(own));
        let gone: Vec<Source> = same_host.map(|claim| claim.source).chain([source]).collect();
        for source in gone {
            self.remove(label, source);
        }
    }

    fn remove(&mut self, label: &Label, source: Source) {
        let Some(entry) = self.entries.get_mut(label) else { return };
        let before = entry.claims.len();
        entry.claims.retain(|claim| claim.source != source);
        self.claims_total -= before - entry.claims.len();
        if let Some(labels) = self.claims_by_source.get_mut(&source) {
            labels.retain(|own| own != label);
            if labels.is_empty() {
                self.claims_by_source.remove(&source);
            }
        }
        if entry.claims.is_empty() && entry.shown.is_empty() {
            if let Some(place) = entry.touched {
                self.touched.remove(&place);
            }
            self.entries.remove(label);
        } else {
            self.touch(label);
        }
    }

    fn touch(&mut self, label: &Label) {
        if let Some(entry) = self.entries.get_mut(label)
            && entry.touched.is_none()
        {
            entry.touched = Some(self.touches);
            self.touched.insert(self.touches, label.clone());
            self.touches += 1;
        }
    }

    /// Compares how a name's claims look now with how they were last shown.
    fn show(&mut self, label: &Label) {
        let Some(entry) = self.entries.get_mut(label) else { return };
        entry.touched = None;
        let instances = entry.instances();
        for old in &entry.shown {
            if !instances.iter().any(|new| new.key == old.key) {
                self.events.push_back(Event::Lost(old.clone()));
            }
        }
        for new in &instances {
            match entry.shown.iter().find(|old| old.key == new.key) {
                None => self.events.push_back(Event::Found(new.clone())),
                Some(old) if old != new => self.events.push_back(Event::Updated(new.clone())),
                Some(_) => {}
            }
        }
        entry.shown = instances;
        if entry.claims.is_empty() {
            self.entries.remove(label);
        }
    }
}

impl Entry {
    fn has(&self, source: Source) -> bool {
        self.claims.iter().any(|claim| claim.source == source)
    }

    fn claim_of(&mut self, source: Source) -> Option<&mut Claim> {
        self.claims.iter_mut().find(|claim| claim.source == source)
    }

    /// The complete claims, those of one host as one.
    fn instances(&self) -> Vec<Instance> {
        let mut groups: Vec<Vec<&Claim>> = Vec::new();
        for claim in self.claims.iter().filter(|claim| claim.is_complete()) {
            // A claim may join groups that were apart until it came.
            let (joined, apart): (Vec<_>, Vec<_>) = groups
                .into_iter()
                .partition(|group| group.iter().any(|other| claim.goes_with(other)));
            groups = apart;
            groups.push(joined.into_iter().flatten().chain([claim]).collect());
        }
        let mut instances: Vec<_> =
            groups.iter().filter_map(|group| self.instance(group)).collect();
        instances.shrink_to_fit();
        instances
    }

    fn instance(&self, group: &[&Claim]) -> Option<Instance> {
        let key = group.iter().map(|claim| claim.key).min()?;
        let newest = group.iter().max_by_key(|claim| claim.changed_at)?;
        let mut addresses: Vec<Address> =
            group.iter().flat_map(|claim| claim.addresses()).collect();
        // Sorted so that of two entries for one address the sourced one comes first.
        addresses.sort_by_key(|address| (address.ip, address.interface_index, !address.sourced));
        addresses.dedup_by_key(|address| (address.ip, address.interface_index));
        addresses.shrink_to_fit();
        let (host, port) = newest.location()?;
        let txt = newest.text()?.clone();
        let instance = Instance { key, name: self.name.clone(), host, port, txt, addresses };
        (!instance.addresses.is_empty()).then_some(instance)
    }
}
