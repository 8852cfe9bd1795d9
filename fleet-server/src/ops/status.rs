//! How a device is doing: the one place that says so, for lists and for the live stream.

use std::time::Duration;

use fleet_core::api::DeviceStatus;
use fleet_core::id::Uid;
use fleet_core::time::Timestamp;

use super::doubles;
use super::judgement::{self, Judgement};
use super::presence::Presence;
use crate::hub::Hub;
use crate::store::{Admission, Device, DoubleRecord};

/// How a device is doing.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) status: DeviceStatus,
    /// Why, at this moment.
    pub(crate) why: String,
    /// Why, in words that stay true as time passes; none while it is online.
    pub(crate) lasting_why: Option<String>,
    pub(crate) last_seen: Option<Timestamp>,
    /// From when on it has another status, unless it is heard before.
    pub(crate) until: Option<Timestamp>,
}

/// What an active device's status hangs on, besides when it was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) uid: Uid,
    /// Since when it belongs to the fleet.
    pub(crate) since: Timestamp,
    pub(crate) interval: Duration,
    /// When it was heard, as far as the store knew.
    stored_seen: Option<Timestamp>,
}

impl Terms {
    /// The terms of a device, if it is active.
    pub(crate) fn of(device: &Device) -> Option<Self> {
        (device.state == Admission::Active).then(|| Self {
            uid: device.uid,
            since: device.state_at,
            interval: judgement::interval(device.facts.interval_secs),
            stored_seen: device.last_seen,
        })
    }

    /// How the device is doing.
    pub(crate) fn judge(&self, presence: &Presence, hub: &Hub, now: Timestamp) -> Judgement {
        // What it said while it waited is no sign that it works since it was let in. A clock that was
        // set back since then tells neither.
        let last_seen = presence
            .last_seen(self.uid)
            .or(self.stored_seen)
            .filter(|seen| *seen >= self.since || now < self.since || hub.is_connected(self.uid));
        presence.judge(self.uid, now, last_seen, self.interval)
    }
}

/// What speaks for two devices with an active device's key.
pub(crate) fn double(device: &Device, presence: &Presence) -> Option<DoubleRecord> {
    let double = presence.double(device.uid).filter(|double| device.key == Some(double.key));
    double.filter(|_| device.state == Admission::Active)
}

/// How a device is doing.
pub(crate) fn standing(
    device: &Device,
    presence: &Presence,
    hub: &Hub,
    now: Timestamp,
) -> Standing {
    let last_seen = presence.last_seen(device.uid).or(device.last_seen);
    let ruled = |status| Standing {
        status,
        why: device.state_reason.clone(),
        lasting_why: Some(device.state_reason.clone()),
        last_seen,
        until: None,
    };
    match (Terms::of(device), device.state) {
        (Some(terms), _) => {
            let judged = terms.judge(presence, hub, now);
            let double = double(device, presence).map(|double| doubles::words(&double));
            let joined = |why: String| match &double {
                Some(double) => format!("{double}; {why}"),
                None => why,
            };
            Standing {
                status: judged.status,
                why: joined(judged.why()),
                lasting_why: judged.lasting_why().map(joined).or_else(|| double.clone()),
                last_seen,
                until: judged.until,
            }
        }
        (None, Admission::Pending) => ruled(DeviceStatus::Pending),
        (None, Admission::Rejected) => ruled(DeviceStatus::Rejected),
        (None, Admission::Active | Admission::Revoked | Admission::Deleted) => {
            ruled(DeviceStatus::Revoked)
        }
    }
}
