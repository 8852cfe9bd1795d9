//! How much the server keeps, and making it less, in JSON.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;
use crate::untrusted::Untrusted;

/// How much there is. What a store cannot tell is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DbView {
    /// The file.
    pub database: DbFile,
    /// Devices that are not deleted.
    pub devices: u64,
    /// Events that are kept.
    pub events: u64,
    /// What devices measured.
    pub telemetry: DbTelemetry,
}

/// The database's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DbFile {
    /// Its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Room that is left beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
}

/// What devices measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DbTelemetry {
    /// Reports; each is all that a device measured at one time.
    pub reports: u64,
    /// Bytes that all of it takes, the log included.
    pub bytes: u64,
    /// Series: metrics with their labels.
    #[serde(default)]
    pub series: u64,
    /// Bytes of the log of what is not in chunks yet.
    #[serde(default)]
    pub log_bytes: u64,
    /// By resolution, finest first.
    #[serde(default)]
    pub tiers: Vec<DbTier>,
}

/// How much there is of one resolution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DbTier {
    /// `raw`, `1m`, `10m` or `1h`.
    pub resolution: String,
    /// Reports, or steps of time, that lie in chunks.
    pub rows: u64,
    /// Bytes of the chunks.
    pub bytes: u64,
    /// Bytes of their files, with those of chunks that nobody wants any more.
    pub file_bytes: u64,
    /// Before when nothing is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

/// What to prune.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneRequest {
    /// All telemetry from before this time goes. Without it goes what is older, or more, than the
    /// server was told to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Timestamp>,
}

/// What was pruned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Rows that are gone, of all resolutions: reports, or steps of time.
    pub rows: u64,
    /// Bytes that all telemetry took before.
    pub bytes_before: u64,
    /// Bytes that it takes now; compacting may make it less.
    pub bytes_after: u64,
}

/// What compacting brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compacted {
    /// Bytes that all telemetry took before.
    pub bytes_before: u64,
    /// Bytes that it takes now.
    pub bytes_after: u64,
}

/// What reading all that is stored brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DbChecked {
    /// Rows of the database.
    pub rows: u64,
    /// Chunks of telemetry, of all resolutions.
    pub chunks: u64,
    /// Reports that are kept as they came, in chunks.
    pub reports: u64,
    /// What of it cannot be read any more; absent if nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<Untrusted>,
}
