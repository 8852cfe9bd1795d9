//! A store of telemetry that fits on a page: a value by device, millisecond and series.

use std::collections::{BTreeMap, BTreeSet};

use fleet_core::metric::Sample;
use fleet_server::store::{Outcome, Tier};

pub(crate) const MINUTE: i64 = 60_000;
pub(crate) const HOUR: i64 = 60 * MINUTE;

/// The series that there are: metrics, some with labels.
pub(crate) const SERIES: [(&str, &[(&str, &str)]); 8] = [
    ("cpu_usage", &[]),
    ("load1", &[]),
    ("core_usage", &[("core", "0")]),
    ("core_usage", &[("core", "1")]),
    ("core_usage", &[("core", "0"), ("kind", "big")]),
    ("core_usage", &[("core", "1"), ("kind", "big")]),
    ("core_usage", &[("kind", "big")]),
    ("load1", &[("kind", "big")]),
];

/// Labels to ask for.
pub(crate) const LABELS: [&[(&str, &str)]; 6] = [
    &[],
    &[("core", "0")],
    &[("kind", "big")],
    &[("kind", "big"), ("core", "1")],
    &[("core", "7")],
    &[("core", "0"), ("core", "1")],
];

/// Minimum, maximum, sum and count.
pub(crate) type Stats = (f64, f64, f64, f64);

/// A report on its way in: of a device, perhaps with a stream and number there, at a time, with a
/// value of each series whose bit is set.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) device: usize,
    pub(crate) stream: Option<(u8, u64)>,
    pub(crate) at: i64,
    pub(crate) series: u8,
}

/// A sample of a series.
pub(crate) fn sample(series: usize, value: f64) -> Sample {
    let (name, labels) = SERIES[series];
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Sample { name: name.to_owned(), labels: labels.collect(), value }
}

/// Which series these are.
pub(crate) fn series_of(metric: &str, labels: &[(String, String)]) -> usize {
    let is_own = |(name, own): &(&str, &[(&str, &str)])| {
        let own = own.iter().map(|(name, value)| (*name, *value));
        *name == metric && own.eq(labels.iter().map(|(name, value)| (&**name, &**value)))
    };
    SERIES.iter().position(is_own).expect("only these series are sent")
}

/// What was sent and is to be found.
#[derive(Default)]
pub(crate) struct Model {
    /// By device, time and series, the value that came last.
    values: BTreeMap<(usize, i64, usize), f64>,
    /// The times of each device's reports, also of those without values.
    reports: BTreeSet<(usize, i64)>,
    /// By tier, before when nothing is shown.
    floors: [i64; 4],
    cursors: BTreeMap<(usize, u8), u64>,
    missed: BTreeMap<usize, u64>,
}

impl Model {
    /// Takes a report whose values follow on one, and says what becomes of it. What coarser tiers
    /// say of an hour that has no raw values any more cannot be made anew, so no value of such an
    /// hour is sent twice: the report has none of those.
    pub(crate) fn append(&mut self, sent: &mut Sent, first: f64) -> Outcome {
        if let Some((stream, seq)) = sent.stream {
            let last = self.cursors.entry((sent.device, stream)).or_default();
            if seq <= *last {
                return Outcome::Duplicate;
            }
            *self.missed.entry(sent.device).or_default() += seq - *last - 1;
            *last = seq;
        }
        let is_pruned = sent.at.div_euclid(HOUR) * HOUR < self.floor(Tier::Raw);
        self.reports.insert((sent.device, sent.at));
        for series in 0..SERIES.len() {
            let key = (sent.device, sent.at, series);
            if is_pruned && self.values.contains_key(&key) {
                sent.series &= !(1 << series);
            }
            if sent.series & 1 << series != 0 {
                self.values.insert(key, first + series as f64);
            }
        }
        Outcome::Stored
    }

    pub(crate) fn prune(&mut self, tier: Tier, before: i64) {
        let floor = &mut self.floors[tier as usize];
        *floor = before.max(*floor);
    }

    pub(crate) fn floor(&self, tier: Tier) -> i64 {
        self.floors[tier as usize]
    }

    pub(crate) fn missed(&self, device: usize) -> u64 {
        self.missed.get(&device).copied().unwrap_or_default()
    }

    fn of(&self, device: usize) -> impl Iterator<Item = (i64, usize, f64)> {
        let values = self.values.range((device, i64::MIN, 0)..(device + 1, i64::MIN, 0));
        values.map(|((_, at, series), value)| (*at, *series, *value))
    }

    /// The values of a metric with some labels, by time, newest first, and series.
    pub(crate) fn points(
        &self,
        device: usize,
        metric: &str,
        labels: &[(&str, &str)],
        (from, to): (i64, i64),
    ) -> Vec<(i64, usize, f64)> {
        let times = from.max(self.floor(Tier::Raw))..=to;
        let is_asked = |series: usize| {
            let (name, own) = SERIES[series];
            name == metric && labels.iter().all(|label| own.contains(label))
        };
        let asked =
            self.of(device).filter(|(at, series, _)| times.contains(at) && is_asked(*series));
        let mut points: Vec<_> = asked.collect();
        points.sort_by_key(|(at, series, _)| (-at, *series));
        points
    }

    /// The reports, oldest first: the values of each time.
    pub(crate) fn reports(&self, device: usize, (from, to): (i64, i64)) -> Reports {
        let times = from.max(self.floor(Tier::Raw))..=to;
        let reports = self.reports.iter().filter(|(of, at)| *of == device && times.contains(at));
        let mut found: Reports = reports.map(|(_, at)| (*at, BTreeMap::new())).collect();
        for (at, series, value) in self.of(device) {
            if let Some(row) = found.get_mut(&at) {
                row.insert(series, value);
            }
        }
        found
    }

    /// The newest value of each series with its time; that is known after it is gone.
    pub(crate) fn newest(&self, device: usize) -> BTreeMap<usize, (i64, f64)> {
        self.of(device).map(|(at, series, value)| (series, (at, value))).collect()
    }

    /// The newest report.
    pub(crate) fn latest(&self, device: usize) -> Option<(i64, BTreeMap<usize, f64>)> {
        let (_, latest) = self.reports.iter().rfind(|(of, _)| *of == device)?;
        let newest = self.newest(device).into_iter();
        let of_then = newest.filter(|(_, (at, _))| at == latest);
        Some((*latest, of_then.map(|(series, (_, value))| (series, value)).collect()))
    }

    /// The mean of all of a metric.
    pub(crate) fn mean(&self, device: usize, metric: &str, times: (i64, i64)) -> Option<f64> {
        let points = self.points(device, metric, &[], times);
        let sum: f64 = points.iter().map(|(_, _, value)| value).sum();
        (!points.is_empty()).then(|| sum / points.len() as f64)
    }

    /// What is known of the values of a time, by series and step.
    pub(crate) fn steps(
        &self,
        device: usize,
        (from, to): (i64, i64),
        step: i64,
    ) -> BTreeMap<(usize, i64), Stats> {
        let mut steps = BTreeMap::new();
        let asked = self.of(device).filter(|(at, _, _)| (from..=to).contains(at));
        for (at, series, value) in asked {
            let known = steps.entry((series, at.div_euclid(step)));
            let known = known.or_insert((value, value, 0.0, 0.0));
            *known = (known.0.min(value), known.1.max(value), known.2 + value, known.3 + 1.0);
        }
        steps
    }
}

/// Values by series, by time.
pub(crate) type Reports = BTreeMap<i64, BTreeMap<usize, f64>>;
