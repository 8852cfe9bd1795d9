//! What one source address says about one instance name: where it is, what its text is, which
//! addresses its host has, and for how long each of these holds.

use std::net::IpAddr;
use std::time::Duration;

use simple_dns::rdata::{SRV, TXT};
use simple_dns::{Name, ResourceRecord, TYPE};
use tokio::time::Instant;

use super::instance::{Address, Text};
use super::packet;
use crate::net::address::Kind;
use crate::untrusted::Untrusted;

/// Bytes of a TXT record that is taken in.
pub(super) const TXT_BYTES_MAX: usize = 1300;
/// Attributes of a TXT record that are kept, and labels of a host's name: each costs memory of its
/// own, however short it is.
pub(super) const ATTRIBUTES_MAX: usize = 16;
pub(super) const HOST_LABELS_MAX: usize = 8;
/// Addresses of one host that are kept.
const ADDRESSES_MAX: usize = 16;
/// The longest that anything is believed, whatever its sender asks for.
const TTL_MAX: Duration = Duration::from_secs(75 * 60);
/// What lives shorter than this is not asked for again: it would be all that we do.
const REFRESHED_TTL_MIN: Duration = Duration::from_secs(20);
/// When, in percent of its life, a record is asked for again (RFC 6762 §5.2).
const REFRESH_PERCENT: [u32; 4] = [80, 85, 90, 95];
/// How often an incomplete claim is asked about; the pause doubles each time.
const COMPLETIONS_MAX: u8 = 4;
const COMPLETION_INTERVAL: Duration = Duration::from_secs(1);
/// A record with the cache-flush bit replaces those that are older than this.
const FLUSH_AGE: Duration = Duration::from_secs(1);

/// Where a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source {
    pub(super) ip: IpAddr,
    pub(super) link: u32,
    pub(super) loopback: bool,
}

impl Source {
    /// Whether a host there may say that it has this address.
    pub(super) fn may_claim(self, address: IpAddr) -> bool {
        match Kind::of(address) {
            Kind::Unspecified | Kind::Multicast | Kind::Broadcast | Kind::Metadata => false,
            Kind::Loopback => self.loopback,
            // A neighbour has whatever other address its network gave it.
            Kind::Public
            | Kind::Private
            | Kind::LinkLocal
            | Kind::Documentation
            | Kind::Benchmark
            | Kind::Reserved => true,
        }
    }
}

/// One source's claim to one name.
#[derive(Debug)]
pub(super) struct Claim {
    /// Older claims have smaller keys.
    pub(super) key: u64,
    pub(super) source: Source,
    pub(super) heard_at: Instant,
    pub(super) changed_at: Instant,
    pointer: Option<Lease>,
    location: Option<(Location, Lease)>,
    text: Option<(Text, Lease)>,
    addresses: Vec<(IpAddr, Lease)>,
    completions: u8,
    complete_at: Instant,
}

#[derive(Debug, PartialEq, Eq)]
struct Location {
    host: Name<'static>,
    port: u16,
}

/// How long something holds, and how often it has been asked for again.
#[derive(Clone, Copy, Debug)]
struct Lease {
    since: Instant,
    ttl: Duration,
    refreshes: usize,
}

impl Lease {
    fn new(ttl_secs: u32, now: Instant) -> Self {
        let ttl = Duration::from_secs(u64::from(ttl_secs)).min(TTL_MAX);
        Self { since: now, ttl, refreshes: 0 }
    }

    fn has_ended(&self, now: Instant) -> bool {
        now >= self.since + self.ttl
    }

    /// Since when it is to be asked for again.
    fn refresh_at(&self) -> Option<Instant> {
        let percent = REFRESH_PERCENT.get(self.refreshes)?;
        (self.ttl >= REFRESHED_TTL_MIN).then(|| self.since + self.ttl * *percent / 100)
    }

    /// Whether it is to be asked for again now; counts as asked if so.
    fn take_refresh(&mut self, now: Instant) -> bool {
        let due = self.refresh_at().is_some_and(|at| at <= now);
        self.refreshes += usize::from(due);
        due
    }
}

/// Why a claim is asked about, the more urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// All of it is known, and is about to lapse.
    Refresh,
    /// Something is missing.
    Completion,
}

impl Claim {
    pub(super) fn new(key: u64, source: Source, now: Instant) -> Self {
        Self {
            key,
            source,
            heard_at: now,
            changed_at: now,
            pointer: None,
            location: None,
            text: None,
            addresses: Vec::new(),
            completions: 0,
            complete_at: now,
        }
    }

    pub(super) fn take_pointer(&mut self, ttl_secs: u32, now: Instant) {
        self.pointer = Some(Lease::new(ttl_secs, now));
    }

    /// Takes in host and port, unless the host's name is an odd one; returns whether they are new.
    pub(super) fn take_location(&mut self, srv: &SRV<'_>, ttl_secs: u32, now: Instant) -> bool {
        if srv.target.get_labels().len() > HOST_LABELS_MAX {
            return false;
        }
        let same = self
            .location
            .as_ref()
            .is_some_and(|(location, _)| location.host == srv.target && location.port == srv.port);
        let lease = Lease::new(ttl_secs, now);
        if let Some((_, known)) = self.location.as_mut().filter(|_| same) {
            *known = lease;
            return false;
        }
        // Another host has other addresses.
        self.addresses.clear();
        let location = Location { host: srv.target.clone().into_owned(), port: srv.port };
        self.location = Some((location, lease));
        self.changed_at = now;
        true
    }

    /// Takes in text, if it is not too long; returns whether it is new.
    pub(super) fn take_text(&mut self, txt: &TXT<'_>, ttl_secs: u32, now: Instant) -> bool {
        let attributes = || txt.iter_raw();
        let bytes: usize =
            attributes().map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len) + 2).sum();
        if bytes > TXT_BYTES_MAX {
            return false;
        }
        let untrusted = |bytes: &[u8]| Untrusted::new(String::from_utf8_lossy(bytes));
        let text: Text = attributes()
            .take(ATTRIBUTES_MAX)
            .map(|(key, value)| (untrusted(key), untrusted(value.unwrap_or_default())))
            .collect();
        let changed = self.text.as_ref().is_none_or(|(known, _)| *known != text);
        self.text = Some((text, Lease::new(ttl_secs, now)));
        if changed {
            self.changed_at = now;
        }
        changed
    }

    /// Takes in the addresses of this claim's host; returns whether they are different now.
    pub(super) fn take_addresses(&mut self, records: &[&ResourceRecord<'_>], now: Instant) -> bool {
        let Some((location, _)) = &self.location else { return false };
        let before: Vec<IpAddr> = self.addresses.iter().map(|(ip, _)| *ip).collect();
        for record in records.iter().filter(|record| record.name == location.host) {
            let Some(ip) = packet::address_of(record) else { continue };
            self.addresses.retain(|(known, lease)| {
                let flushed = record.cache_flush
                    && known.is_ipv4() == ip.is_ipv4()
                    && now > lease.since + FLUSH_AGE;
                *known != ip && !flushed
            });
            if record.ttl > 0 && self.addresses.len() < ADDRESSES_MAX {
                self.addresses.reserve_exact(1);
                self.addresses.push((ip, Lease::new(record.ttl, now)));
            }
        }
        let after = self.addresses.iter().map(|(ip, _)| ip);
        before.len() != self.addresses.len() || after.into_iter().any(|ip| !before.contains(ip))
    }

    /// Whether nothing holds the claim up any more.
    pub(super) fn has_lapsed(&self, now: Instant) -> bool {
        let pointer = self.pointer.map(|lease| lease.has_ended(now));
        let location = self.location.as_ref().map(|(_, lease)| lease.has_ended(now));
        match (pointer, location) {
            (Some(pointer), Some(location)) => pointer || location,
            (Some(ended), None) | (None, Some(ended)) => ended,
            // Text alone says nothing.
            (None, None) => self.text.as_ref().is_none_or(|(_, lease)| lease.has_ended(now)),
        }
    }

    /// Drops text and addresses that no longer hold; returns whether there were any.
    pub(super) fn drop_lapsed_parts(&mut self, now: Instant) -> bool {
        let before = self.addresses.len();
        self.addresses.retain(|(_, lease)| !lease.has_ended(now));
        let text_ended = self.text.take_if(|(_, lease)| lease.has_ended(now)).is_some();
        text_ended || self.addresses.len() != before
    }

    /// Seconds that the pointer still holds, if that is more than half of its life.
    pub(super) fn known_secs(&self, now: Instant) -> Option<u32> {
        let lease = self.pointer?;
        let left = (lease.since + lease.ttl).saturating_duration_since(now);
        (left > lease.ttl / 2).then(|| u32::try_from(left.as_secs()).unwrap_or(u32::MAX))
    }

    /// Why something is to be asked now, and since when.
    pub(super) fn need(&self, now: Instant) -> Option<(Need, Instant)> {
        let leases = [
            self.location.as_ref().map(|(_, lease)| lease),
            self.text.as_ref().map(|(_, lease)| lease),
        ];
        let leases = leases.into_iter().flatten().chain(self.addresses.iter().map(|(_, it)| it));
        let refresh_at = leases.filter_map(Lease::refresh_at).min();
        let (need, at) = if self.has_all() {
            (Need::Refresh, refresh_at)
        } else {
            let complete_at = (self.completions < COMPLETIONS_MAX).then_some(self.complete_at);
            (Need::Completion, complete_at.into_iter().chain(refresh_at).min())
        };
        at.filter(|at| *at <= now).map(|at| (need, at))
    }

    /// What to ask now to complete the claim or to keep it.
    pub(super) fn due_questions(
        &mut self,
        full_name: &Name<'static>,
        now: Instant,
    ) -> Vec<(Name<'static>, TYPE)> {
        let mut due = Vec::new();
        let complete = self.has_all();
        let ask_to_complete =
            !complete && now >= self.complete_at && self.completions < COMPLETIONS_MAX;
        if ask_to_complete {
            self.complete_at = now + COMPLETION_INTERVAL * 2_u32.pow(u32::from(self.completions));
            self.completions += 1;
        } else if complete {
            self.completions = 0;
        }
        let location = self.location.as_mut().map(|(_, lease)| lease.take_refresh(now));
        if location.unwrap_or(ask_to_complete) {
            due.push((full_name.clone(), TYPE::SRV));
        }
        let text = self.text.as_mut().map(|(_, lease)| lease.take_refresh(now));
        if text.unwrap_or(ask_to_complete) {
            due.push((full_name.clone(), TYPE::TXT));
        }
        let Some((location, _)) = &self.location else { return due };
        if self.addresses.is_empty() && ask_to_complete {
            due.extend([TYPE::A, TYPE::AAAA].map(|kind| (location.host.clone(), kind)));
        }
        for (ip, lease) in &mut self.addresses {
            if lease.take_refresh(now) {
                let kind = if ip.is_ipv4() { TYPE::A } else { TYPE::AAAA };
                due.push((location.host.clone(), kind));
            }
        }
        due
    }

    /// Whether host, port and text are known.
    pub(super) fn is_complete(&self) -> bool {
        self.location.is_some() && self.text.is_some()
    }

    fn has_all(&self) -> bool {
        self.is_complete() && !self.addresses.is_empty()
    }

    /// Whether two claims are one host's: they say the same, or each vouches for the other.
    pub(super) fn goes_with(&self, other: &Self) -> bool {
        let says = |claim: &Self| claim.location().zip(claim.text().cloned());
        says(self) == says(other) || self.vouches_with(other)
    }

    /// Whether each of two sources says that its host has the other's address as well. One alone
    /// could say so of anybody.
    pub(super) fn vouches_with(&self, other: &Self) -> bool {
        let lists = |claim: &Self, ip| claim.addresses.iter().any(|(known, _)| *known == ip);
        self.source.link == other.source.link
            && lists(self, other.source.ip)
            && lists(other, self.source.ip)
    }

    /// Host and port.
    pub(super) fn location(&self) -> Option<(Untrusted, u16)> {
        let (location, _) = self.location.as_ref()?;
        Some((Untrusted::new(location.host.to_string()), location.port))
    }

    /// The text's attributes.
    pub(super) fn text(&self) -> Option<&Text> {
        self.text.as_ref().map(|(text, _)| text)
    }

    /// The host's addresses as heard from this source.
    pub(super) fn addresses(&self) -> impl Iterator<Item = Address> {
        self.addresses.iter().map(|(ip, _)| Address {
            ip: *ip,
            interface_index: self.source.link,
            sourced: *ip == self.source.ip,
        })
    }
}
