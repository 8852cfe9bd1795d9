//! Configurations in redb: key = device, version.

use async_trait::async_trait;
use fleet_core::id::Uid;
use redb::ReadableTable;

use super::RedbStore;
use super::devices::require_live;
use super::row::ConfigRow;
use super::tables::{Bytes, CONFIGS, Fault, View, Writing, seal};
use crate::store::{ConfigStore, ConfigVersion, Conflict, NewConfig, StoreError};

#[async_trait]
impl ConfigStore for RedbStore {
    async fn config_latest(&self, device: Uid) -> Result<Option<ConfigVersion>, StoreError> {
        self.read(move |txn| {
            let configs = txn.open(&CONFIGS)?;
            let version = latest(&configs, device)?;
            let row = configs.get(&key(device, version))?;
            Ok(row.map(|row| row.into_version(version)))
        })
        .await
    }

    async fn config_get(
        &self,
        device: Uid,
        version: u64,
    ) -> Result<Option<ConfigVersion>, StoreError> {
        self.read(move |txn| {
            let row = txn.open(&CONFIGS)?.get(&key(device, version))?;
            Ok(row.map(|row| row.into_version(version)))
        })
        .await
    }

    async fn config_append(
        &self,
        device: Uid,
        expected: Option<u64>,
        config: NewConfig,
    ) -> Result<ConfigVersion, StoreError> {
        self.write(move |txn| append(txn, device, expected, config)).await
    }

    async fn config_list(
        &self,
        device: Uid,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<ConfigVersion>, StoreError> {
        // There is no version 0.
        let last = before.map_or(u64::MAX, |before| before.saturating_sub(1));
        self.read(move |txn| {
            let configs = txn.open(&CONFIGS)?;
            let rows = configs.rows(&key(device, 0), &key(device, last))?;
            let versions = rows.rev().take(limit).map(|entry| {
                let (key, row) = entry?;
                Ok(row.into_version(version(&key)))
            });
            versions.collect()
        })
        .await
    }
}

/// Adds a device's next version, if `expected` is the latest or not said.
pub(super) fn append(
    txn: &Writing<'_>,
    device: Uid,
    expected: Option<u64>,
    config: NewConfig,
) -> Result<ConfigVersion, Fault> {
    require_live(txn, device)?;
    let mut configs = txn.open(&CONFIGS)?;
    let current = latest(&configs, device)?;
    if let Some(expected) = expected.filter(|expected| *expected != current) {
        return Err(Conflict::Config { expected, current }.into());
    }
    let version = current + 1;
    let row: ConfigRow = config.into();
    let value = seal(&key(device, version), &row, "configuration")?;
    configs.put_sealed(&key(device, version), &value)?;
    Ok(row.into_version(version))
}

/// Refuses unless a version is a device's latest.
pub(super) fn require_latest(txn: &Writing<'_>, device: Uid, expected: u64) -> Result<(), Fault> {
    require_live(txn, device)?;
    let current = latest(&txn.open(&CONFIGS)?, device)?;
    if current == expected { Ok(()) } else { Err(Conflict::Config { expected, current }.into()) }
}

/// The latest version's number, whether its value can be read or not; 0 if there is none.
fn latest<T: ReadableTable<Bytes, Bytes>>(
    configs: &View<'_, ConfigRow, T>,
    device: Uid,
) -> Result<u64, Fault> {
    let last = configs.keys(&key(device, 0), &key(device, u64::MAX))?.next_back().transpose()?;
    Ok(last.map_or(0, |key| version(&key)))
}

fn key(device: Uid, version: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&device.bytes());
    key[16..].copy_from_slice(&version.to_be_bytes());
    key
}

fn version(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
