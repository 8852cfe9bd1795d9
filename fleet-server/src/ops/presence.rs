//! Who was heard when, and what they said last.
//!
//! [`Presence`] holds what the devices' links say from moment to moment; it is rebuilt from the
//! store at the start and written back now and then, so a crash loses seconds of "last seen" and
//! nothing else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleet_core::api::LatestReport;
use fleet_core::id::Uid;
use fleet_core::limits::REPORT_SAMPLES_MAX;
use fleet_core::metric::{Report, Sample};
use fleet_core::time::Timestamp;

use super::judgement::{self, Deaf, Judgement};
use super::vitals::{self, Numbers, TEMPERATURE, Vitals};
use crate::bell::Bell;

/// What the server heard of its devices.
#[derive(Default)]
pub(crate) struct Presence {
    state: Mutex<State>,
    /// The time before the server's start in which it heard nobody.
    deaf: Option<Deaf>,
    /// Rings for a device that is heard though somebody waits for it.
    returned: Bell,
}

#[derive(Default)]
struct State {
    devices: HashMap<Uid, Known>,
    unwritten: HashSet<Uid>,
    awaited: HashSet<Uid>,
    /// Grows whenever something is heard.
    change: u64,
}

#[derive(Default)]
struct Known {
    last_seen: Option<Timestamp>,
    latest: Option<LatestReport>,
    /// Whether the device itself has a part in that.
    is_own: bool,
    vitals: Vitals,
    /// Reports since the server's start.
    reports: u64,
    /// The state's `change` as something was last heard of this device.
    change: u64,
}

/// A device's newest numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) last_seen: Option<Timestamp>,
    pub(crate) numbers: Numbers,
    /// Reports since the server's start.
    pub(crate) reports: u64,
    /// Grows whenever something is heard of the device.
    pub(crate) change: u64,
}

impl Presence {
    /// Starts from what the store remembers. Only others speak for the devices in `keyless`. In the
    /// time that `deaf` names nobody could be heard.
    pub(crate) fn rebuilt(
        seen: impl IntoIterator<Item = (Uid, Timestamp)>,
        latest: Vec<(Uid, Report)>,
        keyless: &HashSet<Uid>,
        deaf: Option<Deaf>,
    ) -> Self {
        let mut devices: HashMap<Uid, Known> = HashMap::new();
        for (uid, at) in seen {
            devices.entry(uid).or_default().last_seen = Some(at);
        }
        for (uid, report) in latest {
            let known = devices.entry(uid).or_default();
            let at = Timestamp::from_millis(report.at_millis);
            known.latest = Some(summary(at, &report.samples));
            known.is_own = !keyless.contains(&uid);
            known.vitals = Vitals::restored(&report.samples);
        }
        let state = State { devices, ..State::default() };
        Self { state: Mutex::new(state), deaf, returned: Bell::default() }
    }

    /// Notes that a device was heard.
    pub(crate) fn heard(&self, uid: Uid, at: Timestamp) {
        let mut state = self.lock();
        state.touched(uid).last_seen = Some(at);
        state.unwritten.insert(uid);
        if state.awaited.remove(&uid) {
            self.returned.ring(uid);
        }
    }

    /// Notes a device's own report, if it is newer than what is known.
    pub(crate) fn reported(&self, uid: Uid, at: Timestamp, samples: &[Sample]) {
        let mut state = self.lock();
        let known = state.touched(uid);
        // Others may be ahead of time, and are not to keep the device from being heard.
        let is_behind = known.latest.as_ref().is_some_and(|latest| at < latest.timestamp);
        let is_news = !(is_behind && known.is_own);
        if is_news && !samples.is_empty() {
            known.is_own = true;
            known.latest = Some(summary(at, samples));
            known.vitals.report(samples);
            known.reports += 1;
        }
    }

    /// Notes what a third party posted for a device: it joins the newest report until the device's
    /// next one, and makes that report neither newer nor emptier. Of a device that never reports
    /// itself, the newest post is the newest report.
    pub(crate) fn posted(&self, uid: Uid, at: Timestamp, samples: &[Sample]) {
        let mut state = self.lock();
        let known = state.touched(uid);
        let empty = || LatestReport { timestamp: at, metrics: BTreeMap::new() };
        let latest = known.latest.get_or_insert_with(empty);
        if latest.timestamp > at {
            return;
        }
        if !known.is_own {
            latest.timestamp = at;
        }
        for (name, value) in shown(samples) {
            if let Some(known) = latest.metrics.get_mut(name) {
                *known = value;
            } else if latest.metrics.len() < REPORT_SAMPLES_MAX {
                // A device that never reports itself never empties it, so there is an end to names.
                latest.metrics.insert(name.to_owned(), value);
            }
        }
        known.vitals.join(samples);
        known.reports += 1;
    }

    /// When a device was last heard.
    pub(crate) fn last_seen(&self, uid: Uid) -> Option<Timestamp> {
        self.lock().devices.get(&uid)?.last_seen
    }

    /// A device's newest report.
    pub(crate) fn latest(&self, uid: Uid) -> Option<LatestReport> {
        self.lock().devices.get(&uid)?.latest.clone()
    }

    /// How an active device is doing that was last heard at a time.
    pub(crate) fn judge(
        &self,
        now: Timestamp,
        last_seen: Option<Timestamp>,
        interval: Duration,
    ) -> Judgement {
        judgement::judge(now, last_seen, interval, self.deaf)
    }

    /// When the server went deaf before its start, and when it began to listen again.
    pub(crate) fn deaf(&self) -> Option<Deaf> {
        self.deaf
    }

    /// From now on [`Presence::returned`] tells when the device is heard; or no more.
    pub(crate) fn await_return(&self, uid: Uid, is_awaited: bool) {
        let mut state = self.lock();
        if is_awaited {
            state.awaited.insert(uid);
        } else {
            state.awaited.remove(&uid);
        }
    }

    /// Waits for awaited devices that are heard, each told once.
    pub(crate) async fn returned(&self) -> Vec<Uid> {
        self.returned.rung().await
    }

    /// A number that grows with whatever is heard.
    pub(crate) fn change(&self) -> u64 {
        self.lock().change
    }

    /// Devices' newest numbers.
    pub(crate) fn readings(&self, uids: impl Iterator<Item = Uid>) -> Vec<Option<Reading>> {
        let state = self.lock();
        uids.map(|uid| state.devices.get(&uid).map(Known::reading)).collect()
    }

    /// The newest numbers of all devices that were heard after a change.
    pub(crate) fn readings_after(&self, change: Option<u64>) -> Vec<(Uid, Reading)> {
        let state = self.lock();
        let changed = state.devices.iter().filter(|(_, known)| Some(known.change) > change);
        changed.map(|(uid, known)| (*uid, known.reading())).collect()
    }

    /// A device's last CPU values, oldest first.
    pub(crate) fn past(&self, uid: Uid) -> Vec<u8> {
        self.lock().devices.get(&uid).map(|known| known.vitals.past()).unwrap_or_default()
    }

    /// Forgets a device.
    pub(crate) fn forget(&self, uid: Uid) {
        let mut state = self.lock();
        state.devices.remove(&uid);
        state.unwritten.remove(&uid);
        state.awaited.remove(&uid);
    }

    /// What was heard since the last call, for the store.
    pub(crate) fn take_unwritten(&self) -> Vec<(Uid, Timestamp)> {
        let mut state = self.lock();
        let uids = std::mem::take(&mut state.unwritten);
        uids.into_iter()
            .filter_map(|uid| Some((uid, state.devices.get(&uid)?.last_seen?)))
            .collect()
    }

    /// Puts back what the store did not take.
    pub(crate) fn put_back(&self, seen: &[(Uid, Timestamp)]) {
        let mut state = self.lock();
        for (uid, _) in seen {
            if state.devices.contains_key(uid) {
                state.unwritten.insert(*uid);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A device of which something is heard now.
    fn touched(&mut self, uid: Uid) -> &mut Known {
        self.change += 1;
        let known = self.devices.entry(uid).or_default();
        known.change = self.change;
        known
    }
}

impl Known {
    fn reading(&self) -> Reading {
        let Self { last_seen, reports, change, .. } = *self;
        Reading { last_seen, numbers: self.vitals.numbers, reports, change }
    }
}

/// What lists say of a report: the values without labels, and the hottest sensor's temperature.
fn summary(timestamp: Timestamp, samples: &[Sample]) -> LatestReport {
    let metrics = shown(samples).map(|(name, value)| (name.to_owned(), value)).collect();
    LatestReport { timestamp, metrics }
}

fn shown(samples: &[Sample]) -> impl Iterator<Item = (&str, f64)> {
    let plain = samples.iter().filter(|sample| sample.labels.is_empty());
    let plain = plain.map(|sample| (sample.name.as_str(), sample.value));
    plain.chain(vitals::hottest(samples).map(|value| (TEMPERATURE, value)))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_third_partys_values_join_a_report_and_do_not_replace_it() {
        let presence = Presence::default();
        let uid = Uid::new();
        let at = Timestamp::from_millis;
        let metrics =
            || presence.latest(uid).map(|latest| (latest.timestamp, latest.metrics.len()));
        presence.reported(uid, at(10), &[Sample::new("cpu_usage", 1.0)]);
        presence.posted(uid, at(9), &[Sample::new("older", 1.0)]);
        assert_eq!(metrics(), Some((at(10), 1)));
        presence.posted(uid, at(1_000), &[Sample::new("doors_open", 2.0)]);
        assert_eq!(metrics(), Some((at(10), 2)));
        presence.reported(uid, at(20), &[Sample::new("cpu_usage", 1.0)]);
        assert_eq!(metrics(), Some((at(20), 1)));
    }

    #[test]
    fn after_a_restart_a_device_for_which_others_speak_goes_on_as_before() {
        let (quiet, own) = (Uid::new(), Uid::new());
        let at = Timestamp::from_millis;
        let report = || Report { at_millis: 10, samples: vec![Sample::new("doors_open", 1.0)] };
        let latest = vec![(quiet, report()), (own, report())];
        let presence = Presence::rebuilt([], latest, &[quiet].into(), None);
        for uid in [quiet, own] {
            presence.posted(uid, at(20), &[Sample::new("doors_open", 2.0)]);
        }
        let time = |uid| presence.latest(uid).map(|latest| latest.timestamp);
        assert_eq!([time(quiet), time(own)], [Some(at(20)), Some(at(10))]);
    }

    #[test]
    fn who_posts_ahead_of_time_does_not_drown_the_device() {
        let presence = Presence::default();
        let uid = Uid::new();
        let at = Timestamp::from_millis;
        let latest = || presence.latest(uid).map(|latest| (latest.timestamp, latest.metrics.len()));
        presence.posted(uid, at(900), &[Sample::new("doors_open", 2.0)]);
        presence.posted(uid, at(1_000), &[Sample::new("doors_shut", 2.0)]);
        assert_eq!(latest(), Some((at(1_000), 2)), "nobody else says when");
        presence.reported(uid, at(50), &[Sample::new("cpu_usage", 1.0)]);
        assert_eq!(latest(), Some((at(50), 1)));
        presence.reported(uid, at(40), &[Sample::new("cpu_usage", 9.0)]);
        presence.posted(uid, at(60), &[Sample::new("doors_open", 3.0)]);
        assert_eq!(latest(), Some((at(50), 2)));
    }

    #[test]
    fn what_third_parties_post_has_an_end() {
        let presence = Presence::default();
        let (uid, at) = (Uid::new(), Timestamp::from_millis(10));
        let latest = || presence.latest(uid).unwrap().metrics;
        for number in 0..REPORT_SAMPLES_MAX + 5 {
            presence.posted(uid, at, &[Sample::new(&format!("metric_{number}"), 1.0)]);
        }
        assert_eq!(latest().len(), REPORT_SAMPLES_MAX);
        presence.posted(uid, at, &[Sample::new("metric_0", 2.0)]);
        assert!(latest()["metric_0"] > 1.0, "what is there stays up to date");
    }

    #[test]
    fn lists_have_the_hottest_sensor_and_no_other_value_with_labels() {
        let presence = Presence::default();
        let uid = Uid::new();
        let sensor = |zone, value| Sample::labelled("temperature_celsius", "zone", zone, value);
        let samples = [
            Sample::new("cpu_usage", 1.0),
            sensor("cpu", 61.5),
            sensor("gpu", 48.0),
            Sample::labelled("disk_usage", "mount", "/data", 9.0),
        ];
        presence.reported(uid, Timestamp::from_millis(10), &samples);
        let expected = [("cpu_usage".to_owned(), 1.0), ("temperature_celsius".to_owned(), 61.5)];
        assert_eq!(presence.latest(uid).unwrap().metrics, expected.into());
    }

    #[test]
    fn what_the_store_did_not_take_is_tried_again() {
        let presence = Presence::default();
        let (uid, at) = (Uid::new(), Timestamp::from_millis(5));
        presence.heard(uid, at);
        let seen = presence.take_unwritten();
        assert_eq!(seen, [(uid, at)]);
        assert_eq!(presence.take_unwritten(), []);
        presence.put_back(&seen);
        assert_eq!(presence.take_unwritten(), [(uid, at)]);
        presence.forget(uid);
        presence.put_back(&seen);
        assert_eq!(presence.take_unwritten(), []);
    }

    #[test]
    fn readings_are_those_heard_after_a_change() {
        let presence = Presence::default();
        let (one, other) = (Uid::new(), Uid::new());
        let at = Timestamp::from_millis(5);
        presence.heard(one, at);
        presence.reported(other, at, &[Sample::new("cpu_usage", 7.0)]);
        assert_eq!(presence.readings_after(None).len(), 2);
        let seen = presence.change();
        assert!(presence.readings_after(Some(seen)).is_empty());
        presence.reported(one, at, &[Sample::new("cpu_usage", 8.0)]);
        let changed = presence.readings_after(Some(seen));
        assert_eq!(changed.len(), 1);
        assert_eq!((changed[0].0, changed[0].1.numbers.cpu), (one, Some(8)));
        assert_eq!(presence.past(one), [8]);
        let readings = presence.readings([Uid::new(), other].into_iter());
        assert_eq!(readings[0], None);
        assert_eq!(readings[1].and_then(|reading| reading.numbers.cpu), Some(7));
    }

    #[tokio::test]
    async fn a_return_is_told_once_and_only_if_it_is_awaited() {
        let presence = Presence::default();
        let (uid, at) = (Uid::new(), Timestamp::from_millis(5));
        presence.heard(uid, at);
        assert!(presence.returned().now_or_never().is_none());
        presence.await_return(uid, true);
        presence.heard(uid, at);
        presence.heard(uid, at);
        assert_eq!(presence.returned().await, [uid]);
        presence.await_return(uid, true);
        presence.await_return(uid, false);
        presence.heard(uid, at);
        assert!(presence.returned().now_or_never().is_none());
    }
}
