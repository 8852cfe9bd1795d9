//! Telemetry: from links and from posts into the store, and out again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use fleet_core::api::TelemetryPost;
use fleet_core::id::{DeviceId, Uid};
use fleet_core::limits::{FRAME_REPORTS_MAX, REPORT_SAMPLES_MAX};
use fleet_core::metric::Sample;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;
use fleet_core::wire::{QueuedReport, Samples};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::devices::find_listed;
use super::keys::Principal;
use super::senders::{Senders, Subject};
use super::templates::Templates;
use super::vitals::Numbers;
use super::{Access, OpsError, Presence, World};
use crate::labels;
use crate::meters::{Door, Meters};
use crate::series::batch::{Batch, LeftOut};
use crate::series::names::SeriesId;
use crate::store::{Incoming, NamedValue, Outcome, Point, Query};
use crate::watched::Watched;

/// A device's clock that is this far off is not believed.
const CLOCK_ERROR_MAX: Duration = Duration::from_secs(5);

/// How far ahead of ours a poster's clock may be. A time beyond that would stay the newest for ever.
pub(super) const POST_AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);

/// Operations on telemetry.
pub(crate) struct Telemetry {
    pub(crate) world: World,
    pub(crate) presence: Arc<Presence>,
    pub(crate) watched: Arc<Watched>,
    pub(crate) senders: Senders,
    pub(crate) templates: Arc<Templates>,
    pub(crate) meters: Arc<Meters>,
    /// For those who look at the whole fleet.
    pub(crate) lookers: Arc<Semaphore>,
}

/// So many may look at the whole fleet at once, each on some threads; an answer is in memory as a whole.
pub(crate) const LOOKERS_MAX: usize = 2;

/// What third parties say.
#[derive(Default)]
pub(crate) struct Posted {
    pub(super) batch: Batch,
    shown: Vec<Shown>,
    /// Devices for which that is a sign of life.
    heard: BTreeSet<Uid>,
}

/// What of a report lists and watchers are told.
struct Shown {
    device: Uid,
    at: Timestamp,
    numbers: Numbers,
    /// Only if somebody watches the device.
    samples: Option<Vec<Sample>>,
}

impl Posted {
    /// Notes whom a report is about, and what lists show of it.
    pub(super) fn note(
        &mut self,
        subject: Subject,
        at: Timestamp,
        numbers: Numbers,
        samples: Option<Vec<Sample>>,
    ) {
        self.shown.push(Shown { device: subject.uid, at, numbers, samples });
        if subject.is_heard {
            self.heard.insert(subject.uid);
        }
    }
}

/// A question about one metric of one device.
#[derive(Debug)]
pub(crate) struct MetricQuery {
    pub(crate) device: String,
    pub(crate) metric: String,
    pub(crate) from: Option<Timestamp>,
    pub(crate) to: Option<Timestamp>,
    pub(crate) limit: usize,
}

/// Points of one metric of one device. What they have in common is kept once.
pub(crate) struct MetricPoints {
    pub(crate) device: DeviceId,
    pub(crate) metric: String,
    pub(crate) points: Vec<Point>,
    /// The labels of each series.
    pub(crate) metadata: HashMap<SeriesId, Untrusted>,
}

impl Telemetry {
    /// Stores what a device sent over its link. When this returns, all numbers up to the result
    /// are on the disk or refused for good.
    pub(crate) async fn ingest(&self, uid: Uid, samples: Samples) -> Result<u64, OpsError> {
        if samples.reports.len() > FRAME_REPORTS_MAX {
            let problem = format!("a frame holds at most {FRAME_REPORTS_MAX} reports");
            return Err(OpsError::invalid("reports", problem));
        }
        let now = self.world.now();
        let newest = samples.reports.iter().max_by_key(|report| report.seq);
        if let Some(skew_secs) = newest.map(|report| skew_secs(now, report)) {
            self.presence.set_skew(uid, skew_secs);
        }
        let mut last = 0;
        let mut reports = Vec::with_capacity(samples.reports.len());
        for report in samples.reports {
            last = last.max(report.seq);
            let at = report_time(now, &report);
            let stream = Some((samples.stream, report.seq));
            reports.push(Incoming { device: uid, stream, at, samples: valid(uid, report.samples) });
        }
        // The newest is kept for lists, and all of them only for who watches the device.
        let kept = if self.watched.is_watched(uid) { reports.len() } else { 1 };
        let first = reports.len().saturating_sub(kept);
        let kept: Vec<_> =
            reports[first..].iter().map(|report| (report.at, report.samples.clone())).collect();
        let (batch, left_out) = Incoming::batch(&reports, self.world.store.names());
        drop(reports);
        self.note_left_out(uid, left_out);
        let counts: Vec<usize> = batch.iter().map(|(_, numbers)| numbers.len()).collect();
        let outcomes = self.world.store.store(batch).await?;
        self.count(Door::Link, &counts, &outcomes);
        for ((at, samples), outcome) in kept.into_iter().zip(outcomes.into_iter().skip(first)) {
            self.presence.reported(uid, at, Numbers::of(&samples));
            if outcome == Outcome::Stored {
                self.watched.reported(uid, at, samples);
            }
        }
        Ok(last)
    }

    /// Stores posted samples: all of them, or none.
    pub(crate) async fn post(
        &self,
        posts: Vec<TelemetryPost>,
        layout: Layout,
        poster: &Principal,
    ) -> Result<(), OpsError> {
        let now = self.world.now();
        let mut subjects: HashMap<String, Subject> = HashMap::new();
        let mut untimed: HashMap<(Uid, String, Labels), u64> = HashMap::new();
        let mut reports: BTreeMap<(Uid, Timestamp), (Subject, Vec<Sample>)> = BTreeMap::new();
        for (position, post) in posts.into_iter().enumerate() {
            let place = |field: &str| layout.place(position, field);
            let subject = match subjects.get(&post.device_id) {
                Some(subject) => *subject,
                None => {
                    let subject = self.senders.subject(&post.device_id, poster).await?;
                    subjects.insert(post.device_id.clone(), subject);
                    subject
                }
            };
            let labels = labels(post.metadata)
                .map_err(|problem| OpsError::invalid(place("metadata"), problem))?;
            let sample = Sample { name: post.metric_name, labels, value: post.value };
            sample
                .validate()
                .map_err(|error| OpsError::invalid(place(invalid_field(&error)), error))?;
            let at = post.timestamp.unwrap_or_else(|| {
                // Values without a time are not to take each other's place.
                let key = (subject.uid, sample.name.clone(), sample.labels.clone());
                let earlier = untimed.entry(key).or_insert(0);
                *earlier += 1;
                now.plus(Duration::from_millis(*earlier - 1))
            });
            if at > now.plus(POST_AHEAD_MAX) {
                let problem = "is more than a day ahead of the server's clock";
                return Err(OpsError::invalid(place("timestamp"), problem));
            }
            let known = reports.entry((subject.uid, at));
            known.or_insert_with(|| (subject, Vec::new())).1.push(sample);
        }
        let mut posted = Posted::default();
        let (names, sender) = (self.world.store.names(), poster.device());
        for ((uid, at), (subject, samples)) in reports {
            for samples in samples.chunks(REPORT_SAMPLES_MAX) {
                let pushed = posted.batch.push(names, uid, sender, at.millis(), samples);
                pushed.map_err(|error| OpsError::TooLarge(error.to_string()))?;
            }
            let numbers = Numbers::of(&samples);
            let is_watched = self.watched.is_watched(uid);
            posted.note(subject, at, numbers, is_watched.then_some(samples));
        }
        self.store(posted, Door::Json).await
    }

    /// Points of a metric, newest first.
    pub(crate) async fn query(
        &self,
        access: &Access,
        query: MetricQuery,
    ) -> Result<MetricPoints, OpsError> {
        let store = &self.world.store;
        let (uid, device) = find_listed(&self.world, access, &query.device)?;
        let points = store
            .query(Query {
                device: uid,
                metric: query.metric.clone(),
                labels: Vec::new(),
                from: query.from.unwrap_or(Timestamp::from_millis(0)),
                to: query.to.unwrap_or(Timestamp::from_millis(i64::MAX)),
                limit: query.limit,
            })
            .await?;
        let mut metadata = HashMap::new();
        for point in &points {
            metadata.entry(point.series).or_insert_with(|| {
                let name = store.names().name(point.series);
                Untrusted::new(labels::object(name.as_ref().map_or(&[], |name| &name.labels)))
            });
        }
        Ok(MetricPoints { device, metric: query.metric, points, metadata })
    }

    /// What a device measured last: the newest value of each series.
    pub(crate) fn newest(&self, uid: Uid) -> Vec<NamedValue> {
        self.world.store.newest_of(uid)
    }

    /// Stores what third parties say, together.
    pub(super) async fn store(&self, posted: Posted, door: Door) -> Result<(), OpsError> {
        let Posted { batch, shown, heard } = posted;
        if batch.is_empty() {
            return Ok(());
        }
        let devices: Vec<Uid> = batch.iter().map(|(report, _)| report.device).collect();
        let counts: Vec<usize> = batch.iter().map(|(_, numbers)| numbers.len()).collect();
        let outcomes = self.world.store.store(batch).await?;
        self.count(door, &counts, &outcomes);
        let lost =
            outcomes.iter().zip(&devices).filter(|(outcome, _)| **outcome != Outcome::Stored);
        let lost: BTreeSet<Uid> = lost.map(|(_, device)| *device).collect();
        for Shown { device, at, numbers, samples } in shown {
            if lost.contains(&device) {
                continue;
            }
            self.presence.posted(device, at, numbers);
            if let Some(samples) = samples {
                self.watched.reported(device, at, samples);
            }
        }
        let now = self.world.now();
        for device in heard.difference(&lost) {
            self.presence.heard(*device, now);
        }
        if lost.is_empty() {
            Ok(())
        } else {
            let reason = "a device was deleted meanwhile: what was sent for others is stored";
            Err(OpsError::Conflict(reason.to_owned()))
        }
    }

    /// Notes samples of a device's link that are left out; the log is told now and then.
    fn note_left_out(&self, uid: Uid, left_out: LeftOut) {
        let Some(reason) = left_out.reason else { return };
        if self.meters.samples_left_out(left_out.samples) {
            let samples = left_out.samples;
            tracing::warn!(%uid, samples, %reason, "left out samples of new series, and perhaps more since: see fleets_telemetry_samples_left_out_total");
        }
    }

    fn count(&self, door: Door, samples: &[usize], outcomes: &[Outcome]) {
        let stored = samples.iter().zip(outcomes).filter(|(_, o)| **o == Outcome::Stored);
        let (reports, samples) = stored.fold((0, 0), |(n, sum), (more, _)| (n + 1, sum + more));
        self.meters.stored(door, reports, samples);
    }
}

/// Where the parts of a request stand, to name the one that is wrong.
#[derive(Debug)]
pub(crate) enum Layout {
    /// There is one.
    One,
    /// In an array.
    Array,
    /// In lines with these numbers.
    Lines(Vec<usize>),
}

impl Layout {
    fn place(&self, position: usize, field: &str) -> String {
        match self {
            Self::One => field.to_owned(),
            Self::Array => format!("[{position}].{field}"),
            Self::Lines(numbers) => match numbers.get(position) {
                Some(number) => format!("line {number}: {field}"),
                None => field.to_owned(),
            },
        }
    }
}

/// When a report was made: by the device's clock where that agrees with ours and with how long
/// the report says it waited, else by ours less that wait.
fn report_time(now: Timestamp, report: &QueuedReport) -> Timestamp {
    let waited = Duration::from_millis(report.age_millis);
    match skew_secs(now, report) {
        None => Timestamp::from_millis(report.at_millis),
        Some(_) => now.minus(waited),
    }
}

/// By how many seconds a device's clock is ahead of ours, if that is too far to believe it.
fn skew_secs(now: Timestamp, report: &QueuedReport) -> Option<i64> {
    let sent =
        Timestamp::from_millis(report.at_millis).plus(Duration::from_millis(report.age_millis));
    let is_off = now.since(sent).max(sent.since(now)) > CLOCK_ERROR_MAX;
    is_off.then(|| (sent.millis() - now.millis()) / 1000)
}

/// The samples that can be stored. One bad sample must not hold up those behind it.
fn valid(uid: Uid, mut samples: Vec<Sample>) -> Vec<Sample> {
    let sent = samples.len();
    samples.truncate(REPORT_SAMPLES_MAX);
    samples.retain(|sample| sample.validate().is_ok());
    if samples.len() < sent {
        tracing::debug!(%uid, dropped = sent - samples.len(), "left out samples that are none");
    }
    samples
}

fn invalid_field(error: &fleet_core::metric::SampleError) -> &'static str {
    use fleet_core::metric::SampleError;
    match error {
        SampleError::Name => "metric_name",
        SampleError::NotFinite => "value",
        SampleError::ManyLabels | SampleError::Label => "metadata",
    }
}

type Labels = Vec<(String, String)>;

/// Labels out of an object.
fn labels(metadata: Option<Value>) -> Result<Labels, &'static str> {
    let entries = match metadata {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err("must be an object"),
    };
    let mut labels: Vec<_> =
        entries.into_iter().map(|(name, value)| (name, labels::text(value))).collect();
    labels.sort();
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devices_clock_is_believed_as_far_as_it_can_be_true() {
        let now = Timestamp::from_millis(1_000_000);
        let time = |at_millis, age_millis| {
            let report = QueuedReport { seq: 1, at_millis, age_millis, samples: Vec::new() };
            report_time(now, &report).millis()
        };
        assert_eq!(time(996_000, 0), 996_000);
        assert_eq!(time(1_004_000, 0), 1_004_000);
        assert_eq!(time(900_000, 101_000), 900_000);
        let skew = |at_millis, age_millis| {
            let report = QueuedReport { seq: 1, at_millis, age_millis, samples: Vec::new() };
            skew_secs(now, &report)
        };
        assert_eq!([skew(996_000, 0), skew(900_000, 101_000)], [None, None]);
        assert_eq!([skew(1_060_500, 0), skew(0, 30_000)], [Some(60), Some(-970)]);
        // Years off, in either direction; then what it says about waiting still holds.
        assert_eq!(time(0, 30_000), 970_000);
        assert_eq!(time(i64::MAX, 30_000), 970_000);
        assert_eq!(time(i64::MIN, u64::MAX), 0);
    }

    #[test]
    fn labels_keep_what_their_values_are() {
        let metadata = serde_json::json!({
            "a": 4, "b": true, "c": "x", "d": "4", "e": "true", "f": "\"x\"", "g": "", "h": null,
            "i": [1, "1"], "j": {"k": "v"}, "k": 1.5, "l": " 7 ", "m": "1e999", "n": "{",
        });
        let stored = labels(Some(metadata.clone())).unwrap();
        let text =
            |name: &str| stored.iter().find(|label| label.0 == name).map(|label| label.1.as_str());
        assert_eq!([text("a"), text("c"), text("d")], [Some("4"), Some("x"), Some("\"4\"")]);
        assert!(stored.is_sorted());
        let back: serde_json::Map<_, _> =
            stored.into_iter().map(|(name, text)| (name, labels::value(&text))).collect();
        assert_eq!(Value::Object(back), metadata);
        assert!(labels(Some(serde_json::json!([]))).is_err());
        assert_eq!(labels(None), Ok(Vec::new()));
    }
}
