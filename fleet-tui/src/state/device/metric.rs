//! Which metrics a device's graphs show, and how the parts of one are drawn together.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_core::api::{LiveReport, Series, SeriesPoint, SeriesReply};
use fleet_core::limits::SERIES_STEPS_MAX;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;

use super::curve::Point;

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its line in the list below")]
pub enum Metric {
    Cpu,
    Memory,
    Disk,
    Temperature,
    Receive,
    Transmit,
    Read,
    Write,
    Uptime,
}

/// How many metrics there are.
pub const METRICS: usize = 9;

/// A graph: one metric, or two that belong together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Graph {
    /// Processor use.
    #[default]
    Cpu,
    /// Memory use.
    Memory,
    /// Disk use.
    Disk,
    /// Traffic of all interfaces.
    Network,
    /// Reading and writing of all disks.
    DiskIo,
    /// The hottest sensor.
    Temperature,
}

/// What a graph's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// From 0 to 100.
    Percent,
    /// Bytes in a second.
    BytesPerSecond,
    /// Degrees.
    Celsius,
}

impl Graph {
    /// Every graph, in their order on the screen.
    pub const ALL: [Self; 6] =
        [Self::Cpu, Self::Memory, Self::Disk, Self::Network, Self::DiskIo, Self::Temperature];

    /// Its metrics: one, or one into the device or off its disk and one the other way.
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Self::Cpu => &[Metric::Cpu],
            Self::Memory => &[Metric::Memory],
            Self::Disk => &[Metric::Disk],
            Self::Network => &[Metric::Receive, Metric::Transmit],
            Self::DiskIo => &[Metric::Read, Metric::Write],
            Self::Temperature => &[Metric::Temperature],
        }
    }

    /// What its numbers are.
    pub fn unit(self) -> Unit {
        match self {
            Self::Cpu | Self::Memory | Self::Disk => Unit::Percent,
            Self::Network | Self::DiskIo => Unit::BytesPerSecond,
            Self::Temperature => Unit::Celsius,
        }
    }

    /// What stands above it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Cpu => "CPU %",
            Self::Memory => "Memory %",
            Self::Disk => "Disk %",
            Self::Network => "Network",
            Self::DiskIo => "Disk IO",
            Self::Temperature => "Temperature C",
        }
    }
}

/// What becomes of sisters: the metrics of one name that labels tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sisters {
    /// Their sum: traffic of all interfaces.
    Sum,
    /// The highest: the hottest of all sensors.
    Highest,
}

const LIST: [(Metric, &str, Sisters); METRICS] = [
    (Metric::Cpu, "cpu_usage", Sisters::Highest),
    (Metric::Memory, "memory_usage", Sisters::Highest),
    (Metric::Disk, "disk_usage", Sisters::Highest),
    (Metric::Temperature, "temperature_celsius", Sisters::Highest),
    (Metric::Receive, "network_receive_bytes_per_second", Sisters::Sum),
    (Metric::Transmit, "network_transmit_bytes_per_second", Sisters::Sum),
    (Metric::Read, "disk_read_bytes_per_second", Sisters::Sum),
    (Metric::Write, "disk_write_bytes_per_second", Sisters::Sum),
    (Metric::Uptime, "uptime_seconds", Sisters::Highest),
];

/// What a device sends to itself is no traffic.
const LOOPBACK: (&str, &str) = ("interface", "lo");

impl Metric {
    /// Every metric.
    pub fn all() -> impl Iterator<Item = Self> {
        LIST.iter().map(|(metric, ..)| *metric)
    }

    /// The metric's name.
    pub fn name(self) -> &'static str {
        LIST[self as usize].1
    }

    fn named(name: &str) -> Option<Self> {
        LIST.iter().find(|line| line.1 == name).map(|line| line.0)
    }

    fn sisters(self) -> Sisters {
        LIST[self as usize].2
    }
}

/// The values of a report, one for each metric that it has.
pub(super) fn of_report(report: &LiveReport) -> Vec<(Metric, f64)> {
    let mut values: Vec<(Metric, f64)> = Vec::new();
    for sample in report.samples.iter().filter(|sample| !is_loopback(&sample.labels)) {
        let Some(metric) = Metric::named(&sample.metric) else { continue };
        match (values.iter_mut().find(|(other, _)| *other == metric), metric.sisters()) {
            (None, _) => values.push((metric, sample.value)),
            (Some((_, sum)), Sisters::Sum) => *sum += sample.value,
            (Some((_, highest)), Sisters::Highest) => *highest = highest.max(sample.value),
        }
    }
    values
}

/// The points of each metric of an answer. Of a sum that has several parts only the mean is known:
/// the parts need not have been highest at one time. Of the last step only what is before `to` was.
pub(super) fn of_reply(reply: &SeriesReply, to: Timestamp) -> Vec<(Metric, Vec<Point>)> {
    let drawn = |metric: Metric| {
        let is_own =
            |series: &&Series| series.metric == metric.name() && !is_loopback(&series.labels);
        let mut steps: BTreeMap<u32, SeriesPoint> = BTreeMap::new();
        for point in reply.series.iter().filter(is_own).flat_map(|series| &series.points) {
            let merge = |step: &mut SeriesPoint| *step = merged(metric.sisters(), *step, *point);
            steps.entry(point.0).and_modify(merge).or_insert(*point);
        }
        let points = steps.into_values().take(SERIES_STEPS_MAX);
        let points = points.map(|SeriesPoint(step, mean, min, max)| Point {
            at: middle(reply, step, to),
            mean,
            min,
            max,
        });
        (metric, points.collect())
    };
    Metric::all().map(drawn).collect()
}

fn merged(sisters: Sisters, a: SeriesPoint, b: SeriesPoint) -> SeriesPoint {
    match sisters {
        Sisters::Sum => {
            let sum = a.1 + b.1;
            SeriesPoint(a.0, sum, sum, sum)
        }
        Sisters::Highest => SeriesPoint(a.0, a.1.max(b.1), a.2.max(b.2), a.3.max(b.3)),
    }
}

/// The middle of what there is of a step.
fn middle(reply: &SeriesReply, step: u32, to: Timestamp) -> Timestamp {
    let begin = Duration::from_millis(reply.step_millis.saturating_mul(u64::from(step)));
    let begin = reply.from.plus(begin);
    let end = begin.plus(Duration::from_millis(reply.step_millis)).min(to);
    begin.plus(end.since(begin) / 2)
}

fn is_loopback(labels: &BTreeMap<String, Untrusted>) -> bool {
    labels.get(LOOPBACK.0).is_some_and(|interface| interface.raw() == LOOPBACK.1)
}

#[cfg(test)]
mod tests {
    use fleet_core::api::LiveSample;

    use super::*;

    fn labels(name: &str, value: &str) -> BTreeMap<String, Untrusted> {
        [(name.to_owned(), Untrusted::from(value))].into()
    }

    #[test]
    fn the_list_is_in_the_order_of_the_metrics() {
        for (place, metric) in Metric::all().enumerate() {
            assert_eq!(metric as usize, place);
            assert_eq!(Metric::named(metric.name()), Some(metric));
        }
    }

    #[test]
    fn a_reports_parts_are_drawn_together() {
        let sample = |metric: Metric, label: &str, part: &str, value| LiveSample {
            metric: metric.name().to_owned(),
            labels: labels(label, part),
            value,
        };
        let cpu = LiveSample { metric: "cpu_usage".into(), labels: BTreeMap::new(), value: 7.0 };
        let other = LiveSample { metric: "load".into(), ..cpu.clone() };
        let report = LiveReport {
            slot: 1,
            timestamp: Timestamp::from_millis(5),
            samples: vec![
                cpu,
                other,
                sample(Metric::Receive, "interface", "eth0", 100.0),
                sample(Metric::Receive, "interface", "lo", 5_000.0),
                sample(Metric::Receive, "interface", "wlan0", 20.0),
                sample(Metric::Temperature, "zone", "cpu", 40.0),
                sample(Metric::Temperature, "zone", "gpu", 60.0),
                sample(Metric::Temperature, "zone", "pmic", 50.0),
            ],
        };
        let expected = [(Metric::Cpu, 7.0), (Metric::Receive, 120.0), (Metric::Temperature, 60.0)];
        assert_eq!(of_report(&report), expected);
    }

    #[test]
    fn an_answers_parts_are_drawn_together_step_by_step() {
        let series = |metric: Metric, label: &str, part: &str, points| Series {
            metric: metric.name().to_owned(),
            labels: labels(label, part),
            points,
        };
        let point = SeriesPoint;
        let reply = SeriesReply {
            from: Timestamp::from_millis(10_000),
            step_millis: 2_000,
            steps: 5,
            series: vec![
                series(
                    Metric::Read,
                    "device",
                    "sda",
                    vec![point(0, 5.0, 1.0, 9.0), point(3, 1.0, 1.0, 1.0)],
                ),
                series(Metric::Read, "device", "sdb", vec![point(0, 5.0, 1.0, 9.0)]),
                series(Metric::Receive, "interface", "lo", vec![point(0, 1.0, 1.0, 1.0)]),
                series(Metric::Temperature, "zone", "a", vec![point(1, 5.0, 1.0, 9.0)]),
                series(Metric::Temperature, "zone", "b", vec![point(1, 6.0, 0.0, 7.0)]),
            ],
            ..SeriesReply::default()
        };
        let found = of_reply(&reply, Timestamp::from_millis(17_000));
        let of = |metric: Metric| found[metric as usize].1.clone();
        let at = Timestamp::from_millis;
        let sum = Point::new(at(11_000), 10.0);
        assert_eq!(of(Metric::Read), [sum, Point::new(at(16_500), 1.0)]);
        assert_eq!(of(Metric::Receive), []);
        assert_eq!(
            of(Metric::Temperature),
            [Point { at: at(13_000), mean: 6.0, min: 1.0, max: 9.0 }]
        );
    }

    #[test]
    fn steps_beyond_all_time_are_no_trouble() {
        let series = Series {
            metric: "cpu_usage".to_owned(),
            labels: BTreeMap::new(),
            points: vec![SeriesPoint(u32::MAX, 1.0, 1.0, 1.0)],
        };
        let reply =
            SeriesReply { step_millis: u64::MAX, series: vec![series], ..SeriesReply::default() };
        assert_eq!(of_reply(&reply, Timestamp::default())[0].1.len(), 1);
    }
}
