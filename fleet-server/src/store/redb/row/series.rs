//! What the telemetry engine keeps in the database: names, chunks, segments, devices' states.

use bincode::{Decode, Encode};
use fleet_core::codec::CodecError;
use fleet_core::id::Uid;

use crate::series::catalog::{ChunkRef, Floors, SavedSeries, SegmentInfo, Tier};
use crate::series::head::{Cursor, Newest, Remembered};
use crate::series::names::{SeriesId, SeriesName};
use crate::series::number::Number;
use crate::series::varint;
use crate::series::wal::Lsn;

/// Whose files belong to the database.
#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct TelemetryRow {
    pub(in crate::store::redb) store: [u8; 16],
    pub(in crate::store::redb) floors: [i64; 4],
}

impl TelemetryRow {
    pub(in crate::store::redb) fn floors(&self) -> Floors {
        let mut floors = Floors::default();
        for (tier, floor) in Tier::ALL.into_iter().zip(self.floors) {
            floors.raise(tier, floor);
        }
        floors
    }

    pub(in crate::store::redb) fn set_floors(&mut self, floors: Floors) {
        self.floors = Tier::ALL.map(|tier| floors.of(tier));
    }
}

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct SeriesRow {
    metric: String,
    labels: Vec<(String, String)>,
}

impl From<&SeriesName> for SeriesRow {
    fn from(name: &SeriesName) -> Self {
        Self { metric: name.metric.to_string(), labels: name.labels.clone() }
    }
}

impl From<SeriesRow> for SavedSeries {
    fn from(row: SeriesRow) -> Self {
        (row.metric, row.labels)
    }
}

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct ChunkRow {
    first_at: i64,
    bytes: u32,
    rows: u32,
    is_rolled: bool,
}

impl ChunkRow {
    /// A chunk's key: device, tier, last time, segment, place in it.
    pub(in crate::store::redb) fn key(chunk: &ChunkRef) -> [u8; 41] {
        let mut key = [0; 41];
        key[..25].copy_from_slice(&Self::time_key(chunk.device, chunk.tier, chunk.last_at));
        key[25..33].copy_from_slice(&chunk.segment.to_be_bytes());
        key[33..].copy_from_slice(&chunk.offset.to_be_bytes());
        key
    }

    /// The beginning of the keys of a device's tier and a last time; sorted as times are.
    pub(in crate::store::redb) fn time_key(device: Uid, tier: Tier, last_at: i64) -> [u8; 25] {
        let mut key = [0; 25];
        key[..16].copy_from_slice(&device.bytes());
        key[16] = tier.number();
        key[17..].copy_from_slice(&(last_at as u64 ^ 1 << 63).to_be_bytes());
        key
    }

    /// The chunk under a key.
    pub(in crate::store::redb) fn chunk(&self, key: &[u8]) -> Result<ChunkRef, CodecError> {
        let (device, rest) = key.split_first_chunk().ok_or(CodecError::Malformed)?;
        let (tier, rest) = rest.split_first().ok_or(CodecError::Malformed)?;
        let (last_at, rest) = rest.split_first_chunk().ok_or(CodecError::Malformed)?;
        let (segment, rest) = rest.split_first_chunk().ok_or(CodecError::Malformed)?;
        let offset = rest.try_into().map_err(|_| CodecError::Malformed)?;
        Ok(ChunkRef {
            device: Uid::from_bytes(*device),
            tier: Tier::of(*tier).ok_or(CodecError::Malformed)?,
            first_at: self.first_at,
            last_at: (u64::from_be_bytes(*last_at) ^ 1 << 63) as i64,
            segment: u64::from_be_bytes(*segment),
            offset: u64::from_be_bytes(offset),
            bytes: self.bytes,
            rows: self.rows,
            is_rolled: self.is_rolled,
        })
    }
}

impl From<&ChunkRef> for ChunkRow {
    fn from(chunk: &ChunkRef) -> Self {
        let ChunkRef { first_at, bytes, rows, is_rolled, .. } = *chunk;
        Self { first_at, bytes, rows, is_rolled }
    }
}

#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct SegmentRow {
    tier: u8,
    bytes: u64,
    live_bytes: u64,
    live_chunks: u64,
    live_rows: u64,
}

impl SegmentRow {
    pub(in crate::store::redb) fn segment(&self, number: u64) -> Result<SegmentInfo, CodecError> {
        let Self { tier, bytes, live_bytes, live_chunks, live_rows } = *self;
        let tier = Tier::of(tier).ok_or(CodecError::Malformed)?;
        Ok(SegmentInfo { number, tier, bytes, live_bytes, live_chunks, live_rows })
    }
}

impl From<&SegmentInfo> for SegmentRow {
    fn from(info: &SegmentInfo) -> Self {
        let SegmentInfo { tier, bytes, live_bytes, live_chunks, live_rows, .. } = *info;
        Self { tier: tier.number(), bytes, live_bytes, live_chunks, live_rows }
    }
}

/// What is remembered of a device.
#[derive(Debug, PartialEq, Encode, Decode)]
pub(in crate::store::redb) struct HeadRow {
    applied: Option<u64>,
    /// Streams with their last numbers, and in which order they came.
    cursors: Vec<([u8; 16], u64, u64)>,
    missed: u64,
    /// The newest value of each series: its number, its time, the value.
    newest: Vec<u8>,
    /// The latest time of any value.
    newest_at: Option<i64>,
}

impl From<Remembered> for HeadRow {
    fn from(remembered: Remembered) -> Self {
        let Remembered { applied, cursors, missed, newest, newest_at } = remembered;
        let mut packed = Vec::with_capacity(newest.len() * 12);
        for Newest { series, at, number } in newest {
            varint::put(&mut packed, series.0.into());
            varint::put(&mut packed, varint::fold(at));
            number.put(&mut packed);
        }
        let cursors = cursors.iter().map(|cursor| (cursor.stream, cursor.seq, cursor.born));
        Self {
            applied: applied.map(|lsn| lsn.0),
            cursors: cursors.collect(),
            missed,
            newest: packed,
            newest_at,
        }
    }
}

impl HeadRow {
    pub(in crate::store::redb) fn applied(&self) -> Option<Lsn> {
        self.applied.map(Lsn)
    }

    pub(in crate::store::redb) fn remembered(self) -> Result<Remembered, CodecError> {
        let mut packed = self.newest.as_slice();
        let mut newest = Vec::new();
        while !packed.is_empty() {
            let entry = take_newest(&mut packed).ok_or(CodecError::Malformed)?;
            newest.push(entry);
        }
        let cursors = self.cursors.into_iter();
        let cursors = cursors.map(|(stream, seq, born)| Cursor { stream, seq, born, mark: 0 });
        Ok(Remembered {
            applied: self.applied.map(Lsn),
            cursors: cursors.collect(),
            missed: self.missed,
            newest,
            newest_at: self.newest_at,
        })
    }
}

fn take_newest(packed: &mut &[u8]) -> Option<Newest> {
    let series = SeriesId(u32::try_from(varint::take(packed)?).ok()?);
    let at = varint::unfold(varint::take(packed)?);
    Some(Newest { series, at, number: Number::take(packed)? })
}
