//! How much the server keeps, in JSON.

use serde::{Deserialize, Serialize};

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
    /// Bytes that they take.
    pub bytes: u64,
}
