//! A curve: the points of one metric by time, a bounded number of them.
//!
//! Where nothing was measured there is nothing: two points that lie further apart than their device
//! reports are not of one line. How far that is shows in the points themselves, because a device that
//! is watched reports every second and one that is not once a minute.

use std::collections::VecDeque;
use std::time::Duration;

use fleet_core::limits::SERIES_STEPS_MAX;
use fleet_core::time::Timestamp;

/// Points that a curve keeps; the oldest give way.
const POINTS_MAX: usize = SERIES_STEPS_MAX;
/// No answer takes longer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// A point may come so many times later than the one before it did.
const LATE: f64 = 2.5;
/// A shorter silence is none: a busy device leaves out a second or two.
const SILENCE_MIN: Duration = Duration::from_secs(5);
/// A step without a point is a gap, two halves of one are not.
const SKIPPED: f64 = 1.5;

/// What was measured at a time, or in a step around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When.
    pub at: Timestamp,
    /// The mean.
    pub mean: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

/// How often points can be expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// Between the device's reports.
    pub interval: Duration,
    /// Between the steps in which reports are drawn together.
    pub step: Duration,
}

/// The points of one metric.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    points: VecDeque<Point>,
}

/// What a time's points come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The mean of the means.
    pub mean: f64,
    /// The highest of all.
    pub max: f64,
}

impl Point {
    /// A single value.
    pub fn new(at: Timestamp, value: f64) -> Self {
        Self { at, mean: value, min: value, max: value }
    }
}

impl Rhythm {
    /// How far apart two points of one line can be.
    pub fn reach(&self) -> Duration {
        self.step.mul_f64(SKIPPED).max(self.interval.mul_f64(LATE))
    }
}

impl Curve {
    /// Takes other points, which are in order. Of those before only the ones stay that came after
    /// `until` while the others were asked for.
    pub fn replace(&mut self, points: Vec<Point>, until: Timestamp) {
        let meanwhile = until..=until.plus(ANSWER_TIME_MAX);
        let newer = self.points.iter().filter(|point| meanwhile.contains(&point.at));
        let newer: Vec<_> = newer.copied().collect();
        self.points.clear();
        points.into_iter().chain(newer).for_each(|point| self.push(point));
    }

    /// Takes a point, if it is newer than all others.
    pub fn push(&mut self, point: Point) {
        let is_newer = self.points.back().is_none_or(|last| last.at < point.at);
        if !is_newer || ![point.mean, point.min, point.max].iter().all(|value| value.is_finite()) {
            return;
        }
        if self.points.len() == POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    /// Whether there are no points.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The newest point.
    pub fn newest(&self) -> Option<Point> {
        self.points.back().copied()
    }

    /// The point that tells of a time: the nearest of the two that a line joins there; beside a gap
    /// one that is not more than a step away; at the end the newest, as long as it holds.
    pub fn near(&self, at: Timestamp, rhythm: Rhythm) -> Option<Point> {
        let place = self.points.partition_point(|point| point.at < at);
        let before = place.checked_sub(1).and_then(|place| self.points.get(place));
        let after = self.points.get(place);
        let reach = match (before, after) {
            (Some(_), Some(_)) if self.is_joined(place, rhythm) => Duration::MAX,
            (_, Some(_)) => rhythm.step,
            (_, None) => rhythm.reach(),
        };
        let nearest = before.into_iter().chain(after).min_by_key(|point| apart(point.at, at));
        nearest.filter(|point| apart(point.at, at) <= reach).copied()
    }

    /// The points of a time, both ends included.
    pub fn within(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = &Point> {
        let first = self.points.partition_point(|point| point.at < from);
        let end = self.points.partition_point(|point| point.at <= to).max(first);
        self.points.range(first..end)
    }

    /// What the points of a time come to; nothing if there are none.
    pub fn summary(&self, from: Timestamp, to: Timestamp) -> Option<Summary> {
        let mut summary: Option<Summary> = None;
        let mut count = 0.0;
        for point in self.within(from, to) {
            count += 1.0;
            let so_far = summary.get_or_insert(Summary { mean: 0.0, max: point.max });
            so_far.mean += (point.mean - so_far.mean) / count;
            so_far.max = so_far.max.max(point.max);
        }
        summary
    }

    /// The lines of a time: points that follow one another as they should. One point beyond either
    /// end belongs to them, so that a line does not end before its picture does.
    pub fn lines(&self, from: Timestamp, to: Timestamp, rhythm: Rhythm) -> Vec<Vec<Point>> {
        let first = self.points.partition_point(|point| point.at < from).saturating_sub(1);
        let end = self.points.partition_point(|point| point.at <= to) + 1;
        let mut lines: Vec<Vec<Point>> = Vec::new();
        for place in first..end.min(self.points.len()) {
            let point = self.points[place];
            match lines.last_mut() {
                Some(line) if place > first && self.is_joined(place, rhythm) => line.push(point),
                _ => lines.push(vec![point]),
            }
        }
        lines.retain(|line| {
            line.iter().any(|point| (from..=to).contains(&point.at)) || line.len() > 1
        });
        lines
    }

    /// Whether the point at a place is of one line with the one before it.
    fn is_joined(&self, place: usize, rhythm: Rhythm) -> bool {
        let spacing = |place: usize| {
            let earlier = self.points.get(place.checked_sub(1)?)?;
            Some(self.points.get(place)?.at.since(earlier.at))
        };
        let Some(apart) = spacing(place) else { return false };
        let around = [place.checked_sub(1), Some(place + 1)];
        let around = around.map(|place| place.and_then(spacing).unwrap_or(rhythm.interval));
        let usual = around[0].max(around[1]).max(rhythm.step);
        apart <= rhythm.reach() && apart <= usual.mul_f64(LATE).max(SILENCE_MIN)
    }
}

fn apart(a: Timestamp, b: Timestamp) -> Duration {
    a.since(b).max(b.since(a))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RHYTHM: Rhythm =
        Rhythm { interval: Duration::from_secs(60), step: Duration::from_secs(1) };

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1_000)
    }

    fn curve(secs: &[i64]) -> Curve {
        let mut curve = Curve::default();
        for secs in secs {
            curve.push(Point::new(at(*secs), *secs as f64));
        }
        curve
    }

    fn lines(secs: &[i64], rhythm: Rhythm) -> Vec<Vec<i64>> {
        let lines = curve(secs).lines(at(0), at(100_000), rhythm);
        let secs = |line: Vec<Point>| line.iter().map(|point| point.at.millis() / 1_000).collect();
        lines.into_iter().map(secs).collect()
    }

    #[test]
    fn silence_is_a_gap_and_a_change_of_rhythm_is_none() {
        // Once a minute, then watched.
        assert_eq!(lines(&[0, 60, 120, 150, 151, 152], RHYTHM).len(), 1);
        // Watched, then no more.
        assert_eq!(lines(&[0, 1, 2, 62, 122], RHYTHM).len(), 1);
        // A late report is no gap, a missing minute or two are.
        assert_eq!(lines(&[0, 60, 125, 185], RHYTHM).len(), 1);
        assert_eq!(lines(&[0, 60, 300, 360], RHYTHM), [[0, 60], [300, 360]]);
        // While it is watched, half a minute is a long time.
        assert_eq!(lines(&[0, 1, 2, 30, 31, 32], RHYTHM), [[0, 1, 2], [30, 31, 32]]);
        assert_eq!(lines(&[0, 1, 5, 6], RHYTHM).len(), 1);
        // In longer steps one without a point is a gap, if it had room for several reports.
        let long = Rhythm { step: Duration::from_secs(300), ..RHYTHM };
        assert_eq!(lines(&[0, 300, 900, 1_200], long), [[0, 300], [900, 1_200]]);
    }

    #[test]
    fn what_is_not_newer_or_no_number_is_not_taken() {
        let mut curve = curve(&[1, 2]);
        for point in [Point::new(at(2), 0.0), Point::new(at(1), 0.0), Point::new(at(9), f64::NAN)] {
            curve.push(point);
        }
        assert_eq!(curve.newest(), Some(Point::new(at(2), 2.0)));
    }

    #[test]
    fn an_answer_replaces_what_it_covers() {
        let mut curve = curve(&[1, 2, 3, 9, 900]);
        curve.replace(vec![Point::new(at(0), 7.0), Point::new(at(4), 8.0)], at(4));
        let found: Vec<_> = curve.within(at(0), at(99)).map(|point| point.mean as i64).collect();
        assert_eq!(found, [7, 8, 9]);
    }

    #[test]
    fn a_time_has_a_mean_a_highest_and_a_nearest() {
        let mut curve = curve(&[10, 20]);
        curve.push(Point { at: at(30), mean: 30.0, min: 1.0, max: 90.0 });
        assert_eq!(curve.summary(at(0), at(25)), Some(Summary { mean: 15.0, max: 20.0 }));
        assert_eq!(curve.summary(at(15), at(99)), Some(Summary { mean: 25.0, max: 90.0 }));
        assert_eq!(curve.summary(at(31), at(99)), None);
    }

    #[test]
    fn a_time_is_told_by_the_nearest_point_but_never_over_a_gap() {
        let near = |secs: &[i64], at_secs| {
            curve(secs).near(at(at_secs), RHYTHM).map(|point| point.at.millis() / 1_000)
        };
        let reports = [0, 60, 120, 600, 660];
        for (at, found) in [
            (29, Some(0)),
            (31, Some(60)),
            (121, Some(120)),
            (122, None),
            (360, None),
            (599, Some(600)),
            (700, Some(660)),
            (900, None),
        ] {
            assert_eq!(near(&reports, at), found, "{at}");
        }
        assert_eq!(near(&[], 5), None);
        assert_eq!(near(&[10], 5), None);
    }

    proptest! {
        #[test]
        fn lines_hold_every_point_of_their_time_once(
            mut secs in prop::collection::vec(0..5_000_i64, 0..200),
            from in 0..5_000_i64,
            span in 0..5_000_i64,
        ) {
            secs.sort_unstable();
            let curve = curve(&secs);
            let (from, to) = (at(from), at(from + span));
            let inside = |point: &&Point| (from..=to).contains(&point.at);
            let lines = curve.lines(from, to, RHYTHM);
            let found: Vec<_> = lines.iter().flatten().filter(inside).collect();
            prop_assert_eq!(found, curve.within(from, to).collect::<Vec<_>>());
            prop_assert!(lines.iter().all(|line| !line.is_empty()));
        }

        #[test]
        fn a_curve_is_bounded(count in 0..3_000_i64) {
            let secs: Vec<_> = (0..count).collect();
            prop_assert_eq!(curve(&secs).points.len(), (count as usize).min(POINTS_MAX));
        }
    }
}
