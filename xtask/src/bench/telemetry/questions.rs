//! The same questions to both servers, each in its own language, and how long they take to answer.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use fleet_core::time::Timestamp;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::data::{INTERVAL_MILLIS, METRICS, Set, device_id};
use super::note;
use super::peers::{Kind, Peer};
use crate::bench::figures::Unit;

const HOUR_SECS: i64 = 3600;
/// Points of a curve.
const POINTS: i64 = 300;
/// What latest values are asked for.
const LATEST: [&str; 3] = [METRICS[0], METRICS[1], METRICS[2]];
/// Devices of a ranking, and the time that it is about.
const RANKED: usize = 10;
const RANKED_SECS: i64 = 300;
/// From the last moment to the end of what is asked for: a jittered report may be late.
const MARGIN_MILLIS: i64 = 1000;
/// Reports at the edges of a window, which may lie on either side.
const EDGE: i64 = 5;
/// Between the devices that are asked about one after the other; a prime, so that all have a turn.
const STRIDE: u32 = 7919;
/// Rows that FleetD answers with at most.
const ROWS_MAX: u32 = 10_000;

/// A question.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question {
    /// The last hour of one metric of one device, as it came.
    Raw,
    /// All the time of one metric of one device, averaged to a curve.
    Average,
    /// The latest values of three metrics of all devices.
    Latest,
    /// The devices with the highest average of one metric in the last five minutes.
    Top,
}

/// How long answers took, in seconds.
#[derive(Clone, Copy)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// What a server is asked about: a set and its last moment.
#[derive(Clone, Copy)]
pub(super) struct Stored {
    pub(super) set: Set,
    pub(super) end: i64,
}

impl Question {
    /// The question about one of the devices.
    pub(super) fn path(self, kind: Kind, stored: Stored, device: u32) -> String {
        match kind {
            Kind::FleetD => self.to_fleetd(stored, device),
            Kind::VictoriaMetrics => self.to_victoria_metrics(stored, device),
        }
    }

    fn to_fleetd(self, stored: Stored, device: u32) -> String {
        let metric = METRICS[0];
        match self {
            Self::Raw => rows(stored, device, metric, HOUR_SECS),
            Self::Average => {
                let rows = rows(stored, device, metric, stored.secs());
                format!("{rows}&step={}s&agg=avg", stored.step())
            }
            Self::Latest => format!("/api/v1/telemetry/latest?metrics={}", LATEST.join(",")),
            Self::Top => {
                let to = Timestamp::from_millis(stored.now());
                format!(
                    "/api/v1/telemetry/top?metric={metric}&window={RANKED_SECS}s&to={to}&agg=avg\
                     &limit={RANKED}"
                )
            }
        }
    }

    fn to_victoria_metrics(self, stored: Stored, device: u32) -> String {
        let (metric, device) = (METRICS[0], device_id(device));
        let asked_at = |query: String| instant(&query, stored);
        match self {
            Self::Raw => asked_at(format!("{metric}{{device=\"{device}\"}}[{HOUR_SECS}s]")),
            Self::Average => {
                let step = stored.step();
                let query = format!("avg_over_time({metric}{{device=\"{device}\"}}[{step}s])");
                let (query, end) = (encoded(&query), stored.now() / 1000);
                let start = end - stored.secs() + step;
                format!("/api/v1/query_range?query={query}&start={start}&end={end}&step={step}s")
            }
            Self::Latest => asked_at(format!("{{__name__=~\"{}\"}}", LATEST.join("|"))),
            Self::Top => {
                asked_at(format!("topk({RANKED}, avg_over_time({metric}[{RANKED_SECS}s]))"))
            }
        }
    }

    /// How many values an answer has at least, whatever form it has.
    fn values_min(self, stored: Stored) -> usize {
        let time_and_value = |points: i64| 2 * usize::try_from(points - EDGE).unwrap_or(0);
        match self {
            Self::Raw => time_and_value(
                i64::from(stored.set.reports).min(HOUR_SECS * 1000 / INTERVAL_MILLIS),
            ),
            Self::Average => time_and_value(POINTS),
            Self::Latest => LATEST.len() * stored.set.devices as usize,
            Self::Top => 2 * RANKED,
        }
    }
}

impl Stored {
    /// The moment at which questions are asked.
    fn now(self) -> i64 {
        self.end + MARGIN_MILLIS
    }

    fn secs(self) -> i64 {
        i64::from(self.set.reports) * INTERVAL_MILLIS / 1000
    }

    fn step(self) -> i64 {
        (self.secs() / POINTS).max(1)
    }
}

/// Asks about one device after the other over one connection.
pub(super) fn ask(
    peer: &Peer<'_>,
    question: Question,
    stored: Stored,
    times: usize,
) -> anyhow::Result<Latency> {
    let mut connection = peer.connect()?;
    let before = peer.cpu()?;
    let mut took = Vec::with_capacity(times);
    let mut device = 0;
    for _ in 0..times {
        device = (device + STRIDE) % stored.set.devices;
        let path = question.path(peer.kind(), stored, device);
        let asked = Instant::now();
        let answer = connection.get(&path)?;
        took.push(asked.elapsed().as_secs_f64());
        if took.len() == 1 {
            let (values, wanted) = (values(answer)?, question.values_min(stored));
            if values < wanted {
                bail!("{path} was answered with {values} values, not {wanted} at least");
            }
        }
        peer.interrupt().pause(Duration::ZERO)?;
    }
    let used = (peer.cpu()? - before) / times as f64;
    let name = peer.kind().name();
    note(&format!(
        "{name}: {question:?}: {} of processor for an answer",
        Unit::Seconds.show(used)
    ))?;
    took.sort_by(f64::total_cmp);
    let at = |share: usize| took.get((took.len() * share / 100).min(took.len().saturating_sub(1)));
    let (p50, p99) = (at(50).copied(), at(99).copied());
    p50.zip(p99).map(|(p50, p99)| Latency { p50, p99 }).context("nothing was asked")
}

/// How many samples of a set a server has.
pub(super) fn count(peer: &Peer<'_>, stored: Stored) -> anyhow::Result<u64> {
    let mut connection = peer.connect()?;
    let mut sum = 0;
    for metric in METRICS {
        peer.interrupt().pause(Duration::ZERO)?;
        match peer.kind() {
            Kind::FleetD => {
                for device in 0..stored.set.devices {
                    let path = rows(stored, device, metric, stored.secs());
                    let answer = connection.get(&path)?;
                    let rows: Vec<IgnoredAny> = serde_json::from_slice(answer)?;
                    sum += rows.len() as u64;
                }
            }
            Kind::VictoriaMetrics => {
                let query = format!("sum(count_over_time({metric}[{}s]))", stored.secs());
                let answer: Value =
                    serde_json::from_slice(connection.get(&instant(&query, stored))?)?;
                sum += match answer.pointer("/data/result/0/value/1") {
                    Some(value) => value.as_str().context("a count")?.parse::<u64>()?,
                    // Without a series there is no sum.
                    None => 0,
                };
            }
        }
    }
    Ok(sum)
}

/// Where FleetD has the last `secs` of a metric of a device.
fn rows(stored: Stored, device: u32, metric: &str, secs: i64) -> String {
    let device = device_id(device);
    let to = Timestamp::from_millis(stored.now());
    let from = Timestamp::from_millis(stored.now() - secs * 1000);
    format!(
        "/api/v1/telemetry/metrics?device_id={device}&metric={metric}&from={from}&to={to}\
         &limit={ROWS_MAX}"
    )
}

fn instant(query: &str, stored: Stored) -> String {
    format!("/api/v1/query?query={}&time={}", encoded(query), stored.now() / 1000)
}

fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// The values in a JSON document, however they are arranged.
fn values(document: &[u8]) -> serde_json::Result<usize> {
    fn leaves(value: &Value) -> usize {
        match value {
            Value::Array(items) => items.iter().map(leaves).sum(),
            Value::Object(members) => members.values().map(leaves).sum(),
            _ => 1,
        }
    }
    Ok(leaves(&serde_json::from_slice(document)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: Stored =
        Stored { set: Set { devices: 1000, reports: 8640 }, end: 1_800_000_000_000 };

    #[test]
    fn both_are_asked_about_the_same_time() {
        let path = |question: Question, kind| question.path(kind, STORED, 42);
        assert_eq!(
            path(Question::Average, Kind::FleetD),
            "/api/v1/telemetry/metrics?device_id=bench-00042&metric=m_cpu_usage\
             &from=2027-01-14T08:00:01Z&to=2027-01-15T08:00:01Z&limit=10000&step=288s&agg=avg"
        );
        assert_eq!(
            path(Question::Average, Kind::VictoriaMetrics),
            "/api/v1/query_range?query=avg_over_time%28m_cpu_usage%7Bdevice%3D%22bench-00042%22%7D\
             %5B288s%5D%29&start=1799913889&end=1800000001&step=288s"
        );
    }

    #[test]
    fn every_device_has_its_turn() {
        for devices in [100_u32, 1_000, 10_000] {
            let mut seen = std::collections::BTreeSet::new();
            let mut device = 0;
            for _ in 0..devices {
                device = (device + STRIDE) % devices;
                seen.insert(device);
            }
            assert_eq!(seen.len(), devices as usize);
        }
    }

    #[test]
    fn values_are_counted_however_they_are_arranged() {
        assert_eq!(values(br#"{"a":[[1,"2"],[3,null]],"b":{"c":4.5}}"#).unwrap(), 5);
    }
}
