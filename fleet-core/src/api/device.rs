//! Devices in JSON.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::later::{self, LaterWord};
use super::{ConfigState, value_or_text};
use crate::id::{DeviceId, Uid};
use crate::identity::Fingerprint;
use crate::time::Timestamp;
use crate::untrusted::Untrusted;

/// How a device is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceStatus {
    /// Heard from within its interval.
    Online,
    /// One or two reports are missing.
    Late,
    /// Three or more are.
    Offline,
    /// Not heard from for a month.
    Lost,
    /// Waits for an operator's word.
    Pending,
    /// An operator said no.
    Rejected,
    /// No longer of the fleet.
    Revoked,
    /// What only a later release knows. Read by clients, never made.
    Later(LaterWord),
}

impl DeviceStatus {
    /// Whether what the device measured last still says how it is.
    pub fn is_heard(self) -> bool {
        matches!(self, Self::Online | Self::Late)
    }

    /// The status with this word.
    fn read(word: &str) -> Self {
        let known = Self::ALL.into_iter().find(|status| status.word() == word);
        known.unwrap_or_else(|| Self::Later(LaterWord::new(word)))
    }

    /// Every status that this release knows.
    pub const ALL: [Self; 7] = [
        Self::Online,
        Self::Late,
        Self::Offline,
        Self::Lost,
        Self::Pending,
        Self::Rejected,
        Self::Revoked,
    ];

    /// The word in JSON and on screens. Safe to show.
    pub fn word(&self) -> &str {
        match self {
            Self::Online => "online",
            Self::Late => "late",
            Self::Offline => "offline",
            Self::Lost => "lost",
            Self::Pending => "pending",
            Self::Rejected => "rejected",
            Self::Revoked => "revoked",
            Self::Later(word) => word.as_str(),
        }
    }
}

impl Serialize for DeviceStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for DeviceStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        later::read(deserializer, Self::read)
    }
}

/// One device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Device {
    /// What people call it.
    pub id: DeviceId,
    /// A longer name; the id unless somebody gave one.
    pub name: Untrusted,
    /// `raspberrypi`, `jetson`, `x86` and so on.
    #[serde(rename = "type")]
    pub device_type: Untrusted,
    /// The agent's release.
    pub version: Untrusted,
    /// How it is doing.
    pub status: DeviceStatus,
    /// When the server last heard from it, by the server's clock.
    pub last_seen: Option<Timestamp>,
    /// Why it has this status.
    pub why: Untrusted,
    /// The server's own name for it; never reused.
    pub uid: Uid,
    /// Its key; absent for a device that only a third party reports.
    pub fingerprint: Option<Fingerprint>,
    /// What operators noted.
    pub metadata: BTreeMap<String, Value>,
    /// What it says of itself.
    pub facts: DeviceFacts,
    /// When the server first heard of it.
    pub created_at: Timestamp,
    /// Reports that its agent had to drop.
    pub missed_reports: u64,
    /// The configuration it shall have; 0 before the first.
    pub config_version: u64,
    /// The configuration that it last spoke of.
    pub config_reported: Option<u64>,
    /// Why it refused the configuration that it shall have, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_error: Option<Untrusted>,
    /// How far it is with the configuration that it shall have.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::config_state::said"
    )]
    pub config_state: Option<ConfigState>,
    /// Whether it goes by something else than it shall.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub config_drift: bool,
    /// What speaks for two devices with its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub double: Option<DoubleView>,
    /// By how many seconds its clock is ahead of the server's, or behind if less than none; absent as long
    /// as both agree to within five.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_skew_secs: Option<i64>,
    /// Its newest report's values that have no label, and the temperature of its hottest sensor.
    pub latest: Option<LatestReport>,
}

impl Device {
    /// How far its clock is off, in words, if it is.
    pub fn clock_words(&self) -> Option<String> {
        let secs = self.clock_skew_secs?;
        let side = if secs < 0 { "behind" } else { "ahead" };
        let off = match secs.unsigned_abs() {
            secs @ 0..120 => format!("{secs} s"),
            // To the nearest: it is measured with what the way of a report takes.
            secs @ 120..7_200 => format!("{} min", (secs + 30) / 60),
            secs @ 7_200..172_800 => format!("{} h", (secs + 1_800) / 3_600),
            secs => format!("{} days", (secs.saturating_add(43_200)) / 86_400),
        };
        Some(format!("{off} {side}; its reports have the server's times"))
    }
}

/// What speaks for two devices with one key: a copy of a device, or a stolen key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoubleView {
    /// When it was first seen.
    pub since: Timestamp,
    /// When it was seen last.
    pub last: Timestamp,
    /// Where they came from last.
    pub addresses: [IpAddr; 2],
    /// What was seen.
    pub sign: DoubleSign,
}

/// How two devices with one key show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DoubleSign {
    /// Links that were replaced by newer ones still answer.
    Links,
    /// Two reports have one number and different contents.
    Reports,
}

/// What a device says of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DeviceFacts {
    /// The host's name.
    pub hostname: Untrusted,
    /// The exact board.
    pub model: Untrusted,
    /// The operating system.
    pub os: Untrusted,
    /// The kernel's release.
    pub kernel: Untrusted,
    /// The processor's architecture.
    pub arch: Untrusted,
    /// Processor cores.
    pub cores: u32,
    /// Memory.
    pub memory_bytes: Option<u64>,
    /// Its own addresses.
    pub addresses: Vec<Untrusted>,
    /// Seconds between its reports.
    pub interval_secs: u32,
}

/// The newest report of a device: of its labelled series only the hottest sensor's temperature.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LatestReport {
    /// When it was collected.
    pub timestamp: Timestamp,
    /// The values by metric.
    pub metrics: BTreeMap<String, f64>,
}

/// The body of `PUT /devices/{id}`. What is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceUpdate {
    /// A longer name; an empty one takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Entries to set; `null` removes one. An object, or a string that holds one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "value_or_text")]
    pub metadata: Option<Value>,
    /// Tags to add and to take away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<TagUpdate>,
}

/// Changes of the words in the metadata entry `tags`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagUpdate {
    /// Tags that the device shall have.
    #[serde(default)]
    pub add: Vec<String>,
    /// Tags that it shall not have.
    #[serde(default)]
    pub remove: Vec<String>,
}

/// The body of accept, reject and revoke.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Why, for the record.
    #[serde(default)]
    pub reason: String,
}
