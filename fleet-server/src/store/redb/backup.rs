//! Copying all tables and telemetry's files, making a database of such a copy, and looking at every
//! row of one.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use fleet_core::codec::Coded;
use redb::backends::FileBackend;
use redb::{
    Database, ReadTransaction, ReadableTable as _, TableDefinition, TableHandle as _,
    WriteTransaction,
};

use super::tables::{
    AUDIT, AUDIT_OPEN, AUDIT_POINTS, BATCH_MEMBERS, BATCH_STEPS, BATCHES, BATCHES_OPEN, Bytes,
    CHUNKS, COMMAND_OUTPUTS, COMMANDS, COMMANDS_DUE, COMMANDS_OF, COMMANDS_OPEN, COMMANDS_OVER,
    CONFIG_LAYERS, CONFIG_OWNS, CONFIGS, DEVICE_IDS, DEVICE_KEYS, DEVICES, DEVICES_DELETED,
    DEVICES_SEEN, DOUBLES, EVENTS, Fault, GRANT_KEYS, GRANTS, HEADS, KEY_ORIGINS, KEYS, PREAUTHS,
    Reading, SEGMENTS, SERIES, SESSIONS, Sealed, TELEMETRY,
};
use super::{RedbStore, Shared, contain};
use crate::series::backup::{Held, Read};
use crate::series::engine::Engine;
use crate::store::{BackupStore, Failure, Part, StoreError, StoreHealth, TakePart};

/// Bytes of rows that are shown together, unless one alone is larger.
const ROWS_BYTES: usize = 256 * 1024;
/// Bytes of rows that one commit adds to a database that is being made.
const COMMIT_BYTES: usize = 16 * 1024 * 1024;
const CACHE_BYTES: usize = 64 * 1024 * 1024;

#[async_trait]
impl BackupStore for RedbStore {
    async fn copy(&self, mut take: TakePart) -> Result<(), StoreError> {
        let permit = Arc::clone(&self.reads).acquire_owned().await.map_err(|_| Failure::Closed)?;
        let (shared, series) = (Arc::clone(&self.shared), Arc::clone(&self.series));
        let copying = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let Some(held) = copy_rows(&shared, &series, &mut take)? else { return Ok(()) };
            let mut piece =
                |name: &str, offset, bytes: &[u8]| take(Part::File { name, offset, bytes });
            if held.copy(&mut piece)? {
                take(Part::End);
            }
            Ok(())
        });
        copying.await.unwrap_or_else(|_| Err(Failure::Closed.into()))
    }
}

/// Shows all rows of one moment; the files of telemetry of that moment, unless it was ended.
fn copy_rows(
    shared: &Shared,
    series: &Engine,
    take: &mut TakePart,
) -> Result<Option<Held>, StoreError> {
    let still = series.still();
    shared.read(|txn| {
        let held = still.hold(&super::series::segments(txn)?)?;
        let goes_on = each_row(shared, txn.txn, take)?;
        Ok(goes_on.then_some(held))
    })
}

fn each_row(shared: &Shared, txn: &ReadTransaction, take: &mut TakePart) -> Result<bool, Fault> {
    let tables = txn.list_tables().map_err(|error| Fault::Storage(error.into()))?;
    for table in tables {
        let table = table.name();
        let definition: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new(table);
        let mut rows = Vec::new();
        let mut bytes = 0;
        let is_wanted = table != SESSIONS.name();
        for entry in txn.open_table(definition)?.iter()?.take_while(|_| is_wanted) {
            let (key, value) = entry?;
            let row = (key.value().to_vec(), value.value().to_vec());
            bytes += row.0.len() + row.1.len();
            rows.push(row);
            if bytes >= ROWS_BYTES {
                if !take(Part::Rows { table, rows: &rows }) {
                    return Ok(false);
                }
                // A database that failed is not kept from being opened anew.
                if shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
                    return Err(StoreError::from(Failure::Reopening).into());
                }
                (rows, bytes) = (Vec::new(), 0);
            }
        }
        if !take(Part::Rows { table, rows: &rows }) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A database that is being made from a copy.
pub(crate) struct Loader {
    database: Database,
    txn: Option<WriteTransaction>,
    bytes: usize,
}

impl Loader {
    /// Makes the file, for this user alone.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file: File = options.open(path).map_err(|error| Failure::Storage(error.into()))?;
        let made = contain(|| {
            let backend = FileBackend::new(file)?;
            redb::Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend)
        })?;
        let database = made.map_err(|error| Failure::Storage(error.into()))?;
        Ok(Self { database, txn: None, bytes: 0 })
    }

    /// Adds rows to a table.
    pub(crate) fn put(&mut self, table: &str, rows: &[(&[u8], &[u8])]) -> Result<(), Failure> {
        contain(|| self.try_put(table, rows))?.map_err(|error| Failure::Storage(error.into()))
    }

    fn try_put(&mut self, table: &str, rows: &[(&[u8], &[u8])]) -> Result<(), redb::Error> {
        let txn = match self.txn.take() {
            Some(txn) => txn,
            None => self.database.begin_write()?,
        };
        let definition: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new(table);
        let mut opened = txn.open_table(definition)?;
        for (key, value) in rows {
            opened.insert(*key, *value)?;
            self.bytes += key.len() + value.len();
        }
        drop(opened);
        if self.bytes >= COMMIT_BYTES {
            self.bytes = 0;
            txn.commit()?;
        } else {
            self.txn = Some(txn);
        }
        Ok(())
    }

    /// Makes sure of all rows.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        let done = contain(move || {
            let committed = self.txn.take().map_or(Ok(()), WriteTransaction::commit);
            drop(self);
            committed
        })?;
        done.map_err(|error| Failure::Storage(error.into()))
    }
}

impl RedbStore {
    /// Reads all rows and chunks there are, those of the log too; what of it is damaged, if anything.
    pub(crate) fn read_all(&self) -> Result<(Read, StoreHealth), StoreError> {
        read_rows(&self.shared, &AtomicBool::new(false))?;
        Ok((self.series.read_all()?, self.soundness()))
    }
}

/// Opens every row of every table, and says how many can be read. What is damaged is noted.
pub(super) fn read_rows(shared: &Shared, stop: &AtomicBool) -> Result<u64, StoreError> {
    // A snapshot for each: while one is held, nothing that it shows gives back its room.
    let read = |read: &ReadTable| {
        if stop.load(Ordering::Relaxed) { Err(Failure::Closed.into()) } else { shared.read(read) }
    };
    EACH_TABLE.iter().map(read).sum()
}

/// Reads all of a table.
type ReadTable = fn(&Reading<'_>) -> Result<u64, Fault>;

/// All tables but `meta`, whose rows are of several kinds, and `sessions`, which are soon over.
const EACH_TABLE: [ReadTable; 33] = [
    |txn| read_table(txn, &DEVICES),
    |txn| read_table(txn, &DEVICES_SEEN),
    |txn| read_table(txn, &DEVICES_DELETED),
    |txn| read_table(txn, &DEVICE_IDS),
    |txn| read_table(txn, &DEVICE_KEYS),
    |txn| read_table(txn, &KEYS),
    |txn| read_table(txn, &KEY_ORIGINS),
    |txn| read_table(txn, &GRANTS),
    |txn| read_table(txn, &GRANT_KEYS),
    |txn| read_table(txn, &CONFIGS),
    |txn| read_table(txn, &CONFIG_OWNS),
    |txn| read_table(txn, &CONFIG_LAYERS),
    |txn| read_table(txn, &COMMANDS),
    |txn| read_table(txn, &COMMAND_OUTPUTS),
    |txn| read_table(txn, &COMMANDS_OF),
    |txn| read_table(txn, &COMMANDS_OPEN),
    |txn| read_table(txn, &COMMANDS_DUE),
    |txn| read_table(txn, &COMMANDS_OVER),
    |txn| read_table(txn, &BATCHES),
    |txn| read_table(txn, &BATCHES_OPEN),
    |txn| read_table(txn, &BATCH_MEMBERS),
    |txn| read_table(txn, &BATCH_STEPS),
    |txn| read_table(txn, &TELEMETRY),
    |txn| read_table(txn, &SERIES),
    |txn| read_table(txn, &CHUNKS),
    |txn| read_table(txn, &SEGMENTS),
    |txn| read_table(txn, &HEADS),
    |txn| read_table(txn, &EVENTS),
    |txn| read_table(txn, &DOUBLES),
    |txn| read_table(txn, &PREAUTHS),
    |txn| read_table(txn, &AUDIT),
    |txn| read_table(txn, &AUDIT_OPEN),
    |txn| read_table(txn, &AUDIT_POINTS),
];

fn read_table<R: Coded>(txn: &Reading<'_>, table: &Sealed<R>) -> Result<u64, Fault> {
    txn.open(table)?.all()?.try_fold(0, |rows, row| row.map(|_| rows + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MetaStore as _;
    use crate::store::redb::room::Room;

    #[test]
    fn no_table_is_forgotten() {
        let store = RedbStore::in_memory();
        let count = |txn: &Reading<'_>| {
            let tables = txn.txn.list_tables().map_err(|error| Fault::Storage(error.into()))?;
            Ok(tables.count())
        };
        assert_eq!(store.shared.read(count).unwrap(), EACH_TABLE.len() + 2);
    }

    #[test]
    fn a_full_disk_is_no_damage() {
        let mut store = RedbStore::in_memory();
        store.room = Room::full();
        assert!(matches!(store.health(), StoreHealth::Degraded(_)));
        assert_eq!(store.read_all().unwrap().1, StoreHealth::Healthy);
    }
}
