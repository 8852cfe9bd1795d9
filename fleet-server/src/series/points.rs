//! Values of some series of a device, put together from where they lie: chunks, blocks, tail.
//!
//! Sources are added in the order in which their values arrived; of two values of one series and
//! millisecond the later one holds.

use super::names::SeriesId;

/// Which series are asked for, and which place each has in the answer.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// By the series' number, one more than its place; 0 for what is not wanted.
    places: Vec<u32>,
    series: Vec<SeriesId>,
}

impl Wanted {
    /// Asks for some series; each takes the next place.
    pub(super) fn new(series: impl IntoIterator<Item = SeriesId>) -> Self {
        let series: Vec<_> = series.into_iter().collect();
        let most = series.iter().map(|id| id.0 as usize + 1).max().unwrap_or(0);
        let mut places = vec![0; most];
        for (place, id) in series.iter().enumerate() {
            places[id.0 as usize] = place as u32 + 1;
        }
        Self { places, series }
    }

    /// The place of a series, if it is wanted.
    pub(super) fn place(&self, id: SeriesId) -> Option<usize> {
        let place = *self.places.get(id.0 as usize)?;
        (place > 0).then(|| place as usize - 1)
    }

    /// The wanted series, by place.
    pub(super) fn series(&self) -> &[SeriesId] {
        &self.series
    }
}

/// The values found, by the places of their series.
#[derive(Debug, Default)]
pub(super) struct Points {
    /// Ordered by place.
    curves: Vec<(usize, Curve)>,
}

/// The values of one series, in two columns of one length.
#[derive(Debug, Default)]
pub(super) struct Curve {
    times: Vec<i64>,
    values: Vec<f64>,
    /// Whether some are not later than the one before.
    is_mixed: bool,
}

/// Values with their times: oldest first, one of each millisecond.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Values<'a> {
    pub(super) times: &'a [i64],
    pub(super) values: &'a [f64],
}

impl Points {
    /// The curve of a place, to add values to.
    pub(super) fn curve(&mut self, place: usize) -> &mut Curve {
        let found = self.curves.binary_search_by_key(&place, |(known, _)| *known);
        let at = found.unwrap_or_else(|at| {
            self.curves.insert(at, (place, Curve::default()));
            at
        });
        &mut self.curves[at].1
    }

    /// How many values were added.
    pub(super) fn len(&self) -> usize {
        self.curves.iter().map(|(_, curve)| curve.times.len()).sum()
    }

    /// Adds all values of other points, which came later.
    pub(super) fn extend(&mut self, later: &mut Self) {
        for (place, values) in later.values() {
            self.curve(place).extend(values);
        }
    }

    /// Forgets all values, and keeps the room for others.
    pub(super) fn clear(&mut self) {
        for (_, curve) in &mut self.curves {
            curve.times.clear();
            curve.values.clear();
            curve.is_mixed = false;
        }
    }

    /// The values of each series that has any, by place.
    pub(super) fn values(&mut self) -> impl Iterator<Item = (usize, Values<'_>)> {
        self.curves.iter_mut().filter(|(_, curve)| !curve.times.is_empty()).map(|(place, curve)| {
            curve.tidy();
            (*place, Values { times: &curve.times, values: &curve.values })
        })
    }
}

impl Curve {
    /// Adds a value.
    pub(super) fn add(&mut self, at: i64, value: f64) {
        self.is_mixed |= self.times.last().is_some_and(|last| *last >= at);
        self.times.push(at);
        self.values.push(value);
    }

    /// Adds values.
    pub(super) fn extend(&mut self, Values { times, values }: Values<'_>) {
        let follows = self.times.last().is_none_or(|last| times.first() > Some(last));
        self.is_mixed |= !times.is_empty() && !follows;
        self.times.extend_from_slice(times);
        self.values.extend_from_slice(values);
    }

    fn tidy(&mut self) {
        if !self.is_mixed {
            return;
        }
        let mut all: Vec<(i64, f64)> =
            std::iter::zip(self.times.drain(..), self.values.drain(..)).collect();
        all.sort_by_key(|(at, _)| *at);
        all.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                *kept = *later;
            }
            is_same
        });
        (self.times, self.values) = all.into_iter().unzip();
        self.is_mixed = false;
    }
}

impl<'a> Values<'a> {
    /// How many.
    pub(super) fn len(self) -> usize {
        self.times.len()
    }

    /// All of them.
    pub(super) fn iter(self) -> impl DoubleEndedIterator<Item = (i64, f64)> + use<'a> {
        std::iter::zip(self.times, self.values).map(|(at, value)| (*at, *value))
    }

    /// Those of a time.
    pub(super) fn within(self, from: i64, to: i64) -> Self {
        let first = self.times.partition_point(|at| *at < from);
        let count = self.times[first..].partition_point(|at| *at <= to);
        let of_then = first..first + count;
        Self { times: &self.times[of_then.clone()], values: &self.values[of_then] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_that_came_last_holds() {
        let wanted = Wanted::new([SeriesId(7), SeriesId(2)]);
        assert_eq!(wanted.place(SeriesId(2)), Some(1));
        assert_eq!((wanted.place(SeriesId(3)), wanted.place(SeriesId(99))), (None, None));
        let mut points = Points::default();
        for (at, value) in [(1, 1.0), (3, 3.0), (2, 2.0), (3, 4.0), (3, 5.0)] {
            points.curve(4).add(at, value);
        }
        points.curve(1).add(9, 9.0);
        let values: Vec<_> = points.values().collect();
        let of = |times: &'static [i64], values: &'static [f64]| Values { times, values };
        assert_eq!(values, [(1, of(&[9], &[9.0])), (4, of(&[1, 2, 3], &[1.0, 2.0, 5.0]))]);
        points.clear();
        assert_eq!(points.values().count(), 0);
    }
}
