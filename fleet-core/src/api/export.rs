//! What an export holds: its tables and their columns, and the lines in which a server sends it.
//!
//! Every line is a JSON object (NDJSON) that begins with its `table`. The first is [`ExportBegin`];
//! then comes one line for each row, with the table's columns as text, numbers and nulls; the last
//! is [`ExportEnd`] with how many rows there were. An export whose last line is missing broke off.
//! Columns may be added at a table's end, so a reader passes over those that it does not know.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;
use crate::untrusted::Untrusted;

use self::ColumnKind::{Integer, Json, Real, Text, Time};

/// The version of the tables. A larger one has columns of another meaning.
pub const EXPORT_FORMAT: u32 = 1;

/// A table of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportTable {
    /// The devices of the fleet.
    Devices,
    /// Every version of every device's configuration.
    ConfigVersions,
    /// Commands that devices were given, without what their programs wrote.
    Commands,
    /// Alerts that were raised: in this release none.
    Alerts,
    /// What happened.
    Events,
    /// What devices measured.
    Telemetry,
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct ExportColumn {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: ColumnKind,
    /// Whether it may hold nothing.
    pub is_optional: bool,
    /// What it means, in a few words.
    pub note: &'static str,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// Text.
    Text,
    /// A time: RFC 3339 in UTC.
    Time,
    /// A JSON document, as text.
    Json,
    /// A whole number.
    Integer,
    /// A number.
    Real,
}

const fn column(name: &'static str, kind: ColumnKind, note: &'static str) -> ExportColumn {
    ExportColumn { name, kind, is_optional: false, note }
}

const fn optional(name: &'static str, kind: ColumnKind, note: &'static str) -> ExportColumn {
    ExportColumn { name, kind, is_optional: true, note }
}

const DEVICES: &[ExportColumn] = &[
    column("id", Text, "what people call it; device_id in other tables"),
    column("uid", Text, "the server's own name for it, never used again"),
    column("name", Text, "a longer name"),
    column("type", Text, "raspberrypi, jetson, beaglebone, x86, arm, container or other"),
    column("version", Text, "the agent's release"),
    column("state", Text, "pending, active, rejected or revoked"),
    column("state_reason", Text, "why"),
    column("state_at", Time, "since when"),
    optional("fingerprint", Text, "its key; none for one that only a third party reports"),
    column("created_at", Time, "when it was first known"),
    optional("last_seen", Time, "when it was last heard of"),
    column("missed_reports", Integer, "reports that never came"),
    column("metadata", Json, "what operators noted: an object"),
    column("hostname", Text, "its host's name"),
    column("model", Text, "the exact board"),
    column("os", Text, "its operating system"),
    column("kernel", Text, "its kernel's release"),
    column("arch", Text, "its processor's architecture"),
    column("cores", Integer, "its processor's cores"),
    optional("memory_bytes", Integer, "its memory"),
    column("addresses", Json, "its own addresses: an array"),
    column("interval_secs", Integer, "seconds between its reports"),
    optional("config_reported", Integer, "the configuration that it last spoke of"),
    optional("config_error", Text, "why it did not take that one"),
];

const CONFIG_VERSIONS: &[ExportColumn] = &[
    column("device_id", Text, "the device"),
    column("version", Integer, "counts from 1"),
    column("timestamp", Time, "when it was set"),
    column("author", Text, "by whom"),
    optional("comment", Text, "why"),
    column("config", Json, "the document"),
    optional("server_url", Text, "the server that was asked for"),
];

const COMMANDS: &[ExportColumn] = &[
    column("id", Text, "its own name"),
    column("device_id", Text, "the device"),
    column("timestamp", Time, "when it was given"),
    column("author", Text, "by whom"),
    column("command", Text, "what to do"),
    column("args", Json, "with what: an array"),
    column("state", Text, "how far it came"),
    column("why", Text, "why it is in this state"),
    column("state_at", Time, "since when"),
    column("expires_at", Time, "until when it may begin"),
    optional("exit_code", Integer, "how its program ended"),
];

const ALERTS: &[ExportColumn] = &[
    column("id", Text, "its own name"),
    column("rule", Text, "the rule that raised it"),
    optional("device_id", Text, "the device"),
    column("timestamp", Time, "when it was raised"),
    column("severity", Text, "how bad it is"),
    column("state", Text, "how it stands"),
    column("condition", Text, "what was the case"),
    optional("value", Real, "what was measured"),
    optional("resolved_at", Time, "when it was over"),
    optional("acknowledged_by", Text, "who saw to it"),
];

const EVENTS: &[ExportColumn] = &[
    column("seq", Integer, "its number; grows by one"),
    column("timestamp", Time, "when it happened"),
    column("kind", Text, "such as device.offline"),
    column("actor", Text, "who did it"),
    optional("device_id", Text, "the device, under the id that it had then"),
    optional("uid", Text, "that device's uid"),
    column("text", Text, "what happened"),
];

const TELEMETRY: &[ExportColumn] = &[
    column("device_id", Text, "the device"),
    column("timestamp", Time, "when it was measured"),
    column("metric_name", Text, "such as cpu_usage"),
    column("value", Real, "the value"),
    column("metadata", Json, "labels: an object, {} if there are none"),
];

impl ExportTable {
    /// Every table, in the order in which an export has them.
    pub const ALL: [Self; 6] = [
        Self::Devices,
        Self::ConfigVersions,
        Self::Commands,
        Self::Alerts,
        Self::Events,
        Self::Telemetry,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Devices => "devices",
            Self::ConfigVersions => "config_versions",
            Self::Commands => "commands",
            Self::Alerts => "alerts",
            Self::Events => "events",
            Self::Telemetry => "telemetry",
        }
    }

    /// Its columns, in their order.
    pub fn columns(self) -> &'static [ExportColumn] {
        match self {
            Self::Devices => DEVICES,
            Self::ConfigVersions => CONFIG_VERSIONS,
            Self::Commands => COMMANDS,
            Self::Alerts => ALERTS,
            Self::Events => EVENTS,
            Self::Telemetry => TELEMETRY,
        }
    }

    /// The tables that a list such as `devices,telemetry` names.
    pub fn list(text: &str) -> Result<Vec<Self>, UnknownTable> {
        text.split(',').map(str::parse).collect()
    }
}

impl fmt::Display for ExportTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that is no table.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no table {0}; known are {known}", known = ExportTable::ALL.map(ExportTable::name).join(", "))]
pub struct UnknownTable(Untrusted);

impl FromStr for ExportTable {
    type Err = UnknownTable;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|table| table.name() == text);
        found.ok_or_else(|| UnknownTable(Untrusted::from(text)))
    }
}

/// The first line of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "table", rename = "begin")]
pub struct ExportBegin {
    /// The version of its tables: [`EXPORT_FORMAT`].
    pub format: u32,
    /// The server's release.
    pub version: Untrusted,
    /// When it began, by the server's clock.
    pub timestamp: Timestamp,
    /// Reports that will come, about; a report is all that a device measured at one time. Absent
    /// where that is not known.
    pub reports: Option<u64>,
}

/// The last line of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "table", rename = "end")]
pub struct ExportEnd {
    /// Why the server could not go on; such an export is not whole.
    pub error: Option<Untrusted>,
    /// What of the server's data is damaged, if anything, and so was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<Untrusted>,
    /// How many rows of each table there were.
    pub rows: ExportRows,
}

/// Rows of each table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExportRows(pub BTreeMap<ExportTable, u64>);

impl ExportRows {
    /// Counts rows of a table.
    pub fn add(&mut self, table: ExportTable, rows: u64) {
        *self.0.entry(table).or_default() += rows;
    }

    /// How many rows a table has.
    pub fn of(&self, table: ExportTable) -> u64 {
        self.0.get(&table).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_go_by_their_names_everywhere() {
        for table in ExportTable::ALL {
            assert_eq!(table.name().parse(), Ok(table));
            assert_eq!(serde_json::to_value(table).unwrap(), table.name());
            let mut names: Vec<_> = table.columns().iter().map(|column| column.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), table.columns().len(), "{table}");
            assert!(!names.contains(&"table"), "{table}");
        }
        let list = ExportTable::list("telemetry,devices").unwrap();
        assert_eq!(list, [ExportTable::Telemetry, ExportTable::Devices]);
        for wrong in ["", "telemetry,", "Telemetry", "begin", "end", "keys"] {
            assert!(ExportTable::list(wrong).is_err(), "{wrong}");
        }
        let told = ExportTable::list("keys").unwrap_err().to_string();
        assert!(told.starts_with("there is no table keys; known are devices, config_"), "{told}");
    }

    #[test]
    fn the_first_and_the_last_line_have_these_shapes() {
        let begin = ExportBegin {
            format: EXPORT_FORMAT,
            version: "0.1.0".into(),
            timestamp: Timestamp::from_millis(1_705_314_600_000),
            reports: None,
        };
        let written = json!({"table": "begin", "format": 1, "version": "0.1.0",
            "timestamp": "2024-01-15T10:30:00Z", "reports": null});
        assert_eq!(serde_json::to_value(&begin).unwrap(), written);
        assert_eq!(serde_json::from_value::<ExportBegin>(written).unwrap(), begin);
        let mut end = ExportEnd::default();
        end.rows.add(ExportTable::Devices, 2);
        end.rows.add(ExportTable::Telemetry, 7);
        let written =
            json!({"table": "end", "error": null, "rows": {"devices": 2, "telemetry": 7}});
        assert_eq!(serde_json::to_value(&end).unwrap(), written);
        assert_eq!(serde_json::from_value::<ExportEnd>(written).unwrap(), end);
        assert!(serde_json::from_value::<ExportEnd>(json!({"table": "begin"})).is_err());
    }
}
