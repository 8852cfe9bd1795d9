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
use crate::store::{BackupStore, Failure, Pace, Pacer, Part, StoreError, StoreHealth, TakePart};

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
            // Before the rows: what is revoked after this is in the rows or was not there yet.
            if !copy_revoked(&shared, &mut take)? {
                return Ok(());
            }
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

/// Shows the list of what was ended, if anything was. False if it was ended itself.
fn copy_revoked(shared: &Shared, take: &mut TakePart) -> Result<bool, StoreError> {
    let list = shared.revoked.list();
    if list.owner().is_none() {
        return Ok(true);
    }
    let (bytes, _) = list.encode().map_err(|error| Failure::Storage(error.into()))?;
    Ok(bytes.chunks(ROWS_BYTES).all(|piece| take(Part::Revoked(piece))))
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
        read_rows(&self.shared, Pace::Fast, &AtomicBool::new(false))?;
        Ok((self.series.read_all()?, self.soundness()))
    }
}

/// Opens every row of every table, and says how many can be read. What is damaged is noted.
pub(super) fn read_rows(shared: &Shared, pace: Pace, stop: &AtomicBool) -> Result<u64, StoreError> {
    let mut pacer = Pacer::new(pace);
    let mut rows = 0;
    for read in EACH_TABLE {
        let mut next = Some(Vec::new());
        while let Some(from) = next {
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::Closed.into());
            }
            // A snapshot for each slice: while one is held, nothing that it shows gives back its
            // room, and a database that failed is not opened anew.
            let slice = shared.read(|txn| read(txn, &from))?;
            rows += slice.rows;
            next = slice.next;
            pacer.rest();
        }
    }
    Ok(rows)
}

/// Rows that are read from one snapshot: some milliseconds of work.
const SLICE_ROWS: u64 = 500;

/// Some rows of a table that were read.
#[derive(Debug, PartialEq, Eq)]
struct Slice {
    rows: u64,
    /// Where to go on, if there may be more.
    next: Option<Vec<u8>>,
}

/// Reads some rows of a table, from a key on.
type ReadTable = fn(&Reading<'_>, &[u8]) -> Result<Slice, Fault>;

/// All tables but `meta`, whose rows are of several kinds, and `sessions`, which are soon over.
const EACH_TABLE: [ReadTable; 33] = [
    |txn, from| read_table(txn, from, &DEVICES),
    |txn, from| read_table(txn, from, &DEVICES_SEEN),
    |txn, from| read_table(txn, from, &DEVICES_DELETED),
    |txn, from| read_table(txn, from, &DEVICE_IDS),
    |txn, from| read_table(txn, from, &DEVICE_KEYS),
    |txn, from| read_table(txn, from, &KEYS),
    |txn, from| read_table(txn, from, &KEY_ORIGINS),
    |txn, from| read_table(txn, from, &GRANTS),
    |txn, from| read_table(txn, from, &GRANT_KEYS),
    |txn, from| read_table(txn, from, &CONFIGS),
    |txn, from| read_table(txn, from, &CONFIG_OWNS),
    |txn, from| read_table(txn, from, &CONFIG_LAYERS),
    |txn, from| read_table(txn, from, &COMMANDS),
    |txn, from| read_table(txn, from, &COMMAND_OUTPUTS),
    |txn, from| read_table(txn, from, &COMMANDS_OF),
    |txn, from| read_table(txn, from, &COMMANDS_OPEN),
    |txn, from| read_table(txn, from, &COMMANDS_DUE),
    |txn, from| read_table(txn, from, &COMMANDS_OVER),
    |txn, from| read_table(txn, from, &BATCHES),
    |txn, from| read_table(txn, from, &BATCHES_OPEN),
    |txn, from| read_table(txn, from, &BATCH_MEMBERS),
    |txn, from| read_table(txn, from, &BATCH_STEPS),
    |txn, from| read_table(txn, from, &TELEMETRY),
    |txn, from| read_table(txn, from, &SERIES),
    |txn, from| read_table(txn, from, &CHUNKS),
    |txn, from| read_table(txn, from, &SEGMENTS),
    |txn, from| read_table(txn, from, &HEADS),
    |txn, from| read_table(txn, from, &EVENTS),
    |txn, from| read_table(txn, from, &DOUBLES),
    |txn, from| read_table(txn, from, &PREAUTHS),
    |txn, from| read_table(txn, from, &AUDIT),
    |txn, from| read_table(txn, from, &AUDIT_OPEN),
    |txn, from| read_table(txn, from, &AUDIT_POINTS),
];

fn read_table<R: Coded>(txn: &Reading<'_>, from: &[u8], table: &Sealed<R>) -> Result<Slice, Fault> {
    let mut slice = Slice { rows: 0, next: None };
    for row in txn.open(table)?.from(from)? {
        let (mut key, _) = row?;
        slice.rows += 1;
        if slice.rows == SLICE_ROWS {
            // The next key there can be.
            key.push(0);
            slice.next = Some(key);
            break;
        }
    }
    Ok(slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MetaStore as _;
    use crate::store::redb::room::Room;
    use crate::store::redb::row::UidRow;
    use crate::store::redb::tables::Writing;

    #[test]
    fn no_table_is_forgotten() {
        let store = RedbStore::in_memory();
        let count = |txn: &Reading<'_>| {
            let tables = txn.txn.list_tables().map_err(|error| Fault::Storage(error.into()))?;
            Ok(tables.count())
        };
        assert_eq!(store.shared.read(count).unwrap(), EACH_TABLE.len() + 2);
    }

    #[tokio::test]
    async fn slices_leave_nothing_out() {
        let store = RedbStore::in_memory();
        let rows = 2 * SLICE_ROWS + 7;
        let fill = move |txn: &Writing<'_>| {
            let mut index = txn.open(&DEVICE_IDS)?;
            (0..rows).try_for_each(|number| {
                index.put(&number.to_be_bytes(), &UidRow { uid: [7; 16] })?;
                // A key that begins with another's.
                index.put(
                    &[number.to_be_bytes().as_slice(), &[0]].concat(),
                    &UidRow { uid: [7; 16] },
                )
            })
        };
        let nothing = read_rows(&store.shared, Pace::Fast, &AtomicBool::new(false)).unwrap();
        store.write(fill).await.unwrap();
        let damage = |txn: &Writing<'_>| {
            [0, SLICE_ROWS - 1, SLICE_ROWS].into_iter().try_for_each(|number| {
                txn.open(&DEVICE_IDS)?.put_sealed(&number.to_be_bytes(), b"junk")
            })
        };
        store.write(damage).await.unwrap();
        for pace in [Pace::Fast, Pace::Gentle] {
            let read = read_rows(&store.shared, pace, &AtomicBool::new(false)).unwrap();
            assert_eq!(read - nothing, 2 * rows - 3);
        }
        let health = "3 stored values in device_ids are damaged";
        assert_eq!(store.health(), StoreHealth::Degraded(health.to_owned()));
        let first = store.shared.read(|txn| read_table(txn, &[], &DEVICE_IDS)).unwrap();
        assert_eq!(first.rows, SLICE_ROWS);
        assert!(first.next.is_some());
        let stopped = read_rows(&store.shared, Pace::Fast, &AtomicBool::new(true));
        assert!(matches!(stopped, Err(StoreError::Unavailable(_))), "{stopped:?}");
    }

    #[test]
    fn a_full_disk_is_no_damage() {
        let mut store = RedbStore::in_memory();
        store.room = Room::full();
        assert!(matches!(store.health(), StoreHealth::Degraded(_)));
        assert_eq!(store.read_all().unwrap().1, StoreHealth::Healthy);
    }
}
