//! Curves: what a device measured over a time, in steps, read from as coarse values as will do.
//!
//! Whatever tier is chosen, each value is found in exactly one place: in chunks of that tier, or
//! in finer chunks that it does not hold yet, or in memory; or, in hours in which some came again
//! that the tier holds already, where all raw values are (`again`).

use std::sync::Arc;

use fleet_core::id::Uid;
use fleet_core::time::Timestamp;

use super::again::Gathering;
use super::catalog::{Floors, Tier, Unrolled};
use super::chunk::{Chunk, ChunkError, ColumnKey, Part};
use super::engine::Engine;
use super::names::{SeriesId, SeriesName};
use super::points::{Points, Values, Wanted};
use super::query::{each_row, sources};
use super::stat::Stat;
use crate::store::StoreError;

/// Which curves of a device are asked for.
#[derive(Clone, Debug)]
pub struct CurvesAsked {
    /// Whose.
    pub device: Uid,
    /// Of which metrics.
    pub metrics: Vec<String>,
    /// Not before.
    pub from: Timestamp,
    /// Not after.
    pub to: Timestamp,
    /// How long a step of the answer is.
    pub step_millis: i64,
}

/// A curve: its metric's place in the question, its series, and its steps, oldest first, without
/// those in which nothing was measured.
#[derive(Clone, Debug)]
pub struct Curve {
    /// The metric's place in the question.
    pub metric: usize,
    /// The series.
    pub name: Arc<SeriesName>,
    /// The number of each step, counted from 1970, and what is known of its values.
    pub steps: Vec<(i64, Stat)>,
}

/// Curves, and how fine the coarsest values are that they were made of.
#[derive(Clone, Debug)]
pub struct Curves {
    /// The curves, by metric and labels.
    pub curves: Vec<Curve>,
    /// The coarsest values used.
    pub resolution: Tier,
}

impl Engine {
    /// Draws curves.
    pub(crate) fn curves(&self, asked: &CurvesAsked) -> Result<Curves, StoreError> {
        let shared = &self.shared;
        let (wanted, curves) = self.wanted_curves(&asked.metrics);
        let mut drawing = Drawing { curves, step_millis: asked.step_millis.max(1) };
        let floors = shared.floors();
        let tier = choose(&floors, asked.from.millis(), asked.step_millis);
        let (from, to) = (asked.from.millis().max(floors.of(tier)), asked.to.millis());
        let mut resolution = Tier::Raw;
        if wanted.series().is_empty() || from > to {
            return Ok(Curves { curves: Vec::new(), resolution });
        }
        let mut tail = Points::default();
        let mut blocks = Vec::new();
        if let Some(device) = shared.device(asked.device) {
            let head = device.head();
            head.tail_points(&wanted, from, to, &mut tail);
            blocks = head.blocks(from, to);
        }
        let _reading = shared.segments.reading();
        let mut found = shared.catalog.chunks(asked.device, &parts(tier), from, to)?;
        if tier == Tier::Raw {
            // No rows stand for those that are rolled up.
            found.chunks.iter_mut().for_each(|chunk| chunk.is_rolled = false);
        }
        let (raw, rows): (Vec<_>, Vec<_>) =
            sources(&found, &blocks).into_iter().partition(|source| source.tier() == Tier::Raw);
        let gathering = Gathering {
            shared,
            wanted: &wanted,
            times: (from, to),
            sources: &raw,
            // Looked up after the chunks: what was gone by then lies below.
            floor: shared.floors().of(Tier::Raw),
        };
        let (mut points, hours) = gathering.gather(&mut tail, None)?;
        for source in rows {
            resolution = resolution.max(source.tier());
            let counts = |at| (from..=to).contains(&at) && !hours.has(at);
            let read = source.read(shared, &mut |chunk| drawing.add_stats(chunk, &wanted, &counts));
            read.or_else(|unread| shared.pass_over(unread))?;
        }
        for (place, values) in points.values() {
            drawing.add_values(place, values);
        }
        Ok(Curves { curves: drawing.finish(), resolution })
    }

    fn wanted_curves(&self, metrics: &[String]) -> (Wanted, Vec<Curve>) {
        let names = &self.shared.names;
        let mut curves = Vec::new();
        let mut series = Vec::new();
        for (metric, name) in metrics.iter().enumerate() {
            for id in names.series_of(name) {
                if let Some(name) = names.name(id) {
                    curves.push(Curve { metric, name, steps: Vec::new() });
                    series.push(id);
                }
            }
        }
        (Wanted::new(series), curves)
    }
}

/// The coarsest tier that has two rows or more for each step, unless its values of that time are
/// gone already: then one that still has them, or as many of them as any.
fn choose(floors: &Floors, from: i64, step_millis: i64) -> Tier {
    let fits = |tier: &Tier| tier.step_millis() * 2 <= step_millis;
    let tier = Tier::ALL.into_iter().rev().find(fits).unwrap_or(Tier::Raw);
    let floor = |tier: &Tier| floors.of(*tier).max(from);
    Tier::ALL.into_iter().filter(|coarser| *coarser >= tier).min_by_key(floor).unwrap_or(tier)
}

/// Where each value is, as seen from a tier: once, besides all raw chunks that there are.
fn parts(tier: Tier) -> Vec<(Tier, Unrolled)> {
    let unrolled = |finer: Tier| match finer {
        Tier::Raw => (finer, Unrolled::All),
        _ => (finer, Unrolled::Only),
    };
    let finer = Tier::ALL.into_iter().filter(|finer| *finer < tier);
    finer.map(unrolled).chain([(tier, Unrolled::All)]).collect()
}

/// Curves in the making.
struct Drawing {
    curves: Vec<Curve>,
    step_millis: i64,
}

impl Drawing {
    /// Adds values.
    fn add_values(&mut self, place: usize, Values { mut times, mut values }: Values<'_>) {
        while let Some(at) = times.first() {
            let step = at.div_euclid(self.step_millis);
            let end = step.saturating_add(1).saturating_mul(self.step_millis);
            let count = times.iter().take_while(|at| **at < end).count().max(1);
            let of_step;
            (of_step, values) = values.split_at(count);
            times = &times[count..];
            if let Some(stat) = of_step.iter().copied().map(Stat::of).reduce(Stat::with) {
                self.add(place, step, stat);
            }
        }
    }

    fn add(&mut self, place: usize, step: i64, stat: Stat) {
        let steps = &mut self.curves[place].steps;
        match steps.last_mut() {
            Some((last, known)) if *last == step => *known = known.with(stat),
            Some((last, _)) if *last > step => {
                match steps.binary_search_by_key(&step, |(known, _)| *known) {
                    Ok(found) => steps[found].1 = steps[found].1.with(stat),
                    Err(missing) => steps.insert(missing, (step, stat)),
                }
            }
            _ => steps.push((step, stat)),
        }
    }

    /// Adds the rows of a chunk of a coarser tier that count.
    fn add_stats(
        &mut self,
        chunk: &Chunk<'_>,
        wanted: &Wanted,
        counts: &dyn Fn(i64) -> bool,
    ) -> Result<(), ChunkError> {
        each_stat(
            chunk,
            |series| wanted.place(series),
            |place, at, stat| {
                if counts(at) {
                    self.add(place, at.div_euclid(self.step_millis), stat);
                }
            },
        )
    }

    fn finish(self) -> Vec<Curve> {
        let mut drawn: Vec<Curve> =
            self.curves.into_iter().filter(|curve| !curve.steps.is_empty()).collect();
        drawn.sort_by(|a, b| (a.metric, &a.name.labels).cmp(&(b.metric, &b.name.labels)));
        drawn
    }
}

/// Shows the rows of a chunk of a coarser tier, of the series that have a place.
pub(super) fn each_stat(
    chunk: &Chunk<'_>,
    place: impl Fn(SeriesId) -> Option<usize>,
    mut show: impl FnMut(usize, i64, Stat),
) -> Result<(), ChunkError> {
    let times = chunk.times()?;
    let minima: Vec<ColumnKey> = chunk.keys().filter(|key| key.part == Part::Min).collect();
    for key in minima {
        let Some(place) = place(SeriesId(key.series)) else { continue };
        let (mut min, mut max, mut sum, mut count) = (vec![], vec![], vec![], vec![]);
        let part = |part| ColumnKey { part, ..key };
        let Some(rows) = chunk.values(key, &mut min)? else { continue };
        for (part, values) in [
            (part(Part::Max), &mut max),
            (part(Part::Sum), &mut sum),
            (part(Part::Count), &mut count),
        ] {
            chunk.values(part, values)?;
        }
        // All four are written together; if they are not alike, nothing can be said.
        if [max.len(), sum.len(), count.len()] != [min.len(); 3] {
            return Err(ChunkError::Column(key));
        }
        let mut rest = max.iter().zip(&sum).zip(&count);
        each_row(&times, &rows, &min, |at, min| {
            if let Some(((max, sum), count)) = rest.next() {
                show(place, at, Stat { min, max: *max, sum: *sum, count: *count });
            }
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarsest_values_that_will_do_are_read() {
        let mut floors = Floors::default();
        let minute = 60_000;
        for (step, tier) in [
            (1_000, Tier::Raw),
            (119_999, Tier::Raw),
            (2 * minute, Tier::Minute),
            (19 * minute, Tier::Minute),
            (20 * minute, Tier::TenMinutes),
            (120 * minute, Tier::Hour),
        ] {
            assert_eq!(choose(&floors, 0, step), tier, "{step}");
        }
        floors.raise(Tier::Raw, 100);
        floors.raise(Tier::Minute, 50);
        assert_eq!(choose(&floors, 100, 1), Tier::Raw);
        assert_eq!(choose(&floors, 60, 1), Tier::Minute);
        assert_eq!(choose(&floors, 0, 1), Tier::TenMinutes);
        floors.raise(Tier::TenMinutes, 20);
        floors.raise(Tier::Hour, 10);
        assert_eq!(choose(&floors, 0, 1), Tier::Hour, "no coarser one is left");
        let mut floors = Floors::default();
        for tier in Tier::ALL {
            floors.raise(tier, 100);
        }
        assert_eq!(choose(&floors, 0, 1), Tier::Raw, "no coarser one has more");
    }

    #[test]
    fn each_value_is_in_one_place() {
        assert_eq!(parts(Tier::Raw), [(Tier::Raw, Unrolled::All)]);
        let expected = [
            (Tier::Raw, Unrolled::All),
            (Tier::Minute, Unrolled::Only),
            (Tier::TenMinutes, Unrolled::All),
        ];
        assert_eq!(parts(Tier::TenMinutes), expected);
    }
}
