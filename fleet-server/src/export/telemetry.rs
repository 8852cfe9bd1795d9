//! What devices measured, in slices.
//!
//! A device's reports are never in memory together: a slice takes as many as fit, and the next
//! one goes on from there. Between slices nothing of the store is held, so a slow reader of
//! the export keeps nobody from anything.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleet_core::api::ExportTable;
use fleet_core::id::{DeviceId, Uid};
use fleet_core::limits::REPORT_SAMPLES_MAX;
use fleet_core::metric::Sample;
use fleet_core::time::Timestamp;

use super::lines::{push_name, push_number, push_text};
use crate::labels;
use crate::store::{Store, StoreError};

/// Bytes after which a slice ends with its millisecond.
const SLICE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes after which it ends within one, if a device has that much in a millisecond.
const MOMENT_BYTES_MAX: usize = 8 * SLICE_BYTES_MAX;

/// One device's telemetry on its way out.
pub(super) struct Slices {
    device: Uid,
    to: Timestamp,
    next: Option<Spot>,
    /// The time that a slice looks at; all of it until that turned out to be too much.
    width: Option<Duration>,
    writer: Arc<Mutex<Writer>>,
}

/// Some rows.
pub(super) struct Slice {
    /// Their lines.
    pub(super) lines: Vec<u8>,
    /// How many there are.
    pub(super) rows: u64,
}

/// A place among a device's reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spot {
    at: Timestamp,
    /// Reports of that millisecond that lie before it.
    skip: usize,
}

impl Slices {
    pub(super) fn new(device: Uid, id: &DeviceId, from: Timestamp, to: Timestamp) -> Self {
        let next = (from <= to).then_some(Spot { at: from, skip: 0 });
        let writer = Arc::new(Mutex::new(Writer::new(id)));
        Self { device, to, next, width: None, writer }
    }

    /// The next slice, which may be empty; nothing after the last.
    pub(super) async fn next(&mut self, store: &dyn Store) -> Result<Option<Slice>, StoreError> {
        let Some(from) = self.next else { return Ok(None) };
        let to = self.width.map_or(self.to, |width| from.at.plus(width).min(self.to));
        self.lock().begin(from);
        let writer = self.writer.clone();
        let visit = move |at, samples: Vec<Sample>| lock(&writer).report(at, &samples);
        store.scan(self.device, from.at, to, Box::new(visit)).await?;
        let (slice, cut, first) = self.lock().end();
        self.next = cut.or_else(|| {
            let at = to.plus(Duration::from_millis(1));
            (to < self.to && at > to).then_some(Spot { at, skip: 0 })
        });
        if let Some(cut) = cut {
            if self.width.is_none()
                && let Some(newest) = store.latest(self.device).await?
            {
                // Up to there it is worth looking; what comes later need not be in the export.
                self.to = self.to.min(Timestamp::from_millis(newest.at_millis)).max(cut.at);
            }
            // As long as what has just fitted.
            self.width = Some(cut.at.since(first.unwrap_or(cut.at)));
        } else if slice.lines.len() < SLICE_BYTES_MAX / 2 {
            let factor = if slice.lines.is_empty() { 16 } else { 2 };
            self.width =
                self.width.map(|it| it.max(Duration::from_millis(1)).saturating_mul(factor));
        }
        Ok(Some(slice))
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        lock(&self.writer)
    }
}

fn lock(writer: &Mutex<Writer>) -> MutexGuard<'_, Writer> {
    writer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes reports as lines until there are enough.
struct Writer {
    lines: Vec<u8>,
    rows: u64,
    /// The beginning of every line of the device, and of the report.
    device: Vec<u8>,
    report: Vec<u8>,
    /// What stands around the value in the lines of series, by their place in the report before.
    series: Vec<Series>,
    from: Spot,
    /// The first time that was taken, the last one, and how many reports it had so far.
    first: Option<Timestamp>,
    last: Option<Spot>,
    /// Where the slice ended before all was seen.
    cut: Option<Spot>,
}

struct Series {
    name: String,
    labels: Vec<(String, String)>,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Writer {
    fn new(id: &DeviceId) -> Self {
        let mut device = Vec::new();
        device.extend_from_slice(b"{\"table\":\"");
        device.extend_from_slice(ExportTable::Telemetry.name().as_bytes());
        device.push(b'"');
        push_name(&mut device, "device_id");
        push_text(&mut device, id.as_str());
        push_name(&mut device, "timestamp");
        Self {
            lines: Vec::new(),
            rows: 0,
            device,
            report: Vec::new(),
            series: Vec::new(),
            from: Spot { at: Timestamp::default(), skip: 0 },
            first: None,
            last: None,
            cut: None,
        }
    }

    fn begin(&mut self, from: Spot) {
        self.from = from;
        (self.first, self.last, self.cut) = (None, None, None);
    }

    /// What was taken, where it had to be cut, and where it began.
    fn end(&mut self) -> (Slice, Option<Spot>, Option<Timestamp>) {
        let (lines, rows) = (std::mem::take(&mut self.lines), std::mem::take(&mut self.rows));
        (Slice { lines, rows }, self.cut, self.first)
    }

    /// Takes a report that is not older than the one before.
    fn report(&mut self, at: Timestamp, samples: &[Sample]) {
        if self.cut.is_some() {
            return;
        }
        let before = self.last.filter(|last| last.at == at).map_or(0, |last| last.skip);
        self.last = Some(Spot { at, skip: before + 1 });
        if at == self.from.at && before < self.from.skip {
            return;
        }
        let is_full =
            self.lines.len() >= if before == 0 { SLICE_BYTES_MAX } else { MOMENT_BYTES_MAX };
        if is_full {
            self.cut = Some(Spot { at, skip: before });
            return;
        }
        self.first.get_or_insert(at);
        self.report.clone_from(&self.device);
        push_text(&mut self.report, &at.to_string());
        let numbers = samples.iter().filter(|sample| sample.value.is_finite());
        for (place, sample) in numbers.enumerate() {
            self.sample(place, sample);
        }
    }

    fn sample(&mut self, place: usize, sample: &Sample) {
        if place == self.series.len() && place < REPORT_SAMPLES_MAX {
            self.series.push(Series::new(sample));
        }
        let fresh;
        let series = match self.series.get_mut(place) {
            Some(known) => {
                if !known.is_of(sample) {
                    *known = Series::new(sample);
                }
                &*known
            }
            None => {
                fresh = Series::new(sample);
                &fresh
            }
        };
        self.lines.extend_from_slice(&self.report);
        self.lines.extend_from_slice(&series.before);
        push_number(&mut self.lines, sample.value);
        self.lines.extend_from_slice(&series.after);
        self.rows += 1;
    }
}

impl Series {
    fn new(sample: &Sample) -> Self {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        push_name(&mut before, "metric_name");
        push_text(&mut before, &sample.name);
        push_name(&mut before, "value");
        push_name(&mut after, "metadata");
        push_text(&mut after, &labels::object(&sample.labels));
        after.extend_from_slice(b"}\n");
        Self { name: sample.name.clone(), labels: sample.labels.clone(), before, after }
    }

    fn is_of(&self, sample: &Sample) -> bool {
        self.name == sample.name && self.labels == sample.labels
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::export::Cell;
    use crate::export::lines::push_row;
    use crate::series::batch::Batch;
    use crate::store::{
        Admission, Device, DeviceStore as _, Incoming, OtherKeys, RedbStore, TelemetryStore as _,
    };

    async fn store() -> (RedbStore, Uid, DeviceId) {
        let store = RedbStore::in_memory();
        let (uid, id): (_, DeviceId) = (Uid::new(), "pump-1".parse().unwrap());
        let device = Device {
            uid,
            id: id.clone(),
            key: None,
            name: None,
            state: Admission::Active,
            state_reason: String::new(),
            state_at: Timestamp::default(),
            facts: fleet_core::wire::Facts::default(),
            metadata: std::collections::BTreeMap::default(),
            created_at: Timestamp::default(),
            last_seen: None,
            missed_reports: 0,
            other_keys: OtherKeys::default(),
            reported: None,
        };
        store.device_insert(device).await.unwrap();
        (store, uid, id)
    }

    /// Stores reports with so many samples each, whose values are numbers from 0.
    /// Those of one millisecond are of different series.
    async fn fill(store: &RedbStore, device: Uid, times: &[i64], samples: u64) {
        let pad = "x".repeat(200);
        let sample = |number: u64| {
            let label = format!("{pad}{}", number % 40_000.min(times.len() as u64 * samples));
            Sample::labelled("m", "pad", &label, number as f64)
        };
        // An operator may bring more series than a device.
        let mut batch = Batch::default();
        for (report, at) in (0..).zip(times) {
            let samples: Vec<_> = (report * samples..(report + 1) * samples).map(sample).collect();
            batch.push(store.names(), device, None, *at, &samples).unwrap();
        }
        store.store(batch).await.unwrap();
    }

    /// The values as they came, and how large the slices were.
    async fn exported(store: &RedbStore, mut slices: Slices) -> (Vec<u64>, Vec<usize>) {
        let (mut numbers, mut sizes) = (Vec::new(), Vec::new());
        while let Some(slice) = slices.next(store).await.unwrap() {
            sizes.push(slice.lines.len());
            let before = numbers.len();
            for line in std::str::from_utf8(&slice.lines).unwrap().lines() {
                let line: Value = serde_json::from_str(line).unwrap();
                numbers.push(line["value"].as_f64().unwrap() as u64);
            }
            assert_eq!(slice.rows, (numbers.len() - before) as u64);
        }
        (numbers, sizes)
    }

    fn ever() -> Timestamp {
        Timestamp::from_millis(i64::MAX)
    }

    #[tokio::test]
    async fn a_device_is_cut_into_slices_and_nothing_is_lost_or_doubled() {
        let day = 86_400_000;
        let even = (0..20_000).map(|n| n * 1_000);
        let bursts = (0..20_000).map(|n| (n / 5_000) * day + n % 5_000);
        let moments = (0..20_000).map(|n| n / 7_000);
        for times in [even.collect::<Vec<i64>>(), bursts.collect(), moments.collect()] {
            let (store, uid, id) = store().await;
            fill(&store, uid, &times, 1).await;
            let slices = Slices::new(uid, &id, Timestamp::default(), ever());
            let (numbers, sizes) = exported(&store, slices).await;
            let wrong = numbers.iter().zip(0..).find(|(number, expected)| *number != expected);
            assert_eq!((numbers.len(), wrong), (20_000, None));
            assert!(sizes.len() > 2 && sizes.len() < 60, "{sizes:?}");
            assert!(sizes.iter().all(|size| *size < MOMENT_BYTES_MAX), "{sizes:?}");
        }
    }

    #[tokio::test]
    async fn more_in_one_millisecond_than_a_slice_may_hold_is_cut_within_it() {
        let (store, uid, id) = store().await;
        fill(&store, uid, &[5; 400], 100).await;
        let slices = Slices::new(uid, &id, Timestamp::default(), ever());
        let (numbers, sizes) = exported(&store, slices).await;
        assert!(numbers.iter().copied().eq(0..40_000));
        assert!(sizes.len() > 1, "{sizes:?}");
        assert!(sizes.iter().all(|size| *size < MOMENT_BYTES_MAX + 1_000_000), "{sizes:?}");
    }

    #[tokio::test]
    async fn the_times_asked_for_are_both_included() {
        let (store, uid, id) = store().await;
        fill(&store, uid, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 1).await;
        let time = Timestamp::from_millis;
        for (from, to, expected) in
            [(3, 5, 3..6), (0, 99, 0..10), (9, 9, 9..10), (11, 99, 0..0), (5, 4, 0..0)]
        {
            let (numbers, _) = exported(&store, Slices::new(uid, &id, time(from), time(to))).await;
            assert!(numbers.iter().copied().eq(expected), "{from} {to}: {numbers:?}");
        }
    }

    #[tokio::test]
    async fn a_line_is_that_of_any_other_table() {
        let (store, uid, id) = store().await;
        let samples = vec![
            Sample::new("cpu_usage", 0.1 + 0.2),
            Sample::labelled("core", "n", "=\"\u{1b}7", -1e300),
            Sample::labelled("core", "key", "flt_dv_abcdefghij_0123456789", 0.0),
        ];
        let at = Timestamp::from_millis(1_705_314_600_020);
        let report = Incoming { device: uid, stream: None, at, samples: samples.clone() };
        store.append(vec![report]).await.unwrap();
        let mut expected = Vec::new();
        for sample in &samples {
            let metadata = labels::object(&sample.labels);
            let cells = [
                Cell::Text(id.as_str().into()),
                Cell::Text("2024-01-15T10:30:00.02Z".into()),
                Cell::Text(sample.name.as_str().into()),
                Cell::Real(sample.value),
                Cell::Text(metadata.into()),
            ];
            push_row(&mut expected, ExportTable::Telemetry, &cells);
        }
        let slice = Slices::new(uid, &id, at, ever()).next(&store).await.unwrap().unwrap();
        let text = String::from_utf8(slice.lines).unwrap();
        assert_eq!(text, String::from_utf8(expected).unwrap());
        assert!(text.contains("flt_dv_abcdefghij_(masked)"), "{text}");
    }
}
