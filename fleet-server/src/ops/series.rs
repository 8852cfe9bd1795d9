//! Curves: a device's reports of a time, drawn together into equal steps.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_core::api::{Series, SeriesPoint, SeriesReply};
use fleet_core::limits::{SERIES_CURVES_MAX, SERIES_STEPS_MAX};
use fleet_core::metric::MetricName;
use fleet_core::time::Timestamp;
use fleet_core::untrusted::Untrusted;

use super::devices::find_listed;
use super::{Access, OpsError, Telemetry};
use crate::labels;
use crate::store::{Curve, Curves, CurvesAsked, Stat, Tier};

/// The time that is shown unless told otherwise.
const SPAN_DEFAULT: Duration = Duration::from_secs(300);
/// Steps of that time unless told otherwise, about.
const STEPS_DEFAULT: u64 = 300;
/// The shortest step: nobody reports more often.
const STEP_MIN: Duration = Duration::from_secs(1);

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
    /// Curves of some metrics of a device, and how fine the values are that they were drawn from.
    /// The first step is a whole one; the last ends with `to`.
    pub(crate) async fn series(
        &self,
        access: &Access,
        asked: SeriesAsked,
    ) -> Result<(SeriesReply, Tier), OpsError> {
        let (uid, _) = find_listed(&self.world, access, &asked.device)?;
        let to = asked.to.unwrap_or_else(|| self.world.now());
        let from = asked.from.unwrap_or(to.minus(SPAN_DEFAULT));
        let grid = Grid::new(from, to, asked.step)?;
        let question = CurvesAsked {
            device: uid,
            metrics: asked.metrics.iter().map(ToString::to_string).collect(),
            from: grid.start(),
            to,
            step_millis: grid.step_millis,
        };
        let Curves { curves, resolution } = self.world.store.curves(question).await?;
        Ok((reply(grid, &asked.metrics, curves), resolution))
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
}

/// The curves as the question's answer; further ones than fit are left out and counted.
fn reply(grid: Grid, metrics: &[MetricName], curves: Vec<Curve>) -> SeriesReply {
    let left_out = curves.len().saturating_sub(SERIES_CURVES_MAX) as u32;
    let series = curves.into_iter().take(SERIES_CURVES_MAX).map(|curve| Series {
        metric: metrics.get(curve.metric).map(ToString::to_string).unwrap_or_default(),
        labels: labels_of(&curve),
        points: curve.steps.iter().filter_map(|(step, stat)| point(grid, *step, stat)).collect(),
    });
    SeriesReply {
        from: grid.start(),
        step_millis: grid.step_millis.unsigned_abs(),
        steps: grid.steps,
        series: series.collect(),
        left_out,
    }
}

fn labels_of(curve: &Curve) -> BTreeMap<String, Untrusted> {
    let labels = curve.name.labels.iter();
    let text = |text: &str| Untrusted::new(labels::plain(text).into_owned());
    labels.map(|(name, label)| (name.clone(), text(label))).collect()
}

fn point(grid: Grid, step: i64, stat: &Stat) -> Option<SeriesPoint> {
    let place = u32::try_from(step - grid.first).ok().filter(|place| *place < grid.steps)?;
    Some(SeriesPoint(place, stat.mean(), stat.min, stat.max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1_000)
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
            assert!(grid.start() <= at(from));
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
}
