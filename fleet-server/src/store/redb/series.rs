//! The telemetry engine's index in redb.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_core::codec::CodecError;
use fleet_core::id::Uid;
use redb::{ReadableTable, Table};

use super::Shared;
use super::devices::{DeviceTables, all_of, uid_of};
use super::row::{ChunkRow, HeadRow, SegmentRow, SeriesRow, TelemetryRow};
use super::tables::{
    Bytes, CHUNKS, Fault, HEADS, Reading, SEGMENTS, SERIES, TELEMETRY, View, Writing,
};
use super::writer::Writer;
use crate::series::catalog::{
    Catalog, Change, ChunkRef, Found, Loaded, SavedDevice, SegmentInfo, Tier, Unrolled,
};
use crate::series::head::Remembered;
use crate::store::{Failure, StoreError};

const TELEMETRY_KEY: &[u8] = b"telemetry";

/// The index: reads beside the writer, writes through it.
pub(super) struct Index {
    pub(super) shared: Arc<Shared>,
    pub(super) writer: Arc<Writer>,
}

impl Index {
    fn read<T>(
        &self,
        work: impl FnOnce(&Reading<'_>) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.shared.read(work)
    }

    fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Writing<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let done = self.writer.submit(1, work)?;
        done.blocking_recv().unwrap_or_else(|_| Err(Failure::Closed.into()))
    }
}

impl Catalog for Index {
    fn load(&self) -> Result<Loaded, StoreError> {
        self.read(load)
    }

    fn commit(&self, change: Change) -> Result<Vec<u64>, StoreError> {
        self.write(move |txn| commit(txn, change))
    }

    fn chunks(
        &self,
        device: Uid,
        tiers: &[(Tier, Unrolled)],
        from: i64,
        to: i64,
    ) -> Result<Found, StoreError> {
        self.read(|txn| {
            // What a damaged row says is unknown, which `load` tells of; the chunks are there.
            let applied = match txn.open(&HEADS)?.get(&device.bytes()) {
                Ok(row) => row.and_then(|row| row.applied()),
                Err(Fault::Refused(_)) => None,
                Err(fault) => return Err(fault),
            };
            let table = txn.open(&CHUNKS)?;
            let mut chunks = Vec::new();
            for (tier, unrolled) in tiers {
                let first = ChunkRow::time_key(device, *tier, from);
                for chunk in chunk_rows(&table, &first, &end_of(device, *tier))? {
                    let chunk = chunk?;
                    if chunk.first_at <= to && is_asked(&chunk, *unrolled) {
                        chunks.push(chunk);
                    }
                }
            }
            chunks.sort_unstable_by_key(|chunk| (chunk.segment, chunk.offset));
            Ok(Found { applied, chunks })
        })
    }

    fn chunks_before(
        &self,
        tier: Tier,
        unrolled: Unrolled,
        before: i64,
        most: usize,
    ) -> Result<Vec<ChunkRef>, StoreError> {
        let end = |device| ChunkRow::time_key(device, tier, before);
        self.read(|txn| chunks_of_all(txn, tier, end, most, |chunk| is_asked(chunk, unrolled)))
    }

    fn unrolled_before(
        &self,
        tier: Tier,
        before: i64,
        most: usize,
    ) -> Result<Vec<ChunkRef>, StoreError> {
        let is_asked = |chunk: &ChunkRef| !chunk.is_rolled && chunk.first_at < before;
        self.read(|txn| chunks_of_all(txn, tier, |device| end_of(device, tier), most, is_asked))
    }

    fn chunks_in(&self, segment: u64) -> Result<Vec<ChunkRef>, StoreError> {
        self.read(|txn| {
            let table = txn.open(&CHUNKS)?;
            let all = chunk_rows(&table, &[], &[u8::MAX; 41])?;
            all.filter(|chunk| chunk.as_ref().map_or(true, |chunk| chunk.segment == segment))
                .collect()
        })
    }

    fn segments(&self) -> Result<Vec<SegmentInfo>, StoreError> {
        self.read(segments)
    }
}

fn is_asked(chunk: &ChunkRef, unrolled: Unrolled) -> bool {
    match unrolled {
        Unrolled::All => true,
        Unrolled::Only => !chunk.is_rolled,
        Unrolled::Without => chunk.is_rolled,
    }
}

/// The end of the keys of a device's tier.
fn end_of(device: Uid, tier: Tier) -> [u8; 41] {
    let mut end = [u8::MAX; 41];
    end[..16].copy_from_slice(&device.bytes());
    end[16] = tier.number();
    end
}

/// So many chunks of a tier, of one device after the other, up to an end of its keys.
fn chunks_of_all<K: AsRef<[u8]>>(
    txn: &Reading<'_>,
    tier: Tier,
    end: impl Fn(Uid) -> K,
    most: usize,
    is_asked: impl Fn(&ChunkRef) -> bool,
) -> Result<Vec<ChunkRef>, Fault> {
    let table = txn.open(&CHUNKS)?;
    let mut found = Vec::new();
    let mut next = first_device(&table, &[])?;
    while let Some(device) = next
        && found.len() < most
    {
        let first = ChunkRow::time_key(device, tier, i64::MIN);
        let end = end(device);
        let rows = chunk_rows(&table, &first, end.as_ref())?;
        let asked = rows.filter(|chunk| chunk.as_ref().map_or(true, &is_asked));
        for chunk in asked.take(most - found.len()) {
            found.push(chunk?);
        }
        next = first_device(&table, &all_of(device))?;
    }
    Ok(found)
}

fn chunk_rows<T: ReadableTable<Bytes, Bytes>>(
    table: &View<'_, ChunkRow, T>,
    from: &[u8],
    to: &[u8],
) -> Result<impl Iterator<Item = Result<ChunkRef, Fault>>, Fault> {
    // What is damaged is passed over, and noted.
    Ok(table.rows(from, to)?.filter_map(|entry| match entry {
        Ok((key, row)) => table.sound(&key, row.chunk(&key)).ok().map(Ok),
        Err(fault) => Some(Err(fault)),
    }))
}

/// The first device with chunks after a key.
fn first_device<T: ReadableTable<Bytes, Bytes>>(
    table: &View<'_, ChunkRow, T>,
    after: &[u8],
) -> Result<Option<Uid>, Fault> {
    Ok(table.keys(after, &[u8::MAX; 41])?.next().transpose()?.map(|key| uid_of(&key)))
}

/// Gives a new database the name by which its files of telemetry know it.
pub(super) fn begin(txn: &Writing<'_>) -> Result<(), Fault> {
    let mut table = txn.open(&TELEMETRY)?;
    if table.contains(TELEMETRY_KEY)? {
        return Ok(());
    }
    let mut store = [0; 16];
    let filled = getrandom::fill(&mut store);
    filled.map_err(|error| StoreError::from(Failure::Storage(error.into())))?;
    table.put(TELEMETRY_KEY, &TelemetryRow { store, floors: [i64::MIN; 4] })
}

fn load(txn: &Reading<'_>) -> Result<Loaded, Fault> {
    let telemetry = txn.open(&TELEMETRY)?.get(TELEMETRY_KEY)?;
    let telemetry = telemetry.ok_or(StoreError::Missing("telemetry"))?;
    let heads = txn.open(&HEADS)?;
    let mut devices = Vec::new();
    for (uid, is_live) in DeviceTables::reading(txn)?.all()? {
        let remembered = match heads.get(&uid.bytes()) {
            Ok(Some(row)) => heads.sound(&uid.bytes(), row.remembered()).ok(),
            Ok(None) => Some(Remembered::default()),
            // Of a damaged row, which health shows, the log and the device's next report tell most.
            Err(Fault::Refused(_)) => None,
            Err(fault) => return Err(fault),
        };
        devices.push(SavedDevice { uid, is_live, remembered });
    }
    let table = txn.open(&SERIES)?;
    let mut series = Vec::new();
    for number in 0..table.end()? {
        match table.get(&number.to_be_bytes()) {
            Ok(row) => series.push(row.map(Into::into)),
            Err(Fault::Refused(_)) => series.push(None),
            Err(fault) => return Err(fault),
        }
    }
    Ok(Loaded {
        store: telemetry.store,
        series,
        devices,
        segments: segments(txn)?,
        floors: telemetry.floors(),
    })
}

pub(super) fn segments(txn: &Reading<'_>) -> Result<Vec<SegmentInfo>, Fault> {
    let (table, chunks) = (txn.open(&SEGMENTS)?, txn.open(&CHUNKS)?);
    let mut segments = Vec::new();
    for key in table.keys(&[], &[u8::MAX; 9])? {
        let key = key?;
        let number = table.sound(&key, segment_number(&key))?;
        match segment_of(&table, &key, number) {
            Ok(segment) => segments.extend(segment),
            Err(Fault::Refused(_)) => segments.extend(segment_from(&chunks, number)?),
            Err(fault) => return Err(fault),
        }
    }
    Ok(segments)
}

fn segment_of<T: ReadableTable<Bytes, Bytes>>(
    table: &View<'_, SegmentRow, T>,
    key: &[u8],
    number: u64,
) -> Result<Option<SegmentInfo>, Fault> {
    let row = table.get(key)?;
    Ok(row.map(|row| table.sound(key, row.segment(number))).transpose()?)
}

/// A segment whose row is damaged, as its chunks say it is; nothing if there are none.
fn segment_from<T: ReadableTable<Bytes, Bytes>>(
    table: &View<'_, ChunkRow, T>,
    number: u64,
) -> Result<Option<SegmentInfo>, Fault> {
    let mut segment: Option<SegmentInfo> = None;
    for chunk in chunk_rows(table, &[], &[u8::MAX; 41])? {
        let chunk = chunk?;
        if chunk.segment == number {
            segment.get_or_insert_with(|| SegmentInfo::new(number, chunk.tier)).add(&chunk);
        }
    }
    Ok(segment)
}

fn segment_number(key: &[u8]) -> Result<u64, CodecError> {
    Ok(u64::from_be_bytes(key.try_into().map_err(|_| CodecError::Malformed)?))
}

fn commit(txn: &Writing<'_>, change: Change) -> Result<Vec<u64>, Fault> {
    let devices = DeviceTables::writing(txn)?;
    let mut table = txn.open(&SERIES)?;
    for (place, name) in change.series.iter().enumerate() {
        let number = (change.first_series + place) as u32;
        table.put(&number.to_be_bytes(), &SeriesRow::from(name.as_ref()))?;
    }
    let mut chunks = txn.open(&CHUNKS)?;
    let mut segments = Segments { table: txn.open(&SEGMENTS)?, changed: BTreeMap::new() };
    for chunk in &change.added {
        let wanted = devices.exists(chunk.device)?;
        let segment = segments.of(&chunks, chunk)?;
        segment.reach(chunk);
        if wanted {
            segment.add(chunk);
            chunks.put(&ChunkRow::key(chunk), &ChunkRow::from(chunk))?;
        }
    }
    for chunk in &change.rolled {
        let key = ChunkRow::key(chunk);
        if chunks.contains(&key)? {
            chunks.put(&key, &ChunkRow::from(&ChunkRef { is_rolled: true, ..*chunk }))?;
        }
    }
    for chunk in &change.removed {
        let key = ChunkRow::key(chunk);
        if chunks.contains(&key)? {
            segments.of(&chunks, chunk)?.remove(chunk);
            chunks.remove(&key)?;
        }
    }
    let mut heads = txn.open(&HEADS)?;
    for (uid, remembered) in change.remembered {
        if devices.exists(uid)? {
            heads.put(&uid.bytes(), &HeadRow::from(remembered))?;
        }
    }
    for uid in change.forgotten {
        heads.remove(&uid.bytes())?;
    }
    if let Some(floors) = change.floors {
        let mut table = txn.open(&TELEMETRY)?;
        if let Some(mut row) = table.get(TELEMETRY_KEY)? {
            row.set_floors(floors);
            table.put(TELEMETRY_KEY, &row)?;
        }
    }
    segments.finish()
}

/// The segments' rows while chunks come and go.
struct Segments<'a> {
    table: View<'a, SegmentRow, Table<'a, Bytes, Bytes>>,
    changed: BTreeMap<u64, SegmentInfo>,
}

impl Segments<'_> {
    /// The segment of a chunk, to be changed before the chunk is.
    fn of<T: ReadableTable<Bytes, Bytes>>(
        &mut self,
        chunks: &View<'_, ChunkRow, T>,
        chunk: &ChunkRef,
    ) -> Result<&mut SegmentInfo, Fault> {
        let number = chunk.segment;
        Ok(match self.changed.entry(number) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let known = match segment_of(&self.table, &number.to_be_bytes(), number) {
                    Err(Fault::Refused(_)) => segment_from(chunks, number)?,
                    known => known?,
                };
                place.insert(known.unwrap_or_else(|| SegmentInfo::new(number, chunk.tier)))
            }
        })
    }

    /// Writes the rows. Forgets, and names, segments in which nothing is wanted.
    fn finish(mut self) -> Result<Vec<u64>, Fault> {
        let mut dead = BTreeSet::new();
        for (number, info) in self.changed {
            let key = number.to_be_bytes();
            if info.live_chunks == 0 {
                self.table.remove(&key)?;
                dead.insert(number);
            } else {
                self.table.put(&key, &SegmentRow::from(&info))?;
            }
        }
        Ok(dead.into_iter().collect())
    }
}
