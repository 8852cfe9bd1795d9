//! Devices whose key is in two places: a data folder that was copied, a stolen key.
//!
//! Two things speak for that, and one device alone does neither. The end of a link that a newer one
//! replaced still answers, again and again: a device that moves, or whose link broke, has let go of the
//! old one, which is then silent. And two reports of one stream have one number and different contents:
//! a device numbers each report once.
//!
//! What was noted holds for the key, so it ends when the device has another one.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleet_core::Chain;
use fleet_core::api::{DoubleSign, EventKind};
use fleet_core::id::Uid;
use fleet_core::wire::{QueuedReport, Samples};

use super::events::NewEvent;
use super::{Actor, Events, Presence, World};
use crate::hub::Hub;
use crate::store::{Admission, DoubleRecord};

/// Replaced links that answered, and in which time, before a device is suspected.
const OVERLAPS: usize = 3;
const OVERLAPS_WITHIN: Duration = Duration::from_secs(600);
/// Reports of a device whose contents are remembered.
const REPORTS_KEPT: usize = 8;
/// Devices that are watched. Beyond that watching begins anew, and what was noted stays.
const WATCHED_MAX: usize = 50_000;
/// How old what is stored of a suspicion may be.
const STORED_AGAIN: Duration = Duration::from_secs(600);

/// Watches for devices that are there twice.
pub(crate) struct Doubles {
    pub(crate) world: World,
    pub(crate) presence: Arc<Presence>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) events: Arc<Events>,
    watched: Mutex<HashMap<Uid, Watched>>,
}

/// What is remembered of one device.
#[derive(Default)]
struct Watched {
    overlaps: VecDeque<Instant>,
    stream: [u8; 16],
    reports: VecDeque<(u64, u32)>,
    /// Where the newest of those came from.
    from: Option<IpAddr>,
}

impl Watched {
    /// Notes that a replaced link answered; whether that was once too often.
    fn overlapped(&mut self, now: Instant) -> bool {
        self.overlaps.retain(|at| now.duration_since(*at) < OVERLAPS_WITHIN);
        self.overlaps.push_back(now);
        if self.overlaps.len() > OVERLAPS {
            self.overlaps.pop_front();
        }
        self.overlaps.len() == OVERLAPS
    }

    /// Notes reports; where another one with the number of one of these came from, if there was one.
    fn reported(&mut self, samples: &Samples, from: IpAddr) -> Option<IpAddr> {
        if self.stream != samples.stream {
            self.stream = samples.stream;
            self.reports.clear();
        }
        let other = self.from.unwrap_or(from);
        let mut found = None;
        let kept = samples.reports.len().saturating_sub(REPORTS_KEPT);
        for (place, report) in samples.reports.iter().enumerate() {
            let known = self.reports.iter().find(|(seq, _)| *seq == report.seq);
            match known {
                Some((_, content)) if *content != content_of(report) => found = Some(other),
                Some(_) => {}
                None if place >= kept => {
                    self.reports.push_back((report.seq, content_of(report)));
                    self.from = Some(from);
                }
                None => {}
            }
        }
        let too_many = self.reports.len().saturating_sub(REPORTS_KEPT);
        self.reports.drain(..too_many);
        found
    }
}

/// What a report says, in short. Its times may be others when it is sent again.
fn content_of(report: &QueuedReport) -> u32 {
    let mut crc = 0;
    let mut add = |bytes: &[u8]| crc = crc32c::crc32c_append(crc, bytes);
    for sample in &report.samples {
        add(sample.name.as_bytes());
        for (name, value) in &sample.labels {
            add(name.as_bytes());
            add(value.as_bytes());
        }
        add(&sample.value.to_bits().to_le_bytes());
    }
    crc
}

impl Doubles {
    pub(crate) fn new(
        world: World,
        presence: Arc<Presence>,
        hub: Arc<Hub>,
        events: Arc<Events>,
    ) -> Self {
        Self { world, presence, hub, events, watched: Mutex::default() }
    }

    /// A link was replaced by a newer one, and its other end still answers.
    pub(crate) async fn overlapped(&self, uid: Uid, older: IpAddr, newer: IpAddr) {
        if self.watch(uid, |watched| watched.overlapped(Instant::now())) {
            self.suspect(uid, [older, newer], DoubleSign::Links).await;
        }
    }

    /// Looks at reports that a device sends, whether one like them came from elsewhere.
    pub(crate) async fn reported(&self, uid: Uid, samples: &Samples, from: IpAddr) {
        if let Some(other) = self.watch(uid, |watched| watched.reported(samples, from)) {
            self.suspect(uid, [other, from], DoubleSign::Reports).await;
        }
    }

    fn watch<T>(&self, uid: Uid, look: impl FnOnce(&mut Watched) -> T) -> T {
        let mut watched = self.lock();
        if watched.len() >= WATCHED_MAX && !watched.contains_key(&uid) {
            watched.clear();
        }
        look(watched.entry(uid).or_default())
    }

    /// Notes that a device is there twice. That is told once for a key.
    async fn suspect(&self, uid: Uid, addresses: [IpAddr; 2], sign: DoubleSign) {
        let device = match self.world.store.device_get(uid).await {
            Ok(Some(device)) if device.state == Admission::Active => device,
            Ok(_) => return,
            Err(error) => {
                return tracing::warn!(%uid, error = %Chain(&error), "a double is not noted");
            }
        };
        let Some(key) = device.key else { return };
        let now = self.world.now();
        let addresses = addresses.map(|address| address.to_canonical());
        let known = self.presence.double(uid).filter(|known| known.key == key);
        let since = known.map_or(now, |known| known.since);
        let double = DoubleRecord { key, since, last: now, addresses, sign };
        if known.is_none_or(|known| now.since(known.last) >= STORED_AGAIN)
            && let Err(error) = self.world.store.double_put(uid, double).await
        {
            tracing::warn!(%uid, error = %Chain(&error), "a double is not stored");
        }
        self.presence.set_double(uid, double);
        if known.is_some() {
            return;
        }
        let words = words(&double);
        tracing::warn!(device_id = %device.id, words, "this device may be there twice");
        let kind = EventKind::DeviceDoubleSuspected;
        self.events.record(NewEvent::about(&device, kind, Actor::Server, words)).await;
        self.hub.note(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uid, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was seen, in words that stay true.
pub(crate) fn words(double: &DoubleRecord) -> String {
    let [one, other] = double.addresses;
    let places = if one == other {
        format!("both from {one}")
    } else {
        format!("from {one} and from {other}")
    };
    let sign = match double.sign {
        DoubleSign::Links => "two links with its key answer at once",
        DoubleSign::Reports => "two different reports have one number",
    };
    format!("may be there twice since {}: {sign}, {places}", double.since)
}

#[cfg(test)]
mod tests {
    use fleet_core::metric::Sample;

    use super::*;

    fn samples(stream: u8, reports: &[(u64, f64)]) -> Samples {
        let report = |&(seq, value): &(u64, f64)| QueuedReport {
            seq,
            at_millis: 5,
            age_millis: seq,
            samples: vec![Sample { name: "m".to_owned(), labels: Vec::new(), value }],
        };
        Samples { stream: [stream; 16], reports: reports.iter().map(report).collect() }
    }

    #[test]
    fn one_number_with_two_contents_is_two_devices_work() {
        let [here, there]: [IpAddr; 2] = ["10.0.0.2", "10.0.0.3"].map(|text| text.parse().unwrap());
        let mut watched = Watched::default();
        for (again, from) in [(1, here), (2, there), (3, here)] {
            let mut sent = samples(1, &[(1, 0.5), (2, 0.25)]);
            sent.reports.iter_mut().for_each(|report| report.age_millis = again);
            assert_eq!(watched.reported(&sent, from), None, "it only comes again");
        }
        assert_eq!(watched.reported(&samples(1, &[(3, 1.0)]), here), None);
        assert_eq!(watched.reported(&samples(1, &[(3, 2.0), (4, 1.0)]), there), Some(here));
        assert_eq!(watched.reported(&samples(2, &[(3, 7.0)]), here), None, "another stream");
        let many: Vec<_> = (4..300).map(|seq| (seq, 1.0)).collect();
        assert_eq!(watched.reported(&samples(2, &many), here), None);
        assert_eq!(watched.reports.len(), REPORTS_KEPT);
        assert_eq!(watched.reported(&samples(2, &[(299, 2.0)]), there), Some(here));
    }

    #[test]
    fn links_that_answer_after_their_time_count_within_a_while() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut watched = Watched::default();
        assert!(!watched.overlapped(at(0)) && !watched.overlapped(at(500)));
        assert!(!watched.overlapped(at(700)), "the first is long ago");
        assert!(watched.overlapped(at(800)) && watched.overlapped(at(801)));
        assert!(!watched.overlapped(at(3_000)));
    }
}
