//! The live stream: `GET /api/v1/stream` (server-sent events), steered by `PUT /api/v1/stream/{}/view`.
//!
//! A stream begins with `hello`. Then come `index` pages until one is `complete`, and from then on
//! only rows that changed. A device's *slot* is its number in this run of the server (`instance`);
//! it is never given to another device. `values` are sent for the rows that the view names, `report`
//! for the device that it watches. A reader that is slow gets fewer and newer rows, never a backlog.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ConfigState, DeviceStatus, EventView, Health};
use crate::id::{DeviceId, Uid};
use crate::identity::Fingerprint;
use crate::time::Timestamp;
use crate::untrusted::Untrusted;

/// What a stream says, named as its `event:` line names it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", content = "data", rename_all = "lowercase")]
pub enum StreamMessage {
    /// The beginning.
    Hello(Hello),
    /// Rows that are new or changed.
    Index(IndexPage),
    /// What the rows on screen measured last.
    Values(Values),
    /// A report of the watched device.
    Report(LiveReport),
    /// Something happened.
    Event(EventView),
    /// How many devices have each status; for streams of only some devices.
    Counts(BTreeMap<DeviceStatus, u32>),
    /// The server's store works in part only, or works again; nothing while it does.
    Health(Health),
    /// The server lives.
    Ping(Ping),
}

impl StreamMessage {
    /// The word on its `event:` line.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Index(_) => "index",
            Self::Values(_) => "values",
            Self::Report(_) => "report",
            Self::Event(_) => "event",
            Self::Counts(_) => "counts",
            Self::Health(_) => "health",
            Self::Ping(_) => "ping",
        }
    }

    /// Reads a message from its `event:` word and its `data:`; nothing for a word that only a later
    /// release knows.
    pub fn read(word: &str, data: &str) -> Result<Option<Self>, serde_json::Error> {
        Ok(Some(match word {
            "hello" => Self::Hello(serde_json::from_str(data)?),
            "index" => Self::Index(serde_json::from_str(data)?),
            "values" => Self::Values(serde_json::from_str(data)?),
            "report" => Self::Report(serde_json::from_str(data)?),
            "event" => Self::Event(serde_json::from_str(data)?),
            "counts" => Self::Counts(serde_json::from_str(data)?),
            "health" => Self::Health(serde_json::from_str(data)?),
            "ping" => Self::Ping(serde_json::from_str(data)?),
            _ => return Ok(None),
        }))
    }
}

/// The first message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The stream's name, for its view.
    pub stream: Uid,
    /// This run of the server; another one numbers its slots anew.
    pub instance: Uid,
    /// The server's release.
    pub version: String,
    /// The server's clock.
    pub time: Timestamp,
    /// The name of the key that opened the stream.
    pub key: Untrusted,
    /// How many devices there are.
    pub devices: u32,
    /// Whether the index goes on from where `Last-Event-ID` said. Otherwise forget all rows.
    pub resumed: bool,
}

/// Some rows of the index.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct IndexPage {
    /// New and changed rows.
    pub rows: Vec<IndexRow>,
    /// Slots whose devices are gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<u32>,
    /// With this page the reader knows every row.
    pub complete: bool,
}

/// What changes seldom about a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexRow {
    /// Its number in this run of the server.
    pub slot: u32,
    /// The server's own name for it.
    pub uid: Uid,
    /// What people call it.
    pub id: DeviceId,
    /// A longer name, if somebody gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Untrusted>,
    /// `raspberrypi`, `jetson`, `x86` and so on.
    #[serde(rename = "type")]
    pub device_type: Untrusted,
    /// The agent's release.
    pub version: Untrusted,
    /// How it is doing.
    pub status: DeviceStatus,
    /// Why it has this status; absent while it is online.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Untrusted>,
    /// When it was last heard, as of this row's last change.
    pub last_seen: Option<Timestamp>,
    /// When the server first heard of it.
    pub created_at: Timestamp,
    /// Its key.
    pub fingerprint: Option<Fingerprint>,
    /// The configuration it shall have; 0 before the first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub config_version: u64,
    /// The configuration that it last spoke of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    /// Seconds between its reports.
    pub interval_secs: u32,
    /// The host's name.
    pub hostname: Untrusted,
    /// The exact board.
    pub model: Untrusted,
    /// The operating system.
    pub os: Untrusted,
    /// The processor's architecture.
    pub arch: Untrusted,
    /// Its first own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Untrusted>,
    /// What operators noted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, Value>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What some devices measured last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Values {
    /// One row for each device that reported since the last message, or that came into view.
    pub rows: Vec<ValueRow>,
    /// For devices that came into view: their last CPU values, oldest first, newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<(u32, Vec<u8>)>,
}

/// `[slot, last_seen, cpu, memory, disk, temperature]`: milliseconds since 1970, whole percents,
/// degrees Celsius; null where nothing was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueRow(
    pub u32,
    pub Option<i64>,
    pub Option<u8>,
    pub Option<u8>,
    pub Option<u8>,
    pub Option<i16>,
);

/// A report of the watched device, as soon as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveReport {
    /// Whose.
    pub slot: u32,
    /// Its time.
    pub timestamp: Timestamp,
    /// The metrics that the view names; those with labels are there once for each.
    pub samples: Vec<LiveSample>,
}

/// One value of a live report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveSample {
    /// The metric.
    pub metric: String,
    /// What tells it from its sisters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Untrusted>,
    /// The value.
    pub value: f64,
}

/// A sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// The server's clock.
    pub time: Timestamp,
    /// Rows whose older values were left out because the reader was slow.
    pub skipped: u64,
}

/// The body of `PUT /api/v1/stream/{}/view`: what the reader looks at. It replaces the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamView {
    /// The slots to send values for, at most [`VIEW_ROWS_MAX`](crate::limits::VIEW_ROWS_MAX).
    #[serde(default)]
    pub rows: Vec<u32>,
    /// Send values for all devices, because they are sorted or filtered by them.
    #[serde(default)]
    pub all: bool,
    /// The device to watch; it reports every second while somebody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
}

/// A device to watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// Which.
    pub slot: u32,
    /// The metrics to send, at most [`WATCHED_METRICS_MAX`](crate::limits::WATCHED_METRICS_MAX).
    pub metrics: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_later_release_knows_is_no_mistake() {
        let event = |kind: &str| {
            let data = format!(
                r#"{{"seq":1,"timestamp":"2024-01-15T10:30:00Z","kind":{kind},"actor":"server","text":""}}"#
            );
            match StreamMessage::read("event", &data) {
                Ok(Some(StreamMessage::Event(event))) => Some(event.kind.word().to_owned()),
                _ => None,
            }
        };
        for kind in ["device.late", "device.flew_away"] {
            assert_eq!(event(&format!("\"{kind}\"")).as_deref(), Some(kind));
        }
        assert_eq!(event("7"), None);
        assert!(StreamMessage::read("event", "{}").is_err());
        assert!(StreamMessage::read("later", "{}").unwrap().is_none());
    }
}
