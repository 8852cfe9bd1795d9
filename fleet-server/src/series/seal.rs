//! The thread that seals: it packs what heads hold into chunks, writes those, and only when the
//! index knows them lets the heads and the log go.
//!
//! The order is what makes a crash harmless. Chunks first, then the index, which names the last
//! record that they hold: a crash before that leaves bytes that nobody knows, and the log still
//! has everything; a crash after it leaves records in the log that a start passes over.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use fleet_core::Chain;

use super::catalog::{Change, ChunkRef, Tier};
use super::chunk::{self, COLUMNS_MAX, Effort, Table};
use super::engine::{Device, Engine, LOG_BYTES_TARGET, SEAL_ROWS, Shared};
use super::head::{Block, Sealing};
use super::merge::merged;
use super::segments::{Ends, Segments};
use super::wal::Lsn;
use crate::store::{Failure, StoreError};

/// Devices that are sealed with one commit.
const DEVICES_AT_ONCE: usize = 64;
/// Rows of one chunk; more of a device become several.
const CHUNK_ROWS_MAX: usize = 2 * SEAL_ROWS;
/// The first pause after a failure.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Seals what is due until the engine is dropped.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut pause = PAUSE_MIN;
    loop {
        let devices = match next(shared) {
            Next::Stop => return,
            Next::ReopenLog => {
                if let Err(error) = shared.reopen_log() {
                    tracing::warn!(error = %Chain(&error), "the telemetry log cannot be opened anew");
                    rest(shared, &mut pause);
                } else {
                    pause = PAUSE_MIN;
                }
                continue;
            }
            Next::Seal(devices) => devices,
        };
        match seal(shared, &devices) {
            Ok(()) => {
                pause = PAUSE_MIN;
                shared.set_sealing_trouble(None);
            }
            Err(error) => {
                let reason = format!("telemetry cannot be sealed: {}", Chain(&error));
                tracing::warn!(reason, "will be tried again");
                shared.set_sealing_trouble(Some(reason));
                rest(shared, &mut pause);
            }
        }
    }
}

enum Next {
    Seal(Vec<Arc<Device>>),
    ReopenLog,
    Stop,
}

/// Waits for something to do.
fn next(shared: &Arc<Shared>) -> Next {
    let mut work = shared.work();
    loop {
        if work.stopping {
            return Next::Stop;
        }
        if work.log_failed {
            return Next::ReopenLog;
        }
        if !work.due.is_empty() {
            let count = work.due.len().min(DEVICES_AT_ONCE);
            return Next::Seal(work.due.drain(..count).map(|(_, device)| device).collect());
        }
        drop(work);
        let early = behind(shared);
        work = shared.work();
        if !early.is_empty() {
            return Next::Seal(early);
        }
        if work.due.is_empty() && !work.stopping && !work.log_failed {
            work = shared.bell.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The devices that keep the log longer than it should be: those whose values have waited longest.
fn behind(shared: &Arc<Shared>) -> Vec<Arc<Device>> {
    if shared.wal().is_none_or(|wal| wal.bytes() <= LOG_BYTES_TARGET) {
        return Vec::new();
    }
    let devices = shared.devices();
    let waiting = devices.values().filter_map(|device| Some((device.head().first()?, device)));
    let mut waiting: Vec<(Lsn, &Arc<Device>)> = waiting.collect();
    waiting.sort_unstable_by_key(|(first, _)| *first);
    waiting.truncate(DEVICES_AT_ONCE);
    waiting.into_iter().map(|(_, device)| device.clone()).collect()
}

/// Rests after a failure, unless the engine stops.
fn rest(shared: &Arc<Shared>, pause: &mut Duration) {
    let end = Instant::now() + *pause;
    *pause = (*pause * 2).min(PAUSE_MAX);
    let mut work = shared.work();
    while !work.stopping {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        work = shared.bell.wait_timeout(work, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

impl Engine {
    /// Seals all that is in memory.
    pub(crate) fn seal_all(&self) -> Result<(), StoreError> {
        let devices: Vec<Arc<Device>> = self.shared.devices().values().cloned().collect();
        devices.chunks(DEVICES_AT_ONCE).try_for_each(|devices| seal(&self.shared, devices))
    }

    /// Seals what is in memory of devices of which some is from before a time.
    pub(super) fn seal_before(&self, before: i64) -> Result<(), StoreError> {
        let is_old = |device: &&Arc<Device>| device.head().first_at().is_some_and(|at| at < before);
        let devices: Vec<Arc<Device>> =
            self.shared.devices().values().filter(is_old).cloned().collect();
        devices.chunks(DEVICES_AT_ONCE).try_for_each(|devices| seal(&self.shared, devices))
    }
}

/// Seals what some devices hold now, with one commit.
fn seal(shared: &Arc<Shared>, devices: &[Arc<Device>]) -> Result<(), StoreError> {
    let mut ends = shared.ends();
    // A panic is a failure like any other: what was begun is looked at again.
    let attempt = AssertUnwindSafe(|| {
        shared.clear_abandoned(&mut ends)?;
        seal_at(shared, &mut ends, devices)
    });
    let sealed = catch_unwind(attempt)
        .unwrap_or_else(|_| Err(Failure::Panic("while telemetry was sealed".to_owned()).into()));
    if sealed.is_err() {
        Segments::abandon(&mut ends);
        // The devices as they are now: heads may have been made anew.
        let again = devices.iter().filter_map(|device| shared.device(device.uid));
        let again: Vec<Arc<Device>> = again
            .inspect(|device| {
                let mut head = device.head();
                (head.is_due, head.is_unsure) = (true, true);
            })
            .collect();
        shared.work().add_due(again);
        shared.bell.notify_one();
    }
    sealed
}

fn seal_at(
    shared: &Arc<Shared>,
    ends: &mut Ends,
    devices: &[Arc<Device>],
) -> Result<(), StoreError> {
    let wal = shared.wal().ok_or(Failure::Reopening)?;
    let (first_series, mut change) = (shared.saved_series(), Change::default());
    let mut sealed = Vec::new();
    for device in devices {
        // It may be gone meanwhile, or its head was made again from the log.
        let Some(device) = shared.device(device.uid) else { continue };
        look_again(shared, &device)?;
        let sealing = {
            let mut head = device.head();
            head.is_due = false;
            head.seal()
        };
        let Some(Sealing { blocks, remembered }) = sealing else { continue };
        let Some(applied) = remembered.applied else { continue };
        for table in tables(&blocks)? {
            let place = shared
                .segments
                .append(ends, Tier::Raw, &chunk::encode(&table, Effort::Best))
                .map_err(|error| Failure::Storage(error.into()))?;
            let (Some(first_at), Some(last_at)) = (table.times.first(), table.times.last()) else {
                continue;
            };
            change.added.push(ChunkRef {
                device: device.uid,
                tier: Tier::Raw,
                first_at: *first_at,
                last_at: *last_at,
                segment: place.segment,
                offset: place.offset,
                bytes: place.bytes,
                rows: table.times.len() as u32,
                is_rolled: false,
            });
        }
        change.remembered.push((device.uid, remembered));
        sealed.push((device, applied));
    }
    let Some(last) = sealed.iter().map(|(_, applied)| *applied).max() else { return Ok(()) };
    // What is remembered of a stream must not be ahead of what is safe.
    wal.durable_blocking(last).map_err(|error| Failure::Storage(error.into()))?;
    Segments::sync(ends).map_err(|error| Failure::Storage(error.into()))?;
    change.first_series = first_series;
    change.series = shared.names.names_from(first_series);
    let saved = first_series + change.series.len();
    let dead = shared.catalog.commit(change)?;
    shared.set_saved_series(saved);
    for (device, applied) in sealed {
        device.head().sealed(applied);
    }
    shared.remove_segments(ends, &dead);
    shared.release_log();
    Ok(())
}

/// Lets go of what an attempt sealed that seemed to fail: the index knows.
fn look_again(shared: &Shared, device: &Device) -> Result<(), StoreError> {
    if !device.head().is_unsure {
        return Ok(());
    }
    // Files were abandoned then, so that by now the index shows what holds.
    let applied = shared.catalog.chunks(device.uid, &[], i64::MIN, i64::MAX)?.applied;
    let mut head = device.head();
    if let Some(applied) = applied {
        head.sealed(applied);
    }
    head.is_unsure = false;
    Ok(())
}

/// The rows of blocks, by time, in tables of good size.
fn tables(blocks: &[Arc<Block>]) -> Result<Vec<Table>, StoreError> {
    let mut tables = Vec::new();
    let mut from = 0;
    while from < blocks.len() {
        let (mut parts, mut rows, mut keys) = (Vec::new(), 0, HashSet::new());
        let first = from;
        while from < blocks.len() && (from == first || rows + blocks[from].rows <= CHUNK_ROWS_MAX) {
            let table = table_of(&blocks[from])?;
            let new = table.columns.iter().filter(|column| !keys.contains(&column.key)).count();
            if from > first && keys.len() + new > COLUMNS_MAX {
                break;
            }
            keys.extend(table.columns.iter().map(|column| column.key));
            rows += table.times.len();
            parts.push(table);
            from += 1;
        }
        tables.push(merged(parts));
    }
    Ok(tables)
}

fn table_of(block: &Block) -> Result<Table, StoreError> {
    let table = block.chunk().and_then(|chunk| chunk.table());
    table.map_err(|error| Failure::Storage(error.into()).into())
}
