//! Telemetry: reports in, points out. A time-series engine can take this trait's place behind
//! its callers' backs.

use async_trait::async_trait;
use fleet_core::id::Uid;
use fleet_core::metric::{Report, Sample};
use fleet_core::time::Timestamp;

use super::StoreError;

/// Streams of one device whose last number is remembered. A device counts in one at a time.
pub const STREAMS_PER_DEVICE_MAX: usize = 16;

/// What devices measured.
#[async_trait]
pub trait TelemetryStore: Send + Sync {
    /// Stores reports, all of them in one commit, and says what became of each, in their order.
    ///
    /// A report with a stream and number is stored exactly once, however often it comes: numbers
    /// of a stream must grow, and one that is not above the last is a duplicate. A number that
    /// jumps leaves a hole; the missing ones are added to the device's `missed_reports`. The
    /// newest [`STREAMS_PER_DEVICE_MAX`] streams of a device are remembered.
    async fn append(&self, reports: Vec<Incoming>) -> Result<Vec<Outcome>, StoreError>;

    /// Points of one metric of one device, newest first. Damaged reports are left out, and health
    /// says so.
    async fn query(&self, query: Query) -> Result<Vec<Point>, StoreError>;

    /// Shows a device's reports from one time to another, both included, oldest first and one by
    /// one, so that they are never in memory together. Damaged reports are left out, and health
    /// says so. The visitor runs on a thread for reading, so it only computes.
    async fn scan(
        &self,
        device: Uid,
        from: Timestamp,
        to: Timestamp,
        visit: Visit,
    ) -> Result<(), StoreError>;

    /// A device's newest report, by the reports' time.
    async fn latest(&self, device: Uid) -> Result<Option<Report>, StoreError>;

    /// Every device's newest report.
    async fn latest_all(&self) -> Result<Vec<(Uid, Report)>, StoreError>;

    /// Removes reports from before a time. Returns how many.
    async fn prune(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// How much there is. Walks the tables, so it is not for every request.
    async fn stats(&self) -> Result<TelemetryStats, StoreError>;
}

/// Looks at a report's time and samples.
pub type Visit = Box<dyn FnMut(Timestamp, Vec<Sample>) + Send>;

/// A report to store.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// Whose.
    pub device: Uid,
    /// Its stream and its number there, from 1; none for a report that is stored as often as it
    /// comes.
    pub stream: Option<([u8; 16], u64)>,
    /// Its time.
    pub at: Timestamp,
    /// The samples.
    pub samples: Vec<Sample>,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is on the disk.
    Stored,
    /// It was already.
    Duplicate,
    /// It is larger than a stored value may be. Its number counts as used, and as missed.
    TooLarge,
    /// There is no such device.
    NoDevice,
}

/// What to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Whose points.
    pub device: Uid,
    /// Of which metric.
    pub metric: String,
    /// Only points with all of these labels.
    pub labels: Vec<(String, String)>,
    /// Not before.
    pub from: Timestamp,
    /// Not after.
    pub to: Timestamp,
    /// At most so many; the caller bounds it, since that many are held in memory.
    pub limit: usize,
}

/// One value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// When.
    pub at: Timestamp,
    /// The value.
    pub value: f64,
    /// What tells its series from its sisters.
    pub labels: Vec<(String, String)>,
}

/// How much telemetry there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TelemetryStats {
    /// Reports.
    pub reports: u64,
    /// Streams whose last number is remembered.
    pub streams: u64,
    /// Bytes of the reports' keys and values.
    pub bytes: u64,
}
