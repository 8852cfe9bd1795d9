//! Who was heard when, and what that says about a device.
//!
//! [`judge`] is a pure function of times. [`Presence`] holds what the devices' links say from
//! moment to moment; it is rebuilt from the store at the start and written back now and then, so
//! a crash loses seconds of "last seen" and nothing else.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleet_core::api::{DeviceStatus, LatestReport};
use fleet_core::id::Uid;
use fleet_core::limits::{
    LOST_AFTER, OFFLINE_AFTER_MIN, TELEMETRY_INTERVAL_DEFAULT, TELEMETRY_INTERVAL_MAX,
};
use fleet_core::metric::{Report, Sample};
use fleet_core::time::Timestamp;

/// A report may be this much later than its interval before it counts as missing.
const GRACE_MIN: Duration = Duration::from_secs(5);

/// How an active device is doing, and why.
pub(crate) fn judge(
    now: Timestamp,
    last_seen: Option<Timestamp>,
    interval: Duration,
) -> (DeviceStatus, String) {
    let expected = format!("expected every {}", short(interval));
    let Some(last_seen) = last_seen else {
        return (DeviceStatus::Offline, format!("no report yet, {expected}"));
    };
    let silence = now.since(last_seen);
    let offline_after = (interval * 3).max(OFFLINE_AFTER_MIN);
    let status = if silence >= LOST_AFTER.max(offline_after) {
        DeviceStatus::Lost
    } else if silence >= offline_after {
        DeviceStatus::Offline
    } else if silence > interval + (interval / 4).max(GRACE_MIN) {
        DeviceStatus::Late
    } else {
        let why = format!("last heard from {} ago, {expected}", short(silence));
        return (DeviceStatus::Online, why);
    };
    (status, format!("no report for {}, {expected}", short(silence)))
}

/// The time between a device's reports, as it says; one that says nothing has the usual one.
pub(crate) fn interval(interval_secs: u32) -> Duration {
    match interval_secs {
        0 => TELEMETRY_INTERVAL_DEFAULT,
        secs => Duration::from_secs(secs.into()).min(TELEMETRY_INTERVAL_MAX),
    }
}

/// A duration in a unit that keeps it short.
fn short(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0..120 => format!("{secs}s"),
        120..7_200 => format!("{}m", secs / 60),
        7_200..172_800 => format!("{}h", secs / 3_600),
        _ => format!("{}d", secs / 86_400),
    }
}

/// What the server heard of its devices.
#[derive(Default)]
pub(crate) struct Presence {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_seen: HashMap<Uid, Timestamp>,
    latest: HashMap<Uid, LatestReport>,
    unwritten: HashSet<Uid>,
}

impl Presence {
    /// Starts from what the store remembers.
    pub(crate) fn rebuilt(
        seen: impl IntoIterator<Item = (Uid, Timestamp)>,
        latest: Vec<(Uid, Report)>,
    ) -> Self {
        let latest = latest
            .into_iter()
            .map(|(uid, report)| {
                let at = Timestamp::from_millis(report.at_millis);
                (uid, without_labels(at, &report.samples))
            })
            .collect();
        let last_seen = seen.into_iter().collect();
        Self { state: Mutex::new(State { last_seen, latest, unwritten: HashSet::new() }) }
    }

    /// Notes that a device was heard.
    pub(crate) fn heard(&self, uid: Uid, at: Timestamp) {
        let mut state = self.lock();
        state.last_seen.insert(uid, at);
        state.unwritten.insert(uid);
    }

    /// Notes a device's own report, if it is newer than what is known.
    pub(crate) fn reported(&self, uid: Uid, at: Timestamp, samples: &[Sample]) {
        let mut state = self.lock();
        let is_news = state.latest.get(&uid).is_none_or(|latest| latest.timestamp <= at);
        if is_news && !samples.is_empty() {
            state.latest.insert(uid, without_labels(at, samples));
        }
    }

    /// Notes what a third party posted for a device: it joins the newest report until the device's
    /// next one, and makes that report neither newer nor emptier.
    pub(crate) fn posted(&self, uid: Uid, at: Timestamp, samples: &[Sample]) {
        let mut state = self.lock();
        match state.latest.get_mut(&uid) {
            Some(latest) if latest.timestamp > at => {}
            Some(latest) => latest.metrics.extend(without_labels(at, samples).metrics),
            None => {
                state.latest.insert(uid, without_labels(at, samples));
            }
        }
    }

    /// When a device was last heard.
    pub(crate) fn last_seen(&self, uid: Uid) -> Option<Timestamp> {
        self.lock().last_seen.get(&uid).copied()
    }

    /// A device's newest report.
    pub(crate) fn latest(&self, uid: Uid) -> Option<LatestReport> {
        self.lock().latest.get(&uid).cloned()
    }

    /// Forgets a device.
    pub(crate) fn forget(&self, uid: Uid) {
        let mut state = self.lock();
        state.last_seen.remove(&uid);
        state.latest.remove(&uid);
        state.unwritten.remove(&uid);
    }

    /// What was heard since the last call, for the store.
    pub(crate) fn take_unwritten(&self) -> Vec<(Uid, Timestamp)> {
        let mut state = self.lock();
        let uids = std::mem::take(&mut state.unwritten);
        uids.into_iter().filter_map(|uid| Some((uid, *state.last_seen.get(&uid)?))).collect()
    }

    /// Puts back what the store did not take.
    pub(crate) fn put_back(&self, seen: &[(Uid, Timestamp)]) {
        let mut state = self.lock();
        for (uid, _) in seen {
            if state.last_seen.contains_key(uid) {
                state.unwritten.insert(*uid);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn without_labels(timestamp: Timestamp, samples: &[Sample]) -> LatestReport {
    let plain = samples.iter().filter(|sample| sample.labels.is_empty());
    let metrics = plain.map(|sample| (sample.name.clone(), sample.value)).collect();
    LatestReport { timestamp, metrics }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_judged_by_the_devices_own_interval() {
        let now = Timestamp::from_millis(10_000_000_000);
        let minute = Duration::from_secs(60);
        for (interval, silence, status, why) in [
            (60, 3, DeviceStatus::Online, "last heard from 3s ago, expected every 60s"),
            (60, 75, DeviceStatus::Online, "last heard from 75s ago, expected every 60s"),
            (60, 76, DeviceStatus::Late, "no report for 76s, expected every 60s"),
            (60, 180, DeviceStatus::Offline, "no report for 3m, expected every 60s"),
            (1, 7, DeviceStatus::Late, "no report for 7s, expected every 1s"),
            (1, 89, DeviceStatus::Late, "no report for 89s, expected every 1s"),
            (1, 90, DeviceStatus::Offline, "no report for 90s, expected every 1s"),
            (3600, 10_000, DeviceStatus::Late, "no report for 2h, expected every 60m"),
            (60, 30 * 86_400, DeviceStatus::Lost, "no report for 30d, expected every 60s"),
        ] {
            let seen = now.minus(Duration::from_secs(silence));
            let found = judge(now, Some(seen), Duration::from_secs(interval));
            assert_eq!(found, (status, why.to_owned()));
        }
        assert_eq!(judge(now, None, minute).0, DeviceStatus::Offline);
        // A clock that was set back makes nobody late.
        assert_eq!(judge(now, Some(now.plus(minute)), minute).0, DeviceStatus::Online);
    }

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
}
