//! Answers of thousands of rows that are alike, written row by row: what rows have in common is
//! made into JSON once, and no tree of them is in memory.
//!
//! The rows are those of `fleet_core::api`, in the form in which serde writes them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use fleet_core::id::DeviceId;
use fleet_core::time::TimeTexts;
use serde::Serialize;

use crate::labels::plain;
use crate::ops::fleetwide::{Aggregate, StepPoints};
use crate::ops::telemetry::MetricPoints;
use crate::series::names::{Names, SeriesName};
use crate::series::number::mantissa;
use crate::store::NewestValue;

/// Bytes of a row's values, about.
const VALUES_BYTES: usize = 64;

/// Points as [`fleet_core::api::MetricPoint`]s.
pub(super) fn points(points: &MetricPoints) -> Bytes {
    let MetricPoints { device, metric, points, metadata } = points;
    let (begin, middle) = (begin(device), middle(metric));
    let end = |metadata| [b",\"metadata\":", to_json(metadata).as_slice(), b"}"].concat();
    let ends: HashMap<_, _> = metadata.iter().map(|(id, metadata)| (*id, end(metadata))).collect();
    let end_bytes = ends.values().map(Vec::len).max().unwrap_or(0);
    let mut rows = Rows::new(points.len() * (begin.len() + middle.len() + end_bytes));
    let mut times = TimeTexts::default();
    for point in points {
        rows.next(&begin);
        times.put(point.at, &mut rows.body);
        rows.body.extend_from_slice(&middle);
        put_number(&mut rows.body, point.value);
        rows.body.extend_from_slice(ends.get(&point.series).map_or(b"}", Vec::as_slice));
    }
    rows.finish()
}

/// Steps as [`fleet_core::api::StepPoint`]s.
pub(super) fn steps(points: &StepPoints) -> Bytes {
    let StepPoints { metric, aggregate, curves, steps } = points;
    let middle = middle(metric);
    let constant: Vec<_> = curves
        .iter()
        .map(|(device, metadata)| {
            let metadata = to_json(metadata);
            (begin(device), [b",\"metadata\":", metadata.as_slice(), b",\"min\":"].concat())
        })
        .collect();
    let bytes = constant.iter().map(|(begin, end)| begin.len() + end.len()).max().unwrap_or(0);
    let mut rows = Rows::new(steps.len() * (bytes + middle.len() + 2 * VALUES_BYTES));
    let mut times = TimeTexts::default();
    for step in steps {
        let (begin, metadata) = &constant[step.curve];
        rows.next(begin);
        let body = &mut rows.body;
        times.put(step.at, body);
        body.extend_from_slice(&middle);
        let value = body.len();
        put_number(body, aggregate.of(&step.stat));
        let value = value..body.len();
        body.extend_from_slice(metadata);
        put_number(body, step.stat.min);
        body.extend_from_slice(b",\"max\":");
        put_number(body, step.stat.max);
        body.extend_from_slice(b",\"mean\":");
        match aggregate {
            Aggregate::Avg => body.extend_from_within(value),
            _ => put_number(body, step.stat.mean()),
        }
        body.extend_from_slice(b",\"count\":");
        put_number(body, step.stat.count);
        body.push(b'}');
    }
    rows.finish()
}

/// The newest values of some metrics, a row for each device.
pub(super) struct LatestRows {
    metrics: Arc<[String]>,
    /// The keys of the values, by the places of their series; empty where none was needed yet.
    keys: Vec<Vec<u8>>,
    times: TimeTexts,
    rows: Rows,
}

impl LatestRows {
    /// For about so many devices.
    pub(super) fn new(metrics: &Arc<[String]>, devices: usize) -> Self {
        let values = metrics.iter().map(|metric| metric.len() + VALUES_BYTES / 2);
        let rows = Rows::new(devices * values.sum::<usize>());
        Self { metrics: metrics.clone(), keys: Vec::new(), times: TimeTexts::default(), rows }
    }

    /// Appends a device's row; there is at least one value.
    pub(super) fn put(&mut self, device: &DeviceId, values: &[NewestValue], names: &Names) {
        let Self { metrics, keys, times, rows } = self;
        let newest = values.iter().map(|value| value.at).max().unwrap_or_default();
        rows.next(b"{\"device_id\":");
        let body = &mut rows.body;
        put(body, device);
        body.extend_from_slice(b",\"timestamp\":\"");
        times.put(newest, body);
        body.extend_from_slice(b"\",\"values\":{");
        for (place, value) in values.iter().enumerate() {
            if place > 0 {
                body.push(b',');
            }
            if keys.len() <= value.place {
                keys.resize(value.place + 1, Vec::new());
            }
            let key = &mut keys[value.place];
            if key.is_empty() {
                *key = key_of(&metrics[value.metric], names.name(value.series).as_deref());
            }
            body.extend_from_slice(key);
            put_number(body, value.value);
        }
        body.extend_from_slice(b"}}");
    }

    /// The rows of all parts as one array, in pieces.
    pub(super) fn finish(parts: Vec<Self>) -> Vec<Bytes> {
        Rows::joined(parts.into_iter().map(|part| part.rows))
    }
}

/// An array in the making.
struct Rows {
    body: Vec<u8>,
}

impl Rows {
    /// With room for so many bytes, and a little more.
    fn new(bytes: usize) -> Self {
        let mut body = Vec::with_capacity(bytes + bytes / 2 + 2);
        body.push(b'[');
        Self { body }
    }

    /// Begins a row.
    fn next(&mut self, begin: &[u8]) {
        if self.body.len() > 1 {
            self.body.push(b',');
        }
        self.body.extend_from_slice(begin);
    }

    fn finish(mut self) -> Bytes {
        self.body.push(b']');
        self.body.into()
    }

    /// Arrays as one, in pieces.
    fn joined(arrays: impl Iterator<Item = Self>) -> Vec<Bytes> {
        let mut bodies: Vec<_> =
            arrays.map(|rows| rows.body).filter(|body| body.len() > 1).collect();
        for body in bodies.iter_mut().skip(1) {
            // What began an array goes on with the one before.
            body[0] = b',';
        }
        match bodies.last_mut() {
            Some(last) => last.push(b']'),
            None => bodies.push(b"[]".to_vec()),
        }
        bodies.into_iter().map(Bytes::from).collect()
    }
}

/// A row up to its time's text.
fn begin(device: &DeviceId) -> Vec<u8> {
    [b"{\"device_id\":", to_json(device).as_slice(), b",\"timestamp\":\""].concat()
}

/// A row from its time's text to its value.
fn middle(metric: &str) -> Vec<u8> {
    [b"\",\"metric_name\":", to_json(metric).as_slice(), b",\"value\":"].concat()
}

/// A series as the key of an answer: its metric, and its labels if it has any.
fn key_of(metric: &str, name: Option<&SeriesName>) -> Vec<u8> {
    let mut key = match name.filter(|name| !name.labels.is_empty()) {
        None => to_json(metric),
        Some(name) => {
            let label = |(label, text): &(String, String)| format!("{label}={}", plain(text));
            let labels: Vec<String> = name.labels.iter().map(label).collect();
            to_json(&format!("{}{{{}}}", name.metric, labels.join(",")))
        }
    };
    key.push(b':');
    key
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, value);
    out
}

/// Appends a number as serde does. Most numbers have few digits, and those need no search for the
/// shortest text that stands for them.
fn put_number(out: &mut Vec<u8>, number: f64) {
    const SCALE: u8 = 3;
    const SHORT_MAX: u64 = 10_u64.pow(15) - 1;
    let Some(mantissa) = mantissa(number, SCALE).filter(|mantissa| {
        // What has up to 15 digits is the only text of so many that stands for its float.
        mantissa.unsigned_abs() <= SHORT_MAX
    }) else {
        return put(out, &number);
    };
    let (mut whole, mut thousandths) =
        (mantissa.unsigned_abs() / 1000, mantissa.unsigned_abs() % 1000);
    let digit = |number: u64| b'0' + (number % 10) as u8;
    let mut text = *b"-000000000000.000";
    let mut end = text.len();
    for place in (end - usize::from(SCALE)..end).rev() {
        text[place] = digit(thousandths);
        thousandths /= 10;
    }
    // At least one digit is shown on either side of the point.
    while end > text.len() - 2 && text[end - 1] == b'0' {
        end -= 1;
    }
    let mut begin = text.len() - usize::from(SCALE) - 1;
    loop {
        begin -= 1;
        text[begin] = digit(whole);
        whole /= 10;
        if whole == 0 {
            break;
        }
    }
    if mantissa < 0 {
        begin -= 1;
        text[begin] = b'-';
    }
    out.extend_from_slice(&text[begin..end]);
}

fn put<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("memory takes all, and the values are plain");
}

#[cfg(test)]
mod tests {
    use fleet_core::api::{MetricPoint, StepPoint};
    use fleet_core::time::Timestamp;
    use fleet_core::untrusted::Untrusted;
    use proptest::prelude::*;
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::ops::fleetwide;
    use crate::series::names::SeriesId;
    use crate::store::{Point, Stat};

    /// The rows, if serde would write them alike.
    fn read<T: DeserializeOwned + Serialize>(body: &Bytes) -> Vec<T> {
        let rows: Vec<T> = serde_json::from_slice(body).unwrap();
        assert_eq!(serde_json::to_string(&rows).unwrap(), str::from_utf8(body).unwrap());
        rows
    }

    fn metadata() -> Untrusted {
        Untrusted::new("{\"a\":\"\u{1b}\\\"\"}".to_owned())
    }

    proptest! {
        #[test]
        fn numbers_are_those_that_serde_writes(
            mantissa in -(1_i64 << 54)..1 << 54,
            less in 0..54_u32,
            scale in 0..6_i32,
            any in any::<f64>().prop_filter("finite", |number| number.is_finite()),
        ) {
            for number in [(mantissa >> less) as f64 / 10_f64.powi(scale), any] {
                let mut out = Vec::new();
                put_number(&mut out, number);
                let text = serde_json::to_string(&number).unwrap();
                prop_assert_eq!(str::from_utf8(&out).unwrap(), text);
            }
        }
    }

    #[test]
    fn numbers_of_every_length_are_those_that_serde_writes() {
        let largest = 999_999_999_999.999;
        for number in [0.0, -0.0, 0.1, 0.01, 0.001, 0.0001, 1.0, 10.0, 9.5, 28.77, largest, 1e12] {
            for number in [number, -number] {
                let mut out = Vec::new();
                put_number(&mut out, number);
                assert_eq!(str::from_utf8(&out), Ok(&*serde_json::to_string(&number).unwrap()));
            }
        }
    }

    #[test]
    fn parts_of_an_overview_are_one_array() {
        let metrics: Arc<[String]> = ["cpu".to_owned()].into();
        let names = Names::default();
        let part = |devices: &[&str]| {
            let mut rows = LatestRows::new(&metrics, devices.len());
            for (at, device) in (1..).zip(devices) {
                let at = Timestamp::from_millis(at);
                let value =
                    NewestValue { metric: 0, series: SeriesId(7), place: 0, at, value: 0.5 };
                rows.put(&device.parse().unwrap(), &[value], &names);
            }
            rows
        };
        let cases: [&[&[&str]]; 4] =
            [&[], &[&[]], &[&[], &["a"], &[]], &[&["a", "b"], &[], &["c"]]];
        for parts in cases {
            let joined = LatestRows::finish(parts.iter().map(|devices| part(devices)).collect());
            let rows: Vec<serde_json::Value> = read(&Bytes::from(joined.concat()));
            let ids: Vec<_> = rows.iter().map(|row| row["device_id"].as_str().unwrap()).collect();
            assert_eq!(ids, parts.concat());
        }
    }

    #[test]
    fn rows_are_those_that_serde_writes() {
        let points = |values: &[f64]| MetricPoints {
            device: "rpi4-001".parse().unwrap(),
            metric: "cpu \"é\"".to_owned(),
            points: (0_i64..)
                .zip(values)
                .map(|(at, value)| Point {
                    at: Timestamp::from_millis(at * 1_010),
                    value: *value,
                    series: SeriesId(7),
                })
                .collect(),
            metadata: [(SeriesId(7), metadata())].into(),
        };
        assert_eq!(read::<MetricPoint>(&super::points(&points(&[]))).len(), 0);
        let rows: Vec<MetricPoint> = read(&super::points(&points(&[1.0, -0.1, 1e300, 5e-324])));
        assert_eq!(rows.len(), 4);
        assert_eq!((rows[3].metric_name.as_str(), &rows[3].metadata), ("cpu \"é\"", &metadata()));

        let steps = |aggregate| StepPoints {
            metric: "cpu".to_owned(),
            aggregate,
            curves: ["a", "b"].map(|id| (id.parse().unwrap(), metadata())).into(),
            steps: [(1, 2.5), (0, 0.1)]
                .map(|(curve, value)| fleetwide::StepPoint {
                    curve,
                    at: Timestamp::from_millis(60_000),
                    stat: Stat::of(value).with(Stat::of(1.0)),
                })
                .into(),
        };
        let rows: Vec<StepPoint> = read(&super::steps(&steps(Aggregate::Avg)));
        assert_eq!((rows[1].value, rows[1].mean), (0.55, 0.55));
        let rows: Vec<StepPoint> = read(&super::steps(&steps(Aggregate::Max)));
        assert_eq!([rows[0].device_id.as_str(), rows[1].device_id.as_str()], ["b", "a"]);
        assert_eq!((rows[0].value, rows[0].min, rows[0].count), (2.5, 1.0, 2.0));
    }
}
