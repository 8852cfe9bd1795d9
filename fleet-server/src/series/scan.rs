//! Reading everything of a device as the reports that came in, a bounded part at a time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fleet_core::id::Uid;
use fleet_core::limits::REPORT_SAMPLES_MAX;
use fleet_core::metric::Sample;
use fleet_core::time::Timestamp;

use super::catalog::{Tier, Unrolled};
use super::chunk::{Chunk, ChunkError, ColumnKey, Part};
use super::engine::{Engine, Shared};
use super::names::{SeriesId, SeriesName};
use super::query::{each_row, sources};
use crate::store::StoreError;

impl Engine {
    /// Shows a device's reports of a time, oldest first, one of each millisecond.
    pub(crate) fn scan(
        &self,
        device: Uid,
        from: Timestamp,
        to: Timestamp,
        mut visit: impl FnMut(Timestamp, Vec<Sample>),
    ) -> Result<(), StoreError> {
        let shared = &self.shared;
        let (from, to) = (from.millis().max(shared.floors().of(Tier::Raw)), to.millis());
        if from > to {
            return Ok(());
        }
        let mut rows = Gathering::default();
        let mut blocks = Vec::new();
        if let Some(device) = shared.device(device) {
            let head = device.head();
            blocks = head.blocks(from, to);
            head.tail_rows(from, to, |at, values| {
                rows.add(u64::MAX, at, values.map(|(series, number)| (series, number.get())));
            });
        }
        let _reading = shared.segments.reading();
        let found = shared.catalog.chunks(device, &[(Tier::Raw, Unrolled::All)], from, to)?;
        let mut sources: Vec<_> = sources(&found, &blocks).into_iter().enumerate().collect();
        sources.sort_by_key(|(_, source)| source.first_at());
        let mut names = NameCache::new(shared);
        for (order, source) in sources {
            rows.show_before(source.first_at(), &mut names, &mut visit);
            let added =
                source.read(shared, &mut |chunk| rows.add_chunk(order as u64, chunk, from, to));
            added.or_else(|unread| shared.pass_over(unread))?;
        }
        rows.show_before(i64::MAX, &mut names, &mut visit);
        rows.show_at(i64::MAX, &mut names, &mut visit);
        Ok(())
    }
}

/// Rows in the making, from sources whose times overlap.
#[derive(Default)]
struct Gathering {
    rows: BTreeMap<i64, Vec<Found>>,
}

/// A value, and which of the sources it is from: the later ones have higher numbers.
struct Found {
    series: SeriesId,
    order: u64,
    value: f64,
}

impl Gathering {
    /// Adds a row's values.
    fn add(&mut self, order: u64, at: i64, values: impl Iterator<Item = (SeriesId, f64)>) {
        let row = self.rows.entry(at).or_default();
        row.extend(values.map(|(series, value)| Found { series, order, value }));
    }

    fn add_chunk(
        &mut self,
        order: u64,
        chunk: &Chunk<'_>,
        from: i64,
        to: i64,
    ) -> Result<(), ChunkError> {
        let times = chunk.times()?;
        let (mut values, keys) = (Vec::new(), chunk.keys());
        let keys: Vec<ColumnKey> = keys.filter(|key| key.part == Part::Value).collect();
        for at in times.iter().filter(|at| (from..=to).contains(at)) {
            self.rows.entry(*at).or_default();
        }
        for key in keys {
            values.clear();
            let Some(rows) = chunk.values(key, &mut values)? else { continue };
            each_row(&times, &rows, &values, |at, value| {
                if let Some(row) = self.rows.get_mut(&at) {
                    row.push(Found { series: SeriesId(key.series), order, value });
                }
            });
        }
        Ok(())
    }

    /// Shows the rows before a time, to which nothing can be added any more.
    fn show_before(
        &mut self,
        time: i64,
        names: &mut NameCache<'_>,
        visit: &mut impl FnMut(Timestamp, Vec<Sample>),
    ) {
        let later = self.rows.split_off(&time);
        for (at, row) in std::mem::replace(&mut self.rows, later) {
            show(at, row, names, visit);
        }
    }

    fn show_at(
        &mut self,
        time: i64,
        names: &mut NameCache<'_>,
        visit: &mut impl FnMut(Timestamp, Vec<Sample>),
    ) {
        if let Some(row) = self.rows.remove(&time) {
            show(time, row, names, visit);
        }
    }
}

/// Shows a row in reports of a size that they can have. Of one series the value that came last
/// holds.
fn show(
    at: i64,
    mut row: Vec<Found>,
    names: &mut NameCache<'_>,
    visit: &mut impl FnMut(Timestamp, Vec<Sample>),
) {
    row.sort_by_key(|found| (found.series, found.order));
    row.dedup_by(|later, kept| {
        let is_same = later.series == kept.series;
        if is_same {
            kept.value = later.value;
        }
        is_same
    });
    if row.is_empty() {
        visit(Timestamp::from_millis(at), Vec::new());
    }
    for piece in row.chunks(REPORT_SAMPLES_MAX) {
        visit(Timestamp::from_millis(at), names.samples(piece));
    }
}

/// Names that were looked up.
struct NameCache<'a> {
    shared: &'a Shared,
    known: HashMap<SeriesId, Option<Arc<SeriesName>>>,
}

impl<'a> NameCache<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self { shared, known: HashMap::new() }
    }

    fn samples(&mut self, row: &[Found]) -> Vec<Sample> {
        let sample = |found: &Found| {
            let lookup = || self.shared.names.name(found.series);
            let name = self.known.entry(found.series).or_insert_with(lookup);
            name.as_ref().map(|name| name.sample(found.value))
        };
        row.iter().filter_map(sample).collect()
    }
}
