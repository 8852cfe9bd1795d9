//! Curves: a device's reports of a time, drawn together into equal steps.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet_core::api::{Series, SeriesPoint, SeriesReply};
use fleet_core::limits::{SERIES_CURVES_MAX, SERIES_STEPS_MAX};
use fleet_core::metric::{MetricName, Sample};
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;

use super::devices::find;
use super::{OpsError, Telemetry};

/// The time that is shown unless told otherwise.
const SPAN_DEFAULT: Duration = Duration::from_secs(300);
/// Steps of that time unless told otherwise, about.
const STEPS_DEFAULT: u64 = 300;
/// The shortest step: nobody reports more often.
const STEP_MIN: Duration = Duration::from_secs(1);
/// Curves that are left out and counted; a device may make up labels without end.
const LEFT_OUT_MAX: usize = 1_000;

/// Which curves to draw.
#[derive(Debug)]
pub(crate) struct SeriesAsked {
    pub(crate) device: String,
    pub(crate) metrics: Vec<MetricName>,
    pub(crate) from: Option<Timestamp>,
    pub(crate) to: Option<Timestamp>,
    pub(crate) step: Option<Duration>,
}

impl Telemetry {
    /// Curves of some metrics of a device. The first step is a whole one; the last ends with `to`.
    pub(crate) async fn series(&self, asked: SeriesAsked) -> Result<SeriesReply, OpsError> {
        let device = find(&self.world, &asked.device).await?;
        let to = asked.to.unwrap_or_else(|| self.world.now());
        let from = asked.from.unwrap_or(to.minus(SPAN_DEFAULT));
        let grid = Grid::new(from, to, asked.step)?;
        let curves = Arc::new(Mutex::new(Curves::new(grid, &asked.metrics)));
        let drawn = curves.clone();
        let visit = move |at, samples| {
            drawn.lock().unwrap_or_else(PoisonError::into_inner).add(at, samples);
        };
        self.world.store.scan(device.uid, grid.start(), to, Box::new(visit)).await?;
        let mut curves = curves.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(curves.reply(&asked.metrics))
    }
}

/// The steps of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grid {
    /// The number of the first step, counted from 1970.
    first: i64,
    step_millis: i64,
    steps: u32,
}

impl Grid {
    fn new(from: Timestamp, to: Timestamp, step: Option<Duration>) -> Result<Self, OpsError> {
        if from > to {
            return Err(OpsError::invalid("from", "is after the end"));
        }
        let step = step.unwrap_or_else(|| {
            let secs = to.since(from).as_millis().div_ceil(u128::from(STEPS_DEFAULT * 1_000));
            Duration::from_secs(u64::try_from(secs).unwrap_or(u64::MAX)).max(STEP_MIN)
        });
        if step < STEP_MIN {
            return Err(OpsError::invalid("step", "must be at least 1s"));
        }
        let step_millis = i64::try_from(step.as_millis()).unwrap_or(i64::MAX);
        let (first, last) = (from.millis() / step_millis, to.millis() / step_millis);
        let steps = u32::try_from(last - first + 1).unwrap_or(u32::MAX);
        if steps as usize > SERIES_STEPS_MAX {
            let problem = format!(
                "makes {steps} steps and there may be {SERIES_STEPS_MAX}: ask for longer ones"
            );
            return Err(OpsError::invalid("step", problem));
        }
        Ok(Self { first, step_millis, steps })
    }

    fn start(&self) -> Timestamp {
        Timestamp::from_millis(self.first * self.step_millis)
    }

    /// The step of a time.
    fn place(&self, at: Timestamp) -> Option<u32> {
        let place = u32::try_from(at.millis() / self.step_millis - self.first).ok()?;
        (place < self.steps).then_some(place)
    }
}

/// Curves in the making.
struct Curves {
    grid: Grid,
    /// The metrics' places in the question.
    metrics: HashMap<String, usize>,
    drawn: BTreeMap<(usize, Labels), Vec<Cell>>,
    /// Hashes of the curves that are left out.
    left_out: HashSet<u64>,
    hasher: RandomState,
}

type Labels = Vec<(String, String)>;

impl Curves {
    fn new(grid: Grid, metrics: &[MetricName]) -> Self {
        let places = metrics.iter().enumerate();
        Self {
            grid,
            metrics: places.map(|(place, name)| (name.to_string(), place)).collect(),
            drawn: BTreeMap::new(),
            left_out: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    /// Adds a report that is not older than the last one.
    fn add(&mut self, at: Timestamp, samples: Vec<Sample>) {
        let Some(step) = self.grid.place(at) else { return };
        for Sample { name, labels, value } in samples {
            let Some(metric) = self.metrics.get(&name) else { continue };
            let curve = (*metric, labels);
            let room = self.drawn.len() < SERIES_CURVES_MAX;
            match self.drawn.get_mut(&curve) {
                Some(cells) => add_value(cells, step, value),
                None if room => drop(self.drawn.insert(curve, vec![Cell::new(step, value)])),
                None if self.left_out.len() < LEFT_OUT_MAX => {
                    self.left_out.insert(self.hasher.hash_one(&curve));
                }
                None => {}
            }
        }
    }

    fn reply(&mut self, metrics: &[MetricName]) -> SeriesReply {
        let drawn = std::mem::take(&mut self.drawn).into_iter();
        let series = drawn.map(|((metric, labels), cells)| Series {
            metric: metrics.get(metric).map(ToString::to_string).unwrap_or_default(),
            labels: labels.into_iter().map(|(name, text)| (name, Untrusted::new(text))).collect(),
            points: cells.into_iter().map(Cell::point).collect(),
        });
        SeriesReply {
            from: self.grid.start(),
            step_millis: self.grid.step_millis.unsigned_abs(),
            steps: self.grid.steps,
            series: series.collect(),
            left_out: self.left_out.len() as u32,
        }
    }
}

/// The values of one step.
struct Cell {
    step: u32,
    count: f64,
    mean: f64,
    min: f64,
    max: f64,
}

impl Cell {
    fn new(step: u32, value: f64) -> Self {
        Self { step, count: 1.0, mean: value, min: value, max: value }
    }

    fn add(&mut self, value: f64) {
        self.count += 1.0;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        // Where numbers are so large that their difference is none, an end is near enough.
        let mean = self.mean + (value - self.mean) / self.count;
        self.mean = mean.clamp(self.min, self.max);
    }

    fn point(self) -> SeriesPoint {
        SeriesPoint(self.step, self.mean, self.min, self.max)
    }
}

fn add_value(cells: &mut Vec<Cell>, step: u32, value: f64) {
    match cells.last_mut() {
        Some(last) if last.step == step => last.add(value),
        _ => cells.push(Cell::new(step, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1_000)
    }

    fn names(names: &[&str]) -> Vec<MetricName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn steps_lie_on_multiples_of_themselves() {
        let secs = |secs| Some(Duration::from_secs(secs));
        // From, to, step; first, milliseconds, steps.
        for (from, to, step, found) in [
            (0, 300, None, (0, 1_000, 301)),
            (7, 7, None, (7, 1_000, 1)),
            (0, 301, None, (0, 2_000, 151)),
            (1_000_000, 1_003_600, None, (83_333, 12_000, 301)),
            (119, 241, secs(60), (1, 60_000, 4)),
            (0, 1_999, secs(1), (0, 1_000, 2_000)),
        ] {
            let grid = Grid::new(at(from), at(to), step).unwrap();
            assert_eq!((grid.first, grid.step_millis, grid.steps), found, "{from} {to} {step:?}");
            assert!(grid.place(at(from)) == Some(0) && grid.start() <= at(from));
            assert_eq!(grid.place(at(to)), Some(grid.steps - 1));
        }
        for (from, to, step, problem) in [
            (
                0,
                2_000,
                secs(1),
                "step: makes 2001 steps and there may be 2000: ask for longer ones",
            ),
            (0, 1, Some(Duration::from_millis(999)), "step: must be at least 1s"),
            (0, 1, Some(Duration::ZERO), "step: must be at least 1s"),
            (2, 1, None, "from: is after the end"),
        ] {
            assert_eq!(Grid::new(at(from), at(to), step).unwrap_err().to_string(), problem);
        }
        let ever = Timestamp::from_millis(i64::MAX);
        assert!(Grid::new(at(0), ever, secs(1)).is_err());
        assert!(Grid::new(at(0), ever, Some(fleet_core::time::DURATION_MAX)).is_ok());
        assert!(Grid::new(at(0), ever, None).is_ok());
    }

    #[test]
    fn values_of_a_step_are_drawn_together_and_silence_is_a_gap() {
        let metrics = names(&["b", "a"]);
        let grid = Grid::new(at(0), at(59), Some(Duration::from_secs(10))).unwrap();
        let mut curves = Curves::new(grid, &metrics);
        let core = |core, value| Sample::labelled("a", "core", core, value);
        curves.add(at(0), vec![Sample::new("a", 1.0), core("1", 5.0), core("0", 6.0)]);
        curves.add(at(9), vec![Sample::new("a", 4.0), Sample::new("c", 9.0)]);
        curves.add(at(9), vec![Sample::new("a", 1.0)]);
        curves.add(at(50), vec![Sample::new("a", -1.0), Sample::new("b", 0.5)]);
        curves.add(at(60), vec![Sample::new("b", 7.0)]);
        let reply = curves.reply(&metrics);
        assert_eq!((reply.from, reply.step_millis, reply.steps), (at(0), 10_000, 6));
        let found: Vec<_> = reply
            .series
            .iter()
            .map(|curve| {
                let core = curve.labels.get("core").map(Untrusted::raw);
                (curve.metric.as_str(), core, curve.points.as_slice())
            })
            .collect();
        let point = SeriesPoint;
        assert_eq!(
            found,
            [
                ("b", None, &[point(5, 0.5, 0.5, 0.5)][..]),
                ("a", None, &[point(0, 2.0, 1.0, 4.0), point(5, -1.0, -1.0, -1.0)]),
                ("a", Some("0"), &[point(0, 6.0, 6.0, 6.0)]),
                ("a", Some("1"), &[point(0, 5.0, 5.0, 5.0)]),
            ]
        );
    }

    #[test]
    fn what_is_drawn_is_bounded_and_what_is_not_is_counted() {
        let metrics = names(&["a"]);
        let grid = Grid::new(at(0), at(1), None).unwrap();
        let mut curves = Curves::new(grid, &metrics);
        let samples = |count: usize| {
            (0..count).map(|n| Sample::labelled("a", "n", &n.to_string(), 1.0)).collect()
        };
        curves.add(at(0), samples(SERIES_CURVES_MAX + 3));
        curves.add(at(1), samples(SERIES_CURVES_MAX + 3));
        let reply = curves.reply(&metrics);
        assert_eq!((reply.series.len(), reply.left_out), (SERIES_CURVES_MAX, 3));
        assert!(reply.series.iter().all(|curve| curve.points.len() == 2));
        curves.add(at(0), samples(SERIES_CURVES_MAX + LEFT_OUT_MAX * 2));
        assert_eq!(curves.left_out.len(), LEFT_OUT_MAX);
    }

    #[test]
    fn a_mean_of_numbers_is_a_number_between_them() {
        for values in [[f64::MAX, f64::MAX, f64::MIN], [f64::MIN, f64::MAX, 0.1], [0.1; 3]] {
            let mut cell = Cell::new(0, values[0]);
            values[1..].iter().for_each(|value| cell.add(*value));
            let SeriesPoint(_, mean, min, max) = cell.point();
            assert!(mean.is_finite() && min <= mean && mean <= max, "{values:?}: {mean}");
        }
    }
}
