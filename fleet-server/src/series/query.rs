//! Reading: the values of devices, wherever they lie.
//!
//! A device's head is looked at before the index. So what is being sealed meanwhile may be found
//! twice but is never missed; a block that the index already has is passed over, and of two equal
//! values of one millisecond one is left.

use std::cmp::Reverse;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use fleet_core::id::Uid;
use fleet_core::metric::Report;
use fleet_core::time::Timestamp;

use super::catalog::{ChunkRef, Found, Tier, Unrolled};
use super::chunk::{Chunk, ChunkError, Rows};
use super::engine::{Device, Engine, Shared};
use super::head::{Block, Newest};
use super::names::{SeriesId, SeriesName};
use super::points::{Points, Values, Wanted};
use crate::store::{Failure, Point, Query, StoreError, Top};

/// The newest value of a series, with its name.
#[derive(Clone, Debug)]
pub struct NamedValue {
    /// The series.
    pub name: Arc<SeriesName>,
    /// When.
    pub at: Timestamp,
    /// The value.
    pub value: f64,
}

impl Engine {
    /// A device's newest value of each series.
    pub(crate) fn newest_of(&self, device: Uid) -> Vec<NamedValue> {
        let Some(device) = self.shared.device(device) else { return Vec::new() };
        let named = |newest: Newest| {
            let (at, value) = (Timestamp::from_millis(newest.at), newest.number.get());
            Some(NamedValue { name: self.shared.names.name(newest.series)?, at, value })
        };
        let newest = device.head().all_newest();
        newest.into_iter().filter_map(named).collect()
    }

    /// Points of one metric of one device, newest first.
    pub(crate) fn points(&self, query: &Query) -> Result<Vec<Point>, StoreError> {
        let shared = &self.shared;
        let from = query.from.millis().max(shared.floors().of(Tier::Raw));
        let wanted = wanted(shared, &query.metric, &query.labels);
        let to = query.to.millis();
        if wanted.series().is_empty() || from > to || query.limit == 0 {
            return Ok(Vec::new());
        }
        let mut points = newest_points(shared, query.device, &wanted, (from, to), query.limit)?;
        let mut found: Vec<(i64, usize, f64)> = Vec::new();
        for (place, values) in points.values() {
            // No more than so many of one series can be among the newest of all.
            let newest = values.iter().rev().take(query.limit);
            found.extend(newest.map(|(at, value)| (at, place, value)));
        }
        found.sort_by_key(|(at, place, _)| (Reverse(*at), *place));
        found.truncate(query.limit);
        let point = |(at, place, value): (i64, usize, f64)| Point {
            at: Timestamp::from_millis(at),
            value,
            series: wanted.series()[place],
        };
        Ok(found.into_iter().map(point).collect())
    }

    /// A device's newest report: the newest value of each series that has one of the newest time.
    pub(crate) fn latest(&self, device: Uid) -> Option<Report> {
        latest_of(&self.shared, self.shared.device(device)?.as_ref())
    }

    /// Every device's newest report.
    pub(crate) fn latest_all(&self) -> Vec<(Uid, Report)> {
        let devices: Vec<Arc<Device>> = self.shared.devices().values().cloned().collect();
        let latest = |device: &Arc<Device>| Some((device.uid, latest_of(&self.shared, device)?));
        let mut all: Vec<_> = devices.iter().filter_map(latest).collect();
        all.sort_unstable_by_key(|(uid, _)| *uid);
        all
    }

    /// The devices with the greatest, or least, mean of a metric over a time.
    pub(crate) fn top(&self, top: &Top) -> Result<Vec<(Uid, f64)>, StoreError> {
        let shared = &self.shared;
        let wanted = wanted(shared, &top.metric, &[]);
        let from = top.from.millis().max(shared.floors().of(Tier::Raw));
        let to = top.to.millis();
        // Those that are deleted take nobody's place.
        let devices = live(shared);
        let (mut points, mut tail) = (Points::default(), Points::default());
        let mut found = Vec::new();
        for device in devices {
            points.clear();
            tail.clear();
            add_points(shared, &device, &wanted, (from, to), &mut points, &mut tail)?;
            let (mut sum, mut count) = (0.0, 0_u32);
            for (_, values) in points.values() {
                sum += values.values.iter().sum::<f64>();
                count += values.len() as u32;
            }
            if count > 0 {
                found.push((device.uid, sum / f64::from(count)));
            }
        }
        found.sort_by(|a, b| if top.is_least { a.1.total_cmp(&b.1) } else { b.1.total_cmp(&a.1) });
        found.truncate(top.limit);
        Ok(found)
    }
}

/// The devices that are not deleted.
pub(super) fn live(shared: &Shared) -> Vec<Arc<Device>> {
    shared.devices().values().filter(|device| device.is_live()).cloned().collect()
}

/// The series of a metric that have some labels.
fn wanted(shared: &Shared, metric: &str, labels: &[(String, String)]) -> Wanted {
    let mut series = shared.names.series_of(metric);
    if !labels.is_empty() {
        let has = |name: &SeriesName| labels.iter().all(|label| name.labels.contains(label));
        series.retain(|id| shared.names.name(*id).is_some_and(|name| has(&name)));
    }
    Wanted::new(series)
}

/// The points of a time from which the newest can be taken: chunks are read from the newest on, and
/// no more of them than are needed.
fn newest_points(
    shared: &Shared,
    device: Uid,
    wanted: &Wanted,
    (from, to): (i64, i64),
    limit: usize,
) -> Result<Points, StoreError> {
    let (mut parts, blocks) = head_points(shared, device, wanted, from, to);
    let _reading = shared.segments.reading();
    let found = shared.catalog.chunks(device, &[(Tier::Raw, Unrolled::All)], from, to)?;
    let mut sources: Vec<_> = sources(&found, &blocks).into_iter().enumerate().collect();
    sources.sort_by_key(|(_, source)| Reverse(source.last_at()));
    let mut held: usize = parts.iter().map(|(_, points)| points.len()).sum();
    for (order, source) in sources {
        // Fewer cannot be enough, and to put them together costs.
        if held >= limit && has_newer(&mut joined(&mut parts), source.last_at(), limit) {
            break;
        }
        let mut points = Points::default();
        let read =
            source.read(shared, &mut |chunk| add_chunk(chunk, wanted, from, to, &mut points));
        read.or_else(|unread| shared.pass_over(unread))?;
        held += points.len();
        parts.push((order as u64, points));
    }
    Ok(joined(&mut parts))
}

/// Points in the order in which they came.
fn joined(parts: &mut [(u64, Points)]) -> Points {
    parts.sort_by_key(|(order, _)| *order);
    let mut all = Points::default();
    for (_, points) in parts {
        all.extend(points);
    }
    all
}

/// Whether so many values of some series are newer than a time.
fn has_newer(points: &mut Points, time: i64, limit: usize) -> bool {
    points.values().any(|(_, values)| {
        values.len().checked_sub(limit).is_some_and(|first| values.times[first] > time)
    })
}

type Parts = Vec<(u64, Points)>;

/// The points of a device's tail, which came last, and its blocks.
fn head_points(
    shared: &Shared,
    device: Uid,
    wanted: &Wanted,
    from: i64,
    to: i64,
) -> (Parts, Vec<Arc<Block>>) {
    let Some(device) = shared.device(device) else { return (Vec::new(), Vec::new()) };
    let mut points = Points::default();
    let head = device.head();
    head.tail_points(wanted, from, to, &mut points);
    (vec![(u64::MAX, points)], head.blocks(from, to))
}

/// All points of a device's time; `tail` is room for some of them.
fn add_points(
    shared: &Shared,
    device: &Device,
    wanted: &Wanted,
    (from, to): (i64, i64),
    points: &mut Points,
    tail: &mut Points,
) -> Result<(), StoreError> {
    let (blocks, is_in_memory) = {
        let head = device.head();
        head.tail_points(wanted, from, to, tail);
        (head.blocks(from, to), head.has_all_from(from))
    };
    let _reading = shared.segments.reading();
    let found = if is_in_memory {
        Found::default()
    } else {
        shared.catalog.chunks(device.uid, &[(Tier::Raw, Unrolled::All)], from, to)?
    };
    for source in sources(&found, &blocks) {
        let read = source.read(shared, &mut |chunk| add_chunk(chunk, wanted, from, to, points));
        read.or_else(|unread| shared.pass_over(unread))?;
    }
    points.extend(tail);
    Ok(())
}

/// Where values lie.
pub(super) enum Source<'a> {
    Chunk(&'a ChunkRef),
    Block(&'a Block),
}

/// Chunks and blocks in the order in which their values came, each value once.
pub(super) fn sources<'a>(found: &'a Found, blocks: &'a [Arc<Block>]) -> Vec<Source<'a>> {
    let is_sealed =
        |block: &&Arc<Block>| found.applied.is_some_and(|applied| block.last <= applied);
    let blocks = blocks.iter().filter(|block| !is_sealed(block));
    let blocks = blocks.map(|block| Source::Block(block));
    found.chunks.iter().map(Source::Chunk).chain(blocks).collect()
}

impl Source<'_> {
    pub(super) fn tier(&self) -> Tier {
        match self {
            Self::Chunk(chunk) => chunk.tier,
            Self::Block(_) => Tier::Raw,
        }
    }

    pub(super) fn first_at(&self) -> i64 {
        match self {
            Self::Chunk(chunk) => chunk.first_at,
            Self::Block(block) => block.first_at,
        }
    }

    fn last_at(&self) -> i64 {
        match self {
            Self::Chunk(chunk) => chunk.last_at,
            Self::Block(block) => block.last_at,
        }
    }

    /// Reads it.
    pub(super) fn read(
        &self,
        shared: &Shared,
        read: &mut dyn FnMut(&Chunk<'_>) -> Result<(), ChunkError>,
    ) -> Result<(), Unread> {
        match self {
            Self::Block(block) => block
                .chunk()
                .and_then(|chunk| read(&chunk))
                .map_err(|error| Unread::Damaged(format!("a block in memory: {error}"))),
            Self::Chunk(chunk) => read_chunk(shared, chunk, read),
        }
    }
}

/// Why something was not read.
pub(super) enum Unread {
    /// It is damaged: in words for health.
    Damaged(String),
    /// It may be readable the next time.
    Failed(io::Error),
}

impl Shared {
    /// Notes damage, without which an answer goes on. What only failed is an error.
    pub(super) fn pass_over(&self, unread: Unread) -> Result<(), StoreError> {
        match unread {
            Unread::Damaged(line) => {
                self.note_damage(line);
                Ok(())
            }
            Unread::Failed(error) => Err(Failure::Storage(error.into()).into()),
        }
    }
}

/// Reads a chunk in a file.
pub(super) fn read_chunk(
    shared: &Shared,
    chunk: &ChunkRef,
    read: &mut dyn FnMut(&Chunk<'_>) -> Result<(), ChunkError>,
) -> Result<(), Unread> {
    let damaged = |error: &dyn fmt::Display| Unread::Damaged(damage_of(chunk, error));
    let bytes = shared.segments.read(chunk).map_err(|error| {
        if is_damage(error.kind()) { damaged(&error) } else { Unread::Failed(error) }
    })?;
    // The frame's sum was right, and it covers all of these bytes.
    Chunk::open_unsummed(&bytes).and_then(|chunk| read(&chunk)).map_err(|error| damaged(&error))
}

/// Whether an error says that something is gone for good: it has changed, or its file is gone or
/// shorter than it was.
pub(super) fn is_damage(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidData | ErrorKind::NotFound | ErrorKind::UnexpectedEof)
}

/// Damage in words for health.
pub(super) fn damage_of(chunk: &ChunkRef, error: &dyn fmt::Display) -> String {
    format!("the chunk at {} in file {}: {error}", chunk.offset, chunk.segment)
}

/// Adds a chunk's values of a time to points.
pub(super) fn add_chunk(
    chunk: &Chunk<'_>,
    wanted: &Wanted,
    from: i64,
    to: i64,
    points: &mut Points,
) -> Result<(), ChunkError> {
    let (mut times, mut are_distinct) = (None, false);
    let mut values = Vec::new();
    for key in chunk.keys() {
        let Some(place) = wanted.place(SeriesId(key.series)) else { continue };
        values.clear();
        let Some(rows) = chunk.values(key, &mut values)? else { continue };
        let times = match &times {
            Some(times) => times,
            None => {
                let times = times.insert(chunk.times()?);
                are_distinct = times.is_sorted_by(|time, next| time < next);
                times
            }
        };
        let curve = points.curve(place);
        if are_distinct && rows == Rows::All {
            curve.extend(Values { times, values: &values }.within(from, to));
            continue;
        }
        each_row(times, &rows, &values, |at, value| {
            if (from..=to).contains(&at) {
                curve.add(at, value);
            }
        });
    }
    Ok(())
}

/// Shows a column's values with their times.
pub(super) fn each_row(times: &[i64], rows: &Rows, values: &[f64], mut show: impl FnMut(i64, f64)) {
    match rows {
        Rows::All => times.iter().zip(values).for_each(|(at, value)| show(*at, *value)),
        Rows::Some(rows) => {
            let times = rows.iter().map(|row| times[*row as usize]);
            times.zip(values).for_each(|(at, value)| show(at, *value));
        }
    }
}

fn latest_of(shared: &Shared, device: &Device) -> Option<Report> {
    let (at_millis, newest) = {
        let head = device.head();
        (head.newest_at()?, head.all_newest())
    };
    let of_then = newest.iter().filter(|newest| newest.at == at_millis);
    let sample =
        |newest: &Newest| Some(shared.names.name(newest.series)?.sample(newest.number.get()));
    Some(Report { at_millis, samples: of_then.filter_map(sample).collect() })
}
