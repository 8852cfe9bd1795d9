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

/// The values of one series.
#[derive(Debug)]
pub(super) struct Curve {
    values: Vec<(i64, f64)>,
    /// Whether each is later than the one before.
    is_sorted: bool,
}

impl Points {
    /// The curve of a place, to add values to.
    pub(super) fn curve(&mut self, place: usize) -> &mut Curve {
        let found = self.curves.binary_search_by_key(&place, |(known, _)| *known);
        let at = found.unwrap_or_else(|at| {
            self.curves.insert(at, (place, Curve { values: Vec::new(), is_sorted: true }));
            at
        });
        &mut self.curves[at].1
    }

    /// How many values were added.
    pub(super) fn len(&self) -> usize {
        self.curves.iter().map(|(_, curve)| curve.values.len()).sum()
    }

    /// Adds all values of other points, which came later.
    pub(super) fn extend(&mut self, later: &mut Self) {
        for (place, values) in later.values() {
            let curve = self.curve(place);
            curve.reserve(values.len());
            for (at, value) in values {
                curve.add(*at, *value);
            }
        }
    }

    /// Forgets all values, and keeps the room for others.
    pub(super) fn clear(&mut self) {
        for (_, curve) in &mut self.curves {
            curve.values.clear();
            curve.is_sorted = true;
        }
    }

    /// The values of each series that has any, by place; oldest first, one of each millisecond.
    pub(super) fn values(&mut self) -> impl Iterator<Item = (usize, &[(i64, f64)])> {
        self.curves.iter_mut().filter(|(_, curve)| !curve.values.is_empty()).map(
            |(place, curve)| {
                curve.tidy();
                (*place, curve.values.as_slice())
            },
        )
    }
}

impl Curve {
    /// Makes room for so many more values, or for as many again as there are.
    pub(super) fn reserve(&mut self, values: usize) {
        self.values.reserve(values);
    }

    /// Adds a value.
    pub(super) fn add(&mut self, at: i64, value: f64) {
        self.is_sorted &= self.values.last().is_none_or(|(last, _)| *last < at);
        self.values.push((at, value));
    }

    fn tidy(&mut self) {
        if self.is_sorted {
            return;
        }
        self.values.sort_by_key(|(at, _)| *at);
        self.values.dedup_by(|later, kept| {
            let is_same = later.0 == kept.0;
            if is_same {
                *kept = *later;
            }
            is_same
        });
        self.is_sorted = true;
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
        assert_eq!(values, [(1, &[(9, 9.0)][..]), (4, &[(1, 1.0), (2, 2.0), (3, 5.0)][..])]);
        points.clear();
        assert_eq!(points.values().count(), 0);
    }
}
