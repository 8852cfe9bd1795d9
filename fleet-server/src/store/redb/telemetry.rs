//! Reports in redb, one value each.
//!
//! A report's key holds its device, time, half its stream and its number. So two reports of one
//! millisecond both survive, a report that is stored twice takes one place, and a damaged cursor
//! can be told anew from the keys of the reports that it counted.

use std::collections::HashMap;

use async_trait::async_trait;
use fleet_core::id::Uid;
use fleet_core::metric::{Report, Sample};
use fleet_core::time::Timestamp;
use redb::{ReadableTable, Table};

use super::RedbStore;
use super::devices::{DeviceTables, all_of, uid_of};
use super::row::{CursorRow, ReportRow};
use super::tables::{Bytes, CURSORS, Fault, REPORTS, View, Writing, seal};
use crate::store::{
    Incoming, Outcome, Point, Query, STREAMS_PER_DEVICE_MAX, StoreError, TelemetryStats,
    TelemetryStore, Visit,
};

/// Reports that one commit removes, so that others need not wait long.
const PRUNE_ROWS_MAX: usize = 5_000;

#[async_trait]
impl TelemetryStore for RedbStore {
    async fn append(&self, reports: Vec<Incoming>) -> Result<Vec<Outcome>, StoreError> {
        let weight = reports.iter().map(|report| 1 + report.samples.len()).sum();
        self.write_heavy(weight, move |txn| {
            let mut append = Append::open(txn)?;
            reports.into_iter().map(|report| append.one(report)).collect()
        })
        .await
    }

    async fn query(&self, query: Query) -> Result<Vec<Point>, StoreError> {
        self.read(move |txn| points(&txn.open(&REPORTS)?, &query)).await
    }

    async fn scan(
        &self,
        device: Uid,
        from: Timestamp,
        to: Timestamp,
        mut visit: Visit,
    ) -> Result<(), StoreError> {
        self.read(move |txn| {
            if from > to {
                return Ok(());
            }
            let (from, to) = (Key::first(device, from), Key::last(device, to));
            for entry in txn.open(&REPORTS)?.rows(&from.bytes(), &to.bytes())? {
                let (key, row) = entry?;
                if let Some(key) = Key::read(&key) {
                    visit(key.at, row.into());
                }
            }
            Ok(())
        })
        .await
    }

    async fn latest(&self, device: Uid) -> Result<Option<Report>, StoreError> {
        self.read(move |txn| newest(&txn.open(&REPORTS)?, device)).await
    }

    async fn latest_all(&self) -> Result<Vec<(Uid, Report)>, StoreError> {
        self.read(|txn| {
            let reports = txn.open(&REPORTS)?;
            let mut all = Vec::new();
            let mut next = first_device(&reports, &[])?;
            while let Some(device) = next {
                all.extend(newest(&reports, device)?.map(|report| (device, report)));
                next = first_device(&reports, &all_of(device))?;
            }
            Ok(all)
        })
        .await
    }

    async fn prune(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut pruned = 0;
        loop {
            let removed = self.write(move |txn| prune_some(txn, before)).await?;
            pruned += removed as u64;
            if removed < PRUNE_ROWS_MAX {
                return Ok(pruned);
            }
        }
    }

    async fn stats(&self) -> Result<TelemetryStats, StoreError> {
        self.read(|txn| {
            let reports = txn.open(&REPORTS)?;
            let streams = txn.open(&CURSORS)?.count()?;
            Ok(TelemetryStats { reports: reports.count()?, streams, bytes: reports.bytes()? })
        })
        .await
    }
}

/// One call's reports on their way in.
struct Append<'a> {
    devices: DeviceTables<'a, WriteTable<'a>, WriteTable<'a>>,
    reports: View<'a, ReportRow, WriteTable<'a>>,
    cursors: View<'a, CursorRow, WriteTable<'a>>,
    live: HashMap<Uid, bool>,
}

type WriteTable<'a> = Table<'a, Bytes, Bytes>;

impl<'a> Append<'a> {
    fn open(txn: &Writing<'a>) -> Result<Self, Fault> {
        Ok(Self {
            devices: DeviceTables::writing(txn)?,
            reports: txn.open(&REPORTS)?,
            cursors: txn.open(&CURSORS)?,
            live: HashMap::new(),
        })
    }

    fn one(&mut self, report: Incoming) -> Result<Outcome, Fault> {
        if !self.is_live(report.device)? {
            return Ok(Outcome::NoDevice);
        }
        let missed = match report.stream {
            Some((stream, seq)) => match self.advance(report.device, stream, seq)? {
                Some(missed) => missed,
                None => return Ok(Outcome::Duplicate),
            },
            None => 0,
        };
        let key = match report.stream {
            Some((stream, seq)) => Key { half_stream: half(stream), seq, ..Key::of(&report) },
            None => self.unnumbered(&report)?,
        };
        let (outcome, missed) = match seal(&key.bytes(), &ReportRow::from(report.samples), "report")
        {
            Ok(value) => {
                self.reports.put_sealed(&key.bytes(), &value)?;
                (Outcome::Stored, missed)
            }
            Err(_) => (Outcome::TooLarge, missed.saturating_add(1)),
        };
        if missed > 0 {
            self.devices.add_missed(report.device, missed)?;
        }
        Ok(outcome)
    }

    fn is_live(&mut self, device: Uid) -> Result<bool, Fault> {
        if let Some(live) = self.live.get(&device) {
            return Ok(*live);
        }
        let live = self.devices.is_live(device)?;
        self.live.insert(device, live);
        Ok(live)
    }

    /// Moves a stream's cursor to a number; how many were left out, or none if it was there.
    fn advance(&mut self, device: Uid, stream: [u8; 16], seq: u64) -> Result<Option<u64>, Fault> {
        let key = cursor_key(device, stream);
        let known = match self.cursors.get(&key) {
            Ok(row) => row,
            Err(Fault::Refused(StoreError::Damaged { .. })) => Some(self.retell(device, stream)?),
            Err(fault) => return Err(fault),
        };
        let last = known.as_ref().map_or(0, |cursor| cursor.seq);
        if seq <= last {
            return Ok(None);
        }
        let born = match known {
            Some(cursor) => cursor.born,
            None => self.make_room(device)?,
        };
        self.cursors.put(&key, &CursorRow { seq, born })?;
        Ok(Some(seq - last - 1))
    }

    /// A damaged cursor, from the reports that are still there.
    fn retell(&self, device: Uid, stream: [u8; 16]) -> Result<CursorRow, Fault> {
        let mut seq = 0;
        for key in self.reports.keys(&device.bytes(), &all_of(device))? {
            if let Some(key) = Key::read(&key?)
                && key.half_stream == half(stream)
            {
                seq = seq.max(key.seq);
            }
        }
        Ok(CursorRow { seq, born: 0 })
    }

    /// Forgets a device's oldest streams, so that one more may come; says how old that one is.
    fn make_room(&mut self, device: Uid) -> Result<u64, Fault> {
        let rows = self.cursors.rows(&device.bytes(), &all_of(device))?;
        let mut cursors = rows
            .map(|entry| entry.map(|(key, row)| (row.born, key)))
            .collect::<Result<Vec<_>, Fault>>()?;
        cursors.sort_unstable();
        let born = cursors.last().map_or(1, |(born, _)| born.saturating_add(1));
        let surplus = (cursors.len() + 1).saturating_sub(STREAMS_PER_DEVICE_MAX);
        for (_, key) in &cursors[..surplus] {
            self.cursors.remove(key)?;
        }
        Ok(born)
    }

    /// A place for a report without number: after the last of its device and millisecond.
    fn unnumbered(&self, report: &Incoming) -> Result<Key, Fault> {
        let first = Key::of(report);
        let last = Key { seq: u64::MAX, ..first };
        let taken = self.reports.keys(&first.bytes(), &last.bytes())?.next_back().transpose()?;
        let seq = taken.and_then(|key| Key::read(&key)).map_or(0, |key| key.seq.saturating_add(1));
        Ok(Key { seq, ..first })
    }
}

fn points<T: ReadableTable<Bytes, Bytes>>(
    reports: &View<'_, ReportRow, T>,
    query: &Query,
) -> Result<Vec<Point>, Fault> {
    let from = Key::first(query.device, query.from);
    let to = Key::last(query.device, query.to);
    let mut points = Vec::new();
    if query.from > query.to {
        return Ok(points);
    }
    for entry in reports.rows(&from.bytes(), &to.bytes())?.rev() {
        let (key, row) = entry?;
        let Some(key) = Key::read(&key) else { continue };
        for sample in Vec::<Sample>::from(row) {
            if points.len() == query.limit {
                return Ok(points);
            }
            if is_asked_for(&sample, query) {
                points.push(Point { at: key.at, value: sample.value, labels: sample.labels });
            }
        }
    }
    Ok(points)
}

fn is_asked_for(sample: &Sample, query: &Query) -> bool {
    sample.name == query.metric && query.labels.iter().all(|label| sample.labels.contains(label))
}

fn newest<T: ReadableTable<Bytes, Bytes>>(
    reports: &View<'_, ReportRow, T>,
    device: Uid,
) -> Result<Option<Report>, Fault> {
    let Some(entry) = reports.rows(&device.bytes(), &all_of(device))?.next_back() else {
        return Ok(None);
    };
    let (key, row) = entry?;
    let at_millis = Key::read(&key).map_or(0, |key| key.at.millis());
    Ok(Some(Report { at_millis, samples: row.into() }))
}

/// The first device with reports after a key.
fn first_device<T: ReadableTable<Bytes, Bytes>>(
    reports: &View<'_, ReportRow, T>,
    after: &[u8],
) -> Result<Option<Uid>, Fault> {
    let next = reports.keys(after, &[u8::MAX; Key::BYTES])?.next().transpose()?;
    Ok(next.map(|key| uid_of(&key)))
}

fn prune_some(txn: &Writing<'_>, before: Timestamp) -> Result<usize, Fault> {
    let mut reports = txn.open(&REPORTS)?;
    let mut removed = 0;
    let mut next = first_device(&reports, &[])?;
    while let Some(device) = next
        && removed < PRUNE_ROWS_MAX
    {
        if let Some(last) = before.millis().checked_sub(1).filter(|last| *last >= 0) {
            let to = Key::last(device, Timestamp::from_millis(last)).bytes();
            removed += reports.remove_range(&device.bytes(), &to, PRUNE_ROWS_MAX - removed)?;
        }
        next = first_device(&reports, &all_of(device))?;
    }
    Ok(removed)
}

/// A report's key, taken apart.
#[derive(Clone, Copy)]
struct Key {
    device: Uid,
    at: Timestamp,
    half_stream: [u8; 8],
    seq: u64,
}

impl Key {
    const BYTES: usize = 40;

    /// The first key of a report's device and time.
    fn of(report: &Incoming) -> Self {
        Self::first(report.device, report.at)
    }

    fn first(device: Uid, at: Timestamp) -> Self {
        Self { device, at, half_stream: [0; 8], seq: 0 }
    }

    fn last(device: Uid, at: Timestamp) -> Self {
        Self { device, at, half_stream: [u8::MAX; 8], seq: u64::MAX }
    }

    fn bytes(&self) -> [u8; Self::BYTES] {
        let mut key = [0; Self::BYTES];
        key[..16].copy_from_slice(&self.device.bytes());
        key[16..24].copy_from_slice(&self.at.millis().to_be_bytes());
        key[24..32].copy_from_slice(&self.half_stream);
        key[32..].copy_from_slice(&self.seq.to_be_bytes());
        key
    }

    fn read(key: &[u8]) -> Option<Self> {
        let key: &[u8; Self::BYTES] = key.try_into().ok()?;
        let eight = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&key[at..at + 8]);
            bytes
        };
        Some(Self {
            device: uid_of(key),
            at: Timestamp::from_millis(i64::from_be_bytes(eight(16))),
            half_stream: eight(24),
            seq: u64::from_be_bytes(eight(32)),
        })
    }
}

/// The half of a stream that its reports' keys hold; never that of reports without a stream.
fn half(stream: [u8; 16]) -> [u8; 8] {
    let mut half = [0; 8];
    half.copy_from_slice(&stream[..8]);
    if half == [0; 8] { [0, 0, 0, 0, 0, 0, 0, 1] } else { half }
}

fn cursor_key(device: Uid, stream: [u8; 16]) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&device.bytes());
    key[16..].copy_from_slice(&stream);
    key
}
