//! The schema's version: which layout of tables and rows a database has.
//!
//! A database without one is new. One from a newer release is left alone, because this release
//! would not understand what it must keep.

use redb::TableDefinition;

use super::row::SchemaRow;
use super::tables::{FIRST_KEYS, Fault, KEYS, SCHEMA, Writing, create_all};

/// The schema that this release writes.
pub(super) const SCHEMA_CURRENT: u32 = 3;

const SCHEMA_KEY: &[u8] = b"schema";

/// What a database was found to be.
pub(super) enum Migrated {
    /// Empty until now.
    New,
    /// One that this release reads.
    Known,
    /// Of a schema that this release does not read. Nothing was changed.
    Newer(u32),
}

/// Brings a database to the current schema, or leaves it alone.
pub(super) fn migrate(txn: &Writing<'_>) -> Result<Migrated, Fault> {
    let found = txn.open(&SCHEMA)?.get(SCHEMA_KEY)?.map(|row| row.schema);
    if let Some(schema) = found
        && schema > SCHEMA_CURRENT
    {
        return Ok(Migrated::Newer(schema));
    }
    if found == Some(1) {
        // Before the first release, reports lay in the database itself. They are not taken over.
        for name in ["reports", "cursors"] {
            let table: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new(name);
            txn.txn.delete_table(table)?;
        }
        tracing::warn!("telemetry of a database from before the first release was left behind");
    }
    create_all(txn)?;
    if found.is_some_and(|schema| schema < 3) {
        give_keys_roles(txn)?;
    }
    super::series::begin(txn)?;
    txn.open(&SCHEMA)?.put(SCHEMA_KEY, &SchemaRow { schema: SCHEMA_CURRENT })?;
    Ok(if found.is_some() { Migrated::Known } else { Migrated::New })
}

/// Who held an operator's key could do everything, and may so now. Damaged ones are passed over,
/// and open nothing.
fn give_keys_roles(txn: &Writing<'_>) -> Result<(), Fault> {
    let first: Vec<_> = txn.open(&FIRST_KEYS)?.all()?.collect::<Result<_, _>>()?;
    let mut keys = txn.open(&KEYS)?;
    for (id, row) in first {
        keys.put(&id, &row.grown())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use fleet_core::api::Role;
    use redb::Builder;
    use redb::backends::FileBackend;

    use super::*;
    use crate::store::{KeyStore as _, OpenError, RedbStore, StoreError};

    /// A key as it was kept before keys had roles, under the id `key`.
    const FIRST_KEY: &str = "25010d7b8fb502030303030303030303030303030303030303030303030303030303\
        0303030303016c0101010101010101010101010101010101010402010401060108";

    #[tokio::test]
    async fn keys_of_before_may_do_everything_and_damaged_ones_open_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.redb");
        drop(RedbStore::open(&path).unwrap());
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let database = Builder::new().create_with_backend(FileBackend::new(file).unwrap()).unwrap();
        let txn = database.begin_write().unwrap();
        let table = |name| TableDefinition::<'_, &[u8], &[u8]>::new(name);
        let before = fleet_core::codec::seal(SCHEMA_KEY, &SchemaRow { schema: 2 }).unwrap();
        txn.open_table(table("meta")).unwrap().insert(SCHEMA_KEY, before.as_slice()).unwrap();
        let key = HEXLOWER.decode(FIRST_KEY.as_bytes()).unwrap();
        txn.open_table(table("keys")).unwrap().insert(b"key".as_slice(), key.as_slice()).unwrap();
        txn.open_table(table("keys")).unwrap().insert(b"kex".as_slice(), key.as_slice()).unwrap();
        txn.commit().unwrap();
        drop(database);

        for _ in 0..2 {
            let store = RedbStore::open(&path).unwrap();
            let key = store.key_get("key").await.unwrap().unwrap();
            assert_eq!((key.label.as_str(), key.might.role), ("l", Role::Admin));
            assert_eq!(key.scope, None);
            assert!(matches!(store.key_get("kex").await, Err(StoreError::Damaged { .. })));
            assert_eq!(store.key_list().await.unwrap().len(), 1);
        }
    }

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.redb");
        drop(RedbStore::open(&path).unwrap());
        let newer = SchemaRow { schema: SCHEMA_CURRENT + 1 };
        let value = fleet_core::codec::seal(SCHEMA_KEY, &newer).unwrap();
        let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let database = Builder::new().create_with_backend(FileBackend::new(file).unwrap()).unwrap();
        let txn = database.begin_write().unwrap();
        let meta: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("meta");
        txn.open_table(meta).unwrap().insert(SCHEMA_KEY, value.as_slice()).unwrap();
        txn.commit().unwrap();
        drop(database);

        for _ in 0..2 {
            let refused = RedbStore::open(&path).err().unwrap();
            assert!(matches!(refused, OpenError::Newer { found: 4, known: 3, .. }), "{refused:?}");
        }
    }
}
