//! Rolling up: what is old enough is kept more coarsely too.
//!
//! The rows of a tier are additive, and a chunk is marked as rolled in the same commit that adds
//! the coarser chunk. So each value is counted once, however often this is interrupted and however
//! late values come. Where values come again whose milliseconds are rolled up already, the hours
//! are made anew (`again`): in the commit that rolls them up, the rows of those hours go from all
//! coarser chunks, and what is made anew is a chunk of the finest of the coarser tiers, which is
//! rolled up further in its turn.

use std::collections::{BTreeMap, HashSet};

use fleet_core::Chain;
use fleet_core::id::Uid;

use super::again::{Gathering, Hours, whole_hours};
use super::catalog::{Catalog, Change, ChunkRef, Tier, Unrolled};
use super::chunk::{self, Chunk, ChunkError, Column, ColumnKey, Effort, Part, Rows, Table};
use super::curves::each_stat;
use super::engine::{Engine, Shared};
use super::merge::filtered;
use super::names::SeriesId;
use super::number::Number;
use super::points::{Points, Wanted};
use super::query::{Source, read_chunk};
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
/// Chunks of one device among them, and their bytes: its values are in memory together.
const CHUNKS_OF_A_DEVICE: usize = 200;
const BYTES_OF_A_DEVICE: u64 = 4 * 1024 * 1024;

impl Engine {
    /// Rolls up the chunks of a tier that have no values from a time on. Returns how many.
    pub(crate) fn roll(&self, tier: Tier, before: i64) -> Result<usize, StoreError> {
        let list = |catalog: &dyn Catalog| {
            catalog.chunks_before(tier, Unrolled::Only, before, CHUNKS_AT_ONCE)
        };
        self.roll_listed(tier, list)
    }

    /// Rolls up the chunks of a tier that have values from before a time. Returns how many.
    pub(super) fn roll_begun(&self, tier: Tier, before: i64) -> Result<usize, StoreError> {
        self.roll_listed(tier, |catalog| catalog.unrolled_before(tier, before, CHUNKS_AT_ONCE))
    }

    fn roll_listed(
        &self,
        tier: Tier,
        list: impl Fn(&dyn Catalog) -> Result<Vec<ChunkRef>, StoreError>,
    ) -> Result<usize, StoreError> {
        let Some(coarser) = tier.coarser() else { return Ok(0) };
        let mut rolled = 0;
        let mut left = Left::default();
        loop {
            let shared = &self.shared;
            // Listed while nobody adds or removes chunks: others may have rolled or removed them.
            let mut ends = shared.ends();
            shared.clear_abandoned(&mut ends)?;
            let mut old = list(shared.catalog.as_ref())?;
            old.retain(|chunk| !left.devices.contains(&chunk.device));
            if old.is_empty() {
                return left.error.map_or(Ok(rolled), Err);
            }
            let mut devices: BTreeMap<Uid, Vec<ChunkRef>> = BTreeMap::new();
            for chunk in old {
                let chunks = devices.entry(chunk.device).or_default();
                if has_room(chunks) {
                    chunks.push(chunk);
                    rolled += 1;
                }
            }
            shared.roll(&mut ends, coarser, devices, &mut left)?;
        }
    }
}

/// Devices that are not rolled up this time because some of theirs could not be read, which is no
/// reason to stop for all others; and the first error.
#[derive(Default)]
struct Left {
    devices: HashSet<Uid>,
    error: Option<StoreError>,
}

/// Whether one more chunk of a device may be rolled up together with these.
fn has_room(chunks: &[ChunkRef]) -> bool {
    let bytes: u64 = chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
    chunks.len() < CHUNKS_OF_A_DEVICE && bytes < BYTES_OF_A_DEVICE
}

impl Shared {
    /// Makes coarser chunks of some devices' chunks, with one commit.
    fn roll(
        &self,
        ends: &mut Ends,
        to: Tier,
        devices: BTreeMap<Uid, Vec<ChunkRef>>,
        left: &mut Left,
    ) -> Result<(), StoreError> {
        let dead = self.rolled(ends, to, devices, left).inspect_err(|error| {
            tracing::warn!(error = %Chain(error), "telemetry was not rolled up");
            Segments::abandon(ends);
        })?;
        self.remove_segments(ends, &dead);
        Ok(())
    }

    fn rolled(
        &self,
        ends: &mut Ends,
        to: Tier,
        devices: BTreeMap<Uid, Vec<ChunkRef>>,
        left: &mut Left,
    ) -> Result<Vec<u64>, StoreError> {
        let mut change = Change::default();
        for (device, mut chunks) in devices {
            chunks.sort_unstable_by_key(place);
            let read = match to {
                Tier::Minute => self.minutes(device, &chunks),
                _ => self.coarser(to, &chunks).map(|rolling| (rolling, Hours::default())),
            };
            let (rolling, hours) = match read {
                Ok(read) => read,
                Err(error) => {
                    left.devices.insert(device);
                    left.error.get_or_insert(error);
                    continue;
                }
            };
            self.take_out(ends, device, &hours, &mut change)?;
            for table in rolling.tables() {
                change.added.push(self.added(ends, device, to, &table)?);
            }
            change.rolled.extend(chunks);
        }
        Segments::sync(ends).map_err(|error| Failure::Storage(error.into()))?;
        self.catalog.commit(change)
    }

    /// Writes a chunk of rows, which is not rolled up.
    fn added(
        &self,
        ends: &mut Ends,
        device: Uid,
        tier: Tier,
        table: &Table,
    ) -> Result<ChunkRef, StoreError> {
        let place = self
            .segments
            .append(ends, tier, &chunk::encode(table, Effort::Best))
            .map_err(|error| Failure::Storage(error.into()))?;
        Ok(ChunkRef {
            device,
            tier,
            first_at: table.times[0],
            last_at: table.times[table.times.len() - 1],
            segment: place.segment,
            offset: place.offset,
            bytes: place.bytes,
            rows: table.times.len() as u32,
            is_rolled: false,
        })
    }

    /// The rows of the finest coarser tier from a device's chunks of raw values, which are ordered by
    /// place; and the hours of which they are all that counts. What is damaged is left out.
    fn minutes(&self, device: Uid, chunks: &[ChunkRef]) -> Result<(Rolling, Hours), StoreError> {
        let first = chunks.iter().map(|chunk| chunk.first_at).min().unwrap_or(i64::MAX);
        let last = chunks.iter().map(|chunk| chunk.last_at).max().unwrap_or(i64::MIN);
        let (from, to) = whole_hours(first, last);
        let found = self.catalog.chunks(device, &[(Tier::Raw, Unrolled::All)], from, to)?.chunks;
        let is_own = |chunk: &ChunkRef| chunks.binary_search_by_key(&place(chunk), place).is_ok();
        let counts = |chunk: &&ChunkRef| chunk.is_rolled || is_own(chunk);
        let sources: Vec<Source<'_>> = found.iter().filter(counts).map(Source::Chunk).collect();
        // All series, whatever their numbers.
        let wanted = Wanted::new((0..self.names.len() as u32).map(SeriesId));
        let gathering = Gathering {
            shared: self,
            wanted: &wanted,
            times: (i64::MIN, i64::MAX),
            sources: &sources,
            floor: self.floors().of(Tier::Raw),
        };
        let mut rolling = Rolling::default();
        let (mut raw, hours) = gathering
            .gather(&mut Points::default(), Some(&mut |chunk| rolling.note_scales(chunk)))?;
        for (series, values) in raw.values() {
            for (at, value) in values.iter() {
                rolling.add(Tier::Minute, series as u32, at, Stat::of(value));
            }
        }
        Ok((rolling, hours))
    }

    /// Takes the rows of some hours out of a device's coarser chunks, one chunk after the other.
    fn take_out(
        &self,
        ends: &mut Ends,
        device: Uid,
        hours: &Hours,
        change: &mut Change,
    ) -> Result<(), StoreError> {
        let Some((from, to)) = hours.span() else { return Ok(()) };
        let tiers = [Tier::Minute, Tier::TenMinutes, Tier::Hour].map(|tier| (tier, Unrolled::All));
        let found = self.catalog.chunks(device, &tiers, from, to)?.chunks;
        for chunk in found.into_iter().filter(|chunk| hours.touch(chunk)) {
            let mut rest = None;
            let read = read_chunk(self, &chunk, &mut |chunk| {
                rest = filtered(&chunk.table()?, |at| !hours.has(at));
                Ok(())
            });
            if let Err(unread) = read {
                // Of what is damaged nobody else reads those rows either.
                self.pass_over(unread)?;
                continue;
            }
            if let Some(rest) = rest {
                if rest.times.len() == chunk.rows as usize {
                    continue;
                }
                let added = self.added(ends, device, chunk.tier, &rest)?;
                change.added.push(ChunkRef { is_rolled: chunk.is_rolled, ..added });
            }
            change.removed.push(chunk);
        }
        Ok(())
    }

    /// The rows of a coarser tier from a device's chunks of rows. What is damaged is left out.
    fn coarser(&self, to: Tier, chunks: &[ChunkRef]) -> Result<Rolling, StoreError> {
        let mut rolling = Rolling::default();
        for chunk in chunks {
            let read = read_chunk(self, chunk, &mut |chunk| {
                rolling.note_scales(chunk)?;
                let place = |series: SeriesId| Some(series.0 as usize);
                each_stat(chunk, place, |series, at, stat| {
                    rolling.add(to, series as u32, at, stat);
                })
            });
            read.or_else(|unread| self.pass_over(unread))?;
        }
        Ok(rolling)
    }
}

/// Ordered as chunks of one device came.
fn place(chunk: &ChunkRef) -> (u64, u64) {
    (chunk.segment, chunk.offset)
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
