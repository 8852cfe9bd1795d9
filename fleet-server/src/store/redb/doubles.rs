//! Devices that seem to be there twice, in redb.

use async_trait::async_trait;
use fleet_core::id::Uid;

use super::RedbStore;
use super::devices::uid_of;
use super::tables::DOUBLES;
use crate::store::{DoubleRecord, DoubleStore, StoreError};

#[async_trait]
impl DoubleStore for RedbStore {
    async fn double_put(&self, device: Uid, double: DoubleRecord) -> Result<(), StoreError> {
        self.write(move |txn| txn.open(&DOUBLES)?.put(&device.bytes(), &double.into())).await
    }

    async fn double_list(&self) -> Result<Vec<(Uid, DoubleRecord)>, StoreError> {
        self.read(|txn| {
            let doubles = txn.open(&DOUBLES)?;
            let rows = doubles.all()?;
            rows.map(|entry| entry.map(|(key, row)| (uid_of(&key), row.into_double()))).collect()
        })
        .await
    }
}
