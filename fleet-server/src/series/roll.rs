//! Rolling up: what is old enough is kept more coarsely too.
//!
//! The rows of a tier are additive, and a chunk is marked as rolled in the same commit that adds
//! the coarser chunk. So each value is counted once, however often this is interrupted and however
//! late values come.

use std::collections::BTreeMap;

use fleet_core::Chain;
use fleet_core::id::Uid;

use super::catalog::{Change, ChunkRef, Tier, Unrolled};
use super::chunk::{self, Chunk, ChunkError, Column, ColumnKey, Effort, Part, Rows, Table};
use super::curves::each_stat;
use super::engine::{Engine, Shared};
use super::names::SeriesId;
use super::number::Number;
use super::points::{Points, Wanted};
use super::query::{add_chunk, read_chunk};
use super::segments::{Ends, Segments};
use super::stat::Stat;
use crate::store::{Failure, StoreError};

/// Series of one coarser chunk, each of which has four columns there, and its steps: within what a
/// chunk can hold.
const SERIES_OF_A_TABLE: usize = 500;
const STEPS_OF_A_TABLE: usize = 2_000;
const _: () = assert!(SERIES_OF_A_TABLE * 4 <= chunk::COLUMNS_MAX);
const _: () = assert!(SERIES_OF_A_TABLE * 4 * STEPS_OF_A_TABLE <= chunk::NUMBERS_MAX);
/// Chunks that are rolled up with one commit.
const CHUNKS_AT_ONCE: usize = 1_000;

impl Engine {
    /// Rolls up the chunks of a tier that have no values from a time on. Returns how many.
    pub(crate) fn roll(&self, tier: Tier, before: i64) -> Result<usize, StoreError> {
        let Some(coarser) = tier.coarser() else { return Ok(0) };
        let mut rolled = 0;
        loop {
            let shared = &self.shared;
            // Listed while nobody adds or removes chunks: others may have rolled or removed them.
            let mut ends = shared.ends();
            let old = shared.catalog.chunks_before(tier, Unrolled::Only, before, CHUNKS_AT_ONCE)?;
            if old.is_empty() {
                return Ok(rolled);
            }
            rolled += old.len();
            let mut devices: BTreeMap<Uid, Vec<ChunkRef>> = BTreeMap::new();
            for chunk in old {
                devices.entry(chunk.device).or_default().push(chunk);
            }
            shared.roll(&mut ends, coarser, devices)?;
        }
    }
}

impl Shared {
    /// Makes coarser chunks of some devices' chunks, with one commit.
    fn roll(
        &self,
        ends: &mut Ends,
        to: Tier,
        devices: BTreeMap<Uid, Vec<ChunkRef>>,
    ) -> Result<(), StoreError> {
        let mut change = Change::default();
        for (device, mut chunks) in devices {
            chunks.sort_unstable_by_key(|chunk| (chunk.segment, chunk.offset));
            for table in self.coarser(to, &chunks) {
                let appended = self.segments.append(ends, to, &chunk::encode(&table, Effort::Best));
                let place = appended.map_err(|error| {
                    Segments::abandon(ends);
                    Failure::Storage(error.into())
                })?;
                change.added.push(ChunkRef {
                    device,
                    tier: to,
                    first_at: table.times[0],
                    last_at: table.times[table.times.len() - 1],
                    segment: place.segment,
                    offset: place.offset,
                    bytes: place.bytes,
                    rows: table.times.len() as u32,
                    is_rolled: false,
                });
            }
            change.rolled.extend(chunks);
        }
        let safe = Segments::sync(ends);
        safe.map_err(|error| StoreError::from(Failure::Storage(error.into())))
            .and_then(|()| self.catalog.commit(change))
            .map(drop)
            .inspect_err(|error| {
                tracing::warn!(error = %Chain(error), "telemetry was not rolled up");
                Segments::abandon(ends);
            })
    }

    /// The rows of a coarser tier from a device's chunks. What is damaged is left out.
    fn coarser(&self, to: Tier, chunks: &[ChunkRef]) -> Vec<Table> {
        let mut rolling = Rolling::default();
        let mut raw = Points::default();
        // All series, whatever their numbers.
        let everything = Wanted::new((0..self.names.len() as u32).map(SeriesId));
        for chunk in chunks {
            let from_tier = chunk.tier;
            let read = read_chunk(self, chunk, &mut |chunk| {
                rolling.note_scales(chunk)?;
                match from_tier {
                    Tier::Raw => add_chunk(chunk, &everything, i64::MIN, i64::MAX, &mut raw),
                    _ => each_stat(
                        chunk,
                        |series| Some(series.0 as usize),
                        |series, at, stat| {
                            rolling.add(to, series as u32, at, stat);
                        },
                    ),
                }
            });
            if let Err(damage) = read {
                self.note_damage(damage);
            }
        }
        for (series, values) in raw.values() {
            for (at, value) in values {
                rolling.add(to, series as u32, *at, Stat::of(*value));
            }
        }
        rolling.tables()
    }
}

/// Rows of a coarser tier in the making.
#[derive(Default)]
struct Rolling {
    /// By series and step.
    stats: BTreeMap<(u32, i64), Stat>,
    /// How many digits after the point a series' values have.
    scales: BTreeMap<u32, u8>,
}

impl Rolling {
    fn add(&mut self, tier: Tier, series: u32, at: i64, stat: Stat) {
        let step = at.div_euclid(tier.step_millis()) * tier.step_millis();
        let known = self.stats.entry((series, step));
        known.and_modify(|known| *known = known.with(stat)).or_insert(stat);
    }

    fn note_scales(&mut self, chunk: &Chunk<'_>) -> Result<(), ChunkError> {
        let keys: Vec<ColumnKey> = chunk.keys().collect();
        for key in keys.into_iter().filter(|key| matches!(key.part, Part::Value | Part::Sum)) {
            let Some(column) = chunk.column(key)? else { continue };
            let scales = column.numbers.iter().filter_map(|number| number.decimal());
            if let Some(scale) = scales.map(|(_, scale)| scale).max() {
                let known = self.scales.entry(key.series).or_default();
                *known = (*known).max(scale);
            }
        }
        Ok(())
    }

    /// The rows in tables of a size that a chunk can have.
    fn tables(self) -> Vec<Table> {
        let mut series: Vec<u32> = self.stats.keys().map(|(series, _)| *series).collect();
        series.dedup();
        series.chunks(SERIES_OF_A_TABLE).flat_map(|series| self.tables_of(series)).collect()
    }

    fn tables_of(&self, series: &[u32]) -> Vec<Table> {
        let wanted = self.stats.keys().filter(|(known, _)| series.binary_search(known).is_ok());
        let mut steps: Vec<i64> = wanted.map(|(_, step)| *step).collect();
        steps.sort_unstable();
        steps.dedup();
        let table = |steps: &[i64]| Table {
            times: steps.to_vec(),
            columns: series.iter().flat_map(|series| self.columns(*series, steps)).collect(),
        };
        steps.chunks(STEPS_OF_A_TABLE).map(table).collect()
    }

    fn columns(&self, series: u32, steps: &[i64]) -> Vec<Column> {
        let (mut places, mut stats) = (Vec::new(), Vec::new());
        for (place, step) in steps.iter().enumerate() {
            if let Some(stat) = self.stats.get(&(series, *step)) {
                places.push(place as u32);
                stats.push(*stat);
            }
        }
        if stats.is_empty() {
            return Vec::new();
        }
        let rows = if places.len() == steps.len() { Rows::All } else { Rows::Some(places) };
        let scale = self.scales.get(&series).copied().unwrap_or(0);
        let column = |part, of: fn(&Stat, u8) -> Number| Column {
            key: ColumnKey { series, part },
            rows: rows.clone(),
            numbers: stats.iter().map(|stat| of(stat, scale)).collect(),
        };
        vec![
            column(Part::Min, |stat, scale| Number::near(stat.min, scale)),
            column(Part::Max, |stat, scale| Number::near(stat.max, scale)),
            column(Part::Sum, |stat, scale| sum(stat.sum, scale)),
            column(Part::Count, |stat, _| Number::new(stat.count)),
        ]
    }
}

/// A sum of decimals without what adding them as floats has left behind their last digit.
fn sum(sum: f64, scale: u8) -> Number {
    let power = 10_f64.powi(scale.into());
    let rounded = (sum * power).round() / power;
    let is_near = (rounded - sum).abs() <= sum.abs() * 1e-9;
    Number::near(if is_near { rounded } else { sum }, scale)
}
