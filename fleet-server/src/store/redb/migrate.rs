//! The schema's version: which layout of tables and rows a database has.
//!
//! A database without one is new. One from a newer release is left alone, because this release
//! would not understand what it must keep.

use redb::TableDefinition;

use super::row::SchemaRow;
use super::tables::{Fault, SCHEMA, Writing, create_all};

/// The schema that this release writes.
pub(super) const SCHEMA_CURRENT: u32 = 2;

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
    super::series::begin(txn)?;
    txn.open(&SCHEMA)?.put(SCHEMA_KEY, &SchemaRow { schema: SCHEMA_CURRENT })?;
    Ok(if found.is_some() { Migrated::Known } else { Migrated::New })
}

#[cfg(test)]
mod tests {
    use redb::Builder;
    use redb::backends::FileBackend;

    use super::*;
    use crate::store::{OpenError, RedbStore};

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
            assert!(matches!(refused, OpenError::Newer { found: 3, known: 2, .. }), "{refused:?}");
        }
    }
}
