//! Telemetry: reports in, points out.

use async_trait::async_trait;
use fleet_core::id::Uid;
use fleet_core::metric::{Report, Sample};
use fleet_core::time::Timestamp;

use super::{Shortage, StoreError};
use crate::series::batch::{Batch, LeftOut};
pub use crate::series::catalog::Tier;
pub use crate::series::curves::{Curve, Curves, CurvesAsked};
pub use crate::series::keep::Keep;
use crate::series::names::{Names, SeriesId};
pub use crate::series::overview::{NewestValue, Overview};
pub use crate::series::query::NamedValue;
pub use crate::series::stat::Stat;

/// Streams of one device whose last number is remembered. A device counts in one at a time.
pub const STREAMS_PER_DEVICE_MAX: usize = 16;

/// What devices measured. Of one device, series and millisecond there is one value: the one that
/// came last. Coarser tiers count it once too, unless raw values of its hour are pruned when it
/// comes again: then it counts beside what the tiers hold.
#[async_trait]
pub trait TelemetryStore: Send + Sync {
    /// Series and shapes by number, as a [`Batch`] has them.
    fn names(&self) -> &Names;

    /// Stores reports and says what became of each, in their order. They are on the disk when this
    /// returns. After [`StoreError::Busy`] and [`StoreError::NoRoom`] none is.
    ///
    /// A report with a stream and number is stored exactly once, however often it comes: numbers
    /// of a stream must grow, and one that is not above the last is a duplicate. A number that
    /// jumps leaves a hole; the missing ones are added to the device's `missed_reports`. The
    /// newest [`STREAMS_PER_DEVICE_MAX`] streams of a device are remembered.
    async fn store(&self, batch: Batch) -> Result<Vec<Outcome>, StoreError>;

    /// The same for reports that hold text. A sample whose series gets no number, because there are
    /// too many or its name is too long, is left out: it must not hold up what is stored with it and
    /// after it.
    async fn append(&self, reports: Vec<Incoming>) -> Result<Vec<Outcome>, StoreError> {
        let (batch, _left_out) = Incoming::batch(&reports, self.names());
        self.store(batch).await
    }

    /// Points of one metric of one device, newest first. What is damaged is left out, and health
    /// says so.
    async fn query(&self, query: Query) -> Result<Vec<Point>, StoreError>;

    /// Shows a device's reports from one time to another, both included, oldest first and one by
    /// one, so that they are never in memory together. What has one time is one report, or several
    /// if it is more than one may have. What is damaged is left out, and health says so. The visitor
    /// runs on a thread for reading, so it only computes.
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

    /// A device's newest value of each series.
    fn newest_of(&self, device: Uid) -> Vec<NamedValue>;

    /// Begins to look at the newest values of some metrics. They are in memory; to be shown those of
    /// ten thousand devices takes some milliseconds.
    fn overview(&self, metrics: &[String]) -> Overview;

    /// The devices with the greatest, or least, mean of a metric over a time.
    async fn top(&self, top: Top) -> Result<Vec<(Uid, f64)>, StoreError>;

    /// Draws curves of a device.
    async fn curves(&self, asked: CurvesAsked) -> Result<Curves, StoreError>;

    /// Hides a tier's values from before a time at once and for good, and frees their room where it
    /// can. Returns how many rows that freed.
    async fn prune(&self, tier: Tier, before: Timestamp) -> Result<u64, StoreError>;

    /// Keeps what is old enough more coarsely too, and prunes what is too old or too much. Returns
    /// how many rows that freed.
    async fn keep(&self, keep: Keep, now: Timestamp) -> Result<u64, StoreError>;

    /// Frees the room of what was pruned, where it still takes any. Returns how many bytes.
    async fn compact(&self) -> Result<u64, StoreError>;

    /// Writes what is only in memory and in the log into chunks, so that a start needs no log.
    async fn seal(&self) -> Result<(), StoreError>;

    /// By how much there is too little room on the disk to store more, if there is.
    fn shortage(&self) -> Option<Shortage>;

    /// How much there is.
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

impl Incoming {
    /// Reports by number, and what had to be left out of them.
    pub fn batch(reports: &[Self], names: &Names) -> (Batch, LeftOut) {
        let (mut batch, mut left_out) = (Batch::default(), LeftOut::default());
        for Self { device, stream, at, samples } in reports {
            left_out.join(batch.push_known(names, *device, *stream, at.millis(), samples));
        }
        (batch, left_out)
    }
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is on the disk.
    Stored,
    /// It was already.
    Duplicate,
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
    /// Its series.
    pub series: SeriesId,
}

/// For which devices to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// Those with the most, or least, of this metric.
    pub metric: String,
    /// Not before.
    pub from: Timestamp,
    /// Not after.
    pub to: Timestamp,
    /// Whether the least count.
    pub is_least: bool,
    /// At most so many.
    pub limit: usize,
}

/// How much telemetry there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TelemetryStats {
    /// Rows that are not sealed into chunks yet.
    pub unsealed_rows: u64,
    /// Series.
    pub series: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// By tier, finest first.
    pub tiers: Vec<TierStats>,
}

impl TelemetryStats {
    /// Reports that are kept as they came.
    pub fn raw_rows(&self) -> u64 {
        self.unsealed_rows + self.tiers.first().map_or(0, |raw| raw.rows)
    }
}

/// How much there is of one tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierStats {
    /// `raw`, `1m`, `10m` or `1h`.
    pub tier: &'static str,
    /// Chunks.
    pub chunks: u64,
    /// Rows in them: reports, or steps of time.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the files that they lie in.
    pub file_bytes: u64,
    /// Before when nothing is shown any more, if that is so.
    pub floor: Option<Timestamp>,
}
